"""Training on Lightning and `datasets` themselves: tiny images, toy sizes, one thread."""

import json
import random
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageColumn
from torch import nn
from torchvision import models as zoo

from chiaroscuro import ChoiceError, InputError, ResultError, load_classifier
from chiaroscuro.catalog import versions
from chiaroscuro.data.images import read_batches
from chiaroscuro.data.loading import load_images
from chiaroscuro.errors import MissingExtraError, ModelError
from chiaroscuro.models.folder import basic_cnn, with_head
from chiaroscuro.results.models import read_training
from chiaroscuro.training import TrainingSettings, run
from chiaroscuro.training import train as train_network
from chiaroscuro.training.files import Watcher, read_log, write_log
from chiaroscuro.training.run import build_network
from tests.trainings import CLASSES, SIDE, entries, picture, stopped, write_photos


def train(settings, out, **options):
    return train_network(settings.data, out, settings=settings, **options)


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


@pytest.fixture
def settings(photos):
    return TrainingSettings(architecture="basic-cnn", data=str(photos), epochs=3, batch=8)


@pytest.fixture
def body(settings):
    """A small residual network with batch normalization, its body frozen."""
    return replace(settings, architecture="timm:test_resnet", freeze=True, epochs=2)


def weights(folder):
    return load_classifier(folder).module.state_dict()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def differs(one, other):
    return any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def figures(folder):
    return [replace(row, seconds=0.0) for row in read_log(folder / "log.csv")]


def told(folder):
    return json.loads((folder / "chiaroscuro-model.json").read_text())["result"]["origin"][
        "training"
    ]


def beginning(settings, labels=CLASSES):
    """The network as a training begins with it."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return build_network(settings, labels, (SIDE, SIDE)).classifier.module


def part(state, name):
    found = {k: v for k, v in state.items() if k.startswith(f"{name}.")}
    assert found
    return found


def statistics(state):
    return {k: v for k, v in state.items() if "running_" in k}


def learned(state):
    return {k: v for k, v in state.items() if "running_" not in k and "num_batches" not in k}


# networks


def test_the_papers_network_has_its_number_of_parameters():
    assert sum(p.numel() for p in basic_cnn(10).parameters()) == 495_146


def test_a_new_head_is_one_linear_layer_on_all_outputs():
    settings = TrainingSettings(architecture="timm:test_resnet", data="any")
    module = build_network(settings, CLASSES, (SIDE, SIDE)).classifier.module
    assert [name for name, _ in module.named_children()] == ["body", "head"]
    assert isinstance(module.head, nn.Linear)
    assert (module.head.in_features, module.head.out_features) == (1000, 3)
    x = torch.rand(2, 3, SIDE, SIDE)
    module.eval()
    assert torch.equal(module(x), module.head(module.body(x)))
    inner = nn.Linear(4, 7)
    assert next(iter(with_head(inner, 7, 2).children())) is inner


def test_the_small_transformer_takes_images_of_any_size():
    settings = TrainingSettings(architecture="basic-vit", data="any")
    network = build_network(settings, CLASSES, (18, 34))
    assert network.architecture == "basic-vit" and network.arguments == {"classes": 3}
    assert network.classifier.size == (18, 34)
    assert network.classifier(torch.rand(2, 3, 18, 34)).shape == (2, 3)
    assert sum(p.numel() for p in network.classifier.module.parameters()) == 207_619


@pytest.mark.parametrize(
    ("first", "chosen", "size"),
    [((16, 12), None, (16, 12)), ((500, 12), None, (224, 224)), ((16, 12), (40, 40), (40, 40))],
)
def test_small_images_stay_as_they_are_and_others_become_224(first, chosen, size):
    settings = TrainingSettings(architecture="basic-cnn", data="any", size=chosen)
    classifier = build_network(settings, CLASSES, first).classifier
    assert (classifier.size, classifier.framing.fit) == (size, "stretch")
    assert (classifier.mean, classifier.labels) == (None, CLASSES)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_pretrained_body_has_its_weights_and_its_normalization_when_asked(lite0, normalize):
    settings = TrainingSettings(
        architecture="efficientnet-lite0", data="any", pretrained=True, normalize=normalize
    )
    network = build_network(settings, CLASSES, (SIDE, SIDE))
    assert_same(network.body.state_dict(), lite0.module.state_dict())
    classifier = network.classifier
    assert (classifier.size, classifier.framing.fit) == ((224, 224), "stretch")
    assert (classifier.mean, classifier.std) == (
        (lite0.mean, lite0.std) if normalize else (None,) * 2
    )


# what comes out


def test_a_training_is_a_folder_that_loads_and_says_what_it_is(settings, tmp_path):
    out = train(settings, tmp_path / "net")
    assert entries(out) == [
        "chiaroscuro-model.json", "curve.png", "index.html", "log.csv", "model.safetensors"
    ]  # fmt: skip
    assert entries(tmp_path) == ["net", "photos"], "the work in progress is gone"
    rows = read_log(out / "log.csv")
    assert [row.epoch for row in rows] == [1, 2, 3]
    found = told(out)
    assert found["settings"] == json.loads(json.dumps(settings.plain()))
    assert read_training(load_classifier(out).origin).settings == settings
    assert (found["images"], found["test_images"], found["left_out"]) == (24, 12, 0)
    for name in ("loss", "train_accuracy", "test_accuracy"):
        assert found[name] == getattr(rows[-1], name), "of the last epoch"
    assert found["versions"] == versions()
    classifier = load_classifier(out)
    assert classifier.labels == CLASSES
    assert classifier.origin["architecture"] == "basic-cnn"
    assert measured(classifier, settings.data) == rows[-1].test_accuracy


def measured(classifier, data):
    """Accuracy on the test images, read again."""
    right = []
    for batch in read_batches(load_images(data, "test"), classifier.framing, 5):
        logits = classifier(torch.from_numpy(np.stack(batch.pixels)))
        right += (logits.argmax(1) == torch.tensor(batch.labels)).tolist()
    return sum(right) / len(right)


def test_it_learns(body, tmp_path):
    settings = replace(body, cache_features=True, epochs=8, learning_rate=0.01)
    out = train(settings, tmp_path / "net")
    rows = read_log(out / "log.csv")
    assert rows[-1].loss < rows[0].loss / 2
    assert rows[-1].test_accuracy > 0.9
    assert measured(load_classifier(out), settings.data) == rows[-1].test_accuracy


def test_parquet_files_give_what_class_folders_give(settings, tmp_path):
    features = Features({"image": ImageColumn(), "label": ClassLabel(names=list(CLASSES))})
    (tmp_path / "rows").mkdir()
    for split in ("train", "test"):
        files = sorted((tmp_path / "photos" / split).rglob("*.png"))
        cells = [{"bytes": file.read_bytes(), "path": None} for file in files]
        labels = [CLASSES.index(file.parent.name) for file in files]
        rows = Dataset.from_dict({"image": cells, "label": labels}, features=features)
        rows.to_parquet(tmp_path / "rows" / f"{split}.parquet")
    one = train(settings, tmp_path / "one")
    other = train(replace(settings, data=str(tmp_path / "rows")), tmp_path / "other")
    assert_same(weights(one), weights(other))
    assert figures(one) == figures(other)


def test_without_test_images_there_is_no_test_accuracy(settings, photos, tmp_path):
    out = train(replace(settings, data=str(photos / "train"), epochs=1), tmp_path / "net")
    (row,) = read_log(out / "log.csv")
    assert row.test_accuracy is None
    assert (told(out)["test_accuracy"], told(out)["test_images"]) == (None, None)


def test_the_seed_decides_the_weights(settings, tmp_path):
    settings = replace(settings, epochs=1)
    one, same = train(settings, tmp_path / "one"), train(settings, tmp_path / "same")
    other = train(replace(settings, seed=43), tmp_path / "other")
    assert_same(weights(one), weights(same))
    assert figures(one) == figures(same)
    assert differs(weights(one), weights(other))


def test_the_callers_random_state_is_left_as_it_was(settings, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    train(replace(settings, epochs=1), tmp_path / "net")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_a_limit_draws_that_many_images_with_the_seed(settings, tmp_path):
    out = train(replace(settings, limit=10, epochs=1), tmp_path / "net")
    assert (told(out)["images"], told(out)["test_images"]) == (10, 12)


@pytest.mark.parametrize(
    ("batch", "what"),
    [(8, "the loss is nan at step 2"), (99, "weights are NaN or infinite after the last step")],
)
def test_a_training_that_diverges_is_stopped_and_nothing_is_left(
    settings, tmp_path, monkeypatch, batch, what
):
    def step(self, closure):
        closure()
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(torch.nan)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(ModelError, match=f"training diverged in epoch 1: {what}; give a smaller"):
        train(replace(settings, batch=batch), tmp_path / "net")
    assert [file.name for file in tmp_path.iterdir()] == ["photos"]


def test_half_precision_runs_and_weights_stay_32_bit(settings, tmp_path):
    # At 16 px PyTorch's own bfloat16 kernel reads memory that it never wrote.
    settings = replace(settings, epochs=1, size=(32, 32))
    full = train(settings, tmp_path / "full")
    half = train(replace(settings, precision="bf16"), tmp_path / "half")
    assert all(w.dtype == torch.float32 and w.isfinite().all() for w in weights(half).values())
    assert differs(weights(full), weights(half))


# interruptions


@pytest.mark.parametrize(
    ("where", "architecture"),
    [("batch", "basic-cnn"), ("epoch", "basic-cnn"), ("epoch", "torchvision:squeezenet1_1")],
)
def test_an_interrupted_training_ends_with_the_same_weights(
    settings, tmp_path, where, architecture
):
    """SqueezeNet has dropout, so that its weights tell what random state an epoch began with."""
    settings = replace(settings, architecture=architecture, size=(32, 32))
    whole = train(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "net", watcher=stopped(where))
    assert not (tmp_path / "net").exists()
    log = tmp_path / "net.training" / "log.csv"
    write_log(log, [replace(row, seconds=1000.0) for row in read_log(log)])
    seen = []
    out = train(settings, tmp_path / "net", resume=True, watcher=Watcher(on_epoch=seen.append))
    assert [row.epoch for row in seen] == [2, 3], "the first epoch is not learned again"
    spent = 1000.0 + sum(row.seconds for row in seen)
    assert spent - 0.1 < read_training(load_classifier(out).origin).seconds < spent + 100
    assert_same(weights(out), weights(whole))
    assert figures(out) == figures(whole)
    assert entries(tmp_path) == ["net", "photos", "whole"]


def test_an_interrupted_training_on_features_ends_with_the_same_weights(body, tmp_path):
    settings = replace(body, cache_features=True, epochs=3)
    whole = train(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "net", watcher=stopped("epoch"))
    out = train(settings, tmp_path / "net", resume=True)
    assert_same(weights(out), weights(whole))
    assert figures(out) == figures(whole)


def test_an_interruption_leaves_the_callers_interrupt_and_random_state(settings, tmp_path):
    torch.manual_seed(5)
    before = signal.getsignal(signal.SIGINT), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "net", watcher=stopped("batch"))
    assert signal.getsignal(signal.SIGINT) is before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_an_unfinished_training_is_resumed_only_as_it_was(settings, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "net", watcher=stopped("epoch"))
    before = entries(tmp_path / "net.training")
    with pytest.raises(ResultError, match=r"net\.training holds an unfinished training: resume it"):
        train(settings, tmp_path / "net")
    with pytest.raises(ResultError, match=r"another configuration \(settings\.seed was 42"):
        train(replace(settings, seed=1), tmp_path / "net", resume=True)
    picture(0, 900).save(tmp_path / "photos" / "train" / "ant" / "900.png")
    with pytest.raises(ResultError, match=r"another configuration \(images was"):
        train(settings, tmp_path / "net", resume=True)
    assert entries(tmp_path / "net.training") == before
    assert not (tmp_path / "net").exists()


def test_a_training_may_go_on_to_more_epochs(settings, tmp_path):
    for resume in (False, True):  # stopped after each of two epochs
        stop = stopped("epoch")
        with pytest.raises(KeyboardInterrupt):
            train(replace(settings, epochs=2), tmp_path / "net", resume=resume, watcher=stop)
    with pytest.raises(ChoiceError, match="epochs is 1: 2 are learned already"):
        train(replace(settings, epochs=1), tmp_path / "net", resume=True)
    out, whole = train(settings, tmp_path / "net", resume=True), train(settings, tmp_path / "whole")
    assert_same(weights(out), weights(whole))
    assert figures(out) == figures(whole)
    assert read_training(load_classifier(out).origin).settings.epochs == 3


def test_folders_of_work_that_are_not_ours_stay(settings, tmp_path):
    work = tmp_path / "net.training"
    work.mkdir()
    (work / "log.csv").write_text("mine")
    for resume in (False, True):
        with pytest.raises(ResultError, match="not a chiaroscuro result"):
            train(settings, tmp_path / "net", resume=resume)
    assert (work / "log.csv").read_text() == "mine"
    (work / "log.csv").unlink()
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "net", watcher=stopped("epoch"))
    (work / "notes.txt").write_text("mine")
    train(settings, tmp_path / "net", resume=True)
    assert entries(work) == ["notes.txt"]


def test_decoded_images_are_used_as_they_are(settings, photos, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "net", watcher=stopped("epoch"))
    whole = (tmp_path / "net.training" / "train.pixels").read_bytes()
    (tmp_path / "net.training" / "test.pixels").write_bytes(b"cut")
    read = []
    with pytest.raises(KeyboardInterrupt):
        train(
            settings, tmp_path / "net", resume=True,
            watcher=replace(stopped("batch"), on_image=lambda what, *_: read.append(what)),
        )  # fmt: skip
    assert set(read) == {"test images"}
    assert (tmp_path / "net.training" / "train.pixels").read_bytes() == whole


def test_an_unfinished_training_outlives_an_error(settings, photos, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "net", watcher=stopped("batch"))
    photos.rename(tmp_path / "away")
    with pytest.raises(InputError, match="photos"):
        train(settings, tmp_path / "net", resume=True)
    (tmp_path / "away").rename(photos)
    out = train(settings, tmp_path / "net", resume=True)
    assert [row.epoch for row in read_log(out / "log.csv")] == [1, 2, 3]


def test_a_training_whose_folder_could_not_be_written_is_not_lost(settings, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run.folder, "write_classifier", full)
        with pytest.raises(ResultError, match="net: cannot be written \\(No space left"):
            train(settings, tmp_path / "net")
    seen = []
    out = train(settings, tmp_path / "net", resume=True, watcher=Watcher(on_epoch=seen.append))
    assert seen == []
    whole = train(settings, tmp_path / "whole")
    assert_same(weights(out), weights(whole))
    assert figures(out) == figures(whole)


def test_an_existing_folder_is_replaced_only_when_asked(settings, tmp_path):
    settings = replace(settings, epochs=1)
    out = train(settings, tmp_path / "net")
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(ResultError, match="net exists already: choose another place, or overwrite"):
        train(replace(settings, seed=1), out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    train(replace(settings, seed=1), out, overwrite=True)
    assert (out / "model.safetensors").read_bytes() != before["model.safetensors"]


def test_a_place_that_cannot_be_written_is_one_line(settings, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ResultError, match=r"net: cannot be written \(.*file is not a folder\)"):
        train(settings, tmp_path / "file" / "net")


# bodies


def test_a_frozen_body_keeps_its_parameters_and_adapts_its_statistics(body, tmp_path):
    before = beginning(body).state_dict()
    out = train(body, tmp_path / "net")
    after = weights(out)
    assert_same(learned(part(after, "body")), learned(part(before, "body")))
    assert differs(part(after, "head"), part(before, "head"))
    assert all(not torch.equal(v, before[k]) for k, v in statistics(after).items())
    assert statistics(after)
    assert all(p.requires_grad for p in load_classifier(out).module.parameters())


def test_cache_features_leave_the_body_as_it_was(body, tmp_path):
    before = beginning(body).state_dict()
    out = train(replace(body, cache_features=True), tmp_path / "net")
    after = weights(out)
    assert_same(part(after, "body"), part(before, "body"))
    assert differs(part(after, "head"), part(before, "head"))
    rows = read_log(out / "log.csv")
    assert [row.epoch for row in rows] == [1, 2]
    assert measured(load_classifier(out), body.data) == rows[-1].test_accuracy


def test_cache_features_need_no_test_images(body, photos, tmp_path):
    settings = replace(body, data=str(photos / "train"), cache_features=True, epochs=1)
    assert told(train(settings, tmp_path / "net"))["test_accuracy"] is None


def test_cache_features_learn_what_a_body_without_statistics_learns(body, tmp_path):
    """Without BatchNorm and dropout a frozen body gives the same features every time."""
    body = replace(body, architecture="timm:test_vit", size=(160, 160), batch=12, limit=12)
    each = train(body, tmp_path / "each")
    once = train(replace(body, cache_features=True), tmp_path / "once")
    heads = part(weights(each), "head"), part(weights(once), "head")
    for name, tensor in heads[0].items():
        torch.testing.assert_close(tensor, heads[1][name], rtol=1e-4, atol=1e-5)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where torchvision looks for weights before it fetches them; nothing can be fetched."""

    def refuse(*_, **__):
        raise OSError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_a_pretrained_body_starts_with_its_librarys_file(settings, cache, tmp_path):
    state = zoo.resnet18().state_dict()
    torch.save(state, cache / "resnet18-f37072fd.pth")
    settings = replace(
        settings, architecture="resnet18", pretrained=True, freeze=True, epochs=1, limit=8,
        size=(32, 32),
    )  # fmt: skip
    out = train(settings, tmp_path / "net")
    found = weights(out)
    assert_same(
        learned({k.removeprefix("body."): v for k, v in part(found, "body").items()}),
        learned(state),
    )
    assert found["head.weight"].shape == (3, 1000)
    assert load_classifier(out).size == (32, 32)
    assert json.loads((out / "chiaroscuro-model.json").read_text())["result"]["arguments"] == {
        "body": "torchvision:resnet18", "outputs": 1000, "classes": 3,
    }  # fmt: skip


def test_a_pretrained_convnext_starts_with_its_librarys_file(cache):
    state = zoo.convnext_tiny().state_dict()
    torch.save(state, cache / "convnext_tiny-983f1562.pth")
    settings = TrainingSettings(
        architecture="convnext-tiny", data="any", pretrained=True, size=(32, 32)
    )
    network = build_network(settings, CLASSES, (SIDE, SIDE))
    assert_same(network.body.state_dict(), state)
    assert network.arguments["body"] == "torchvision:convnext_tiny"


# images


def test_gray_files_are_left_out_when_asked_and_counted(settings, photos, tmp_path):
    picture(0, 900).convert("L").save(photos / "train" / "ant" / "gray.png")
    settings = replace(settings, epochs=1)
    out = train(replace(settings, rgb_only=True), tmp_path / "color")
    assert (told(out)["images"], told(out)["left_out"]) == (24, 1)
    out = train(settings, tmp_path / "all")
    assert (told(out)["images"], told(out)["left_out"]) == (25, 0)


def test_a_broken_image_is_left_out_and_counted(settings, photos, tmp_path):
    (photos / "train" / "bee" / "3.png").write_bytes(b"no picture")
    out = train(replace(settings, epochs=1), tmp_path / "net")
    assert (told(out)["images"], told(out)["left_out"]) == (23, 1)


def test_images_that_are_all_broken_are_refused(settings, photos, tmp_path):
    for file in (photos / "train").rglob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(InputError, match="photos: no image of train can be used"):
        train(settings, tmp_path / "net")
    assert entries(tmp_path) == ["photos"]


def test_images_without_classes_are_refused(settings, photos, tmp_path):
    flat = str(photos / "train" / "ant")
    with pytest.raises(InputError, match="ant: its images have no classes to learn"):
        train(replace(settings, data=flat), tmp_path / "net")
    assert entries(tmp_path) == ["photos"], "a training that never began leaves nothing"


def test_test_images_of_other_classes_are_refused(settings, photos, tmp_path):
    (photos / "test" / "cat").rename(photos / "test" / "dog")
    with pytest.raises(InputError, match="test has other classes than train"):
        train(settings, tmp_path / "net")


def test_without_lightning_the_extra_is_named(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "chiaroscuro.training.loop", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'chiaroscuro\[train\]'"):
        train(settings, tmp_path / "net")
    assert entries(tmp_path) == ["photos"]


# settings


@pytest.mark.parametrize("name", ["epochs", "batch"])
def test_a_training_has_at_least_one_epoch_and_one_image_a_step(name):
    with pytest.raises(ChoiceError, match=f"{name} is 0: expected "):
        TrainingSettings(architecture="basic-cnn", data="any", **{name: 0})
