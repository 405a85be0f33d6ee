"""Cheaper operations give the same gradients: folding, layouts, and what must not be folded."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chiaroscuro import Classifier, ModelError, class_gradients
from chiaroscuro.gradients import engine
from chiaroscuro.gradients.lowering import Lowering
from tests.toys import all_class_gradients, random_pixels

PADS = [(0, 1, 0, 1), (1, 0, 2, 1), (2, 2, 2, 2), (0, 0, 0, 0), (1, 1, 0, 3)]


def norm(channels, *, affine=True):
    part = nn.BatchNorm2d(channels, affine=affine)
    with torch.no_grad():
        part.running_mean.uniform_(-1, 1)
        part.running_var.uniform_(0.5, 2)
        if affine:
            part.weight.uniform_(-1, 1)
            part.bias.uniform_(-1, 1)
    return part


class Block(nn.Module):
    """Padding, convolution and batch normalisation in a row, in a given variant."""

    def __init__(self, *, pad=(0, 1, 0, 1), bias=True, affine=True, groups=1, stride=2,
                 dilation=1, padding=0, mode="constant", value=0.0):  # fmt: skip
        super().__init__()
        torch.manual_seed(3)
        self.pad, self.mode, self.value = pad, mode, value
        self.conv = nn.Conv2d(
            4, 8, 3, stride, padding=padding, dilation=dilation, groups=groups, bias=bias
        )
        self.stem, self.norm = nn.Conv2d(3, 4, 1), norm(8, affine=affine)
        self.head = nn.Linear(8, 20)

    def forward(self, x):
        x = self.stem(x).relu()
        if self.pad is not None:
            x = F.pad(x, self.pad, self.mode, self.value if self.mode == "constant" else None)
        x = self.norm(self.conv(x)).relu()
        return self.head(x.mean(dim=(2, 3)))


def check(net, pixels):
    """The engine, folding as it does for many classes, against autograd on the plain network."""
    net = net.double().eval()
    found = class_gradients(Classifier(net), pixels, 3, memory_budget=1)
    gradients = all_class_gradients(net, pixels)
    others = [k for k in range(gradients.shape[1]) if k != 3]
    torch.testing.assert_close(found.own, gradients[:, 3])
    torch.testing.assert_close(found.rival_max, gradients[:, others].amax(dim=1))
    torch.testing.assert_close(found.rival_min, gradients[:, others].amin(dim=1))


@pytest.fixture(params=[True, False], ids=["folded", "plain"])
def folds(request, monkeypatch):
    """Whether the engine folds; counts the folded convolutions."""
    count = []
    original = Lowering._folded
    monkeypatch.setattr(Lowering, "_folded", lambda *a: count.append(1) or original(*a))
    monkeypatch.setattr(engine, "FOLD_FROM", 0 if request.param else 10**9)
    return lambda expected: len(count) == 0 if not request.param else (len(count) > 0) is expected


@pytest.mark.parametrize("pad", PADS)
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_of_every_kind(folds, pad, stride):
    check(Block(pad=pad, stride=stride), random_pixels(2, 3, 9, 8))
    assert folds(True)


@pytest.mark.parametrize(
    "variant",
    [
        {"bias": False},
        {"affine": False},
        {"groups": 4},
        {"pad": None, "padding": 1},
        {"padding": 1},
        {"padding": "valid"},
        {"dilation": 2},
        {"value": 0.5},
        {"mode": "reflect"},
        {"mode": "replicate"},
        {"pad": (0, -1, 1, 0)},
    ],
    ids=str,
)
def test_variants(folds, variant):
    check(Block(**variant), random_pixels(2, 3, 9, 8))
    assert folds(True)


class Overwritten(nn.Module):
    """What a convolution or a padding read is changed in place before the normalisation runs."""

    def __init__(self, what):
        super().__init__()
        torch.manual_seed(5)
        self.what = what
        self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3)
        self.norm, self.head = norm(8), nn.Linear(8, 20)

    def forward(self, x):
        x = self.stem(x) * 1.0
        padded = F.pad(x, (0, 1, 0, 1))
        if self.what == "before the padding":
            x.mul_(3.0).add_(1.0)
        y = self.conv(padded)
        if self.what == "before the convolution":
            padded.mul_(3.0).add_(1.0)
        return self.head(self.norm(y).relu().mean(dim=(2, 3)))


def test_a_padded_tensor_that_is_overwritten_later_is_not_read_again(folds):
    check(Overwritten("before the padding"), random_pixels(2, 3, 7, 7))
    assert folds(True)


def test_an_overwritten_input_is_the_error_that_autograd_makes_of_it(folds):
    """Folding must not read the new values in silence where PyTorch itself would refuse."""
    net = Overwritten("before the convolution").double()
    with pytest.raises(ModelError, match="modified by an inplace operation"):
        class_gradients(Classifier(net), random_pixels(2, 3, 7, 7), 3, memory_budget=1)
    assert folds(False)


class Branching(nn.Module):
    """The convolution's output is used beside its batch normalisation, before and after."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(4)
        self.how = how
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), norm(8), nn.Linear(8, 20)

    def forward(self, x):
        y = self.conv(x)
        if self.how == "in place":
            y.relu_()
        if self.how == "between":
            z = self.norm(y.sigmoid())
        elif self.how == "shared":
            z = y.tanh() + self.norm(y)
        elif self.how == "twice":
            z = self.norm(y) + self.norm(self.norm(y))
        else:
            z = self.norm(y)
        return self.head(z.relu().mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("how", "fold"), [("in place", False), ("between", False), ("shared", True), ("twice", True)]
)
def test_a_convolution_used_in_other_ways_too(folds, how, fold):
    check(Branching(how), random_pixels(2, 3, 7, 7))
    assert folds(fold)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_batch_normalisation_of_other_dimensions(dimensions):
    part = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions](5).double().eval()
    with torch.no_grad():
        part.running_mean.uniform_(-1, 1)
        part.running_var.uniform_(0.5, 2)
    x = random_pixels(2, 5, *(3,) * (dimensions if dimensions > 1 else 0))
    with Lowering():
        made = part(x)
    torch.testing.assert_close(made, part(x))


def test_batch_statistics_stay_batch_statistics():
    part = nn.BatchNorm2d(3).train()
    x = random_pixels(4, 3, 5, 5, dtype=torch.float32)
    with Lowering():
        made = part(x)
    torch.testing.assert_close(made.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)


def test_the_packaged_network_folded_equals_autograd(lite0):
    exact = lite0.to(torch.float64)
    pixels = random_pixels(1, 3, 64, 64)
    found = class_gradients(exact, pixels, 7, rivals=range(40), memory_budget=1)
    leaf = pixels.clone().requires_grad_(True)
    module = exact.module.eval()
    logits = module((leaf - 127 / 255) / (128 / 255))[0]
    rows = [torch.autograd.grad(logits[k], leaf, retain_graph=True)[0] for k in range(40)]
    rivals = torch.stack([row for k, row in enumerate(rows) if k != 7])
    torch.testing.assert_close(found.own, rows[7])
    torch.testing.assert_close(found.rival_max, rivals.amax(dim=0))
    torch.testing.assert_close(found.rival_min, rivals.amin(dim=0))
