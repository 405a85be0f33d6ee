"""Many edits of a few images, each distinct edited image predicted once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import pixel_rank
from chiaroscuro.guard import as_found
from chiaroscuro.shortcuts import shortcuts

EDITS_CHUNK_BYTES = 6 << 20
"""Pixels predicted at a time: more leaves the cache, less leaves cores idle."""


_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers as wide as a pixel's value."""


@dataclass(frozen=True, eq=False)
class Edit:
    """One way of editing B images: an order of their pixels (B, N), and how many go (B, F)."""

    order: Tensor
    counts: Tensor


@dataclass(frozen=True, eq=False)
class Outcome:
    """Logits (B, F, K) after one edit, and the number of pixels (B, F) that really changed."""

    logits: Tensor
    changed: Tensor


def predict_edits(
    classifier: Classifier, pixels: Tensor, filled: Tensor, edits: Sequence[Edit]
) -> tuple[Tensor, list[Outcome]]:
    """Logits (B, K) of the untouched images, and the outcome of every edit.

    `filled` are the pixels (B, C, H, W) as they become where an edit takes them. Edited images are
    told apart by the set of pixels whose value really becomes another: a set's key is the sum of
    one random 64-bit number a pixel, so two sets share a key with chance 2^-64. Edits of an image
    that come to the same set, by whatever order, are predicted once; the empty set is the image.
    """
    differs = (filled != pixels).any(dim=1).flatten(1)
    keyed = [_keys(edit, differs) for edit in edits]
    untouched = torch.zeros(len(pixels), 1, dtype=torch.int64, device=pixels.device)
    keys = torch.cat([untouched, *(key for key, _ in keyed)], dim=1)
    distinct = _Distinct.of(keys, edits)
    edited = _Edited(pixels, filled, edits)
    module = classifier.module
    with torch.no_grad(), as_found(module), shortcuts(module):
        logits = torch.cat(
            [
                classifier.logits(edited.rows(b, e, n), spare=True)
                for b, e, n in distinct.chunks(pixels)
            ]
        )
    found = logits[distinct.place.to(logits.device)]
    steps = [edit.counts.shape[1] for edit in edits]
    parts = torch.split(found[:, 1:], steps, dim=1)
    outcomes = [Outcome(part, count) for part, (_, count) in zip(parts, keyed, strict=True)]
    return found[:, 0], outcomes


def _keys(edit: Edit, differs: Tensor) -> tuple[Tensor, Tensor]:
    """The key of each edited image (B, F), and how many pixels really changed in it."""
    along = differs.gather(1, edit.order)
    numbers = _numbers("pixels", differs.shape[1]).to(edit.order.device)[edit.order] * along
    last = (edit.counts - 1).clamp(min=0)
    keys, changed = (
        torch.where(edit.counts > 0, sums.gather(1, last), 0)
        for sums in (numbers.cumsum(dim=1), along.long().cumsum(dim=1))
    )
    return keys, changed


@cache
def _numbers(what: str, count: int) -> Tensor:
    """Random 64-bit numbers, others for pixels than for images; their sums wrap around."""
    bits = np.random.default_rng(list(what.encode())).integers(
        -(2**63), 2**63, count, dtype=np.int64
    )
    return torch.from_numpy(bits)


class _Edited:
    """Edited images, made a few at a time with their channels last, as networks are fastest.

    Everything lies flat in that layout, each pixel's rank once a channel, so that an edit is a few
    passes over memory without strides. Pixels are exchanged as bits, p ^ ((p ^ f) & mask): exact,
    and in instructions for many numbers at once, which PyTorch's choice by booleans is not.
    """

    def __init__(self, pixels: Tensor, filled: Tensor, edits: Sequence[Edit]) -> None:
        images, channels, self.height, self.width = pixels.shape
        self.images = images
        self.type = pixels.dtype
        self.pixels, given = (
            values.permute(0, 2, 3, 1).reshape(images, -1).view(_BITS[pixels.element_size()])
            for values in (pixels, filled.to(pixels.dtype))
        )
        self.differing = self.pixels ^ given
        self.ranks = torch.stack(
            [
                pixel_rank(edit.order).to(torch.int32).repeat_interleave(channels, dim=1)
                for edit in edits
            ]
        ).flatten(0, 1)

    def rows(self, image: Tensor, edit: Tensor, count: Tensor) -> Tensor:
        """The images (D, C, H, W) after each one's first `count` pixels became others."""
        rank = self.ranks.index_select(0, edit * self.images + image)
        # A difference below zero has its sign, shifted along, in every bit.
        goes = rank.sub_(count[:, None].to(rank.dtype)).bitwise_right_shift_(31)
        flat = goes.to(self.pixels.dtype).bitwise_and_(self.differing.index_select(0, image))
        flat = flat.bitwise_xor_(self.pixels.index_select(0, image)).view(self.type)
        return flat.view(len(flat), self.height, self.width, -1).permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class _Distinct:
    """The distinct edited images (D,): which image, edit and count each is made of.

    `place` (B, 1 + E F) says which of them stands for each column, the untouched image first.
    """

    image: Tensor
    edit: Tensor
    count: Tensor
    place: Tensor

    @classmethod
    def of(cls, keys: Tensor, edits: Sequence[Edit]) -> "_Distinct":
        own = _numbers("images", len(keys))[:, None].numpy()  # equal sets of two images stay apart
        marked: NDArray[np.int64] = keys.cpu().numpy() + own
        _, first, place = np.unique(marked.ravel(), return_index=True, return_inverse=True)
        # In the order of the images, so that neighbors share what they read.
        order = np.argsort(first)
        new = np.empty_like(order)
        new[order] = np.arange(len(order))
        rows, columns = np.divmod(first[order], keys.shape[1])
        counts = torch.cat([torch.zeros_like(keys[:, :1]), *(e.counts for e in edits)], dim=1)
        owner = np.repeat(np.arange(len(edits)), [edit.counts.shape[1] for edit in edits])
        edit = np.concatenate([[0], owner])[columns]
        image, of = (torch.from_numpy(found).to(keys.device) for found in (rows, edit))
        count = counts[image, torch.from_numpy(columns).to(keys.device)]
        return cls(image, of, count, torch.from_numpy(new[place].reshape(marked.shape)))

    def chunks(self, pixels: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Images, edits and counts of as many as are predicted at a time.

        Not evenly shared out: kernels are made anew for every other number of images.
        """
        rows = max(1, EDITS_CHUNK_BYTES // (pixels[0].numel() * pixels.element_size()))
        parts = (torch.split(values, rows) for values in (self.image, self.edit, self.count))
        return list(zip(*parts, strict=True))
