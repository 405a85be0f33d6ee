"""Peak memory above the loaded model, per memory budget, beside the budget.

    python -m benchmarks.memory

Every run is a fresh process: the model is loaded and warmed up, then one call of
`class_gradients` with the budget; the peak is the process's `VmHWM` above what it held before.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.worker import WORKS, peak_above
from chiaroscuro import Classifier, class_gradients

BUDGETS = (200, 300, 500, 1000, None)
"""Budgets in MB; None is the default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worker", nargs=2, metavar=("WORK", "MB"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, budget = arguments.worker
        print(json.dumps(measure(name, None if budget == "None" else int(budget))))
        return
    table = Table("work", "budget, MB", "peak, MB", "seconds")
    for name in WORKS:
        for budget in BUDGETS:
            found = run(name, budget)
            table.add_row(
                WORKS[name].title,
                "default" if budget is None else str(budget),
                f"{found['peak'] / 1e6:.0f}",
                f"{found['seconds']:.1f}",
            )
    Console().print(table)


def run(name: str, budget: int | None) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--worker", name, str(budget)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(name: str, budget: int | None) -> dict[str, float]:
    """Peak bytes and seconds of one call of at most 100 classes; more of them add nothing."""
    module, pixels = WORKS[name].make()
    classifier = Classifier(module)
    rivals = list(range(min(100, WORKS[name].classes)))
    with torch.no_grad():
        classifier(pixels[:1])
    limit = None if budget is None else budget * 1_000_000
    with peak_above() as found:
        class_gradients(classifier, pixels, rivals=rivals, memory_budget=limit)
    return found


if __name__ == "__main__":
    main()
