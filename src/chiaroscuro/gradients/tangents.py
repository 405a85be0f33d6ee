"""What one change of pixels does to every logit, to first order: forward-mode derivatives."""

import warnings
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from chiaroscuro.classifier import Classifier
from chiaroscuro.device import device_profile
from chiaroscuro.errors import InputError, ModelError, first_line
from chiaroscuro.gradients.graph import ForwardWatch
from chiaroscuro.gradients.probe import prepared, without_gradient
from chiaroscuro.gradients.reducers import not_finite
from chiaroscuro.guard import held


def logit_change(classifier: Classifier, pixels: Tensor, change: Tensor) -> Tensor:
    """What a change d of the pixels does to every logit to first order: J d, (B, K).

    J is the Jacobian of the logits at pixels x (B, C, H, W) in [0, 1], `change` has their shape, in
    units of pixel value: entry (b, k) is sum_j dS_k/dx_j d_j. One forward-mode pass gives all K,
    whatever K is. Where an operation has no forward-mode rule, two backward passes give the same.
    Fused attention runs in single steps, since the fused kernels have no such rule.

    The network runs in eval mode and left as changes; gradients work inside the caller's
    `no_grad` and `inference_mode`. Raises `ImageError`, `InputError` for a change of another shape
    or one that is not finite, `ModelError` for a network that cannot be differentiated.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> x, d = torch.rand(2, 3, 2, 2), torch.full((2, 3, 2, 2), 0.01)
    >>> torch.allclose(logit_change(Classifier(net), x, d), d.flatten(1) @ net[1].weight.T)
    True
    """
    classifier.check_pixels(pixels)
    _check_change(change, pixels)
    rows = max(1, device_profile().tangent_bytes // (pixels[0].numel() * pixels.element_size()))
    with prepared(classifier), held({"attention": _plain_attention}):
        parts = zip(
            torch.split(pixels.detach().clone(), rows),
            torch.split(change.detach().clone().to(pixels), rows),
            strict=True,
        )
        return torch.cat([_along(classifier, x, d) for x, d in parts])


def _check_change(change: Tensor, pixels: Tensor) -> None:
    if change.shape != pixels.shape:
        raise InputError(
            f"change has shape {tuple(change.shape)}: expected that of the pixels, "
            f"{tuple(pixels.shape)}"
        )
    if not bool(change.isfinite().all()):
        raise InputError("change holds values that are not finite")


def _along(classifier: Classifier, pixels: Tensor, change: Tensor) -> Tensor:
    """J d of a few images: forward mode, or two backward passes where it fails."""
    try:
        changes = _forward_mode(classifier, pixels, change)
    except ModelError:
        # A network that fails for another reason fails again, and says so.
        changes = _double_backward(classifier, pixels, change)
    if not bool(changes.isfinite().all()):
        raise not_finite(classifier.name)
    return changes


def _forward_mode(classifier: Classifier, pixels: Tensor, change: Tensor) -> Tensor:
    with held({"forward mode": _forward_level}):
        dual: Tensor = forward_ad.make_dual(pixels, change)  # type: ignore[no-untyped-call]
        unpacked = forward_ad.unpack_dual(classifier.logits(dual))  # type: ignore[no-untyped-call]
        tangent: Tensor | None = unpacked.tangent
        if tangent is None:
            raise without_gradient(classifier)
        return tangent.detach().clone()


def _double_backward(classifier: Classifier, pixels: Tensor, change: Tensor) -> Tensor:
    """J d as the derivative of u J, which is linear in the row vector u, with respect to u."""
    leaf = pixels.clone().requires_grad_(True)
    with ForwardWatch(classifier.module):
        logits = classifier.logits(leaf)
    if not logits.requires_grad:
        raise without_gradient(classifier)
    weights = torch.zeros_like(logits, requires_grad=True)
    try:
        (pulled,) = torch.autograd.grad(logits, leaf, weights, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, weights, change)
    except RuntimeError as error:
        raise ModelError(
            f"{classifier.name} has neither forward-mode nor second derivatives: "
            f"{first_line(error)}"
        ) from error
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
    undo = ExitStack()
    undo.callback(
        torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled()
    )
    torch.backends.mha.set_fastpath_enabled(False)
    undo.enter_context(sdpa_kernel(SDPBackend.MATH))
    return undo.close
