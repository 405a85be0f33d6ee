"""A file of weights for an architecture by name: wrappers, prefixes, and what does not fit."""

import argparse
from collections import OrderedDict

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from chiaroscuro import ChoiceError, ModelError, catalog, load_classifier
from chiaroscuro.catalog import check_spec, split_checkpoint
from chiaroscuro.cli.commands import ExplainOptions, RunOptions, WhatIfOptions
from chiaroscuro.errors import MissingModelError
from chiaroscuro.models.folder import basic_cnn
from tests.models.libraries import Evil, asked, floats, one_line


def random_weights(module):
    generator = torch.Generator().manual_seed(5)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return module


@pytest.fixture
def net():
    return random_weights(basic_cnn(4))


def spec(state, path, architecture="basic-cnn"):
    torch.save(state, path)
    return f"{architecture}@{path}"


@pytest.mark.parametrize(
    "wrapper", ["", "state_dict", "model", "model_state_dict", "state_dict_ema"]
)
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_and_prefixes_are_taken_off(net, tmp_path, wrapper, prefix):
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    saved = {"epoch": 3, wrapper: state} if wrapper else state
    classifier = load_classifier(spec(saved, tmp_path / "best.pth"))
    x = floats(2, 3, 32, 32)
    assert torch.equal(classifier(x), asked(net, x))
    assert classifier.num_classes == 4
    assert classifier.name == f"basic-cnn@{tmp_path / 'best.pth'}"
    notes = [f"best.pth: weights are those in {wrapper}"] if wrapper else []
    notes += [f"best.pth: {prefix} taken off the names of tensors"] if prefix else []
    assert list(classifier.notes) == notes
    assert classifier.origin == {
        "architecture": "basic-cnn", "weights": str(tmp_path / "best.pth"), "license": "not stated",
    }  # fmt: skip


def test_an_average_of_the_weights_comes_first_as_in_timm(net, tmp_path):
    other = random_weights(basic_cnn(4))
    with torch.no_grad():
        other[-1].bias += 1
    saved = {"state_dict": other.state_dict(), "state_dict_ema": net.state_dict()}
    saved["args"] = argparse.Namespace(lr=0.1)  # as timm's training script writes it
    classifier = load_classifier(spec(saved, tmp_path / "best.pth"))
    assert torch.equal(classifier.module[-1].bias, net[-1].bias)


def test_timm_brings_its_size_normalization_and_channels(tmp_path):
    net = random_weights(timm.create_model("test_resnet", num_classes=7))
    classifier = load_classifier(spec(net.state_dict(), tmp_path / "a.pt", "timm:test_resnet"))
    known = timm.data.resolve_model_data_config(net)
    assert classifier.mean == known["mean"]
    assert classifier.size == known["input_size"][1:]
    assert (classifier.num_classes, classifier.labels) == (None, None)
    x = floats(1, 3, 64, 64)
    assert classifier(x).shape == (1, 7)
    many = random_weights(timm.create_model("test_resnet", num_classes=7, in_chans=13))
    classifier = load_classifier(spec(many.state_dict(), tmp_path / "b.pt", "timm:test_resnet"))
    assert (classifier.channels, classifier.mean, classifier.std) == (13, None, None)
    assert classifier.notes == ("b.pt: 13 channels: no mean and std are known, none are used",)
    x = floats(1, 13, 64, 64)
    assert torch.allclose(classifier(x), asked(many, x))


def test_torchvision_brings_its_size_and_normalization_and_names_of_as_many_classes(tmp_path):
    state = torchvision.models.squeezenet1_1(num_classes=6).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    classifier = load_classifier(f"torchvision:squeezenet1_1@{tmp_path / 'a.safetensors'}")
    assert classifier.mean == (0.485, 0.456, 0.406)
    assert classifier.labels is None
    assert classifier(floats(1, 3, 64, 64)).shape == (1, 6)
    whole = torchvision.models.squeezenet1_1().state_dict()
    place = spec(whole, tmp_path / "b.pth", "torchvision:squeezenet1_1")
    assert load_classifier(place).labels[0] == "tench"


def test_missing_and_other_tensors_are_counted_and_the_first_are_named(net, tmp_path):
    state = OrderedDict(net.state_dict())
    for name in list(state)[:5]:
        del state[name]
    state |= {"loss.weight": torch.ones(2), "10.weight": torch.zeros(1, 2)}
    with pytest.raises(ModelError) as caught:
        load_classifier(spec(state, tmp_path / "a.pt"))
    first = list(net.state_dict())
    assert one_line(caught).endswith(
        f"these weights are of another network: 5 missing ({', '.join(first[:3])} and 2 more); "
        "2 unexpected (loss.weight, 10.weight)"
    )


def test_a_tensor_of_another_shape_is_named_with_both(net, tmp_path):
    state = OrderedDict(net.state_dict())
    state["0.weight"] = torch.zeros(32, 13, 7, 7)
    with pytest.raises(
        ModelError, match=r"1 of another shape \(0\.weight \(32, 13, 7, 7\) for \(32, "
    ):
        load_classifier(spec(state, tmp_path / "a.pt"))


def test_unexpected_tensors_alone_are_a_note(net, tmp_path):
    state = OrderedDict(net.state_dict()) | {f"loss.{n}": torch.ones(1) for n in range(5)}
    classifier = load_classifier(spec(state, tmp_path / "a.pt"))
    said = "a.pt: 5 unexpected (loss.0, loss.1, loss.2 and 2 more), left out"
    assert classifier.notes == (said,)


def test_counters_of_batches_may_be_missing(tmp_path):
    net = random_weights(timm.create_model("test_resnet", num_classes=7))
    state = {n: v for n, v in net.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert len(state) < len(net.state_dict())
    assert load_classifier(spec(state, tmp_path / "a.pt", "timm:test_resnet")).notes == ()


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (
            {"epoch": 3, "best": 0.5},
            r"no tensors by name, nor in state_dict_ema.*it holds epoch, best",
        ),
        ([1, 2], "it holds a list"),
        ({"state_dict": {}}, "no tensors by name"),
    ],
)
def test_a_file_without_weights_says_what_it_holds(tmp_path, saved, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_classifier(spec(saved, tmp_path / "a.pt"))
    one_line(caught)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    with pytest.raises(ModelError, match="refused, the checkpoint holds more than weights"):
        load_classifier(spec({"model": Evil(tmp_path / "ran")}, tmp_path / "a.pt"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("data", [b"", b"no checkpoint"])
def test_a_broken_file_is_one_line(tmp_path, data):
    for name in ("a.pt", "a.safetensors"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError) as caught:
            load_classifier(f"basic-cnn@{tmp_path / name}")
        one_line(caught)


def test_loading_leaves_the_random_state(net, tmp_path):
    place = spec(net.state_dict(), tmp_path / "a.pt")
    before = torch.get_rng_state()
    load_classifier(place)
    assert torch.equal(torch.get_rng_state(), before)


def test_which_specs_are_of_this_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_checkpoint("timm:resnet18@a.pt") == ("timm:resnet18", "a.pt")
    for name in catalog.BASIC:
        assert split_checkpoint(f"{name}@a.pt") == (name, "a.pt")
    for other in ("timm:resnet18", "net.py:make@x", "me@home", "timm:resnet18@"):
        assert split_checkpoint(other) is None
    for ask in (check_spec, load_classifier):
        with pytest.raises(MissingModelError, match=r"timm:resnet18@a\.pt: no such file a\.pt"):
            ask("timm:resnet18@a.pt")
    torch.save({"weight": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(ChoiceError, match="unknown architecture"):
        load_classifier("timm:no_such_net@a.pt")
    with pytest.raises(ChoiceError, match="unknown architecture 'resnet18': known are basic-cnn, "):
        check_spec("resnet18@a.pt")


@pytest.mark.parametrize("options", [ExplainOptions, WhatIfOptions, RunOptions])
def test_weights_and_architecture_on_the_command_line_are_such_a_spec(tmp_path, options):
    (tmp_path / "a.pt").touch()
    more = {"image": tmp_path / "a.png"} if options is WhatIfOptions else {}
    made = options(weights=str(tmp_path / "a.pt"), architecture="timm:resnet18", **more)
    assert made.model == f"timm:resnet18@{tmp_path / 'a.pt'}"
    with pytest.raises(
        ChoiceError, match="--weights and --architecture belong together: give both"
    ):
        options(weights="a.pt", **more)
    with pytest.raises(ChoiceError, match="--model and --weights both name a network"):
        options(weights="a.pt", architecture="basic-cnn", model="cifar10-cnn", **more)
    with pytest.raises(MissingModelError, match="no such file b.pt"):
        options(weights="b.pt", architecture="basic-cnn", **more)


def test_a_lightning_module_with_its_loss(net, tmp_path):
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.loss = net, nn.CrossEntropyLoss(weight=torch.ones(4))

    saved = {"state_dict": Module().state_dict(), "pytorch-lightning_version": "2.5.0"}
    classifier = load_classifier(spec(saved, tmp_path / "last.ckpt"))
    x = floats(1, 3, 32, 32)
    assert torch.equal(classifier(x), asked(net, x))
    assert classifier.notes[-1] == "last.ckpt: 1 unexpected (loss.weight), left out"
