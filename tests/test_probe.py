"""Maps followed during real trainings by Lightning, which stay bit for bit what they were."""

import random
import warnings
from dataclasses import replace

import lightning.pytorch
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from chiaroscuro import (
    Classifier,
    MapProbe,
    class_gradients,
    deletion_curve,
    load_classifier,
    load_result,
    relevance_gain,
    saliency_maps,
)
from chiaroscuro.errors import ChoiceError, ImageError, InputError, ResultError
from chiaroscuro.metrics.agreement import map_similarity
from chiaroscuro.report.probe import class_gains, probe_words
from chiaroscuro.settings import ProbeSettings, TrainingSettings
from chiaroscuro.training import train
from tests.test_report import Reader, assert_stands_alone
from tests.trainings import CLASSES, stopped, write_photos

MAPS = ("original", "positive", "active")


def task_class(library):
    class Task(library.LightningModule):
        """A little network with everything that a look could disturb."""

        def __init__(self):
            super().__init__()
            self.network = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3),
                nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3),
            )  # fmt: skip
            self.draws = []

        def configure_optimizers(self):
            return torch.optim.SGD(self.network.parameters(), 0.2, momentum=0.9)

        def training_step(self, batch, _):
            x, y = batch
            self.draws.append((torch.rand(()).item(), random.random(), np.random.random()))
            assert self.network.training
            return F.cross_entropy(self.network(x), y)

    return Task()


def examples(count=24):
    """Images of noise in the color of their class."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % 3
    pixels = torch.rand(count, 3, 8, 8, generator=generator) * 0.5
    pixels[range(count), labels] += 0.5
    return pixels, labels


def fit(probe_of=None, library=lightning.pytorch, epochs=3, **options):
    """A seeded training, perhaps with a probe; the task and the probe."""
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    task = task_class(library)
    probe = None if probe_of is None else probe_of(task.network)
    loader = DataLoader(TensorDataset(*examples()), 8, shuffle=True, num_workers=0)
    trainer = library.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[probe] if probe else [], enable_checkpointing=False,
        **options,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few workers and few batches
        trainer.fit(task, loader)
    return task, probe


def probe_of(out=None, **options):
    pixels, labels = examples(6)
    return lambda network: MapProbe(
        Classifier(network, labels=CLASSES, name="toy"), pixels, labels.tolist(), out, **options
    )


@pytest.fixture(scope="module")
def probed():
    return fit(probe_of(fractions=(0, 0.2, 0.5)))


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_a_training_is_the_same_bits_with_a_probe(name):
    library = pytest.importorskip(name)
    plain, _ = fit(library=library)
    looked, probe = fit(probe_of(), library=library)
    assert [look.epoch for look in probe.looks] == [0, 1, 2, 3]
    one, other = plain.state_dict(), looked.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert plain.draws == looked.draws, "random states"
    for a, b in zip(plain.parameters(), looked.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad) and a.requires_grad and b.requires_grad
    assert [m.training for m in plain.modules()] == [m.training for m in looked.modules()]


def test_scores_are_what_single_calls_give(probed):
    task, probe = probed
    pixels, labels = examples(6)
    toy, result = Classifier(task.network), probe.result()
    gradients = class_gradients(toy, pixels, labels)
    maps = saliency_maps(gradients, MAPS)
    curves = deletion_curve(toy, pixels, maps, "black", (0, 0.2, 0.5), "matched", target=labels)
    gains = relevance_gain(curves, of="probability")
    assert result.epochs == (0, 1, 2, 3) and result.maps.shape == (4, 6, 3, 8, 8)
    for m, name in enumerate(MAPS):
        assert np.array_equal(result.maps[-1, :, m], maps[name].numpy())
        assert result.gain[-1, :, m] == pytest.approx(gains[name].numpy())
        assert result.area[-1, :, m] == pytest.approx(curves[name].areas(of="probability").numpy())
        assert result.share[-1, :, m] == pytest.approx(
            (maps[name] != 0).flatten(1).double().mean(1)
        )
        for e, other in ((2, result.previous[3]), (3, result.last[3])):
            before = torch.from_numpy(result.maps[e, :, m])
            wanted = map_similarity(maps[name], before, pixels).correlation
            assert other[:, m] == pytest.approx(wanted.numpy())
    chances = gradients.logits.softmax(1)
    assert result.probability[-1] == pytest.approx(chances[range(6), labels].numpy())
    assert result.right[-1].tolist() == (chances.argmax(1) == labels).tolist()
    assert (result.last[-1] == pytest.approx(1)) and (result.previous[0] == pytest.approx(1))
    frame = result.to_frame()
    assert len(frame) == 4 * 6 * 3
    row = frame[(frame["epoch"] == 2) & (frame["image"] == "image 4") & (frame["map"] == "active")]
    assert row["gain"].item() == result.gain[2, 4, 2] and row["label"].item() == CLASSES[1]


def test_chosen_epochs_and_both_ends_are_looked_at():
    _, probe = fit(probe_of(epochs="2", maps="active"), epochs=4)
    assert probe.result().epochs == (0, 2, 4)
    assert ProbeSettings(epochs=(1, 5)).epochs == "1,5" and ProbeSettings(epochs=3).epochs == "3"
    for wrong in ("often", "1,-2", "", "1.5"):
        with pytest.raises(ChoiceError, match="epochs are .*: expected all, or numbers such as"):
            ProbeSettings(epochs=wrong)


def test_the_result_and_its_page_are_written_and_read(tmp_path):
    _, probe = fit(probe_of(tmp_path / "probe", epochs=(1,)))
    result = load_result(tmp_path / "probe")
    assert repr(result) == "ProbedTraining(toy: 6 images after epochs (0, 1, 3))"
    assert np.array_equal(result.maps, probe.result().maps)
    assert result.settings == probe.settings and result.labels == (*CLASSES, *CLASSES)
    reader = Reader((tmp_path / "probe" / "index.html").read_text())
    assert_stands_alone(reader)
    for sentence in probe_words(result):
        assert sentence in reader.text
    assert reader.values("src").__len__() == 4 + 6 * 3 * (1 + 3)
    with pytest.raises(ResultError, match="exists already"):
        probe_of(tmp_path / "probe")(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))


def by_hand(probed, gain, last):
    """A result of one map, four epochs, three images, with gains and similarities by hand."""
    result = probed[1].result()
    one = np.ones((4, 3, 1))
    return replace(
        result, settings=replace(result.settings, maps=("active",)), ids=result.ids[:3],
        labels=("ant", "ant", "bee"), maps=result.maps[:, :3, 2:], pixels=result.pixels[:3],
        right=np.array([[False] * 3] * 3 + [[True, True, False]]), gain=np.array(gain)[..., None],
        last=one * np.array(last)[:, None, None], previous=0.25 * one,
    )  # fmt: skip


def test_sentences_say_when_classes_learn_and_maps_settle(probed):
    gain = [[0, -1, 0.1], [0.2, 0.1, 0.5], [0.3, 0.3, 0.4], [0.4, 0.6, 0.2]]
    result = by_hand(probed, gain, [0.1, 0.6, 0.5, 1])
    assert [*probe_words(result)] == [
        "After epoch 3 the network predicts the class of 2 of 3 images, after epoch 0 of 0.",
        "Classes learn where to look (half of the highest relevance gain of active) after epoch 1 "
        "(bee) to 2 (ant).",
        "active settles after epoch 1.",
    ]
    (_, _, when, gains), (_, count, _, _) = class_gains(result)
    assert (when, count) == (2, 1) and gains == pytest.approx([-0.5, 0.15, 0.3, 0.5])
    lost = by_hand(probed, -np.abs(gain), [0.9, 0.6, 0.49, 1])
    words = [*probe_words(lost)]
    assert len(words) == 2 and words[1] == (
        "active does not settle: its last two maps have a rank correlation of 0.25."
    )
    assert [when for _, _, when, _ in class_gains(lost)] == [None, None]


def test_wrong_images_and_classes_are_refused_at_once():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    toy, pixels = Classifier(network, labels=CLASSES), torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match="1 targets and 2 ids for 2 images"):
        MapProbe(toy, pixels, [0])
    with pytest.raises(ChoiceError, match="class 3"):
        MapProbe(toy, pixels, [0, 3])
    with pytest.raises(ImageError):
        MapProbe(toy, pixels + 1, [0, 1])
    with pytest.raises(InputError, match="no epoch was looked at"):
        MapProbe(toy, pixels, [0, 1]).result()


# our own training


@pytest.fixture
def settings(tmp_path):
    data = write_photos(tmp_path / "photos")
    return TrainingSettings(data=str(data), epochs=3, batch=8, probe="all")


def weights(folder):
    return load_classifier(folder).module.state_dict()


def test_train_keeps_a_probe_of_test_images(settings, tmp_path):
    train(settings.data, tmp_path / "plain", settings=replace(settings, probe=None))
    train(settings.data, tmp_path / "probed", settings=settings)
    one, other = weights(tmp_path / "plain"), weights(tmp_path / "probed")
    assert all(torch.equal(one[key], other[key]) for key in one)
    result = load_result(tmp_path / "probed" / "probe")
    assert result.epochs == (0, 1, 2, 3)
    assert result.labels == tuple(name for name in CLASSES for _ in range(4))
    page = (tmp_path / "probed" / "index.html").read_text()
    assert 'href="probe/index.html"' in page
    assert 'href="probe/index.html"' not in (tmp_path / "plain" / "index.html").read_text()


def test_a_resumed_training_continues_its_probe(settings, tmp_path):
    train(settings.data, tmp_path / "whole", settings=settings)
    with pytest.raises(KeyboardInterrupt):
        train(settings.data, tmp_path / "cut", settings=settings, watcher=stopped("batch"))
    train(settings.data, tmp_path / "cut", settings=settings, resume=True)
    whole, cut = (load_result(tmp_path / name / "probe") for name in ("whole", "cut"))
    assert cut.epochs == whole.epochs and np.array_equal(cut.maps, whole.maps)
    assert np.array_equal(cut.gain, whole.gain)


def test_cached_features_cannot_be_probed():
    with pytest.raises(ChoiceError, match="leave --cache-features out"):
        TrainingSettings(
            data="x", architecture="resnet18", freeze=True, cache_features=True, probe="all"
        )
