"""Saving and loading: whole or not at all, and nothing of anybody else's is touched."""

import dataclasses
import io
import json
import os
import signal
import threading
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiaroscuro.errors import ResultError
from chiaroscuro.results import check_free, facts_of, is_result, kind_in, load, save, staged, verify
from chiaroscuro.results import folders as folders_module
from chiaroscuro.results.folders import locked
from chiaroscuro.results.runs import open_run
from chiaroscuro.results.store import from_plain, save_page, to_plain
from tests.results.kinds import OTHER, TOY, Toy, register, toy


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    register(monkeypatch)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def assert_same(a: Toy, b: Toy) -> None:
    plain, arrays = to_plain(a)
    other, theirs = to_plain(b)
    assert plain == other
    assert arrays.keys() == theirs.keys()
    for name, values in arrays.items():
        assert values.dtype == theirs[name].dtype
        np.testing.assert_array_equal(values, theirs[name])


def test_what_is_saved_is_what_is_loaded(tmp_path):
    save(toy(), tmp_path / "r")
    assert names(tmp_path) == ["r"]
    assert names(tmp_path / "r") == ["arrays.npz", "chiaroscuro-toy.json", "index.html"]
    found = load(tmp_path / "r")
    assert_same(found, toy())
    assert found.labels == {3: "dog", 0: "cat"}
    assert isinstance(found.inner, tuple)
    assert kind_in(tmp_path / "r") == TOY
    assert verify(tmp_path / "r") == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3),
    )
)  # fmt: skip
def test_plain_values_stay_as_they_are(value):
    assert to_plain(value) == (value, {})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_kept(tmp_path, number):
    save(toy(number), tmp_path / "r")
    found = load(tmp_path / "r").number
    assert found == number or (found != found and number != number)
    assert "NaN" not in (tmp_path / "r" / "chiaroscuro-toy.json").read_text()


def test_every_flipped_bit_of_the_arrays_is_noticed(tmp_path):
    save(toy(), tmp_path / "r")
    file = tmp_path / "r" / "arrays.npz"
    data = bytearray(file.read_bytes())
    for place in range(len(data)):
        data[place] ^= 1 << (place % 8)
        file.write_bytes(data)
        with pytest.raises(ResultError, match="damaged"):
            load(tmp_path / "r")
        data[place] ^= 1 << (place % 8)
    file.write_bytes(data)
    load(tmp_path / "r")


def test_a_changed_figure_is_noticed(tmp_path):
    save(toy(), tmp_path / "r")
    marker = tmp_path / "r" / TOY.marker
    marker.write_text(marker.read_text().replace('"low": 0.25', '"low": 0.75'))
    with pytest.raises(ResultError, match="damaged, or was changed"):
        load(tmp_path / "r")


def test_verify_names_what_changed(tmp_path):
    save(toy(), tmp_path / "r")
    (tmp_path / "r" / "index.html").write_text("else")
    (tmp_path / "r" / "arrays.npz").unlink()
    assert verify(tmp_path / "r") == ["arrays.npz", "index.html"]


@pytest.mark.parametrize(
    ("version", "words"), [(2, "update chiaroscuro"), (0, "make it once more")]
)
def test_another_schema_version_is_said(tmp_path, version, words):
    save(toy(), tmp_path / "r")
    marker = tmp_path / "r" / TOY.marker
    marker.write_text(marker.read_text().replace("toy/1", f"toy/{version}"))
    with pytest.raises(ResultError, match=rf"schema version {version}.*version 1: {words}"):
        load(tmp_path / "r")


BAD_MARKERS = [
    "", "{", "[]", '{"schema": 3}', '{"schema": "other/1"}', '{"schema": "chiaroscuro-toy/x"}',
    '{"schema": "chiaroscuro-toy/1", "result": {"number": "many"}}', "\udcff",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_MARKERS)
def test_a_marker_that_is_none(tmp_path, text):
    (tmp_path / TOY.marker).write_text(text, errors="surrogateescape")
    with pytest.raises(ResultError) as caught:
        load(tmp_path, TOY)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def foreign_folders():
    hugging_face = {"config.json": "{}", "model.safetensors": "weights"}
    return {
        "a model folder": hugging_face,
        "a marker of ours that is empty": {TOY.marker: ""},
        "a marker with another schema": {TOY.marker: '{"schema": "chiaroscuro-other/1"}'},
        "another kind of ours": {OTHER.marker: '{"schema": "chiaroscuro-other/1"}'},
        "photos": {"cat.png": "pixels"},
        "old names": {"explanation.json": "{}", "check.json": "{}", "model.json": "{}"},
    }


@pytest.mark.parametrize("files", foreign_folders().values(), ids=foreign_folders().keys())
def test_nothing_but_a_result_of_the_same_kind_is_replaced(tmp_path, files):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(ResultError, match="choose another place"):
        save(toy(), folder, overwrite=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == files
    assert names(tmp_path) == ["theirs"]


def test_a_file_of_somebody_else_in_a_result_keeps_it(tmp_path):
    save(toy(), tmp_path / "r")
    (tmp_path / "r" / "notes.txt").write_text("mine")
    with pytest.raises(ResultError, match=r"did not write \(such as notes.txt\): move them"):
        save(toy(2), tmp_path / "r", overwrite=True)
    assert load(tmp_path / "r").number == 1.5
    (tmp_path / "r" / "notes.txt").unlink()
    (tmp_path / "r" / ".DS_Store").write_text("litter")
    save(toy(2), tmp_path / "r", overwrite=True)
    assert load(tmp_path / "r").number == 2
    assert names(tmp_path) == ["r"]


def test_without_overwrite_nothing_is_replaced(tmp_path):
    save(toy(), tmp_path / "r")
    with pytest.raises(ResultError, match="--force"):
        save(toy(2), tmp_path / "r")
    assert load(tmp_path / "r").number == 1.5


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "r").mkdir()
    save(toy(), tmp_path / "r")
    assert load(tmp_path / "r").number == 1.5


def test_through_a_link_the_result_behind_it_is_replaced(tmp_path):
    save(toy(), tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    save(toy(2), tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "real").number == 2
    assert names(tmp_path) == ["link", "real"]


def test_a_name_of_255_bytes(tmp_path):
    save(toy(), tmp_path / ("影" * 85))
    save(toy(2), tmp_path / ("影" * 85), overwrite=True)
    assert load(tmp_path / ("影" * 85)).number == 2


def test_a_name_that_is_no_text(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff"))
    save(toy(), folder)
    save(toy(2), folder, overwrite=True)
    assert load(folder).number == 2


def test_where_nothing_can_be_written_it_is_said_before(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="is not a folder"):
        save(toy(), tmp_path / "file" / "r")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(ResultError, match="no permission"):
        save(toy(), tmp_path / "deep" / "r")


def test_an_error_leaves_everything_as_it_was(tmp_path):
    save(toy(), tmp_path / "r")
    with pytest.raises(ResultError), staged(tmp_path / "r", TOY, overwrite=True) as stage:
        stage.write_text("")
    assert names(tmp_path) == ["r"]
    assert load(tmp_path / "r").number == 1.5
    save(toy(3), tmp_path / "r", overwrite=True)
    assert names(tmp_path) == ["r"]
    assert load(tmp_path / "r").number == 3


def in_child(work) -> int:
    """Run in a forked process that ends at once; its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("moment", ["write", "before", "between", "after"])
def test_a_killed_save_loses_nothing(tmp_path, monkeypatch, moment):
    """Killed in any step, also between two renames, the old result is found."""
    save(toy(), tmp_path / "r")

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def work():
        if moment == "write":
            folders_module._install = die
        elif moment == "before":
            folders_module.set_aside = die
        elif moment == "after":
            folders_module._discard = die
        else:
            move = folders_module.set_aside

            def move_and_die(folder):
                move(folder)
                die()

            folders_module.set_aside = move_and_die
        save(toy(2), tmp_path / "r", overwrite=True)

    assert os.WIFSIGNALED(in_child(work))
    assert names(tmp_path) != ["r"]  # something was left
    assert load(tmp_path / "r").number == (2 if moment == "after" else 1.5)
    with pytest.raises(ResultError, match="--force"):  # a whole one is there again
        save(toy(2), tmp_path / "r")
    assert load(tmp_path / "r").number == (2 if moment == "after" else 1.5)
    assert names(tmp_path) == ["r"]
    save(toy(3), tmp_path / "r", overwrite=True)
    assert load(tmp_path / "r").number == 3
    assert names(tmp_path) == ["r"]


def test_a_reader_does_not_disturb_a_save(tmp_path, monkeypatch):
    """Between two renames nothing lies in the place, and only a dead process's is put back."""
    save(toy(), tmp_path / "r")
    move = folders_module.set_aside

    def move_and_read(folder):
        move(folder)
        with pytest.raises(ResultError, match="no chiaroscuro result there"):
            load(tmp_path / "r")
        folders_module.recover(tmp_path / "r")
        assert not (tmp_path / "r").exists()

    monkeypatch.setattr(folders_module, "set_aside", move_and_read)
    save(toy(2), tmp_path / "r", overwrite=True)
    assert load(tmp_path / "r").number == 2
    assert names(tmp_path) == ["r"]


def test_a_stage_under_way_is_not_cleared_away(tmp_path):
    with staged(tmp_path / "a", TOY) as stage:
        save(toy(), tmp_path / "b")
        assert stage.is_dir()
        (stage / "x").write_text("")
    assert names(tmp_path) == ["a", "b"]


def test_two_threads_that_save_to_one_place(tmp_path):
    barrier = threading.Barrier(4)
    errors: list[Exception] = []

    def work(number):
        barrier.wait()
        try:
            for _ in range(5):
                save(toy(number), tmp_path / "r", overwrite=True)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(error, ResultError) for error in errors)
    assert load(tmp_path / "r").number in range(4)
    assert verify(tmp_path / "r") == []
    assert names(tmp_path) == ["r"]


def test_a_lock_is_held_and_let_go(tmp_path):
    with locked(tmp_path), pytest.raises(ResultError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_results_of_ours_are_known(tmp_path):
    assert not is_result(tmp_path)
    assert not is_result(tmp_path / "nowhere")
    save(toy(), tmp_path / "r")
    assert is_result(tmp_path / "r")


def test_what_is_no_result_is_not_saved(tmp_path):
    with pytest.raises(ResultError, match="a dict is not a result"):
        save({}, tmp_path / "r")


def test_from_plain_says_what_does_not_fit():
    plain, arrays = to_plain(toy())
    with pytest.raises(ValueError, match="number"):
        from_plain({**plain, "number": "x"}, arrays, Toy)
    with pytest.raises(KeyError):
        from_plain(plain, {}, Toy)


def test_a_pickle_in_the_arrays_is_never_run(tmp_path):
    save(toy(), tmp_path / "r")
    np.savez(tmp_path / "r" / "arrays.npz", bad=np.array([object()], dtype=object))
    marker = json.loads((tmp_path / "r" / TOY.marker).read_text())
    found = folders_module.digest(tmp_path / "r" / "arrays.npz")
    marker["files"]["arrays.npz"] = {"bytes": found.bytes, "sha256": found.sha256}
    changed = msgspec.convert(marker, folders_module.Marker)
    folders_module.write_marker(tmp_path / "r", TOY, changed)
    with pytest.raises(ResultError, match="not a readable toy"):
        load(tmp_path / "r")


def hang(*_):
    raise TimeoutError


@pytest.mark.parametrize(
    "text",
    [
        b'{"schema": "chiaroscuro-toy/1", "result": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"schema": "chiaroscuro-toy/' + b"9" * 5000 + b'"}',
        '{"schema": "chiaroscuro-toy/²"}'.encode(),
        b"\xff", b"", b"null", b"[]", os.mkfifo, "/dev/zero", Path.mkdir,
    ],
)  # fmt: skip
def test_whatever_is_called_a_marker_is_read_or_is_none(tmp_path, text):
    marker = tmp_path / TOY.marker
    if isinstance(text, bytes):
        marker.write_bytes(text)
    elif isinstance(text, str):
        marker.symlink_to(text)
    else:
        text(marker)
    signal.signal(signal.SIGALRM, hang)
    signal.alarm(20)
    try:
        assert kind_in(tmp_path) is None
        with pytest.raises(ResultError):
            load(tmp_path, TOY)
        with pytest.raises(ResultError, match="not a chiaroscuro result"):
            save(toy(), tmp_path, overwrite=True)
    finally:
        signal.alarm(0)


@pytest.mark.parametrize("kind", ["pipe", "endless", "giant"])
def test_arrays_of_a_hostile_result(tmp_path, kind):
    folder = save(toy(), tmp_path / "r")
    file = folder / "arrays.npz"
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "endless":
        file.symlink_to("/dev/zero")
    else:
        header = io.BytesIO()
        about = {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(header, about)
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("inner.0.npy", header.getvalue())
        marker = folders_module.read_marker(folder, TOY)
        files = {**marker.files, file.name: folders_module.digest(file)}
        folders_module.write_marker(folder, TOY, dataclasses.replace(marker, files=files))
    signal.signal(signal.SIGALRM, hang)
    signal.alarm(20)
    try:
        with pytest.raises(ResultError, match="not a readable toy"):
            load(folder)
        assert verify(folder) == ([] if kind == "giant" else ["arrays.npz"])
    finally:
        signal.alarm(0)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_a_name_that_no_folder_has_is_found_before_computing(tmp_path, name):
    with pytest.raises(ResultError, match="cannot be written"):
        check_free(f"{tmp_path}/{name}", TOY, overwrite=False)
    with (
        pytest.raises(ResultError, match="cannot be written"),
        open_run(f"{tmp_path}/{name}", TOY, toy(), resume=False, overwrite=False),
    ):
        pass


def test_numbers_that_are_not_finite_and_objects_of_users(tmp_path):
    odd = {
        "device": np.dtype("f4"), "path": Path("a"), "bad\udcff": "name\udcff", "big": 2**70,
        "lost": float("nan"), "far": float("-inf"), "set": {1}, "bytes": b"x", "none": None,
    }  # fmt: skip
    plain, arrays = to_plain({"origin": odd, "number": float("inf")})
    kept = from_plain(msgspec.json.decode(msgspec.json.encode(plain)), arrays, dict)
    assert kept["number"] == float("inf")
    assert kept["origin"]["far"] == float("-inf")
    assert np.isnan(kept["origin"]["lost"])
    assert kept["origin"]["bad\\udcff"] == "name\\udcff"
    assert kept["origin"]["device"] == "float32"
    assert facts_of({"a": float("nan"), "b": 1.5}) == {"a": "nan", "b": 1.5}


def test_a_stage_is_locked_until_it_is_in_its_place(tmp_path, monkeypatch):
    """Another save clears away only stages that are not locked."""
    install = folders_module._install

    def install_slowly(stage, final):
        folders_module.recover(tmp_path / "other")
        install(stage, final)

    monkeypatch.setattr(folders_module, "_install", install_slowly)
    save(toy(), tmp_path / "r")
    assert load(tmp_path / "r").number == 1.5
    assert not (tmp_path / "r" / folders_module.LOCK).exists()


def test_a_page_is_drawn_where_nobody_clears_up(tmp_path, monkeypatch):
    def draw(_, result, folder):
        folders_module.recover(tmp_path / "photo")
        (folder / "index.html").write_text("page")

    monkeypatch.setattr(type(TOY), "draw", draw)
    save_page(tmp_path, TOY, lambda _: toy())
    assert (tmp_path / "index.html").read_text() == "page"


def test_a_private_folder_stays_private(tmp_path):
    folder = save(toy(), tmp_path / "r")
    folder.chmod(0o700)
    save(toy(2), folder, overwrite=True)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_save_that_another_one_replaces_at_once_is_no_error(tmp_path, monkeypatch):
    install = folders_module._install

    def install_twice(stage, final):
        install(stage, final)
        (final / folders_module.LOCK).unlink()  # as the other one does

    monkeypatch.setattr(folders_module, "_install", install_twice)
    save(toy(), tmp_path / "r")
    assert load(tmp_path / "r").number == 1.5


@pytest.mark.parametrize("place", ["s3://bucket/run", "memory://run", Path("s3://bucket/run")])
def test_no_result_is_written_to_a_url(place, tmp_path, monkeypatch):
    """A path drops a slash, so that a folder "s3:" would be made here."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResultError, match=r"is a URL, and results lie on disk: give a folder"):
        folders_module.resolved(place)
    assert folders_module.resolved("a:b/c") == tmp_path / "a:b" / "c"
    assert not [*tmp_path.iterdir()]
