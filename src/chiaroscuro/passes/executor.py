"""Numbered work in this process or in worker processes: the same results from any of them."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol, TypeVar

import torch

from chiaroscuro.errors import ChiaroscuroError, ChoiceError, ModelError, first_line

Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")

ATTEMPTS = 3
"""How often a number is given out whose worker ends without an answer."""
_GUARD = 'a script that starts workers needs the line: if __name__ == "__main__": before its calls'


class Job(Protocol[Result_co]):
    """Work on numbers; picklable, since every worker process gets a copy."""

    def set_up(self) -> Callable[[Iterable[int]], Iterator[Result_co]]:
        """A function that yields a result for each number in turn, set up once in each process.

        It may read ahead. It ends early where a number has nothing behind it, nor any higher one.
        """


def compute(
    job: Job[Result], numbers: Iterable[int], *, workers: int = 1, threads: int | None = None
) -> Iterator[Result]:
    """The results for all numbers, in any order, until one has nothing behind it.

    `workers` processes share the numbers (1: this process alone does all), each with `threads` CPU
    threads. A worker that is killed is replaced, and its number given out again, `ATTEMPTS` times
    in all. Workers end with their parent. Errors come out as they were raised.

    Raises `ChoiceError` for fewer than one worker, `ModelError` for a job that cannot be sent to a
    process, or whose processes keep ending.
    """
    if workers < 1:
        raise ChoiceError(f"workers is {workers}: expected at least 1")
    if workers == 1:
        with _threads(threads):
            yield from job.set_up()(numbers)
        return
    with _Pool(_pickled(job), workers, threads) as pool:
        yield from pool.results(iter(numbers))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pickled(job: Job[Any]) -> bytes:
    """A job for another process, with the files of factories that its classes may be from."""
    factory = sys.modules.get("chiaroscuro.models.factory")  # it imports heavy libraries
    files = factory.files_run() if factory else []
    try:
        return pickle.dumps((files, pickle.dumps(job)))
    except Exception as error:
        raise _not_portable(error) from error


def _unpickled(sent: bytes) -> Job[Any]:
    try:
        files, pickled = pickle.loads(sent)
        if files:
            from chiaroscuro.models import factory

            factory.run_files(files)
        job: Job[Any] = pickle.loads(pickled)
        return job
    except Exception as error:
        raise _not_portable(error) from error


def _not_portable(error: Exception) -> ModelError:
    return ModelError(
        f"this cannot be sent to worker processes ({first_line(error)}): give workers=1, or "
        "define the network's classes and functions at the top of a module"
    )


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error on its way from a worker: itself where it can be pickled, and its trace."""

    error: BaseException | None
    text: str


_READY, _END = "ready", "end"


class _Worker:
    """One process, the pipe to it, and the number that it works on."""

    def __init__(self, job: bytes, threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, threads), daemon=True
        )
        self.number: int | None = None
        # Ctrl+C reaches the whole group: the parent alone answers it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        with suppress(OSError):  # of a process that ended already, which reading tells
            self.pipe.send_bytes(job)

    def give(self, number: int) -> None:
        """Ask for a number's result."""
        self.number = number
        with suppress(OSError):
            self.pipe.send(number)

    def answer(self) -> Any:
        """What it says; None when it ended."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    def stop(self) -> None:
        """End it now."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


class _Pool:
    """Worker processes with one job."""

    def __init__(self, job: bytes, workers: int, threads: int | None) -> None:
        self.job, self.count, self.threads = job, workers, threads
        self.workers: list[_Worker] = []
        self.lost: dict[int | None, int] = {}
        self.waiting: list[int] = []
        self.is_exhausted = False

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.stop()

    def results(self, numbers: Iterator[int]) -> Iterator[Any]:
        """Give numbers out until all are answered."""
        self._fill(numbers)
        while self.workers:
            ready = wait([worker.pipe for worker in self.workers])
            for worker in [worker for worker in self.workers if worker.pipe in ready]:
                said = worker.answer()
                if said is None:
                    self._replace(worker)
                    continue
                if isinstance(said, _Failure):
                    _raise(said)
                worker.number = None
                if said == _END:
                    self.is_exhausted = True
                elif said != _READY:
                    yield said[0]
                number = self._next(numbers)
                if number is None:
                    self._dismiss(worker)
                else:
                    worker.give(number)

    def _fill(self, numbers: Iterator[int]) -> None:
        """Start as many workers as there are numbers for."""
        for _ in range(self.count):
            number = self._next(numbers)
            if number is None:
                return
            self.waiting.append(number)
            self.workers.append(_Worker(self.job, self.threads))

    def _next(self, numbers: Iterator[int]) -> int | None:
        if self.waiting:
            return self.waiting.pop(0)
        return None if self.is_exhausted else next(numbers, None)

    def _dismiss(self, worker: _Worker) -> None:
        worker.stop()
        self.workers.remove(worker)

    def _replace(self, worker: _Worker) -> None:
        """Start another worker for one that ended, or give up."""
        worker.process.join()
        code, number = worker.process.exitcode, worker.number
        self._dismiss(worker)
        self.lost[number] = self.lost.get(number, 0) + 1
        if self.lost[number] == ATTEMPTS:
            end = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            place = f"at batch {number}" if number is not None else f"as they began ({_GUARD})"
            raise ModelError(
                f"worker processes ended {ATTEMPTS} times {place}, the last by {end}: give fewer "
                "workers where memory is short"
            )
        if number is not None:
            self.waiting.insert(0, number)
        if self.waiting or not self.is_exhausted:
            self.workers.append(_Worker(self.job, self.threads))


def _raise(failure: _Failure) -> None:
    if failure.error is None:
        raise RuntimeError(failure.text)
    failure.error.add_note(failure.text)
    raise failure.error


def _serve(pipe: Connection, threads: int | None) -> None:
    """A worker's life: set the job up, answer numbers, end with the parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            results = _unpickled(pipe.recv_bytes()).set_up()
            pipe.send(_READY)
            while True:
                answer = [*results([pipe.recv()])]
                pipe.send(answer or _END)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:
            pipe.send(_failure(error))


def _failure(error: Exception) -> _Failure:
    text = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        if isinstance(error, ChiaroscuroError):
            return _Failure(type(error)(str(error)), text)
        return _Failure(None, text)
    return _Failure(error, text)


def _end_with_parent() -> None:
    """Wait for the parent's end, whatever it was, and end too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
