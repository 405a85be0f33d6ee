"""Ours against the published algorithm and a plain loop: ratios, memory, and equal results.

    python -m benchmarks.gradients [--runs 3] [--full] [--write]

Every run is a fresh process with its library's own defaults; algorithms take turns. At K = 1000 the
published algorithm runs 50 seeded classes and is scaled, since it is linear in them; `--full`
runs it and the loop over all classes once, to show that. Seconds differ between machines: ratios
count.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.worker import WORKS

OUT = Path(__file__).parent / "out"
PAGE = Path(__file__).parent.parent / "docs" / "results" / "speed.md"
SEEDED = 50
TARGETS = {
    "resnet18-32px-k10": {"published": 12.0},
    "lite0-224px-k1000": {"published": 8.0, "loop": 1.5},
}
_TURNS = ("ours", "ours, allocator tuned", "published", "loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", choices=WORKS, action="append")
    parser.add_argument("--write", action="store_true", help="write docs/results/speed.md")
    parser.add_argument(
        "--full", action="store_true", help="also run all classes of the rivals once"
    )
    arguments = parser.parse_args()
    console = Console()
    OUT.mkdir(exist_ok=True)
    report: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "runs": arguments.runs,
        "work": {},
    }
    for name in arguments.work or WORKS:
        found = measure(name, arguments.runs, full=arguments.full)
        report["work"][name] = found
        console.print(table(name, found))
        for note in notes(name, found):
            console.print(note)
    (OUT / "gradients.json").write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"written: {OUT / 'gradients.json'}")
    if arguments.write:
        PAGE.write_text(page(report))
        console.print(f"written: {PAGE}")


def measure(name: str, runs: int, *, full: bool) -> dict[str, Any]:
    """Seconds of every algorithm per turn, scaled to all classes; results compared first."""
    work = WORKS[name]
    differences = compare(name)
    found: dict[str, Any] = {"differences": differences, "turns": [], "one class": []}
    for _ in range(runs):
        turn = {}
        for algorithm in _TURNS:
            classes = (
                SEEDED if algorithm in ("published", "loop") and work.classes > SEEDED else None
            )
            turn[algorithm] = _scaled(_run(name, algorithm, classes), work.classes)
        found["turns"].append(turn)
        found["one class"].append(_run(name, "one class", None)["seconds"])
    if full and work.classes > SEEDED:
        found["full"] = {
            algorithm: _run(name, algorithm, None) for algorithm in ("published", "loop")
        }
    return found


def compare(name: str) -> dict[str, float]:
    """Relative root mean square difference to ours, per rival: the largest over the maps."""
    classes = min(SEEDED, WORKS[name].classes)
    with tempfile.TemporaryDirectory() as folder:
        maps = {}
        for algorithm in _TURNS:
            path = Path(folder) / f"{algorithm}.npz"
            _run(name, algorithm, classes, path)
            with np.load(path) as stored:
                maps[algorithm] = {key: stored[key] for key in stored.files}
    return {
        algorithm: max(_gap(maps["ours"][key], maps[algorithm][key]) for key in maps["ours"])
        for algorithm in _TURNS[1:]
    }


HEADS = ("algorithm", "seconds", "ours is faster by", "tuned is faster by", "peak above model")


def rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Per algorithm: median seconds, ratios to ours with their spread, and peak memory."""
    made: list[tuple[str, ...]] = []
    for algorithm in _TURNS:
        seconds = statistics.median(turn[algorithm]["seconds"] for turn in found["turns"])
        peak = max(turn[algorithm]["peak_bytes"] for turn in found["turns"])
        made.append(
            (
                algorithm,
                f"{seconds:.2f}",
                _spread(ratios(found, algorithm, "ours")),
                _spread(ratios(found, algorithm, "ours, allocator tuned")),
                f"{peak / 2**20:.0f} MiB",
            )
        )
    return made


def table(name: str, found: Mapping[str, Any]) -> Table:
    """The rows for a terminal."""
    made = Table(title=WORKS[name].title)
    for head in HEADS:
        made.add_column(head, justify="left" if head == "algorithm" else "right")
    for row in rows(found):
        made.add_row(*row)
    return made


def page(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        "# Speed",
        "",
        "All five maps in one call, against the article's published algorithm and against one "
        "retained graph with a loop over the classes. Every run is a fresh process; algorithms "
        f"take turns, {report['runs']} times; ratios are medians with minimum and maximum. "
        "Seconds differ from machine to machine, ratios less.",
        "",
        f"`python -m benchmarks.gradients --full --write` on {report['machine']}, "
        f"{report['threads']} threads, PyTorch {report['torch']}, Python {report['python']}, "
        "float32.",
    ]
    for name, found in report["work"].items():
        lines += [
            "",
            f"## {WORKS[name].title}",
            "",
            f"| {' | '.join(HEADS)} |",
            "|---|" + "---:|" * 4,
        ]
        lines += [f"| {' | '.join(row)} |" for row in rows(found)]
        lines += ["", *(f"- {note}" for note in notes(name, found))]
    lines += [
        "",
        "*Tuned* calls `chiaroscuro.allocator.tune_allocator()` first, as the command line does. "
        "The published algorithm computes each map on its own, active and inactive by a fresh "
        "forward and a full backward pass (parameter gradients included) for each class. At "
        "K = 1000 it and the loop run 50 seeded classes and are scaled; the full runs show that "
        "this is fair.",
    ]
    return "\n".join(lines) + "\n"


def ratios(found: Mapping[str, Any], slow: str, fast: str) -> list[float]:
    """How many times longer `slow` took than `fast`, turn by turn."""
    return [turn[slow]["seconds"] / turn[fast]["seconds"] for turn in found["turns"]]


def notes(name: str, found: Mapping[str, Any]) -> list[str]:
    """What stands beside the table: no straw man, equal results, goals, full runs."""
    alone = statistics.median(found["one class"])
    per_class = statistics.median(turn["published"]["per_class"] for turn in found["turns"])
    made = [
        f"published, per class: {per_class * 1e3:.1f} ms; one forward plus full backward alone: "
        f"{alone * 1e3:.1f} ms ({100 * (per_class / alone - 1):+.0f} %)"
    ]
    for rival, gap in found["differences"].items():
        made.append(f"maps of {rival} differ from ours by {gap:.1e} of their root mean square")
    for rival, goal in TARGETS[name].items():
        reached = statistics.median(ratios(found, rival, "ours"))
        made.append(f"goal {goal:g}x over {rival}: {reached:.1f}x")
    for rival, whole in found.get("full", {}).items():
        scaled = statistics.median(turn[rival]["seconds"] for turn in found["turns"])
        made.append(
            f"{rival}, all classes: {whole['seconds']:.1f} s, scaled from {SEEDED}: {scaled:.1f} s"
        )
    return made


def _run(
    name: str, algorithm: str, classes: int | None, result: Path | None = None
) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.worker", name, algorithm]
    command += ["--classes", str(classes)] if classes else []
    command += ["--result", str(result)] if result else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _scaled(run: dict[str, Any], classes: int) -> dict[str, Any]:
    """Seconds for all classes from a run on some; the published algorithm runs each class twice."""
    return {
        **run,
        "seconds": run["seconds"] * classes / run["classes"],
        "per_class": run["seconds"] / (2 * run["classes"] + 3),
    }


def _gap(ours: Any, theirs: Any) -> float:
    size = float(np.sqrt(np.square(theirs, dtype=np.float64).mean()))
    return float(np.sqrt(np.square(np.subtract(ours, theirs, dtype=np.float64)).mean())) / size


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}x ({min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    main()
