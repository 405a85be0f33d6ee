"""Image sets: what is read, in which order, under which ids, and what is left out."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from chiaroscuro.data import DATASETS, load_images, read_batches
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.images import Framing, frame, open_photo
from tests.pictures import BROKEN, class_rows, encoded, picture, write_classes, write_parquet

CLASSES = ["cat", "dog", "owl"]


@pytest.fixture
def folder(tmp_path):
    write_classes(tmp_path / "set", CLASSES, 4)
    return tmp_path / "set"


@pytest.fixture
def splits(tmp_path):
    place = tmp_path / "parquet"
    write_parquet(place / "train.parquet", class_rows(3, 7), CLASSES)
    write_parquet(place / "test.parquet", class_rows(3, 4), CLASSES)
    return place


def batches(images, size=5, start=0, **options):
    return list(read_batches(images, Framing(size=(8, 8)), size, start=start, **options))


def test_a_folder_of_class_folders(folder):
    images = load_images(folder)
    assert (images.split, images.labels, images.count) == ("set", tuple(CLASSES), 12)
    rows = list(images)
    assert [row.id for row in rows[:5]] == [*(f"cat/{n}.png" for n in range(4)), "dog/0.png"]
    assert [row.label for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    assert [row.id for row in images] == [row.id for row in rows]  # read anew each time


def test_a_flat_folder_has_no_classes(tmp_path):
    for n in range(3):
        picture(n).save(tmp_path / f"{n}.png")
    images = load_images(tmp_path)
    assert images.labels is None
    assert [(row.id, row.label) for row in images] == [(f"{n}.png", None) for n in range(3)]


def test_class_folders_by_split(tmp_path):
    write_classes(tmp_path / "train", CLASSES, 2)
    write_classes(tmp_path / "val", CLASSES, 1)
    assert load_images(tmp_path).split == "val"
    assert load_images(tmp_path, "train").count == 6
    with pytest.raises(ChoiceError, match="has no split 'tset': known are"):
        load_images(tmp_path, "tset")


def test_parquet_files_are_splits(splits):
    images = load_images(splits)
    assert (images.split, images.labels, images.count) == ("test", tuple(CLASSES), 12)
    assert load_images(splits, "train").count == 21
    first = next(iter(images))
    assert first.id == "test#0"
    assert np.asarray(Image.open(io.BytesIO(first.data))).shape == (16, 16, 3)
    alone = load_images(splits / "train.parquet")
    assert (alone.split, alone.count) == ("train", 21)


def test_sharded_parquet_as_the_hub_names_it(tmp_path):
    for n in range(2):
        file = tmp_path / "data" / f"train-0000{n}-of-00002.parquet"
        write_parquet(file, class_rows(3, 2), CLASSES)
    assert load_images(tmp_path).count == 12
    assert [row.id for row in load_images(tmp_path)][-1] == "train#11"


def test_a_root_stands_in_for_a_name(tmp_path):
    choice = DATASETS["cifar10"]
    write_parquet(tmp_path / "cifar10" / "test.parquet", class_rows(10, 1), choice.labels)
    images = load_images("cifar10", root=tmp_path)
    assert (images.source, images.count, images.labels) == ("cifar10", 10, choice.labels)


def test_files_are_told_apart_by_name_size_and_a_parquet_files_end(folder, splits, tmp_path):
    seen = [load_images(folder).fingerprint(), load_images(splits).fingerprint()]
    seen += [load_images(splits, "train").fingerprint()]
    write_parquet(splits / "test.parquet", class_rows(3, 5)[3:], CLASSES)
    seen += [load_images(splits).fingerprint()]
    (folder / "cat" / "0.png").rename(folder / "cat" / "00.png")
    seen += [load_images(folder).fingerprint()]
    assert None not in seen and len(set(seen)) == 5
    shutil.copytree(folder, tmp_path / "copy")
    assert load_images(tmp_path / "copy").fingerprint() == seen[-1]
    images = load_images(folder)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"set: cannot be read \(No such file"):
        images.fingerprint()


def test_a_limit_takes_the_first_and_a_seed_draws(splits):
    images = load_images(splits, "train", limit=6)
    assert [row.id for row in images] == [f"train#{n}" for n in range(6)]
    drawn = [row.id for row in load_images(splits, "train", limit=6, seed=1)]
    assert len(set(drawn)) == 6
    assert drawn == sorted(drawn, key=lambda id_: int(id_[6:]))
    assert drawn == [row.id for row in load_images(splits, "train", limit=6, seed=1)]
    assert drawn != [row.id for row in load_images(splits, "train", limit=6, seed=2)]
    assert len(list(load_images(splits, "train", limit=99, seed=1))) == 21
    with pytest.raises(ChoiceError, match="limit is 0"):
        load_images(splits, limit=0)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("start", [0, 1, 5, 8])
def test_reading_may_begin_anywhere(splits, seed, start):
    images = load_images(splits, "train", limit=8, seed=seed)
    whole = list(images)
    assert [row.id for row in images.rows(start)] == [row.id for row in whole[start:]]


def test_batches_hold_decoded_pixels_in_order(folder):
    found = batches(load_images(folder))
    assert [batch.number for batch in found] == [0, 1, 2]
    assert [len(batch.ids) for batch in found] == [5, 5, 2]
    assert [id_ for batch in found for id_ in batch.ids][4] == "dog/0.png"
    expected = frame(open_photo(folder / "dog" / "0.png"), Framing(size=(8, 8)), 3)[0]
    assert np.array_equal(found[0].pixels[4], expected)
    assert found[0].labels == (0, 0, 0, 0, 1)


def test_batches_from_a_later_one_are_the_same(folder):
    whole, later = batches(load_images(folder)), batches(load_images(folder), start=1)
    assert [batch.number for batch in later] == [1, 2]
    for ours, theirs in zip(later, whole[1:], strict=True):
        assert ours.ids == theirs.ids
        assert all(np.array_equal(a, b) for a, b in zip(ours.pixels, theirs.pixels, strict=True))
    assert batches(load_images(folder), start=3) == []


def test_a_broken_image_is_left_out_and_named(tmp_path):
    rows = class_rows(3, 4)
    rows[4] = (BROKEN, 1)
    rows[7] = (b"", 1)
    write_parquet(tmp_path / "test.parquet", rows, CLASSES)
    first, second, third = batches(load_images(tmp_path))
    assert (len(first.ids), len(second.ids), len(third.ids)) == (4, 4, 2)
    assert [one.id for one in (*first.left_out, *second.left_out)] == ["test#4", "test#7"]
    assert "test#5" in second.ids  # boundaries follow the rows
    assert all(one.reason and "test#" not in one.reason for one in first.left_out)


def test_a_broken_file_and_a_lost_one_are_left_out(folder):
    (folder / "cat" / "1.png").write_bytes(BROKEN)
    images = load_images(folder)
    (folder / "dog" / "2.png").unlink()
    broken = [one for batch in batches(images) for one in batch.left_out]
    assert [one.id for one in broken] == ["cat/1.png", "dog/2.png"]
    assert broken[1].reason == "no such file"


def test_only_color(tmp_path):
    rows = [(encoded(picture(n, mode="L" if n % 2 else "RGB")), 0) for n in range(6)]
    write_parquet(tmp_path / "test.parquet", rows, CLASSES)
    images = load_images(tmp_path)
    (batch,) = batches(images, 10)
    assert len(batch.ids) == 6
    (batch,) = batches(images, 10, rgb_only=True)
    assert batch.ids == ("test#0", "test#2", "test#4")
    assert {one.reason for one in batch.left_out} == {"left out: mode L, not RGB"}


def test_hidden_labels_are_none(tmp_path):
    write_parquet(tmp_path / "test.parquet", [(encoded(picture(0)), -1)], CLASSES)
    assert next(iter(load_images(tmp_path))).label is None


def test_stopping_early_leaves_no_worker(folder):
    import threading

    stream = read_batches(load_images(folder), Framing(size=(8, 8)), 2)
    next(stream)
    stream.close()
    for thread in threading.enumerate():
        if thread.name.startswith("decode"):
            thread.join(timeout=5)
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such folder or file; known names are cifar10, imagenette"),
        ("./missing", "no such folder or file"),
        ("missing.parquet", "no such file"),
    ],
)
def test_sources_that_are_not_there(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        load_images(source)


def test_folders_and_files_without_images(tmp_path):
    with pytest.raises(InputError, match="no images and no Parquet files in it"):
        load_images(tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(InputError, match=r"bad\.parquet: cannot be read as images"):
        load_images(tmp_path / "bad.parquet")
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"n": [1]}), tmp_path / "numbers.parquet")
    with pytest.raises(InputError, match="no column of images; it has n"):
        load_images(tmp_path / "numbers.parquet")


def test_one_split_takes_no_other_name(folder):
    with pytest.raises(ChoiceError, match="has no split 'test': it is one folder of images"):
        load_images(folder, "test")


@pytest.mark.parametrize("name", [*DATASETS, "someone/something"])
def test_a_name_that_cannot_be_fetched_says_so(name, tmp_path, monkeypatch):
    """Names cannot be tried for real here, without internet: this is the line that users get."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(InputError, match="neither on this machine nor reachable .* give a folder"):
        load_images(name)


def test_the_named_sets_are_described():
    for choice in DATASETS.values():
        assert len(choice.labels) == 10
        assert {"train"} < set(choice.rows)
    with pytest.raises(ChoiceError, match="cifar10 has no split 'validation'"):
        load_images("cifar10", "validation")
