"""Methods that change the backward pass, through Captum: one class after another."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, ModelError, first_line, missing_extra
from chiaroscuro.gradients.backward.program import flattened
from chiaroscuro.gradients.captum.checks import CHECKS, ModuleTrace
from chiaroscuro.gradients.captum.pixel_module import PixelModule
from chiaroscuro.gradients.methods import Method, Points
from chiaroscuro.gradients.reducers import Extremes
from chiaroscuro.guard import attributes_as_found

PIXELS_AT_ONCE = 4 * 224 * 224
"""Pixels of all images together that Captum is handed at a time."""
_SAME_LOGITS = 1e-3


@dataclass(frozen=True, eq=False)
class CaptumMethod:
    """A method of `CAPTUM` by name, or a Captum attribution on a model of its own."""

    name: str
    attribution: Any = None

    def describe(self) -> dict[str, Any]:
        """Name and version in plain values."""
        return {"name": self.name, "captum": _captum().__version__}

    def on(self, model: PixelModule) -> Any:
        """The attribution on this network; one is good for one class, since rules are used up."""
        return CAPTUM[self.name](model) if self.attribution is None else self.attribution


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError:
        raise missing_extra(
            "a method that changes the backward pass", "captum", "adapters"
        ) from None
    return captum


def _guided_backprop(model: PixelModule) -> Any:
    return _captum().attr.GuidedBackprop(model)


def _deeplift(model: PixelModule) -> Any:
    return _captum().attr.DeepLift(model)


def _lrp(model: PixelModule) -> Any:
    from captum.attr._utils.lrp_rules import EpsilonRule
    from torch import nn

    for part in model.modules():
        part.__dict__.pop("rule", None)  # a rule of the user's own is for an attribution of theirs
        # Captum knows no rule for these, and for what only reshapes or passes on any rule is exact.
        if isinstance(part, nn.Identity | nn.Flatten) and not list(part.children()):
            part.rule = EpsilonRule()
    return _captum().attr.LRP(model)


CAPTUM: dict[str, Callable[[PixelModule], Any]] = {
    "guided-backprop": _guided_backprop,
    "deeplift": _deeplift,
    "lrp": _lrp,
}
"""Every method that runs through Captum: a network to an attribution on it."""


def read_method(method: Any, score: str = "logit") -> Method | Points | CaptumMethod:
    """Read a name, a `Method`, `Points` or a Captum attribution.

    Raises `ChoiceError` for anything else, and for a score other than logits through Captum.
    """
    if isinstance(method, str):
        method = Method(method)
    if isinstance(method, Method) and method.is_captum:
        method = CaptumMethod(method.name)
    elif hasattr(method, "attribute") and hasattr(method, "forward_func"):
        method = CaptumMethod(f"captum:{type(method).__name__}", method)
    if not isinstance(method, Method | Points | CaptumMethod):
        raise ChoiceError(
            f"method is a {type(method).__name__}: expected a name, a Method, Points, or a Captum "
            "attribution"
        )
    if isinstance(method, CaptumMethod) and score != "logit":
        raise ChoiceError(f"method {method.name!r} explains logits: score {score!r} is not for it")
    return method


def captum_extremes(
    classifier: Classifier,
    pixels: Tensor,
    method: CaptumMethod,
    indices: Tensor,
    weights: Tensor | None,
    count: Callable[[int], object],
    *,
    argmax: bool,
) -> Extremes:
    """Own attribution and extremes over rivals for a few images, a class at a time.

    `indices` (G, M): the target, then its rivals. `weights` (G, K): their mean in place of
    extremes. Raises `ModelError` naming the module where Captum fails, or where its result is
    not what the method is defined to be.
    """
    own = np.tile(np.arange(indices.shape[1]) == 0, (len(pixels), 1))
    extremes = Extremes(flattened(pixels), own, ~own, indices if argmax else None)
    mean = torch.zeros_like(extremes.target)
    model = PixelModule(classifier)
    _check_same_logits(model, pixels, method)
    for index in range(indices.shape[1]):
        classes = indices[:, index]
        attribution = flattened(_attribute(model, method, pixels, classes, checked=index == 0))
        if weights is None or index == 0:
            extremes.add(attribution[None], index, slice(None))
        else:
            # A row with fewer rivals repeats its last one, which must count once.
            again = (indices[:, 1:index] == classes[:, None]).any(dim=1)
            share = weights.gather(1, classes[:, None])[:, 0].masked_fill(again, 0)
            mean += share[:, None] * attribution
        count(len(indices))
    if weights is not None:
        extremes.high, extremes.low = mean, mean
    return extremes


def _attribute(
    model: PixelModule, method: CaptumMethod, pixels: Tensor, classes: Tensor, *, checked: bool
) -> Tensor:
    """One class of each image: (G, C, H, W). Captum's hooks, rules and caches go at once."""
    trace = ModuleTrace(model.module)
    inputs = pixels.clone().requires_grad_(True)
    network = model.classifier.name
    try:
        with attributes_as_found(model), warnings.catch_warnings(), trace:
            # Captum warns that it hangs hooks on the network, and may change what it finds there.
            warnings.simplefilter("ignore", UserWarning)
            attributions = method.on(model).attribute(inputs, target=classes)
    except Exception as error:
        where = trace.failure_location(error)
        raise ModelError(
            f"{method.name} failed on {network} at {where}: {_reason(error)}"
        ) from error
    if not isinstance(attributions, Tensor) or attributions.shape != pixels.shape:
        shape = tuple(getattr(attributions, "shape", ()))
        raise ModelError(
            f"{method.name} gave {type(attributions).__name__} {shape}: expected "
            f"{tuple(pixels.shape)}"
        )
    attributions = attributions.detach().to(pixels.dtype)
    if checked and method.name in CHECKS:
        CHECKS[method.name](model, trace, pixels, classes, attributions)
    if not bool(attributions.isfinite().all()):
        raise ModelError(f"{method.name} gave NaN or infinite values on {network}")
    return attributions


def _reason(error: BaseException) -> str:
    """The innermost reason: `Classifier.logits` wraps what is raised inside a network."""
    while isinstance(error, ModelError) and error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def _check_same_logits(model: PixelModule, pixels: Tensor, method: CaptumMethod) -> None:
    """A given attribution must be on a model that reads pixels as the classifier does."""
    if method.attribution is None:
        return
    with torch.no_grad():
        ours = model(pixels)
        theirs = method.attribution.forward_func(pixels)
    same = isinstance(theirs, Tensor) and theirs.shape == ours.shape
    if not same or (theirs - ours).abs().max() > _SAME_LOGITS * (1 + ours.abs().max()):
        raise ChoiceError(
            f"{method.name} is on a model that gives other logits for these pixels than "
            f"{model.classifier.name}: make it on chiaroscuro.gradients.PixelModule(classifier)"
        )
