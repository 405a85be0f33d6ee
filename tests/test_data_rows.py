"""Parquet rows by number: what `datasets` reads, and no more of a file than is asked for."""

import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from chiaroscuro import load_images
from chiaroscuro.data import rows as data_rows
from chiaroscuro.data.rows import ParquetRows
from chiaroscuro.errors import InputError
from tests.pictures import class_rows, write_parquet

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


def test_rows_are_those_that_datasets_reads(tmp_path):
    from datasets import Image, load_dataset

    files = [tmp_path / f"test-{n}.parquet" for n in range(2)]
    for file in files:
        write_parquet(file, class_rows(3, 4), CLASSES)
    ours = list(ParquetRows(files).numbered(0, None))
    theirs = load_dataset(
        "parquet", split="test", streaming=True, data_files={"test": [str(f) for f in files]}
    ).cast_column("image", Image(decode=False))
    assert [values for _, values in ours] == list(theirs)
    assert [number for number, _ in ours] == list(range(24))


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
    rows = ParquetRows(files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_rows, "_AT_A_TIME", data.draw(st.integers(1, 3)))
        found = list(rows.numbered(first, wanted))
    expected = [n for n in range(start) if n >= first and (wanted is None or n in wanted)]
    assert [number for number, _ in found] == expected
    assert [int(values["image"]["bytes"]) for _, values in found] == expected
    assert [values["label"] for _, values in found] == [n % 2 for n in expected]
    assert rows.count == start
    assert all(set(values) == {"image", "label"} for _, values in found)


def test_groups_without_a_wanted_row_are_not_read(tmp_path, monkeypatch):
    file = tmp_path / "test.parquet"
    write_groups(file, range(40), 5)
    read = []
    plain = parquet.ParquetFile.iter_batches

    def spy(self, *arguments, row_groups, **options):
        read.extend(row_groups)
        return plain(self, *arguments, row_groups=row_groups, **options)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", spy)
    found = [number for number, _ in ParquetRows([file]).numbered(12, [3, 12, 13, 31])]
    assert found == [12, 13, 31]
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


@pytest.mark.parametrize(
    "labels",
    [["cat", "dog"], pa.array(["cat", "dog"]).dictionary_encode(), [[0], [1]], [0.0, 1.0]],
    ids=["strings", "words", "lists", "floats"],
)
def test_a_column_that_cannot_hold_classes_is_none(tmp_path, labels):
    write_columns(tmp_path / "test.parquet", image=[b"7", b"8"], label=labels)
    found = load_images(tmp_path / "test.parquet")
    assert found.labels is None
    assert [(row.data, row.label) for row in found] == [(b"7", None), (b"8", None)]


def test_class_numbers_may_be_words_of_a_dictionary(tmp_path):
    numbers = pa.array([1, 0, 1], pa.int32()).dictionary_encode()
    write_columns(tmp_path / "test.parquet", image=[b"7", b"8", b"9"], label=numbers)
    found = load_images(tmp_path / "test.parquet")
    assert found.labels == ("cat", "dog")
    assert [row.label for row in found] == [1, 0, 1]


@pytest.mark.parametrize("images", [["a.png", "b.png"], [[1], [2]]], ids=["paths", "lists"])
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
        list(load_images(tmp_path / "a"))


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
    assert len(list(ParquetRows(files).numbered(0, None))) == 5
    assert held == [0, 1]


def test_local_parquet_needs_no_datasets_library(tmp_path):
    write_parquet(tmp_path / "test.parquet", class_rows(3, 2), CLASSES)
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from chiaroscuro import load_images\n"
        f"print(len(list(load_images({str(tmp_path)!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "6\n", done.stderr
