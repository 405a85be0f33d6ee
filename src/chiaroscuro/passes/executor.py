"""Numbered work in this process or in worker processes: the same results from any of them.

Jobs and answers are pickled. That is no input from outside: they go through a pipe without a name
between this process and children that it started, and are never written to a file.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

import torch

from chiaroscuro.allocator import is_tuned, tune_allocator
from chiaroscuro.errors import ChoiceError, ModelError, first_line, quiet_libraries

Result = TypeVar("Result")

ATTEMPTS = 3
"""How often a number is given out whose worker ends without an answer."""
_LOST = (
    "at batch {} worker processes ended {} times, the last with exit code {} (negative: a signal): "
    "give fewer workers where memory is short; a script that starts workers needs the line "
    'if __name__ == "__main__": before its calls'
)


Job = Callable[[Iterable[int]], Iterator[Result]]
"""Yields a result for each number in turn; picklable, since every worker process gets a copy.

It may read ahead. It ends early where a number has nothing behind it, nor any higher one.
"""


def compute(
    job: Job[Result],
    numbers: Iterable[int],
    *,
    workers: int = 1,
    threads: int | None = None,
    gpus: Sequence[str] = (),
) -> Iterator[Result]:
    """The results for all numbers, in any order, until one has nothing behind it.

    `workers` processes share the numbers (1: this process alone does all), each with `threads` CPU
    threads and one of the `gpus`, if there are any. A worker that is killed is replaced, and its
    number given out again. Workers end with their parent. Errors come out as they were raised;
    `ModelError` for what cannot be shared.
    """
    if workers < 1:
        raise ChoiceError(f"workers is {workers}: expected at least 1")
    if workers > 1:
        yield from _shared(pickled(job), iter(numbers), workers, threads, gpus)
        return
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        yield from job(numbers)
    finally:
        torch.set_num_threads(before)


def gpus_of(device: torch.device) -> list[str]:
    """The GPUs that workers share, by their names in `CUDA_VISIBLE_DEVICES`; a worker sees its own
    as the first. None where the job names another GPU than the first, or is on the CPU.
    """
    if device.type != "cuda" or device.index:
        return []
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return listed.split(",") if listed else [str(n) for n in range(torch.cuda.device_count())]


def pickled(job: Job[Any]) -> bytes:
    """A job for another process, with the files of factories that its classes may be from.

    Where only deterministic kernels are allowed, they alone are there too; where memory is tuned,
    it is there.
    """
    factory = sys.modules.get("chiaroscuro.models.factory")  # it imports heavy libraries
    files = factory.files_run() if factory else []
    process = torch.are_deterministic_algorithms_enabled(), is_tuned()
    with _portable():
        return pickle.dumps((files, *process, pickle.dumps(job)))


def unpickled(sent: bytes) -> Job[Any]:
    """The job again, in the process that does it."""
    with _portable():
        files, is_deterministic, has_tuned, job_bytes = pickle.loads(sent)
        torch.use_deterministic_algorithms(is_deterministic)
        if has_tuned:
            tune_allocator()
        if files:
            from chiaroscuro.models import factory

            factory.run_files(files)
        job: Job[Any] = pickle.loads(job_bytes)
    return job


@contextmanager
def _portable() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"this cannot be sent to worker processes ({first_line(error)}): give workers=1, or "
            "define the network's classes and functions at the top of a module"
        ) from error


Busy = dict[Connection, tuple[SpawnProcess, int, str | None]]


def _shared(
    job: bytes, numbers: Iterator[int], workers: int, threads: int | None, gpus: Sequence[str]
) -> Iterator[Any]:
    """Give numbers out to processes until all are answered."""
    busy: Busy = {}
    lost: Counter[int] = Counter()
    try:
        for number, gpu in zip(islice(numbers, workers), cycle(gpus or [None])):
            _start(busy, job, threads, number, gpu)
        while busy:
            ready = wait([*busy])
            for pipe in [pipe for pipe in busy if pipe in ready]:
                process, number, gpu = busy[pipe]
                try:
                    said = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    lost[number] += 1
                    if lost[number] == ATTEMPTS:
                        raise ModelError(_LOST.format(number, ATTEMPTS, process.exitcode)) from None
                    _stop(busy, pipe)
                    _start(busy, job, threads, number, gpu)
                    continue
                if isinstance(said, Exception):
                    raise said
                following = next(numbers, None) if said else None
                if following is None:
                    numbers = iter(())
                    _stop(busy, pipe)
                else:
                    busy[pipe] = process, following, gpu
                    with suppress(OSError):  # the process has ended: the next recv() says so
                        pipe.send(following)
                yield from said
    finally:
        for pipe in [*busy]:
            _stop(busy, pipe)


def _start(busy: Busy, job: bytes, threads: int | None, number: int, gpu: str | None) -> None:
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, threads, gpu), daemon=True)
    # Ctrl+C reaches the whole group: the parent alone answers it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    busy[pipe] = process, number, gpu
    with suppress(OSError):
        pipe.send_bytes(job)
        pipe.send(number)


def _stop(busy: Busy, pipe: Connection) -> None:
    process, *_ = busy.pop(pipe)
    pipe.close()
    process.kill()
    process.join()


def _serve(pipe: Connection, threads: int | None, gpu: str | None) -> None:
    """A worker's life: set the job up, answer numbers, end with the parent."""
    if gpu is not None:  # before anything asks CUDA, which reads this once
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    quiet_libraries()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        try:
            torch.set_num_threads(threads or torch.get_num_threads())
            job = unpickled(pipe.recv_bytes())
            while True:
                pipe.send([*job([pipe.recv()])])
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:
            pipe.send(portable_error(error))


def portable_error(error: Exception) -> Exception:
    """An error that another process can raise, with the trace of this one."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(traceback.format_exc())
    return error


def _end_with_parent() -> None:
    """Wait for the parent's end, whatever it was, and end too."""
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)
