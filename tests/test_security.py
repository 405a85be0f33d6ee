"""Attacks, by kind; each ends as one line of ours or as nothing at all (SECURITY.md)."""

import ast
import dataclasses
import io
import json
import os
import re
import signal
import zipfile
from html import unescape
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

import chiaroscuro
from chiaroscuro import (
    Classifier,
    compare,
    explain,
    load_classifier,
    load_images,
    save_classifier,
    smallest_edit,
    what_if,
)
from chiaroscuro.catalog import class_names, read_texts
from chiaroscuro.checks.regions import digest_of, load_regions
from chiaroscuro.classifier.reading import opened
from chiaroscuro.cli.terminal import say
from chiaroscuro.errors import ChiaroscuroError, ImageError, InputError, ModelError, ResultError
from chiaroscuro.images import (
    Framing,
    decode_photo,
    find_photos,
    frame,
    links_out,
    open_photo,
    photos,
)
from chiaroscuro.images.regions import read_mask
from chiaroscuro.models.folder import basic_cnn
from chiaroscuro.report.paper import csv_text, latex, markdown, write
from chiaroscuro.results import KINDS, load, runs, store, verify
from chiaroscuro.results.folders import (
    Marker,
    Receipt,
    digest,
    kind_in,
    read_marker,
    sealed,
    write_marker,
)
from chiaroscuro.results.measurements import Figure, Reproduction, Table
from chiaroscuro.viewer import make_feed
from tests.pictures import encoded, picture

SOURCE = Path(chiaroscuro.__file__).parent
NASTY = "\x1b[2J\x07<script>alert(1)</script>\u202e$\\frac$\n=1+1"


@pytest.fixture(autouse=True)
def _ends():
    """A reader that waits for a pipe, or reads a device, ends the test and not the suite."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("hangs"))
    signal.alarm(100)
    yield
    signal.alarm(0)


@pytest.fixture
def toy() -> Classifier:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    return Classifier(net, size=8, labels=("ant", NASTY, "cat"), name=NASTY)


@pytest.fixture
def secret(tmp_path) -> Path:
    """A picture that is none of the data's."""
    file = tmp_path / "private" / "secret.png"
    file.parent.mkdir()
    file.write_bytes(encoded(picture(1)))
    return file


# Code


def _calls():
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                yield file.relative_to(SOURCE).as_posix(), ast.unparse(node.func), ast.unparse(node)


def test_nothing_that_runs_code_is_called():
    """Python runs in factories that the user names; pickles go to our own processes alone."""
    known = {("models/factory.py", "exec"), ("models/factory.py", "compile")}
    runs_code = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load"}
    found = {(file, call) for file, call, _ in _calls() if call in runs_code}
    assert found == known
    pickles = {file for file, call, _ in _calls() if call.startswith(("pickle.", "dill", "joblib"))}
    assert pickles == {"passes/executor.py"}
    for _, call, text in _calls():
        assert call != "torch.load" or "weights_only=True" in text
        assert call != "np.load" or "allow_pickle=False" in text
        assert not call.startswith("subprocess") and "trust_remote_code=True" not in text


def test_a_model_of_a_library_runs_no_code_of_its_folder(tmp_path):
    """transformers would ask at the terminal, and take "y" for a yes."""
    names = {"AutoConfig": "own.Own", "AutoModelForImageClassification": "own.Net"}
    about = {"model_type": "own", "auto_map": names, "architectures": ["OwnForImageClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(about))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError, match="trust_remote_code|custom code"):
        load_classifier(f"hf:{tmp_path}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "arguments", [{"classes": 10**7}, {"body": "basic-vit", "outputs": 10**4, "classes": 10**4}]
)
def test_a_model_folder_builds_no_network_that_its_weights_do_not_fill(tmp_path, arguments):
    net = Classifier(basic_cnn(3), size=8)
    save_classifier(net, tmp_path / "m", architecture="basic-cnn", arguments={"classes": 3})
    marker = read_marker(tmp_path / "m", KINDS["model"])
    name = "new-head" if "body" in arguments else "basic-cnn"
    changed = {**marker.result, "architecture": name, "arguments": arguments}
    write_marker(tmp_path / "m", KINDS["model"], dataclasses.replace(marker, result=changed))
    with pytest.raises(ModelError, match="tells of a far larger network"):
        load_classifier(tmp_path / "m")


# Files that are none, and paths and links that lead out


def _boxes(file):
    load_regions(file)
    digest_of(file)


def _in_folder(kind):
    def read(file):
        file.rename(file.with_name(KINDS[kind].marker))
        load(file.parent)

    return read


READERS = {
    "photo.png": open_photo, "mask.png": read_mask, "array.npy": opened, "boxes.csv": _boxes,
    "boxes.json": _boxes, "boxes.parquet": _boxes, "table.parquet": load_images,
    "classes.txt": read_texts, "result": _in_folder("explanation"), "model": _in_folder("model"),
    "weights.pth": lambda file: load_classifier(f"timm:test_vit@{file}"),
    "net.py": lambda file: load_classifier(f"{file}:make"),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/tty"])
def test_no_pipe_and_no_device_is_read(tmp_path, name, kind):
    file = tmp_path / "there" / name
    file.parent.mkdir()
    os.mkfifo(file) if kind == "pipe" else file.symlink_to(kind)
    with pytest.raises(ChiaroscuroError) as caught:
        READERS[name](file)
    assert "\n" not in str(caught.value)
    class_names(str(file.parent))  # of a shell's completion, which says nothing


@pytest.mark.parametrize("what", ["file", "folder", "table", "cell", "absolute cell"])
def test_no_link_and_no_path_leads_out_of_the_data(tmp_path, secret, what):
    data = tmp_path / "data"
    (data / "a").mkdir(parents=True)
    (data / "a" / "own.png").write_bytes(encoded(picture(0)))
    if what == "file":
        (data / "a" / "link.png").symlink_to(secret)
    elif what == "folder":
        (data / "link").symlink_to(secret.parent)
    else:
        path = {"cell": "../private/secret.png"}.get(what, str(secret))
        cells = [{"bytes": None, "path": path}, {"bytes": None, "path": "a/own.png"}]
        home = secret.parent if what == "table" else data
        parquet.write_table(pa.table({"image": cells}), home / "t.parquet")
        if what == "table":
            (data / "test.parquet").symlink_to(home / "t.parquet")
    rows = list(load_images(data))
    named = [row.id for row in rows if row.fault is None and row.data != b""]
    assert len(named) == 1
    assert sum(row.fault is not None for row in rows) == (what != "table")
    if what in ("file", "folder"):
        assert find_photos([data]) == [data / "a" / "own.png"]
        assert len(links_out([data])) == 1
        assert find_photos([data / "a" / "link.png"]) == [data / "a" / "link.png"]  # named


def _saved(toy, place):
    image = np.random.default_rng(0).random((8, 8, 3))
    return explain(toy, image).save(place)


@pytest.mark.parametrize("name", ["arrays.npz", "marker", "page"])
def test_no_link_is_followed_out_of_a_result(tmp_path, toy, name):
    folder = _saved(toy, tmp_path / "result")
    own = {"marker": KINDS["explanation"].marker, "page": "index.html"}.get(name, name)
    (folder / own).rename(tmp_path / "elsewhere")
    (folder / own).symlink_to(tmp_path / "elsewhere")
    if name == "page":
        assert verify(folder) == ["index.html"]
        return
    with pytest.raises(ResultError):
        load(folder)


@pytest.mark.parametrize(
    "name", ["../private/rows.parquet", "/", "a/../../private/rows.parquet", "rows\0"]
)
def test_no_receipt_names_a_file_elsewhere(tmp_path, secret, name):
    run, file = tmp_path / "run", secret.parent / "rows.parquet"
    parquet.write_table(pa.table({"x": [1]}), file)
    (run / "parts").mkdir(parents=True)
    name = str(file) if name == "/" else name
    receipt = sealed(Receipt(0, 1, (), {name: digest(file)}))
    (run / "parts" / "000000.json").write_bytes(msgspec.json.encode(receipt))
    marker = Marker(KINDS["evaluation"].schema, {name: digest(file)})
    write_marker(run, KINDS["evaluation"], marker)
    held = runs.RunFolder(run, KINDS["evaluation"])
    assert held.finished_parts() == {} and verify(run) == [name]
    with pytest.raises(ResultError, match="gone or damaged"):
        list(held.read_parts([0]))


@pytest.mark.parametrize("what", ["table", "figure"])
def test_no_name_in_a_report_leads_out_of_its_folder(tmp_path, secret, what):
    table, name = Table("t", ("a",), (("1",),)), "../../private/x"
    tables = {name: table} if what == "table" else {}
    figures = (Figure("../private/secret.png", "f"),) if what == "figure" else ()
    (tmp_path / "report").mkdir()
    with pytest.raises(OSError, match="leads out of"):
        write(Reproduction((), tables, (), figures, {}, {}), tmp_path / "report")
    assert [file.name for file in secret.parent.iterdir()] == ["secret.png"]


# Small files that grow


def _png(width, height):
    return encoded(Image.new("L", (width, height)))


@pytest.mark.parametrize("sides", [(2, 20_000), (20_000, 2)])
@pytest.mark.parametrize("canvas", [(800, 800), (256, 320)])
def test_a_strip_of_a_photo_becomes_no_huge_one(sides, canvas):
    """138 bytes took 11 GB where a network takes any size."""
    photo = decode_photo(_png(*sides), "strip.png")
    assert frame(photo, Framing(size=(224, 224), canvas=canvas))[0].shape == (3, 224, 224)
    with pytest.raises(ImageError, match=r"strip.png: .* would become \d+ x \d+, expected at most"):
        frame(photo, Framing(size=None, canvas=(canvas[0], canvas[0])))


def test_a_photo_with_endless_parts_is_given_up(monkeypatch):
    frames = [picture(n) for n in range(40)]
    data = encoded_as("TIFF", frames)
    assert decode_photo(data, "x").notes == ("first of 40 frames",)
    monkeypatch.setattr(photos, "_FRAME_READS", 30)
    assert decode_photo(data, "x").notes == ("first of many frames",)
    monkeypatch.setattr(photos, "MAX_SECONDS", 0.0)
    with pytest.raises(ImageError, match="x: takes more than 0 s to read"):
        decode_photo(data, "x")


def encoded_as(kind, frames):
    target = io.BytesIO()
    frames[0].save(target, kind, save_all=True, append_images=frames[1:])
    return target.getvalue()


def test_one_part_of_a_file_is_not_read_again_and_again():
    """Pages of a TIFF file may all name the same megabyte."""
    source = photos._Source(bytes(1 << 20))
    for _ in range(9):
        source.seek(0)
        assert len(source.read()) == 1 << 20
    source.seek(0)
    with pytest.raises(ImageError, match="read too often"):
        source.read()


@pytest.mark.parametrize("attack", ["bomb", "pickle"])
def test_arrays_of_a_result_do_not_grow_and_run_nothing(tmp_path, toy, attack, monkeypatch):
    folder, kind = _saved(toy, tmp_path / "result"), KINDS["explanation"]
    target = io.BytesIO()
    values = np.zeros(10**6) if attack == "bomb" else np.array([Path("x")], object)
    np.save(target, values, allow_pickle=True)
    with zipfile.ZipFile(folder / "arrays.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pixels.npy", target.getvalue())
    marker = read_marker(folder, kind)
    files = {**marker.files, "arrays.npz": digest(folder / "arrays.npz")}
    write_marker(folder, kind, dataclasses.replace(marker, files=files))
    monkeypatch.setattr(store, "MAX_ARRAYS", 10**6)
    with pytest.raises(ResultError, match="expected at most 1,000,000|allow_pickle=False"):
        load(folder)


def test_few_bytes_hold_no_endless_boxes(tmp_path, monkeypatch):
    monkeypatch.setattr("chiaroscuro.checks.regions.MAX_BOXES", 10)
    table = pa.table({side: pa.array([1.0] * 11) for side in ("left", "top", "right", "bottom")})
    parquet.write_table(table, tmp_path / "boxes.parquet")
    with pytest.raises(InputError, match="11 boxes, expected at most 10"):
        load_regions(tmp_path / "boxes.parquet")


# Text from outside, where it is shown


@pytest.mark.parametrize("error", [*ChiaroscuroError.__subclasses__(), ImageError])
def test_every_error_is_one_line_that_steers_nothing(error, capsys):
    assert not {"\x1b", "\n", "\u202e", "\x07"} & {*str(error(NASTY))}
    say(NASTY)
    assert not {"\x1b", "\u202e", "\x07"} & {*capsys.readouterr().out}
    line = str(error(f"schema {'x' * 10**6!r}, expected chiaroscuro-maps/1"))
    assert len(line) < 2100 and line.startswith("schema 'xx")
    assert line.endswith("xx', expected chiaroscuro-maps/1")


def test_names_are_text_on_pages_and_in_their_pictures(tmp_path, toy):
    folder = _saved(toy, tmp_path / "result")
    page = (folder / "index.html").read_text()
    html = load(folder)._repr_html_()
    for text in (page, html):
        assert "<script>alert" not in text
    for svg in folder.rglob("*.svg"):
        assert "<script>alert" not in svg.read_text()
    head = unescape(page.partition("</head>")[0])
    assert "default-src 'none'" in head and "unsafe-inline" not in head
    feed = json.dumps(msgspec.to_builtins(make_feed(load(folder))), ensure_ascii=False)
    for text in (page, html, feed):
        assert not {"\x1b", "\x07", "\u202e"} & {*text} and "\\u001b" not in text


def test_parts_of_a_result_that_do_not_fit_are_one_line(tmp_path, toy):
    folder, kind = _saved(toy, tmp_path / "result"), KINDS["explanation"]
    marker = read_marker(folder, kind)
    changed = {**marker.result, "facts": {}}
    write_marker(folder, kind, dataclasses.replace(marker, result=changed))
    with pytest.raises(ResultError, match="cannot be shown"):
        load(folder)._repr_html_()


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (lambda c, x: what_if(c, x, "positive", fraction=0.1), {"before": []}),
        (lambda c, x: what_if(c, x, "positive", fraction=0.1), {"target.index": 127}),
        (lambda c, x: what_if(c, x, "positive", fraction=0.1), {"expected.index": -1}),
        (lambda c, x: smallest_edit(c, x, "black"), {"edits": []}),
        (lambda c, x: smallest_edit(c, x, "black"), {"before": []}),
        (lambda c, x: compare([c, c], x), {"names": ["one"]}),
        (lambda c, x: compare([c, c], x), {"names": [], "explanations": [], "pairs": []}),
        (lambda c, x: compare([c, c], x), {"pairs.0.other": 2}),
    ],
)
def test_a_result_whose_classes_or_parts_do_not_fit_is_refused_as_it_is_read(
    tmp_path, toy, make, changes
):
    folder = make(toy, np.random.default_rng(0).random((8, 8, 3))).save(tmp_path / "result")
    kind = kind_in(folder)
    marker = read_marker(folder, kind)
    for path, value in changes.items():
        *inner, last = path.split(".")
        spot = marker.result
        for key in inner:
            spot = spot[int(key) if isinstance(spot, list) else key]
        spot[last] = value
    write_marker(folder, kind, marker)
    with pytest.raises(ResultError, match=r"no prediction|a class outside|no edit|do not fit"):
        load(folder)


def test_every_link_of_a_page_is_a_place_and_no_script():
    """What templates put into an address is made by us, or quoted: `javascript:` is a file then."""
    ours = {"loop.index", "page", "DOCS", "source", "picture", "chart", "curve", "small(picture)"}
    for template in (SOURCE / "report" / "templates").glob("*.j2"):
        for words in re.findall(r'(?:href|src)="{{ (.+?) }}', template.read_text()):
            assert words in ours or words.startswith("uri(") or words.endswith("urlencode"), words


@pytest.mark.parametrize(
    "cell", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+cmd|'x'!A1", "\t=1", "\r=1"]
)
def test_no_cell_is_a_formula_and_no_word_a_command(cell):
    table = Table("t", ("a", "b"), ((cell, "-0.12 [-0.2, +1e-3]"),))
    assert csv_text(table).splitlines()[1:] != [] and f"'{cell}" in csv_text(table).replace('"', "")
    assert ",-0.12" in csv_text(table) or ',"-0.12' in csv_text(table)
    hostile = Table("\\input{/etc/passwd}", ("<img src=x>",), (("\\write18{rm}",),))
    assert "\\input{" not in latex(hostile) and "\\write18{" not in latex(hostile)
    assert "<img" not in markdown(hostile).replace("\\<", "")
