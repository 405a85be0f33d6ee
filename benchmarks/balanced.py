"""Balanced gradients of a small vision transformer next to others, by deletion with both signs.

    chiaroscuro train cifar10 --architecture basic-vit --epochs 4 --out cifar10-vit
    python -m benchmarks.balanced --network cifar10-vit --images 300 --data-root DIR

Images, fractions and the matched protocol as in `benchmarks.methods`. `passes`: backward passes per
class and image; SmoothGrad with one noisy copy costs what a gradient does. The gain is the area
when the lowest pixels go first, minus that when the highest do: of `positive` in black, `negative`
in white. The second table holds differences from another method, image by image: 95 % bootstrap
intervals, p by sign flips, corrected by Holm over the table.
"""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.edit_maps import FILLS, Floats, MakeMaps, Work, areas_of, interval_text, prepare
from benchmarks.methods import SHOWN, shown_maps
from chiaroscuro import Classifier
from chiaroscuro.allocator import tune_allocator
from chiaroscuro.edits import tie_priority
from chiaroscuro.gradients import Method
from chiaroscuro.metrics.intervals import SignFlips, holm

METHODS: Mapping[str, Method | None] = {
    "gradient": Method("gradient"),
    "balanced": Method("balanced"),
    "input-x-gradient": Method("input-x-gradient"),
    "input-x-balanced": Method("input-x-balanced"),
    "smoothgrad, 1 copy": Method("smoothgrad", points=1),
    "smoothgrad, 8 copies": Method("smoothgrad", points=8),
    "random order": None,
}
COMPARED = (
    ("balanced", "gradient"), ("balanced", "smoothgrad, 1 copy"),
    ("balanced", "smoothgrad, 8 copies"), ("input-x-balanced", "input-x-gradient"),
)  # fmt: skip
SIGNED = {"black": "positive", "white": "negative"}
GAIN = "gain"
COLUMNS = [(fill, name) for fill in FILLS for name in (*SHOWN[fill], GAIN)]
_FLIPS = 9999


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", required=True)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", type=Path, required=True)
    arguments = parser.parse_args()
    tune_allocator()
    chosen = arguments.network, arguments.images, arguments.seed, arguments.data_root
    work = prepare(*chosen, tuning=False)
    print(
        f"`python -m benchmarks.balanced --network {Path(chosen[0]).name} --images {chosen[1]} "
        f"--seed {chosen[2]}`: {len(work.pixels)} images, fractions to {work.fractions[-1]:g}\n"
    )
    titles = [f"{fill}: {name}" for fill, name in COLUMNS]
    print(f"| method | passes | {' | '.join(titles)} |\n|{'---|' * (len(titles) + 2)}")
    areas = {name: _measured(work, name, method) for name, method in METHODS.items()}
    print(f"\n| difference | {' | '.join(titles)} |\n|{'---|' * (len(titles) + 1)}")
    print("\n".join(_differences(areas)))


def _measured(work: Work, name: str, method: Method | None) -> dict[tuple[str, str], Floats]:
    """Areas by column (B,), and their row printed."""
    make = _random if method is None else shown_maps(work, method)
    areas: dict[tuple[str, str], Floats] = {}
    for fill in FILLS:
        by_map = areas_of(work, fill, partial(_with_reverse, make))
        areas |= {(fill, map_): by_map[map_] for map_ in SHOWN[fill]}
        areas[fill, GAIN] = by_map["reverse"] - by_map[SIGNED[fill]]
    passes = "" if method is None else method.points or 1
    cells = " | ".join(interval_text(areas[column]) for column in COLUMNS)
    print(f"| {name} | {passes} | {cells} |", flush=True)
    return areas


def _with_reverse(
    make: MakeMaps, classifier: Classifier, pixels: Tensor, target: Tensor, fill: str
) -> dict[str, Tensor]:
    maps = make(classifier, pixels, target, fill)
    return {**maps, "reverse": -maps[SIGNED[fill]]}


def _random(_: Classifier, pixels: Tensor, __: Tensor, fill: str) -> dict[str, Tensor]:
    order = tie_priority(pixels, 1).float().view_as(pixels[:, 0])
    return dict.fromkeys(SHOWN[fill], order)


def _differences(areas: Mapping[str, Mapping[tuple[str, str], Floats]]) -> list[str]:
    """The second table's rows; a star where the corrected p is below 0.05."""
    rows = [
        torch.tensor(
            [(areas[one][column] - areas[other][column]).tolist() for column in COLUMNS]
        ).double()
        for one, other in COMPARED
    ]
    every = torch.cat(rows).T.numpy()
    flips = SignFlips(every.shape[1], _FLIPS, 0)
    flips.add(every)
    stars = iter(holm(flips.p_values()) < 0.05)
    return [
        f"| {one} - {other} | "
        + " | ".join(
            interval_text(values.numpy()) + (" *" if next(stars) else "") for values in row
        )
        + " |"
        for (one, other), row in zip(COMPARED, rows, strict=True)
    ]


if __name__ == "__main__":
    main()
