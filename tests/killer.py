"""Runs an evaluation in child processes that are killed again and again; run as a program.

One process imports everything once and forks; every child is a process of its own that gets
SIGKILL at a random moment. Prints, for each kill, how many parts were whole by then.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import datasets  # noqa: F401, imported once for all children
import torch

from chiaroscuro import Classifier
from chiaroscuro.runs import EvaluationSettings, evaluate
from tests.toys import small_cnn

KILLS = 10


def toy_run(data: Path, out: Path, *, resume: bool) -> None:
    """The evaluation that is killed and, elsewhere, left to run through."""
    classifier = Classifier(small_cnn(3), size=12, labels=["cat", "dog", "owl"], name="toy")
    settings = EvaluationSettings(
        data=str(data), batch=2, threads=1, seed=5, resamples=50, flips=99
    )
    evaluate(classifier, settings, out, resume=resume)


def main(data: Path, out: Path, seed: int) -> None:
    """Kill ten times, then let it end."""
    torch.set_num_threads(1)
    chance = random.Random(seed)
    for _ in range(KILLS):
        before = _parts(out)
        child = _begin(data, out)
        wanted = before + chance.randint(1, 3)
        while _parts(out) < wanted and os.waitpid(child, os.WNOHANG)[0] == 0:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(_parts(out), int(os.WIFSIGNALED(status)), flush=True)
    child = _begin(data, out)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _begin(data: Path, out: Path) -> int:
    child = os.fork()
    if child == 0:
        toy_run(data, out, resume=out.exists())
        os._exit(0)
    return child


def _parts(out: Path) -> int:
    return len(list(out.glob("rows/*.parquet")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
