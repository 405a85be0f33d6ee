"""Runs in shares, joined: what one run writes, for every command over an image set."""

import json

import pytest
from typer.testing import CliRunner

from chiaroscuro import Classifier, export_maps, merge_runs, save_classifier
from chiaroscuro.checks import confusions
from chiaroscuro.cli import app
from chiaroscuro.errors import ChiaroscuroError, ChoiceError, InputError, ResultError
from chiaroscuro.models.folder import basic_cnn
from chiaroscuro.results import KINDS
from chiaroscuro.results.runs import open_run
from tests.pictures import BROKEN, class_rows, write_parquet
from tests.stress import CLASSES, RUNS, parts_of, toy, write_data

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


def test_a_shard_stopped_half_way_goes_on_and_another_is_refused(data, tmp_path):
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
            with pytest.raises(InputError, match="no image of test can be used"):
                RUNS["evaluate"](*words, shard=f"{i}/9", **given)
        else:
            RUNS["evaluate"](*words, shard=f"{i}/9", **given)
    merge_runs([tmp_path / f"{i}" for i in range(9)], tmp_path / "joined")
    RUNS["evaluate"](data, tmp_path / "joined", 1, **given)
    RUNS["evaluate"](data, tmp_path / "whole", 1, **given)
    assert parts_of(tmp_path / "joined") == parts_of(tmp_path / "whole")


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
from chiaroscuro.results import KINDS
from chiaroscuro.results.runs import open_run

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
