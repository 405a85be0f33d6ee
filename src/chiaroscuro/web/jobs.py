"""Computations that wait in line, report while they run, and stop between two steps."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from chiaroscuro.errors import ChiaroscuroError, first_line

Report = Callable[[dict[str, Any] | None], None]
"""Takes each message of a job, and None at its end; called in any thread."""


class StoppedError(Exception):
    """Raised inside a computation that is to end: nobody waits for it, or its time is over."""


class BusyError(ChiaroscuroError):
    """Too many computations wait."""


@dataclass(eq=False)
class Job:
    """One computation of `owner`; `work` gets the job, to report its progress."""

    owner: Hashable
    work: Callable[["Job"], dict[str, Any]]
    report: Report
    seconds: float
    stopped: threading.Event = field(default_factory=threading.Event)
    reason: str = ""
    deadline: float = float("inf")

    def stop(self, reason: str) -> None:
        """End the computation before its next step."""
        self.reason = self.reason or reason
        self.stopped.set()

    def check(self) -> None:
        """Raise `StoppedError` where the job is to end."""
        if self.stopped.is_set():
            raise StoppedError(self.reason)
        if time.monotonic() > self.deadline:
            raise StoppedError(
                f"stopped after {self.seconds:g} s, the limit for one answer: ask for fewer "
                "rivals, or start the server with a higher --time-limit"
            )

    def progress(self, done: int, total: int) -> None:
        """Called between two steps of the computation."""
        self.check()
        self.report({"state": "progress", "done": done, "total": total})

    def run(self) -> None:
        """Compute, and report the answer or what went wrong; never raises."""
        self.deadline = time.monotonic() + self.seconds
        try:
            self.check()
            self.report(self.work(self))
        except StoppedError as error:
            self.report({"state": "stopped", "message": str(error)})
        except ChiaroscuroError as error:
            self.report({"state": "error", "message": first_line(error)})
        except MemoryError:
            self.report({"state": "error", "message": "not enough memory for this question"})
        except Exception as error:
            words = f"the computation failed ({type(error).__name__}: {first_line(error)})"
            self.report({"state": "error", "message": words})
        finally:
            self.report(None)


class Lane:
    """One thread that runs jobs in the order of their arrival.

    A job takes the place of the older one of its owner: that is stopped, or leaves the line.
    """

    def __init__(self, name: str, most: int) -> None:
        self.most = most
        self._line: deque[Job] = deque()
        self._running: Job | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def add(self, job: Job) -> None:
        """Let a job wait; raises `BusyError` where too many do."""
        with self._changed:
            others = sum(waiting.owner != job.owner for waiting in self._line)
            if others >= self.most:  # the owner's older question goes on then
                raise BusyError(f"{others} questions wait already: try again in a minute")
            self._stop(job.owner, "a newer question took its place")
            self._line.append(job)
            for place, waiting in enumerate(self._line):
                waiting.report({"state": "waiting", "ahead": place + (self._running is not None)})
            self._changed.notify()

    def leave(self, job: Job) -> None:
        """Nobody waits for a job any more: stop it, or take it out of the line."""
        with self._changed:
            if job in self._line:
                self._line.remove(job)
            job.stop("the browser left")

    def close(self) -> None:
        """Stop every job and the thread."""
        with self._changed:
            self._closed = True
            for job in [*self._line, *([self._running] if self._running else [])]:
                job.stop("the server ends")
            self._changed.notify()
        self._thread.join(timeout=10)

    def _stop(self, owner: Hashable, reason: str) -> None:
        for job in [job for job in self._line if job.owner == owner]:
            self._line.remove(job)
            job.report({"state": "stopped", "message": reason})
            job.report(None)
        if self._running is not None and self._running.owner == owner:
            self._running.stop(reason)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._line or self._closed)
                if self._closed and not self._line:
                    return
                self._running = self._line.popleft()
            self._running.run()
            with self._changed:
                self._running = None
