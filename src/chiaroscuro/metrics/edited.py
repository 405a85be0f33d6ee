"""Many edits of a few images, each distinct edited image predicted once."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.classifier import Classifier
from chiaroscuro.device import device_profile
from chiaroscuro.edits import pixel_rank
from chiaroscuro.guard import as_found
from chiaroscuro.shortcuts import shortcuts

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers as wide as a pixel's value."""


class Edit(NamedTuple):
    """Edits of B images: an order of their pixels (B, N), and how many are filled (B, F)."""

    order: Tensor
    counts: Tensor


class EditedLogits(NamedTuple):
    """Logits (B, F, K) after an edit, and the number of pixels (B, F) whose value changes."""

    logits: Tensor
    changed: Tensor


def predict_edits(
    classifier: Classifier, pixels: Tensor, filled: Tensor, edits: Sequence[Edit]
) -> tuple[Tensor, list[EditedLogits]]:
    """Logits (B, K) of the untouched images, and those of every edit.

    `filled` are the images (B, C, H, W) with every pixel filled. An edited image is identified by
    the set of pixels whose value changes: the set's key is the sum of one random 64-bit number per
    pixel, so two sets share a key with probability 2^-64. Edits of an image that give the same set,
    by whatever order, are predicted once; the empty set is the untouched image.
    """
    differs = (filled != pixels).any(dim=1).flatten(1)
    keyed = [_keys(edit, differs) for edit in edits]
    untouched = torch.zeros(len(pixels), 1, dtype=torch.int64, device=pixels.device)
    keys = torch.cat([untouched, *(key for key, _ in keyed)], dim=1)
    *distinct, row = _distinct(keys, edits)
    edited = _EditedImages(pixels, filled, edits)
    # All chunks but the last have one size: kernels are compiled for each number of images.
    size = max(1, device_profile().forward_bytes // (pixels[0].numel() * pixels.element_size()))
    chunks = zip(*(torch.split(values, size) for values in distinct), strict=True)
    with torch.no_grad(), as_found(classifier.module), shortcuts(classifier.module):
        parts = [classifier.logits(edited.rows(*chunk), spare=True) for chunk in chunks]
    logits = torch.cat(parts)[row]
    by_edit = torch.split(logits[:, 1:], [edit.counts.shape[1] for edit in edits], dim=1)
    return logits[:, 0], list(map(EditedLogits, by_edit, (changed for _, changed in keyed)))


def _keys(edit: Edit, differs: Tensor) -> tuple[Tensor, Tensor]:
    """The key of each edited image (B, F), and how many of its pixels change."""
    along = differs.gather(1, edit.order)
    numbers = _numbers("pixels", differs.shape[1]).to(edit.order.device)[edit.order] * along
    last = (edit.counts - 1).clamp(min=0)
    keys, changed = (
        torch.where(edit.counts > 0, sums.gather(1, last), 0)
        for sums in (numbers.cumsum(dim=1), along.long().cumsum(dim=1))
    )
    return keys, changed


@lru_cache(maxsize=8)  # photos of many sizes have many counts
def _numbers(what: str, count: int) -> Tensor:
    """Random 64-bit numbers, drawn apart for "pixels" and "images"; their sums wrap around."""
    generator = np.random.default_rng(list(what.encode()))
    return torch.from_numpy(generator.integers(-(2**63), 2**63, count, dtype=np.int64))


class _EditedImages:
    """Edited images, computed a few at a time with channels last, the layout of fast networks.

    Everything lies flat in that layout, each pixel's rank once per channel, so that an edit is a
    few passes over memory without strides. Pixels are exchanged as bits, p ^ ((p ^ f) & mask):
    exact, and vectorized, which PyTorch's choice by booleans is not.
    """

    def __init__(self, pixels: Tensor, filled: Tensor, edits: Sequence[Edit]) -> None:
        self.images, channels, *self.size = pixels.shape
        self.type = pixels.dtype
        self.pixels, fill = (
            values.permute(0, 2, 3, 1).reshape(len(values), -1).view(_BITS[pixels.element_size()])
            for values in (pixels, filled.to(pixels.dtype))
        )
        self.differing = self.pixels ^ fill
        ranks = torch.cat([pixel_rank(edit.order).to(torch.int32) for edit in edits])
        self.ranks = ranks.repeat_interleave(channels, dim=1)

    def rows(self, image: Tensor, edit: Tensor, count: Tensor) -> Tensor:
        """The images (D, C, H, W), each with the first `count` pixels of its edit filled."""
        rank = self.ranks.index_select(0, edit * self.images + image)
        # The sign of a difference below zero, shifted along, is a mask of all bits.
        mask = rank.sub_(count[:, None].to(rank.dtype)).bitwise_right_shift_(31)
        flat = mask.to(self.pixels.dtype).bitwise_and_(self.differing.index_select(0, image))
        flat = flat.bitwise_xor_(self.pixels.index_select(0, image)).view(self.type)
        return flat.view(len(flat), *self.size, -1).permute(0, 3, 1, 2)


def _distinct(keys: Tensor, edits: Sequence[Edit]) -> list[Tensor]:
    """The image, edit and count of each distinct edited image (D,), and which one each key has.

    The keys (B, 1 + E F) have the untouched image first.
    """
    own = _numbers("images", len(keys))[:, None].to(keys.device)  # equal sets of two images differ
    _, first, row = np.unique((keys + own).cpu().numpy(), return_index=True, return_inverse=True)
    # In the order of the images, so that neighbors read the same memory.
    order = np.argsort(first)
    images, columns = np.divmod(first[order], keys.shape[1])
    owner = np.repeat(np.arange(len(edits)), [edit.counts.shape[1] for edit in edits])
    of = np.concatenate([[0], owner])[columns]
    row = np.argsort(order)[row].reshape(keys.shape)
    counts = torch.cat([torch.zeros_like(keys[:, :1]), *(edit.counts for edit in edits)], dim=1)
    image, edit, column, place = (
        torch.from_numpy(numbers).to(keys.device) for numbers in (images, of, columns, row)
    )
    return [image, edit, counts[image, column], place]
