"""Runs over image sets in child processes that are killed again and again; run as a program.

One process imports everything once and forks; every child is a process of its own that gets
SIGKILL at a random moment. Prints, for each kill, how many parts were finished by then.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import chiaroscuro.report.evaluation as report
from tests.stress import RUNS

KILLS = 10


def main(name: str, data: Path, out: Path, seed: int) -> None:
    """Kill ten times, then let it end."""
    torch.set_num_threads(1)
    report.write = lambda result, folder: None  # tests/evaluation/test_resuming.py looks at pages
    chance = random.Random(seed)
    for _ in range(KILLS):
        before = _parts(out)
        child = _begin(name, data, out)
        wanted = before + chance.randint(1, 3)
        while _parts(out) < wanted and os.waitpid(child, os.WNOHANG)[0] == 0:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(_parts(out), int(os.WIFSIGNALED(status)), flush=True)
    child = _begin(name, data, out)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _begin(name: str, data: Path, out: Path) -> int:
    child = os.fork()
    if child == 0:
        RUNS[name](data, out, workers=1)
        os._exit(0)
    return child


def _parts(out: Path) -> int:
    return len(list(out.glob("parts/0*.json")))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
