"""How a network is prepared, what it needs, and how much goes through it together."""

import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from chiaroscuro.classifier import Classifier
from chiaroscuro.device import device_profile, profile_in_use
from chiaroscuro.errors import ChoiceError, ModelError, first_line, ran_out_of_memory
from chiaroscuro.guard import Change, as_found, held

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
_COARSE_TOLERANCE = 5e-2
_PAIR_ROWS = 4
"""The bytes of two rows' graph and its backward pass, over what autograd keeps for one row."""
_LEAST_CHUNK = 1 << 19
_CHUNKS = 128
"""A step reads and writes this part of a budget: others wait meanwhile, kernels keep scratch."""
_GRAPH_SHARE = 2.0
"""Peak of a forward pass and of reading its constants, over the bytes that autograd saves."""
COMPILED = "torch.compile: compiled parts run as they were written"


@contextmanager
def prepared(classifier: Classifier, *, alone: bool = False) -> Iterator[list[str]]:
    """Eval mode, gradients on, compiled code run as written, its device's sizes; as found after.

    `alone` as in `as_found`. Gives notes for the result.
    """
    net, stance = classifier.module, dict[Hashable, Change]()
    if "torch._dynamo" in sys.modules:
        stance["stance"] = _as_written
    sizes = profile_in_use(device_profile(classifier.device))
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        sizes,
        as_found(net, alone=alone),
        held(stance),
    ):
        notes = [*classifier.notes]
        known = any("before it was compiled" in note for note in notes)
        if stance and not known and any(map(_is_compiled, net.modules())):
            notes.append(COMPILED)
        yield notes


def _as_written() -> Callable[[], object]:
    """Code that is compiled runs as it was written: the compiled backward pass runs only once."""
    return partial(torch.compiler.set_stance("force_eager").__exit__, None, None, None)


def _is_compiled(part: nn.Module) -> bool:
    in_place = getattr(part, "_compiled_call_impl", None) is not None
    of_forward = hasattr(vars(part).get("forward"), "_torchdynamo_orig_callable")
    return in_place or of_forward or hasattr(part, "_orig_mod")


@dataclass(frozen=True, eq=False)
class Probe:
    """What a forward pass of one row needs, and the layout that the network takes.

    `row_bytes` that autograd keeps for it, `largest_bytes` of its largest tensor, `image_bytes` of
    its pixels; `classes` K; `logits` (K,) of the probed image, None where the network was probed
    before.
    """

    row_bytes: int
    largest_bytes: int
    image_bytes: int
    memory_format: torch.memory_format
    classes: int
    logits: Tensor | None


@contextmanager
def saved_bytes(classifier: Classifier) -> Iterator[dict[int, int]]:
    """The sizes of what autograd saves inside, by address, without parameters and buffers.

    The graph holds on to its hooks and to what they return, in ways that the garbage collector does
    not see. So they know nothing of the graph, and what they return is no part of it.
    """
    module, sizes = classifier.module, dict[int, int]()
    own = {*map(_address, module.parameters()), *map(_address, module.buffers()), None}

    def pack(tensor: Tensor) -> Tensor:
        address = _address(tensor)
        if address is not None and address not in own:
            sizes[address] = tensor.untyped_storage().nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def _address(tensor: Tensor) -> int | None:
    """Where its values lie; sparse and MKL-DNN tensors have no storage to count."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else None


_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Probe]] = WeakKeyDictionary()
"""Networks probed in this process, by their parts and settings and the kind of pixels."""
_MOST_STATES = 64
_PLAIN = {bool, int, float, str}
_DEPTH = 3
"""Lists of lists of settings that are looked into."""


def probe(classifier: Classifier, pixels: Tensor, memory_budget: int | None = None) -> Probe:
    """Ask the network about an image and its negative, and settle the layout.

    `pixels` (B, C, H, W): one image, or three of a larger batch, whose logits are compared too. A
    network of the same parts and plain attributes is probed once for each size, number format and
    device. Where a budget has no room for the graph of two rows, one row's is kept, and dependence
    between rows is looked for in the logits alone. Raises `ModelError` when the logits do not
    depend on the pixels, or when rows of a batch influence each other.
    """
    module = classifier.module
    norm = (classifier.mean, classifier.std)
    key = (_state(module), norm, pixels.shape, pixels.dtype, pixels.device, memory_budget)
    known = _KNOWN.setdefault(module, {})
    if key not in known:
        if len(known) >= _MOST_STATES:  # such as of a network that counts its calls
            known.clear()
        result = _probe_layouts(classifier, pixels, memory_budget)
        known[key] = replace(result, logits=None)
        return result
    return known[key]


def _state(module: nn.Module) -> tuple[Any, ...]:
    """What decides how a network computes, but for the values of its tensors."""
    parts = list(module.modules())
    plain: list[Any] = []
    sizes: list[torch.Size | None] = []
    for part in parts:
        for name, value in vars(part).items():
            plain.append((name, _plain(value, 0 if name.startswith("_") else _DEPTH)))
        plain += [len(part._forward_hooks), len(part._forward_pre_hooks)]
        tensors = (*part._parameters.values(), *part._buffers.values())
        sizes += [None if tensor is None else tensor.shape for tensor in tensors]
    shared = len(modules._global_forward_hooks) + len(modules._global_forward_pre_hooks)
    # References to parts, since a part that is gone may leave its `id` to its successor.
    return tuple(map(ref, parts)), tuple(plain), shared, tuple(sizes)


def _plain(value: Any, depth: int) -> Hashable:
    """A number or a text, or several of them, which may decide something; None for the rest."""
    if depth and isinstance(value, dict):
        return tuple((str(key), _plain(each, depth - 1)) for key, each in value.items())
    if depth and isinstance(value, list | tuple | set):
        return tuple(_plain(each, depth - 1) for each in value)
    return value if type(value) in _PLAIN else None


def _probe_layouts(classifier: Classifier, pixels: Tensor, budget: int | None) -> Probe:
    if pixels.ndim == 4:
        with suppress(ModelError):
            return _probe(classifier, pixels, torch.channels_last, budget)
    # A network that flattens with `view` refuses channels_last; any real fault fails again.
    try:
        return _probe(classifier, pixels, torch.contiguous_format, budget)
    except ModelError:
        values_alone(classifier, pixels)  # its error names the image's own shape
        raise


def _probe(
    classifier: Classifier, pixels: Tensor, layout: torch.memory_format, budget: int | None
) -> Probe:
    pair = torch.cat([pixels[:1], 1 - pixels[:1]]).contiguous(memory_format=layout)
    probed, logits, sizes = _counted(classifier, pair if budget is None else pair[:1])
    if budget is not None and _PAIR_ROWS * sum(sizes) <= budget:
        probed, logits, sizes = _counted(classifier, pair)
    _check_depends(logits, probed, classifier)
    logits = logits.detach()  # the graph goes
    together = logits if len(probed) == len(pair) else values_alone(classifier, pair)
    batches = [(pair, together)]
    if budget is None and len(pixels) > 1:
        several = pixels.contiguous(memory_format=layout)
        try:
            batches.append((several, values_alone(classifier, several)))
        except ModelError as error:
            if not ran_out_of_memory(error):
                raise
    for batch, values in batches:
        for row in range(len(batch)):
            alone = values_alone(classifier, batch[row : row + 1].contiguous(memory_format=layout))
            check_repeats(alone[0], values[row], classifier)
    image, count = pixels[0].nbytes, len(probed)
    row_bytes, largest = max(image, sum(sizes) // count), max(image, max(sizes, default=0) // count)
    return Probe(row_bytes, largest, image, layout, logits.shape[1], together[0])


def _counted(classifier: Classifier, rows: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Rows that carry gradients, their logits, and the sizes of what autograd keeps for them."""
    leaf = rows.detach().requires_grad_(True)
    with saved_bytes(classifier) as sizes:
        logits = classifier.logits(leaf)
    return leaf, logits, list(sizes.values())


def _check_depends(logits: Tensor, rows: Tensor, classifier: Classifier) -> None:
    """Raise `ModelError` unless each row's logits depend on its own pixels, and on no others."""
    name = classifier.name
    if not logits.requires_grad:
        raise without_gradient(classifier)
    # Unequal weights, since the gradients of all logits together may cancel (softmax outputs).
    weights = torch.linspace(1, 2, logits.shape[1], dtype=logits.dtype, device=logits.device)
    for row in range(len(rows)):
        total = (logits[row] * weights).sum()
        try:
            (gradient,) = torch.autograd.grad(total, rows, allow_unused=True, retain_graph=True)
        except RuntimeError as error:
            raise ModelError(
                f"the backward pass of {name} failed: {first_line(error)}{_hint(classifier)}"
            ) from error
        if gradient is None:
            raise ModelError(f"the logits of {name} do not depend on the pixels{_hint(classifier)}")
        sizes = gradient.abs().flatten(1).amax(dim=1).tolist()
        own = sizes.pop(row)
        if sizes and sizes[0] > 1e-6 * own:
            raise ModelError(
                f"{name} mixes the batch: one image's logits depend on another image"
                f"{_hint(classifier) or ' (a BatchNorm without running statistics?)'}; such a "
                "network has no gradient per image"
            )


def without_gradient(classifier: Classifier) -> ModelError:
    """The error for logits that autograd does not follow."""
    return ModelError(
        f"the logits of {classifier.name} carry no gradient: its forward runs under no_grad, "
        f"detaches, or leaves PyTorch{_hint(classifier)}"
    )


def _hint(classifier: Classifier) -> str:
    """What layers for quantized networks do to gradients, where there are some."""
    for name, part in classifier.module.named_modules():
        kind = type(part)
        if ".quantized" in kind.__module__:
            return f" ({name} is quantized, which has no gradients: explain the float network)"
        if hasattr(part, "observer_enabled") and bool(part.observer_enabled[0]):
            return (
                f" ({name} observes the batch for fake quantization: turn it off with "
                "module.apply(torch.ao.quantization.disable_observer))"
            )
    return ""


def check_repeats(alone: Tensor, paired: Tensor | None, classifier: Classifier) -> None:
    """Raise `ModelError` unless one image has the same logits (K,) in two batches, to rounding."""
    if paired is None:
        return
    tolerance = _TOLERANCE.get(alone.dtype, _COARSE_TOLERANCE)
    if alone.is_cuda and alone.dtype == torch.float32:
        tolerance *= 10  # TF32
    gap = (alone.detach() - paired.detach()).abs().max()
    if gap > tolerance * (1 + alone.detach().abs().max()):
        raise ModelError(
            f"{classifier.name} gives other logits for the same image in another batch (differing "
            f"by {float(gap):.3g}): it mixes the batch, or is random in eval mode"
            f"{_hint(classifier)}"
        )


def values_alone(classifier: Classifier, rows: Tensor) -> Tensor:
    """Logits (R, K) of a forward pass that autograd sees, as networks with hooks need, and that
    keeps nothing for a backward pass.
    """
    with torch.autograd.graph.saved_tensors_hooks(lambda _: None, lambda _: torch.empty(0)):
        return classifier.logits(rows.detach().requires_grad_(True)).detach()


@dataclass(frozen=True, slots=True)
class Plan:
    """One graph holds `points` x `images` rows; `classes` are summed over points at a time.

    `chunk_bytes` is what one step may read and write, `basis_bytes` what the gradients of one
    layer's features may take.
    """

    images: int
    points: int
    classes: int
    chunk_bytes: int
    basis_bytes: int

    def halved(self) -> "Plan | None":
        """The same in half of the memory; None when nothing is left to halve."""
        if self.images * self.points * self.classes == 1 and self.chunk_bytes <= _LEAST_CHUNK:
            return None
        rows = max(1, self.images // 2), max(1, self.points // 2), max(1, self.classes // 2)
        return Plan(*rows, max(_LEAST_CHUNK, self.chunk_bytes // 2), self.basis_bytes // 2)


def make_plan(
    images: int, classes: int, points: int, probe: Probe, memory_budget: int | None = None
) -> Plan:
    """The batch for B images, M classes and P points.

    A quarter of the budget goes to the graph, up to a half to gradients that wait (sums over
    points or a basis), the rest to those under way. Points of one image stay together as far as
    they fit, and no more images than leave room for a basis of so many features as classes.
    Raises `ChoiceError` for a budget that is not positive.
    """
    if memory_budget is not None and memory_budget <= 0:
        raise ChoiceError(f"memory_budget is {memory_budget}: expected bytes above 0, or None")
    profile = device_profile()
    budget = profile.budget_bytes if memory_budget is None else memory_budget
    chunk = profile.chunk_bytes
    if memory_budget is not None:
        chunk = min(chunk, max(_LEAST_CHUNK, memory_budget // _CHUNKS))
    fitting = budget / 4 / (_GRAPH_SHARE * probe.row_bytes)
    rows = max(1, int(min(fitting, chunk / (2 * probe.largest_bytes))))
    together = min(points, rows)
    room = budget // 2 // (classes * together * probe.image_bytes)
    group = max(1, min(images, rows // together, room))
    waiting = max(1, budget // 2 // (group * probe.image_bytes))
    return Plan(group, together, min(classes, waiting), chunk, budget // 2)
