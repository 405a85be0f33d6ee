"""Runs in shares, joined: what one run writes, for every command over an image set."""

import json
from dataclasses import replace

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from chiaroscuro import Classifier, copy_result, evaluate, export_maps, merge_runs, save_classifier
from chiaroscuro.checks import confusions
from chiaroscuro.cli import app
from chiaroscuro.errors import ChiaroscuroError, ChoiceError, InputError, ResultError
from chiaroscuro.models.folder import basic_cnn
from chiaroscuro.passes import runner
from chiaroscuro.results import KINDS, folders, verification
from chiaroscuro.results.folders import read_marker
from chiaroscuro.results.runs import open_run
from tests.pictures import BROKEN, class_rows, write_parquet
from tests.stress import BATCH, CLASSES, RUNS, parts_of, toy, write_data

SETS = [name for name in RUNS if name != "explain"]


@pytest.fixture
def data(tmp_path):
    """Nine pictures of three classes, of which one is broken, and a box for each."""
    write_data(tmp_path / "data", 3)
    rows = class_rows(3, 3)
    rows[4] = (BROKEN, 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    return tmp_path / "data"


@pytest.mark.parametrize("name", SETS)
def test_shards_joined_and_resumed_are_the_bytes_of_one_run(name, data, tmp_path, monkeypatch):
    """Nothing is computed when they are joined; what came first may stay."""
    run, shards = RUNS[name], [tmp_path / f"shard-{i}" for i in range(3)]
    run(data, tmp_path / "whole", 1)
    for i, shard in enumerate(shards):
        run(data, shard, 1, shard=f"{i}/3")
        numbers = [int(file.stem) for file in sorted((shard / "parts").glob("0*"))]
        assert numbers == [*range(i, 5, 3)]
    with pytest.raises(ResultError, match=r"2 of 5 batches are in none of the shards \(0, 3\)"):
        merge_runs(shards[1:], tmp_path / "joined")
    merge_runs(shards[:1], tmp_path / "joined")
    monkeypatch.setattr("chiaroscuro.passes.runner._process", None)
    run(data, tmp_path / "joined", 1)
    assert parts_of(tmp_path / "joined") == parts_of(tmp_path / "whole")


def test_a_shard_stopped_half_way_goes_on(data, tmp_path):
    def stop(done, total, before):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RUNS["evaluate"](data, tmp_path / "shard", 1, shard="0/2", progress=stop)
    assert len([*(tmp_path / "shard" / "parts").glob("0*")]) == 1
    told = []
    RUNS["evaluate"](
        data, tmp_path / "shard", 1, shard="0/2", progress=lambda *counts: told.append(counts)
    )
    assert told == [(2, 5, 2), (4, 5, 2), (5, 5, 2)]  # images of batches 0, 2 and 4


def test_what_no_shard_has_is_computed_by_resuming(data, tmp_path):
    RUNS["evaluate"](data, tmp_path / "whole", 1)
    RUNS["evaluate"](data, tmp_path / "shard", 1, shard="1/2")
    with pytest.raises(ResultError, match="3 of 5 batches are in none of the shards"):
        merge_runs([tmp_path / "shard"], tmp_path / "joined")
    RUNS["evaluate"](data, tmp_path / "joined", 1)
    assert parts_of(tmp_path / "joined") == parts_of(tmp_path / "whole")


def test_what_is_no_shard_or_one_of_another_run_is_refused(data, tmp_path):
    shard = tmp_path / "shard"
    RUNS["evaluate"](data, shard, 1, shard="0/2")
    RUNS["evaluate"](data, tmp_path / "other", 1, shard="1/2", seed=6)
    RUNS["check"](data, tmp_path / "check", 1, shard="1/2")
    cases = [
        ([shard, tmp_path / "other"], "of another configuration"),
        ([shard, tmp_path / "check"], "check: no evaluation there"),
        ([data], "data: no shard of a run there: give folders of --shard"),
        ([tmp_path / "nowhere"], "nowhere: no shard of a run there"),
    ]
    for shards, fault in cases:
        with pytest.raises(ResultError, match=fault):
            merge_runs(shards, tmp_path / "joined")
        assert not (tmp_path / "joined").exists()
    with pytest.raises(ChoiceError, match="no shards are given"):
        merge_runs([], tmp_path / "joined")
    (data / "mine.txt").write_text("mine")
    with pytest.raises(ResultError, match="is not a chiaroscuro result"):
        merge_runs([shard], data, overwrite=True)
    assert (data / "mine.txt").read_text() == "mine"


def test_a_shard_without_a_usable_image_says_so_and_is_joined(data, tmp_path):
    """Its parts are whole: the broken image is reported in the joined run."""
    given = {"batch": 1}
    for i in range(9):
        words = (data, tmp_path / f"{i}", 1)
        if i == 4:
            said = (
                r"^shard 4/9: .*no image of test can be used .*; its parts are kept, to be joined"
            )
            with pytest.raises(InputError, match=said):
                RUNS["evaluate"](*words, shard=f"{i}/9", **given)
        else:
            RUNS["evaluate"](*words, shard=f"{i}/9", **given)
    merge_runs([tmp_path / f"{i}" for i in range(9)], tmp_path / "joined")
    RUNS["evaluate"](data, tmp_path / "joined", 1, **given)
    RUNS["evaluate"](data, tmp_path / "whole", 1, **given)
    assert parts_of(tmp_path / "joined") == parts_of(tmp_path / "whole")


@pytest.mark.parametrize("name", SETS)
def test_more_shards_than_batches_are_refused_before_anything_is_written(name, data, tmp_path):
    with pytest.raises(ChoiceError, match="shard is 5/9, of 5 batches: give no more shards"):
        RUNS[name](data, tmp_path / "shard", 1, shard="5/9")
    assert not (tmp_path / "shard").exists()


def forge(shard, number, change):
    """Change the rows of a part, and let its receipt fit."""
    file, held = shard / f"deletion/{number:06d}.parquet", shard / f"parts/{number:06d}.json"
    parquet.write_table(change(parquet.read_table(file)), file, write_page_checksum=True)
    receipt = msgspec.json.decode(held.read_bytes(), type=folders.Receipt)
    files = {name: folders.digest(shard / name) for name in receipt.files}
    held.write_bytes(msgspec.json.encode(folders.sealed(replace(receipt, files=files))))


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns("changed"),
        lambda table: table.set_column(0, "id", pa.nulls(len(table), pa.string())).slice(1),
        lambda table: table.set_column(
            table.column_names.index("probability"), "probability", pa.nulls(len(table))
        ),
    ],
)
def test_forged_rows_are_one_error(change, data, tmp_path):
    RUNS["evaluate"](data, tmp_path / "shard", 1, shard="0/1")
    forge(tmp_path / "shard", 1, change)
    merge_runs([tmp_path / "shard"], tmp_path / "joined")
    with pytest.raises(ResultError, match="joined: rows that cannot be read"):
        RUNS["evaluate"](data, tmp_path / "joined", 1)


def test_a_receipt_without_its_tables_is_found(data, tmp_path):
    RUNS["evaluate"](data, tmp_path / "run", 1)
    held = tmp_path / "run" / "parts" / "000001.json"
    receipt = msgspec.json.decode(held.read_bytes(), type=folders.Receipt)
    held.write_bytes(msgspec.json.encode(folders.sealed(replace(receipt, files={}))))
    assert "some parts have other tables than the rest" in verification(tmp_path / "run").faults
    merge_runs([tmp_path / "run"], tmp_path / "joined")
    with pytest.raises(ResultError, match="part 1 has other tables than the rest"):
        RUNS["evaluate"](data, tmp_path / "joined", 1)


def test_a_shard_is_verified_and_repaired_as_a_shard(data, tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    asked = ("evaluate", "data", "--model", "net.py:made", "--batch", "2", "--threads", "1")
    command(*asked, "--flips", "9", "--shard", "1/2", "--out", "s1", "--quiet")
    whole = parts_of(tmp_path / "s1")
    assert command("verify", "s1").splitlines() == [
        "evaluation, shard 1/2: whole",
        "parts: 2 whole, 0 missing or damaged",
        "images: 4 listed, 4 read, 0 reported as left out",
    ]
    (tmp_path / "s1" / "deletion" / "000003.parquet").write_bytes(b"")
    said = command("verify", "s1", status=1)
    assert said.startswith(
        "evaluation, shard 1/2: not finished\nparts: 1 whole, 1 missing or damaged: 3"
    )
    with pytest.raises(
        ResultError, match=r"4 of 5 .* \(0, 2, 3, 4\).*; s1 has damaged parts: repair"
    ):
        merge_runs(["s1"], "joined")
    command("verify", "s1", "--repair", "--model", "net.py:made")
    assert parts_of(tmp_path / "s1") == whole
    command(*asked, "--flips", "9", "--resume", "--out", "s1", "--quiet", status=3)
    assert command("verify", "s1").startswith("evaluation: whole\n")
    assert not (tmp_path / "s1" / "parts" / "shard").exists()


def test_shards_of_machines_of_another_kind_are_joined(data, tmp_path, monkeypatch):
    """Their caches and memory decide sizes of work, which only round otherwise."""
    RUNS["evaluate"](data, tmp_path / "0", 1, shard="0/2")
    profile = runner.device_profile

    def other(*given, **options):
        return replace(profile(*given, **options), busy_rows=65)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "device_profile", other)
        RUNS["evaluate"](data, tmp_path / "1", 1, shard="1/2")
    configs = [read_marker(tmp_path / f"{i}", KINDS["evaluation"]).config for i in range(2)]
    assert configs[0] != configs[1] and configs[1]["profile"]["busy_rows"] == 65
    for order in ("01", "10"):  # at once, and one after the other
        merge_runs([tmp_path / i for i in order], tmp_path / f"joined-{order}")
    with pytest.raises(ResultError, match="3 of 5 batches are in none of the shards"):
        merge_runs([tmp_path / "1"], tmp_path / "later")
    merge_runs([tmp_path / "0"], tmp_path / "later")
    monkeypatch.setattr("chiaroscuro.passes.runner._process", None)
    for name in ("joined-01", "joined-10", "later"):
        RUNS["evaluate"](data, tmp_path / name, 1)
        assert verification(tmp_path / name).whole


def test_a_shard_that_replaces_another_leaves_nothing_of_it(data, tmp_path):
    for seed in (5, 6):
        options = {**BATCH, "seed": seed, "flips": 9}
        evaluate(toy(), data, tmp_path / "s", shard="0/2", overwrite=seed == 6, **options)
    assert {one.name for one in tmp_path.iterdir()} == {"data", "s"}


def test_a_damaged_note_of_a_shard_is_found(data, tmp_path):
    RUNS["evaluate"](data, tmp_path / "s", 1, shard="0/2")
    assert verification(tmp_path / "s").whole
    note = tmp_path / "s" / "parts" / "shard"
    for damaged in (note.read_bytes().replace(b"0/2", b"0/6"), b"", b"\xff", b"9/2 x"):
        note.write_bytes(damaged)
        found = verification(tmp_path / "s")
        assert found.damaged == ("parts/shard",) and not found.whole


def test_a_finished_run_is_no_shard_whatever_is_resumed(data, tmp_path):
    RUNS["evaluate"](data, tmp_path / "run", 1)
    before = parts_of(tmp_path / "run")
    RUNS["evaluate"](data, tmp_path / "run", 1, shard="0/2")
    assert parts_of(tmp_path / "run") == before


def test_a_copied_shard_is_one_until_another_joins_it(data, tmp_path):
    for i in range(2):
        RUNS["evaluate"](data, tmp_path / f"{i}", 1, shard=f"{i}/2")
    copy_result(tmp_path / "0", tmp_path / "copied")
    assert parts_of(tmp_path / "copied") == parts_of(tmp_path / "0")
    assert verification(tmp_path / "copied").shard == "0/2"
    copy_result(tmp_path / "1", tmp_path / "copied")
    found = verification(tmp_path / "copied")
    assert (found.shard, found.missing, found.finished) == ("", (), False)
    copy_result(tmp_path / "0", "memory://shards/0")
    copy_result("memory://shards/0", tmp_path / "back")
    assert parts_of(tmp_path / "back") == parts_of(tmp_path / "0")


def test_a_copy_that_replaces_a_shard_keeps_nothing_of_it(data, tmp_path):
    RUNS["evaluate"](data, tmp_path / "shard", 1, shard="0/2")
    RUNS["evaluate"](data, tmp_path / "whole", 1, seed=6)
    copy_result(tmp_path / "whole", tmp_path / "shard", overwrite=True)
    assert parts_of(tmp_path / "shard") == parts_of(tmp_path / "whole")
    assert verification(tmp_path / "shard").whole


def test_the_page_s_check_is_that_of_one_run(data, tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    network = ("--model", "net.py:made", "--threads", "1")
    command("check", "data", *network, "--limit", "9", "--out", "check", "--quiet", status=3)
    asked = ("evaluate", "data", *network, "--batch", "5", "--flips", "9", "--check", "check")
    command(*asked, "--out", "whole", "--quiet", status=3)
    for i in range(2):
        command(*asked, "--shard", f"{i}/2", "--out", f"s{i}", "--quiet", status=3 * (i == 0))
    joined = ("merge", "s0", "s1", "--out", "joined", "--model", "net.py:made", "--quiet")
    command(*joined, "--check", "check", status=3)
    assert parts_of(tmp_path / "joined") == parts_of(tmp_path / "whole")
    command(
        "maps", "data", *network, "--batch", "5", "--shard", "0/1", "--out", "m", "-q", status=3
    )
    said = command("merge", "m", "--out", "kept", "--check", "check", status=1)
    assert said == "--check is for shards of evaluate: these are of map-export"
    assert "left out, 1: " in command("merge", "m", "--out", "kept", status=3)
    said = command("merge", "m", "--out", "again", "--data-root", ".", status=1)
    assert said == "stored maps are joined without network and data: no --data-root"


def test_shards_of_other_data_are_said_as_such(data, tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    network = ("--model", "net.py:made")
    command("evaluate", "data", *network, "--shard", "0/1", "--out", "s", "--quiet", status=3)
    write_parquet(data / "test.parquet", class_rows(3, 3), CLASSES)
    said = command("merge", "s", "--out", "joined", *network, status=1)
    assert said.startswith("the shards are of another configuration (files was ")
    assert said.endswith(
        "give the network and the data that they were computed with, and merge once more"
    )


def test_confusions_of_stored_maps_have_shards_too(data, tmp_path):
    export_maps(toy(), data, tmp_path / "maps", batch=2, threads=1, strongest=2)
    confusions(toy(), tmp_path / "maps", tmp_path / "whole")
    for i in range(2):
        confusions(toy(), tmp_path / "maps", tmp_path / f"{i}", shard=f"{i}/2")
    merge_runs([tmp_path / "0", tmp_path / "1"], tmp_path / "joined")
    confusions(toy(), tmp_path / "maps", tmp_path / "joined", resume=True)
    assert parts_of(tmp_path / "joined") == parts_of(tmp_path / "whole")


def command(*words, status=0):
    """What `chiaroscuro WORDS` prints, or its error."""
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, ChiaroscuroError), done.exception
        assert status == 1
        return str(done.exception)
    assert done.exit_code == status, done.output
    return done.stdout


NETWORK = """
import torch
from chiaroscuro import Classifier
from chiaroscuro.models.folder import basic_cnn

def made():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(basic_cnn(3), size=32, labels=["cat", "dog", "owl"])
"""


def test_the_command_joins_what_it_was_given(data, tmp_path, monkeypatch):
    """The network is that of the shards; code of the user's own runs where it is named again."""
    (tmp_path / "net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    network = ("--model", "net.py:made")
    asked = ("evaluate", "data", *network, "--batch", "2", "--threads", "1", "--flips", "9")
    command(*asked, "--out", "whole", status=3)
    for i in range(2):
        lines = command(*asked, "--shard", f"{i}/2", "--out", f"s{i}", status=3 * (i == 0))
        assert f"shard {i}/2 alone: join all with chiaroscuro merge" in lines
    shards = ("merge", "s0", "s1")
    assert "net.py" in command(*shards, "--out", "joined", status=1)
    lines = command(*shards, "--out", "joined", *network, status=3)
    assert "8 images" in lines and "shard" not in lines
    assert parts_of(tmp_path / "joined") == parts_of(tmp_path / "whole")
    assert "8 images" in command(*shards, "--out", "joined", *network, status=3)
    assert "data: no shard of a run there" in command("merge", "data", status=1)
    before = parts_of(tmp_path / "s0")
    told = command(*shards, "--out", "s0", "--force", status=1)
    assert told == "s0 is one of the shards: join them there without replacing it"
    assert parts_of(tmp_path / "s0") == before
    command(*shards, "--out", "s0", *network, "--quiet", status=3)
    assert parts_of(tmp_path / "s0") == parts_of(tmp_path / "whole")
    found = json.loads(command(*shards, *network, "--json", status=3))
    assert found["data"]["images"] == 8
    assert parts_of(tmp_path / "chiaroscuro-run") == parts_of(tmp_path / "whole")


def test_a_shard_whose_network_has_a_name_is_joined_without_it(data, tmp_path, monkeypatch):
    net = Classifier(basic_cnn(3), size=32, labels=CLASSES)
    save_classifier(net, tmp_path / "net", architecture="basic-cnn", arguments={"classes": 3})
    monkeypatch.chdir(tmp_path)
    asked = ("check", "data", "--model", "net", "--batch", "5", "--threads", "1", "--limit", "9")
    command(*asked, "--out", "whole", "--quiet", status=3)
    for i in range(2):
        command(*asked, "--shard", f"{i}/2", "--out", f"s{i}", "--quiet", status=3 * (i == 0))
    assert command("merge", "s1", "s0", "--quiet", status=3) == ""
    assert parts_of(tmp_path / "chiaroscuro-check") == parts_of(tmp_path / "whole")


def test_a_training_is_no_shard(tmp_path):
    with open_run(tmp_path / "t", KINDS["training"], {"epochs": 1}, resume=False, overwrite=False):
        pass
    said = command("merge", tmp_path / "t", status=1)
    assert "is of kind training: this is for runs over image sets, evaluation" in said
    with pytest.raises(ResultError):
        merge_runs([tmp_path / "t"], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
