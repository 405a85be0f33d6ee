"""Where the time of a command goes, when somebody asks."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Stopwatch:
    """Seconds by stage; a stage inside another stops the outer one's clock meanwhile.

    `settle` is called before the clock is read, such as a GPU's synchronization.

    >>> watch = Stopwatch()
    >>> with watch.running(), timed("forward"):
    ...     total = sum(range(10))
    >>> list(watch.seconds)
    ['forward']
    """

    def __init__(self, settle: Callable[[], object] = lambda: None) -> None:
        self.seconds: dict[str, float] = {}
        self.stages: list[str] = []
        self.settle, self._since = settle, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, `timed` counts here."""
        token = _ACTIVE.set(self)
        try:
            yield
        finally:
            _ACTIVE.reset(token)

    def charge(self) -> None:
        """Give the time since the last change to the stage under way."""
        self.settle()
        now = time.perf_counter()
        for stage in self.stages[-1:]:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


_ACTIVE: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Count the time inside for a stage, if a stopwatch runs."""
    watch = _ACTIVE.get() or Stopwatch()
    watch.charge()
    watch.stages.append(name)
    try:
        yield
    finally:
        watch.charge()
        watch.stages.pop()
