"""Stored maps that a stranger made: every reader refuses them in one line, and leaves nothing."""

import io
import re
import shutil
from dataclasses import replace

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import zarr
from pyarrow import parquet

from chiaroscuro import confusions, convert_maps, export_maps, merge_maps
from chiaroscuro.cli import actions, commands
from chiaroscuro.data.images import read_row
from chiaroscuro.data.loading import check_named_again, load_images
from chiaroscuro.data.stored import StoredMaps
from chiaroscuro.errors import ChiaroscuroError, InputError, ResultError, printable
from chiaroscuro.results import KINDS, folders, verification
from tests.evaluation.toy import CLASSES, bytes_of, toy_classifier
from tests.pictures import write_classes

KIND = KINDS["map-export"]
ROWS, TAKEN = "rows/000000.parquet", "competitors/000000.parquet"
METADATA = "maps.zarr/zarr.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six images and their maps."""
    folder = tmp_path_factory.mktemp("made")
    write_classes(folder / "data", CLASSES, 2)
    options = {"maps": ("active", "signed"), "batch": 3, "strongest": 2, "threads": 1}
    export_maps(toy_classifier(), folder / "data", folder / "maps", **options)
    return folder


def converted(form):
    return lambda place, data: convert_maps(place / "in" / "maps", place / "in" / "out", form)


def confused(place, data):
    few = {"resamples": 20, "pairs": 2, "mends": 1, "threads": 1}
    confusions(toy_classifier(), place / "in" / "maps", place / "in" / "out", **few)


def looked_up(place, data):
    stored, classifier = StoredMaps.open(place / "in" / "maps"), toy_classifier()
    for row in load_images(data):
        photo, pixels, _ = read_row(row, classifier.framing)
        if found := stored.find(photo, pixels):
            stored.explanation(found)


READERS = {
    "overlays": converted("overlays"),
    "fiftyone": converted("fiftyone"),
    "virelay": converted("virelay"),
    "confusions": confused,
    "live page": looked_up,
    "merge": lambda place, data: merge_maps([place / "in" / "maps"], place / "in" / "out"),
}


def column(name, value):
    """A change of a table: one value in all rows of a column."""

    def change(table):
        field = table.schema.field(name)
        values = pa.array([value] * len(table), field.type)
        return table.set_column(table.schema.get_field_index(name), field, values)

    return change


def forged(made, place, marker=None, tables=(), metadata=None):
    """A copy of the maps with changes, and with checksums that fit."""
    folder = place / "in" / "maps"
    shutil.copytree(made / "maps", folder)
    for name, change in dict(tables).items():
        written = io.BytesIO()
        table = change(parquet.read_table(folder / name))
        parquet.write_table(table, written, write_page_checksum=True)
        (folder / name).write_bytes(written.getvalue())
    if metadata:
        (folder / METADATA).write_bytes(metadata((folder / METADATA).read_bytes()))
    for file in (folder / "parts").glob("0*.json"):
        held = msgspec.json.decode(file.read_bytes(), type=folders.Receipt)
        listed = {name: folders.digest(folder / name) for name in held.files}
        file.write_bytes(msgspec.json.encode(folders.sealed(replace(held, files=listed))))
    held = folders.read_marker(folder, KIND)
    plain = {"config": held.config, "result": held.result}
    for path, value in (marker or {}).items():
        *inner, last = path.split(".")
        spot = plain
        for key in inner:
            spot = spot[key]
        spot[last] = value
    listed = {name: folders.digest(folder / name) for name in held.files}
    (folder / KIND.marker).write_bytes(folders.marker_bytes(replace(held, files=listed, **plain)))


OUTSIDE = ["../../outside", "signed"]
FORGERIES = {
    "nothing that all images share": {"marker": {"config.facts": {}}},
    "a method that is a number": {"marker": {"config.facts.method": 3}},
    "no classes": {"marker": {"config.facts.classes": 7}},
    "maps with the name of a folder elsewhere": {
        "marker": {"result.settings.maps": OUTSIDE, "config.settings.maps": OUTSIDE}
    },
    "an unknown map": {
        "marker": {"result.settings.maps": ["x", "signed"], "config.settings.maps": ["x", "signed"]}
    },
    "batches of nothing": {"marker": {"config.batch": 0}},
    "no facts": {"marker": {"config.facts": {}}},
    "fewer classes": {"marker": {"config.facts.classes": ["a"]}},
    "more images": {"marker": {"result.data.images": 7}},
    "no rows": {"tables": {ROWS: lambda table: table.slice(0, 0)}},
    "rows without a column": {"tables": {ROWS: lambda table: table.drop_columns(["logits"])}},
    "an image beyond the array": {"tables": {ROWS: column("image", 99)}},
    "a target beyond the classes": {"tables": {ROWS: column("target", 99)}},
    "no logits": {"tables": {ROWS: column("logits", [])}},
    "a rival beyond the classes": {"tables": {TAKEN: column("rival", 99)}},
    "no competitors": {"tables": {TAKEN: lambda table: table.slice(0, 0)}},
    "competitors of no image": {"tables": {TAKEN: column("id", "x")}},
    "competitors before their targets": {
        "tables": {TAKEN: lambda table: table.take([*range(len(table) - 1, -1, -1)])}
    },
    "competitors of another batch": {"tables": {TAKEN: column("batch", 7)}},
    "a short grid": {"tables": {TAKEN: column("grid", [0.0])}},
    "no colors": {"tables": {TAKEN: column("colors", None)}},
    "shares that are null": {"tables": {TAKEN: column("brighter", None)}},
    "metadata that are none": {"metadata": lambda data: b"[]"},
    "metadata of other arrays": {"metadata": lambda data: re.sub(b"float[0-9]+", b"nosuch", data)},
    "an array of any size": {"metadata": lambda data: re.sub(rb"12,\s+12", b"999999999, 12", data)},
}
"""By name; each has checksums that fit, so that only what it holds can be wrong."""


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_maps_are_refused_in_one_line(made, tmp_path, name):
    refused = []
    for reader, read in READERS.items():
        place = tmp_path / reader
        forged(made, place, **FORGERIES[name])
        try:
            read(place, made / "data")
        except ChiaroscuroError as error:
            refused.append(str(error))
        assert {file.name for file in place.iterdir()} == {"in"}
        assert {file.name for file in (place / "in").iterdir()} <= {"maps", "out"}
    assert refused and all(printable(line) == line and len(line) < 500 for line in refused)


@pytest.mark.parametrize("reader", READERS)
def test_whole_maps_are_read(made, tmp_path, reader):
    forged(made, tmp_path)
    READERS[reader](tmp_path, made / "data")


@pytest.mark.parametrize("name", [METADATA, "maps.zarr/maps/zarr.json", "maps.zarr/map/c/0"])
def test_damaged_metadata_show_no_other_map(made, tmp_path, name):
    """No receipt lists what all batches share; a bit of it decides every value."""
    shutil.copytree(made / "maps", tmp_path / "in" / "maps")
    file = tmp_path / "in" / "maps" / name
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    for reader in ("overlays", "live page"):
        with pytest.raises(ResultError, match=f"{name} is gone or damaged"):
            READERS[reader](tmp_path, made / "data")


@pytest.mark.parametrize("reader", [one for one in READERS if one not in ("merge", "confusions")])
def test_maps_that_are_no_numbers_are_refused(made, tmp_path, reader):
    """A chunk that is empty, or NaN, with digests that fit: no picture is made of it."""
    folder = tmp_path / "in" / "maps"
    forged(made, tmp_path)
    array = zarr.open_array(folder / "maps.zarr" / "maps", mode="r+")
    array[1] = np.nan
    for file in (folder / "parts").glob("0*.json"):
        held = msgspec.json.decode(file.read_bytes(), type=folders.Receipt)
        listed = {name: folders.digest(folder / name) for name in held.files}
        file.write_bytes(msgspec.json.encode(folders.sealed(replace(held, files=listed))))
    with pytest.raises(ResultError, match="batch 0 has maps that are no numbers"):
        READERS[reader](tmp_path, made / "data")
    assert not (tmp_path / "in" / "out").exists()


URL = "memory://bucket/photos"


@pytest.mark.parametrize("source", [URL, "bucket/photos"])
def test_a_result_makes_no_machine_be_asked(made, tmp_path, monkeypatch, source):
    """A URL or a name of the hub in a file of others is followed only where the user names it."""
    asked = []
    monkeypatch.setattr("chiaroscuro.data.loading.list_files", asked.append)
    monkeypatch.setattr("chiaroscuro.data.tables._ask", lambda *given, **_: asked.append(given))
    named = {"result.settings.data": source, "config.settings.data": source, "config.rows": 7}
    forged(made, tmp_path, marker=named)
    folder = tmp_path / "in" / "maps"
    for read in (READERS["overlays"], READERS["confusions"]):
        with pytest.raises(InputError, match=f"names {source}, .* --data-root"):
            read(tmp_path, made / "data")
    assert not verification(folder).whole
    with pytest.raises(InputError, match="--data-root"):
        actions.verify(commands.VerifyOptions(folder=folder, repair=True, model="cifar10-cnn"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bucket").mkdir()  # a folder here, in which data may lie
    for wrong in (
        "memory://bucket/pho",
        "memory://other",
        "bucket/pho",
        "other",
        "/",
        ".",
        "bucket",
    ):
        with pytest.raises(InputError, match="--data-root"):
            StoredMaps.open(folder).source(wrong)
    assert not asked


def test_a_name_of_the_hub_that_is_named_again_is_asked(made, tmp_path, monkeypatch):
    """A folder of that name needs no more words, nor do the names that chiaroscuro knows."""
    asked = []

    def refuse(name, *given, **options):
        asked.append(name)
        raise InputError("the hub is not there")

    monkeypatch.setattr("chiaroscuro.data.tables._ask", refuse)
    named = {"result.settings.data": "bucket/photos", "config.settings.data": "bucket/photos"}
    forged(made, tmp_path, marker=named)
    for root in ("bucket", "bucket/photos"):
        with pytest.raises(InputError, match="the hub is not there"):
            StoredMaps.open(tmp_path / "in" / "maps").source(root)
    assert asked == ["bucket/photos"] * 2
    check_named_again("cifar10", None)
    shutil.copytree(made / "data", tmp_path / "bucket" / "photos")
    check_named_again("bucket/photos", tmp_path)
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        check_named_again("bucket/photos", tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is no folder here but maybe of the hub"):
        check_named_again("bucket/photos", None)
    monkeypatch.chdir(tmp_path)
    check_named_again("bucket/photos", None)


def test_a_url_that_is_named_again_is_read(made, tmp_path):
    import fsspec

    system = fsspec.filesystem("memory")
    for name, data in bytes_of(made / "data").items():
        system.pipe_file(f"/bucket/photos/{name}", data)
    options = {"maps": ("active",), "batch": 3, "threads": 1}
    export_maps(toy_classifier(), URL, tmp_path / "maps", **options)
    for root in (URL, "memory://bucket", "memory://bucket/"):
        assert StoredMaps.open(tmp_path / "maps").source(root).count == 6
    convert_maps(tmp_path / "maps", tmp_path / "out", "overlays", data_root="memory://bucket")
    assert len([*(tmp_path / "out" / "active").iterdir()]) == 6
