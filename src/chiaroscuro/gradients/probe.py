"""One small pass that tells what a network needs before the large ones run."""

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, first_line


class SavedBytes:
    """Counts what autograd saves, each storage once, parameters and buffers apart.

    The graph holds on to its hooks and to what they return, in ways that the garbage collector does
    not see. So this object knows nothing of the graph, and what it returns is no part of it.
    """

    def __init__(self, classifier: Classifier) -> None:
        module = classifier.module
        self._seen = {
            tensor.untyped_storage().data_ptr()
            for tensor in (*module.parameters(), *module.buffers())
        }
        self.total = 0
        self.largest = 0

    def pack(self, tensor: Tensor) -> Tensor:
        """Count a tensor that a node of the graph saves; what the node keeps of it."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
            self.largest = max(self.largest, storage.nbytes())
        return tensor.detach()


_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
_COARSE_TOLERANCE = 5e-2


@dataclass(frozen=True, eq=False)
class Probe:
    """What a forward pass of one row needs, and the layout that the network takes.

    `row_bytes` that autograd keeps for it, `largest_bytes` of its largest tensor, `image_bytes` of
    its pixels; `classes` K; `logits` (K,) of the probed image beside its negative, None where the
    network was probed before.
    """

    row_bytes: int
    largest_bytes: int
    image_bytes: int
    memory_format: torch.memory_format
    classes: int
    logits: Tensor | None


_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Probe]] = WeakKeyDictionary()
"""Networks probed in this process, by their parts and the kind of pixels."""


def probe(classifier: Classifier, pixels: Tensor) -> Probe:
    """Ask the network about one image (1, C, H, W) beside its negative, and settle the layout.

    A network of the same parts is asked once for each size, number format and device. Raises
    `ModelError` when the logits do not depend on the pixels, or when rows of a batch influence
    each other.
    """
    module = classifier.module
    # References to parts, since a part that is gone may leave its `id` to its successor.
    parts = tuple(ref(part) for part in module.modules())
    sizes = tuple(t.shape for t in (*module.parameters(), *module.buffers()))
    norm = (classifier.mean, classifier.std)
    key = (parts, sizes, norm, pixels.shape, pixels.dtype, pixels.device)
    known = _KNOWN.setdefault(module, {})
    if key not in known:
        found = _probe_layouts(classifier, pixels)
        known[key] = replace(found, logits=None)
        return found
    return known[key]


def _probe_layouts(classifier: Classifier, pixels: Tensor) -> Probe:
    try:
        return _probe(classifier, pixels, torch.channels_last)
    except ModelError:
        # A network that flattens with `view` refuses channels_last; any real fault fails again.
        return _probe(classifier, pixels, torch.contiguous_format)


def _probe(classifier: Classifier, pixels: Tensor, layout: torch.memory_format) -> Probe:
    pair = torch.cat([pixels, 1 - pixels]).contiguous(memory_format=layout).requires_grad_(True)
    saved = SavedBytes(classifier)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        logits = classifier.logits(pair)
    _check_depends(logits, pair, classifier.name)
    image = pixels[0].numel() * pixels.element_size()
    return Probe(
        max(image, saved.total // 2), max(image, saved.largest // 2), image, layout,
        logits.shape[1], logits[0].detach(),
    )  # fmt: skip


def _check_depends(logits: Tensor, pair: Tensor, name: str) -> None:
    if not logits.requires_grad:
        raise ModelError(
            f"the logits of {name} carry no gradient: its forward runs under no_grad, detaches, "
            "or leaves PyTorch"
        )
    # Unequal weights, since the gradients of all logits together may cancel (softmax outputs).
    weights = torch.linspace(1, 2, logits.shape[1], dtype=logits.dtype, device=logits.device)
    try:
        (gradient,) = torch.autograd.grad((logits[0] * weights).sum(), pair, allow_unused=True)
    except RuntimeError as error:
        raise ModelError(f"the backward pass of {name} failed: {first_line(error)}") from error
    if gradient is None:
        raise ModelError(f"the logits of {name} do not depend on the pixels")
    own, other = gradient.abs().amax(dim=(1, 2, 3)).tolist()
    if other > 1e-6 * own:
        raise ModelError(
            f"{name} mixes the batch: one image's logits depend on another image (a BatchNorm "
            "without running statistics?); such a network has no gradient per image"
        )


def check_repeats(alone: Tensor, paired: Tensor | None, name: str) -> None:
    """Raise `ModelError` unless one image has the same logits (K,) in two batches, to rounding."""
    if paired is None:
        return
    tolerance = _TOLERANCE.get(alone.dtype, _COARSE_TOLERANCE)
    gap = (alone - paired).abs().max()
    if gap > tolerance * (1 + alone.abs().max()):
        raise ModelError(
            f"{name} gives other logits for the same image in another batch (differing by "
            f"{float(gap):.3g}): it mixes the batch, or is random in eval mode"
        )
