"""Numbers in any process give the same results; killed workers are replaced; nobody is orphaned."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import torch

from chiaroscuro import allocator
from chiaroscuro.errors import ChoiceError, InputError, ModelError
from chiaroscuro.passes import executor
from chiaroscuro.passes.executor import compute
from tests.passes.toy import VISIBLE, Squares

ORPHANS = """
import sys, time
from chiaroscuro.passes.executor import compute
from tests.passes.toy import Squares
if __name__ == "__main__":
    for result in compute(Squares(), range(10**9), workers=2):
        print(result[2], flush=True)
"""


def test_several_processes_give_what_one_gives_also_when_one_is_killed(tmp_path):
    """Numbers go on until one has nothing behind it."""
    alone = [result[:2] for result in compute(Squares(last=6), count())]
    assert alone == [(n, n * n) for n in range(7)]
    before = torch.get_num_threads()
    job = Squares(last=6, killed=(3,), once=str(tmp_path / "killed"))
    shared = list(compute(job, count(), workers=2, threads=1))
    assert (tmp_path / "killed").exists()
    assert sorted(result[:2] for result in shared) == alone
    assert os.getpid() not in {result[2] for result in shared}
    assert {result[3] for result in shared} == {1}
    assert torch.get_num_threads() == before


@dataclass(frozen=True)
class Process:
    """Says of the process where it runs: deterministic kernels alone, memory tuned."""

    def __call__(self, numbers):
        for number in numbers:
            if number > 1:
                return
            yield torch.are_deterministic_algorithms_enabled(), allocator.is_tuned()


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("tuned", [True, False])
def test_workers_allow_the_kernels_and_tune_memory_as_this_process(
    alone, tuned, monkeypatch, quick_workers
):
    monkeypatch.setattr(allocator, "_TUNED", threading.Event())
    if tuned:
        allocator._TUNED.set()
    torch.use_deterministic_algorithms(alone)
    try:
        assert [*compute(Process(), count(), workers=2)] == [(alone, tuned)] * 2
    finally:
        torch.use_deterministic_algorithms(False)


def test_every_worker_sees_a_gpu_of_its_own(monkeypatch, tmp_path, quick_workers):
    """Also the one that takes a killed one's place; this process keeps what it sees."""
    monkeypatch.setenv(VISIBLE, "7,GPU-2")
    first, second = torch.device("cuda", 0), torch.device("cuda", 1)
    assert executor.gpus_of(first) == executor.gpus_of(torch.device("cuda")) == ["7", "GPU-2"]
    assert executor.gpus_of(second) == executor.gpus_of(torch.device("cpu")) == []
    job = Squares(last=4, killed=(1,), once=str(tmp_path / "killed"))
    seen = [result[4] for result in compute(job, range(5), workers=2, gpus=["7", "GPU-2"])]
    assert set(seen) == {"7", "GPU-2"}
    assert os.environ[VISIBLE] == "7,GPU-2"
    monkeypatch.delenv(VISIBLE)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert executor.gpus_of(first) == ["0", "1"]
    assert [result[4] for result in compute(Squares(last=1), range(2), gpus=["1"])] == [None] * 2


def test_a_number_that_always_kills_is_one_clear_error(monkeypatch, quick_workers):
    monkeypatch.setattr(executor, "ATTEMPTS", 2)
    with pytest.raises(ModelError, match="at batch 1 .* ended 2 times, .* exit code -9"):
        list(compute(Squares(killed=(1,)), range(3), workers=2))


def test_errors_come_out_as_they_were_raised(quick_workers):
    for workers in (1, 2):
        with pytest.raises(InputError, match="1 is unlucky"):
            list(compute(Squares(fails=(1,)), range(3), workers=workers))


def test_what_cannot_be_sent_is_one_line():
    job = Squares()
    object.__setattr__(job, "once", lambda: None)
    with pytest.raises(ModelError, match=r"cannot be sent to worker processes .*workers=1"):
        list(compute(job, range(3), workers=2))
    with pytest.raises(ChoiceError, match="workers is 0"):
        list(compute(job, range(3), workers=0))


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    root = str(Path(__file__).parents[2])
    surroundings = {**os.environ, "PYTHONPATH": f"{root}/src:{root}"}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=surroundings
    )
    workers = set()
    while len(workers) < 2:
        workers.add(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 20
    while any(_is_running(worker) for worker in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(_is_running(worker) for worker in workers)


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
