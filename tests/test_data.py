"""Image sets: what is read, in which order, under which ids, and what is left out."""

import io
import os
import pickle
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from chiaroscuro.data.images import read_batches
from chiaroscuro.data.loading import load_images
from chiaroscuro.data.tables import DATASETS
from chiaroscuro.errors import ChoiceError, InputError, MissingFileError
from chiaroscuro.images import Framing, frame, open_photo
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.folders import Marker, write_marker
from chiaroscuro.results.kinds import KINDS
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


def batches(images, size=5, **options):
    return list(read_batches(images, Framing(size=(8, 8)), size, **options))


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


def spread(place, *names):
    """Photos at these paths, each (8, 8) and of a color of its own."""
    for n, name in enumerate(names):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (n, 0, 0)).save(place / name)


@pytest.mark.parametrize(
    ("test", "train"),
    [("Testing", "Training"), ("valid", "train"), ("Val", "TRAIN"), ("test_set", "training_set"),
     ("testset", "trainset"), ("seg_test", "seg_train"), ("val2017", "train2017"),
     ("dev", "train"), ("TestData", "TrainingData"), ("testset1", "trainImages")],
)  # fmt: skip
def test_split_names_in_use(tmp_path, test, train):
    spread(tmp_path, f"{train}/a/1.png", f"{train}/b/2.png", f"{test}/a/3.png", f"{test}/b/4.png")
    found = load_images(tmp_path)
    assert (found.split, found.labels) == (test, ("a", "b"))
    assert [row.id for row in found] == ["a/3.png", "b/4.png"]
    learned = load_images(tmp_path, "train")
    assert (learned.split, [row.id for row in learned]) == (train, ["a/1.png", "b/2.png"])
    assert load_images(tmp_path, test).split == test


def test_test_comes_before_validation_and_extra_folders_are_splits_too(tmp_path):
    spread(tmp_path, *(f"{name}/a/1.png" for name in ("train", "valid", "test", "unlabeled")))
    assert load_images(tmp_path).split == "test"
    assert load_images(tmp_path, "validation").split == "valid"
    assert load_images(tmp_path, "unlabeled").count == 1
    with pytest.raises(ChoiceError, match="'tset': known are test, train, unlabeled, valid"):
        load_images(tmp_path, "tset")


def test_two_splits_of_one_role_ask_for_a_choice(tmp_path):
    spread(tmp_path, "test_a/x/1.png", "test_b/x/1.png", "train/x/1.png")
    with pytest.raises(ChoiceError, match="has several splits for test: choose one of test_a, te"):
        load_images(tmp_path)
    assert load_images(tmp_path, "test_b").split == "test_b"
    spread(tmp_path, "test/x/1.png")
    assert load_images(tmp_path).split == "test"


def test_folders_that_look_like_splits_but_are_none_are_an_error(tmp_path):
    spread(tmp_path, "first/cat/1.png", "first/dog/1.png", "second/cat/2.png")
    with pytest.raises(
        InputError, match="class cat has two folders, first/cat and second/cat: name"
    ):
        load_images(tmp_path)


def test_parquet_splits_of_unknown_use_are_an_error(tmp_path):
    for name in ("a", "b"):
        write_parquet(tmp_path / f"{name}.parquet", class_rows(2, 1), CLASSES)
    with pytest.raises(ChoiceError, match="has splits of unknown use: choose one of a, b"):
        load_images(tmp_path)
    assert load_images(tmp_path, "b").count == 2


def test_a_class_may_be_called_train(tmp_path):
    spread(tmp_path, "boat/1.png", "car/1.png", "train/1.png")
    assert load_images(tmp_path).labels == ("boat", "car", "train")
    with pytest.raises(ChoiceError, match="it is one folder of images"):
        load_images(tmp_path, "train")


def test_flat_splits_have_no_classes(tmp_path):
    spread(tmp_path, "train/1.png", "test/2.png")
    found = load_images(tmp_path)
    assert (found.split, found.labels, found.count) == ("test", None, 1)


def test_folders_around_the_classes_or_splits_say_nothing(tmp_path):
    spread(tmp_path / "1", "Pets/Cat/1.png", "Pets/Dog/1.png")
    found = load_images(tmp_path / "1")
    assert (found.labels, [row.id for row in found]) == (
        ("Cat", "Dog"), ["Pets/Cat/1.png", "Pets/Dog/1.png"],
    )  # fmt: skip
    spread(tmp_path / "2", "archive/x-rays/train/a/1.png", "archive/x-rays/test/a/2.png")
    assert [row.id for row in load_images(tmp_path / "2")] == ["a/2.png"]


def test_folders_of_one_name_inside_the_classes_say_nothing(tmp_path):
    spread(tmp_path, "n01/images/1.png", "n02/images/2.png")
    found = load_images(tmp_path)
    assert (found.labels, [row.label for row in found]) == (("n01", "n02"), [0, 1])


def test_one_class_with_folders_inside(tmp_path):
    spread(tmp_path, "cat/1.png", "cat/more/2.png")
    found = load_images(tmp_path)
    assert (found.labels, [row.label for row in found]) == (("cat",), [0, 0])


def test_splits_inside_of_classes_are_an_error(tmp_path):
    spread(tmp_path, "cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "dog/test/4.png")
    with pytest.raises(InputError, match="class test has two folders, cat/test and dog/test"):
        load_images(tmp_path)


def test_the_class_is_the_outermost_folder_with_photos(tmp_path):
    spread(tmp_path, "animals/cat/1.png", "animals/cat/more/2.png", "cars/van/3.png", "top.png")
    found = load_images(tmp_path)
    assert found.labels == ("cat", "van")
    assert [(row.id, row.label) for row in found] == [
        ("animals/cat/1.png", 0), ("animals/cat/more/2.png", 0), ("cars/van/3.png", 1),
        ("top.png", None),
    ]  # fmt: skip
    assert found.notes == (f"photos directly in {tmp_path} have no class",)


def test_what_is_listed_is_read_or_left_out_and_the_rest_is_counted(tmp_path, monkeypatch):
    for name in ("1.avif", "2.jfif", "3.JPG", "4.webp"):
        kind = {"jfif": "JPEG", "JPG": "JPEG"}.get(name[2:])
        picture(0).save(tmp_path / name, kind)
    (tmp_path / "5.avif").write_bytes(BROKEN)
    (tmp_path / "6.png").symlink_to(tmp_path / "nowhere.png")
    for name in ("7.heic", "8.txt", "9.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "locked").mkdir()
    plain = os.scandir

    def refuse(place):
        if Path(place).name == "locked":
            raise PermissionError(13, "Permission denied", place)
        return plain(place)

    monkeypatch.setattr(os, "scandir", refuse)
    images = load_images(tmp_path)
    (batch,) = batches(images, 20)
    assert batch.ids == ("1.avif", "2.jfif", "3.JPG", "4.webp")
    assert [(one.id, one.reason[:20]) for one in batch.left_out] == [
        ("5.avif", "not a picture in a f"), ("6.png", "no such file"),
        ("locked", "cannot be read (Perm"),
    ]  # fmt: skip
    assert images.count == len(batch.ids) + len(batch.left_out)
    assert images.notes == ("3 files are no photos by suffix (.heic, .txt)",)
    assert images.fingerprint() is not None


def test_an_unreadable_folder_is_no_class_and_makes_none(tmp_path, monkeypatch):
    spread(tmp_path, "animals/cat/1.png", "animals/dog/2.png", "cars/van/3.png")
    (tmp_path / "animals/locked").mkdir()
    plain = os.scandir

    def refuse(place):
        if Path(place).name == "locked":
            raise PermissionError(13, "Permission denied", place)
        return plain(place)

    monkeypatch.setattr(os, "scandir", refuse)
    images = load_images(tmp_path)
    assert images.labels == ("cat", "dog", "van")
    (batch,) = batches(images)
    assert (batch.labels, len(batch.left_out)) == ((0, 1, 2), 1)
    (batch,) = batches(load_images(tmp_path / "animals/locked"))
    assert batch.left_out[0].reason == "cannot be read (Permission denied)"


def test_names_that_are_no_utf8_have_ids_in_text(tmp_path):
    folder = tmp_path / os.fsdecode(b"cl\xff")
    spread(tmp_path, "dog/1.png")
    spread(folder, os.fsdecode(b"bad\xfe\x1b.png"))
    images = load_images(tmp_path)
    (batch,) = batches(images)
    assert images.labels == ("cl\\udcff", "dog")
    assert batch.ids == ("cl\\udcff/bad\\udcfe\\x1b.png", "dog/1.png")
    assert len(images.fingerprint()) == 16


def test_a_local_folder_needs_neither_datasets_nor_a_home(folder):
    code = (
        "import sys; sys.modules['datasets'] = sys.modules['pyarrow'] = None\n"
        "from chiaroscuro import load_images\n"
        f"print(len(list(load_images({str(folder)!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "HOME": "/dev/null", "HF_HOME": "/dev/null/x"},
    )  # fmt: skip
    assert done.stdout == "12\n", done.stderr


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


def test_numbered_parquet_in_folders_named_by_split(tmp_path):
    for name in ("test/0000", "test/0001", "train/0000"):
        write_parquet(tmp_path / f"{name}.parquet", class_rows(3, 2), CLASSES)
    assert [row.id for row in load_images(tmp_path)][-1] == "test#11"
    assert load_images(tmp_path, "train").count == 6
    assert load_images(tmp_path / "test").count == 12
    (tmp_path / "outer" / "default").mkdir(parents=True)
    for name in ("test", "train"):
        (tmp_path / name).rename(tmp_path / "outer" / "default" / name)
    assert [row.id for row in load_images(tmp_path / "outer")][-1] == "test#11"


def test_rows_of_a_run_are_no_images(tmp_path):
    """`evaluate .` where an older run lies."""
    write_classes(tmp_path, CLASSES, 2)
    run = tmp_path / "run"
    write_parquet(run / "deletion" / "000000.parquet", class_rows(3, 1), CLASSES)
    write_marker(run, KINDS["evaluation"], Marker(KINDS["evaluation"].schema))
    assert load_images(tmp_path).count == 6
    with pytest.raises(InputError, match="no images and no Parquet files"):
        load_images(run)


def test_a_split_without_rows_is_an_error(tmp_path):
    write_parquet(tmp_path / "test.parquet", [], CLASSES)
    with pytest.raises(InputError, match=r"test\.parquet: no rows in split test"):
        load_images(tmp_path / "test.parquet")


def test_a_root_without_the_data_is_an_error_that_names_the_place(tmp_path):
    with pytest.raises(MissingFileError, match=f"{tmp_path}/cifar10: no such folder or file"):
        load_images("cifar10", root=tmp_path)
    write_parquet(tmp_path / "one.parquet", class_rows(3, 1), CLASSES)
    assert load_images("one.parquet", root=tmp_path).count == 3


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
    assert load_images(splits, limit=np.int64(2)).count == 2
    for limit, message in ((0, "limit is 0"), (1.5, "limit is 1.5"), ("3", "limit is '3'")):
        with pytest.raises(ChoiceError, match=message):
            load_images(splits, limit=limit)


class Streamed:
    """What the data library gives for a set of the hub."""

    def __init__(self, rows, features, first=0):
        self.rows, self.features, self.first = rows, features, first
        self.info = SimpleNamespace(splits=None)

    def __iter__(self):
        return iter(self.rows[self.first :])

    def skip(self, count):
        return Streamed(self.rows, self.features, self.first + count)

    def cast_column(self, name, kind):
        return self


@pytest.fixture
def hub(monkeypatch):
    """A set of the hub with 30 rows, sorted by class, whose number it does not tell."""
    import datasets
    from datasets import ClassLabel, Features, Value
    from datasets import Image as Encoded

    kinds = {"id": Value("int64"), "mask": Encoded(), "picture": Encoded(),
             "label": ClassLabel(names=CLASSES)}  # fmt: skip
    cells = [{"bytes": encoded(picture(n)), "path": None} for n in range(30)]
    cells[4] = {"bytes": None, "path": "/etc/hostname"}
    rows = [
        {"id": n, "mask": None, "picture": cell, "label": n // 10} for n, cell in enumerate(cells)
    ]
    monkeypatch.setattr("chiaroscuro.data.tables.hub_if_reachable", nullcontext)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: ["train", "Test"])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Streamed(rows, Features(kinds)))


def test_a_limit_of_a_set_of_unknown_length_is_drawn_from_all_of_it(hub):
    drawn = load_images("some/set", limit=8, seed=1)
    ids = [row.id for row in drawn]
    assert drawn.count == len(ids) == len(set(ids)) == 8
    assert ids == sorted(ids, key=lambda id_: int(id_[5:]))
    assert {row.label for row in drawn} == {0, 1, 2}
    assert ids == [row.id for row in load_images("some/set", limit=8, seed=1)]
    assert ids != [row.id for row in load_images("some/set", limit=8, seed=2)]
    assert "drawn from all 30 rows, read once to count them" in drawn.notes
    assert load_images("some/set", limit=99, seed=1).count == 30


def test_a_draw_from_a_stream_takes_every_row_as_often(hub):
    counts = np.zeros(30)
    for seed in range(300):
        counts[list(load_images("some/set", limit=6, seed=seed).chosen)] += 1
    assert counts.sum() == 1800
    assert abs(counts - 60).max() < 5 * np.sqrt(300 * 0.2 * 0.8)


def test_a_set_of_the_hub(hub):
    images = load_images("some/set")
    assert (images.split, images.labels, images.count) == ("Test", tuple(CLASSES), None)
    assert images.notes == ("images from column picture, classes from label",)
    (batch,) = batches(images, 40)
    assert len(batch.ids) == 29
    (one,) = batch.left_out
    assert one == LeftOut("Test#4", "no bytes, and the path /etc/hostname leads elsewhere")
    assert [row.id for row in load_images("some/set", limit=3)] == ["Test#0", "Test#1", "Test#2"]
    assert load_images("some/set", "train").split == "train"


@pytest.mark.parametrize("told", [False, True], ids=["bytes", "struct"])
def test_a_set_of_the_hub_that_does_not_know_of_images(hub, told, monkeypatch):
    import datasets
    from datasets import Features, Value

    data = Value("binary")
    kinds = {"n": Value("int64"), "image": {"bytes": data, "path": Value("string")}}
    cells = [{"bytes": encoded(picture(n)), "path": None} for n in range(3)]
    if not told:
        kinds["image"], cells = data, [cell["bytes"] for cell in cells]
    rows = [{"n": n, "image": cell} for n, cell in enumerate(cells)]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Streamed(rows, Features(kinds)))
    images = load_images("some/set")
    assert (images.labels, images.notes) == (None, ("images from column image, no classes",))
    assert len(batches(images)[0].ids) == 3


@pytest.mark.parametrize("told", [False, True], ids=["numbers", "classes"])
def test_a_named_set_has_its_names_whatever_the_hub_says(hub, told, monkeypatch):
    import datasets
    from datasets import ClassLabel, Features, Value
    from datasets import Image as Encoded

    kind = ClassLabel(names=[str(n) for n in range(10)]) if told else Value("int64")
    rows = [{"img": {"bytes": encoded(picture(n))}, "label": n} for n in range(10)]
    features = Features({"img": Encoded(), "label": kind})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Streamed(rows, features))
    images = load_images("cifar10")
    assert images.labels == DATASETS["cifar10"].labels
    assert (images.split, images.count) == ("test", 10_000)
    assert [row.label for row in images] == list(range(10))


SOURCES = ["folder", "splits", "hub"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("limit", "seed"), [(None, None), (9, None), (9, 3)])
def test_every_single_batch_is_that_of_the_sequential_reader(source, limit, seed, request):
    place = request.getfixturevalue(source) or "some/set"
    images = load_images(place, limit=limit, seed=seed)
    whole = batches(images, 4)
    assert images.count is not None or source == "hub"
    copy = pickle.loads(pickle.dumps(images)) if source != "hub" else images
    for expected in whole:
        (found,) = batches(copy, 4, numbers=[expected.number])
        assert_same(found, expected)
    assert batches(copy, 4, numbers=[len(whole)]) == []


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("numbers", [[2], [0, 1, 2], [2, 0], [0, 2, 1, 1], [], [1, 99]])
def test_batches_of_any_numbers(source, numbers, request):
    images = load_images(request.getfixturevalue(source) or "some/set")
    whole = batches(images, 4)
    found = batches(images, 4, numbers=iter(numbers))
    for ours, number in zip(found, numbers, strict=False):
        assert_same(ours, whole[number])
    assert len(found) == len([number for number in numbers if number < len(whole)])


def assert_same(found, expected):
    for name in ("number", "ids", "labels", "left_out"):
        assert getattr(found, name) == getattr(expected, name)
    assert all(np.array_equal(a, b) for a, b in zip(found.pixels, expected.pixels, strict=True))


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
        (__file__, r"test_data.py is a file: give a folder of photos or a Parquet file"),
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
