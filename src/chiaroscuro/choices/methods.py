"""Gradient methods and scores by name: how a class's gradient is computed."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from chiaroscuro.choices.names import as_float, as_int, check_names
from chiaroscuro.errors import ChoiceError

Score = Literal["logit", "log-probability"]
OwnScore = Literal["logit", "log-probability", "log-odds"]

SCORES: tuple[str, ...] = ("logit", "log-probability")


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """One gradient method by name: what it averages, and its defaults where they mean something.

    `points`: sample points of the gradient; `sigma`: standard deviation of the noise in units
    of pixel value; `baseline`: where the line begins, one of `BASELINES`; None: not taken.
    `background`: images to begin lines from are needed. `captum`: it changes the backward pass,
    and runs through Captum (extra `adapters`), one class at a time.
    """

    name: str
    reads: str
    points: int | None = None
    sigma: float | None = None
    baseline: str | None = None
    background: bool = False
    captum: bool = False

    def takes(self, option: str) -> bool:
        """Whether the method is tuned by "points", "sigma", "baseline" or "background"."""
        return getattr(self, option) not in (None, False)


BASELINES: tuple[str, ...] = ("black", "white", "mean", "blur")
METHODS: dict[str, MethodChoice] = {
    choice.name: choice
    for choice in (
        MethodChoice("gradient", "the gradient at the image"),
        MethodChoice("input-x-gradient", "the gradient at the image, times the pixel"),
        MethodChoice("smoothgrad", "its mean over noisy copies of the image", 32, 0.15),
        MethodChoice(
            "integrated-gradients",
            "its mean on the line from a baseline, times the way from there",
            32,
            baseline="black",
        ),
        MethodChoice(
            "expected-gradients",
            "the same from many background images",
            64,
            background=True,
        ),
        MethodChoice("guided-backprop", "no negative gradient passes a ReLU", captum=True),
        MethodChoice("deeplift", "differences from black in place of slopes", captum=True),
        MethodChoice("lrp", "relevance handed down layer by layer (epsilon rule)", captum=True),
    )
}
"""Every gradient method by name; their sample points are in `chiaroscuro.gradients.METHODS`."""

_UNSIGNED = {
    "smoothgrad-squared": "the mean of squared gradients",
    "vargrad": "the variance of gradients",
}


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """A method's name with what was chosen for it, in plain values that JSON keeps.

    `background`: a folder, photo or glob with the images that expected gradients begin from.
    """

    name: str
    points: int | None = None
    sigma: float | None = None
    baseline: str | None = None
    background: str | None = None
    seed: int = 0


def check_method(method: Any) -> Any:
    """The method; raises `ChoiceError` for an unknown name, or a form that has no sign."""
    if isinstance(method, str) and method in _UNSIGNED:
        raise ChoiceError(
            f"method {method!r} is refused: {_UNSIGNED[method]} has no sign, and every map here "
            "reads the sign; smoothgrad keeps it"
        )
    if isinstance(method, str):
        check_names("method", [method], METHODS)
    return method


def parse_method(
    name: str,
    points: int | None = None,
    sigma: float | None = None,
    baseline: str | None = None,
    background: str | None = None,
    seed: int = 0,
) -> MethodOptions:
    """A method with its defaults filled in.

    Raises `ChoiceError` for an unknown name, a form that has no sign, an option that the method
    does not take, or a value outside its range.

    >>> parse_method("smoothgrad", sigma=0.1)
    MethodOptions(name='smoothgrad', points=32, sigma=0.1, baseline=None, background=None, seed=0)
    """
    check_method(name)
    row = METHODS[name]
    options = {"points": points, "sigma": sigma, "baseline": baseline, "background": background}
    for option, value in options.items():
        if value is not None and not row.takes(option):
            takers = [other.name for other in METHODS.values() if other.takes(option)]
            raise ChoiceError(f"method {name!r} takes no {option}: it is for {', '.join(takers)}")
    if background is None and row.background:
        raise ChoiceError(f"method {name!r} needs background images: give some (--background)")
    if points is not None and (points := as_int("points", points)) < 1:
        raise ChoiceError(f"points is {points}: expected at least 1")
    if sigma is not None and not 0 <= (sigma := as_float("sigma", sigma)) < math.inf:
        raise ChoiceError(f"sigma is {sigma}: expected a number >= 0, in units of pixel value")
    if baseline is not None:
        check_names("baseline", [baseline], BASELINES)
    return MethodOptions(
        name,
        row.points if points is None else points,
        row.sigma if sigma is None else sigma,
        row.baseline if baseline is None else baseline,
        background,
        seed,
    )
