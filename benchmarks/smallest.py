"""The fewest pixels whose change turns a prediction: orders, our search, and other ways to it.

    python -m benchmarks.smallest --data-root DIR
    python -m benchmarks.smallest --data-root DIR --network efficientnet-lite0 --rows FILE
    python -m benchmarks.smallest --data-root DIR --keep --cells 4 8 --fill blur white --only SAMP

Networks of 32 px take test images of CIFAR-10, drawn with the seed, photo networks the odd rows of
`imagenet-sample`. Every way has the same budget of gradient passes, SparseEvo 64 predictions for
each instead. A row lists the quartiles of the edit's size over images, with the 95 % bootstrap
interval of the median; an image that is not turned counts as the largest size. The last columns:
images turned, images with a smaller, an equal, a larger edit than that of our search, the median
numbers of passes, and seconds an image. `--data-root` is the folder that holds both data sets. A
line of `--rows` is what one way found for one batch of images; lines that are there already are
kept, and `--table` prints what they hold.
"""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

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
from chiaroscuro import Classifier, class_gradients, edit_map, saliency_maps
from chiaroscuro.allocator import tune_allocator
from chiaroscuro.edits import filled, image_seeds, pixel_order, tie_priority
from chiaroscuro.smallest.batch import World
from chiaroscuro.smallest.search import Search, Units
from chiaroscuro.units import units

Rows = dict[tuple[str, int], dict[str, Any]]
"""What a way found, by its name and batch."""
OURS = "growth, removal, swaps"
_PARTIAL = 16
"""Gradient passes of a partial-edit map."""
_MAPS = {"random": 0, "original": 1, "positive": 1, "partial-edit": _PARTIAL}
"""Orders that are tried, with the gradient passes that they take; a random one is the control."""


class Found(NamedTuple):
    """What a search found for an image: its size, or None; and what it cost."""

    size: int | None
    gradients: int
    predictions: int


@dataclass(frozen=True)
class Way:
    """A search; `map`: the one whose order it follows; `shrink`: and what is not needed goes."""

    cls: type[Any]
    map: str = ""
    shrink: bool = False


@dataclass(frozen=True)
class Question:
    """What pixels become, what changes together, the budget, and whether the edit is kept alone."""

    fill: str = "black"
    cells: str = "pixels"
    budget: int = 64
    keep: bool = False


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
    parser.add_argument("--fill", nargs="+", default=["black"])
    parser.add_argument("--cells", nargs="+", default=["pixels"])
    parser.add_argument("--budget", type=int, default=64)
    parser.add_argument("--keep", action="store_true", help="edits that alone keep the prediction")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="some ways, by name")
    parser.add_argument("--rows", type=Path, default=Path(__file__).parent / "out/smallest.jsonl")
    parser.add_argument("--table", action="store_true", help="of the rows that are there")
    asked = parser.parse_args()
    asked.rows.parent.mkdir(exist_ok=True)
    if not asked.table:
        tune_allocator()
        torch.manual_seed(0)
        work = prepare(asked.network, asked.images, asked.seed, asked.data_root, tuning=False)
    for fill, cells in product(asked.fill, asked.cells):
        question = Question(fill, cells, asked.budget, asked.keep)
        network, kept = Path(asked.network).name, " --keep" * asked.keep
        words = f"--network {network} --images {asked.images} --seed {asked.seed} --fill {fill} "
        words += f"--cells {cells} --budget {asked.budget}{kept}"
        names = [n for n in every_way(question) if not asked.only or n in asked.only]
        if not asked.table:
            measure(work, question, names, asked.rows, words)
        print(table(read(asked.rows, words), names, words), flush=True)


def measure(work: Work, question: Question, names: Sequence[str], file: Path, words: str) -> None:
    """Add what is not there yet to a file of rows: every way on a batch, then the next batch."""
    known, ways = read(file, words), every_way(question)
    for number, (pixels, target) in enumerate(work.batches()):
        for name in names:
            if (name, number) in known:
                continue
            start = time.perf_counter()
            searches = edits_of(work.classifier, pixels, target, question, ways[name])
            row = {
                "words": words, "way": name, "batch": number,
                "found": found_by(searches, ways[name]),
                "pixels": pixels[0, 0].numel(), "seconds": time.perf_counter() - start,
            }  # fmt: skip
            with file.open("a") as lines:
                lines.write(f"{json.dumps(row)}\n")


def read(file: Path, words: str) -> Rows:
    """The rows of a question by way and batch."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = [row for row in map(json.loads, lines) if row["words"] == words]
    return {(row["way"], row["batch"]): row for row in rows}


def table(rows: Rows, names: Sequence[str], words: str) -> str:
    """What ways found, for the batches that all of them have been through."""
    done = set.intersection(*({b for n, b in rows if n == name} for name in names))
    if not done:
        return f"`python -m benchmarks.smallest {words}`: no batch is through all of {names}"
    found = {n: [Found(*one) for b in sorted(done) for one in rows[n, b]["found"]] for n in names}
    most = next(iter(rows.values()))["pixels"]
    count = len(found[names[0]])
    lines = [
        f"`python -m benchmarks.smallest {words}`: {count} images of {most:,} pixels",
        "",
        "| way | quartiles | median, 95 % | turned | smaller, equal, larger than ours | "
        "gradient passes | predictions | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        seconds = sum(rows[name, b]["seconds"] for b in done) / count
        lines.append(line(name, found[name], found[names[0]], most, seconds))
    return "\n".join(lines)


def every_way(question: Question) -> dict[str, Way]:
    """Ways by name, ours first; maps order pixels that are to turn a prediction."""
    ways = {OURS: Way(Search), "growth, removal": Way(Grown)}
    if question.cells == "pixels" and not question.keep:
        ways |= {f"order by {name}": Way(Prefix, name) for name in _MAPS}
        ways["partial-edit, removal"] = Way(Prefix, "partial-edit", shrink=True)
    others = {
        "one gradient": Gains, "SAMP": Samp, "Greedy PIG": GreedyPig, "batched gradient SIS": Sis,
        "Sparse-PGD": SparsePgd, "SparseEvo": SparseEvo,
    }  # fmt: skip
    return ways | {name: Way(cls) for name, cls in others.items()}


def edits_of(
    classifier: Classifier, pixels: Tensor, target: Tensor, question: Question, way: Way
) -> list[Search]:
    """The search of each image of a batch, done."""
    changed = filled(pixels, question.fill)
    start, end = (changed, pixels) if question.keep else (pixels, changed)
    ids = units(pixels, question.cells)
    labels, world = ids.numpy(), Lines(classifier, start, end, ids)
    world.goal, world.away = target, not question.keep
    moves = (changed != pixels).any(dim=1).numpy()
    orders = way.map and map_orders(classifier, pixels, target, question.fill, way.map)
    searches = []
    for n, seed in enumerate(image_seeds(pixels, 0)):
        count = int(labels[n].max()) + 1
        allowed = np.bincount(labels[n][moves[n]], minlength=count) > 0
        more = {"given": orders[n], "shrink": way.shrink} if way.map else {}
        priority = np.random.default_rng(seed).permutation(count)
        searches.append(way.cls(allowed, priority, question.budget, **more))
    world.run(searches)
    return searches


def map_orders(
    classifier: Classifier, pixels: Tensor, target: Tensor, fill: str, name: str
) -> Units:
    """Each image's pixels by a map, the highest first (B, N)."""
    if name == "random":
        values = tie_priority(pixels, 1).float().view_as(pixels[:, 0])
    elif name == "partial-edit":
        values = edit_map(classifier, pixels, fill, name, _PARTIAL, target)
    else:
        gradients = class_gradients(classifier, pixels, target, "runner-up")
        values = saliency_maps(gradients, name)[name]
    return pixel_order(values, tie_priority(pixels)).numpy()


def found_by(searches: Iterable[Search], way: Way) -> list[Found]:
    """What is counted of searches."""
    before = _MAPS.get(way.map, 0)
    return [
        Found(len(one.units) if one.reached else None, one.gradients + before, one.predictions)
        for one in searches
    ]


def line(name: str, found: list[Found], ours: list[Found], most: int, seconds: float) -> str:
    """One way's line of the table."""
    sizes, own = (
        np.array([most + 1 if one.size is None else one.size for one in each])
        for each in (found, ours)
    )
    low, middle, high = quartiles(sizes)
    draws = np.random.default_rng(0).integers(len(sizes), size=(1000, len(sizes)))
    ends = np.quantile(np.median(sizes[draws], axis=1), [0.025, 0.975])
    counts = [int((sizes < own).sum()), int((sizes == own).sum()), int((sizes > own).sum())]
    turned = np.mean([one.size is not None for one in found])
    gradients = quartiles(one.gradients for one in found)[1]
    predictions = quartiles(one.predictions for one in found)[1]
    against = "" if found is ours else " / ".join(map(str, counts))
    return (
        f"| {name} | {_count(low, most)} / {_count(middle, most)} / {_count(high, most)} | "
        f"{_count(middle, most)} [{_count(ends[0], most)}, {_count(ends[1], most)}] | "
        f"{100 * turned:.0f} % | {against} | {gradients:g} | {predictions:,.0f} | {seconds:.1f} |"
    )


def quartiles(values: Iterable[float]) -> NDArray[np.float64]:
    """The quarter, the half and three quarters of values."""
    ends: NDArray[np.float64] = np.quantile(np.array(list(values)), [0.25, 0.5, 0.75])
    return ends


def _count(value: float, most: int) -> str:
    return "none" if value > most else f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


if __name__ == "__main__":
    main()
