"""Every gradient method's maps by deletion: what the split by sign and rivals does to each.

    python -m benchmarks.methods --network cifar10-cnn --images 1000 --data-root DIR
    python -m benchmarks.methods --network efficientnet-lite0 --images 32 --data-root DIR

Images and fractions as in `benchmarks.edit_maps report`; the matched protocol, so that every map
takes the same number of pixels. Expected gradients begin from 64 images that are not measured,
drawn from the training split, or the even rows of `imagenet-sample`. Methods that fail on a network
are listed with their reason. Intervals are 95 % bootstrap intervals over images.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.edit_maps import FILLS, MakeMaps, Work, areas_of, interval_text, prepare
from chiaroscuro import Classifier, class_gradients, saliency_maps
from chiaroscuro.allocator import tune_allocator
from chiaroscuro.choices import METHODS, PAPER_MAPS
from chiaroscuro.edits import tie_priority
from chiaroscuro.errors import ChiaroscuroError
from chiaroscuro.gradients import Method

SHOWN = {
    "black": ("original", "positive", "active"),
    "white": ("original", "negative", "inactive"),
}
"""Maps by fill: whose pixels the fill takes in the direction that harms."""
_BACKGROUND = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="cifar10-cnn")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=list(METHODS), help="some methods")
    arguments = parser.parse_args()
    tune_allocator()
    torch.manual_seed(0)
    chosen = arguments.network, arguments.images, arguments.seed, arguments.data_root
    work = prepare(*chosen, tuning=False)
    others = prepare(chosen[0], _BACKGROUND, *chosen[2:], tuning=True).pixels
    divided = ", divided by it" if work.by_range else ""
    print(
        f"`python -m benchmarks.methods --network {Path(chosen[0]).name} --images {chosen[1]} "
        f"--seed {chosen[2]}`: {len(work.pixels)} images, fractions to "
        f"{work.fractions[-1]:g}{divided}\n"
    )
    columns = [f"{fill}: {name}" for fill, names in SHOWN.items() for name in names]
    print(f"| method | {' | '.join(columns)} | s |\n|{'---|' * (len(columns) + 2)}")
    for name in arguments.only or METHODS:
        print(_row(work, name, others), flush=True)
    print(_random_row(work), flush=True)


def _row(work: Work, name: str, others: Tensor) -> str:
    method = Method(name, background=others if METHODS[name].background else None)
    maps = shown_maps(work, method)
    start = time.perf_counter()
    try:
        cells = [
            interval_text(values)
            for fill in FILLS
            for values in areas_of(work, fill, maps).values()
        ]
    except ChiaroscuroError as error:
        return f"| {name} | fails: {error} |"
    return f"| {name} | {' | '.join(cells)} | {time.perf_counter() - start:.0f} |"


def shown_maps(work: Work, method: Method) -> MakeMaps:
    """The method's maps of `SHOWN`, computed once for every fill."""
    many = work.classifier(work.pixels[:1]).shape[1] > 100
    maps_at: dict[int, Mapping[str, Tensor]] = {}

    def maps(
        classifier: Classifier, pixels: Tensor, target: Tensor, fill: str
    ) -> Mapping[str, Tensor]:
        place = pixels.data_ptr()  # of a batch; its maps are the same for every fill
        if place not in maps_at:
            gradients = class_gradients(
                classifier, pixels, target, "top:10" if many else "all", method
            )
            maps_at[place] = saliency_maps(gradients, PAPER_MAPS)
        return {map_: maps_at[place][map_] for map_ in SHOWN[fill]}

    return maps


def _random_row(work: Work) -> str:
    """The control: it has no map, so it stands in the first column of each fill."""

    def maps(_: Classifier, pixels: Tensor, target: Tensor, fill: str) -> Mapping[str, Tensor]:
        return {"random": tie_priority(pixels, 1).float().view_as(pixels[:, 0])}

    black, white = (interval_text(areas_of(work, fill, maps)["random"]) for fill in FILLS)
    return f"| random order | {black} | | | {white} | | | |"


if __name__ == "__main__":
    main()
