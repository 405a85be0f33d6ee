"""Units of an image: its pixels, cells of a grid, or superpixels, which follow the edges in it."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.choices import parse_cells
from chiaroscuro.edits import check_images

_ROUNDS = 6
"""Times that superpixels move to the mean of their pixels."""
_ACROSS = 14
"""The shorter side of an image has so many superpixels unless their side is given."""
_CONTRAST = 0.2
"""A difference of so much in pixel value counts like one of a superpixel's side in place."""
Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


def units(pixels: Tensor, cells: int | str) -> Tensor:
    """Which unit each pixel of images (B, C, H, W) belongs to: ids (B, H, W) from 0, none left out.

    `cells`: "pixels", each for itself; "8", cells of 8 x 8 px, cut at the far edges; "superpixels",
    "superpixels:16", connected parts of similar pixels, each about 16 x 16 px. They begin as a grid
    and move to the mean of their pixels (SLIC: Achanta et al. 2012); nothing is drawn at random.
    Volumes (B, C, D, H, W) have ids (B, D, H, W).

    Raises `ChoiceError` for other cells, `ImageError` for other pixels.

    >>> units(torch.zeros(1, 3, 2, 3), 2).tolist()
    [[[0, 0, 1], [0, 0, 1]]]
    """
    name, _, number = parse_cells(cells).partition(":")
    check_images(pixels)
    sides = pixels.shape[2:]
    if name == "superpixels":
        side = int(number) if number else max(2, round(min(sides) / _ACROSS))
        images = pixels.detach().float().cpu().numpy()
        ids = np.stack([_superpixels(image, side) for image in images])
    else:
        own = _cells(sides, 1 if name == "pixels" else int(name))
        ids = np.broadcast_to(own, (len(pixels), *sides))
    return torch.from_numpy(np.array(ids)).to(pixels.device)


def _cells(shape: tuple[int, ...], side: int) -> Ids:
    """The number of each pixel's cell, row by row."""
    grid = tuple(-(-length // side) for length in shape)
    places = np.indices(shape) // side
    return np.asarray(np.ravel_multi_index(tuple(places), grid), np.int64)


def _superpixels(image: Floats, side: int) -> Ids:
    """Connected parts of similar pixels of an image (C, H, W), each about `side` pixels wide."""
    shape = image.shape[1:]
    grid = tuple(max(1, round(length / side)) for length in shape)
    places = np.indices(shape)
    home = [p * n // length for p, n, length in zip(places, grid, shape, strict=True)]
    # Each pixel may join the superpixels that began in its own cell of the grid or next to it.
    near = np.stack(
        [
            np.ravel_multi_index([h + s for h, s in zip(home, step, strict=True)], grid, "clip")
            for step in product((-1, 0, 1), repeat=len(shape))
        ]
    )
    features = np.concatenate([image / _CONTRAST / np.sqrt(len(image)), places / side])
    features = features.astype(np.float32)
    ids = np.ravel_multi_index(home, grid)
    # Centers are means of every few pixels; the last round asks every pixel.
    few: Any = (..., *(slice(None, None, max(1, side // 8)) for _ in shape))
    for some in [few] * _ROUNDS + [...]:
        centers = _means(features[few], ids[few], int(np.prod(grid)))
        gaps = sum((f - c[near[some]]) ** 2 for f, c in zip(features[some], centers, strict=True))
        ids[some] = np.take_along_axis(near[some], np.argmin(gaps, axis=0)[None], 0)[0]
    return _connected(ids)


def _means(features: Floats, ids: Ids, count: int) -> Floats:
    """The mean of each feature (F, ...) over the pixels of each id; far away for an id of none."""
    sizes = np.bincount(ids.ravel(), minlength=count)
    sums = np.stack([np.bincount(ids.ravel(), feature.ravel(), count) for feature in features])
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), 1e9).astype(np.float32)


def _connected(ids: Ids) -> Ids:
    """The largest connected part of each id; other pixels join what is next to them. From 0."""
    parts = np.arange(ids.size).reshape(ids.shape)
    while True:  # each pixel takes the lowest number of its part
        before, parts = parts, parts.copy()
        for one, other in _pairs(ids.ndim):
            same, low = ids[one] == ids[other], np.minimum(parts[one], parts[other])
            for end in (one, other):
                parts[end] = np.where(same, np.minimum(low, parts[end]), parts[end])
        parts = parts.ravel()[parts]
        if np.array_equal(parts, before):
            break
    sizes = np.bincount(parts.ravel(), minlength=ids.size)
    order = np.lexsort((np.arange(ids.size), -sizes[parts.ravel()]))
    _, first = np.unique(ids.ravel()[order], return_index=True)
    largest = np.isin(parts, parts.ravel()[order[first]])
    found = np.where(largest, ids, -1)
    while (found < 0).any():
        for one, other in _pairs(ids.ndim):
            for end, source in ((one, other), (other, one)):
                found[end] = np.where(found[end] < 0, found[source], found[end])
    return np.unique(found, return_inverse=True)[1].reshape(ids.shape).astype(np.int64)


def _pairs(axes: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Along each axis all pixels but the last, and their next neighbors."""
    for axis in range(axes):
        before = (slice(None),) * axis
        yield (*before, slice(None, -1)), (*before, slice(1, None))
