"""Gradient methods as points with weights: what each makes of an image."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.choices import METHODS as NAMES
from chiaroscuro.choices import parse_method
from chiaroscuro.edits import filled, image_seeds
from chiaroscuro.errors import ChoiceError


@dataclass(frozen=True, eq=False)
class Points:
    """Sample points of the gradient, and how much each counts.

    `pixels` (P, B, C, H, W); `weights` (P, B). The attribution of class k for image b is
    sum_p weights[p, b] * dS_k/dx at pixels[p, b], times `factor` if there is one: (B, C, H, W)
    multiplies the sum, (P, B, C, H, W) each point's gradient before it. Every class sees the same
    points, and signs and rivals are taken on the attribution. Points may lie outside [0, 1].
    """

    pixels: Tensor
    weights: Tensor
    factor: Tensor | None = None

    def __post_init__(self) -> None:
        shape, factor = self.pixels.shape, self.factor
        fits = factor is None or factor.shape in (shape, shape[1:])
        if len(shape) not in (5, 6) or self.weights.shape != shape[:2] or not fits:
            third = "" if factor is None else f" and a factor {tuple(factor.shape)}"
            raise ChoiceError(
                f"points have pixels {tuple(shape)}, weights {tuple(self.weights.shape)}{third}: "
                "expected (P, B, C, H, W), (P, B), and as a factor (B, C, H, W) or (P, B, C, H, W)"
            )

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def factor_of(self, whose: Literal["each", "sum"]) -> Tensor | None:
        """The factor of each point, or that of their sum, where it is of that kind."""
        if self.factor is None:
            return None
        return self.factor if (self.factor.ndim == self.pixels.ndim) == (whose == "each") else None

    def images(self, first: int, last: int) -> "Points":
        """The same points for images first..last-1 only."""
        each, total = self.factor_of("each"), self.factor_of("sum")
        factor = None if total is None else total[first:last]
        factor = factor if each is None else each[:, first:last]
        return Points(self.pixels[:, first:last], self.weights[:, first:last], factor)

    def part(self, first: int, last: int) -> "Points":
        """Points first..last-1 only, without the factor of the sum, which is not theirs."""
        factor = self.factor_of("each")
        factor = None if factor is None else factor[first:last]
        return Points(self.pixels[first:last], self.weights[first:last], factor)


@dataclass(frozen=True, eq=False)
class Method:
    """A gradient method with its settings; None takes the default of `chiaroscuro.choices.METHODS`.

    `points`: the number of sample points. `sigma`: standard deviation of SmoothGrad's noise,
    in units of pixel value (the paper's share of the value range, which is 1 here). `baseline`:
    "black", "white", "mean" or "blur", where integrated gradients begin. `background`
    (N, C, H, W): images where expected gradients begin. `seed`: random numbers are drawn from it
    and from the image's own values, so an image gets the same ones in any batch. `precision`:
    "bfloat16" computes the products of the backward pass in it, with sums in float32, on machines
    that are faster so; results say how far gradients are off.

    Raises `ChoiceError` for an unknown name, an option that the method does not take, a value
    outside its range, and for squared and variance forms, which have no sign.

    >>> Method("integrated-gradients", baseline="white").points
    32
    """

    name: str
    points: int | None = None
    sigma: float | None = None
    baseline: str | None = None
    background: Tensor | None = None
    seed: int = 0
    precision: str | None = None

    def __post_init__(self) -> None:
        images = None if self.background is None else "images"
        tuning = self.points, self.sigma, self.baseline, images, self.seed, self.precision
        options = parse_method(self.name, *tuning)
        put = object.__setattr__  # frozen, and its defaults filled in
        for name in ("points", "sigma", "baseline", "precision"):
            put(self, name, getattr(options, name))
        if self.background is not None and (self.background.ndim < 4 or not len(self.background)):
            raise ChoiceError(
                f"background has shape {tuple(self.background.shape)}: expected (N, C, H, W)"
            )

    @property
    def is_captum(self) -> bool:
        """Whether it changes the backward pass, and so runs through Captum."""
        return NAMES[self.name].captum

    @property
    def is_balanced(self) -> bool:
        """Whether its gradients are balanced ones."""
        return NAMES[self.name].balanced

    def describe(self) -> dict[str, Any]:
        """Name and settings in plain values; the background by its count and hash."""
        names = ("name", "points", "sigma", "baseline", "precision")
        every = {name: getattr(self, name) for name in names}
        kept = {name: value for name, value in every.items() if value is not None}
        if self.background is not None:
            values = self.background.detach().float().cpu().contiguous().numpy()
            kept["background_images"] = len(values)
            kept["background_sha256"] = hashlib.sha256(values.tobytes()).hexdigest()
        is_random = self.name in ("smoothgrad", "expected-gradients")
        return kept | ({"seed": self.seed} if is_random else {})


def smoothgrad_points(pixels: Tensor, method: Method) -> Points:
    """The image plus Gaussian noise, P times; noisy values may leave [0, 1], as published."""
    count, sigma = method.points or 1, method.sigma or 0.0
    drawn = [
        np.random.default_rng(own).standard_normal((count, *pixels.shape[1:]), np.float32)
        for own in image_seeds(pixels, method.seed)
    ]
    noise = torch.from_numpy(np.stack(drawn, axis=1)).to(pixels)
    return Points(pixels + sigma * noise, _even(pixels, count))


def line_points(pixels: Tensor, method: Method) -> Points:
    """Integrated gradients: places on the line from the baseline, times the way from there.

    The places are those of Gauss-Radau's rule with the image itself as its end: exact for
    polynomials of degree 2P-2 along the line, and with one point the gradient at the image.
    """
    baseline = filled(pixels, method.baseline or "black")
    shares, weights = (torch.from_numpy(part).to(pixels) for part in radau(method.points or 1))
    way = pixels - baseline
    places = baseline + shares.view(-1, *(1,) * pixels.ndim) * way
    return Points(places, weights[:, None].expand(-1, len(pixels)), factor=way)


def background_points(pixels: Tensor, method: Method) -> Points:
    """Expected gradients: each point on a line from an image of the background of its own.

    The background is gone through in a random order, as often as points ask, and so are P equal
    parts of [0, 1], from each of which a place on the line is drawn.
    """
    count, background = method.points or 1, method.background
    assert background is not None
    if background.shape[1:] != pixels.shape[1:]:
        raise ChoiceError(
            f"the background has images {tuple(background.shape[1:])}: "
            f"the pixels have {tuple(pixels.shape[1:])}"
        )
    background = background.to(pixels)
    chosen, shares = [], []
    for own in image_seeds(pixels, method.seed):
        generator = np.random.default_rng(own)
        rounds = -(-count // len(background))
        order = [generator.permutation(len(background)) for _ in range(rounds)]
        chosen.append(np.concatenate(order)[:count])
        shares.append((generator.permutation(count) + generator.random(count)) / count)
    begin = background[torch.from_numpy(np.stack(chosen, axis=1)).to(pixels.device)]
    share = torch.from_numpy(np.stack(shares, axis=1)).to(pixels)
    share = share.view(*share.shape, *(1,) * (pixels.ndim - 1))
    way = pixels - begin
    return Points(begin + share * way, _even(pixels, count), factor=way)


def radau(points: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Places in (0, 1], the last one 1, and weights of the Gauss-Radau rule on [0, 1]."""
    # Mirrored from the rule that has -1 as its first place: roots of L_{P-1} + L_P.
    legendre = np.polynomial.legendre
    roots = np.sort(legendre.legroots([0.0] * (points - 1) + [1.0, 1.0]).real)
    roots[0] = -1.0
    last = legendre.legval(roots, [0.0] * (points - 1) + [1.0])
    weights = (1 - roots) / (points * last) ** 2
    return ((1 - roots) / 2)[::-1].copy(), (weights / weights.sum())[::-1].copy()


def _even(pixels: Tensor, count: int) -> Tensor:
    return pixels.new_full((count, len(pixels)), 1 / count)


def _image(pixels: Tensor, _: Method) -> Points:
    return Points(pixels[None], _even(pixels, 1))


def _image_times_pixels(pixels: Tensor, _: Method) -> Points:
    return Points(pixels[None], _even(pixels, 1), factor=pixels)


METHODS: dict[str, Callable[[Tensor, Method], Points]] = {
    "gradient": _image,
    "input-x-gradient": _image_times_pixels,
    "balanced": _image,
    "input-x-balanced": _image_times_pixels,
    "smoothgrad": smoothgrad_points,
    "integrated-gradients": line_points,
    "expected-gradients": background_points,
}
"""Every method that is points with weights: pixels (B, C, H, W) and settings to `Points`."""


def points_of(method: Method | Points, pixels: Tensor, first: int, last: int) -> Points:
    """The points of images first..last-1; raises `ChoiceError` for those of other images."""
    if isinstance(method, Method):
        return METHODS[method.name](pixels[first:last], method)
    if method.pixels.shape[1:] != pixels.shape or not len(method):
        raise ChoiceError(
            f"{len(method)} points are for images {tuple(method.pixels.shape[1:])}: expected at "
            f"least one, for the pixels' {tuple(pixels.shape)}"
        )
    return method.images(first, last)
