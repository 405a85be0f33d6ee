"""`evaluate` against the article's published procedure: same images, maps, fills and fractions.

    python -m benchmarks.deletion [--data-root DIR] [--images 1000] [--runs 3] [--write]
    python -m benchmarks.deletion --memory          # peak at 1,000 and at 10,000 images

Both run the packaged CIFAR-10 network, all five maps, black and white, 13 fractions, each in a
fresh process; they take turns. The published procedure has its images decoded before its time
starts; it has five explainers (a forward and a full backward per class for active and inactive) and
predicts 130 edited images a picture, in batches of 128. Ours is all of `evaluate` in the paper
protocol: decoding, maps, deletion, rows on disk, intervals, figures and page. The curves are
compared first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.algorithms import published
from benchmarks.worker import peak_above

BATCH = 128
FILLS = {"black": 0.0, "white": 1.0}
GOAL = 3.0
PAGE = Path(__file__).parent.parent / "docs" / "results" / "deletion-speed.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path, help="a folder with cifar10/")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--worker", choices=["ours", "published"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.worker:
        work = run_ours if arguments.worker == "ours" else run_published
        print(json.dumps(work(arguments.images, arguments.data_root, arguments.out)))
        return
    if arguments.memory:
        counts = [1000, 10_000]
        peaks = [in_turn("ours", n, arguments.data_root)["peak_bytes"] for n in counts]
        for count, peak in zip(counts, peaks, strict=True):
            print(f"{count:6,} images: {peak / 2**20:.0f} MiB above the loaded model")
        return
    lines = compare(arguments.images, arguments.runs, arguments.data_root)
    print("\n".join(lines))
    if arguments.write:
        PAGE.write_text("# Speed of deletion\n\n" + "\n".join(lines) + "\n")


def compare(images: int, runs: int, root: Path | None) -> list[str]:
    """Curves compared, then both in turn; the lines of the page."""
    found: dict[str, list[float]] = {"ours": [], "published": []}
    gaps = []
    for _ in range(runs):
        curves = {}
        for worker in ("published", "ours"):
            with tempfile.TemporaryDirectory() as folder:
                told = in_turn(worker, images, root, Path(folder) / "out")
            found[worker].append(float(told["seconds"]))
            curves[worker] = np.array(told["curves"])
        gaps.append(float(np.abs(curves["ours"] - curves["published"]).max()))
    ratios = [p / o for p, o in zip(found["published"], found["ours"], strict=True)]
    return [
        f"{images:,} CIFAR-10 test images, the packaged `cifar10-cnn`, five maps, two fills, 13 "
        f"fractions; {torch.get_num_threads()} threads, PyTorch {torch.__version__}, {runs} turns, "
        "medians (smallest to largest).",
        "",
        "| procedure | seconds | images/s |",
        "|---|---:|---:|",
        *(
            f"| {name} | {statistics.median(s):.1f} ({min(s):.1f}-{max(s):.1f}) | "
            f"{images / statistics.median(s):.1f} |"
            for name, s in found.items()
        ),
        "",
        f"- `evaluate` is faster by {statistics.median(ratios):.1f}x "
        f"({min(ratios):.1f}-{max(ratios):.1f}); goal {GOAL:.0f}x",
        f"- largest difference between the 10 mean curves: {max(gaps):.4f} of an allegiance 0..1",
        "",
        f"`python -m benchmarks.deletion --images {images} --runs {runs} --write`",
    ]


def in_turn(
    worker: str, images: int, root: Path | None, out: Path | None = None
) -> dict[str, float]:
    """One worker in a process of its own; what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.deletion", "--worker", worker]
        command += ["--images", str(images), "--out", str(out or Path(folder) / "out")]
        command += ["--data-root", str(root)] if root else []
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def run_ours(images: int, root: Path | None, out: Path) -> dict[str, object]:
    """All of `evaluate`, as the command line runs it."""
    from chiaroscuro import load_classifier
    from chiaroscuro.allocator import tune_allocator
    from chiaroscuro.runs import EvaluationSettings, evaluate

    tune_allocator()
    classifier = load_classifier("cifar10-cnn")
    settings = EvaluationSettings("cifar10", "cifar10-cnn", limit=images, protocols=("paper",))
    with peak_above() as found:
        summary = evaluate(classifier, settings, out, data_root=root)
    curves = {(c["map"], c["fill"]): c["allegiance"]["mean"] for c in summary["curves"]}
    return {
        "seconds": found["seconds"],
        "peak_bytes": found["peak"],
        "curves": [curves[name, fill] for fill in FILLS for name in summary["choices"]["maps"]],
    }


def run_published(images: int, root: Path | None, _: Path) -> dict[str, object]:
    """The published procedure on decoded images."""
    from chiaroscuro import load_classifier

    classifier = load_classifier("cifar10-cnn")
    module = classifier.module.eval()
    pixels = torch.from_numpy(_decoded(images, root))
    start = time.perf_counter()
    kept = [_published_batch(module, batch) * len(batch) for batch in torch.split(pixels, BATCH)]
    seconds = time.perf_counter() - start
    curves = (np.sum(kept, axis=0) / len(pixels)).tolist()
    return {"seconds": seconds, "peak_bytes": 0, "curves": curves}


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


def _decoded(images: int, root: Path | None) -> NDArray[np.float32]:
    from chiaroscuro import load_classifier
    from chiaroscuro.data import load_images, read_batches

    framing = load_classifier("cifar10-cnn").framing
    rows = load_images("cifar10", "test", images, seed=0, root=root)
    return np.concatenate([np.stack(batch.pixels) for batch in read_batches(rows, framing, 256)])


if __name__ == "__main__":
    main()
