"""Confusions read from stored maps: the same as from the data, and refused where they cannot be."""

import pytest
import torch
from typer.testing import CliRunner

from chiaroscuro import Classifier, confusions, export_maps, merge_maps
from chiaroscuro.cli import app
from chiaroscuro.errors import ChoiceError, InputError, ResultError
from chiaroscuro.results import load
from tests.evaluation.toy import CLASSES, bytes_of, saved_cnn, toy_classifier
from tests.pictures import BROKEN, class_rows, picture, write_parquet
from tests.toys import small_cnn

SMALL = {"batch": 4, "threads": 1}
FEW = {"resamples": 20, "pairs": 2, "mends": 1}


@pytest.fixture(scope="module")
def classifier():
    return toy_classifier()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, classifier):
    """Data with a broken image, and its maps in `maps`."""
    folder = tmp_path_factory.mktemp("stored")
    rows = class_rows(3, 4)
    rows.insert(5, (BROKEN, 1))
    write_parquet(folder / "data" / "test.parquet", rows, CLASSES)
    export_maps(classifier, folder / "data", folder / "maps", target="label", strongest=5, **SMALL)
    return folder


def read(folder, out, classifier, maps="maps", **options):
    return confusions(classifier, folder / maps, out, **{**FEW, **options})


def test_the_same_bytes_as_from_the_data(folder, tmp_path, classifier):
    wanted = confusions(
        classifier, folder / "data", tmp_path / "direct", strongest=5, **SMALL, **FEW
    )
    found = read(folder, tmp_path / "read", classifier)
    rows = [
        {name: data for name, data in bytes_of(tmp_path / out).items() if name.startswith("rows/")}
        for out in ("direct", "read")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 4
    assert found.pairs == wanted.pairs and found.classes == wanted.classes
    assert (found.grids == wanted.grids).all() and found.data == wanted.data
    assert found.data.left_out_count == 1 and found.target_note == wanted.target_note == ""
    assert [*found.photos] == [*wanted.photos]
    assert [one.id for one in found.mends] == [one.id for one in wanted.mends]
    assert load(tmp_path / "read").settings.data == str(folder / "maps")


def test_no_gradient_of_the_set_is_computed(folder, tmp_path, classifier, monkeypatch):
    """Only those of the photos that a page shows; and none without such."""

    def refuse(*args, **kwargs):
        raise AssertionError("class gradients were computed")

    monkeypatch.setattr("chiaroscuro.checks.pairs.class_gradients", refuse)
    read(folder, tmp_path / "read", classifier)


def test_workers_and_resuming(folder, tmp_path, classifier):
    read(folder, tmp_path / "one", classifier)
    read(folder, tmp_path / "two", classifier, workers=2)
    whole = bytes_of(tmp_path / "one")
    assert bytes_of(tmp_path / "two") == whole
    (tmp_path / "one" / "rows" / "000001.parquet").unlink()
    read(folder, tmp_path / "one", classifier, resume=True)
    assert bytes_of(tmp_path / "one") == whole


def test_maps_of_rivals_of_their_own(tmp_path, classifier):
    """What the maps were computed with holds, and needs not be said again."""
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 2), CLASSES)
    chosen = {"rivals": "dog,owl", "score": "log-probability", "limit": 5, "seed": 3}
    export_maps(classifier, tmp_path / "data", tmp_path / "maps", strongest=5, **SMALL, **chosen)
    found = read(tmp_path, tmp_path / "read", classifier)
    wanted = confusions(
        classifier, tmp_path / "data", tmp_path / "direct", target="predicted", **FEW, **SMALL,
        **chosen,
    )  # fmt: skip
    assert found.pairs == wanted.pairs and found.data.images == 5
    assert {name: getattr(found.settings, name) for name in chosen} == chosen
    assert found.target_note == wanted.target_note
    read(tmp_path, tmp_path / "said", classifier, rivals="owl,dog", batch=4)
    with pytest.raises(ChoiceError, match=r"rivals is cat: the maps in .* have dog,owl"):
        read(tmp_path, tmp_path / "other", classifier, rivals="cat")
    with pytest.raises(ChoiceError, match="batch is 7: the maps in .* have 4"):
        read(tmp_path, tmp_path / "other", classifier, batch=7)
    assert not (tmp_path / "other").exists()


def test_maps_that_do_not_keep_them(folder, tmp_path, classifier):
    export_maps(classifier, folder / "data", tmp_path / "maps", **SMALL)
    assert not (tmp_path / "maps" / "competitors").exists()
    with pytest.raises(ResultError, match="does not keep what classes take: .*--strongest 30"):
        read(tmp_path, tmp_path / "out", classifier)
    with pytest.raises(ChoiceError, match="strongest is 0"):
        export_maps(classifier, folder / "data", tmp_path / "no", strongest=0)
    with pytest.raises(ChoiceError, match="rivals mean is one mean"):
        export_maps(classifier, folder / "data", tmp_path / "no", strongest=3, rivals="mean")
    with pytest.raises(ChoiceError, match="regions need gradients"):
        read(folder, tmp_path / "out", classifier, regions="boxes.csv")


def test_another_network_is_refused(folder, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = Classifier(small_cnn(3), size=12, labels=CLASSES, name="other")
    with torch.no_grad():
        other.module[-1].bias.add_(0.5)
    with pytest.raises(ResultError, match="maps of toy with other weights than those of other"):
        read(folder, tmp_path / "out", other)


def test_photos_that_changed_are_refused(tmp_path, classifier):
    """The file's name and size are the same, so that only its pixels tell."""
    photo = tmp_path / "photos" / "a.bmp"
    photo.parent.mkdir()
    picture(0, 12).save(photo)
    export_maps(classifier, tmp_path / "photos", tmp_path / "maps", strongest=5, **SMALL)
    picture(1, 12).save(photo)
    with pytest.raises(InputError, match=r"a\.bmp: not the photo that .*maps has maps of"):
        read(tmp_path, tmp_path / "out", classifier)


def test_a_damaged_part_is_named(tmp_path, classifier):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 2), CLASSES)
    export_maps(classifier, tmp_path / "data", tmp_path / "maps", strongest=5, **SMALL)
    file = tmp_path / "maps" / "competitors" / "000001.parquet"
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)
    with pytest.raises(ResultError, match="part 1 is gone or damaged"):
        read(tmp_path, tmp_path / "out", classifier)


def test_shards_are_read_once_they_are_one(folder, tmp_path, classifier):
    given = {"target": "label", "strongest": 5, **SMALL}
    for n in range(2):
        export_maps(classifier, folder / "data", tmp_path / str(n), shard=f"{n}/2", **given)
    with pytest.raises(ResultError):
        read(tmp_path, tmp_path / "out", classifier, maps="0")
    merge_maps([tmp_path / "0", tmp_path / "1"], tmp_path / "maps")
    found = read(tmp_path, tmp_path / "out", classifier)
    assert found.pairs == read(folder, tmp_path / "whole", classifier).pairs


def test_the_command_loads_the_network_of_the_maps(folder, tmp_path):
    model = saved_cnn(tmp_path / "net")
    words = [folder / "data", "--model", model, "--strongest", 4, "--out", tmp_path / "maps"]
    assert CliRunner().invoke(app, ["maps", *map(str, words)]).exit_code == 3
    words = [tmp_path / "maps", "--pairs", 1, "--mends", 0, "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, ["confusions", *map(str, words)])
    assert done.exit_code == 3, done.output  # one image is broken
    assert done.stdout.startswith(f"12 images of {folder / 'data'}, test, 1 left out")
