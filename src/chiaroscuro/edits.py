"""Edits of images: fills, pixel orders, and the images with the first pixels of an order filled."""

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from chiaroscuro.choices import Fill, as_float, as_int, parse_fill
from chiaroscuro.errors import ChoiceError, ImageError, InputError
from chiaroscuro.images.framing import check_range


def filled(pixels: Tensor, fill: str | Fill, seed: int = 0) -> Tensor:
    """Images (B, C, H, W) in [0, 1] with every pixel x filled.

    black: 0; white: 1; mean: the image's mean per channel; blur:a: the image under a Gaussian of
    sigma = a * min(H, W) pixels; noise: uniform in [0, 1], drawn from `seed` and the image's own
    values, so that an image gets the same noise in any batch; brighter:a and darker:a: x + a and
    x - a, clipped to [0, 1]. Volumes (B, C, D, H, W) are filled alike, and blurred along D too.

    Raises `ChoiceError` for another fill or a negative seed, `ImageError` for other pixels.

    >>> filled(torch.tensor([0.2, 0.95]).reshape(1, 1, 1, 2), "+0.1").flatten()
    tensor([0.3000, 1.0000])
    """
    chosen = parse_fill(fill)
    check_images(pixels)
    return FILLS[chosen.name](pixels, chosen.amount or 0.0, seed)


def check_images(pixels: Tensor, name: str = "pixels") -> None:
    """Raises `ImageError` unless pixels are floats (B, C, H, W), or of volumes, in [0, 1]."""
    if not isinstance(pixels, Tensor) or pixels.ndim not in (4, 5) or pixels.numel() == 0:
        kind, shape = type(pixels).__name__, tuple(getattr(pixels, "shape", ()))
        expected = "expected a tensor (B, C, H, W) with at least one image"
        raise ImageError(f"{name} are a {kind} of shape {shape}: {expected}")
    if not pixels.is_floating_point():
        expected = "expected floats in [0, 1]; divide 8-bit values by 255"
        raise ImageError(f"{name} are {pixels.dtype}: {expected}")
    low, high = torch.aminmax(pixels.detach())
    check_range(float(low), float(high), name)


def image_seeds(pixels: Tensor, seed: int) -> list[int]:
    """One seed an image, from `seed` and its 8-bit values: the same at any place in a batch."""
    check_images(pixels)
    number = as_int("seed", seed)
    if number < 0:
        raise ChoiceError(f"seed is {number}: expected 0 or more")
    rounded = (pixels.detach() * 255).round().to(torch.uint8).contiguous().cpu().numpy()
    return [(number << 32) + zlib.crc32(image.tobytes()) for image in rounded]


def _blur(pixels: Tensor, amount: float, _: int) -> Tensor:
    shorter = min(pixels.shape[2:])
    sigma = max(amount * shorter, 0.05)  # less weighs the middle alone, and its squares underflow
    reach = min(math.ceil(3 * sigma), shorter - 1)  # mirrored borders reach no further
    blurred = pixels
    for axis in range(2, pixels.ndim):  # one axis after the other: a square of weights costs more
        blurred = gaussian_blur(blurred.movedim(axis, -1), [2 * reach + 1, 1], [sigma, sigma])
        blurred = blurred.movedim(-1, axis)
    return blurred.contiguous().clamp_(0, 1)


def _noise(pixels: Tensor, _: float, seed: int) -> Tensor:
    sources = map(np.random.default_rng, image_seeds(pixels, seed))
    noise = [source.random(pixels.shape[1:], np.float32) for source in sources]
    return torch.from_numpy(np.stack(noise)).to(pixels)


FILLS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "black": lambda pixels, _, __: torch.zeros_like(pixels),
    "white": lambda pixels, _, __: torch.ones_like(pixels),
    "mean": lambda x, _, __: x.mean([*range(2, x.ndim)], keepdim=True).expand_as(x).clone(),
    "blur": _blur,
    "noise": _noise,
    "brighter": lambda pixels, amount, _: (pixels + amount).clamp(0, 1),
    "darker": lambda pixels, amount, _: (pixels - amount).clamp(0, 1),
}
"""Every fill by name: (pixels, amount, seed) to pixels of the same shape."""


def noisy(pixels: Tensor, width: float, seed: int = 0, draw: int = 0) -> Tensor:
    """Pixels with Gaussian noise, cut to [0, 1]; an image gets the same noise in any batch."""
    sources = [np.random.default_rng([own, draw]) for own in image_seeds(pixels, seed)]
    noise = np.stack([source.normal(0, width, pixels.shape[1:]) for source in sources])
    return (pixels + torch.from_numpy(noise).to(pixels)).clamp(0, 1)


def tie_priority(pixels: Tensor, seed: int = 0) -> Tensor:
    """A random order of each image's N = H W pixels, (B, N): it breaks ties, and is the control."""
    count = math.prod(pixels.shape[2:])
    orders = [np.random.default_rng(own).permutation(count) for own in image_seeds(pixels, seed)]
    return torch.from_numpy(np.stack(orders)).to(pixels.device)


def pixel_order(values: Tensor, priority: Tensor | None = None) -> Tensor:
    """Each image's pixels from the map's highest value to its lowest: flat indices (B, N).

    `values` is a map (B, H, W), N = H W. Ties keep the order of `priority` (B, N), a permutation
    such as `tie_priority` draws; without one, the order of rows and columns. A constant map is one
    tie. Raises `InputError` for another shape, or values that are not finite.

    >>> pixel_order(torch.tensor([[[1.0, 3.0], [3.0, 2.0]]]))
    tensor([[1, 2, 3, 0]])
    >>> pixel_order(torch.zeros(1, 2, 2), torch.tensor([[2, 0, 3, 1]]))
    tensor([[2, 0, 3, 1]])
    """
    check_map(values)
    flat = values.flatten(1)
    if priority is None:
        return _falling_order(flat)
    if priority.shape != flat.shape:
        shape, expected = tuple(priority.shape), tuple(flat.shape)
        raise InputError(f"priority has shape {shape}: expected (B, H W) = {expected}")
    return priority.gather(1, _falling_order(flat.gather(1, priority)))


def _falling_order(values: Tensor) -> Tensor:
    """`values.argsort(1, descending=True, stable=True)` of finite floats (B, N).

    On the CPU each value and its position make one integer, which NumPy sorts far faster.
    """
    if values.device.type != "cpu" or values.dtype == torch.float64:
        return values.argsort(dim=1, descending=True, stable=True)
    # Subtracted from 0, falling values rise, and 0.0 and -0.0 become the same bits.
    bits = (0 - values.detach().float().numpy()).view(np.int32)
    # The bits of a negative float, read as an integer, fall as it rises.
    rising = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    keys = (rising << 32) | np.arange(values.shape[1])
    keys.sort(axis=1)
    return torch.from_numpy(keys & 0xFFFFFFFF)


def pixel_rank(order: Tensor) -> Tensor:
    """The rank of each pixel in its order (B, N): the inverse permutation."""
    ranks = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, ranks)


def check_map(values: Tensor, name: str = "map") -> None:
    """Raises `InputError` unless a map is finite floats (B, H, W), or (B, D, H, W) of volumes."""
    if (
        not isinstance(values, Tensor)
        or values.ndim not in (3, 4)
        or not values.is_floating_point()
    ):
        shape, kind = tuple(getattr(values, "shape", ())), getattr(values, "dtype", type(values))
        raise InputError(f"{name} has shape {shape} and is {kind}: expected floats (B, H, W)")
    # The extremes of a map with a NaN are NaN; testing every value takes seven times as long.
    if values.numel() and not torch.stack(values.aminmax()).isfinite().all():
        raise InputError(f"{name} holds values that are not finite: its pixels have no order")


def rising_numbers(name: str, values: Iterable[float], within: str) -> tuple[float, ...]:
    """Numbers as a tuple; raises `ChoiceError` unless they rise `within` "[0, 1)" or "(0, 1]"."""
    try:
        chosen = tuple(as_float(name, value) for value in values)
    except TypeError:
        chosen = ()
    inside = all(0 <= a < 1 if within == "[0, 1)" else 0 < a <= 1 for a in chosen)
    if not chosen or not inside or any(a >= b for a, b in pairwise(chosen)):
        raise ChoiceError(f"{name} are {values}: expected rising numbers in {within}")
    return chosen


def matched_counts(values: Tensor, fractions: Sequence[float]) -> Tensor:
    """Exactly round(p H W) pixels at each fraction p, halves to even: (B, F)."""
    count = math.prod(values.shape[1:])
    shares = rising_numbers("fractions", fractions, "[0, 1)")
    counts = [round(fraction * count) for fraction in shares]
    return torch.tensor(counts, device=values.device).expand(len(values), -1)


def apply_edit(pixels: Tensor, filled: Tensor, rank: Tensor, counts: Tensor) -> Tensor:
    """Images (B, C, H, W), `filled` at the pixels whose `rank` (B, N) is below `counts` (B,)."""
    mask = (rank < counts[:, None]).reshape(len(pixels), 1, *pixels.shape[2:])
    return torch.where(mask, filled, pixels)


def top_edit(pixels: Tensor, filled: Tensor, order: Tensor, fraction: float) -> Tensor:
    """Images (B, C, H, W) with the first round(fraction H W) pixels of each order (B, N) filled."""
    counts = matched_counts(pixels[:, 0], [fraction])[:, 0]
    return apply_edit(pixels, filled, pixel_rank(order), counts)
