"""EfficientNet-Lite0, K = 1000: ours against one retained graph and a loop, over many photos.

    python -m benchmarks.photos --data-root DIR [--photos 20] [--runs 2]     # DIR/imagenet-sample

One photo may be lucky: how many channels are off in it decides how much is left out. So this runs
20 seeded photos. Ours and the loop take turns, each in a fresh process that goes through all
photos; the loop runs 50 seeded classes, the target among them, and is scaled. The maps of the first
photos are compared before anything is timed.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.algorithms import ALGORITHMS
from benchmarks.clock import now
from benchmarks.gradients import in_process
from benchmarks.works import SEEDED, WORKS, chosen_classes, lite0

DATA = "imagenet-sample"
PHOTOS = 20
_OURS, _LOOP = "ours, allocator tuned", "loop"
_COMPARED = 3
_WORK = WORKS["lite0-224px-k1000"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path, required=True, help=f"a folder with {DATA}/")
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--worker", choices=(_OURS, _LOOP, "compare"))
    arguments = parser.parse_args()
    if arguments.worker == "compare":
        print(json.dumps(_largest_gap(arguments.data_root, arguments.photos)))
    elif arguments.worker:
        print(json.dumps(_seconds(arguments.worker, arguments.data_root, arguments.photos)))
    else:
        report = measure(arguments.data_root, arguments.runs, arguments.photos)
        print(json.dumps(report, indent=2))


def measure(root: Path, runs: int = 2, photos: int = PHOTOS) -> dict[str, Any]:
    """Seconds of both by photo, the ratios, and the largest difference of their maps."""
    command = [sys.executable, "-m", "benchmarks.photos", "--data-root", str(root)]
    command += ["--photos", str(photos), "--worker"]
    gap = in_process([*command, "compare"])["gap"]
    turns: dict[str, list[list[float]]] = {_OURS: [], _LOOP: []}
    for number in range(runs):
        # There and back, so that a machine that becomes slower does so for both.
        for name in turns if number % 2 == 0 else reversed(turns):
            turns[name].append(in_process([*command, name])["seconds"])
    seconds = {name: [statistics.median(one) for one in zip(*t, strict=True)]
               for name, t in turns.items()}  # fmt: skip
    ratios = [b / a for a, b in zip(seconds[_OURS], seconds[_LOOP], strict=True)]
    return {"ours": seconds[_OURS], "loop": seconds[_LOOP], "ratios": ratios, "gap": gap}


def _photos(root: Path, count: int) -> Iterator[tuple[nn.Module, Tensor]]:
    """The network, and the pixels of each photo in turn."""
    from chiaroscuro import load_classifier, load_images
    from chiaroscuro.data.images import read_batches

    module, _ = lite0()
    framing = load_classifier("efficientnet-lite0").framing
    for batch in read_batches(load_images(root / DATA, limit=count, seed=0), framing, 1):
        yield module, torch.from_numpy(batch.pixels[0])[None]


def _seconds(name: str, root: Path, count: int) -> dict[str, list[float]]:
    """Seconds of every photo, for all classes."""
    run = ALGORITHMS[name].run
    seconds = []
    for module, pixels in _photos(root, count):
        with torch.no_grad():
            target = module(pixels).argmax(dim=1)
        classes = chosen_classes(_WORK, SEEDED if name == _LOOP else _WORK.classes, target)
        run(module, pixels, classes[:2] if name == _LOOP else classes[::500], target)  # kernels
        start = now()
        run(module, pixels, classes, target)
        taken = now() - start
        if name == _LOOP:
            once = _forward(module, pixels)
            taken = once + (taken - once) * _WORK.classes / SEEDED
        seconds.append(taken)
    return {"seconds": seconds}


def _forward(module: nn.Module, pixels: Tensor) -> float:
    start = now()
    module(pixels.clone().requires_grad_(True))
    return now() - start


def _largest_gap(root: Path, count: int) -> dict[str, float]:
    """The largest difference of a map over its root mean square, over the first photos."""
    gaps = []
    for (module, pixels), _ in zip(_photos(root, count), range(_COMPARED), strict=False):
        with torch.no_grad():
            target = module(pixels).argmax(dim=1)
        classes = chosen_classes(_WORK, SEEDED, target)
        ours = ALGORITHMS[_OURS].run(module, pixels, classes, target)
        # Two layouts round differently, which flips a few ReLUs; ours works in this one.
        same_layout = pixels.to(memory_format=torch.channels_last)
        theirs = ALGORITHMS[_LOOP].run(module, same_layout, classes, target)
        gaps += [
            float((ours[name] - values).norm() / values.norm()) for name, values in theirs.items()
        ]
    return {"gap": max(gaps)}


if __name__ == "__main__":
    main()
