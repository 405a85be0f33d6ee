"""A classifier saved as a folder, and back."""

import copy
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision import models as zoo

from chiaroscuro import (
    ChoiceError,
    Classifier,
    ModelError,
    ResultError,
    load_classifier,
    save_classifier,
)
from chiaroscuro.images import Framing
from chiaroscuro.models import folder
from chiaroscuro.models.folder import ARCHITECTURES, MODEL
from chiaroscuro.results.folders import digest, read_marker, write_marker
from tests.models.libraries import Evil, floats, one_line
from tests.toys import small_cnn


@pytest.fixture
def mine():
    """A classifier with everything set to something unusual, and how to build its module."""
    module = zoo.squeezenet1_1(num_classes=3)
    classifier = Classifier(
        module,
        mean=[0.1, 0.2, 0.3],
        std=[0.4, 0.5, 0.6],
        framing=Framing((64, 48), (80, 70), "pad", "bicubic"),
        labels=["ant, emmet", "bee", "c\u0153ur"],
        multi_label=True,
        name="my insects",
        origin={"weights": "made here", "epochs": 3},
    )
    return classifier, "torchvision:squeezenet1_1", {"num_classes": 3}


def save(mine, path, **options):
    classifier, architecture, arguments = mine
    return save_classifier(
        classifier, path, architecture=architecture, arguments=arguments, **options
    )


def change(path, **entries):
    """Other values in a description, with a checksum that fits them."""
    marker = read_marker(path, MODEL)
    write_marker(path, MODEL, replace(marker, result={**marker.result, **entries}))


def reseal(path):
    """List the weights that lie there now as those that were written."""
    marker = read_marker(path, MODEL)
    files = {"model.safetensors": digest(path / "model.safetensors")}
    write_marker(path, MODEL, replace(marker, files=files))


def test_a_saved_classifier_comes_back_the_same(mine, tmp_path):
    before = mine[0]
    path = save(mine, tmp_path / "saved")
    assert path == tmp_path / "saved"
    assert sorted(file.name for file in path.iterdir()) == [
        "chiaroscuro-model.json",
        "model.safetensors",
    ]
    for spec in (path, str(path)):
        after = load_classifier(spec)
        x = floats(2, 3, 64, 48)
        assert torch.equal(after(x), before(x))
        for field in ("mean", "std", "framing", "labels", "multi_label", "channels"):
            assert getattr(after, field) == getattr(before, field), field
        assert after.name == str(path)
        assert after.origin == {**before.origin, "architecture": "torchvision:squeezenet1_1"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_both_files_follow_the_users_umask(mine, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        path = save(mine, tmp_path / "saved")
    finally:
        os.umask(before)
    assert {file.name: file.stat().st_mode & 0o777 for file in path.iterdir()} == {
        "chiaroscuro-model.json": mode, "model.safetensors": mode,
    }  # fmt: skip


def test_saving_leaves_the_random_state_as_it_was(mine, tmp_path):
    before = torch.get_rng_state()
    save(mine, tmp_path / "saved")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_timm_network_with_one_channel_comes_back_the_same(tmp_path):
    arguments = {"num_classes": 2, "in_chans": 1}
    module = timm.create_model("test_resnet", **arguments)
    before = Classifier(module, channels=1, mean=0.5)
    options = {"architecture": "timm:test_resnet", "arguments": arguments}
    after = load_classifier(save_classifier(before, tmp_path / "saved", **options))
    x = floats(2, 1, 64, 64)
    assert torch.equal(after(x), before(x))
    assert (after.channels, after.mean, after.std) == (1, (0.5,), None)
    assert (after.labels, after.size) == (None, None)


def test_a_classifier_of_a_library_knows_its_architecture(lite0, tmp_path):
    after = load_classifier(save_classifier(lite0, tmp_path / "saved"))
    x = floats(1, 3, 224, 224)
    assert torch.equal(after(x), lite0(x))
    assert after.labels == lite0.labels
    assert after.origin == lite0.origin


def test_an_architecture_of_this_project_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "small-cnn", small_cnn)
    before = Classifier(small_cnn(4))
    options = {"architecture": "small-cnn", "arguments": {"classes": 4}}
    after = load_classifier(save_classifier(before, tmp_path / "saved", **options))
    assert torch.equal(after(floats(2, 3, 12, 12)), before(floats(2, 3, 12, 12)))


@pytest.mark.parametrize(
    "name", ["vgg5", "", "timm:nothing_like_it", "torchvision:raft_large", "hf:vit", "timm"]
)
def test_an_unknown_architecture_is_refused_when_saved_and_when_loaded(mine, tmp_path, name):
    message = rf"unknown architecture '{name}': .*known are .*timm:NAME, torchvision:NAME"
    with pytest.raises(ChoiceError, match=message):
        save_classifier(Classifier(nn.Flatten()), tmp_path / "saved", architecture=name)
    path = save(mine, tmp_path / "other")
    change(path, architecture=name)
    with pytest.raises(ChoiceError, match=message):
        load_classifier(path)
    assert not (tmp_path / "saved").exists()


def test_arguments_that_the_architecture_does_not_take_are_refused(mine, tmp_path):
    classifier, architecture, _ = mine
    message = r"torchvision:squeezenet1_1 cannot be built with \{'color': 3\}: "
    with pytest.raises(ModelError, match=message) as caught:
        save_classifier(
            classifier, tmp_path / "saved", architecture=architecture, arguments={"color": 3}
        )
    one_line(caught)


def test_a_module_of_other_tensors_than_its_architecture_is_not_saved(mine, tmp_path):
    message = r"torchvision:squeezenet1_1 with \{\} has other tensors than my insects: give the"
    with pytest.raises(ModelError, match=message):
        save_classifier(mine[0], tmp_path / "saved", architecture=mine[1])
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_schema_is_refused(mine, tmp_path):
    path = save(mine, tmp_path / "saved")
    write_marker(path, MODEL, replace(read_marker(path, MODEL), schema="chiaroscuro-model/99"))
    message = r"schema version 99, this program reads version 1: update chiaroscuro"
    with pytest.raises(ModelError, match=message):
        load_classifier(path)


@pytest.mark.parametrize("name", ["chiaroscuro-model.json", "model.safetensors"])
def test_a_folder_without_a_file_names_it(mine, tmp_path, name):
    path = save(mine, tmp_path / "saved")
    (path / name).unlink()
    with pytest.raises(ModelError, match=rf"saved: no .*{name}"):
        load_classifier(path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "3", "null", "\x00", json.dumps({"schema": MODEL.schema})],
    ids=["cut", "list", "number", "null", "binary", "no fields"],
)
def test_a_model_json_that_is_no_description_is_one_line(mine, tmp_path, text):
    path = save(mine, tmp_path / "saved")
    (path / "chiaroscuro-model.json").write_text(text)
    with pytest.raises(ModelError, match=r"saved.*(no model there|not finished|damaged)") as caught:
        load_classifier(path)
    one_line(caught)


@pytest.mark.parametrize(
    "entry",
    [
        {"architecture": None},
        {"arguments": None},
        {"framing": []},
        {"framing": {"size": 3}},
        {"labels": 3},
        {"mean": "gray"},
        {"origin": None},
    ],
    ids=str,
)
def test_a_model_json_with_a_wrong_entry_is_one_line(mine, tmp_path, entry):
    path = save(mine, tmp_path / "saved")
    change(path, **entry)
    with pytest.raises(ModelError, match=r"not a readable model|cannot be built with") as caught:
        load_classifier(path)
    one_line(caught)


@pytest.mark.parametrize("content", ["other network", "garbage", "nothing"])
def test_tensors_that_do_not_fit_the_description_are_refused(mine, tmp_path, content):
    path = save(mine, tmp_path / "saved")
    if content == "other network":
        change(path, arguments={"num_classes": 5})
    else:
        (path / "model.safetensors").write_bytes(b"garbage" * 9 if content == "garbage" else b"")
        with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
            load_classifier(path)
        reseal(path)
    message = r"model\.safetensors: does not fit its chiaroscuro-model\.json \("
    with pytest.raises(ModelError, match=message) as caught:
        load_classifier(path)
    one_line(caught)


def test_arguments_that_name_a_checkpoint_with_code_do_not_run_it(tmp_path):
    module = timm.create_model("test_resnet", num_classes=2)
    options = {"architecture": "timm:test_resnet", "arguments": {"num_classes": 2}}
    path = save_classifier(Classifier(module), tmp_path / "saved", **options)
    torch.save({"fc.bias": Evil(tmp_path / "evil")}, path / "more.pth")
    change(path, arguments={"num_classes": 2, "checkpoint_path": str(path / "more.pth")})
    with pytest.raises(ModelError, match="may not name weights, as checkpoint_path") as caught:
        load_classifier(path)
    one_line(caught)
    assert not (tmp_path / "evil").exists()


def test_an_existing_folder_is_replaced_only_when_asked(mine, tmp_path):
    path = save(mine, tmp_path / "saved")
    before = (path / "model.safetensors").read_bytes()
    other = copy.copy(mine[0])
    other.module = zoo.squeezenet1_1(num_classes=3)
    again = (other, *mine[1:])
    with pytest.raises(ResultError, match=r"saved exists already: choose another place, or"):
        save(again, path)
    assert (path / "model.safetensors").read_bytes() == before
    save(again, path, overwrite=True)
    assert (path / "model.safetensors").read_bytes() != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_something_foreign_is_never_overwritten(mine, tmp_path, kind):
    place_taken = tmp_path / "thesis"
    if kind == "file":
        place_taken.write_text("years of work")
    else:
        place_taken.mkdir()
        (place_taken / "thesis.tex").write_text("years of work")
    with pytest.raises(ResultError, match=r"thesis is not a chiaroscuro result, so no model"):
        save(mine, place_taken, overwrite=True)
    kept = {"folder": place_taken / "thesis.tex", "file": place_taken}[kind]
    assert kept.read_text() == "years of work"
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis"]


@pytest.mark.parametrize("existed", [False, True])
def test_when_writing_fails_nothing_is_left_and_nothing_lost(mine, tmp_path, monkeypatch, existed):
    path = tmp_path / "saved"
    before = (save(mine, path) / "chiaroscuro-model.json").read_text() if existed else None

    def full(module, file):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "save_model", full)
    with pytest.raises(ResultError, match=r"saved: cannot be written \(No space left on device\)"):
        save(mine, path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == (["saved"] if existed else [])
    assert not existed or (path / "chiaroscuro-model.json").read_text() == before
