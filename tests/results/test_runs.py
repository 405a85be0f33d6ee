"""A run's folder: parts that are whole or not there, one process at a time, old runs kept."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pytest

from chiaroscuro.errors import ResultError
from chiaroscuro.results import folders as folders_module
from chiaroscuro.results import load, save, verify
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.runs import Part, open_run, read_config
from tests.results.kinds import TOY, register, toy


@dataclass(frozen=True)
class Config:
    seed: int
    maps: tuple[str, ...] = ("a", "b")


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    register(monkeypatch)


def part(number: int, count: int = 3) -> Part:
    rows = pa.table(
        {"id": [f"{number}-{i}" for i in range(count)], "value": [0.5 * number] * count}
    )
    extra = pa.table({"x": [number]})
    return Part(
        number, count + 1, {"rows": rows, "what-if": extra}, (LeftOut(f"{number}-x", "broken"),),
        {f"examples/{number:08d}.npz": b"data"},
    )  # fmt: skip


def open_(folder, config=Config(0), *, resume=False, overwrite=False):
    return open_run(folder, TOY, config, resume=resume, overwrite=overwrite)


def test_a_run_from_begin_to_end(tmp_path):
    with open_(tmp_path / "r") as run:
        for number in (2, 0):
            run.write_part(part(number))
        assert run.finished_parts() == {0: 4, 2: 4}
        with pytest.raises(ResultError, match="not finished"):
            load(tmp_path / "r")
        found = list(run.read_parts([0, 2]))
        assert [p.number for p in found] == [0, 2]
        assert found[1].tables["rows"].equals(part(2).tables["rows"])
        assert found[1].tables["what-if"].equals(part(2).tables["what-if"])
        assert found[1].left_out == part(2).left_out
        run.finish(toy())
    assert load(tmp_path / "r").number == 1.5
    assert read_config(tmp_path / "r", TOY, Config) == Config(0)


def test_a_part_is_the_same_bytes_each_time(tmp_path):
    with open_(tmp_path / "r") as run:
        run.write_part(part(1))
        before = {f: f.read_bytes() for f in (tmp_path / "r").rglob("*") if f.is_file()}
        run.write_part(part(1))
        assert before == {f: f.read_bytes() for f in before}


def test_a_run_is_resumed_by_its_own_configuration_alone(tmp_path):
    with open_(tmp_path / "r") as run:
        run.write_part(part(0))
    with pytest.raises(ResultError, match="--resume"), open_(tmp_path / "r"):
        pass
    wanted = r"another configuration \(seed was 0, now 1; maps was \['a', 'b'\], now \['c'\]\)"
    with (
        pytest.raises(ResultError, match=wanted),
        open_(tmp_path / "r", Config(1, ("c",)), resume=True),
    ):
        pass
    with open_(tmp_path / "r", resume=True) as run:
        assert run.finished_parts() == {0: 4}


def test_resume_begins_where_there_is_nothing(tmp_path):
    with open_(tmp_path / "r", resume=True) as run:
        assert run.finished_parts() == {}


def test_gaps_and_damage_are_parts_that_are_not_there(tmp_path):
    with open_(tmp_path / "r") as run:
        for number in range(4):
            run.write_part(part(number))
        file = tmp_path / "r" / "rows" / "000001.parquet"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
        (tmp_path / "r" / "what-if" / "000002.parquet").unlink()
        (tmp_path / "r" / "parts" / "000003.json").write_text("{")
        assert set(run.finished_parts()) == {0}
        with pytest.raises(ResultError, match=r"part 1 is gone or damaged: resume=True"):
            list(run.read_parts([0, 1]))


def test_every_flipped_bit_of_a_part_is_noticed(tmp_path):
    with open_(tmp_path / "r") as run:
        run.write_part(part(0))
        whole = run.finished_parts()
        for file in sorted((tmp_path / "r").glob("*/0*")):
            data = bytearray(file.read_bytes())
            for place in range(0, len(data), 7):
                data[place] ^= 1 << (place % 8)
                file.write_bytes(data)
                assert run.finished_parts() != whole, (file, place)
                data[place] ^= 1 << (place % 8)
            file.write_bytes(data)
        assert run.finished_parts() == whole


def test_one_process_at_a_time(tmp_path):
    with (
        open_(tmp_path / "r"),
        pytest.raises(ResultError, match="another process"),
        open_(tmp_path / "r", resume=True),
    ):
        pass
    with open_(tmp_path / "r", resume=True):
        pass


def test_a_dead_process_lets_go(tmp_path):
    child = os.fork()
    if child == 0:
        with open_(tmp_path / "r") as run:
            run.write_part(part(0))
            os._exit(0)
    os.waitpid(child, 0)
    with open_(tmp_path / "r", resume=True) as run:
        assert set(run.finished_parts()) == {0}


def test_an_old_run_stays_until_the_new_one_is_whole(tmp_path):
    with open_(tmp_path / "r") as run:
        run.finish(toy(1))
    with open_(tmp_path / "r", overwrite=True) as run:
        run.write_part(part(0))
    with open_(tmp_path / "r", Config(2), overwrite=True) as run:  # over an unfinished one
        pass
    hidden = [f for f in tmp_path.iterdir() if f.name != "r"]
    assert [load(folder).number for folder in hidden] == [1]
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    with open_(tmp_path / "r", Config(2), resume=True) as run:
        run.finish(toy(2))
    assert [f.name for f in tmp_path.iterdir()] == ["r"]
    assert load(tmp_path / "r").number == 2
    # Given up instead: without the unfinished run the old one comes back.
    copy = tmp_path.with_name("copy")
    shutil.rmtree(copy / "r")
    with pytest.raises(ResultError, match="replace it"), open_(copy / "r"):
        pass
    assert load(copy / "r").number == 1


def test_foreign_folders_are_left_alone(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "config.json").write_text("{}")
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(ResultError, match="not a chiaroscuro result"), open_(theirs, **options):
            pass
    assert [f.name for f in theirs.iterdir()] == ["config.json"]


def test_somebodys_file_in_an_unfinished_run_keeps_it(tmp_path):
    with open_(tmp_path / "r") as run:
        run.write_part(part(0))
    (tmp_path / "r" / "notes.txt").write_text("mine")
    with pytest.raises(ResultError, match=r"notes\.txt"), open_(tmp_path / "r", overwrite=True):
        pass
    with open_(tmp_path / "r", resume=True) as run:
        run.finish(toy())
    assert (tmp_path / "r" / "notes.txt").read_text() == "mine"


def test_what_never_came_to_its_end_is_removed(tmp_path):
    with open_(tmp_path / "r") as run:
        run.write_part(part(0))
        (tmp_path / "r" / "rows" / "000001.parquet.chiaroscuro-new").write_bytes(b"half")
        run.finish(toy())
    assert not list((tmp_path / "r").rglob("*.chiaroscuro-new"))


@pytest.mark.parametrize("name", ["notes.new", "mine/000001.jpg", "rows/readme.parquet"])
def test_only_files_of_the_parts_are_a_runs_own(tmp_path, name):
    """Whatever else lies in a run's folder is never removed, nor part of its result."""
    with open_(tmp_path / "r") as run:
        run.write_part(part(0))
    mine = tmp_path / "r" / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    for finished in (False, True):
        if finished:
            with open_(tmp_path / "r", resume=True) as run:
                run.finish(toy())
            assert verify(tmp_path / "r") == []
        with pytest.raises(ResultError, match=mine.name), open_(tmp_path / "r", overwrite=True):
            pass
        assert mine.read_text() == "mine"


@pytest.mark.parametrize("written", range(5))
def test_a_run_that_ended_within_a_part_knows_its_files(tmp_path, monkeypatch, written):
    """Ended after any of a part's files, the part is not there, and the run may be replaced."""
    left, write = iter(range(written)), folders_module.write_file
    with open_(tmp_path / "r") as run:
        with monkeypatch.context() as patch, suppress(StopIteration):
            patch.setattr(folders_module, "write_file", lambda *f: (next(left), write(*f)))
            run.write_part(part(0))
        assert run.finished_parts() == ({0: 4} if written == 4 else {})
    with open_(tmp_path / "r", overwrite=True) as run:
        assert run.finished_parts() == {}


def test_a_run_that_ended_as_it_finished_is_finished_as_any_other(tmp_path, monkeypatch):
    """What its view had drawn by then is its own."""
    with open_(tmp_path / "r") as run:
        run.write_part(part(0))
        monkeypatch.setattr(folders_module, "write_marker", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.finish(toy())
    monkeypatch.undo()
    register(monkeypatch)
    with open_(tmp_path / "r", resume=True) as run:
        run.finish(toy())
    save(toy(3), tmp_path / "r", overwrite=True)


def test_a_run_that_replaces_another_appears_with_its_marker(tmp_path, monkeypatch):
    """Ended between any two steps, the old result comes back or the new run names it."""
    with open_(tmp_path / "r") as run:
        run.finish(toy())
    monkeypatch.setattr(folders_module, "write_marker", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), open_(tmp_path / "r", Config(2), overwrite=True):
        pass
    monkeypatch.undo()
    register(monkeypatch)
    with pytest.raises(ResultError, match="replace it"), open_(tmp_path / "r"):
        pass
    assert load(tmp_path / "r").number == 1.5
    assert [f.name for f in tmp_path.iterdir()] == ["r"]


def test_an_old_result_goes_when_its_place_is_taken_by_a_finished_one(tmp_path, monkeypatch):
    with open_(tmp_path / "r") as run:
        run.finish(toy())
    with open_(tmp_path / "r", overwrite=True) as run, monkeypatch.context() as patch:
        patch.setattr(folders_module, "_discard", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.finish(toy(2))
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ResultError, match="--force"):
        save(toy(3), tmp_path / "r")
    assert [f.name for f in tmp_path.iterdir()] == ["r"]
    assert load(tmp_path / "r").number == 2


@pytest.mark.parametrize("name", ["chiaroscuro-toy.json.chiaroscuro-new", "rows", "index.html"])
def test_writing_follows_no_link(tmp_path, name):
    """A run that somebody sent leads no write to another place."""
    with open_(tmp_path / "r"):
        pass
    mine = tmp_path / "mine"
    mine.mkdir() if name == "rows" else mine.write_text("mine")
    (tmp_path / "r" / name).symlink_to(mine)
    with pytest.raises(ResultError, match="is a link"), open_(tmp_path / "r", resume=True):
        pass
    assert mine.is_dir() or mine.read_text() == "mine"
