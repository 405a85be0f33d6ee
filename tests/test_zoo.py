"""The run over every architecture: processes that end, rows that stay, and the page."""

import json
import os
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks import networks, zoo
from benchmarks.architectures import Row, page

ROWS = [
    Row("torchvision:a", 64, 1_000_000, 1e-15, by_class={}, seconds=1.0, ratios=(2.5, 4.0, 5.0)),
    Row("timm:b", 96, 2_500_000, 3e-13, 4e-13, {"CatBackward0": 3, "SortBackward0": 1}, ("odd",)),
    Row("timm:c", 64, 500_000, 2e-14, 0.0, {"CatBackward0": 1}),
    Row("timm:d", error="more than 300 s"),
]


def work(name):
    """What a process does in this test."""
    if name == "raises":
        raise ValueError("no\nsecond line")
    if name == "ends":
        os._exit(3)
    if name == "sleeps":
        time.sleep(60)
    return Row(name, os.getpid(), notes=("fine",))


def test_a_network_that_fails_ends_its_process_and_no_other():
    names = ["a", "b", "raises", "c", "ends"]
    first, second, raised, third, ended = zoo._answers(names, work, 100)
    (late,) = zoo._answers(["sleeps"], work, 1)
    assert first.size == second.size
    assert third.size != first.size
    assert first.notes == ("fine",)
    assert raised.error == "no"
    assert "the process ended" in ended.error
    assert late == Row("sleeps", error="more than 1 s")


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["zoo", *arguments])
    zoo.main()


def test_rows_are_kept_and_checked_again_on_request(monkeypatch, tmp_path):
    out, written, asked = tmp_path / "out" / "zoo.jsonl", tmp_path / "page.md", []
    monkeypatch.setattr(zoo, "OUT", out)
    monkeypatch.setattr(zoo, "PAGE", written)
    monkeypatch.setattr(zoo, "names", lambda: [row.name for row in ROWS])

    def answers(names, work, seconds):
        asked.append((work.__name__, [*names]))
        return (
            replace(row, ratios=(7.0, 9.0, 9.5) if work is zoo.timed else ())
            for row in ROWS
            if row.name in names
        )

    monkeypatch.setattr(zoo, "_answers", answers)
    run(monkeypatch)
    run(monkeypatch, "--time", "timm:b")
    run(monkeypatch, "--only", "timm:b")
    run(monkeypatch, "--only", "--write")
    everyone = [row.name for row in ROWS]
    assert asked == [
        ("check", everyone), ("timed", []),
        ("check", []), ("timed", ["timm:b"]),
        ("check", ["timm:b"]), ("timed", []),
        ("check", []), ("timed", []),
    ]  # fmt: skip
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 4 + 1 + 1
    assert rows[-1]["ratios"] == [7.0, 9.0, 9.5], "a second check keeps the time"
    assert "| timm:b | 7.0x | 9.0x | 9.5x |" in written.read_text()


def test_the_page_counts_what_it_lists():
    text = page(ROWS, 6)
    assert "2 of the 6 networks of the list are not checked yet" in text
    assert "not checked yet" not in page(ROWS, 4)
    assert "Gradients of 3 networks" in text
    assert "those of 3 to 3e-13" in text
    assert "near zero" not in text
    apart = page([*ROWS, Row("timm:e", 64, 10, 2e-7, 3e-7, {})], 6)
    assert "those of 3 to 3e-13" in apart
    assert "The other 1 divide by numbers near zero, and their difference is up to 2e-07" in apart
    assert "2 of 3 networks have any" in text
    assert "## Operations" not in page(ROWS[:1], 1)
    assert "| Cat | 2 | b, c |" in text
    assert "| timm:b | 96 | 2.5 M | 3e-13 | Cat 3, Sort 1; plain autograd in two" in text
    assert "memory layouts: 4e-13; odd |" in text
    assert "| torchvision:a | 64 | 1.0 M | 1e-15 | - |" in text
    assert "| torchvision:a | 2.5x | 4.0x | 5.0x |" in text
    assert "- timm:d: more than 300 s" in text
    assert "ImageGPT" in text


def test_the_first_call_of_the_loop_does_not_count(monkeypatch):
    calls = []

    def loop(classifier, pixels, count):
        calls.append(count)
        return 100.0 if len(calls) % 3 == 1 else float(count)

    monkeypatch.setattr(zoo, "_loop", loop)
    monkeypatch.setattr(zoo, "gc", SimpleNamespace(collect=int, disable=int, enable=int))
    clock = iter([0.0, 2.0, 5.0, 9.0, 9.0, 10.0])
    monkeypatch.setattr(zoo, "time", SimpleNamespace(perf_counter=clock.__next__))
    assert zoo.timed("timm:test_vit").ratios == (100 / 2, 1000 / 4, 1000)


def test_a_network_is_built_at_the_smallest_size_that_it_takes():
    module, size = networks.build("timm:test_vit", 3, [7, 160])
    assert size == 160
    assert not module.training
    with pytest.raises(ValueError, match="test_vit at 7 px"):
        networks.build("timm:test_vit", 3, [7])
