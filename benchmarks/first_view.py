"""Which view of a photo can be believed: maps by stability under noise, and by what they cost.

    python -m benchmarks.first_view --data-root DIR [--photos 32] [--rows FILE]

EfficientNet-Lite0, the predicted class. Each view is a map (method, rivals, Gaussian) or the
regions of an explanation's evidence. Stability: the rank correlation with the view of the photo
with noise of 0.02. Cost: what the class loses of its probability when the view's highest 5 % of the
pixels become black, or blurred. Controls: random orders, random orders of smoothed noise, and the
distance from the middle. Intervals are percentiles of a bootstrap over photos. A line of `--rows`
is one photo; photos that are there already are kept.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import describe
from chiaroscuro import Classifier, class_gradients, edit_map, load_classifier, load_images
from chiaroscuro.choices import RivalRule
from chiaroscuro.data.images import read_batches
from chiaroscuro.edits import filled, noisy, pixel_order, tie_priority
from chiaroscuro.explanations.evidence import (
    CHANGE,
    EFFORTS,
    NOISE,
    SHARE,
    Explained,
    cells_of,
    region_evidence,
)
from chiaroscuro.gradients import Method, Points, target_gradients
from chiaroscuro.maps import saliency_maps
from chiaroscuro.metrics.agreement import average_ranks, ranks_correlation, top_count
from chiaroscuro.metrics.deletion import Edit, predict_edits
from chiaroscuro.metrics.intervals import BootstrapMeans
from chiaroscuro.render.pictures import smooth
from chiaroscuro.units import units

DATA = "imagenet-sample"
FILLS = ("black", CHANGE)
WIDTHS = (0.0, 0.02, 0.04)
"""Gaussians over a map, in shorter sides."""
GRADIENTS: dict[str, tuple[str | Method, str, tuple[str, ...]]] = {
    "gradient, all rivals": ("gradient", "all", ("original", "positive", "active")),
    "gradient, top:10": ("gradient", "top:10", ("active", "margin")),
    "gradient, softmax": ("gradient", "softmax", ("margin",)),
    "smoothgrad 16, top:10": (
        Method("smoothgrad", 16),
        "top:10",
        ("original", "positive", "active", "margin"),
    ),
    "input-x-gradient, top:10": ("input-x-gradient", "top:10", ("positive",)),
}
"""By name: method, rivals and maps."""
T = TypeVar("T")
View = tuple[Tensor, float]
"""A map (1, H, W), and the seconds it took."""
Row = dict[str, dict[str, float]]
"""Figures of one photo by view."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path, required=True, help=f"a folder with {DATA}/")
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--rows", type=Path, default=Path(__file__).parent / "out/first_view.jsonl")
    arguments = parser.parse_args()
    rows = [*measure(arguments.data_root, arguments.photos, arguments.rows)]
    print(table(rows))
    print(f"\n{len(rows)} photos, seed 0. {describe()}")


def measure(root: Path, count: int, file: Path) -> Iterator[Row]:
    """The figures of each photo; those in the file are read from there, others are added to it."""
    file.parent.mkdir(exist_ok=True)
    known = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    yield from known[:count]
    classifier = load_classifier("efficientnet-lite0")
    photos = load_images(root / DATA, limit=count, seed=0)
    for number, batch in enumerate(read_batches(photos, classifier.framing, 1)):
        if number < len(known):
            continue
        row = figures(classifier, torch.from_numpy(batch.pixels[0])[None])
        with file.open("a") as lines:
            lines.write(f"{json.dumps(row)}\n")
        yield row


def figures(classifier: Classifier, pixels: Tensor) -> Row:
    """Seconds, stability and costs of every view of one photo (1, C, H, W)."""
    with torch.no_grad():
        logits = classifier(pixels)
    target = int(logits.argmax())
    views = dict(views_of(classifier, pixels, target))
    moved = dict(views_of(classifier, noisy(pixels, NOISE, draw=1), target))
    row = {}
    for name, (values, seconds) in views.items():
        ranks = [average_ranks(each.flatten(1)) for each in (values, moved[name][0])]
        row[name] = {"seconds": seconds, "stability": float(ranks_correlation(*ranks))}
    priority = tie_priority(pixels)
    count = torch.tensor([[top_count(priority.shape[1], SHARE)]])
    edits = [Edit(pixel_order(values, priority), count) for values, _ in views.values()]
    for fill in FILLS:
        clean, results = predict_edits(classifier, pixels, filled(pixels, fill), edits)
        before = float(clean.softmax(1)[0, target])
        for name, result in zip(views, results, strict=True):
            row[name][fill] = before - float(result.logits[0, 0].softmax(0)[target])
    return row


def views_of(classifier: Classifier, pixels: Tensor, target: int) -> Iterator[tuple[str, View]]:
    """Every view by name."""
    side = min(pixels.shape[2:])
    for name, (method, rivals, maps) in GRADIENTS.items():
        start = time.perf_counter()
        gradients = class_gradients(classifier, pixels, target, rivals, method)
        found = saliency_maps(gradients, maps)
        taken = time.perf_counter() - start
        for own, values in found.items():
            for width in WIDTHS:
                soft = torch.from_numpy(smooth(values[0].numpy(), width * side))[None]
                yield f"{name}: {own}, {width:g}", (soft, taken)
    values, taken = timed(
        lambda: edit_map(classifier, pixels, "black", "partial-edit", target=target)
    )
    for width in WIDTHS:
        soft = torch.from_numpy(smooth(values[0].numpy(), width * side))[None]
        yield f"partial-edit 16 for black, {width:g}", (soft, taken)
    costs, taken = timed(lambda: regions(classifier, pixels, target))
    yield "regions, changed one by one", (costs[0], taken)
    yield "regions, as the gradient predicts", (costs[1], taken)
    noise = tie_priority(pixels, 1000).view_as(pixels[:, 0]).double()
    yield "control: random order", (noise, 0.0)
    soft = torch.from_numpy(smooth(noise[0].numpy(), 0.02 * side))[None]
    yield "control: random order, smoothed", (soft, 0.0)
    y, x = np.indices(pixels.shape[2:]) / side - 0.5
    yield "control: near the middle", (torch.from_numpy(-(x**2 + y**2))[None], 0.0)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the seconds that it takes."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def regions(classifier: Classifier, pixels: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Maps (1, H, W) of what each region costs: actually, and as the gradient predicts."""
    asked = Explained(classifier, pixels, {}, target, RivalRule(), "gradient", "logit")
    with torch.no_grad():
        logits = classifier(pixels)
    ids = units(pixels, cells_of(pixels, EFFORTS["quick"].across))
    point = Points(pixels[None], pixels.new_ones(1, 1))
    gradient = target_gradients(classifier, point, target, "logit")
    found, _ = region_evidence(asked, ids, gradient, logits)
    actual, predicted = torch.zeros(2, len(found), dtype=torch.double)
    for one in found:
        actual[one.unit], predicted[one.unit] = -one.change, -one.predicted
    return actual[ids], predicted[ids]


def table(rows: list[Row]) -> str:
    """Means with intervals by view, the most stable first."""
    columns = ("stability", *FILLS)
    lines = [f"| view | s | stability | {' | '.join(f'cost, {fill}' for fill in FILLS)} |"]
    lines.append("|---|---:|---|---|---|")
    means = {}
    for name in rows[0]:
        found = BootstrapMeans(len(columns), 2000, 0)
        found.add(np.array([[row[name][column] for column in columns] for row in rows]))
        ends = found.interval()
        seconds = float(np.median([row[name]["seconds"] for row in rows]))
        cells = [
            f"{scale * ends.value[i]:.{digits}f} "
            f"[{scale * ends.low[i]:.{digits}f}, {scale * ends.high[i]:.{digits}f}]"
            for i, (scale, digits) in enumerate([(1, 2), (100, 1), (100, 1)])
        ]
        means[name] = (ends.value[0], f"| {name} | {seconds:.2f} | {' | '.join(cells)} |")
    ranked = sorted(means.values(), key=lambda pair: -pair[0])
    return "\n".join([*lines, *(line for _, line in ranked)])


if __name__ == "__main__":
    main()
