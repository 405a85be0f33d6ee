"""`evaluate` against the paper's published procedure: same images, maps, fills and fractions.

    python -m benchmarks.deletion [--data-root DIR] [--images 1000] [--runs 3]
    python -m benchmarks.deletion --memory          # peak at 1,000 and at 10,000 images

Both run the packaged CIFAR-10 network, all five maps, black and white, 13 fractions, each in a
fresh process; they take turns, libraries loaded before. The published procedure has its images
decoded before its time starts; it has five explainers (a forward and a full backward per class for
active and inactive) and predicts 130 edited images a picture, in batches of 128. Ours is all of
`evaluate` in the paper protocol: decoding, maps, deletion, rows on disk, intervals, figures and
page. The curves are compared first.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.algorithms import published
from benchmarks.clock import peak_above
from benchmarks.gradients import in_process

BATCH = 128
FILLS = {"black": 0.0, "white": 1.0}
RATE_BATCHES = (16, 32, 64, 128, 256, 512, 1024)
_SECONDS = 0.5
WHOLE = 10_000
"""Images of the test set: opening, figures and page count for less there."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path, help="a folder with cifar10/")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--worker", choices=_WORKERS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.worker:
        work = _WORKERS[arguments.worker]
        print(json.dumps(work(arguments.images, arguments.data_root, arguments.out)))
        return
    if arguments.memory:
        for count in (1000, WHOLE):
            peak = in_turn("ours", count, arguments.data_root)["peak_bytes"]
            print(f"{count:6,} images: {peak / 2**20:.0f} MiB above the loaded model")
        return
    report = measure(arguments.images, arguments.runs, arguments.data_root)
    print(json.dumps(report, indent=2))


def measure(images: int, runs: int, root: Path | None) -> dict[str, Any]:
    """Both in turn, their curves compared, and what evaluation's parts reach."""
    turns = []
    gaps = []
    for _ in range(runs):
        turn, curves = {}, {}
        for worker in ("published", "ours"):
            answer = in_turn(worker, images, root)
            turn[worker] = answer["seconds"]
            curves[worker] = np.array(answer["curves"])
        turns.append(turn)
        gaps.append(float(np.abs(curves["ours"] - curves["published"]).max()))
    parts = [in_turn("parts", images, root) for _ in range(runs)]
    bare = [part["gradients"] + part["edited"] / part["best_rate"] for part in parts]
    whole = in_turn("ours", WHOLE, root)["seconds"]
    scale = WHOLE / images
    return {
        "images": images,
        "turns": turns,
        "ratios": [turn["published"] / turn["ours"] for turn in turns],
        "largest_gap": max(gaps),
        "edited": parts[0]["edited"],
        "parts": parts,
        "prediction_share": [p["edited"] / p["deletion"] / p["best_rate"] for p in parts],
        "over_bare": [turn["ours"] / sum_ for turn, sum_ in zip(turns, bare, strict=True)],
        "bare": statistics.median(bare),
        "whole": {
            "images": WHOLE,
            "seconds": whole,
            "over_bare": whole / (scale * statistics.median(bare)),
            "ratio": scale * statistics.median(turn["published"] for turn in turns) / whole,
        },
    }


def in_turn(worker: str, images: int, root: Path | None) -> dict[str, Any]:
    """One worker in a process of its own; what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.deletion", "--worker", worker]
        command += ["--images", str(images), "--out", str(Path(folder) / "out")]
        command += ["--data-root", str(root)] if root else []
        return in_process(command)


def run_ours(images: int, root: Path | None, out: Path) -> dict[str, object]:
    """All of `evaluate`, as the command line runs it."""
    from chiaroscuro import load_classifier
    from chiaroscuro.allocator import tune_allocator
    from chiaroscuro.evaluation import evaluate

    tune_allocator()
    for name in ("datasets", "pyarrow.parquet", "matplotlib.pyplot"):
        import_module(name)  # as the published procedure's imports, before its time starts
    classifier = load_classifier("cifar10-cnn")
    with peak_above() as usage:
        result = evaluate(
            classifier, "cifar10", out, limit=images, protocols=("paper",), data_root=root
        )
    curves = {(c.map, c.fill): list(c.allegiance.mean) for c in result.curves}
    return {
        "seconds": usage["seconds"],
        "peak_bytes": usage["peak"],
        "curves": [curves[name, fill] for fill in FILLS for name in result.settings.maps],
    }


def run_published(images: int, root: Path | None, _: Path) -> dict[str, object]:
    """The published procedure on decoded images."""
    from chiaroscuro import load_classifier

    module = load_classifier("cifar10-cnn").module.eval()
    pixels = torch.cat(_decoded(images, root, BATCH))
    _published_batch(module, pixels[:2])  # kernels chosen
    start = time.perf_counter()
    kept = [_published_batch(module, batch) * len(batch) for batch in torch.split(pixels, BATCH)]
    seconds = time.perf_counter() - start
    curves = (np.sum(kept, axis=0) / len(pixels)).tolist()
    return {"seconds": seconds, "peak_bytes": 0, "curves": curves}


def run_parts(images: int, root: Path | None, _: Path) -> dict[str, object]:
    """Seconds of gradients and of deletion on decoded batches, and the best bare forward's rate."""
    from chiaroscuro import class_gradients, load_classifier, saliency_maps
    from chiaroscuro.allocator import tune_allocator
    from chiaroscuro.choices import PAPER_FRACTIONS, PAPER_MAPS
    from chiaroscuro.metrics import curves_by_fill

    tune_allocator()
    classifier = load_classifier("cifar10-cnn")
    module = classifier.module.eval()
    edited, gradients, deletion = 0, 0.0, 0.0
    batches = _decoded(images, root, 256)
    class_gradients(classifier, batches[0][:2])  # kernels chosen

    def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal edited
        edited += len(inputs[0])

    for pixels in batches:
        start = time.perf_counter()
        batch = class_gradients(classifier, pixels)
        gradients += time.perf_counter() - start
        maps = saliency_maps(batch, PAPER_MAPS)
        hook = module.register_forward_pre_hook(count)
        start = time.perf_counter()
        curves_by_fill(
            classifier, pixels, maps, list(FILLS), PAPER_FRACTIONS, ["paper"], target=batch.target
        )
        deletion += time.perf_counter() - start
        hook.remove()
    return {
        "edited": edited,
        "gradients": gradients,
        "deletion": deletion,
        "best_rate": best_rate(module, batches[0]),
    }


def best_rate(module: nn.Module, pixels: Tensor) -> float:
    """Images per second of a bare forward pass, over batch sizes and both layouts."""
    best = 0.0
    for layout in (torch.contiguous_format, torch.channels_last):
        for size in RATE_BATCHES:
            batch = pixels.repeat(-(-size // len(pixels)), 1, 1, 1)[:size]
            best = max(best, _rate(module, batch.contiguous(memory_format=layout)))
    return best


@torch.no_grad()
def _rate(module: nn.Module, batch: Tensor) -> float:
    module(batch)
    times: list[float] = []
    while sum(times) < _SECONDS:
        start = time.perf_counter()
        module(batch)
        times.append(time.perf_counter() - start)
    return len(batch) / statistics.median(times)


def _published_batch(module: nn.Module, pixels: Tensor) -> NDArray[np.float64]:
    """Allegiance (maps x fills, fractions) of one batch."""
    from chiaroscuro.choices import PAPER_FRACTIONS, PAPER_MAPS

    with torch.no_grad():
        predicted = module(pixels).argmax(dim=1)
    maps = published(module, pixels, range(10), predicted)
    rows = []
    for fill in FILLS.values():
        for name in PAPER_MAPS:
            low, high = (
                maps[name].amin(dim=(1, 2), keepdim=True),
                maps[name].amax(dim=(1, 2), keepdim=True),
            )
            scaled = (maps[name] - low) / (high - low)
            rows.append(
                [_kept(module, pixels, scaled, p, fill, predicted) for p in PAPER_FRACTIONS]
            )
    return np.array(rows)


def _kept(
    module: nn.Module, pixels: Tensor, scaled: Tensor, share: float, fill: float, predicted: Tensor
) -> float:
    falling = scaled.flatten(1).sort(dim=1, descending=True).values
    threshold = falling[:, round(share * falling.shape[1])]
    mask = scaled > threshold[:, None, None]
    edited = torch.where(mask[:, None], fill, pixels)
    with torch.no_grad():
        return float((module(edited).argmax(dim=1) == predicted).float().mean())


def _decoded(images: int, root: Path | None, size: int) -> list[Tensor]:
    from chiaroscuro import load_classifier
    from chiaroscuro.data.images import read_batches
    from chiaroscuro.data.loading import load_images

    framing = load_classifier("cifar10-cnn").framing
    rows = load_images("cifar10", "test", images, seed=0, root=root)
    return [torch.from_numpy(np.stack(batch.pixels)) for batch in read_batches(rows, framing, size)]


_WORKERS = {"ours": run_ours, "published": run_published, "parts": run_parts}

if __name__ == "__main__":
    main()
