"""Products of the backward pass in bfloat16: which, how far off, and where they are refused."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import chiaroscuro.gradients.stream as streams
from chiaroscuro import ChoiceError, Classifier, Method, class_gradients, explain, reduce_gradients
from chiaroscuro import device as devices
from chiaroscuro.gradients.backward.attention import Attention
from chiaroscuro.gradients.backward.program import Program
from chiaroscuro.gradients.backward.steps import Convolve, Cotangent, Matrix
from chiaroscuro.gradients.backward.tape import Tape
from chiaroscuro.matmul import products_in
from tests.gradients.test_host_copies import Attentive
from tests.toys import random_pixels, small_cnn

LOW = torch.bfloat16
COARSE = Method("gradient", precision="bfloat16")


@pytest.fixture(autouse=True)
def units(monkeypatch):
    """Any machine counts as one that has them."""
    monkeypatch.setattr(streams, "has_bfloat16", lambda device: True)


def mlp(classes=5):
    torch.manual_seed(0)
    widths = [12, 32, 32, 32, classes]
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(
        nn.Flatten(), *[part for each in layers for part in (each, nn.Tanh())][:-1]
    )


def pixels_of(shape, images=2):
    return random_pixels(images, *shape, dtype=torch.float32)


def test_products_by_hand():
    """Factors are rounded, sums are not: 1 + 2^-9 becomes 1, and 256 terms of 2^-9 are kept."""

    def product(size, value):
        step = Matrix(torch.ones(1, size, dtype=LOW))
        (result,) = step([Cotangent(torch.full((1, 2, size), value), False)])
        return result.tensor.tolist()

    assert product(256, 2.0**-9) == [[[0.5], [0.5]]]
    assert product(1, 1 + 2.0**-9) == [[[1], [1]]]


def test_the_first_and_the_last_product_stay():
    net = mlp()
    leaf = pixels_of((3, 2, 2)).requires_grad_(True)
    with products_in(LOW):
        program = Program(Tape.of(net(leaf), leaf), 1 << 20, 5, 0)
    plain = Program(Tape.of(net(leaf), leaf), 1 << 20, 5, 0)
    formats = [s.weight.dtype for s in program._steps if isinstance(s, Matrix)]
    assert formats == [torch.float32, LOW, LOW, torch.float32]
    assert {s.weight.dtype for s in plain._steps if isinstance(s, Matrix)} == {torch.float32}


@pytest.mark.parametrize("make", [small_cnn, Attentive, mlp])
def test_gradients_are_off_by_a_little_and_the_result_says_by_how_much(make):
    classifier = Classifier(make(5))
    pixels = pixels_of((3, 2, 2) if make is mlp else (3, 8, 8))
    best = class_gradients(classifier, pixels)
    coarse = class_gradients(classifier, pixels, method=COARSE)
    assert coarse.target_gradient.dtype == torch.float32
    torch.testing.assert_close(coarse.logits, best.logits)
    error = (coarse.target_gradient - best.target_gradient).norm() / best.target_gradient.norm()
    assert 0 <= error < 0.02
    said = coarse.choices.settings
    assert said["precision"] == "bfloat16"
    assert said["rounding"] == pytest.approx(float(error), rel=1e-3, abs=1e-7)
    if make is not small_cnn:
        assert error > 1e-5, "nothing was rounded"
    assert "rounding" not in best.choices.settings


def test_convolutions_are_rounded_too():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 8, 3, stride=2), nn.Tanh(),
        nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, groups=8), nn.Tanh(),
        nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    leaf = pixels_of((3, 9, 9)).requires_grad_(True)
    with products_in(LOW):
        program = Program(Tape.of(net(leaf), leaf), 1 << 20, 5, 0)
    formats = [s.weight.dtype for s in program._steps if isinstance(s, Convolve)]
    assert formats == [torch.float32, LOW, LOW, torch.float32]  # depthwise, two, next to the pixels
    coarse = class_gradients(Classifier(net), leaf.detach(), method=COARSE)
    assert 1e-5 < coarse.choices.settings["rounding"] < 0.02


def test_attention_is_rounded_too():
    leaf = pixels_of((3, 8, 8)).requires_grad_(True)
    with products_in(LOW):
        program = Program(Tape.of(Attentive(5)(leaf), leaf), 1 << 20, 5, 0)
    (step,) = [s for s in program._steps if isinstance(s, Attention)]
    assert {step.query.dtype, step.key.dtype, step.value.dtype} == {LOW}
    assert step.share.dtype == torch.float32


class Sum:
    def start(self, images, classes):
        self.total = torch.zeros_like(images)

    def add(self, gradients, classes):
        self.total += gradients.sum(dim=0)

    def finish(self):
        return self.total


def test_reducers_and_points_take_it():
    classifier, pixels = Classifier(mlp()), pixels_of((3, 2, 2))
    plain = reduce_gradients(classifier, pixels, Sum())
    coarse = reduce_gradients(classifier, pixels, Sum(), method=COARSE)
    assert 1e-5 < (coarse - plain).norm() / plain.norm() < 0.02
    many = class_gradients(
        classifier, pixels, method=Method("smoothgrad", points=3, precision="bfloat16")
    )
    assert 1e-5 < many.choices.settings["rounding"] < 0.02


def test_float32_by_name_is_the_default():
    assert Method("gradient", precision="float32").describe() == Method("gradient").describe()


def test_an_explanation_says_it():
    classifier = Classifier(mlp(), size=2)
    explanation = explain(classifier, pixels_of((3, 2, 2), 1), precision="bfloat16")
    assert explanation.choices.method.precision == "bfloat16"
    assert explanation.choices.method.rounding > 1e-5


def test_what_is_refused(monkeypatch):
    pixels = random_pixels(1, 3, 8, 8)
    with pytest.raises(
        ChoiceError, match=r"'bfloat16' rounds float32: Sequential is torch.float64"
    ):
        class_gradients(Classifier(small_cnn().double()), pixels, method=COARSE)
    with pytest.raises(ChoiceError, match="'lrp' takes no precision"):
        Method("lrp", precision="bfloat16")
    with pytest.raises(ChoiceError, match="precision"):
        Method("gradient", precision="float16")
    monkeypatch.setattr(streams, "has_bfloat16", lambda device: False)
    with pytest.raises(ChoiceError, match="would be slower here: cpu has no units for it"):
        class_gradients(Classifier(small_cnn()), pixels.float(), method=COARSE)


def test_units_are_read_off_the_machine(monkeypatch, tmp_path):
    processor, cpu = tmp_path / "cpuinfo", torch.device("cpu")
    monkeypatch.setattr(devices, "_PROCESSOR", processor)
    assert not devices.has_bfloat16(cpu)
    processor.write_text("flags : fpu avx512f avx512bw\n")
    assert not devices.has_bfloat16(cpu)
    processor.write_text("flags : fpu avx512f avx512_bf16\n")
    assert devices.has_bfloat16(cpu)
    assert not devices.has_bfloat16(torch.device("meta"))
    for capability, fits in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda at, c=capability: c)
        assert devices.has_bfloat16(torch.device("cuda", 0)) is fits
