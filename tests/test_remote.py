"""Images read from an object store, and results copied there and back: a real S3 server, moto's."""

import json

import fsspec
import numpy as np
import pytest
from typer.testing import CliRunner

from chiaroscuro import (
    ResultError,
    copy_result,
    evaluate,
    explain,
    export_maps,
    load_images,
    load_result,
)
from chiaroscuro.cli import app
from chiaroscuro.data import images as images_module
from chiaroscuro.data.images import read_batches
from chiaroscuro.errors import (
    ChoiceError,
    ExistingResultError,
    InputError,
    MissingFileError,
    MissingResultError,
)
from chiaroscuro.files import RemoteFile, fetched, is_url
from chiaroscuro.images import Framing
from chiaroscuro.results import verification
from tests.evaluation.toy import CLASSES, FAST, MARKER, bytes_of, toy_classifier
from tests.pictures import (
    BROKEN,
    class_rows,
    encoded,
    picture,
    write_classes,
    write_parquet,
)

FEW = {**FAST, "resamples": 20, "flips": 19, "threads": 1}


@pytest.fixture(scope="module")
def server():
    """A bucket of a server of this machine; what names it is what S3's own programs read."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    fsspec.filesystem("s3").clear_instance_cache()
    running.stop()


@pytest.fixture(params=["s3", "memory"])
def bucket(request, tmp_path):
    """An empty place on the server, and one in memory."""
    if request.param == "s3":
        return f"{request.getfixturevalue('server')}/{tmp_path.name}"
    return f"memory://bucket/{tmp_path.name}"


def put(folder, url):
    """Every file of a folder, as any program would send it."""
    system, path = fsspec.core.url_to_fs(url)
    for name, data in bytes_of(folder).items():
        system.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        system.pipe_file(f"{path}/{name}", data)


def names(url):
    system, path = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    return {name.removeprefix(path).lstrip("/") for name in system.find(path)}


def pixels_of(images):
    (batch,) = read_batches(images, Framing((8, 8)), 50)
    return batch


def same(found, wanted):
    assert (found.split, found.labels, found.count) == (wanted.split, wanted.labels, wanted.count)
    one, two = pixels_of(found), pixels_of(wanted)
    assert (one.ids, one.labels) == (two.ids, two.labels)
    assert [f.id for f in one.left_out] == [f.id for f in two.left_out]
    assert all((a == b).all() for a, b in zip(one.pixels, two.pixels, strict=True))


# Images


def test_tables(bucket, tmp_path):
    rows = [*class_rows(3, 4), (BROKEN, 1)]
    write_parquet(tmp_path / "data" / "data" / "train-0-of-1.parquet", class_rows(3, 1), CLASSES)
    write_parquet(tmp_path / "data" / "data" / "test-0-of-2.parquet", rows[:5], CLASSES)
    write_parquet(tmp_path / "data" / "data" / "test-1-of-2.parquet", rows[5:], CLASSES)
    put(tmp_path / "data", bucket)
    same(load_images(bucket), load_images(tmp_path / "data"))
    same(load_images(bucket, "train"), load_images(tmp_path / "data", "train"))
    same(load_images(bucket, limit=4, seed=3), load_images(tmp_path / "data", limit=4, seed=3))
    one = "data/test-1-of-2.parquet"
    same(load_images(f"{bucket}/{one}"), load_images(tmp_path / "data" / one))
    assert load_images(bucket).source == bucket
    with pytest.raises(ChoiceError, match="has no split 'validation'"):
        load_images(bucket, "validation")


def test_folders_of_photos(bucket, tmp_path):
    write_classes(tmp_path / "data" / "train", CLASSES, 2)
    write_classes(tmp_path / "data" / "test", CLASSES, 3)
    (tmp_path / "data" / "test" / CLASSES[0] / "broken.png").write_bytes(BROKEN)
    (tmp_path / "data" / "test" / "notes.txt").write_text("no photo")
    (tmp_path / "data" / "test" / ".hidden.png").write_bytes(BROKEN)
    put(tmp_path / "data", bucket)
    found, wanted = load_images(bucket), load_images(tmp_path / "data")
    same(found, wanted)
    assert found.notes == wanted.notes == ("1 files are no photos by suffix (.txt)",)
    same(load_images(bucket, "train"), load_images(tmp_path / "data", "train"))
    assert found.labels == tuple(CLASSES) and len(pixels_of(found).left_out) == 1
    with pytest.raises(ChoiceError, match="has no columns"):
        load_images(bucket, image_column="x")


def test_what_cannot_be_read(bucket, server):
    with pytest.raises(MissingFileError, match="nothing is there"):
        load_images(f"{bucket}/nowhere")
    system, path = fsspec.core.url_to_fs(bucket)
    system.makedirs(f"{path}/texts", exist_ok=True)
    system.pipe_file(f"{path}/texts/a.txt", b"text")
    with pytest.raises(InputError, match="no images and no Parquet files"):
        load_images(f"{bucket}/texts")
    with pytest.raises(InputError, match="is a file: give a folder of photos or a Parquet file"):
        load_images(f"{bucket}/texts/a.txt")
    system.pipe_file(f"{path}/texts/a.parquet", b"no table")
    with pytest.raises(InputError, match="cannot be read as images"):
        load_images(f"{bucket}/texts/a.parquet")
    with pytest.raises(InputError, match="cannot be reached .*nosuch"):
        load_images("nosuch://bucket/photos")
    with pytest.raises(InputError, match="cannot be listed|nothing is there"):
        load_images("s3://no-such-bucket/photos")
    with pytest.raises(MissingFileError, match=r"nothing is there \(Cannot connect to host 127"):
        load_images("http://127.0.0.1:9/photos")


def test_a_photo_that_goes_away_is_left_out(bucket, tmp_path):
    write_classes(tmp_path / "data", CLASSES, 2)
    put(tmp_path / "data", bucket)
    images = load_images(bucket)
    system, path = fsspec.core.url_to_fs(bucket)
    gone = next(row.id for row in images)
    system.rm_file(f"{path}/{gone}")
    batch = pixels_of(images)
    assert [one.id for one in batch.left_out] == [gone] and len(batch.ids) == 5
    assert "cannot be read" in batch.left_out[0].reason
    assert load_images(bucket).fingerprint() != images.fingerprint()


def test_large_files_are_not_fetched():
    (found,) = fetched([RemoteFile(fsspec.filesystem("memory"), "/bucket/x", "x", 1 << 40)])
    assert isinstance(found, OSError) and "expected at most" in str(found)
    assert fetched([]) == []


ODD = ["cat[1].png", "cat1.png", "w?at*.png", "a::b.png", "x::file:///etc/c.png", "#%41 ü.png",
       "a//b.png", "a/b.png", "a/./b.png", "../b.png"]  # fmt: skip
"""Keys of a store that are patterns, parts of URLs, or no place in a folder."""


def test_every_key_is_the_name_of_its_own_photo(bucket):
    system, path = fsspec.core.url_to_fs(bucket)
    for n, name in enumerate(ODD):
        system.pipe_file(f"{path}/{name}", encoded(picture(n, 8)))
    images = load_images(bucket)
    batch = pixels_of(images)
    assert images.count == len(batch.ids) == len({*batch.ids}) == len(ODD) and not batch.left_out
    shown = {np.asarray(picture(n, 8)).tobytes() for n in range(len(ODD))}
    read = [(one.transpose(1, 2, 0) * 255).round().astype(np.uint8) for one in batch.pixels]
    assert {one.tobytes() for one in read} == shown
    assert {"a/()/b.png", "a/b.png", "a/(.)/b.png", "(..)/b.png"} <= {*batch.ids}


def test_few_bytes_are_held_at_a_time(bucket, tmp_path, monkeypatch):
    write_classes(tmp_path / "data", CLASSES, 4)
    put(tmp_path / "data", f"{bucket}/data")
    asked, read = [], images_module.fetched
    monkeypatch.setattr(images_module, "_HELD", 1500)
    monkeypatch.setattr(
        images_module, "fetched", lambda files: asked.append([f.size for f in files]) or read(files)
    )
    same(load_images(f"{bucket}/data"), load_images(tmp_path / "data"))
    assert sum(map(len, asked)) == 12 and all(sum(sizes[:-1]) <= 1500 for sizes in asked)
    assert max(map(len, asked)) > 1


def test_paths_are_not_read_as_urls(tmp_path, run):
    """Links and pipes are looked at where a path is given; no URL goes around that."""
    write_classes(tmp_path / "data", CLASSES, 1)
    for url in (f"file://{tmp_path}/data", f"local://{tmp_path}/data"):
        with pytest.raises(InputError, match="is on this machine: give its path"):
            load_images(url)
        with pytest.raises(InputError, match="is on this machine: give its path"):
            copy_result(run / "run", url)


def test_results_in_a_bucket_are_no_data(bucket, tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 2), CLASSES)
    evaluate(toy_classifier(), tmp_path / "data", tmp_path / "data" / "run", **FEW)
    put(tmp_path / "data", bucket)
    assert load_images(bucket).count == 6
    assert [file.name for file in load_images(bucket).files] == ["test.parquet"]


def test_what_is_a_url():
    assert is_url("s3://bucket/x") and is_url("simplecache::s3://x") and is_url("https://host/x")
    assert not is_url("photos/") and not is_url("C:\\photos") and not is_url("a::b/c.png")


def test_a_pass_reads_a_bucket(server, tmp_path):
    """The same rows as from the folder, with workers too, and resumed."""
    rows = [*class_rows(3, 4), (BROKEN, 1)]
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    url = f"{server}/pass"
    put(tmp_path / "data", url)
    toy = toy_classifier()
    here = evaluate(toy, tmp_path / "data", tmp_path / "here", **FEW)
    there = evaluate(toy, url, tmp_path / "there", workers=2, **FEW)
    assert there.curves == here.curves and there.data.left_out == here.data.left_out
    written = bytes_of(tmp_path / "there")
    (tmp_path / "there" / "deletion" / "000001.parquet").unlink()
    evaluate(toy, url, tmp_path / "there", resume=True, **FEW)
    assert bytes_of(tmp_path / "there") == written
    write_parquet(tmp_path / "data" / "test.parquet", rows[1:], CLASSES)
    put(tmp_path / "data", url)
    fsspec.filesystem("s3").invalidate_cache()
    with pytest.raises(ResultError, match="another configuration"):
        evaluate(toy, url, tmp_path / "there", resume=True, **FEW)


# Results


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_parquet(folder / "data" / "test.parquet", [*class_rows(3, 4), (BROKEN, 1)], CLASSES)
    evaluate(toy_classifier(), folder / "data", folder / "run", **FEW)
    return folder


def test_there_and_back(bucket, run, tmp_path):
    copy_result(run / "run", bucket)
    assert names(bucket) == {*bytes_of(run / "run")} - {".chiaroscuro-lock"}
    copy_result(bucket, tmp_path / "back")
    back = bytes_of(tmp_path / "back")
    assert {n: d for n, d in back.items() if n != ".chiaroscuro-lock"} == {
        n: d for n, d in bytes_of(run / "run").items() if n != ".chiaroscuro-lock"
    }
    assert verification(tmp_path / "back").whole
    assert load_result(tmp_path / "back").curves == load_result(run / "run").curves


def test_an_explanation(bucket, tmp_path):
    found = explain(toy_classifier(), np.random.default_rng(0).random((12, 12, 3)), evidence="none")
    found.save(tmp_path / "one")
    assert copy_result(tmp_path / "one", bucket) == bucket
    copy_result(bucket, tmp_path / "back")
    assert (load_result(tmp_path / "back").logits == found.logits).all()


def test_what_is_there_is_not_sent_again(bucket, run, monkeypatch):
    copy_result(run / "run", bucket)
    sent = []
    system, _ = fsspec.core.url_to_fs(bucket)
    put_one = system.pipe_file

    def watched(path, data):
        sent.append(path.rpartition("/")[2])
        put_one(path, data)

    monkeypatch.setattr(system, "pipe_file", watched)
    copy_result(run / "run", bucket)
    assert not any(name.startswith("00000") for name in sent) and sent[-1] == MARKER
    system.rm_file(f"{system._strip_protocol(bucket)}/deletion/000001.parquet")
    sent.clear()
    copy_result(run / "run", bucket)
    assert [name for name in sent if name.startswith("000001")] == [
        "000001.parquet",
        "000001.json",
    ]
    assert not {"000000.parquet", "000002.json", "000003.parquet"} & {*sent}
    assert names(bucket) == {*bytes_of(run / "run")} - {".chiaroscuro-lock"}


def test_an_unfinished_run_goes_on_elsewhere(bucket, run, tmp_path):
    """A copy of a run that stopped, resumed from the bucket, copied back: the bytes of one run."""

    class StoppedError(Exception):
        pass

    def stop(done, total, before):
        if done >= 8:
            raise StoppedError

    with pytest.raises(StoppedError):
        evaluate(toy_classifier(), run / "data", tmp_path / "a", progress=stop, **FEW)
    copy_result(tmp_path / "a", bucket)
    assert {n for n in names(bucket) if n.startswith("deletion")} == {
        "deletion/000000.parquet", "deletion/000001.parquet",
    }  # fmt: skip
    copy_result(bucket, tmp_path / "b")
    done = []
    evaluate(
        toy_classifier(), run / "data", tmp_path / "b", resume=True,
        progress=lambda *counts: done.append(counts), **FEW,
    )  # fmt: skip
    assert done[0] == (8, 13, 8)
    copy_result(tmp_path / "b", bucket)
    copy_result(bucket, tmp_path / "c")
    assert load_result(tmp_path / "c").curves == load_result(run / "run").curves
    assert verification(tmp_path / "c").whole


@pytest.mark.parametrize("broken", range(3))
def test_a_copy_that_broke_off_goes_on(bucket, run, tmp_path, monkeypatch, broken):
    """Whatever was sent last, no reader takes it for a result, and the same call ends it."""
    system, _ = fsspec.core.url_to_fs(bucket)
    put_one, left = system.pipe_file, [[1, 6, 11][broken]]

    def failing(path, data):
        left[0] -= 1
        if left[0] < 0:
            raise ConnectionError("the line went dead")
        put_one(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(system, "pipe_file", failing)
        with pytest.raises(InputError, match="stopped .the line went dead"):
            copy_result(run / "run", bucket)
    with pytest.raises(MissingResultError):
        copy_result(bucket, tmp_path / "back")
    copy_result(run / "run", bucket)
    copy_result(bucket, tmp_path / "back")
    assert verification(tmp_path / "back").whole


def test_a_copy_stops_by_the_clock_with_log_and_counts_and_goes_on(bucket, run, tmp_path):
    counts, log = tmp_path / "counts.prom", tmp_path / "log.jsonl"
    words = ["copy", str(run / "run"), bucket, "--counts", str(counts), "--log", str(log)]
    done = CliRunner().invoke(app, [*words, "--max-time", "0.000001s"])
    assert done.exit_code == 75, done.output
    with pytest.raises(MissingResultError):
        copy_result(bucket, tmp_path / "back")
    done = CliRunner().invoke(app, [*words, "--max-time", "1h"])
    assert done.exit_code == 0, done.output
    copy_result(bucket, tmp_path / "back")
    assert verification(tmp_path / "back").whole
    assert 'chiaroscuro_running{command="copy"} 0' in counts.read_text().splitlines()
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events == ["command begun", "out of time", "command begun", "command finished"]


def test_damage_is_found_before_it_spreads(bucket, run, tmp_path):
    copy_result(run / "run", bucket)
    system, _ = fsspec.core.url_to_fs(bucket)
    place = f"{system._strip_protocol(bucket)}/deletion/000000.parquet"
    data = bytearray(system.cat_file(place))
    data[50] ^= 1
    system.pipe_file(place, bytes(data))
    with pytest.raises(ResultError, match="deletion/000000.parquet of the source is gone"):
        copy_result(bucket, tmp_path / "back")
    assert not (tmp_path / "back" / MARKER).exists()
    system.pipe_file(f"{system._strip_protocol(bucket)}/{MARKER}", b'{"schema": "x"}')
    with pytest.raises(ResultError, match="damaged, or of another version"):
        copy_result(bucket, tmp_path / "other")


def test_nothing_of_others_is_overwritten(bucket, run, tmp_path):
    system, path = fsspec.core.url_to_fs(bucket)
    system.makedirs(path, exist_ok=True)
    system.pipe_file(f"{path}/thesis.txt", b"mine")
    with pytest.raises(ResultError, match="holds other files .such as thesis.txt"):
        copy_result(run / "run", bucket, overwrite=True)
    assert names(bucket) == {"thesis.txt"}
    export = tmp_path / "maps"
    export_maps(toy_classifier(), run / "data", export, batch=4, threads=1)
    copy_result(export, f"{bucket}/maps")
    with pytest.raises(ExistingResultError, match="holds another map-export"):
        copy_result(run / "run", f"{bucket}/maps")
    assert copy_result(export, f"{bucket}/maps") == f"{bucket}/maps"
    system.pipe_file(f"{path}/maps/mine.txt", b"mine")
    copy_result(run / "run", f"{bucket}/maps", overwrite=True)
    left = {*bytes_of(run / "run")} - {".chiaroscuro-lock"}
    assert names(f"{bucket}/maps") == left | {"mine.txt"}


@pytest.mark.parametrize("place", ["index.html", "deletion/000001.parquet", "parts/000001.json"])
def test_no_file_of_others_has_a_name_of_ours(bucket, run, tmp_path, place):
    """A file that stands alone in the target is its owner's, whatever the source calls its own."""
    system, path = fsspec.core.url_to_fs(bucket)
    mine = tmp_path / "mine"
    (mine / place).parent.mkdir(parents=True)
    (mine / place).write_bytes(b"mine")
    put(mine, bucket)
    for target in (mine, bucket):
        with pytest.raises(ResultError, match=f"holds another {place}: move it away"):
            copy_result(run / "run", target, overwrite=True)
    assert bytes_of(mine)[place] == system.cat_file(f"{path}/{place}") == b"mine"


def test_a_result_replaces_no_file_that_the_older_one_does_not_list(run, tmp_path):
    found = explain(toy_classifier(), np.random.default_rng(0).random((12, 12, 3)), evidence="none")
    found.save(tmp_path / "one")
    (tmp_path / "one" / "deletion").mkdir()
    (tmp_path / "one" / "deletion" / "000001.parquet").write_bytes(b"mine")
    with pytest.raises(ResultError, match="holds another deletion/000001.parquet"):
        copy_result(run / "run", tmp_path / "one", overwrite=True)
    assert (tmp_path / "one" / "deletion" / "000001.parquet").read_bytes() == b"mine"


def test_a_damaged_copy_of_the_same_run_is_mended(bucket, run):
    copy_result(run / "run", bucket)
    system, path = fsspec.core.url_to_fs(bucket)
    for name in ("parts/000001.json", "deletion/000001.parquet", "index.html"):
        system.pipe_file(f"{path}/{name}", b"{}")
    copy_result(run / "run", bucket)
    assert {n: system.cat_file(f"{path}/{n}") for n in names(bucket)} == {
        n: d for n, d in bytes_of(run / "run").items() if n != ".chiaroscuro-lock"
    }


def test_a_folder_that_is_refused_is_left_as_it_was(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ResultError, match="holds other files"):
        copy_result(run / "run", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_is_no_source(run, tmp_path):
    with pytest.raises(MissingResultError, match="no chiaroscuro result there"):
        copy_result(run / "data", tmp_path / "out")
    with pytest.raises(MissingResultError, match="no chiaroscuro result there"):
        copy_result("memory://bucket/nothing", tmp_path / "out")
    with pytest.raises(InputError, match="cannot be reached"):
        copy_result(run / "run", "nosuch://bucket")
    with pytest.raises(ResultError, match="is the source itself"):
        copy_result(run / "run", run / "data" / ".." / "run")
    assert not (tmp_path / "out").exists()


def test_names_that_lead_out_are_refused(run, tmp_path):
    """A marker in a bucket is any text: one that lists a file elsewhere writes none there."""
    from dataclasses import replace

    from chiaroscuro.results import KINDS
    from chiaroscuro.results.folders import digest, marker_bytes, read_marker

    copy_result(run / "run", "memory://hostile/run")
    system = fsspec.filesystem("memory")
    marker = read_marker(run / "run", KINDS["evaluation"])
    for name in ("../owned.txt", "/tmp/owned.txt"):
        files = {**marker.files, name: digest(b"owned")}
        system.pipe_file(f"/hostile/run/{MARKER}", marker_bytes(replace(marker, files=files)))
        system.pipe_file("/hostile/owned.txt", b"owned")
        with pytest.raises(ResultError, match="leads out of the source"):
            copy_result("memory://hostile/run", tmp_path / "in" / "back")
        assert not (tmp_path / "in" / "owned.txt").exists()


def test_the_command(server, run, tmp_path):
    url = f"{server}/command"
    done = CliRunner().invoke(app, ["copy", str(run / "run"), url])
    assert done.exit_code == 0 and done.stdout == f"{run / 'run'} -> {url}\n"
    done = CliRunner().invoke(app, ["copy", url, str(tmp_path / "back"), "--json"])
    assert done.exit_code == 0 and f'"target": "{tmp_path / "back"}"' in done.stdout
    done = CliRunner().invoke(app, ["copy", f"{server}/nothing", str(tmp_path / "no")])
    assert isinstance(done.exception, MissingResultError)
    write_classes(tmp_path / "photos", CLASSES, 1)
    put(tmp_path / "photos", f"{server}/photos")
    words = [f"{server}/photos", "--model", "cifar10-cnn", "--out", tmp_path / "maps", "--quiet"]
    done = CliRunner().invoke(app, ["maps", *map(str, words)])
    assert done.exit_code == 0, done.output
    assert load_result(tmp_path / "maps").data.images == 3
