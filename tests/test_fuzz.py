"""A few seconds of `python -m tools.fuzz`, with choices that Hypothesis makes and shrinks."""

import os
import signal
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chiaroscuro.errors import ResultError
from chiaroscuro.images import photos
from tools import fuzz
from tools.fuzz_files import mutated
from tools.fuzz_readers import TARGETS, Target

LOOSE = settings(
    max_examples=40, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_files_are_read_or_refused_in_one_line(target):
    seeds, read = TARGETS[target].seeds(), TARGETS[target].read

    @LOOSE
    @given(st.randoms(use_true_random=False))
    def tried(rng):
        assert not fuzz.outcome(read, mutated(rng, seeds)).startswith("fault")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged metadata
        assert {fuzz.outcome(read, files) for files in seeds} == {"read"}
        tried()


def test_every_suffix_is_tried():
    names = {name for files in TARGETS["photo"].seeds() for name in files}
    assert {name[name.rindex(".") :] for name in names} == photos.SUFFIXES


def test_a_reader_that_fails_is_a_fault(tmp_path):
    def broken(folder):
        raise KeyError("x")

    def silent(folder):
        raise ResultError("")

    assert fuzz.outcome(broken, {}).startswith("fault: KeyError: KeyError('x') (test_fuzz.py")
    assert fuzz.outcome(silent, {}).startswith("fault: no plain line")
    assert fuzz.outcome(lambda folder: None, {"a/b": b""}) == "read"


def test_a_run_resumes_from_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "CHUNK", 4)
    assert len(list(fuzz.run("photo", 8, 0, tmp_path / "rows"))) == 2
    first = (tmp_path / "rows").read_bytes()
    assert len(list(fuzz.run("photo", 12, 0, tmp_path / "rows"))) == 1
    assert (tmp_path / "rows").read_bytes().startswith(first)
    rows = fuzz.read_rows(tmp_path / "rows")
    assert [row.first for row in rows] == [0, 4, 8]
    assert "| photo | 12 |" in fuzz.table(rows)


def test_an_input_that_ends_the_process_is_a_fault_and_the_next_is_read(tmp_path, monkeypatch):
    def ends(folder):
        if (folder / "a").stat().st_size % 2:
            os.kill(os.getpid(), signal.SIGKILL)

    seeds = [{"a": bytes(8)}]
    monkeypatch.setitem(TARGETS, "bad", Target(lambda: seeds, ends))
    odd = [n for n in range(12) if len(fuzz.made("bad", 0, n, seeds)["a"]) % 2]
    assert list(fuzz.run("bad", 12, 0, tmp_path / "rows")) == [None]
    (row,) = fuzz.read_rows(tmp_path / "rows")
    assert 0 < len(odd) < 12
    assert row.faults == dict.fromkeys(odd, "the process ended with -9")
    assert row.outcomes == {"fault": len(odd), "read": 12 - len(odd)}
