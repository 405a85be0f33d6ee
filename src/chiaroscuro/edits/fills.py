"""Fills: what the pixels that an edit takes become."""

import math
import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from chiaroscuro.choices import Fill, as_int, parse_fill
from chiaroscuro.errors import ChoiceError, ImageError
from chiaroscuro.images.arrays import check_range


def filled(pixels: Tensor, fill: str | Fill, seed: int = 0) -> Tensor:
    """Images (B, C, H, W) in [0, 1] with every pixel x filled.

    black: 0; white: 1; mean: the image's mean per channel; blur:a: the image under a Gaussian of
    sigma = a * min(H, W) pixels; noise: uniform in [0, 1], drawn from `seed` and the image's own
    values, so that an image gets the same noise in any batch; brighter:a and darker:a: x + a and
    x - a, clipped to [0, 1].

    Raises `ChoiceError` for another fill or a negative seed, `ImageError` for other pixels.

    >>> filled(torch.tensor([0.2, 0.95]).reshape(1, 1, 1, 2), "+0.1").flatten()
    tensor([0.3000, 1.0000])
    """
    chosen = parse_fill(fill)
    check_images(pixels)
    return FILLS[chosen.name](pixels, chosen.amount or 0.0, seed)


def check_images(pixels: Tensor) -> None:
    """Raises `ImageError` unless pixels are floats (B, C, H, W) in [0, 1], one image or more."""
    fits = isinstance(pixels, Tensor) and pixels.ndim == 4 and pixels.is_floating_point()
    if not fits or not pixels.numel():
        shape, kind = tuple(getattr(pixels, "shape", ())), getattr(pixels, "dtype", type(pixels))
        raise ImageError(
            f"pixels have shape {shape} and are {kind}: expected floats (B, C, H, W) with at least "
            "one image"
        )
    low, high = torch.aminmax(pixels.detach())
    check_range(float(low), float(high), "pixels")


def image_seeds(pixels: Tensor, seed: int) -> list[int]:
    """One seed per image, from `seed` and the image's 8-bit values alone.

    So what is random about an image does not depend on its position in a batch.
    Raises `ChoiceError` for a negative seed, `ImageError` for other pixels.
    """
    check_images(pixels)
    number = as_int("seed", seed)
    if number < 0:
        raise ChoiceError(f"seed is {number}: expected 0 or more")
    rounded = (pixels.detach() * 255).round().to(torch.uint8).contiguous().cpu().numpy()
    return [(number << 32) + zlib.crc32(image.tobytes()) for image in rounded]


_SHARPEST = 0.05
"""Pixels: a Gaussian of less weighs its middle alone, and its squares underflow in the end."""


def _mean(pixels: Tensor, _: float, __: int) -> Tensor:
    return pixels.mean(dim=(2, 3), keepdim=True).expand_as(pixels).clone()


def _blur(pixels: Tensor, amount: float, _: int) -> Tensor:
    shorter = min(pixels.shape[2:])
    sigma = max(amount * shorter, _SHARPEST)
    reach = min(math.ceil(3 * sigma), shorter - 1)  # mirrored borders reach no further
    blurred: Tensor = gaussian_blur(pixels, [2 * reach + 1] * 2, [sigma, sigma])
    return blurred.clamp_(0, 1)


def _noise(pixels: Tensor, _: float, seed: int) -> Tensor:
    noise = [
        np.random.default_rng(own).random(pixels.shape[1:], np.float32)
        for own in image_seeds(pixels, seed)
    ]
    return torch.from_numpy(np.stack(noise)).to(pixels)


FILLS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "black": lambda pixels, _, __: torch.zeros_like(pixels),
    "white": lambda pixels, _, __: torch.ones_like(pixels),
    "mean": _mean,
    "blur": _blur,
    "noise": _noise,
    "brighter": lambda pixels, amount, _: (pixels + amount).clamp(0, 1),
    "darker": lambda pixels, amount, _: (pixels - amount).clamp(0, 1),
}
"""Every fill by name: (pixels, amount, seed) to pixels of the same shape; `choices.FILLS` has what
each does in words."""
