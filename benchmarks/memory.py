"""Peak memory above the loaded model, per memory budget.

Every run is a fresh process: the model is loaded and warmed up, then one call of
`class_gradients` with the budget; the peak is the process's `VmHWM` above what it held before.
"""

import argparse
import json
import sys
from typing import Any

import torch

from benchmarks.clock import peak_above
from benchmarks.gradients import in_process
from benchmarks.works import WORKS

BUDGETS = (100, 200, 500)
"""Budgets in MB. What the default needs is measured with the seconds, over all classes."""
CLASSES = 100
"""More of them need no more: the gradients of all features fit neither budget."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("budget", type=int, help="MB")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.work, arguments.budget)))


def measure() -> dict[str, dict[int, float]]:
    """Peak bytes of the works of many classes, by budget in MB."""
    return {
        name: {budget: in_turn(name, budget)["peak"] for budget in BUDGETS}
        for name, work in WORKS.items()
        if work.is_large
    }


def in_turn(name: str, budget: int) -> dict[str, Any]:
    """One measurement in a process of its own."""
    return in_process([sys.executable, "-m", "benchmarks.memory", name, str(budget)])


def run(name: str, budget: int) -> dict[str, float]:
    """Peak bytes and seconds of one call."""
    from chiaroscuro import Classifier, class_gradients

    module, pixels = WORKS[name].make()
    classifier = Classifier(module)
    rivals = list(range(min(CLASSES, WORKS[name].classes)))
    with torch.no_grad():
        classifier(pixels[:1])
    with peak_above() as usage:
        class_gradients(classifier, pixels, rivals=rivals, memory_budget=budget * 1_000_000)
    return usage


if __name__ == "__main__":
    main()
