"""What the engine refuses: arguments, pixels, and networks without a gradient per image."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao.quantization import FakeQuantize

from chiaroscuro import Classifier, InputError, ModelError, class_gradients
from chiaroscuro.errors import ChoiceError, ImageError
from chiaroscuro.gradients import Points, target_gradients
from chiaroscuro.gradients.probe import _KNOWN, _MOST_STATES
from tests.toys import random_pixels, small_cnn


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": 5}, ChoiceError, r"target 5 is out of range: expected 0\.\.4"),
        ({"target": -1}, ChoiceError, r"target -1 is out of range"),
        ({"target": [0, 1]}, ChoiceError, "target has 2 classes for 1 images"),
        ({"target": "cat"}, ChoiceError, "class 'cat': Sequential has no class names"),
        ({"target": {3}}, ChoiceError, "target is .3.: expected None, a class index"),
        ({"target": [None]}, ChoiceError, "expected None, a class index, or one per image"),
        ({"target": 1.0}, ChoiceError, "expected None, a class index, or one per image"),
        ({"rivals": "best"}, ChoiceError, "class 'best': .* has no class names"),
        ({"rivals": "top:0"}, ChoiceError, "give all, top:N"),
        ({"rivals": []}, ChoiceError, "rivals is empty"),
        ({"rivals": [7]}, ChoiceError, r"rival 7 is out of range: expected 0\.\.4"),
        ({"rivals": [2], "target": 2}, InputError, "no rival is left for target 2 among 5"),
        ({"method": "smooth"}, ChoiceError, "unknown method 'smooth'.*known are gradient"),
        ({"score": "logits"}, ChoiceError, "unknown score 'logits': did you mean logit"),
        ({"memory_budget": 0}, ChoiceError, "expected bytes above 0"),
    ],
)
def test_refused_arguments(classifier, arguments, error, message):
    with pytest.raises(error, match=message):
        class_gradients(classifier, random_pixels(1, 3, 12, 12), **arguments)


def test_a_bare_module_is_refused(net):
    with pytest.raises(ModelError, match="classifier is a Sequential: expected a Classifier"):
        class_gradients(net, random_pixels(1, 3, 12, 12))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(3, 12, 12), r"expected a tensor \(B, C, H, W\)"),
        (torch.zeros(0, 3, 12, 12), "at least one image"),
        (torch.zeros(1, 4, 12, 12).double(), "pixels have 4 channels"),
        (torch.zeros(1, 3, 12, 12, dtype=torch.uint8), "divide 8-bit values by 255"),
        (torch.full((1, 3, 12, 12), torch.nan).double(), "NaN or infinite"),
        (torch.full((1, 3, 12, 12), 1.5).double(), r"values from 1\.5 to 1\.5"),
        (
            torch.zeros(1, 3, 12, 12),
            r"pixels are torch.float32 on cpu, Sequential is torch.float64",
        ),
    ],
)
def test_refused_pixels(classifier, pixels, message):
    with pytest.raises(ImageError, match=message):
        class_gradients(classifier, pixels)


class Mixing(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.head = how, nn.Linear(12, 4)

    def forward(self, x):
        logits = self.head(x.flatten(1))
        if self.how == "mean":
            return logits - logits.mean(dim=0)
        if self.how == "detached":
            return logits + 3 * logits.detach().sum(dim=0)
        if self.how == "gradient only":
            common = logits.sum(dim=0)
            return logits + (common - common.detach())
        if self.how == "random":
            return logits + torch.randn_like(logits)
        if self.how == "next row":
            return logits + logits.roll(-1, 0) * torch.arange(len(x) - 1, -1, -1)[:, None].sign()
        if self.how == "sum so far":
            return logits.cumsum(0)
        if self.how == "faint sum so far":
            return logits + 1e-5 * (logits.cumsum(0) - logits)
        if self.how == "mean so far":
            return logits + logits.detach().cumsum(0) / torch.arange(1, len(x) + 1)[:, None]
        if self.how == "rank":
            return logits + logits.detach().argsort(0).argsort(0)
        return logits / logits.norm(dim=0) if self.how == "norm" else logits


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("mean", "mixes the batch: one image's logits depend on another"),
        ("norm", "mixes the batch: one image's logits depend on another"),
        ("gradient only", "mixes the batch: one image's logits depend on another"),
        ("detached", "gives other logits for the same image in another batch"),
        ("random", "random in eval mode"),
        ("next row", "mixes the batch"),
        ("sum so far", "mixes the batch"),
        ("faint sum so far", "mixes the batch"),
        ("mean so far", "mixes the batch"),
        ("rank", "mixes the batch"),
    ],
)
@pytest.mark.parametrize("images", [1, 3])
def test_networks_that_mix_the_batch_are_refused(how, message, images):
    for budget in (None, 1 << 30):
        with pytest.raises(ModelError, match=message):
            class_gradients(
                Classifier(Mixing(how)), torch.rand(images, 3, 2, 2), memory_budget=budget
            )


def test_a_budget_without_room_for_two_graphs_still_sees_mixing():
    for how in ("mean", "norm", "detached", "next row", "sum so far", "mean so far", "rank"):
        with pytest.raises(ModelError, match="mixes the batch"):
            class_gradients(Classifier(Mixing(how)), torch.rand(2, 3, 2, 2), memory_budget=1)


class MixingMany(Mixing):
    def forward(self, x):
        logits = super().forward(x)
        if self.how == "two rows on":
            return logits + nn.functional.pad(logits.detach(), (0, 0, 2, 0))[: len(x)]
        return logits + (len(x) > 2) * (logits.cumsum(0) - logits)


@pytest.mark.parametrize("how", ["two rows on", "three or more"])
def test_mixing_that_two_images_do_not_show_is_refused(how):
    classifier = Classifier(MixingMany(how))
    class_gradients(classifier, torch.rand(1, 3, 2, 2))
    for images in (3, 5):
        with pytest.raises(ModelError, match="same image in another batch"):
            class_gradients(classifier, torch.rand(images, 3, 2, 2))


class Recurrent(nn.Module):
    """An LSTM that takes the first axis, where the images are, as time."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(12, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.lstm(x.flatten(1))[0])


def test_a_recurrent_layer_along_the_batch_is_refused():
    with pytest.raises(ModelError, match="mixes the batch"):
        class_gradients(Classifier(Recurrent()), torch.rand(2, 3, 2, 2))


class Switched(nn.Module):
    """Random, or mixing the batch, once a switch says so."""

    switch = ""

    def __init__(self):
        super().__init__()
        self.head, self.how = nn.Linear(12, 4), ""
        self.options = {"noise": [False]}
        self.generator = torch.Generator()

    def forward(self, x):
        logits = self.head(x.flatten(1))
        if "own generator" in (self.switch, self.how):
            return logits + torch.randn(logits.shape, generator=self.generator)
        if "mean" in (self.switch, self.how):
            return logits - logits.mean(0)
        if self.options["noise"][0]:
            return logits + torch.from_numpy(np.random.default_rng().normal(size=logits.shape))
        if "python" in (self.switch, self.how):
            return logits + random.random()
        if "numpy" in (self.switch, self.how):
            return logits + np.random.rand()
        if "dropout" in (self.switch, self.how):
            return nn.functional.dropout(logits, 0.5, training=True)
        return logits


@pytest.mark.parametrize("how", ["mean", "own generator", "python", "numpy", "dropout"])
def test_what_is_switched_on_after_a_first_call_is_seen(how):
    net, pixels = Switched(), torch.rand(1, 3, 2, 2)
    class_gradients(Classifier(net), pixels)
    net.how = how
    with pytest.raises(ModelError, match="mixes the batch"):
        class_gradients(Classifier(net), pixels)
    net.how = ""
    class_gradients(Classifier(net), pixels)


def test_a_switch_in_a_list_of_settings_is_seen():
    net, pixels = Switched(), torch.rand(1, 3, 2, 2)
    class_gradients(Classifier(net), pixels)
    net.options["noise"][0] = True
    with pytest.raises(ModelError, match="random in eval mode"):
        class_gradients(Classifier(net), pixels)


@pytest.mark.parametrize("how", ["python", "numpy", "dropout", "own generator"])
@pytest.mark.parametrize("call", [class_gradients, "target_gradients"])
def test_random_numbers_are_seen_whatever_switches_them_on(monkeypatch, how, call):
    net, pixels = Switched(), torch.rand(1, 3, 2, 2)

    def ask():
        if call == "target_gradients":
            return target_gradients(Classifier(net), Points(pixels[None], torch.ones(1, 1)), 0)
        return call(Classifier(net), pixels)

    ask()
    monkeypatch.setattr(Switched, "switch", how)
    with pytest.raises(ModelError, match="random in eval mode"):
        ask()


def test_a_network_for_one_image_is_named_by_what_the_user_gave():
    class Fixed(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    with pytest.raises(ModelError, match=r"failed on an image of 3 x 2 x 2 .*: no"):
        class_gradients(Classifier(Fixed()), torch.rand(1, 3, 2, 2))


@pytest.mark.filterwarnings("ignore")
def test_layers_for_quantized_networks_say_so():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    dynamic = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ModelError, match=r"\(1 is quantized, .*explain the float network"):
        class_gradients(Classifier(dynamic), torch.rand(1, 3, 2, 2))
    fake = Classifier(nn.Sequential(nn.Flatten(), FakeQuantize(), Mixing("mean")))
    with pytest.raises(ModelError, match=r"mixes the batch.*1 observes the batch .*disable_obs"):
        class_gradients(fake, torch.rand(1, 3, 2, 2))
    fake.module[2].how = ""
    fake.module.apply(torch.ao.quantization.disable_observer)
    class_gradients(fake, torch.rand(1, 3, 2, 2))


def test_batchnorm_without_running_statistics_is_refused():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(),
        nn.Linear(64, 3),
    )  # fmt: skip
    with pytest.raises(ModelError, match="mixes the batch"):
        class_gradients(Classifier(net), torch.rand(1, 3, 6, 6))


class Odd(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.head = how, nn.Linear(12, 4)

    def forward(self, x):
        flat = x.flatten(1)
        if self.how == "detach":
            return self.head(flat.detach())
        if self.how == "no_grad":
            with torch.no_grad():
                return self.head(flat)
        if self.how == "constant":
            return self.head(torch.zeros_like(flat)) + 0 * self.head.weight.sum()
        if self.how == "nan":
            return self.head(flat) * torch.nan
        if self.how == "infinite gradient":
            return self.head((flat - flat.detach()).sqrt())
        logits = self.head(flat)
        frozen = logits.sigmoid()
        frozen.mul_(2.0)  # spoils what the backward pass of sigmoid needs
        return frozen


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("detach", "carry no gradient"),
        ("no_grad", "carry no gradient"),
        ("nan", "NaN or infinite"),
        ("infinite gradient", "NaN or infinite gradients"),
        ("spoiled", "backward pass of Odd failed"),
    ],
)
def test_networks_without_a_usable_gradient_are_refused(how, message):
    with pytest.raises(ModelError, match=message):
        class_gradients(Classifier(Odd(how)), torch.rand(1, 3, 2, 2))


def test_what_is_known_of_a_network_that_counts_its_calls_stays_small():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.calls = small_cnn().double(), 0

        def forward(self, x):
            self.calls += 1
            return self.body(x)

    net = Counting()
    for _ in range(3 * _MOST_STATES):
        class_gradients(Classifier(net), random_pixels(1, 3, 12, 12), rivals="top:1")
    assert len(_KNOWN[net]) <= _MOST_STATES
