"""Runs that stop, go on as the same bytes, and refuse to be mixed with others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import chiaroscuro.runs.evaluation as evaluation
from chiaroscuro.device import DeviceProfile, device_profile, profile_in_use
from chiaroscuro.errors import ResultError
from chiaroscuro.runs import evaluate
from tests.killer import KILLS, toy_run
from tests.pictures import class_rows, write_parquet
from tests.runs.toy import CLASSES, bytes_of, settings, toy_classifier


def test_edit_maps_go_on_as_the_same_bytes(data, tmp_path):
    def interrupt(done, total, before):
        if done == 8:
            raise KeyboardInterrupt

    given = settings(data, maps=("positive", "partial-edit"), fills=("white", "noise"))
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        evaluate(toy_classifier(), given, run, on_images=interrupt)
    evaluate(toy_classifier(), given, run, resume=True)
    evaluate(toy_classifier(), given, tmp_path / "whole")
    assert bytes_of(run) == bytes_of(tmp_path / "whole")


def test_a_run_is_the_same_bytes_again(data, tmp_path, page):
    for name in ("one", "two"):
        evaluate(toy_classifier(), settings(data), tmp_path / name)
    one, two = bytes_of(tmp_path / "one"), bytes_of(tmp_path / "two")
    assert one == two
    assert {"config.json", "summary.json", "index.html", "curves-paper.svg"} < set(one)


def test_the_manifest_is_last_and_names_every_file(data, tmp_path):
    evaluate(toy_classifier(), settings(data), tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert set(manifest["files"]) == set(bytes_of(tmp_path / "run"))
    newest = max((tmp_path / "run").rglob("*.*"), key=lambda file: file.stat().st_mtime_ns)
    assert newest.name == "manifest.json"


def test_killed_ten_times_the_rows_are_the_same_bytes(tmp_path, page):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 26), CLASSES)
    toy_run(tmp_path / "data", tmp_path / "whole", resume=False)
    command = [sys.executable, "-m", "tests.killer", tmp_path / "data", tmp_path / "killed", "7"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    kills = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(kills) == KILLS
    between = [parts for parts, killed in kills if killed and 1 <= parts < 39]
    assert len(between) >= 8, kills
    assert len(set(between)) >= 5
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert (tmp_path / "killed" / "manifest.json").is_file()


def test_ctrl_c_leaves_whole_parts_and_resuming_keeps_threads_and_batch(data, tmp_path):
    def interrupt(done, total, before):
        assert total == 15
        if done == 8:
            raise KeyboardInterrupt

    run = tmp_path / "run"
    given = settings(data, batch=None, threads=None)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        evaluate(toy_classifier(), settings(data, batch=4, threads=1), run, on_images=interrupt)
    assert len(list(run.glob("rows/*.parquet"))) == 2
    assert not (run / "manifest.json").exists()
    told = []
    evaluate(toy_classifier(), given, run, resume=True, on_images=lambda *n: told.append(n))
    assert torch.get_num_threads() == before
    assert told[0] == (8, 15, 8)
    assert told[-1] == (15, 15, 8)
    evaluate(toy_classifier(), settings(data, batch=4, threads=1), tmp_path / "whole")
    assert bytes_of(run) == bytes_of(tmp_path / "whole")


def test_a_torn_part_is_made_again(data, tmp_path):
    run = tmp_path / "run"
    evaluate(toy_classifier(), settings(data), run)
    whole = bytes_of(run)
    (run / "manifest.json").unlink()
    (run / "rows" / "000002.parquet").write_bytes(whole["rows/000002.parquet"][:100])
    (run / "rows" / "000003.new").write_bytes(b"half")
    evaluate(toy_classifier(), settings(data), run, resume=True)
    assert bytes_of(run) == whole


def test_a_full_disk_is_one_line_and_loses_nothing(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    write_part = evaluation.RunStore.write_part

    def full(store, number, *rest):
        if number == 2:
            raise OSError(28, "No space left on device")
        write_part(store, number, *rest)

    monkeypatch.setattr(evaluation.RunStore, "write_part", full)
    with pytest.raises(ResultError, match=r"run: cannot be written \(No space left on device\)"):
        evaluate(toy_classifier(), settings(data), run)
    monkeypatch.undo()
    monkeypatch.setattr(evaluation, "write_page", lambda folder, summary: None)
    evaluate(toy_classifier(), settings(data), run, resume=True)
    evaluate(toy_classifier(), settings(data), tmp_path / "whole")
    assert bytes_of(run) == bytes_of(tmp_path / "whole")


def test_a_finished_run_is_read_not_made(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    summary = evaluate(toy_classifier(), settings(data), run)
    monkeypatch.setattr(evaluation, "measure", None)
    assert evaluate(toy_classifier(), settings(data), run, resume=True) == summary


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed 0, now 1"),
        ({"fills": ("black",)}, "fills"),
        ({"batch": 5}, "batch 4, now 5"),
        ({"limit": 7}, "limit None, now 7"),
    ],
)
def test_another_configuration_is_refused(data, tmp_path, change, named):
    run = tmp_path / "run"
    evaluate(toy_classifier(), settings(data), run)
    before = bytes_of(run)
    with pytest.raises(ResultError, match=f"another configuration .*{named}"):
        evaluate(toy_classifier(), settings(data, **change), run, resume=True)
    assert bytes_of(run) == before


@pytest.mark.parametrize("name", ["cores", "cache_bytes", "budget_bytes", "vector_bytes"])
def test_what_decides_the_rounding_is_part_of_the_configuration(data, tmp_path, name):
    run = tmp_path / "run"
    evaluate(toy_classifier(), settings(data), run)
    facts = device_profile().describe()
    with (
        profile_in_use(DeviceProfile(**facts | {name: 2 * facts[name]})),
        pytest.raises(ResultError, match=rf"another configuration \({name} \d+, now \d+\)"),
    ):
        evaluate(toy_classifier(), settings(data), run, resume=True)
    with profile_in_use(DeviceProfile(**facts)):
        evaluate(toy_classifier(), settings(data), run, resume=True)


def test_other_weights_are_another_configuration(data, tmp_path):
    run = tmp_path / "run"
    evaluate(toy_classifier(), settings(data), run)
    other = toy_classifier()
    with torch.no_grad():
        next(other.module.parameters()).add_(1e-3)
    with pytest.raises(ResultError, match="sha256"):
        evaluate(other, settings(data), run, resume=True)


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_other_images_under_the_same_name_are_another_configuration(tmp_path, kind):
    """As many images, of the same classes, under the same word: only the files tell."""
    for root, rows in (("old", class_rows(3, 2)), ("new", class_rows(3, 3)[3:])):
        if kind == "parquet":
            write_parquet(tmp_path / root / "cifar10" / "test.parquet", rows, CLASSES)
            continue
        for n, (image, k) in enumerate(rows):
            file = tmp_path / root / "cifar10" / CLASSES[k] / f"{n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image)
    run = tmp_path / "run"
    wanted = settings("cifar10")
    evaluate(toy_classifier(), wanted, run, data_root=tmp_path / "old")
    before = bytes_of(run)
    with pytest.raises(ResultError, match="another configuration .*files .*, now "):
        evaluate(toy_classifier(), wanted, run, resume=True, data_root=tmp_path / "new")
    assert bytes_of(run) == before
    (tmp_path / "old").rename(tmp_path / "moved")
    assert evaluate(toy_classifier(), wanted, run, resume=True, data_root=tmp_path / "moved")


def test_a_run_that_knows_no_files_is_gone_on_with(data, tmp_path):
    run = tmp_path / "run"
    summary = evaluate(toy_classifier(), settings(data), run)
    config = json.loads((run / "config.json").read_text())
    del config["data"]["files"]
    (run / "config.json").write_text(json.dumps(config))
    assert evaluate(toy_classifier(), settings(data), run, resume=True) == summary


def test_folders_are_not_overwritten(data, tmp_path):
    run = tmp_path / "run"
    evaluate(toy_classifier(), settings(data), run)
    with pytest.raises(ResultError, match=r"holds a run: go on with it \(--resume\), or --force"):
        evaluate(toy_classifier(), settings(data), run)
    evaluate(toy_classifier(), settings(data, seed=9), run, overwrite=True)
    assert json.loads((run / "config.json").read_text())["settings"]["seed"] == 9
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(ResultError, match="not one of ours"):
            evaluate(toy_classifier(), settings(data), mine, **options)
    assert [file.name for file in mine.iterdir()] == ["thesis.tex"]
