"""Numbered work on Ray: actors are given numbers, and lost ones are replaced."""

import logging
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from chiaroscuro.errors import ChoiceError, ModelError, first_line, missing_extra, quiet_libraries
from chiaroscuro.passes.executor import ATTEMPTS, Job, Result, pickled, portable_error, unpickled

_LOG = logging.getLogger(__name__)
_SURROUNDINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_worker_register_timeout_seconds": "600",  # on a busy machine Python starts slowly
    "RAY_worker_niceness": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
}
"""What a Ray of our own is begun with, unless the user has set it."""
_PATIENCE = 60.0
"""Seconds without any worker after which it is said."""
_REACHED = 10.0
"""Seconds in which the head of a cluster answers."""


class _Worker:
    """An actor's life: set the job up, answer numbers."""

    def __init__(self, sent: bytes, threads: int | None) -> None:
        quiet_libraries()
        torch.set_num_threads(threads or torch.get_num_threads())
        self._sent = sent
        self._job: Job[Any] | None = None

    def answer(self, number: int | None) -> list[Any] | Exception:
        """The results for a number; of None none, once the job is set up."""
        try:
            self._job = self._job or unpickled(self._sent)
            return [] if number is None else [*self._job([number])]
        except Exception as error:
            return portable_error(error)


def compute_on_ray(
    job: Job[Result],
    numbers: Iterable[int],
    *,
    workers: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    address: str = "",
) -> Iterator[Result]:
    """As `compute`, by `workers` actors of the Ray cluster at this address.

    Without an address: that of RAY_ADDRESS, of a Ray that this process has begun, or a Ray of this
    machine alone for as long as it takes. A worker takes `threads` CPUs and, on a GPU, one or its
    share of those that are there. Its number is given out again where it is lost, with its node or
    without. Only numbers and results pass through Ray, and the job once.
    """
    try:
        import ray
    except ImportError as error:
        raise missing_extra("engine ray", "ray", "scale") from error
    sent = pickled(job)
    with _session(ray, address, workers * (threads or 1)):
        share = _gpus_each(ray, device, workers)
        actor = ray.remote(_Worker).options(num_cpus=threads or 1, num_gpus=share)
        pool = _Pool(ray, actor, (ray.put(sent), threads))
        yield from _shared(pool, iter(numbers), workers)


class _Pool:
    """Actors, and the number that each has: none, for one that has just begun."""

    def __init__(self, ray: Any, actor: Any, about: tuple[Any, ...]) -> None:
        self._ray, self._actor, self._about = ray, actor, about
        self._busy: dict[Any, tuple[Any, int | None]] = {}
        self._lost = Counter[int | None]()

    def begin(self) -> None:
        """Ask for one more; where the cluster has no room it comes later, or never."""
        self.give(self._actor.remote(*self._about), None)

    def give(self, worker: Any, number: int | None) -> None:
        """Let a worker answer a number."""
        self._busy[worker.answer.remote(number)] = worker, number

    def end(self, worker: Any) -> None:
        """Let a worker go, alive or not."""
        with suppress(Exception):
            self._ray.kill(worker)

    def close(self) -> None:
        """Let all go."""
        for worker, _ in self._busy.values():
            self.end(worker)

    @property
    def is_idle(self) -> bool:
        """Whether nobody has a number."""
        return all(number is None for _, number in self._busy.values())

    def wait(self) -> tuple[Any, int | None, list[Any] | None]:
        """A worker, its number, and its results, or None where it was lost."""
        while not (ready := self._ray.wait([*self._busy], timeout=_PATIENCE)[0]):
            if self.is_idle:
                there = self._ray.cluster_resources()
                _LOG.warning("no worker has begun yet; the Ray cluster has %s", there)
        worker, number = self._busy.pop(ready[0])
        try:
            said = self._ray.get(ready[0])
        except self._ray.exceptions.RayError as error:
            self.end(worker)
            self._lost[number] += 1
            _LOG.warning("a Ray worker was lost at batch %s: %s", number, first_line(error))
            if self._lost[number] == ATTEMPTS:
                where = "at the beginning" if number is None else f"at batch {number}"
                said = f"{where} Ray workers were lost {ATTEMPTS} times, the last because: "
                raise ModelError(said + first_line(error)) from error
            return worker, number, None
        if isinstance(said, Exception):
            raise said
        self._lost[None] = 0  # workers can begin here
        return worker, number, said


def _shared(pool: _Pool, numbers: Iterator[int], workers: int) -> Iterator[Any]:
    """Give numbers out to actors, to each once it is there, until all are answered."""
    again = list[int]()
    try:
        for _ in range(workers):
            pool.begin()
        while True:
            worker, number, said = pool.wait()
            if said is None:
                again += [] if number is None else [number]
                pool.begin()
                continue
            yield from said
            if number is not None and not said:  # nothing lies behind it
                numbers = iter(())
            following = again.pop() if again else next(numbers, None)
            if following is not None:
                pool.give(worker, following)
                continue
            numbers = iter(())
            pool.end(worker)
            if pool.is_idle:
                return
    finally:
        pool.close()


def _gpus_each(ray: Any, device: str, workers: int) -> float:
    """The GPUs that a worker takes: one, or its share where there are fewer than workers."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return 0
    there = ray.cluster_resources().get("GPU", 0)
    if not there or number not in ("", "0"):
        raise ChoiceError(
            f"device {device} with engine ray: the cluster has {there:g} GPUs, and gives each "
            "worker one as its first; give cuda where there are some, else cpu"
        )
    return min(1.0, int(1000 * there / workers) / 1000)


def _absent(address: str, error: Exception) -> ChoiceError:
    said = f"no Ray at {address!r} ({first_line(error)})"
    return ChoiceError(f"{said}: give HOST:PORT of its head, or no address")


@contextmanager
def _session(ray: Any, address: str, cpus: int) -> Iterator[None]:
    """Ray as it runs, or begun here and ended; signals and surroundings stay as they were."""
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS", "") or "local"
    own = {"num_cpus": cpus, "include_dashboard": False} if address == "local" else {}
    if place := re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", address):
        try:  # Ray itself tries for minutes
            socket.create_connection((place[1], int(place[2])), _REACHED).close()
        except (OSError, OverflowError) as error:
            raise _absent(address, error) from error
    before, stops = dict(os.environ), signal.getsignal(signal.SIGTERM)
    inner = ray._private.worker  # of a lost node it prints pages into our output; no option says no
    talks = getattr(inner, "_worker_logs_enabled", True)
    try:
        os.environ.update(_SURROUNDINGS | before)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, ValueError, RuntimeError) as error:
        raise _absent(address, error) from error
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stops)
    try:
        inner._worker_logs_enabled = False
        yield
    finally:
        ray.shutdown()
        inner._worker_logs_enabled = talks
