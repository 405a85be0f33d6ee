"""The fewest pixels whose change turns a prediction: orders, our search, and other ways to it.

    python -m benchmarks.smallest --data-root DIR
    python -m benchmarks.smallest --data-root DIR --network efficientnet-lite0
    python -m benchmarks.smallest --data-root DIR --cells 8 --keep --fill blur

Networks of 32 px take test images of CIFAR-10, drawn with the seed, photo networks the odd rows of
`imagenet-sample`. Every way has the same budget of gradient passes, SparseEvo 64 predictions for
each instead. A row lists the quartiles of the edit's size over images, with the 95 % bootstrap
interval of the median; an image that is not turned counts as the largest size. The last columns:
images turned, images with a smaller, an equal, a larger edit than that of our search, and the
median numbers of passes. `--data-root` is the folder that holds both data sets.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.edit_maps import Work, prepare
from benchmarks.edit_rivals import (
    Gains,
    GreedyPig,
    Grown,
    Prefix,
    Samp,
    Sis,
    SparseEvo,
    SparsePgd,
)
from chiaroscuro import class_gradients, edit_map, saliency_maps
from chiaroscuro.allocator import tune_allocator
from chiaroscuro.edits import filled, image_seeds, pixel_order, tie_priority
from chiaroscuro.smallest.batch import World
from chiaroscuro.smallest.search import Mask, Search, Units
from chiaroscuro.units import units

Make = Callable[[int, Mask, Units, int], Search]
"""(image, allowed units, priority, budget) to its search."""
OURS = "growth, removal, swaps"
_PARTIAL = 16
"""Gradient passes of a partial-edit map."""


@dataclass(frozen=True)
class Found:
    """What a search found for an image: its size, or None; and what it cost."""

    size: int | None
    gradients: int
    predictions: int


class Lines(World):
    """A world whose gradients may be asked for between two images too."""

    def edited(self, n: int, mask: NDArray[Any]) -> Tensor:
        """Image n with the units changed by shares in [0, 1], or those of a mask."""
        if mask.dtype == bool:
            return super().edited(n, mask)
        share = torch.from_numpy(mask).to(self.start)[self.labels[n]]
        return torch.lerp(self.start[n], self.end[n], share.expand_as(self.start[n]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="cifar10-cnn")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fill", default="black")
    parser.add_argument("--cells", default="pixels")
    parser.add_argument("--budget", type=int, default=64)
    parser.add_argument("--keep", action="store_true", help="edits that alone keep the prediction")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="some ways, by name")
    asked = parser.parse_args()
    tune_allocator()
    torch.manual_seed(0)
    work = prepare(asked.network, asked.images, asked.seed, asked.data_root, tuning=False)
    options = vars(asked)
    words = " ".join(f"--{n} {options[n]}" for n in ("images", "seed", "fill", "cells", "budget"))
    network, keep = Path(asked.network).name, " --keep" * asked.keep
    print(f"`python -m benchmarks.smallest --network {network} {words}{keep}`: "
          f"{len(work.pixels)} images of {work.pixels[0, 0].numel():,} pixels\n")  # fmt: skip
    print("| way | quartiles | median, 95 % | turned | smaller, equal, larger than ours | "
          "gradient passes | predictions | s |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    ways = every_way(work, asked.fill, asked.cells, keep=asked.keep)
    ours: list[Found] | None = None
    for name, (make, before) in ways.items():
        if asked.only and name not in asked.only:
            continue
        start = time.perf_counter()
        found = edits_of(work, asked.fill, asked.cells, asked.budget, make, keep=asked.keep)
        ours = found if ours is None else ours
        seconds = time.perf_counter() - start
        print(row(name, found, ours, work.pixels[0, 0].numel(), before, seconds), flush=True)


def every_way(work: Work, fill: str, cells: str, *, keep: bool) -> dict[str, tuple[Make, int]]:
    """Ways by name, ours first, each with the gradient passes that its order took before."""

    def own(cls: type[Search]) -> tuple[Make, int]:
        return lambda _, *more: cls(*more), 0

    ways = {OURS: own(Search), "growth, removal": own(Grown)}
    if cells == "pixels" and not keep:
        for name, passes in (("original", 1), ("positive", 1), ("partial-edit", _PARTIAL)):
            orders = map_orders(work, fill, name)
            ways[f"order by {name}"] = partial(_prefix, orders, False), passes
            if name == "partial-edit":
                ways[f"{name}, removal"] = partial(_prefix, orders, True), passes
    others = {
        "one gradient": Gains, "SAMP": Samp, "Greedy PIG": GreedyPig, "batched gradient SIS": Sis,
        "Sparse-PGD": SparsePgd, "SparseEvo": SparseEvo,
    }  # fmt: skip
    return ways | {name: own(cls) for name, cls in others.items()}


def _prefix(
    orders: Units, shrink: bool, n: int, allowed: Mask, priority: Units, budget: int
) -> Search:
    return Prefix(allowed, priority, budget, given=orders[n], shrink=shrink)


def map_orders(work: Work, fill: str, name: str) -> Units:
    """Each image's pixels by a map, the highest first (B, N)."""
    orders = []
    for pixels, target in work.batches():
        if name == "partial-edit":
            values = edit_map(work.classifier, pixels, fill, name, _PARTIAL, target)
        else:
            gradients = class_gradients(work.classifier, pixels, target, "runner-up")
            values = saliency_maps(gradients, name)[name]
        orders.append(pixel_order(values, tie_priority(pixels)))
    return torch.cat(orders).numpy()


def edits_of(
    work: Work, fill: str, cells: str, budget: int, make: Make, *, keep: bool
) -> list[Found]:
    """What one way finds for every image."""
    found: list[Found] = []
    for pixels, target in work.batches():
        changed = filled(pixels, fill)
        start, end = (changed, pixels) if keep else (pixels, changed)
        ids = units(pixels, cells)
        labels, world = ids.numpy(), Lines(work.classifier, start, end, ids)
        world.goal, world.away = target, not keep
        moves = (changed != pixels).any(dim=1).numpy()
        searches = []
        for n, seed in enumerate(image_seeds(pixels, 0)):
            count = int(labels[n].max()) + 1
            allowed = np.bincount(labels[n][moves[n]], minlength=count) > 0
            priority = np.random.default_rng(seed).permutation(count)
            searches.append(make(len(found) + n, allowed, priority, budget))
        world.run(searches)
        found += [
            Found(len(one.units) if one.reached else None, one.gradients, one.predictions)
            for one in searches
        ]
    return found


def row(
    name: str, found: list[Found], ours: list[Found], most: int, before: int, seconds: float
) -> str:
    """One row of the table."""
    sizes, own = (
        np.array([most + 1 if one.size is None else one.size for one in each])
        for each in (found, ours)
    )
    low, middle, high = quartiles(sizes)
    draws = np.random.default_rng(0).integers(len(sizes), size=(1000, len(sizes)))
    ends = np.quantile(np.median(sizes[draws], axis=1), [0.025, 0.975])
    counts = [int((sizes < own).sum()), int((sizes == own).sum()), int((sizes > own).sum())]
    turned = np.mean([one.size is not None for one in found])
    gradients = quartiles(one.gradients + before for one in found)[1]
    predictions = quartiles(one.predictions for one in found)[1]
    against = "" if found is ours else " / ".join(map(str, counts))
    return (
        f"| {name} | {_count(low, most)} / {_count(middle, most)} / {_count(high, most)} | "
        f"{_count(middle, most)} [{_count(ends[0], most)}, {_count(ends[1], most)}] | "
        f"{100 * turned:.0f} % | {against} | {gradients:g} | {predictions:,.0f} | {seconds:.0f} |"
    )


def quartiles(values: Iterable[float]) -> NDArray[np.float64]:
    """The quarter, the half and three quarters of values."""
    ends: NDArray[np.float64] = np.quantile(np.array(list(values)), [0.25, 0.5, 0.75])
    return ends


def _count(value: float, most: int) -> str:
    return "none" if value > most else f"{value:,.0f}" if value >= 10 else f"{value:g}"


if __name__ == "__main__":
    main()
