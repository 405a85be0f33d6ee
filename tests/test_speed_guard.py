import json

import pytest

from benchmarks import guard
from benchmarks.guard import Verdict, check


class Clock:
    """Gives the listed ratios in turn, and remembers what it was asked."""

    def __init__(self, **ratios):
        self.ratios = {name: list(values) for name, values in ratios.items()}
        self.asked = []

    def __call__(self, name):
        self.asked.append(name)
        return self.ratios[name].pop(0)


def test_a_ratio_of_two_thirds_passes_at_once():
    clock = Clock(a=[2.0], b=[9.0])
    verdicts = check({"a": 3.0, "b": 4.0}, clock)
    assert clock.asked == ["a", "b"]
    assert [v.passes for v in verdicts] == [True, True]
    assert [v.again for v in verdicts] == [None, None]


def test_below_two_thirds_is_measured_once_more():
    clock = Clock(a=[1.99, 2.1], b=[4.0])
    verdicts = check({"a": 3.0, "b": 4.0}, clock)
    assert clock.asked == ["a", "a", "b"]
    assert verdicts[0] == Verdict("a", 3.0, 1.99, 2.1)
    assert verdicts[0].passes


def test_twice_below_fails_and_others_are_measured_still():
    clock = Clock(a=[1.0, 1.99], b=[4.0])
    verdicts = check({"a": 3.0, "b": 4.0}, clock)
    assert [v.passes for v in verdicts] == [False, True]
    assert clock.asked == ["a", "a", "b"]
    assert str(verdicts[0]) == "TOO SLOW: a: 1.00, again 1.99; recorded 3.00, at least 2.00"


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Another file of recorded ratios; threads are counted, not set."""
    threads = [4]
    monkeypatch.setattr(guard, "RECORDED", tmp_path / "guard.json")
    monkeypatch.setattr(guard.torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(guard.torch, "set_num_threads", threads.append)
    return threads


@pytest.mark.parametrize(
    ("threads", "ratio", "status"), [(4, 2.0, 0), (4, 1.9, 1), (2, 1.9, 1), (1, 1.9, 0)]
)
def test_the_exit_status_and_the_lines(threads, ratio, status, recorded, monkeypatch, capsys):
    recorded.append(threads)
    guard.RECORDED.write_text(json.dumps({"1": {"small": 2.0}, "2": {"small": 3.0}}))
    monkeypatch.setattr(guard, "measure", lambda name: ratio)
    assert guard.main([]) == status
    assert capsys.readouterr().out.startswith(("ok: small", "TOO SLOW: small")[status])
    assert recorded[-1] == min(2, threads)


def test_recording_writes_what_was_measured(recorded, monkeypatch):
    monkeypatch.setattr(guard, "measure", lambda name: recorded[-1] + 0.2345)
    assert guard.main(["--record"]) == 0
    assert json.loads(guard.RECORDED.read_text()) == {
        "1": dict.fromkeys(guard.WORKS, 1.23),
        "2": dict.fromkeys(guard.WORKS, 2.23),
    }


def test_every_recorded_work_is_known():
    found = json.loads(guard.RECORDED.read_text())
    assert found.keys() == {"1", "2"}
    assert all(works.keys() == guard.WORKS.keys() for works in found.values())


def test_the_ratio_is_the_median_of_five_turns_of_loop_over_ours(monkeypatch):
    import torch

    times = iter([0.0])  # the clock of a toy: every call moves it by what its algorithm costs
    now = [next(times)]
    loops = iter([1.0, 2.0, 9.0, 4.0, 3.0, 5.0])  # the first warms up

    def loop(module, pixels, classes, target):
        now[0] += next(loops)
        assert classes == list(range(4))

    def ours(module, pixels, classes, target):
        now[0] += 0.5

    made = (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 6)), torch.rand(2, 3, 2, 2))
    monkeypatch.setattr(guard, "WORKS", {"toy": (lambda: made, 4)})
    monkeypatch.setattr(guard, "loop", loop)
    monkeypatch.setattr(guard, "ours", ours)
    monkeypatch.setattr(guard.time, "perf_counter", lambda: now[0])
    assert guard.measure("toy") == 8.0
