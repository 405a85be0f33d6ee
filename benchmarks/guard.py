"""A small and short version of the benchmark, for every change: fails when ours became slower.

    python -m benchmarks.guard            # exit status 1 below two thirds of a recorded ratio
    python -m benchmarks.guard --record   # write the ratios of this machine to guard.json

Ours and the plain loop take turns in this one process, five times; the median ratio counts. A
ratio that is too low is measured once more before it fails, since machines have bad moments. One
thread gains less than two, so there are recorded ratios for each; more than two are not used.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.algorithms import Run, loop, ours
from benchmarks.works import cnn, lite0, resnet

RECORDED = Path(__file__).parent / "guard.json"
SHARE = 2 / 3
REPEATS = 5
THREADS = 2


def _small_lite0(size: int) -> tuple[nn.Module, Tensor]:
    module, pixels = lite0()
    return module, nn.functional.interpolate(pixels, size=size)


WORKS: Mapping[str, tuple[Callable[[], tuple[nn.Module, Tensor]], int]] = {
    "ResNet-18, K = 10, 16 images of 32 px": (lambda: resnet("resnet18", 10, 16, 32), 10),
    "basic CNN, K = 10, 64 images of 32 px": (lambda: cnn(64), 10),
    "EfficientNet-Lite0, 60 classes, one photo of 128 px": (lambda: _small_lite0(128), 60),
    "EfficientNet-Lite0, 400 classes, one photo of 64 px": (lambda: _small_lite0(64), 400),
}
"""What makes the module and its pixels, and how many classes are run."""


@dataclass(frozen=True)
class Verdict:
    """A ratio next to the recorded one; `again` is the second measurement, if there is one."""

    name: str
    recorded: float
    first: float
    again: float | None = None

    @property
    def limit(self) -> float:
        """The least ratio that passes."""
        return SHARE * self.recorded

    @property
    def passes(self) -> bool:
        """Whether one of the measurements reached the limit."""
        return max(self.first, self.again or 0.0) >= self.limit

    def __str__(self) -> str:
        measured = f"{self.first:.2f}" + (f", again {self.again:.2f}" if self.again else "")
        word = "ok" if self.passes else "TOO SLOW"
        wanted = f"recorded {self.recorded:.2f}, at least {self.limit:.2f}"
        return f"{word}: {self.name}: {measured}; {wanted}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", action="store_true")
    chosen = parser.parse_args(arguments)
    threads = min(THREADS, torch.get_num_threads())
    recorded = json.loads(RECORDED.read_text()) if RECORDED.is_file() else {}
    if chosen.record:
        for count in range(1, threads + 1):
            torch.set_num_threads(count)
            recorded[str(count)] = {name: round(measure(name), 2) for name in WORKS}
        RECORDED.write_text(json.dumps(recorded, indent=2) + "\n")
        print(RECORDED.read_text(), end="")
        return 0
    torch.set_num_threads(threads)
    verdicts = check(recorded[str(threads)], measure)
    print("\n".join(map(str, verdicts)))
    return int(not all(verdict.passes for verdict in verdicts))


def check(recorded: Mapping[str, float], measured: Callable[[str], float]) -> list[Verdict]:
    """One verdict per recorded ratio, `measured` once more where the first time is too low."""
    verdicts = []
    for name, ratio in recorded.items():
        verdict = Verdict(name, ratio, measured(name))
        if not verdict.passes:
            verdict = Verdict(name, ratio, verdict.first, measured(name))
        verdicts.append(verdict)
    return verdicts


def measure(name: str) -> float:
    """How many times longer the plain loop takes than ours: the median of five turns."""
    make, count = WORKS[name]
    module, pixels = make()
    with torch.no_grad():
        target = module(pixels).argmax(dim=1)
    own = set(target.tolist()) if len(target) == 1 else set()
    classes = sorted([*own, *(k for k in range(count) if k not in own)][:count])

    def seconds(run: Run) -> float:
        start = time.perf_counter()
        run(module, pixels, classes, target)
        return time.perf_counter() - start

    for run in (loop, ours):
        seconds(run)  # kernels chosen
    return statistics.median(seconds(loop) / seconds(ours) for _ in range(REPEATS))


if __name__ == "__main__":
    sys.exit(main())
