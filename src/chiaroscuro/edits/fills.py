"""What edited pixels become: black, white, mean, blur, noise, brighter, darker."""

import math
import zlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from chiaroscuro.choices import Fill, parse_fill


def filled(pixels: Tensor, fill: str | Fill, seed: int = 0) -> Tensor:
    """Every pixel of (B, C, H, W) in [0, 1] changed as `fill` says; an edit takes some of them.

    black 0, white 1, mean of the image per channel, blur by a Gaussian, noise uniform in [0, 1]
    (drawn from `seed` and the image's own values, so an image gets the same noise in any batch),
    brighter and darker by an amount, clipped to [0, 1]. Raises `ChoiceError` for another fill.

    >>> filled(torch.tensor([0.2, 0.95]).reshape(1, 1, 1, 2), "+0.1").flatten()
    tensor([0.3000, 1.0000])
    """
    chosen = parse_fill(fill)
    return FILLS[chosen.name](pixels, chosen.amount or 0.0, seed)


def image_seeds(pixels: Tensor, seed: int) -> list[int]:
    """One seed an image, from `seed` and the image's 8-bit values alone.

    So what is random about an image does not depend on its place in a batch.
    """
    rounded = (pixels.detach() * 255).round().to(torch.uint8).contiguous().cpu().numpy()
    return [(seed << 32) + zlib.crc32(image.tobytes()) for image in rounded]


def _mean(pixels: Tensor, _: float, __: int) -> Tensor:
    return pixels.mean(dim=(2, 3), keepdim=True).expand_as(pixels).clone()


def _blur(pixels: Tensor, amount: float, _: int) -> Tensor:
    shorter = min(pixels.shape[2:])
    sigma = amount * shorter
    reach = min(math.ceil(3 * sigma), shorter - 1)  # mirrored borders reach no further
    blurred: Tensor = gaussian_blur(pixels, [2 * reach + 1] * 2, [sigma, sigma])
    return blurred.clamp_(0, 1)


def _noise(pixels: Tensor, _: float, seed: int) -> Tensor:
    drawn = [
        np.random.default_rng(own).random(pixels.shape[1:], np.float32)
        for own in image_seeds(pixels, seed)
    ]
    return torch.from_numpy(np.stack(drawn)).to(pixels)


FILLS: Mapping[str, Callable[[Tensor, float, int], Tensor]] = {
    "black": lambda pixels, _, __: torch.zeros_like(pixels),
    "white": lambda pixels, _, __: torch.ones_like(pixels),
    "mean": _mean,
    "blur": _blur,
    "noise": _noise,
    "brighter": lambda pixels, amount, _: (pixels + amount).clamp(0, 1),
    "darker": lambda pixels, amount, _: (pixels - amount).clamp(0, 1),
}
"""Every fill by name: (pixels, amount, seed) to pixels of the same shape."""
