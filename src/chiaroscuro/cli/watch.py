"""What a long command tells while it works: bars or lines, a log, and a file of counts."""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chiaroscuro.choices import LEVELS
from chiaroscuro.cli.terminal import OutOfTime, say
from chiaroscuro.errors import ResultError, unwritable
from chiaroscuro.results.folders import write_file

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

HEARTBEAT, REFRESH = 30.0, 5.0
"""Seconds between two lines where there is no terminal, and two states of the file of counts."""
_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
_LOG = logging.getLogger("chiaroscuro")


@dataclass(slots=True)
class Count:
    """What is done of something: `before` of it in an earlier session, the rest since `began`."""

    what: str
    began: float
    done: int = 0
    total: int | None = None
    before: int = 0

    @property
    def rate(self) -> float:
        """So many a second in this session; 0 at its beginning."""
        seconds = time.perf_counter() - self.began
        return (self.done - self.before) / seconds if seconds > 0 else 0.0

    def __str__(self) -> str:
        """In words, with the time that is left."""
        of = "" if self.total is None else f" of {self.total:,}"
        words = [f"{self.what} {self.done:,}{of}"]
        if self.rate > 0:
            words.append(f"{self.rate:.3g}/s")
            if self.total is not None:
                words.append(f"{duration((self.total - self.done) / self.rate)} left")
        return ", ".join(words)


def duration(seconds: float) -> str:
    """A time in its largest unit and the next.

    >>> duration(45), duration(200), duration(7500), duration(200_000)
    ('45 s', '3 min 20 s', '2 h 5 min', '2 d 7 h')
    """
    whole = round(seconds)
    for size, name, less, below in _UNITS:
        if whole >= size:
            rest = whole % size // less
            return f"{whole // size} {name}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


class Bars:
    """Progress bars by what they count, each begun when it is first shown."""

    def __init__(self, progress: "Progress") -> None:
        self.progress = progress
        self._waiting: TaskID | None = progress.add_task("getting ready", total=None, rate="")
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, count: Count) -> None:
        """Show a count on its bar."""
        if self._waiting is not None:
            self.progress.remove_task(self._waiting)
            self._waiting = None
        if count.what not in self._tasks:
            self._tasks[count.what] = self.progress.add_task(count.what, total=count.total, rate="")
        rate = f"{count.rate:.1f}/s" if count.done > count.before else ""
        task = self._tasks[count.what]
        self.progress.update(task, completed=count.done, total=count.total, rate=rate)


class Lines:
    """A line on standard error now and then: a sign of life where there is no terminal."""

    def __init__(self) -> None:
        self._next = time.perf_counter() + HEARTBEAT

    def __call__(self, count: Count) -> None:
        """Print a count if the last line is long ago."""
        if time.perf_counter() >= self._next:
            self._next = time.perf_counter() + HEARTBEAT
            say(f"chiaroscuro: {count}", err=True)


class Metrics(logging.Handler):
    """A file of counts in the text format of Prometheus, for its textfile collector."""

    def __init__(self, file: Path, command: str) -> None:
        super().__init__(logging.DEBUG)
        self.file, self.command = file, command
        self.counts: dict[str, Count] = {}
        self.records: Counter[str] = Counter()
        self._began, self._next = time.time(), 0.0
        self.write(running=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record by its level."""
        self.records[record.levelname.lower()] += 1

    def __call__(self, count: Count) -> None:
        """Keep a count, and write the file if that is old."""
        self.counts[count.what] = count
        if time.perf_counter() >= self._next:
            self.write(running=True)

    def write(self, *, running: bool) -> None:
        """Replace the file; a reader never sees half of it."""
        self._next = time.perf_counter() + REFRESH
        write_file(self.file, "".join(self._lines(running)).encode())

    def _lines(self, running: bool) -> Iterator[str]:
        def metric(name: str, help: str, kind: str, values: dict[str, float]) -> Iterator[str]:
            if values:
                yield f"# HELP chiaroscuro_{name} {help}\n# TYPE chiaroscuro_{name} {kind}\n"
            for labels, value in values.items():
                yield f'chiaroscuro_{name}{{command="{self.command}"{labels}}} {value:.15g}\n'

        counts = {f',what="{_escaped(n)}"': count for n, count in self.counts.items()}
        totals = {n: float(c.total) for n, c in counts.items() if c.total is not None}
        levels = {f',level="{level}"': float(self.records[level]) for level in LEVELS}
        yield from metric("running", "1 until the command ends", "gauge", {"": float(running)})
        yield from metric("began_seconds", "Unix time of the start", "gauge", {"": self._began})
        yield from metric("written_seconds", "Unix time of this file", "gauge", {"": time.time()})
        done = {n: float(c.done) for n, c in counts.items()}
        yield from metric("done", "What is done, earlier sessions included", "gauge", done)
        yield from metric("total", "What there is to do", "gauge", totals)
        rates = {n: c.rate for n, c in counts.items()}
        yield from metric("per_second", "What is done a second", "gauge", rates)
        yield from metric("log_records_total", "Lines of the log by level", "counter", levels)
        yield from metric("resident_bytes", "Memory of this process", "gauge", _resident())
        yield from metric("open_files", "Handles of this process", "gauge", _handles())


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _resident() -> dict[str, float]:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return {"": 1024.0 * int(line.split()[1])}
    return {}


def _handles() -> dict[str, float]:
    with suppress(OSError):
        return {"": float(len([*Path("/proc/self/fd").iterdir()]))}
    return {}


class _Json(logging.Formatter):
    """A record as one JSON object: time, level, what happened, its facts, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The object as a line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        row = {"time": at, "level": record.levelname.lower(), "event": record.getMessage()}
        row |= getattr(record, "facts", {})
        if record.exc_info:
            row["trace"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str)


class _Log(logging.FileHandler):
    """The file of these lines; where it cannot be written, the command ends, in one line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Raise what went wrong."""
        if isinstance(error := sys.exception(), OSError):
            raise unwritable(self.baseFilename, error) from error
        super().handleError(record)


def _check_own(file: Path, begin: bytes) -> None:
    """Raise `ResultError` for a file that begins otherwise than those this program writes."""
    if file.is_file():
        with file.open("rb") as source:
            if source.read(len(begin)) not in (b"", begin):
                raise ResultError(f"{file} is not of chiaroscuro: move it away, or name another")


class Watch:
    """Counts of what a command does, told to every view; ends the command when time is over.

    `say` prints a line that stays.
    """

    def __init__(
        self,
        views: Sequence[Callable[[Count], None]],
        say: Callable[[str], object],
        max_time: float | None,
    ) -> None:
        self.views, self.say = views, say
        self._counts: dict[str, Count] = {}
        self._end = None if max_time is None else time.perf_counter() + max_time

    def show(self, what: str, done: int, total: int | None, before: int = 0, *_: object) -> None:
        """`done` of `total` are done, `before` of them in an earlier session."""
        count = self._counts.setdefault(what, Count(what, time.perf_counter()))
        count.done, count.total, count.before = done, total, before
        for view in self.views:
            view(count)
        if self._end is not None and time.perf_counter() > self._end:
            raise OutOfTime


@dataclass(frozen=True, kw_only=True)
class Told:
    """What of a command is told where."""

    command: str
    quiet: bool = False
    log: Path | None = None
    level: str = "info"
    metrics: Path | None = None
    max_time: float | None = None


@contextmanager
def watching(told: Told) -> Iterator[Watch]:
    """Bars on a terminal, else lines, neither when quiet; log and counts as told."""
    from rich import progress
    from rich.console import Console

    console = Console(file=sys.stderr)
    views: list[Callable[[Count], None]] = []
    with (
        progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=told.quiet or not console.is_terminal,
            redirect_stdout=False,
        ) as shown,
        _recorded(told, views),
    ):
        if not told.quiet:
            views.append(Bars(shown) if console.is_terminal else Lines())
        yield Watch(views, partial(console.print, highlight=False), told.max_time)


@contextmanager
def _recorded(told: Told, views: list[Callable[[Count], None]]) -> Iterator[None]:
    """The handlers of log and counts, taken off at the end; how the command ended is recorded."""
    handlers: list[logging.Handler] = []
    before = _LOG.level
    if told.metrics is not None:
        _check_own(told.metrics, b"# HELP chiaroscuro_")
    if told.log is not None:
        _check_own(told.log, b'{"time": ')
        told.log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_Log(told.log, encoding="utf-8", errors="backslashreplace"))
        handlers[0].setFormatter(_Json())
        handlers[0].setLevel(told.level.upper())
    metrics = None if told.metrics is None else Metrics(told.metrics, told.command)
    if metrics is not None:
        handlers.append(metrics)
        views.append(metrics)
    if handlers:
        _LOG.setLevel(min(handler.level for handler in handlers))
    for handler in handlers:
        _LOG.addHandler(handler)
    try:
        _LOG.info("command begun", extra={"facts": {"command": told.command}})
        yield
        _LOG.info("command finished")
    except KeyboardInterrupt as error:
        _LOG.warning("out of time" if isinstance(error, OutOfTime) else "interrupted")
        raise
    except BaseException as error:
        _LOG.error("command failed", exc_info=True, extra={"facts": {"error": str(error)}})
        raise
    finally:
        for handler in handlers:
            _LOG.removeHandler(handler)
            with suppress(OSError):  # what could not be written was said
                handler.close()
        _LOG.setLevel(before)
        if metrics is not None:
            metrics.write(running=False)
