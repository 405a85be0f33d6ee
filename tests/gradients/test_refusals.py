"""What the engine refuses: arguments, pixels, and networks without a gradient per image."""

import pytest
import torch
from torch import nn

from chiaroscuro import Classifier, InputError, ModelError, class_gradients
from chiaroscuro.errors import ChoiceError, ImageError
from tests.toys import random_pixels


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": 5}, ChoiceError, r"target 5 is out of range: expected 0\.\.4"),
        ({"target": -1}, ChoiceError, r"target -1 is out of range"),
        ({"target": [0, 1]}, ChoiceError, "target has 2 classes for 1 images"),
        ({"target": "cat"}, ChoiceError, "target is 'cat': expected None, a class index"),
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
        return logits / logits.norm(dim=0)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("mean", "mixes the batch: one image's logits depend on another"),
        ("norm", "mixes the batch: one image's logits depend on another"),
        ("gradient only", "mixes the batch: one image's logits depend on another"),
        ("detached", "gives other logits for the same image in another batch"),
        ("random", "random in eval mode"),
    ],
)
def test_networks_that_mix_the_batch_are_refused(how, message):
    with pytest.raises(ModelError, match=message):
        class_gradients(Classifier(Mixing(how)), torch.rand(2, 3, 2, 2))


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
