"""Whether a result of Captum is what its method is defined to be: some networks fail in silence.

Captum changes modules of the kinds that it knows. Functions that a network calls by itself, and
other kinds of modules, keep their plain gradient, and the result is something without a name.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from chiaroscuro.errors import ModelError
from chiaroscuro.gradients.pixel_module import PixelModule
from chiaroscuro.gradients.suspects import Suspects

_TOLERANCE = 0.1
"""Share of the logit that may be missing: rules divide by small numbers."""
_LINEAR = (
    nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity,
    nn.Flatten, nn.Dropout, nn.Dropout2d,
)  # fmt: skip

Check = Callable[[PixelModule, Suspects, Tensor, Tensor, Tensor], None]
"""Raises `ModelError` unless attributions of these classes are what the method says."""


def _check_guided(
    model: PixelModule, suspects: Suspects, _: Tensor, __: Tensor, ___: Tensor
) -> None:
    """Every ReLU must be an `nn.ReLU`, and there must be one."""
    outside = suspects.outside_call("relu", "relu_", "clamp_min", "clamp")
    if outside is None and any(isinstance(part, nn.ReLU) for part in suspects.calls):
        return
    others = (p for p in suspects.calls if "activation" in type(p).__module__)
    other = next((part for part in others if not isinstance(part, nn.ReLU)), None)
    where = outside or (suspects.title(other) if other else _first(suspects, _LINEAR))
    raise ModelError(
        f"guided-backprop failed on {model.classifier.name} at {where}: Captum changes nn.ReLU "
        "modules alone, so this would be the plain gradient, wholly or in part"
    )


def _check_deeplift(
    model: PixelModule, suspects: Suspects, pixels: Tensor, classes: Tensor, found: Tensor
) -> None:
    """The attributions must add up to the logit's difference from black."""
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    with torch.no_grad():
        both = [model(place).gather(1, classes[:, None])[:, 0] for place in (pixels, 0 * pixels)]
    gap = (found.sum(dim=(1, 2, 3)) - (both[0] - both[1])).abs()
    size = torch.maximum(both[0].abs(), (both[0] - both[1]).abs())
    if bool((gap <= _TOLERANCE * size).all()):
        return
    worst = int((gap / size).argmax())
    raise ModelError(
        f"deeplift failed on {model.classifier.name} at "
        f"{_first(suspects, (*_LINEAR, *SUPPORTED_NON_LINEAR))}: Captum has no rule for it, and "
        f"the attributions of image {worst} miss the logit's difference from black by "
        f"{float(gap[worst]):.3g} of {float((both[0] - both[1])[worst]):.3g}"
    )


def _check_lrp(
    model: PixelModule, suspects: Suspects, pixels: Tensor, classes: Tensor, found: Tensor
) -> None:
    """With ReLUs alone, the epsilon rule is input x gradient (Ancona et al. 2018)."""
    if any(isinstance(part, nn.Tanh) for part in suspects.calls):
        return
    inputs = pixels.clone().requires_grad_(True)
    logits = model(inputs).gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(logits, inputs)
    expected = gradient * pixels
    gap = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    if bool((gap <= _TOLERANCE).all()):
        return
    where = suspects.outside_call() or "a module that it does not name"
    raise ModelError(
        f"lrp failed on {model.classifier.name} at {where}: Captum's rules are for modules alone, "
        f"and the relevance of image {int(gap.argmax())} is off by {float(gap.max()):.3g} times "
        "its size"
    )


def _first(suspects: Suspects, known: tuple[type[nn.Module], ...]) -> str:
    """The first leaf that is of no known kind, or a function called outside of leaves."""
    for part in suspects.calls:
        if not isinstance(part, known) and next(part.children(), None) is None:
            return suspects.title(part)
    return suspects.outside_call() or "a module that it does not name"


CHECKS: dict[str, Check] = {
    "guided-backprop": _check_guided,
    "deeplift": _check_deeplift,
    "lrp": _check_lrp,
}
"""What is asked of each method's result; a Captum attribution that was handed in is not checked."""
