"""What long commands tell: bars, lines without a terminal, a log, counts, and the end by clock."""

import json
import logging
import os
from pathlib import Path

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

import chiaroscuro.report.evaluation as report
from chiaroscuro import Classifier, save_classifier
from chiaroscuro.cli import app, watch
from chiaroscuro.cli.watch import Bars, Count, Metrics, Told, Watch, watching
from chiaroscuro.errors import UnwritableResultError
from chiaroscuro.models.folder import basic_cnn
from tests.pictures import BROKEN, class_rows, write_parquet

CLASSES = ["cat", "dog", "owl"]


class Recorder:
    """A stand-in for rich's progress."""

    def __init__(self):
        self.shown = {}

    def add_task(self, what, **_):
        return what

    def remove_task(self, what):
        self.shown.pop(what, None)

    def update(self, what, **values):
        self.shown[what] = values


class Clock:
    """Seconds that a test moves."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(watch.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def words(tmp_path, monkeypatch):
    """An evaluation of nine small images, one of them broken, three at a time."""
    monkeypatch.setattr(report, "write", lambda result, folder: None)
    rows = class_rows(3, 3, side=32)
    rows[4] = (BROKEN, 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(basic_cnn(3), size=32, labels=CLASSES)
    options = {"architecture": "basic-cnn", "arguments": {"classes": 3}}
    net = save_classifier(classifier, tmp_path / "net", **options)
    cheap = ["--resamples", "20", "--flips", "99", "--protocol", "matched", "--batch", "3"]
    return ["evaluate", str(tmp_path / "data"), "--model", str(net), *cheap]


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def rows_of(folder):
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*.parquet")}


def test_a_count_says_rate_and_time_left(clock):
    count = Count("images", 100.0, done=10, total=40, before=10)
    clock.now = 105.0
    assert str(count) == "images 10 of 40"  # nothing yet in this session
    count.done = 20
    assert str(count) == "images 20 of 40, 2/s, 10 s left"
    assert str(Count("photos", 100.0, done=1500)) == "photos 1,500, 300/s"


def test_a_bar_shows_counts_and_the_rate_of_this_session(clock):
    progress = Recorder()
    shown = Watch([Bars(progress)], print, None)
    shown.show("images", 10, 40, 10)
    assert progress.shown == {"images": {"completed": 10, "total": 40, "rate": ""}}
    clock.now += 4
    shown.show("images", 20, 40, 10)
    assert progress.shown["images"] == {"completed": 20, "total": 40, "rate": "2.5/s"}


def test_without_a_terminal_a_line_comes_now_and_then(clock, capsys):
    with watching(Told(command="evaluate")) as shown:
        for seconds, done in ((0, 0), (29, 100), (2, 110), (1, 120), (30, 200)):
            clock.now += seconds
            shown.show("images", done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "chiaroscuro: images 110 of 1,000, 3.55/s, 4 min 11 s left",
        "chiaroscuro: images 200 of 1,000, 3.23/s, 4 min 8 s left",
    ]
    with watching(Told(command="evaluate", quiet=True)) as shown:
        clock.now += 999
        shown.show("images", 500, 1000)
    assert capsys.readouterr().err == ""


def test_counts_are_a_file_that_prometheus_reads(tmp_path, clock):
    file = tmp_path / "counts.prom"

    def values():
        found = text_string_to_metric_families(file.read_text())
        return {(s.name, *sorted(s.labels.items())[1:]): s.value for f in found for s in f.samples}

    with watching(Told(command="evaluate", quiet=True, metrics=file)) as shown:
        assert values()["chiaroscuro_running",] == 1
        clock.now += 10
        shown.show('"images"\n', 10, 40, 4)
        clock.now += 2
        shown.show('"images"\n', 30, 40, 4)  # too soon for the file
        assert values()["chiaroscuro_done", ("what", '"images"\n')] == 10
        clock.now += 4
        shown.show('"images"\n', 34, 40, 4)
        assert values()["chiaroscuro_per_second", ("what", '"images"\n')] == 5
        logging.getLogger("chiaroscuro.passes").warning("image left out")
    end = values()
    assert end["chiaroscuro_running",] == 0
    assert end["chiaroscuro_total", ("what", '"images"\n')] == 40
    assert end["chiaroscuro_log_records_total", ("level", "warning")] == 1
    assert end["chiaroscuro_resident_bytes",] > 1e6 and end["chiaroscuro_open_files",] > 2
    assert [*tmp_path.iterdir()] == [file]


def test_an_evaluation_that_is_logged(words, tmp_path):
    log, counts = tmp_path / "logs" / "run.log", tmp_path / "run.prom"
    before = logging.getLogger("chiaroscuro").level, [*logging.getLogger("chiaroscuro").handlers]
    told = [
        "--log",
        log,
        "--log-level",
        "debug",
        "--counts",
        counts,
        "--out",
        tmp_path / "run",
    ]
    assert run(*words, *told).exit_code == 3  # one image is broken
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    events = [row["event"] for row in rows if "path" not in row]
    assert events[:2] == ["command begun", "run begun"]
    assert events[-2:] == ["run finished", "command finished"]
    assert [row["number"] for row in rows if row["event"] == "part written"] == [0, 1, 2]
    (lost,) = (row for row in rows if row["event"] == "image left out")
    assert (
        lost["level"] == "warning" and "#4" in lost["id"] and lost["reason"].startswith("not a pic")
    )
    assert 'level="warning"} 1\n' in counts.read_text()
    now = logging.getLogger("chiaroscuro").level, logging.getLogger("chiaroscuro").handlers
    assert now == before

    refused = run(*words, "--log", log, "--out", tmp_path / "run")  # exists; before any work
    assert refused.exit_code == 1
    run(*words, "--log", log, "--out", tmp_path / "other", "--map", "active", "--limit", 1)
    assert len(log.read_text().splitlines()) == len(rows) + 4  # added to, at level info


def test_a_failure_is_one_line_and_its_trace_is_in_the_log(words, tmp_path):
    log = tmp_path / "run.log"
    for file in (tmp_path / "data").iterdir():
        write_parquet(file, [(BROKEN, 0)], CLASSES)
    done = run(*words, "--log", log, "--out", tmp_path / "run")
    assert done.exit_code == 1
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["event"], last["level"]) == ("command failed", "error")
    assert "Traceback" in last["trace"] and last["error"] in str(done.exception)


def test_a_run_stops_by_the_clock_and_is_resumed_to_the_same_bytes(words, tmp_path):
    assert run(*words, "--out", tmp_path / "whole").exit_code == 3
    out = tmp_path / "run"
    stopped = run(*words, "--out", out, "--max-time", "0.001s")
    assert stopped.exit_code == 75
    assert stopped.stderr.endswith("time is over: resume with the same command and --resume\n")
    again = run(*words, "--out", out, "--resume", "--max-time", "1h")
    assert again.exit_code == 3, again.stderr
    assert rows_of(out) == rows_of(tmp_path / "whole")


def test_deterministic_kernels_while_a_command_runs(words, tmp_path, monkeypatch):
    seen = []
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(
        report,
        "write",
        lambda result, folder: seen.append(
            (torch.are_deterministic_algorithms_enabled(), os.environ["CUBLAS_WORKSPACE_CONFIG"])
        ),
    )
    done = run(*words, "--out", tmp_path / "run", "--deterministic")
    assert done.exit_code == 3, done.stderr
    assert seen == [(True, ":4096:8")]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("time", ["soon", "-1", "0", "2w", "1e3", ""])
def test_a_time_that_is_none_is_refused_with_what_is_expected(words, tmp_path, time):
    done = run(*words, "--out", tmp_path / "run", f"--max-time={time}")
    assert "expected a time such as 90s, 30m, 2h or 1d" in str(done.exception)


def test_the_file_of_counts_is_never_half(tmp_path, monkeypatch):
    metrics = Metrics(tmp_path / "counts.prom", "evaluate")
    whole = metrics.file.read_text()

    def fails(_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fails)  # once all is written
    with pytest.raises(OSError, match="no space"):
        metrics.write(running=False)
    assert metrics.file.read_text() == whole
    assert [*tmp_path.iterdir()] == [metrics.file]


@pytest.mark.parametrize("option", ["--log", "--counts"])
@pytest.mark.parametrize("name", ["photo.png", "notes.json"])
def test_a_file_of_others_is_neither_added_to_nor_replaced(words, tmp_path, option, name):
    mine = tmp_path / name
    mine.write_bytes(BROKEN if name.endswith("png") else b'{"mine": 1}\n')
    before = mine.read_bytes()
    done = CliRunner().invoke(app, [*words, option, str(mine)])
    assert str(done.exception) == f"{mine} is not of chiaroscuro: move it away, or name another"
    assert mine.read_bytes() == before and not (tmp_path / "run").exists()


def test_log_and_counts_go_on_in_their_own_files(tmp_path):
    told = Told(command="check", quiet=True, log=tmp_path / "log", metrics=tmp_path / "counts")
    (tmp_path / "log").touch()
    for times in (1, 2):
        with watching(told):
            pass
        assert len((tmp_path / "log").read_text().splitlines()) == 2 * times


def test_a_log_on_a_full_disk_is_one_line(capfd):
    """No trace of the logging library, and the command ends as on any full disk."""
    with (
        pytest.raises(
            UnwritableResultError, match=r"^/dev/full: cannot be written \(No space left"
        ),
        watching(Told(command="check", quiet=True, log=Path("/dev/full"))),
    ):
        pass
    assert capfd.readouterr().err == ""
