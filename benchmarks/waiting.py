"""What it costs that OpenMP's threads sleep while they wait (`--passive`), and what it saves.

    python -m benchmarks.waiting [--runs 6] [--classes 200] [--busy 0]

Fresh processes take turns, there and back: EfficientNet-Lite0's class gradients of one photo with
threads that spin (the default) and with threads that sleep. `--busy` keeps so many cores busy
with something else meanwhile. Printed: wall and CPU seconds of both, and their ratio in each turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.gradients import in_process, median_spread

POLICIES = ("active", "passive")
Seconds = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--busy", type=int, default=0, help="processes that keep a core busy")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(_seconds(arguments.classes)))
        return
    with _busy(arguments.busy):
        wall, cpu = measure(arguments.runs, arguments.classes)
    for name, seconds in (("wall", wall), ("CPU", cpu)):
        medians = ", ".join(f"{p} {statistics.median(seconds[p]):.2f} s" for p in POLICIES)
        print(f"{name}: {medians}; passive takes {ratio(seconds)} as long")


def measure(runs: int, classes: int) -> tuple[Seconds, Seconds]:
    """Wall and CPU seconds of each run, by policy."""
    wall: Seconds = {policy: [] for policy in POLICIES}
    cpu: Seconds = {policy: [] for policy in POLICIES}
    command = [sys.executable, "-m", "benchmarks.waiting", "--worker", "--classes", str(classes)]
    for run in range(runs):
        for policy in POLICIES if run % 2 == 0 else reversed(POLICIES):
            chosen = {**os.environ, "OMP_WAIT_POLICY": policy}
            if policy == "active":
                del chosen["OMP_WAIT_POLICY"]  # what a user has who sets nothing
            seconds = in_process(command, chosen)
            wall[policy].append(seconds["wall"])
            cpu[policy].append(seconds["cpu"])
    return wall, cpu


def ratio(seconds: Seconds) -> str:
    """Passive over active in each turn: the median, the smallest and the largest."""
    pairs = zip(seconds["passive"], seconds["active"], strict=True)
    return median_spread([passive / active for passive, active in pairs], digits=2)


def _seconds(classes: int) -> dict[str, float]:
    """One photo against so many rivals, once everything is warm."""
    from chiaroscuro import explain, load_classifier, tune_allocator
    from chiaroscuro.images import packaged_photo

    tune_allocator()
    classifier, photo = load_classifier("efficientnet-lite0"), packaged_photo("coffee")
    explain(classifier, photo, rivals="top:2")
    wall, cpu = time.perf_counter(), time.process_time()
    explain(classifier, photo, rivals=f"top:{classes}")
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Keep so many cores busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
