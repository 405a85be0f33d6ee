"""Parquet rows by number: what `datasets` reads, and no more of a file than is asked for."""

import json
import os
import subprocess
import sys
from itertools import islice

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from chiaroscuro import load_images
from chiaroscuro.data import tables
from chiaroscuro.data.images import read_batches
from chiaroscuro.data.tables import Columns, open_parquet
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.images import Framing
from chiaroscuro.results.facts import LeftOut
from tests.pictures import class_rows, encoded, picture, write_parquet

CLASSES = ("cat", "dog", "emu")
LAYOUT = b"""{"info": {"features": {
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}"""


def write_groups(path, numbers, group):
    """Images whose bytes are their number, `group` rows to a row group."""
    table = pa.table(
        {
            "extra": [f"x{n}" for n in numbers],
            "image": [{"bytes": str(n).encode(), "path": None} for n in numbers],
            "label": [n % 2 for n in numbers],
        }
    )
    table = table.replace_schema_metadata({b"huggingface": LAYOUT})
    parquet.write_table(table, path, row_group_size=group)


def opened(files):
    return open_parquet({"test": files}, "test", "here", files[0].parent)


def test_rows_are_those_that_datasets_reads(tmp_path):
    from datasets import Image as Undecoded
    from datasets import load_dataset

    files = [tmp_path / f"test-{n}.parquet" for n in range(2)]
    for file in files:
        write_parquet(file, class_rows(3, 4), CLASSES)
    ours = list(opened(files).contents.read(0, None))
    theirs = load_dataset(
        "parquet", split="test", streaming=True, data_files={"test": [str(f) for f in files]}
    ).cast_column("image", Undecoded(decode=False))
    pairs = [(values["image"]["bytes"], values["label"]) for values in theirs]
    assert [(row.data, row.label) for row in ours] == pairs
    assert [row.id for row in ours] == [f"test#{n}" for n in range(24)]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_rows_of_any_groups(tmp_path, data):
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    files, start = [], 0
    for place, size in enumerate(sizes):
        files.append(tmp_path / f"{place}.parquet")
        write_groups(files[-1], range(start, start + size), data.draw(st.integers(1, 4)))
        start += size
    first = data.draw(st.integers(0, start))
    wanted = data.draw(st.none() | st.lists(st.integers(0, start - 1), unique=True).map(sorted))
    split = opened(files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_ROWS_HELD", data.draw(st.integers(1, 3)))
        found = list(split.contents.read(first, wanted))
    expected = [n for n in range(start) if n >= first and (wanted is None or n in wanted)]
    assert [row.id for row in found] == [f"test#{n}" for n in expected]
    assert [int(row.data) for row in found] == expected
    assert [row.label for row in found] == [n % 2 for n in expected]
    assert split.count == start


def test_groups_without_a_wanted_row_are_not_read(tmp_path, monkeypatch):
    file = tmp_path / "test.parquet"
    write_groups(file, range(40), 5)
    read = []
    plain = parquet.ParquetFile.iter_batches

    def spy(self, *arguments, row_groups, **options):
        read.extend(row_groups)
        return plain(self, *arguments, row_groups=row_groups, **options)

    def whole(*_, **__):
        raise AssertionError("the whole file is read")

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", spy)
    monkeypatch.setattr(parquet.ParquetFile, "read", whole)
    found = [row.id for row in opened([file]).contents.read(12, [3, 12, 13, 31])]
    assert found == ["test#12", "test#13", "test#31"]
    assert read == [2, 6]


@pytest.mark.parametrize("cell", [b"7", {"bytes": b"7", "path": "x.png"}])
def test_images_may_lie_as_bare_bytes(tmp_path, cell):
    table = pa.table({"image": [cell, None], "label": [0, None]})
    table = table.replace_schema_metadata({b"huggingface": LAYOUT})
    parquet.write_table(table, tmp_path / "test.parquet")
    rows = list(load_images(tmp_path / "test.parquet"))
    assert [(row.data, row.label) for row in rows] == [(b"7", 0), (b"", None)]


def write_columns(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns).replace_schema_metadata({b"huggingface": LAYOUT})
    parquet.write_table(table, path)


def plain(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(table), path)
    return path


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["dog", "cat", None], ("cat", "dog"), [1, 0, None]),
        (pa.array(["dog", "cat", "dog"]).dictionary_encode(), ("cat", "dog"), [1, 0, 1]),
        (pa.array(["b", "a", "b"], pa.large_string()), ("a", "b"), [1, 0, 1]),
        ([2.0, 0.0, float("nan")], ("0", "1", "2"), [2, 0, None]),
        (pa.array([2, 0, -1], pa.int8()), ("0", "1", "2"), [2, 0, None]),
        ([True, False, True], ("0", "1"), [1, 0, 1]),
        ([0.5, 1.0, 2.0], None, [None] * 3),
        ([[0], [1], [2]], None, [None] * 3),
        ([10**7, 1, 2], None, [None] * 3),
        (pa.nulls(3), None, [None] * 3),
        ([-1, -1, -1], None, [None] * 3),
    ],
    ids=["text", "dictionary", "large", "float", "int8", "bool", "fractions", "lists", "ids",
         "nulls", "hidden"],
)  # fmt: skip
@pytest.mark.parametrize("told", [False, True])
def test_classes_of_any_type_without_metadata(tmp_path, labels, names, numbers, told):
    """`told`: metadata as of a ClassLabel without names, which some libraries write."""
    file = plain(tmp_path / "test.parquet", {"image": [b"7", b"8", b"9"], "label": labels})
    if told:
        about = b"""{"info": {"features": {"label": {"_type": "ClassLabel"}}}}"""
        table = parquet.read_table(file).replace_schema_metadata({b"huggingface": about})
        parquet.write_table(table, file)
    found = load_images(file)
    assert found.labels == names
    assert [(row.data, row.label) for row in found] == list(
        zip([b"7", b"8", b"9"], numbers, strict=True)
    )
    chosen = "classes from label" if names else "no classes"
    assert found.notes == (f"images from column image, {chosen}",)


@pytest.mark.parametrize("labels", [["cat", "dog"], [0.0, 1.0], [0, 1]], ids=repr)
def test_named_classes_may_be_texts_or_numbers(tmp_path, labels):
    write_columns(tmp_path / "test.parquet", image=[b"7", b"8"], label=labels)
    found = load_images(tmp_path / "test.parquet")
    assert (found.labels, [row.label for row in found]) == (("cat", "dog"), [0, 1])


def test_a_class_without_a_name_is_left_out_not_an_error(tmp_path):
    rows = [(encoded(picture(n)), n) for n in range(3)]
    write_parquet(tmp_path / "test.parquet", rows, ("cat", "dog"))
    (batch,) = read_batches(load_images(tmp_path), Framing((8, 8)), 5)
    assert batch.labels == (0, 1)
    assert batch.left_out == (LeftOut("test#2", "class 2 is none of the 2 known"),)


def test_all_splits_share_their_classes(tmp_path):
    plain(tmp_path / "train.parquet", {"image": [b"1", b"2", b"3"], "label": ["a", "b", "c"]})
    plain(tmp_path / "test.parquet", {"image": [b"1", b"2"], "label": ["c", "a"]})
    found = load_images(tmp_path)
    assert found.labels == load_images(tmp_path, "train").labels == ("a", "b", "c")
    assert [row.label for row in found] == [2, 0]


@pytest.mark.parametrize("metadata", [b"no json", b"[]", b"null", b'{"info": 3}'])
def test_damaged_metadata_decide_nothing(tmp_path, metadata):
    table = pa.table({"img": [b"7"], "y": [0]}).replace_schema_metadata({b"huggingface": metadata})
    parquet.write_table(table, tmp_path / "test.parquet")
    assert [(row.data, row.label) for row in load_images(tmp_path)] == [(b"7", 0)]


def features(**kinds):
    return {b"huggingface": json.dumps(
        {"info": {"features": {name: {"_type": kind} for name, kind in kinds.items()}}}
    ).encode()}  # fmt: skip


@pytest.mark.parametrize("metadata", [None, features(mask="Image", image="Image")])
def test_a_mask_before_the_image_is_not_taken(tmp_path, metadata):
    table = pa.table({"mask": [b"m"], "image": [b"i"], "label_mask": [b"n"], "category": [3]})
    parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "test.parquet")
    found = load_images(tmp_path)
    assert [(row.data, row.label) for row in found] == [(b"i", 3)]
    assert found.notes == ("images from column image, classes from category",)
    other = load_images(tmp_path, image_column="mask", label_column="category")
    assert [row.data for row in other] == [b"m"]


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (("input_image", "n"), ("input_image", None)),
        (("left_img", "y", "class_id"), ("left_img", "y")),
        (("data", "class_id", "id"), ("data", "class_id")),
        (("blob", "number"), ("blob", None)),
    ],
)
def test_columns_are_chosen_by_name_and_type(tmp_path, columns, chosen):
    values = {name: [b"7"] if place == 0 else [0] for place, name in enumerate(columns)}
    read = load_images(plain(tmp_path / "test.parquet", values)).contents.columns
    assert (read.image, read.label) == chosen


def test_columns_that_are_alike_ask_for_a_choice(tmp_path):
    table = {"front": [b"1"], "back": [b"2"], "kind": ["x"], "n": [[3]]}
    file = plain(tmp_path / "test.parquet", table)
    with pytest.raises(InputError, match=r"may be in front or back: choose by image_column \(--im"):
        load_images(file)
    found = load_images(file, image_column="back", label_column="kind")
    assert (found.labels, [(row.data, row.label) for row in found]) == (("x",), [(b"2", 0)])
    with pytest.raises(ChoiceError, match="no images in column 'kind'; it has front, back, kind"):
        load_images(file, image_column="kind")
    with pytest.raises(ChoiceError, match="no classes in column 'n'; it has front"):
        load_images(file, image_column="back", label_column="n")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    file.unlink()
    with pytest.raises(ChoiceError, match="is a folder of photos: it has no columns to choose"):
        load_images(tmp_path, image_column="back")


def test_paths_in_cells_stay_below_the_datas_folder(tmp_path):
    photo = encoded(picture(0))
    (tmp_path / "secret.png").write_bytes(photo)
    home = tmp_path / "set"
    (home / "photos").mkdir(parents=True)
    (home / "photos" / "a.png").write_bytes(photo)
    (home / "out.png").symlink_to(tmp_path / "secret.png")
    (home / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(home / "pipe.png")
    paths = ["photos/a.png", str(home / "photos/a.png"), "../secret.png", "out.png", "pipe.png",
             "zero.png", "/dev/zero", str(tmp_path / "secret.png"), "photos", "gone.png",
             "\x1b[2J\0.png", ""]  # fmt: skip
    cells = [{"bytes": None, "path": path} for path in paths]
    plain(home / "test.parquet", {"image": cells, "label": [0] * len(cells)})
    for images in (load_images(home), load_images(home / "test.parquet")):
        (batch,) = read_batches(images, Framing((8, 8)), 20)
        assert batch.ids == ("test#0", "test#1")
        reasons = {int(one.id[5:]): one.reason for one in batch.left_out}
        out = "no bytes, and the path {} leads elsewhere"
        assert reasons == {
            **{n: out.format(paths[n]) for n in (2, 3, 5, 6, 7)},
            4: "not a regular file",
            8: reasons[8],
            9: "no such file",
            10: out.format("\\x1b[2J\\x00.png"),
            11: "the file is empty (0 bytes)",
        }
        assert reasons[8].startswith("a folder without photos")


def test_class_numbers_may_be_words_of_a_dictionary(tmp_path):
    numbers = pa.array([1, 0, 1], pa.int32()).dictionary_encode()
    write_columns(tmp_path / "test.parquet", image=[b"7", b"8", b"9"], label=numbers)
    found = load_images(tmp_path / "test.parquet")
    assert found.labels == ("cat", "dog")
    assert [row.label for row in found] == [1, 0, 1]


@pytest.mark.parametrize(
    "images", [["a.png", "b.png"], [[1], [2]], [{"x": 1}, {"x": 2}]], ids=["paths", "lists", "x"]
)
def test_a_column_that_cannot_hold_images_is_none(tmp_path, images):
    write_columns(tmp_path / "test.parquet", image=images, label=[0, 1])
    with pytest.raises(InputError, match="no column of images; it has image, label"):
        load_images(tmp_path / "test.parquet")


def test_later_files_may_lack_the_classes_but_not_the_images(tmp_path):
    write_columns(tmp_path / "a" / "test-0.parquet", image=[b"7"], label=[1])
    write_columns(tmp_path / "a" / "test-1.parquet", image=[b"8"])
    found = load_images(tmp_path / "a")
    assert [(row.data, row.label) for row in found] == [(b"7", 1), (b"8", None)]
    write_columns(tmp_path / "a" / "test-2.parquet", label=[1])
    with pytest.raises(InputError, match=r"test-2\.parquet: has no column 'image', as others"):
        load_images(tmp_path / "a")


def test_one_file_is_open_at_a_time(tmp_path, monkeypatch):
    files = [tmp_path / f"test-{n}.parquet" for n in range(5)]
    for n, file in enumerate(files):
        write_columns(file, image=[str(n).encode()], label=[n % 2])
    held = [0, 0]

    class Counted(parquet.ParquetFile):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            held[0] += 1
            held[1] = max(held)

        def close(self, *given, **options):
            held[0] -= 1
            super().close(*given, **options)

    monkeypatch.setattr(parquet, "ParquetFile", Counted)
    assert len(list(opened(files).contents.read(0, None))) == 5
    assert held == [0, 1]


def test_files_without_a_wanted_row_are_not_opened(tmp_path, monkeypatch):
    files = [tmp_path / f"test-{n}.parquet" for n in range(5)]
    for n, file in enumerate(files):
        write_columns(file, image=[str(n).encode()] * 3, label=[0] * 3)
    images = load_images(tmp_path)
    for n in (0, 1, 2, 4):
        files[n].unlink()
    assert [row.data for row in islice(images.rows(9), 3)] == [b"3"] * 3


def test_local_parquet_needs_no_datasets_library(tmp_path):
    write_parquet(tmp_path / "test.parquet", class_rows(3, 2), CLASSES)
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from chiaroscuro import load_images\n"
        f"print(len(list(load_images({str(tmp_path)!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout == "6\n", done.stderr


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("large_binary", "string"), ("binary_view", "string_view"), ("binary", "large_string")],
)
def test_columns_of_any_form_of_bytes_and_text(tmp_path, kind, labels):
    images = pa.array([b"7", b"8", b"9"], getattr(pa, kind)())
    names = pa.array(["dog", "cat", "dog"], getattr(pa, labels)())
    found = load_images(plain(tmp_path / "a.parquet", {"image": images, "label": names}))
    assert found.labels == ("cat", "dog")
    assert [(row.data, row.label) for row in found] == [(b"7", 1), (b"8", 0), (b"9", 1)]
    assert [row.data for row in load_images(found.source, limit=2, seed=1)][-1] in (b"8", b"9")
    for same in (images.cast(pa.binary(1)), images.cast(pa.binary()).dictionary_encode()):
        found = load_images(plain(tmp_path / "b.parquet", {"image": same}))
        assert [row.data for row in found] == [b"7", b"8", b"9"]


@pytest.mark.parametrize("cell", [{"path": 5}, {"bytes": "abc"}, {"bytes": [1, 2]}])
def test_a_structure_that_holds_no_image_is_no_column(tmp_path, cell):
    with pytest.raises(InputError, match="no column of images"):
        load_images(plain(tmp_path / "a.parquet", {"image": [cell]}))
    row = Columns("image", None, None).row("a", {"image": cell})
    assert row.fault


def test_parquet_files_as_other_programs_lay_them_out(tmp_path):
    """Spark's are folders; macOS puts hidden companions next to files; suffixes may be capitals."""
    part = "part-00000-7c3a-c000.snappy.parquet"
    plain(tmp_path / "spark" / "test.parquet" / part, {"image": [b"7"]})
    plain(tmp_path / "spark" / "train.parquet" / part, {"image": [b"8", b"9"]})
    assert [row.data for row in load_images(tmp_path / "spark")] == [b"7"]
    assert load_images(tmp_path / "spark", split="train").count == 2
    plain(tmp_path / "mac" / "test-00000.PARQUET", {"image": [b"7"]})
    (tmp_path / "mac" / "._test-00000.parquet").write_bytes(b"junk")
    assert [row.data for row in load_images(tmp_path / "mac")] == [b"7"]
    assert load_images(tmp_path / "mac" / "test-00000.PARQUET").count == 1
    assert load_images(tmp_path / "mac").fingerprint()


@pytest.mark.parametrize("seed", [-1, "x", 1.5, True])
def test_a_seed_is_a_whole_number(tmp_path, seed):
    file = plain(tmp_path / "a.parquet", {"image": [b"7", b"8"]})
    with pytest.raises(ChoiceError, match="seed is"):
        load_images(file, limit=1, seed=seed)
