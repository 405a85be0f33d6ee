"""Stages are disjoint, and nothing is counted unless asked."""

import pytest

from chiaroscuro import stopwatch
from chiaroscuro.stopwatch import Stopwatch, timed


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on only when told to."""
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_a_stage_inside_another_stops_its_clock(clock):
    watch = Stopwatch()
    with watch.running():
        clock(100)  # outside of every stage
        with timed("backward"):
            clock(1)
            with timed("forward"):
                clock(10)
            clock(2)
        with timed("forward"):
            clock(20)
    assert watch.seconds == {"backward": 3, "forward": 30}


def test_time_is_counted_also_when_a_stage_fails(clock):
    watch = Stopwatch()

    def fail():
        with timed("decode"):
            clock(3)
            raise ValueError("broken")

    with watch.running(), pytest.raises(ValueError, match="broken"):
        fail()
    with watch.running(), timed("maps"):
        clock(1)
    assert watch.seconds == {"decode": 3, "maps": 1}


def test_nothing_is_counted_outside(clock):
    watch = Stopwatch()
    with timed("forward"):
        clock(1)
    with watch.running():
        pass
    with timed("forward"):
        clock(1)
    assert watch.seconds == {}


def test_the_device_is_settled_before_the_clock_is_read(clock):
    watch = Stopwatch(settle=lambda: clock(5))  # work that was under way
    with watch.running(), timed("forward"):
        clock(1)
    assert watch.seconds == {"forward": 6}
