"""One product with the Jacobian: of every logit with one change, or of one class over points."""

import math
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from chiaroscuro.choices import OwnScore, check_names
from chiaroscuro.classifier import Classifier
from chiaroscuro.device import device_profile
from chiaroscuro.errors import ChoiceError, ImageError, InputError, ModelError, first_line
from chiaroscuro.gradients import probe
from chiaroscuro.gradients.classes import Target, one_hot, resolve_target, target_indices
from chiaroscuro.gradients.methods import Points
from chiaroscuro.gradients.reducers import not_finite
from chiaroscuro.gradients.watch import watched_logits
from chiaroscuro.guard import held

_BACKWARD_SHARE = 1.6
"""Peak of a backward pass over the bytes saved by its forward."""


def logit_change(classifier: Classifier, pixels: Tensor, change: Tensor) -> Tensor:
    """What a change d of the pixels does to every logit to first order: J d, (B, K).

    J is the Jacobian of the logits at pixels x (B, C, H, W) in [0, 1], `change` has their shape, in
    units of pixel value: entry (b, k) is sum_j dS_k/dx_j d_j. One forward-mode pass gives all K,
    whatever K is. Where an operation has no forward-mode rule, two backward passes give the same,
    and where it has no second derivatives, K.
    Fused attention runs in single steps, since the fused kernels have no such rule.

    The network runs in eval mode and is left as found; gradients work inside the caller's
    `no_grad` and `inference_mode`. Raises `ImageError`, `InputError` for a change of another shape
    or one that is not finite, `ModelError` for a network that cannot be differentiated.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> x, d = torch.rand(2, 3, 2, 2), torch.full((2, 3, 2, 2), 0.01)
    >>> torch.allclose(logit_change(Classifier(net), x, d), d.flatten(1) @ net[1].weight.T)
    True
    """
    classifier.check_pixels(pixels)
    if change.shape != pixels.shape or not bool(change.isfinite().all()):
        raise InputError(
            f"change has shape {tuple(change.shape)}: expected finite values of the pixels' shape, "
            f"{tuple(pixels.shape)}"
        )
    rows = max(1, device_profile(pixels.device).tangent_bytes // pixels[0].nbytes)
    with probe.prepared(classifier), held({"attention": _plain_attention}):
        parts = (torch.split(each.detach().clone().to(pixels), rows) for each in (pixels, change))
        return torch.cat([_along(classifier, x, d) for x, d in zip(*parts, strict=True)])


def _along(classifier: Classifier, pixels: Tensor, change: Tensor) -> Tensor:
    """J d of a few images: forward mode, or two backward passes where it fails."""
    changes: Tensor | None = None
    # A network that fails for another reason fails again, and says so.
    with suppress(ModelError), held({"forward mode": _forward_level}):
        dual: Tensor = forward_ad.make_dual(pixels, change)  # type: ignore[no-untyped-call]
        moved = forward_ad.unpack_dual(classifier.logits(dual))  # type: ignore[no-untyped-call]
        changes = None if moved.tangent is None else moved.tangent.detach().clone()
    if changes is None:
        changes = _double_backward(classifier, pixels, change)
    if not bool(changes.isfinite().all()):
        raise not_finite(classifier.name)
    return changes


def _double_backward(classifier: Classifier, pixels: Tensor, change: Tensor) -> Tensor:
    """J d as the derivative of u J, which is linear in the row vector u, with respect to u."""
    leaf, logits = _forward(classifier, pixels.clone())
    weights = torch.zeros_like(logits, requires_grad=True)
    try:
        (pulled,) = torch.autograd.grad(logits, leaf, weights, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, weights, change)
    except RuntimeError:  # no second derivatives either, such as of torchvision's region pooling
        ones = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
        rows = (torch.autograd.grad(logits, leaf, k.expand_as(logits), True)[0] for k in ones)
        return torch.stack([(row * change).flatten(1).sum(1) for row in rows], dim=1)
    return pushed.detach()


def _forward_level() -> Callable[[], object]:
    """PyTorch's forward mode, which a process has once: threads share it."""
    undo = ExitStack()
    undo.enter_context(warnings.catch_warnings())
    # PyTorch compiles rules of its own inside, the first time, and warns of how it does.
    warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
    undo.enter_context(forward_ad.dual_level())
    return undo.close


def _plain_attention() -> Callable[[], object]:
    """Attention in single steps: neither fused kernels nor the encoder's fast path."""
    undo, mha = ExitStack(), torch.backends.mha
    undo.callback(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
    mha.set_fastpath_enabled(False)
    undo.enter_context(sdpa_kernel(SDPBackend.MATH))
    return undo.close


def target_gradients(
    classifier: Classifier,
    points: Points,
    target: Target,
    score: OwnScore = "log-probability",
    memory_budget: int | None = None,
) -> Tensor:
    """The weighted sum over points of dS_c/dx, c the target: (B, C, H, W).

    sum_p weights[p, b] * dS_c/dx at pixels[p, b] (times the points' factor, if they have one), per
    unit of pixel value: one forward and one backward pass for every batch of points, whatever K is.
    `target`: a class (index or name), or one per image.
    `score`: "logit"; "log-probability" (log softmax, log sigmoid for a multi-label head); or
    "log-odds", log p_c - log(1 - p_c), which does not fade where the class is certain.
    `memory_budget`: bytes that may be used above the model and the points.

    The network runs in eval mode and is left as found, also on an error. Raises `ChoiceError`,
    `ImageError` for points that are no floats, or `ModelError`.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> pixels = torch.rand(4, 2, 3, 2, 2)
    >>> points = Points(pixels, torch.full((4, 2), 1 / 4))
    >>> target_gradients(Classifier(net), points, target=3).shape
    torch.Size([2, 3, 2, 2])
    """
    check_names("score", [score], get_args(OwnScore))
    if memory_budget is not None and memory_budget <= 0:
        raise ChoiceError(f"memory_budget is {memory_budget}: expected bytes above 0, or None")
    if not points.pixels.is_floating_point() or not points.pixels[:1].numel():
        raise ImageError(
            f"points are {points.pixels.dtype} of shape {tuple(points.pixels.shape)}: expected "
            "floats and at least one point of one image"
        )
    indices, images = target_indices(target, classifier), points.pixels.shape[1]
    with probe.prepared(classifier):
        rows = points.pixels.detach().clone().flatten(0, 1)
        weights = points.weights.detach().to(rows.dtype).flatten()
        image = torch.arange(images, device=rows.device).repeat(len(points))
        total = torch.zeros_like(points.pixels[0])
        # One row alone tells the bytes that a row costs; where it is the only one, it is enough.
        with probe.saved_bytes(classifier) as sizes:
            leaf, logits = _forward(classifier, rows[:1])
        alone, multi_label = logits.detach(), classifier.multi_label
        classes = resolve_target(indices, alone.expand(images, -1), multi_label=multi_label)
        kept = memory_budget / _BACKWARD_SHARE if memory_budget else device_profile().graph_bytes
        most = max(1, min(len(rows), int(kept // max(1, sum(sizes.values())))))
        size = math.ceil(len(rows) / math.ceil(len(rows) / most))
        for start in range(0, len(rows), size):
            span = slice(start, start + size)
            if len(rows) > 1:
                del leaf, logits  # before the next graph is there
                leaf, logits = _forward(classifier, rows[span])
            if start == 0:
                probe.check_repeats(alone[0], logits[0], classifier)
            gradients = _gradients(classifier, leaf, logits, classes[image[span]], score)
            column = weights[span].view(-1, *(1,) * (gradients.ndim - 1))
            total.index_add_(0, image[span], gradients * column)
        return total if points.factor is None else total * points.factor


def _forward(classifier: Classifier, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that carry gradients, and their logits."""
    leaf = rows.contiguous().requires_grad_(True)
    logits, _ = watched_logits(classifier, leaf)
    if not logits.requires_grad:
        raise probe.without_gradient(classifier)
    return leaf, logits


def _gradients(
    classifier: Classifier, leaf: Tensor, logits: Tensor, classes: Tensor, score: str
) -> Tensor:
    """dS_c/dx of every row: (R, C, H, W)."""
    values, name = logits.detach(), classifier.name
    cotangent = own = one_hot(values, classes)  # d(score)/d(logits)
    if classifier.multi_label:
        cotangent = own * (1 - values.sigmoid()) if score == "log-probability" else own
    elif score == "log-probability":
        cotangent = own - values.softmax(dim=1)
    elif score == "log-odds":
        cotangent = own - values.masked_fill(own > 0, -torch.inf).softmax(dim=1)
    try:
        (gradients,) = torch.autograd.grad(logits, leaf, cotangent)
    except RuntimeError as error:
        raise ModelError(f"the backward pass of {name} failed: {first_line(error)}") from error
    if not bool(gradients.isfinite().all()):
        raise not_finite(name)
    return gradients
