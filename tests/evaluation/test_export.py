"""Maps of whole sets: the numbers, the bytes, stopping and sharing, and what others read."""

import base64
import errno
import io
import json
import subprocess
import sys
import zlib
from dataclasses import replace

import h5py
import msgspec
import numpy as np
import pyarrow as pa
import pytest
import torch
import xarray
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pyarrow import parquet
from typer.testing import CliRunner

from chiaroscuro import (
    Classifier,
    class_gradients,
    convert_maps,
    explain,
    export_maps,
    load_result,
    merge_maps,
    saliency_maps,
    save_classifier,
)
from chiaroscuro.cli import actions, app
from chiaroscuro.data.images import read_batches
from chiaroscuro.data.loading import load_images
from chiaroscuro.data.stored import StoredMaps
from chiaroscuro.errors import (
    ChoiceError,
    ExistingResultError,
    InputError,
    ResultError,
    UnwritableResultError,
)
from chiaroscuro.evaluation import convert
from chiaroscuro.models.folder import basic_cnn
from chiaroscuro.results import folders, store, verification
from chiaroscuro.results.folders import Receipt, digest, sealed
from chiaroscuro.results.maps import KIND, MapLayout, StoredImage, pixels_digest
from chiaroscuro.settings import MapExportSettings
from tests.evaluation.toy import CLASSES, bytes_of, toy_classifier
from tests.pictures import BROKEN, class_rows, encoded, picture, write_classes, write_parquet
from tests.toys import small_cnn

MAPS = ("active", "inactive", "signed")
FAST = {"batch": 4, "threads": 1, "maps": MAPS}


def export(data, out, classifier=None, **options):
    return export_maps(classifier or toy_classifier(), data, out, **{**FAST, **options})


def rows_of(out, table="rows"):
    found = [parquet.ParquetFile(f).read() for f in sorted((out / table).glob("*.parquet"))]
    return pa.concat_tables(found).to_pylist()


def array_of(out):
    return zarr.open_group(out / "maps.zarr", mode="r")["maps"][...]


def interrupt(done, total, before):
    if done - before >= 8:
        raise KeyboardInterrupt


def test_float32_maps_are_those_of_the_library_bit_for_bit(data, tmp_path):
    classifier = toy_classifier()
    result = export(data, tmp_path / "run", classifier)
    assert (result.shape, result.data.images) == ((15, 3, 12, 12), 15)
    for batch in read_batches(load_images(data), classifier.framing, 4):
        pixels = torch.from_numpy(np.stack(batch.pixels))
        maps = saliency_maps(class_gradients(classifier, pixels), MAPS)
        first = batch.number * 4
        stored = array_of(tmp_path / "run")[first : first + 4]
        assert stored.dtype == np.float32
        assert np.array_equal(stored, torch.stack(list(maps.values()), 1).numpy())
    assert load_result(tmp_path / "run") == result


def test_maps_are_what_autograd_says_in_float64(data, tmp_path):
    classifier = toy_classifier()
    classifier = Classifier(classifier.module.double(), size=12, labels=CLASSES)
    export(data, tmp_path / "run", classifier)
    stored, rows = array_of(tmp_path / "run"), rows_of(tmp_path / "run")
    for batch in read_batches(load_images(data), classifier.framing, 4):
        for n, pixels in enumerate(batch.pixels):
            x = torch.from_numpy(pixels[None].astype(np.float64)).requires_grad_()
            logits = classifier.module.eval()(x)[0]
            slopes = [torch.autograd.grad(one, x, retain_graph=True)[0][0] for one in logits]
            c = int(logits.argmax())
            others = torch.stack([g for k, g in enumerate(slopes) if k != c])
            over = slopes[c] > others.amax(0)
            active = torch.where(over, slopes[c].abs(), 0).amax(0).numpy()
            row = rows[batch.number * 4 + n]
            assert (row["target"], row["predicted_label"]) == (c, CLASSES[c])
            assert np.allclose(row["logits"], logits.detach().numpy(), rtol=1e-6)
            assert np.allclose(stored[row["image"], 0], active, rtol=1e-6, atol=0)
            assert row["support_entries"][0] == pytest.approx(over.double().mean().item())
            assert row["pixels_sha256"] == pixels_digest(pixels)


@given(
    arrays.arrays(
        np.float32,
        (2, 1, 2, 3),
        elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
    )
)
def test_int8_is_within_half_a_step_and_keeps_every_sign(values):
    kept, scale = MapLayout(("signed",), (2, 3), 2, "int8").stored(values)
    step = scale.astype(np.float64)[..., None, None]
    exact = values.astype(np.float64)
    assert (np.abs(kept * step - exact) <= step * (0.5 + 1e-5)).all()
    assert (kept[exact == 0] == 0).all()
    assert (kept * np.sign(exact) >= 0).all()
    assert (np.abs(kept).max(axis=(2, 3)) == 127 * (scale > 0)).all()


@pytest.mark.parametrize("dtype", ["int8", "float16"])
def test_stored_narrowly_the_maps_are_near_the_exact_ones(data, tmp_path, dtype):
    export(data, tmp_path / "exact")
    export(data, tmp_path / "run", dtype=dtype)
    exact = array_of(tmp_path / "exact")
    values = np.concatenate([v for _, v in StoredMaps.open(tmp_path / "run").parts()])
    if dtype == "int8":
        off = np.abs(exact).max(axis=(2, 3), keepdims=True) / 254 * (1 + 1e-5)
        data_set = xarray.open_zarr(tmp_path / "run" / "maps.zarr")
        assert data_set["maps"].dtype == np.int8
        assert np.array_equal((data_set["maps"] * data_set["scale"]).values, values)
    else:
        off = np.abs(exact) * 2**-11 + 2**-25
    assert (np.abs(values - exact) <= off).all()
    assert not np.array_equal(values, exact)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_one_worker_or_two_stopped_or_not_the_bytes_are_the_same(
    data, tmp_path, quick_workers, dtype
):
    whole = export(data, tmp_path / "one", dtype=dtype)
    assert export(data, tmp_path / "two", dtype=dtype, workers=2) == whole
    with pytest.raises(KeyboardInterrupt):
        export(data, tmp_path / "stopped", dtype=dtype, progress=interrupt)
    assert len(list((tmp_path / "stopped").glob("parts/0*.json"))) == 2
    with pytest.raises(ResultError, match="not finished: resume it"):
        StoredMaps.open(tmp_path / "stopped")
    export(data, tmp_path / "stopped", dtype=dtype, resume=True)
    bytes_ = bytes_of(tmp_path / "one")
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "stopped") == bytes_
    assert ("maps.zarr/scale/c/3/0" in bytes_) == (dtype == "int8")


@pytest.mark.parametrize("damage", ["gone", "flipped", "cut"])
def test_a_damaged_shard_is_refused_and_computed_again(data, tmp_path, damage):
    export(data, tmp_path / "run")
    whole = bytes_of(tmp_path / "run")
    file = tmp_path / "run" / "maps.zarr" / "maps" / "c" / "1" / "0" / "0" / "0"
    held = bytearray(file.read_bytes())
    held[len(held) // 3] ^= 1
    file.unlink() if damage == "gone" else file.write_bytes(held[:50] if damage == "cut" else held)
    with pytest.raises(ResultError, match="part 1 is gone or damaged"):
        list(StoredMaps.open(tmp_path / "run").parts())
    export(data, tmp_path / "run", resume=True)
    assert bytes_of(tmp_path / "run") == whole


def test_three_shards_joined_are_the_bytes_of_one_run(data, tmp_path):
    whole = export(data, tmp_path / "whole")
    shards = [tmp_path / f"shard-{i}" for i in range(3)]
    for i, shard in enumerate(shards):
        part = export(data, shard, shard=f"{i}/3")
        assert part.data.images == (7, 4, 4)[i]
        numbers = [int(f.stem) for f in sorted((shard / "parts").glob("0*"))]
        assert numbers == list(range(4))[i::3]
    with pytest.raises(ResultError, match=r"2 of 4 batches are in none of the shards \(0, 3\)"):
        merge_maps(shards[1:], tmp_path / "merged")
    assert merge_maps(shards[:1], tmp_path / "merged") == whole
    assert bytes_of(tmp_path / "merged") == bytes_of(tmp_path / "whole")


def test_batches_that_no_shard_has_are_computed_by_resuming(data, tmp_path):
    export(data, tmp_path / "whole")
    export(data, tmp_path / "shard", shard="1/2")
    with pytest.raises(ResultError, match="--resume"):
        merge_maps([tmp_path / "shard"], tmp_path / "merged")
    export(data, tmp_path / "merged", resume=True)
    assert bytes_of(tmp_path / "merged") == bytes_of(tmp_path / "whole")


def test_shards_of_different_runs_are_not_joined(data, tmp_path):
    export(data, tmp_path / "0", shard="0/2")
    export(data, tmp_path / "1", shard="1/2", dtype="float16")
    with pytest.raises(ResultError, match="dtype was float16, now float32"):
        merge_maps([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    with pytest.raises(ChoiceError, match="no shards are given"):
        merge_maps([], tmp_path / "merged")


def test_a_receipt_that_names_a_file_elsewhere_is_not_followed(data, tmp_path):
    export(data, tmp_path / "shard", shard="0/1")
    (tmp_path / "secret").write_text("secret")
    receipt = sealed(Receipt(0, 4, (), {"../secret": digest(tmp_path / "secret")}))
    (tmp_path / "shard" / "parts" / "000000.json").write_bytes(msgspec.json.encode(receipt))
    with pytest.raises(ResultError, match=r"1 of \d+ batches are in none of the shards \(0\)"):
        merge_maps([tmp_path / "shard"], tmp_path / "merged")


@pytest.mark.parametrize("shard", ["3/3", "0/0", "x", "-1/2", "1"])
def test_a_shard_is_one_of_its_number(data, tmp_path, shard):
    with pytest.raises(ChoiceError, match="expected i/n with i from 0"):
        export(data, tmp_path / "run", shard=shard)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"maps": ("active",)}, "maps was"),
        ({"rivals": "top:1"}, "rivals was all, now top:1"),
        ({"dtype": "int8"}, "dtype was float32, now int8"),
        ({"target": "label"}, "target was predicted, now label"),
    ],
)
def test_other_settings_are_refused(data, tmp_path, change, named):
    export(data, tmp_path / "run")
    before = bytes_of(tmp_path / "run")
    with pytest.raises(ResultError, match=f"another configuration .*{named}"):
        export(data, tmp_path / "run", resume=True, **change)
    assert bytes_of(tmp_path / "run") == before


def test_another_network_and_changed_data_are_refused(data, tmp_path):
    export(data, tmp_path / "run")
    other = toy_classifier()
    with torch.no_grad():
        other.module[0].bias[0] += 1e-3
    with pytest.raises(ResultError, match=r"model\.sha256 was"):
        export(data, tmp_path / "run", other, resume=True)
    write_parquet(data / "test.parquet", class_rows(3, 5, 17), CLASSES)
    with pytest.raises(ResultError, match="files was"):
        export(data, tmp_path / "run", resume=True)
    with pytest.raises(InputError, match="the data changed after"):
        convert_maps(tmp_path / "run", tmp_path / "out", "overlays")
    assert not (tmp_path / "out").exists()


def test_a_photo_that_is_another_now_has_no_stored_map(tmp_path):
    """The file's name and size are the same, so that only its pixels tell."""
    photo = tmp_path / "photos" / "a.bmp"
    photo.parent.mkdir()
    picture(0, 12).save(photo)
    export(tmp_path / "photos", tmp_path / "run")
    stored = StoredMaps.open(tmp_path / "run")
    (one,) = stored.images()
    found = stored.find(one.photo, one.pixels)
    assert found is not None
    assert found.about == one.about
    assert np.array_equal(found.maps, one.maps)
    picture(1, 12).save(photo)
    with pytest.raises(InputError, match=r"a\.bmp: not the photo that .*run has maps of"):
        list(stored.images())
    assert stored.find(one.photo, one.pixels + 1) is None


class Broken(torch.nn.Module):
    """NaN where the upper left pixel is white, values beyond float16 where it is black."""

    def __init__(self):
        super().__init__()
        self.inner = small_cnn(3)

    def forward(self, x):
        corner = x[:, :1, :1, :1].flatten(1)
        logits = self.inner(x)
        logits = torch.where(corner == 1, torch.nan, logits)
        return torch.where(corner == 0, logits * 1e9, logits)


def test_images_that_fail_are_nan_and_listed_with_their_reason(tmp_path):
    pictures = [picture(n, 12).point(lambda v: min(max(v, 1), 254)) for n in range(10)]
    pictures[2].putpixel((0, 0), (255, 255, 255))
    pictures[7].putpixel((0, 0), (0, 0, 0))
    rows = [(encoded(one), n % 3) for n, one in enumerate(pictures)]
    rows[4] = rows[5] = (BROKEN, 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    classifier = Classifier(Broken(), size=12, labels=CLASSES)
    result = export(tmp_path / "data", tmp_path / "run", classifier, dtype="float16")
    read, failed = rows_of(tmp_path / "run"), rows_of(tmp_path / "run", "failures")
    assert [row["image"] for row in read] == [0, 1, 3, 6, 8, 9]
    assert [row["image"] for row in failed] == [2, 4, 5, 7]
    assert failed[0]["reason"] == "the logits are NaN or infinite: check the module"
    assert failed[3]["reason"] == "maps hold values beyond float16"
    assert [row["label"] for row in read] == [n % 3 for n in (0, 1, 3, 6, 8, 9)]
    assert result.data.images + result.data.left_out_count == result.shape[0] == 10
    assert sum(one.count for one in result.data.reasons) == 4
    maps = array_of(tmp_path / "run")
    is_nan = np.isnan(maps)
    assert np.flatnonzero(is_nan.any(axis=(1, 2, 3))).tolist() == [2, 4, 5, 7]
    assert is_nan[[2, 4, 5, 7]].all()
    for one in StoredMaps.open(tmp_path / "run").images():
        alone = saliency_maps(class_gradients(classifier, torch.from_numpy(one.pixels[None])), MAPS)
        wanted = torch.stack(list(alone.values()), 1)[0].half().float().numpy()
        assert np.allclose(one.maps, wanted, rtol=2e-3), one.about.id


def test_what_is_damaged_before_the_end_is_known_as_damaged(data, tmp_path, monkeypatch):
    """The end of a run reads its tables and no map again: receipts say what was written."""
    shard, read = tmp_path / "run" / "maps.zarr" / "maps" / "c" / "0" / "0" / "0" / "0", []
    digest_of_file = folders.digest

    def watched(file):
        read.append(
            "" if isinstance(file, bytes) else file.relative_to(tmp_path / "run").as_posix()
        )
        return digest_of_file(file)

    def damage(done, total, before):
        if done == total:
            shard.write_bytes(shard.read_bytes()[:-1] + b"?")
            monkeypatch.setattr(folders, "digest", watched)
            monkeypatch.setattr(store, "digest", watched)

    export(data, tmp_path / "run", progress=damage)
    monkeypatch.undo()
    assert {"rows/000000.parquet", "maps.zarr/zarr.json"} <= {*read}
    assert not [name for name in read if name.startswith("maps.zarr/maps/c/")]
    found = verification(tmp_path / "run")
    assert found.damaged == ("maps.zarr/maps/c/0/0/0/0",) and found.missing == (0,)


def test_a_row_of_another_kind_is_an_error_of_ours(data, tmp_path):
    export(data, tmp_path / "run")
    first = rows_of(tmp_path / "run")[0]
    assert StoredImage.read(first).row() == {**first, **{
        name: tuple(first[name]) for name in ("logits", "support_pixels", "support_entries")
    }}  # fmt: skip
    for name in ("target", "logits", "left", "pixels_sha256"):
        for value in ({"a": 1}, b"text", None):
            with pytest.raises(ResultError, match=f"row of stored maps is damaged .*{name}"):
                StoredImage.read({**first, name: value})
        with pytest.raises(ResultError, match="damaged"):
            StoredImage.read({key: value for key, value in first.items() if key != name})


def test_a_set_without_any_map_is_stored_too(tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", [(BROKEN, 0)] * 3, CLASSES)
    result = export(tmp_path / "data", tmp_path / "run")
    assert (result.data.images, result.data.left_out_count) == (0, 3)
    assert np.isnan(array_of(tmp_path / "run")).all()
    with pytest.raises(InputError, match="no image has maps"):
        convert_maps(tmp_path / "run", tmp_path / "out", "virelay")


def test_targets_and_rivals_are_in_the_rows(data, tmp_path):
    export(data, tmp_path / "run", target="label", rivals="top:1")
    for row in rows_of(tmp_path / "run"):
        assert row["target"] == row["label"] == CLASSES.index(row["target_label"])
        others = [k for k in range(3) if k != row["target"]]
        assert row["rivals"] == [max(others, key=row["logits"].__getitem__)]


def test_images_without_a_class_fail_where_the_target_is_the_label(tmp_path):
    rows = [(encoded(picture(n)), k) for n, k in enumerate([0, None, 2])]
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    export(tmp_path / "data", tmp_path / "run", target="label")
    assert [row["image"] for row in rows_of(tmp_path / "run")] == [0, 2]
    (failed,) = rows_of(tmp_path / "run", "failures")
    assert (failed["image"], failed["reason"]) == (1, "no class")


def test_what_cannot_be_stored_is_one_line(data, tmp_path):
    with pytest.raises(ChoiceError, match="winner holds numbers of classes, which int8 does not"):
        MapExportSettings(data="x", maps=("winner",), dtype="int8")
    with pytest.raises(ChoiceError, match="has no size: stored maps are of flat images"):
        export(data, tmp_path / "run", toy_classifier(size=None))
    with pytest.raises(ChoiceError, match="unknown form 'onnx'"):
        convert_maps(tmp_path, tmp_path / "out", "onnx")
    assert not list(tmp_path.glob("run*"))


def test_plain_xarray_and_zarr_open_it(data, tmp_path):
    export(data, tmp_path / "run")
    maps = xarray.open_zarr(tmp_path / "run" / "maps.zarr")["maps"]
    assert maps.dims == ("image", "map", "y", "x")
    assert maps["map"].values.tolist() == list(MAPS)
    group = zarr.open_group(tmp_path / "run" / "maps.zarr", mode="r")
    assert np.array_equal(maps.sel(map="signed")[3], group["maps"][3, 2])
    assert group["maps"].shards == (4, 3, 12, 12)
    assert group["maps"].chunks == (1, 3, 12, 12)
    assert group.attrs["digest"] == load_result(tmp_path / "run").digest


@pytest.mark.parametrize("options", [{}, {"multi_label": True, "labels": None}])
def test_stored_maps_read_as_explanations(data, tmp_path, options):
    classifier = toy_classifier(**options)
    export(data, tmp_path / "run", classifier, maps=(*MAPS, "winner"))
    stored = StoredMaps.open(tmp_path / "run")
    for kept in stored.images():
        one = stored.explanation(kept)
        target = kept.about.predicted if options else None
        direct = explain(classifier, kept.photo.image, target=target, maps=(*MAPS, "winner"))
        for mine, theirs in zip(one.predictions, direct.predictions, strict=True):
            assert (mine.index, mine.label) == (theirs.index, theirs.label)
            assert mine.probability == pytest.approx(theirs.probability, rel=1e-4)
        assert one.target == one.predictions[0]
        assert (one.crop, one.rivals) == (direct.crop, direct.rivals)
        assert replace(one.choices, target=0) == replace(direct.choices, target=0)
        for name, map_ in direct.maps.items():
            assert np.allclose(one.maps[name], map_, rtol=1e-4, atol=1e-6)
            assert one.maps[name].dtype == map_.dtype
            mine, theirs = one.facts[name], direct.facts[name]
            assert mine.support_pixels == pytest.approx(theirs.support_pixels)


FULL = """
import resource, sys
from chiaroscuro.cli import main

resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
main()
"""


def test_a_full_disk_is_one_line_and_crashes_no_hdf5(data, tmp_path):
    """In a process of its own, which HDF5 would end by a signal."""
    export(data, tmp_path / "run")
    words = ["convert", tmp_path / "run", "--to", "virelay", "--out", tmp_path / "out"]
    command = [sys.executable, "-c", FULL, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == f"chiaroscuro: {tmp_path / 'out'}: cannot be written (File too large)\n"
    assert (done.returncode, done.stdout) == (1, "")
    assert not [one for one in tmp_path.iterdir() if one.name.startswith((".chiaroscuro", "out"))]


def test_a_disk_that_is_full_as_hdf5_closes_its_files_is_said_too(data, tmp_path, monkeypatch):
    """Some is written then alone, after the last image."""
    export(data, tmp_path / "run")
    full, write = [], convert._Written.write

    def refuse(self, given):
        if not full:
            return write(self, given)
        with self._kept():
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(given)

    monkeypatch.setattr(convert._Written, "write", refuse)
    with pytest.raises(UnwritableResultError, match="No space left on device"):
        convert_maps(
            tmp_path / "run",
            tmp_path / "out",
            "virelay",
            progress=lambda done, total, before: full.extend([1] * (done == total)),
        )
    assert full and not (tmp_path / "out").exists()


def test_what_a_killed_conversion_left_is_cleared_away(data, tmp_path):
    export(data, tmp_path / "run")
    left = tmp_path / ".chiaroscuro-stage-0123456789ab"
    left.mkdir()
    (left / "000000.png").write_bytes(b"half")
    convert_maps(tmp_path / "run", tmp_path / "out", "overlays")
    assert not left.exists()


def test_the_databases_of_virelay(data, tmp_path):
    """Keys, shapes and types of ViRelAy's database specification; it adds the channels up."""
    export(data, tmp_path / "run")
    convert_maps(tmp_path / "run", tmp_path / "out", "virelay")
    stored, rows = array_of(tmp_path / "run"), rows_of(tmp_path / "run")
    with h5py.File(tmp_path / "out" / "input.h5") as inputs:
        assert (inputs["data"].shape, inputs["data"].dtype) == ((15, 3, 12, 12), np.float32)
        assert inputs["label"][:].tolist() == [row["label"] for row in rows]
        assert [pixels_digest(one) for one in inputs["data"]] == [r["pixels_sha256"] for r in rows]
    for m, name in enumerate(MAPS):
        with h5py.File(tmp_path / "out" / f"{name}.attribution.h5") as file:
            assert {*file} == {"index", "attribution", "label", "prediction"}
            assert file["index"].dtype == np.uint32
            assert file["index"][:].tolist() == list(range(15))
            assert np.array_equal(file["attribution"][:].sum(axis=1), stored[:, m])
            assert file["label"][:].tolist() == [row["target"] for row in rows]
            wanted = np.array([row["logits"] for row in rows], np.float32)
            assert np.array_equal(file["prediction"][:], wanted)
        project = json.loads((tmp_path / "out" / f"{name}.yaml").read_text())["project"]
        assert project["dataset"]["path"] == "input.h5"
        assert project["attributions"]["sources"] == [f"{name}.attribution.h5"]
    labels = json.loads((tmp_path / "out" / "label-map.json").read_text())
    assert [(one["index"], one["name"]) for one in labels] == list(enumerate(CLASSES))


def test_the_data_set_of_fiftyone(data, tmp_path):
    """Its JSON form: arrays are base64 of zlib of NumPy files, in MongoDB's extended JSON."""
    export(data, tmp_path / "run")
    convert_maps(tmp_path / "run", tmp_path / "out", "fiftyone")
    samples = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
    assert "version" not in json.loads((tmp_path / "out" / "metadata.json").read_text())
    stored, rows = array_of(tmp_path / "run"), rows_of(tmp_path / "run")
    assert len(samples) == 15
    for n, (sample, row) in enumerate(zip(samples, rows, strict=True)):
        with Image.open(tmp_path / "out" / sample["filepath"]) as seen:
            assert seen.size == (12, 12)
        assert sample["prediction"]["label"] == row["predicted_label"]
        assert 0 < sample["prediction"]["confidence"] < 1
        assert sample["ground_truth"] == {"_cls": "Classification", "label": CLASSES[row["label"]]}
        for m, name in enumerate(MAPS):
            heatmap = sample[name]
            assert heatmap["_cls"] == "Heatmap"
            packed = base64.b64decode(heatmap["map"]["$binary"]["base64"])
            values = np.load(io.BytesIO(zlib.decompress(packed)))
            low, high = heatmap["range"]
            assert values.dtype == np.float32
            assert low == (-high if name == "signed" else 0)
            assert np.array_equal(values, stored[n, m].clip(low, high))
            assert high == pytest.approx(np.quantile(np.abs(stored[n, m][stored[n, m] != 0]), 0.99))


def test_overlays_have_the_size_of_the_photo(data, tmp_path):
    export(data, tmp_path / "run", maps=("signed", "winner"))
    convert_maps(tmp_path / "run", tmp_path / "out", "overlays")
    assert len(list((tmp_path / "out" / "winner").iterdir())) == 15
    with Image.open(tmp_path / "out" / "signed" / "000003.png") as drawn:
        assert drawn.size == (16, 16)
        assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) > 20
    with pytest.raises(ExistingResultError, match="exists already: choose another place"):
        convert_maps(tmp_path / "run", tmp_path / "out", "overlays")


def test_the_command_line_stores_joins_and_converts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / "photos", CLASSES, 3, 32)
    (tmp_path / "photos" / "cat" / "broken.png").write_bytes(BROKEN)
    classifier = Classifier(basic_cnn(3), size=32, labels=CLASSES)
    save_classifier(
        classifier, tmp_path / "net", architecture="basic-cnn", arguments={"classes": 3}
    )
    asked = [
        "maps",
        "photos",
        "--model",
        "net",
        "--map",
        "signed",
        "--batch",
        "4",
        "--threads",
        "1",
    ]

    def call(*words):
        done = CliRunner().invoke(app, words)
        assert done.exit_code in (0, 3), (
            done.output + done.stderr
        )  # of shards, one has the broken image
        return done.stdout

    said = call(*asked, "--out", "whole")
    assert "9 images of photos, 1 left out: signed; 32 x 32, float32" in said
    assert "left out, 1: not a picture in a format that is read" in said
    assert f"folder: {tmp_path / 'whole'}" in said
    for i in range(2):
        assert "chiaroscuro merge" in call(*asked, "--shard", f"{i}/2", "--out", f"shard-{i}")
    assert "9 images of photos" in call("merge", "shard-0", "shard-1", "--out", "merged")
    assert bytes_of(tmp_path / "merged") == bytes_of(tmp_path / "whole")
    assert "9 images" in call(*asked, "--out", "whole", "--only-missing")
    assert "overlays -> " in call("convert", "merged", "--to", "overlays", "--out", "pictures")
    assert json.loads(call("merge", "shard-0", "--out", "merged", "--json"))["shape"][0] == 10
    done = CliRunner().invoke(app, [*asked, "--out", "whole"])
    assert isinstance(done.exception, ExistingResultError)
    assert KIND.marker in bytes_of(tmp_path / "whole")


def test_without_its_extra_the_command_names_that_one(tmp_path, monkeypatch):
    monkeypatch.setattr(actions, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["maps", str(tmp_path), "--out", str(tmp_path / "kept")])
    assert "keeping maps needs zarr" in str(done.exception)
    assert str(done.exception).endswith("'chiaroscuro[maps]'")
    assert not (tmp_path / "kept").exists()
