"""Mutated files for every reader: only our own errors may come out, in bounded time and memory.

    python -m tools.fuzz --images 100000 --readers 20000 --seed 0 --rows fuzz.jsonl
    python -m tools.fuzz --one photo:123 --seed 0      # the trace of one input
    python -m tools.fuzz --coverage 20000              # guided by coverage; pip install atheris

Input N of a target depends on the seed, the target and N alone. A child process reads it; the
parent ends one that hangs. Rows of 500 inputs go to a file, so that a run resumes where it ended.
The exit status is 1 where anything but a refusal in one line came out.
"""

import argparse
import gc
import io
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from types import FunctionType
from typing import Any

import msgspec

from chiaroscuro.errors import ChiaroscuroError, printable
from tools.fuzz_files import Files, mutated
from tools.fuzz_readers import TARGETS

CHUNK = 500
SECONDS, HANGS, MEGABYTES = 20.0, 600.0, 2500
"""CPU seconds and memory that one input may take, and after how many seconds a child is ended."""
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files cost little."""


@dataclass
class Tally:
    """What came of the inputs from number `first` on: outcomes by name, the worst of each cost."""

    target: str
    seed: int
    first: int
    outcomes: dict[str, int] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    megabytes: float = 0.0


def outcome(read: Callable[[Path], object], files: Files) -> str:
    """What a reader makes of files: "read", the name of our error, or a fault in words."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as place:
        for name, data in files.items():
            file = Path(place, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        try:
            read(Path(place))
        except ChiaroscuroError as error:
            text = str(error)
            is_line = text and printable(text) == text and len(text) < 3000
            return type(error).__name__ if is_line else f"fault: no plain line: {ascii(text)[:300]}"
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {ascii(error)[:200]}"
            return f"fault: {words} ({Path(where.filename).name} {where.lineno})"
    return "read"


def made(target: str, seed: int, number: int, seeds: list[Files]) -> Files:
    """Input `number` of a target."""
    return mutated(random.Random(f"{seed} {target} {number}"), seeds)


def _serve(pipe: Any, target: str, seed: int, seeds: list[Files]) -> None:
    """A child's life: inputs by number to what came of them, with CPU seconds and peak memory."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    while True:
        for number in pipe.recv():
            files = made(target, seed, number, seeds)
            before = time.process_time()
            found = outcome(TARGETS[target].read, files)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            pipe.send((found, time.process_time() - before, peak))


class Child:
    """A process that reads one target's inputs; it is started again where one ended it."""

    def __init__(self, target: str, seed: int) -> None:
        self.target, self.seed, self.seeds = target, seed, TARGETS[target].seeds()
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, self.target, self.seed, self.seeds)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.base = 0.0

    def read(self, numbers: Iterable[int]) -> Iterator[tuple[str, float, float]]:
        """What came of each input, its CPU seconds, and by how many MB it raised the peak."""
        waiting = [*numbers]
        while waiting:
            self.pipe.send(waiting)
            for answer in self._answers(len(waiting)):
                waiting.pop(0)
                yield answer

    def _answers(self, count: int) -> Iterator[tuple[str, float, float]]:
        """Answers to so many inputs, or fewer, where one of them ends the process."""
        for _ in range(count):
            try:
                if not self.pipe.poll(HANGS):
                    self.stop()
                    yield f"fault: hangs for {HANGS:g} s", HANGS, 0.0
                    return
                found, seconds, peak = self.pipe.recv()
            except (EOFError, OSError):
                self.process.join()
                code = self.process.exitcode
                self._start()
                yield f"fault: the process ended with {code}", 0.0, 0.0
                return
            rise, self.base = peak - (self.base or peak), max(peak, self.base)
            if found.startswith("fault") or (rise < MEGABYTES and seconds < SECONDS):
                yield found, seconds, rise
                continue
            self.stop()
            yield f"fault: {seconds:.1f} s, {rise:.0f} MB ({found})", seconds, rise
            return

    def stop(self) -> None:
        """End the process, and start another."""
        self.process.kill()
        self.process.join()
        self._start()


def run(target: str, count: int, seed: int, rows: Path) -> Iterator[None]:
    """All inputs of a target that have no row yet; yields after each row, of `CHUNK` of them."""
    done = {row.first for row in read_rows(rows) if (row.target, row.seed) == (target, seed)}
    missing = [first for first in range(0, count, CHUNK) if first not in done]
    child = Child(target, seed) if missing else None
    for first in missing:
        assert child is not None
        tally = Tally(target, seed, first)
        numbers = range(first, min(first + CHUNK, count))
        for number, (found, seconds, megabytes) in zip(numbers, child.read(numbers), strict=True):
            if found.startswith("fault"):
                tally.faults[number] = found.removeprefix("fault: ")
            name = found.partition(":")[0]
            tally.outcomes[name] = tally.outcomes.get(name, 0) + 1
            tally.seconds = max(tally.seconds, seconds)
            tally.megabytes = max(tally.megabytes, megabytes)
        with rows.open("a") as file:
            file.write(msgspec.json.encode(tally).decode() + "\n")
        for number, words in tally.faults.items():
            print(f"{target}:{number} {words}", flush=True)
        print(f"{target}: {first + CHUNK} of {count}", file=sys.stderr, flush=True)
        yield


def read_rows(rows: Path) -> list[Tally]:
    """What earlier runs wrote."""
    lines = rows.read_bytes().splitlines() if rows.is_file() else []
    return [msgspec.json.decode(line, type=Tally) for line in lines]


def table(rows: list[Tally]) -> str:
    """A row for each target, in Markdown."""
    lines = ["| reader | inputs | read | refused | faults | slowest, s | most memory, MB |"]
    lines.append("|---|---|---|---|---|---|---|")
    for target in dict.fromkeys(row.target for row in rows):
        own = [row for row in rows if row.target == target]
        found = sum((Counter(row.outcomes) for row in own), Counter[str]())
        count, read, faults = found.total(), found["read"], found["fault"]
        worst = f"{max(r.seconds for r in own):.2f} | {max(r.megabytes for r in own):.0f}"
        refused = count - read - faults
        lines.append(f"| {target} | {count:,} | {read:,} | {refused:,} | {faults} | {worst} |")
    return "\n".join(lines)


class Guided(random.Random):
    """Choices that the bytes of a coverage-guided fuzzer make; 0 where they end."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data = io.BytesIO(data)

    def getrandbits(self, k: int) -> int:
        """See `random.Random`."""
        return int.from_bytes(self._data.read((k + 7) // 8), "big") >> (-k % 8)

    def random(self) -> float:
        """See `random.Random`."""
        return self.getrandbits(32) / 2**32


def cover(target: str, runs: int) -> None:
    """Let atheris choose mutations by the lines of ours that they reach; ends the process."""
    atheris = import_module("atheris")

    seeds, read = TARGETS[target].seeds(), TARGETS[target].read
    read_at_best = [outcome(read, files) for files in seeds]  # imports what it needs
    assert set(read_at_best) == {"read"}, read_at_best
    for held in gc.get_objects():
        if isinstance(held, FunctionType) and str(held.__module__).startswith("chiaroscuro."):
            atheris.instrument_func(held)
    warnings.simplefilter("ignore")

    def one(data: bytes) -> None:
        found = outcome(read, mutated(Guided(data), seeds))
        if found.startswith("fault"):
            raise RuntimeError(f"{target}: {found}")

    atheris.Setup(
        [
            target,
            f"-runs={runs}",
            "-rss_limit_mb=6000",
            "-timeout=120",
            "-max_len=400",
            "-len_control=0",
        ],
        one,
    )
    atheris.Fuzz()


def main() -> None:
    """Run what has no row yet, and print a table of all rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2_000, help="mutated photos")
    parser.add_argument("--readers", type=int, default=500, help="inputs of every other reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, help="file of rows, by which a run resumes")
    parser.add_argument("--only", choices=TARGETS, action="append", help="only this reader")
    parser.add_argument("--one", metavar="READER:NUMBER", help="read one input, with its trace")
    parser.add_argument("--coverage", type=int, help="inputs of each reader, guided by coverage")
    chosen = parser.parse_args()
    if chosen.one:
        target, _, number = chosen.one.partition(":")
        files = made(target, chosen.seed, int(number), TARGETS[target].seeds())
        folder = Path(tempfile.mkdtemp())
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        print(folder)
        TARGETS[target].read(folder)
        return
    if chosen.coverage:
        for target in chosen.only or TARGETS:
            child = multiprocessing.get_context("fork").Process(
                target=cover, args=(target, chosen.coverage)
            )
            child.start()
            child.join()
            print(f"{target}: {'no fault' if child.exitcode == 0 else 'FAULT'}", flush=True)
        return
    with tempfile.TemporaryDirectory() as place:
        rows = chosen.rows or Path(place, "rows.jsonl")
        counts = {t: chosen.images if t == "photo" else chosen.readers for t in TARGETS}
        turns = [run(t, counts[t], chosen.seed, rows) for t in chosen.only or TARGETS]
        for _ in zip_longest(*turns):  # by turns, so that all are tried where time ends it
            pass
        known = [row for row in read_rows(rows) if row.seed == chosen.seed]
    print(table(known))
    sys.exit(any(row.faults for row in known))


if __name__ == "__main__":
    main()
