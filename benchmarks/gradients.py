"""All five maps by ours and by every rival, in turn, each run in a fresh process.

At K = 1000 the rivals run 50 seeded classes and are scaled by their backward passes, since they are
linear in them; `full` runs the published algorithm and the loop once over all classes.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.algorithms import OURS, RIVALS, algorithm
from benchmarks.works import SEEDED, WORKS

CHUNKS = {True: (1, 5, 20, 50), False: (1, 2, 5, 10)}
"""Classes at a time that jacrev may choose from, for many classes and for few."""
BASIS_CLASSES = {"resnet18-224px-k1000": 600}
"""Where a few seeded classes would not go the way that all of them go: compare on more."""
FULL = "lite0-224px-k1000"

Log = Callable[[str], object]


def measure(name: str, runs: int, device: str, *, full: bool, log: Log) -> dict[str, Any]:
    """Seconds of every algorithm, turn by turn; jacrev's chunk chosen and results compared first.

    Seconds are for all classes, whatever was run.
    """
    work = WORKS[name]
    chunk, tried = best_chunk(name, device)
    log(f"{work.title}: jacrev takes {chunk} classes at a time")
    measured: dict[str, Any] = {
        "chunk": chunk,
        "chunks": tried,
        "differences": compare(name, device, chunk),
        "turns": [],
        "one class": [],
    }
    order = list(_algorithms(device))
    for number in range(runs):
        turn = {}
        # There and back, so that a machine that becomes slower does so for everyone.
        for chosen in order if number % 2 == 0 else reversed(order):
            turn[chosen] = run(name, chosen, device, chunk, _classes(name, chosen))
        measured["turns"].append(turn)
        measured["one class"].append(_work(name, "one class", device)["seconds"])
        log(
            f"  turn {number + 1}: " + ", ".join(f"{k} {v['seconds']:.2f}" for k, v in turn.items())
        )
    if full and name == FULL:
        measured["full"] = {
            rival: run(name, rival, device, None, None) for rival in ("published", "loop")
        }
    return measured


def best_chunk(name: str, device: str) -> tuple[int, dict[int, float]]:
    """The number of classes at a time with which jacrev is fastest, and the seconds of each.

    Each is tried on the way there and on the way back, and the better time counts: one slow moment
    must not choose a slow chunk for the rival.
    """
    classes = _classes(name, "jacrev")
    chunks = CHUNKS[WORKS[name].is_large]
    tried = dict.fromkeys(chunks, math.inf)
    for chunk in (*chunks, *reversed(chunks)):
        seconds = float(run(name, "jacrev", device, chunk, classes)["seconds"])
        tried[chunk] = min(tried[chunk], seconds)
    return min(tried, key=tried.__getitem__), tried


def compare(name: str, device: str, chunk: int) -> dict[str, float]:
    """Difference to ours over the root mean square, per rival: the largest over the maps."""
    count = min(SEEDED, WORKS[name].classes)
    with tempfile.TemporaryDirectory() as folder:
        maps = {
            chosen: _maps(name, chosen, device, chunk, count, Path(folder))
            for chosen in _algorithms(device)
        }
        gaps = {other: _gap(maps["ours"], maps[other]) for other in maps if other != "ours"}
        if more := BASIS_CLASSES.get(name):
            mine, theirs = (
                _maps(name, chosen, device, chunk, more, Path(folder))
                for chosen in ("ours", "loop")
            )
            gaps[f"loop, {more} classes"] = _gap(mine, theirs)
    return gaps


def ratios(measured: Mapping[str, Any], slow: str, fast: str) -> list[float]:
    """How many times longer `slow` took than `fast`, turn by turn."""
    return [turn[slow]["seconds"] / turn[fast]["seconds"] for turn in measured["turns"]]


def run(
    name: str, chosen: str, device: str, chunk: int | None, classes: int | None
) -> dict[str, Any]:
    """One run in a process of its own, its seconds and memory as for all classes."""
    measured = _work(name, chosen, device, chunk, classes)
    return scaled(measured, name, chosen, chunk)


def scaled(
    measured: Mapping[str, Any], name: str, chosen: str, chunk: int | None = None
) -> dict[str, Any]:
    """Seconds for all classes from a run on some: what is done once stays, passes are scaled.

    jacrev returns the gradients of every class: those that it did not make are counted as memory.
    """
    how = algorithm(chosen, chunk or 1)
    whole, taken = how.passes(WORKS[name].classes), how.passes(measured["classes"])
    once = measured["forward"]
    missing = WORKS[name].classes - measured["classes"] if chosen == "jacrev" else 0
    return {
        **measured,
        "seconds": once + (measured["seconds"] - once) * whole / taken,
        "measured_seconds": measured["seconds"],
        "passes": taken,
        "peak_bytes": measured["peak_bytes"] + missing * 4 * _image(name),
    }


def _image(name: str) -> int:
    """Values of the pixels."""
    return int(WORKS[name].make()[1].numel())


def _algorithms(device: str) -> tuple[str, ...]:
    """Ours and the rivals; tuning glibc's allocator concerns the CPU."""
    return (*(OURS if device == "cpu" else ("ours",)), *RIVALS)


def _classes(name: str, chosen: str) -> int | None:
    """How many classes an algorithm runs; None for all."""
    return SEEDED if WORKS[name].is_large and chosen in RIVALS else None


def _maps(
    name: str, chosen: str, device: str, chunk: int, classes: int, folder: Path
) -> dict[str, Any]:
    path = folder / "maps.npz"
    _work(name, chosen, device, chunk, classes, path)
    with np.load(path) as stored:
        return {key: stored[key] for key in stored.files}


def _work(
    name: str,
    chosen: str,
    device: str,
    chunk: int | None = None,
    classes: int | None = None,
    result: Path | None = None,
) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.worker", name, chosen, "--device", device]
    command += ["--classes", str(classes)] if classes else []
    command += ["--chunk", str(chunk)] if chunk else []
    command += ["--result", str(result)] if result else []
    return in_process(command)


def in_process(command: list[str], env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a process prints last, as JSON; raises `RuntimeError` with its error if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _gap(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    return max(_relative(ours[key], theirs[key]) for key in ours)


def _relative(ours: Any, theirs: Any) -> float:
    size = float(np.sqrt(np.square(theirs, dtype=np.float64).mean()))
    return float(np.sqrt(np.square(np.subtract(ours, theirs, dtype=np.float64)).mean())) / size


def median_spread(values: list[float], unit: str = "x", digits: int = 1) -> str:
    """The median with minimum and maximum."""
    low, middle, high = (
        f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle}{unit} ({low}-{high})"
