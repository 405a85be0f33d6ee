"""One algorithm on one piece of work, alone in this process: prints seconds and memory as JSON."""

import argparse
import json
import statistics
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.algorithms import ALGORITHMS, algorithm
from benchmarks.clock import now, peak_above
from benchmarks.works import WORKS, chosen_classes

REPEATS = 5
PATIENCE = 3.0
"""Short work is repeated, up to `REPEATS` times within so many seconds; its median counts."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("algorithm", choices=[*ALGORITHMS, "jacrev", "one class"])
    parser.add_argument("--classes", type=int, help="run this many seeded classes, not all")
    parser.add_argument("--chunk", type=int, help="jacrev's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--result", type=Path, help="write the maps there, and time nothing")
    arguments = parser.parse_args()
    work, device = WORKS[arguments.work], arguments.device
    module, pixels = work.make()
    module, pixels = module.to(device), pixels.to(device)
    if arguments.algorithm == "one class":
        print(json.dumps({"seconds": _one_class(module, pixels, device)}))
        return
    with torch.no_grad():
        target = module(pixels).argmax(dim=1)
    classes = chosen_classes(work, arguments.classes or work.classes, target.cpu())
    chosen = algorithm(arguments.algorithm, arguments.chunk)
    for name in ("chiaroscuro.maps", "captum.attr"):  # so that their memory counts for nobody
        import_module(name)
    if arguments.result:
        arrays: dict[str, Any] = {
            name: values.cpu().numpy()
            for name, values in chosen.run(module, pixels, classes, target).items()
        }
        np.savez(arguments.result, **arrays)
        print(json.dumps({"classes": len(classes)}))
        return
    few = chosen_classes(work, 2, target[:1].cpu())
    times: list[float] = []
    with peak_above(device) as usage:
        chosen.run(module, pixels[:1], few, target[:1])  # kernels chosen
        while len(times) < REPEATS and sum(times) < PATIENCE:
            start = now(device)
            chosen.run(module, pixels, classes, target)
            times.append(now(device) - start)
    answer = {
        "seconds": statistics.median(times),
        "repeats": len(times),
        "peak_bytes": usage["peak"],
        "classes": len(classes),
        "forward": _forward(module, pixels, device) if chosen.one_forward else 0.0,
    }
    print(json.dumps(answer))


def _forward(module: nn.Module, pixels: Tensor, device: str) -> float:
    """Median seconds of one forward pass that keeps its graph."""
    times = []
    for _ in range(3):
        leaf = pixels.clone().requires_grad_(True)
        start = now(device)
        module(leaf)
        times.append(now(device) - start)
    return statistics.median(times)


def _one_class(module: nn.Module, pixels: Tensor, device: str) -> float:
    """Median seconds of one forward plus full backward, nothing else."""
    times = []
    for _ in range(12):
        module.zero_grad(set_to_none=True)
        leaf = pixels.clone().requires_grad_(True)
        start = now(device)
        module(leaf)[:, 0].sum().backward()
        times.append(now(device) - start)
    return statistics.median(times[2:])


if __name__ == "__main__":
    main()
