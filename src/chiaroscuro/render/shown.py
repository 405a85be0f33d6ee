"""What is drawn of pixels that are no photo: some of many channels, middle slices of volumes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import SMOOTHING
from chiaroscuro.results.changes import SmallestEdit, WhatIf
from chiaroscuro.results.explanations import Explanation
from chiaroscuro.results.facts import ModelFacts

R = TypeVar("R", Explanation, WhatIf, SmallestEdit)


def middle_slices(values: NDArray[Any], blank: float = 0) -> NDArray[Any]:
    """The three middle slices of volumes (..., D, H, W) as a picture (..., H + g + D, W + g + D).

    Upper left the slice (H, W) at D / 2. Right of it that at W / 2 and below it that at H / 2, each
    with the depth away from the first, so that rows and columns go on. What is between is `blank`,
    so wide that smoothing does not reach across.

    >>> middle_slices(np.ones((1, 1, 1)), 0).astype(int).tolist()
    [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    """
    *lead, depth, height, width = values.shape
    gap = 2 + round(3 * SMOOTHING * (min(height, width) + depth))
    drawn = np.full((*lead, height + gap + depth, width + gap + depth), blank, values.dtype)
    drawn[..., :height, :width] = values[..., depth // 2, :, :]
    drawn[..., :height, width + gap :] = values[..., width // 2].swapaxes(-1, -2)
    drawn[..., height + gap :, :width] = values[..., height // 2, :]
    return drawn


def flat(values: NDArray[Any], blank: float = 0) -> NDArray[Any]:
    """A map (H, W) as it is, and the middle slices of one (D, H, W)."""
    return values if values.ndim == 2 else middle_slices(values, blank)


def shown_pixels(pixels: NDArray[Any], channels: Sequence[int]) -> NDArray[Any]:
    """The shown channels of pixels (C, H, W) or (C, D, H, W), none for all: (1 or 3, H, W)."""
    few = pixels[list(channels)] if channels else pixels
    return few if few.ndim == 3 else middle_slices(few, 1)


def pictured(result: R) -> R:
    """A result of one image with what is drawn of it in place of all that it holds."""
    channels = result.model.shown
    if not channels and result.pixels.ndim == 3:
        return result
    model, pixels = replace(result.model, shown=()), shown_pixels(result.pixels, channels)
    if isinstance(result, WhatIf):
        edited = shown_pixels(result.edited, channels)
        return replace(
            result, model=model, pixels=pixels, edited=edited, changed=flat(result.changed)
        )
    if isinstance(result, SmallestEdit):
        changed = shown_pixels(result.changed, channels)
        edits = tuple(replace(edit, order=flat(edit.order)) for edit in result.edits)
        return replace(result, model=model, pixels=pixels, changed=changed, edits=edits)
    kinds = {name: facts.kind for name, facts in result.facts.items()}
    maps = {n: flat(values, -1 if kinds[n] == "class" else 0) for n, values in result.maps.items()}
    evidence = result.evidence
    if evidence is not None:
        evidence = replace(evidence, units=flat(evidence.units, -1))
    return replace(result, model=model, pixels=pixels, maps=maps, evidence=evidence)


def shown_notes(model: ModelFacts, pixels: NDArray[Any]) -> Iterator[str]:
    """What pictures leave out of pixels (C, H, W) or (C, D, H, W)."""
    if model.shown:
        listed = ", ".join(map(str, model.shown))
        colors = "as red, green and blue" if len(model.shown) == 3 else "in gray"
        yield f"pictures show channels {listed} of 0 to {len(pixels) - 1}, {colors}; maps take all"
    if pixels.ndim == 4:
        sides = " x ".join(map(str, pixels.shape[1:]))
        yield f"pictures show the middle slices of {sides} voxels (D x H x W); maps have them all"
