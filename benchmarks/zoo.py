"""Every architecture of three libraries against plain autograd, into docs/results/architectures.md.

    python -m benchmarks.zoo [--only NAME ...] [--time NAME ...] [--seconds 300] [--write]

Networks have random weights and small images, and are checked in float64: the gradients of all of
`CLASSES` classes, of the target alone, and along a direction. A network that fails, takes too long
or too much memory ends its process and is a row too. Rows that exist are kept, so a run that was
interrupted continues; `--only` checks networks again. `--time` adds how many times longer a plain
loop over the classes takes, in float32 at the library's own size: it needs an idle machine.
"""

import argparse
import gc
import json
import multiprocessing
import resource
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks.algorithms import loop
from benchmarks.architectures import CLASSES, CLEAR, TIMED, Row, operations, page
from benchmarks.networks import build, names
from chiaroscuro import Classifier, Method, class_gradients, logit_change
from chiaroscuro.adapters import PixelNetwork
from chiaroscuro.device import device_profile, profile_in_use
from chiaroscuro.errors import first_line
from chiaroscuro.gradients import Points, target_gradients
from chiaroscuro.gradients.backward.rules import step_of
from chiaroscuro.gradients.backward.steps import Opaque
from chiaroscuro.gradients.backward.tape import Tape

OUT = Path(__file__).parent / "out" / "zoo.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "results" / "architectures.md"
GIBIBYTES = 10
"""The memory that one network may take."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", metavar="NAME", help="check these, again, or none")
    parser.add_argument("--time", nargs="+", metavar="NAME", default=[], help="time these, again")
    parser.add_argument("--seconds", type=int, default=300, help="what one network may take")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False)
    rows = _kept()
    wanted = arguments.only
    if wanted is None:
        wanted = [] if arguments.time else [name for name in names() if name not in rows]
    for row in _answers(wanted, check, arguments.seconds):
        before = rows.get(row.name, row)
        _keep(rows, replace(row, ratios=before.ratios))
        console.print(_line(row), markup=False)
    for row in _answers(arguments.time, timed, arguments.seconds):
        _keep(rows, replace(rows.get(row.name, row), ratios=row.ratios))
        console.print(f"{row.name}: {row.error or row.ratios}", markup=False)
    if arguments.write:
        listed = names()
        PAGE.write_text(page([rows[name] for name in listed if name in rows], len(listed)))
        console.print(f"written: {PAGE}")


def _kept() -> dict[str, Row]:
    """Rows of earlier runs, by name; the last one of a name counts."""
    OUT.parent.mkdir(exist_ok=True)
    lines = OUT.read_text().splitlines() if OUT.is_file() else []
    return {row.name: row for row in map(_read, lines)}


def _answers(names: Iterable[str], work: Callable[[str], Row], seconds: int) -> Iterator[Row]:
    """A row for each network, from one process until it fails."""
    process: _Process | None = None
    for name in names:
        process = process or _Process(work)
        row = process.ask(name, seconds)
        if row.error:
            process.end()
            process = None
        yield row
    if process is not None:
        process.end()


class _Process:
    """Another process that works on one network at a time."""

    def __init__(self, work: Callable[[str], Row]) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, work), daemon=True)
        self._process.start()
        there.close()

    def ask(self, name: str, seconds: int) -> Row:
        """Its row, or one that says how the process ended."""
        self._here.send(name)
        if not self._here.poll(seconds):
            return Row(name, error=f"more than {seconds} s")
        try:
            return _read(self._here.recv())
        except EOFError:
            return Row(name, error=f"the process ended ({GIBIBYTES} GiB are its limit)")

    def end(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, work: Callable[[str], Row]) -> None:
    """Answer with rows, as lines of JSON, until nobody asks."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (GIBIBYTES << 30,) * 2)
    while True:
        try:
            name = connection.recv()
        except EOFError:  # the process that asked has ended
            return
        try:
            row = work(name)
        except Exception as error:
            row = Row(name, error=first_line(error))
        connection.send(json.dumps(asdict(row)))
        gc.collect()


def _read(line: str) -> Row:
    values = json.loads(line)
    lists = {key: tuple(values[key]) for key in ("notes", "ratios") if key in values}
    return Row(**values | lists)


def _keep(rows: dict[str, Row], row: Row) -> None:
    rows[row.name] = row
    with OUT.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def _line(row: Row) -> str:
    result = row.error or f"{row.gap:.0e} {operations(row)}"
    return f"{row.name} {row.size} px {row.seconds:.0f} s: {result}"


def check(name: str, classes: int = CLASSES) -> Row:
    """One network against plain autograd."""
    start = time.perf_counter()
    module, size = build(name, classes)
    module = module.double()
    generator = torch.Generator().manual_seed(0)
    pixels, change = torch.rand(2, 2, 3, size, size, generator=generator, dtype=torch.float64)
    by_class = operations_by_class(module, pixels)
    with profile_in_use(replace(device_profile(), many_classes=2)):  # every step takes part
        gap, notes = compared(module, pixels, change - 0.5)
    floor = _between_layouts(module, pixels) if gap > CLEAR else 0.0
    count = sum(parameter.numel() for parameter in module.parameters())
    taken = time.perf_counter() - start
    return Row(name, size, count, gap, floor, by_class, notes, seconds=taken)


def _between_layouts(module: nn.Module, pixels: Tensor) -> float:
    """Plain autograd's difference from itself, over the largest gradient."""
    last = {"memory_format": torch.channels_last}
    first = plain_gradients(Classifier(module), pixels)
    other = plain_gradients(Classifier(module.to(**last)), pixels.contiguous(**last))
    return float((first - other).abs().max() / first.abs().max())


def compared(module: nn.Module, pixels: Tensor, change: Tensor) -> tuple[float, tuple[str, ...]]:
    """The largest difference from plain autograd over the largest gradient, and the notes.

    Of all classes for two images and for the first alone, of one class alone, and along a
    direction.
    """
    classifier = Classifier(module)
    wanted = plain_gradients(classifier, pixels)
    size = float(wanted.abs().max())
    if not size > 0:
        raise ValueError("all gradients are zero")
    both, alone = (class_gradients(classifier, x, 0) for x in (pixels, pixels[:1]))
    gaps: list[Tensor] = []
    for found, images in ((both, 2), (alone, 1)):
        own, rivals = wanted[0, :images], wanted[1:, :images]
        gaps.append(found.target_gradient - own)
        gaps.append(found.rival_max - rivals.amax(dim=0))
        gaps.append(found.rival_min - rivals.amin(dim=0))
    points = Points(pixels[:1][None], pixels.new_ones(1, 1))
    gaps.append(target_gradients(classifier, points, 0, "logit") - wanted[0, :1])
    slopes = torch.einsum("kbchw,bchw->bk", wanted, change)
    moved = (logit_change(classifier, pixels, change) - slopes) / slopes.abs().max()
    largest = max(float(gap.abs().max()) for gap in gaps) / size
    return max(largest, float(moved.abs().max())), both.notes


def plain_gradients(classifier: Classifier, pixels: Tensor) -> Tensor:
    """(K, B, C, H, W) by `torch.autograd.grad`, class by class."""
    leaf = pixels.clone().requires_grad_(True)
    logits = classifier(leaf)
    classes = range(logits.shape[1])
    return torch.stack(
        [torch.autograd.grad(logits[:, k].sum(), leaf, retain_graph=True)[0] for k in classes]
    )


def operations_by_class(module: nn.Module, pixels: Tensor) -> dict[str, int]:
    """How many operations of each kind have no rule for many classes at once."""
    leaf = pixels.clone().requires_grad_(True)
    entries = Tape.of(Classifier(module)(leaf), leaf).entries[:-1]
    return dict(Counter(entry.name for entry in entries if isinstance(step_of(entry), Opaque)))


def timed(name: str) -> Row:
    """A retained graph with a loop over the classes, and ours: one image, one run."""
    ratios = []
    for classes, precision in TIMED:
        method = Method("gradient", precision=precision)
        module, size = build(name, classes, [224])
        classifier, pixels = Classifier(module), torch.rand(1, 3, size, size)
        class_gradients(classifier, pixels, 0, method=method)  # kernels chosen
        _loop(classifier, pixels, 3)
        gc.collect()
        gc.disable()
        start = time.perf_counter()
        class_gradients(classifier, pixels, 0, method=method)
        ours = time.perf_counter() - start
        few, more = (_loop(classifier, pixels, count) for count in (3, 11))
        gc.enable()
        ratios.append((few + (more - few) / 8 * (classes - 3)) / ours)
    return Row(name, size, ratios=tuple(ratios))


def _loop(classifier: Classifier, pixels: Tensor, count: int) -> float:
    start = time.perf_counter()
    loop(PixelNetwork(classifier), pixels, range(count), torch.zeros(1, dtype=torch.long))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
