"""Channels that carry nothing are left out, exactly, and where that saves arithmetic."""

import pytest
import torch
from torch import nn

from chiaroscuro import Classifier, ModelError, class_gradients
from chiaroscuro.gradients.backward.fusion import fuse, hand_offs, identity, narrow
from chiaroscuro.gradients.backward.program import Program
from chiaroscuro.gradients.backward.rules import step_of
from chiaroscuro.gradients.backward.steps import Convolve, Cotangent, Matrix
from chiaroscuro.gradients.backward.tape import Tape
from tests.gradients.oracle import MANY, check, close, engine_gradients, plain_gradients
from tests.toys import random_pixels, sizes

OFF = -1e3
"""A bias that switches an activation off at every pixel."""


def switched(part, off):
    """A convolution or linear layer, some of whose outputs are never on."""
    with torch.no_grad():
        part.bias[list(off)] = OFF
    return part


def chain(between, *, off=(1, 4, 5), channels=6):
    """Two convolutions with something in between, which is made anew, and a head."""
    torch.manual_seed(4)
    return nn.Sequential(
        switched(nn.Conv2d(3, channels, 3, padding=1), off), *between(),
        nn.Conv2d(channels, 5, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(5, 3),
    ).double().eval().requires_grad_(False)  # fmt: skip


def narrow_program(net, pixels, classes=MANY, basis=1 << 30):
    leaf = pixels.clone().requires_grad_(True)
    return Program(Tape.of(net(leaf.clone()), leaf), 1 << 20, classes, basis)


def widths(program):
    """Of every product: the channels that it takes and those that it gives."""
    found = []
    for step in program._steps:
        if isinstance(step, Convolve) and step.conv.groups == 1:
            found.append(tuple(step.conv.weight.shape[:2]))
        elif isinstance(step, Matrix):
            found.append(tuple(step.weight.shape[::-1]))
    return found


@pytest.fixture
def every_channel():
    """A single channel less is worth it."""
    with sizes(lanes=1):
        yield


BETWEEN = {
    "activation": lambda: [nn.ReLU()],
    "clipped": lambda: [nn.ReLU6()],
    "normalization": lambda: [nn.BatchNorm2d(6), nn.ReLU(), nn.BatchNorm2d(6)],
    "pooling": lambda: [nn.ReLU(), nn.MaxPool2d(2)],
    "overlapping pooling": lambda: [nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True)],
    "means": lambda: [nn.ReLU(), nn.AvgPool2d(2)],
    "few means": lambda: [nn.AdaptiveAvgPool2d(5), nn.ReLU()],
    "depthwise": lambda: [nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.ReLU()],
    "strided depthwise": lambda: [nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1, groups=6), nn.ReLU()],
    "larger": lambda: [
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.UpsamplingBilinear2d(scale_factor=1.5),
    ],
}


@pytest.mark.parametrize("name", BETWEEN)
@pytest.mark.parametrize("rows", [1, 2])
def test_what_is_off_everywhere_is_left_out(name, rows, every_channel):
    net, pixels = chain(BETWEEN[name]), random_pixels(rows, 3, 12, 11)
    assert not check(net, pixels)
    (_, given), (taken, _) = widths(narrow_program(net, pixels))[-2:]
    assert given == taken
    assert 1 <= taken <= 3


@pytest.mark.parametrize("name", BETWEEN)
def test_shapes_are_those_of_what_is_under_way(name, every_channel):
    """As they were found along the way, step by step."""
    net, pixels = chain(BETWEEN[name]), random_pixels(2, 3, 12, 11)
    leaf = pixels.clone().requires_grad_(True)
    tape = Tape.of(net(leaf.clone()), leaf)
    shapes, next_alone = [entry.shapes for entry in tape.entries], hand_offs(tape)
    steps = [step_of(entry) for entry in tape.entries[:-1]]
    fuse(steps, shapes, next_alone)
    sizes = list(shapes)
    narrow(steps, sizes, next_alone, 1 << 20)
    assert sizes != shapes
    gradient = torch.rand(4, *sizes[0][0], dtype=torch.float64)
    for place, (step, entry) in enumerate(zip(steps, tape.entries[:-1], strict=True)):
        if steps[place - 1] is not identity:
            assert gradient.shape[1:] == sizes[place][0]
        number = next(i for i, edge in enumerate(entry.edges) if edge is not None)
        found = step([Cotangent(gradient, False)])
        gradient = found[0 if step is identity else number].tensor
    assert gradient.shape == (4, *pixels.shape)


def test_every_row_has_its_say(every_channel):
    """A channel stays if some row needs it."""
    net = chain(lambda: [nn.ReLU()], off=())
    with torch.no_grad():
        net[0].weight[2], net[0].bias[2] = 1.0, -5.0
    dark, bright = torch.zeros(1, 3, 8, 8).double(), torch.ones(1, 3, 8, 8).double()
    pixels = torch.cat([dark, bright])
    alone = widths(narrow_program(net, dark))[-1][0]
    both = widths(narrow_program(net, pixels))[-1][0]
    assert alone < both
    made, _ = engine_gradients(net, pixels, classes=MANY, basis=1 << 30)
    close(made, plain_gradients(net, pixels))


def test_nothing_is_left_of_a_layer_that_is_off(every_channel):
    net, pixels = chain(lambda: [nn.ReLU()], off=range(6)), random_pixels(1, 3, 8, 8)
    made, _ = engine_gradients(net, pixels, classes=MANY, basis=1 << 30)
    assert not made.any()
    assert widths(narrow_program(net, pixels))[-2:] == [(5, 1), (1, 3)]


def test_single_numbers_are_channels_too(every_channel):
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), switched(nn.Linear(36, 9), (0, 2, 8)),
        nn.ReLU(), switched(nn.Linear(9, 7), (3,)), nn.ReLU(), nn.Linear(7, 4),
    ).double().eval().requires_grad_(False)  # fmt: skip
    pixels = random_pixels(1, 3, 7, 7)
    check(net, pixels)
    last, middle, first = widths(narrow_program(net, pixels))[:3]
    assert last[1] == middle[0] <= 6
    assert middle[1] == first[0] <= 6


class Fork(nn.Module):
    """A gradient that goes two ways."""

    def forward(self, x):
        return x.relu() + x


@pytest.mark.parametrize(
    ("between", "off"),
    [
        (lambda: [nn.Conv2d(6, 6, 1, groups=3), nn.ReLU()], ()),
        (lambda: [Fork(), nn.Tanh()], (1, 4, 5)),
        (lambda: [nn.GroupNorm(2, 6), nn.ReLU()], (1,)),
    ],
    ids=["groups", "fork", "norm"],
)
def test_other_steps_in_between_keep_all_channels(between, off, every_channel):
    net, pixels = chain(between, off=off), random_pixels(1, 3, 8, 8)
    check(net, pixels)
    assert widths(narrow_program(net, pixels))[-2:] == [(5, 6), (6, 3)]


class Gray(nn.Module):
    """One channel of several."""

    def forward(self, x):
        return x.mean(1, keepdim=True)


def test_a_mean_over_channels_takes_all_of_them(every_channel):
    torch.manual_seed(4)
    net = nn.Sequential(
        switched(nn.Conv2d(3, 6, 3), (1, 4)), nn.ReLU(), Gray(), nn.Conv2d(1, 5, 3), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    ).double().eval().requires_grad_(False)  # fmt: skip
    pixels = random_pixels(1, 3, 8, 8)
    check(net, pixels)
    assert widths(narrow_program(net, pixels))[-2:] == [(5, 1), (6, 3)]


class Mask(nn.Module):
    """A product with ones, and zeros for the first channels."""

    def __init__(self, channels, off):
        super().__init__()
        self.mask = torch.ones(1, channels, 8, 8, dtype=torch.float64)
        self.mask[:, :off] = 0

    def forward(self, x):
        return x * self.mask


@pytest.mark.parametrize(
    ("channels", "off", "kept"),
    [(33, 1, 32), (32, 1, 32), (32, 15, 32), (32, 16, 16), (15, 14, 15)],
)
def test_channels_are_left_out_where_arithmetic_takes_fewer_turns(channels, off, kept):
    net = chain(lambda: [Mask(channels, off)], off=(), channels=channels)
    assert widths(narrow_program(net, random_pixels(1, 3, 8, 8)))[-1] == (kept, 3)


@pytest.mark.parametrize("classes", [31, 32])
def test_what_is_no_number_stays_none(classes, every_channel):
    """The root of a channel that is off has an infinite slope, times zero behind it."""

    class Root(nn.Module):
        def forward(self, x):
            return x.sqrt()

    torch.manual_seed(0)
    net = nn.Sequential(
        switched(nn.Conv2d(3, 8, 3), (1, 4)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), Root(),
        nn.Flatten(), nn.Linear(8, classes),
    ).double()  # fmt: skip
    with pytest.raises(ModelError, match="NaN or infinite"):
        class_gradients(Classifier(net), random_pixels(1, 3, 8, 8), 0)


@pytest.mark.parametrize(("room", "kept"), [(0, 6), (1000, 6), (1 << 20, 3)])
def test_weights_of_their_own_have_a_room(room, kept, every_channel):
    net, pixels = chain(lambda: [nn.ReLU()]), random_pixels(1, 3, 8, 8)
    program = narrow_program(net, pixels, basis=4 * room)
    assert widths(program)[-1] == (kept, 3)
    made, _ = engine_gradients(net, pixels, classes=MANY, basis=4 * room)
    close(made, plain_gradients(net, pixels))


def test_few_classes_are_not_worth_the_look(every_channel):
    net, pixels = chain(lambda: [nn.ReLU()]), random_pixels(1, 3, 8, 8)
    assert widths(narrow_program(net, pixels, classes=31))[-1] == (6, 3)
    assert widths(narrow_program(net, pixels, classes=32))[-1] == (3, 3)


@pytest.mark.parametrize("budget", [1, 10**6, None])
def test_a_basis_of_the_features_that_are_on(budget):
    """Sixty features are more than forty classes, the twenty that are on are fewer."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.Tanh(), switched(nn.Conv2d(8, 60, 3), range(40)), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(60, 40),
    ).double().eval()  # fmt: skip
    pixels = random_pixels(1, 3, 12, 12)
    on = int((net[:4](pixels).flatten(2) > 0).any(2).sum())
    program = narrow_program(net, pixels, 40, 1 << 30)
    assert program._tail[0].shape == (1, on)
    assert 0 < on <= 20
    wanted = plain_gradients(net, pixels)[:, 0]
    found = class_gradients(Classifier(net), pixels, 3, memory_budget=budget)
    close(found.target_gradient[0], wanted[3])
    rivals = wanted[[k for k in range(40) if k != 3]]
    close(found.rival_max[0], rivals.amax(0))
    close(found.rival_min[0], rivals.amin(0))
