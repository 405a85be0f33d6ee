"""What each step of the engine is worth: class gradients with one step at a time taken out.

    python -m benchmarks.ladder [--runs 4]

Every run is a fresh process with the allocator tuned; steps take turns. A figure is how many times
longer the work takes without the step: the median over turns, with the smallest and the largest.
Only some classes are run, after a warm-up, so the figures are about the way back alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.works import WORKS
from chiaroscuro import Classifier, class_gradients, device, matmul, tune_allocator
from chiaroscuro.gradients.backward import attention, fusion, kernels, program, steps

CLASSES = 1000
_SECONDS = 1.0
"""Work that takes less is repeated."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=4, help="turns, each second one backwards")
    parser.add_argument("--work", choices=WORKS, action="append")
    parser.add_argument("--step", choices=STEPS, action="append", help="default: all of them")
    parser.add_argument("--worker", nargs=2, metavar=("WORK", "WITHOUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(*arguments.worker)))
        return
    table = Table("without", *(WORKS[name].title for name in arguments.work or WORKS))
    first, *others = STEPS
    steps = [first, *(arguments.step or others)]
    columns = [ratios(name, steps, arguments.runs) for name in arguments.work or WORKS]
    for step in steps:
        table.add_row(step, *(column[step] for column in columns))
    Console(width=200).print(table)


def ratios(work: str, steps: list[str], runs: int) -> dict[str, str]:
    """By step: how many times longer the work takes without it."""
    seconds: dict[str, list[float]] = {step: [] for step in steps}
    for turn in range(runs):
        # There and back, since the first runs of a turn find a colder machine.
        for step in steps if turn % 2 == 0 else reversed(steps):
            command = [sys.executable, "-m", "benchmarks.ladder", "--worker", work, step]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds[step].append(float(json.loads(done.stdout.splitlines()[-1])))
    first, *others = steps
    speedups = {first: f"{statistics.median(seconds[first]):.2f} s"}
    for step in others:
        times = [a / b for a, b in zip(seconds[step], seconds[first], strict=True)]
        speedups[step] = f"{statistics.median(times):.2f}x ({min(times):.2f}-{max(times):.2f})"
    return speedups


def measure(work: str, step: str) -> float:
    """Seconds of one call in this process, with the step taken out."""
    if step != "no allocator setting":
        tune_allocator()
    STEPS[step]()
    module, pixels = WORKS[work].make()
    classifier = Classifier(module)
    classes = list(range(min(CLASSES, WORKS[work].classes)))
    class_gradients(classifier, pixels, 0, classes[: len(classes) // 10 + 2])
    times: list[float] = []
    while sum(times) < _SECONDS:
        start = time.perf_counter()
        class_gradients(classifier, pixels, 0, classes)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _own_backward() -> None:
    vars(kernels)["kernel_of"] = lambda conv: kernels.native


def _one_by_one() -> None:
    vars(fusion)["fuse"] = lambda planned, shapes, next_alone: None
    _products_behind()


def _products_behind() -> None:
    vars(fusion)["pool"] = lambda planned, shapes, next_alone: None


def _whole_tensors() -> None:
    vars(kernels)["are_phases"] = lambda conv, before: False


def _no_basis() -> None:
    vars(program)["_WORTH"] = 0.0


def _no_dense() -> None:
    vars(kernels)["_is_small"] = lambda conv: False


def _matrix_products() -> None:
    def plain(rows: Tensor, matrix: Tensor) -> Tensor:
        return rows @ matrix.T

    for module in (kernels, program, steps):
        vars(module)["times"] = plain


def _class_by_class() -> None:
    vars(program)["step_of"] = steps.Opaque


def _strided_backward() -> None:
    vars(kernels)["_reads_padding"] = lambda conv: True


def _all_tokens() -> None:
    vars(program)["thin"] = lambda planned, shapes, tape: None


def _heads_together() -> None:
    for module in (matmul, attention):
        vars(module)["are_large"] = lambda *matrices: False


def _as_many_rows() -> None:
    _resize("busy_bytes", 1 << 60)


def _all_channels() -> None:
    _resize("many_classes", 1 << 60)


def _chunk(size: int) -> Callable[[], None]:
    return lambda: _resize("chunk_bytes", size << 20)


def _resize(name: str, size: int) -> None:
    sizes: dict[str, Any] = {name: size}
    profile = replace(device.device_profile(), **sizes)
    vars(device)["_of_this_machine"] = lambda: profile


def _nothing() -> None:
    """Leave the engine as it is."""


STEPS: dict[str, Callable[[], None]] = {
    "all steps in place": _nothing,
    "rules: every operation class by class": _class_by_class,
    "forward kernels: convolutions' own backward": _own_backward,
    "fusing of neighbors": _one_by_one,
    "strided depthwise convolutions by phases": _whole_tensors,
    "a basis where features are fewer": _no_basis,
    "channels that carry nothing left out": _all_channels,
    "products before a maximum's window": _products_behind,
    "matrices for a few pixels": _no_dense,
    "products as convolutions": _matrix_products,
    "strided convolutions of single pixels as products": _strided_backward,
    "large heads of attention one by one": _heads_together,
    "tokens without gradient left out": _all_tokens,
    "smaller chunks of many rows": _as_many_rows,
    "chunk of 20 MiB: 6 MiB": _chunk(6),
    "chunk of 20 MiB: 96 MiB": _chunk(96),
    "no allocator setting": _nothing,
}
"""What is changed, by the name of the step."""


if __name__ == "__main__":
    main()
