"""Edit maps: tuned on training images, reported on test images.

    python -m benchmarks.edit_maps tune --network cifar10-cnn --images 400
    python -m benchmarks.edit_maps report --network cifar10-cnn --images 1000
    python -m benchmarks.edit_maps scores --network cifar10-cnn --images 300
    python -m benchmarks.edit_maps report --network efficientnet-lite0 --images 32

`tune` tries the schedules of `benchmarks.edit_search`, `report` compares the kept one with every
other order, `scores` computes scores that the map does not optimize. Networks of 32 px take
CIFAR-10 (`tune` its training split, the others its test split), photo networks `imagenet-sample`
(`tune` the even rows, the others the odd ones). `--data-root` is the folder that holds both.
Intervals are 95 % bootstrap intervals over images.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import edit_scores
from benchmarks.edit_search import TO_BEAT, TRIALS, Trial, run_trial
from chiaroscuro import (
    Classifier,
    class_gradients,
    edit_map,
    load_classifier,
    load_images,
    saliency_maps,
)
from chiaroscuro.allocator import tune_allocator
from chiaroscuro.choices import PAPER_FRACTIONS, PAPER_MAPS
from chiaroscuro.data.images import read_batches
from chiaroscuro.edits import filled, image_seeds, tie_priority
from chiaroscuro.maps import Question
from chiaroscuro.metrics import curves_by_fill
from chiaroscuro.metrics.intervals import BootstrapMeans

FILLS = ("black", "white")
FINE = (0.005, 0.01, 0.015, 0.02)
"""Fractions below the protocol's first, which tell schedules apart that reach its floor."""
PHOTO_END = 0.4
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Work:
    """A network with its images, their predicted classes, and the fractions that are deleted."""

    classifier: Classifier
    pixels: Tensor
    target: Tensor
    fractions: tuple[float, ...]
    by_range: bool
    batch: int

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and classes, as many as are explained together."""
        parts = (torch.split(values, self.batch) for values in (self.pixels, self.target))
        yield from zip(*parts, strict=True)


MakeMaps = Callable[[Classifier, Tensor, Tensor, str], Mapping[str, Tensor]]
"""(classifier, pixels, target, fill) to maps by name."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=["tune", "report", "scores"])
    parser.add_argument("--network", default="cifar10-cnn")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="trials to tune, by name")
    arguments = parser.parse_args()
    tune_allocator()
    torch.manual_seed(0)
    work = prepare(
        arguments.network, arguments.images, arguments.seed, arguments.data_root,
        tuning=arguments.task == "tune",
    )  # fmt: skip
    network = Path(arguments.network).name
    command = f"{arguments.task} --network {network} --images {arguments.images}"
    divided = ", divided by it" if work.by_range else ""
    print(
        f"`python -m benchmarks.edit_maps {command} --seed {arguments.seed}`: {len(work.pixels)} "
        f"images, fractions to {work.fractions[-1]:g}{divided}\n"
    )
    if arguments.task == "tune":
        tune(work, arguments.only or list(TRIALS))
    elif arguments.task == "report":
        report(work)
    else:
        edit_scores.report(work.classifier, work.pixels, work.target, work.batch)


def prepare(network: str, count: int, seed: int, root: Path, *, tuning: bool) -> Work:
    classifier = load_classifier(network)
    small = classifier.size == (32, 32)
    if small:
        rows = load_images("cifar10", "train" if tuning else "test", count, seed, root)
    else:
        rows = load_images(str(root / "imagenet-sample"), "validation")
    batches = read_batches(rows, classifier.framing, 256)
    pixels = torch.from_numpy(np.concatenate([np.stack(batch.pixels) for batch in batches]))
    if not small:
        pixels = pixels[(0 if tuning else 1) :: 2][:count]
    with torch.no_grad():
        target = torch.cat([classifier(part) for part in torch.split(pixels, 32)]).argmax(dim=1)
    fractions = tuple(f for f in PAPER_FRACTIONS if small or f <= PHOTO_END)
    if tuning:
        fractions = tuple(sorted({*fractions, *FINE}))
    return Work(classifier, pixels, target, fractions, not small, 250 if small else 4)


def tune(work: Work, names: list[str]) -> None:
    """The area of every trial, with the fine fractions and without."""
    plain = [f not in FINE for f in work.fractions]
    print("| trial | black | white | mean | mean without fine fractions | passes | s |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        start = time.perf_counter()
        kept = [_kept(work, fill, _trial_maps(TRIALS[name]))["map"] for fill in FILLS]
        fine = [_areas(k, work.fractions, by_range=work.by_range).mean() for k in kept]
        coarse = [
            _areas(k[:, plain], np.array(work.fractions)[plain], by_range=work.by_range).mean()
            for k in kept
        ]
        print(
            f"| {name} | {fine[0]:.4f} | {fine[1]:.4f} | {np.mean(fine):.4f} | "
            f"{np.mean(coarse):.4f} | {TRIALS[name].points} | "
            f"{time.perf_counter() - start:.0f} |",
            flush=True,
        )


def _trial_maps(trial: Trial) -> MakeMaps:
    def maps(
        classifier: Classifier, pixels: Tensor, target: Tensor, fill: str
    ) -> dict[str, Tensor]:
        return {"map": _asked(classifier, pixels, target, fill, trial)}

    return maps


def _asked(
    classifier: Classifier, pixels: Tensor, target: Tensor, fill: str, trial: Trial
) -> Tensor:
    changed = filled(pixels, fill)
    seeds = image_seeds(pixels, 0)
    return run_trial(Question(classifier, pixels, changed, target, trial.points, seeds), trial)


def report(work: Work) -> None:
    """Every order's area in black and white, with its interval and its share of original's."""
    areas = {fill: areas_of(work, fill, _every_map) for fill in FILLS}
    print("| order | black | of original | white | of original |\n|---|---|---|---|---|")
    for name in areas["black"]:
        cells = []
        for fill in FILLS:
            share = areas[fill][name].mean() / areas[fill]["original"].mean()
            cells += [interval_text(areas[fill][name]), f"{share:.3f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def areas_of(work: Work, fill: str, make: MakeMaps) -> dict[str, Floats]:
    """The area of every image's curve (B,), by map."""
    return {
        name: _areas(kept, work.fractions, by_range=work.by_range)
        for name, kept in _kept(work, fill, make).items()
    }


def _every_map(
    classifier: Classifier, pixels: Tensor, target: Tensor, fill: str
) -> dict[str, Tensor]:
    many = classifier(pixels[:1]).shape[1] > 100
    gradients = class_gradients(classifier, pixels, target, "top:10" if many else "all")
    maps = {"random": tie_priority(pixels, 1).float().view_as(pixels[:, 0])}
    maps |= saliency_maps(gradients, PAPER_MAPS)
    maps["expected-effect"] = edit_map(classifier, pixels, fill, target=target)
    for name, trial in TO_BEAT.items():
        maps[name] = _asked(classifier, pixels, target, fill, trial)
    maps["partial-edit"] = edit_map(classifier, pixels, fill, "partial-edit", target=target)
    return maps


def _kept(work: Work, fill: str, make: MakeMaps) -> dict[str, NDArray[np.bool_]]:
    """Allegiance (B, F) of every order in the matched protocol."""
    parts: dict[str, list[NDArray[np.bool_]]] = {}
    for pixels, target in work.batches():
        maps = make(work.classifier, pixels, target, fill)
        curves = curves_by_fill(
            work.classifier, pixels, maps, [fill], work.fractions, ["matched"],
            target=target, controls=False,
        )[fill]  # fmt: skip
        for name in maps:
            parts.setdefault(name, []).append(curves["matched", name].allegiance.numpy())
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def _areas(
    kept: NDArray[np.bool_], fractions: tuple[float, ...] | Floats, *, by_range: bool
) -> Floats:
    areas: Floats = np.asarray(np.trapezoid(kept.astype(float), fractions, axis=-1))
    return areas / (fractions[-1] - fractions[0]) if by_range else areas


def interval_text(values: Floats) -> str:
    """A mean with its 95 % interval over images."""
    means = BootstrapMeans(1, 1000, 0)
    means.add(values[:, None])
    interval = means.interval()
    return f"{interval.value[0]:.3f} [{interval.low[0]:.3f}, {interval.high[0]:.3f}]"


if __name__ == "__main__":
    main()
