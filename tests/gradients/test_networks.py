"""What networks do beside plain operations: blocks, hooks, formats, leading axes, and real ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from chiaroscuro import Classifier, ModelError, class_gradients
from chiaroscuro.gradients.fusion import fused
from chiaroscuro.gradients.rules import step_of
from chiaroscuro.gradients.steps import Scale
from chiaroscuro.gradients.tape import Tape
from tests.gradients.oracle import Net, check, close, plain_gradients
from tests.toys import random_pixels


def norm(channels, *, affine=True, kind=nn.BatchNorm2d):
    part = kind(channels, affine=affine)
    with torch.no_grad():
        part.running_mean.uniform_(-1, 1)
        part.running_var.uniform_(0.5, 2)
        if affine:
            part.weight.uniform_(-1, 1)
            part.bias.uniform_(-1, 1)
    return part.double().eval()


class Block(nn.Module):
    """Padding, convolution and batch normalisation in a row, in a given variant."""

    def __init__(self, *, pad=(0, 1, 0, 1), bias=True, affine=True, groups=1, stride=2,
                 dilation=1, padding=0, mode="constant", value=0.0, kernel=3):  # fmt: skip
        super().__init__()
        self.pad, self.mode, self.value = pad, mode, value
        self.conv = nn.Conv2d(
            4, 8, kernel, stride, padding=padding, dilation=dilation, groups=groups, bias=bias
        )
        self.norm = norm(8, affine=affine)

    def forward(self, x):
        x = x.relu()
        if self.pad is not None:
            x = F.pad(x, self.pad, self.mode, self.value if self.mode == "constant" else None)
        return self.norm(self.conv(x)).relu()


VARIANTS = [
    *({"pad": pad, "stride": stride, "groups": groups}
      for pad in [(0, 1, 0, 1), (1, 0, 2, 1), (2, 2, 2, 2), (0,) * 4, (1, 1, 0, 3), (5, 4, 6, 3)]
      for stride in (1, 2) for groups in (1, 4)),
    {"bias": False}, {"affine": False}, {"pad": None, "padding": 1}, {"padding": 1},
    {"padding": "valid"}, {"dilation": 2}, {"value": 0.5}, {"mode": "reflect"},
    {"mode": "replicate"}, {"pad": (0, -1, 1, 0)}, {"pad": (1, 1), "stride": 1}, {"kernel": 1},
    {"padding": "same", "stride": 1, "kernel": 5},
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_padding_convolution_and_normalisation(variant):
    torch.manual_seed(3)
    unknown = check(Net(Block(**variant)), random_pixels(2, 3, 9, 8))
    assert unknown <= {"ReflectionPad2DBackward0", "ReplicationPad2DBackward0"}


class Times(nn.Module):
    """A product with a constant."""

    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, x):
        return x * self.constant


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_products_by_channel_go_into_the_convolutions_around_them(groups, stride, shape):
    torch.manual_seed(3)
    one = nn.Conv2d(4, 4, 3, stride, groups=groups)
    two = nn.Conv2d(4, 6, 3, stride, groups=2)
    number = torch.tensor([0.5, -2, 3, 0], dtype=torch.float64).view(shape)
    net = Net(nn.Sequential(nn.ReLU(), Times(number), one, Times(1 / (number + 4)), two))
    pixels = random_pixels(2, 3, 11, 12)
    assert not check(net, pixels)
    leaf = pixels.clone().requires_grad_(True)
    tape = Tape.of(net(leaf), leaf)
    steps = fused([step_of(entry) for entry in tape.entries[:-1]], tape)
    scales = [step for step in steps if isinstance(step, Scale)]
    assert len(scales) == 1  # the activation's


@pytest.mark.parametrize("between", ["relu", "number", "gate", "pad", "norm", "used twice"])
@pytest.mark.parametrize("kernel", [3, 1])
def test_single_pixels_then_a_strided_depthwise_convolution(between, kernel):
    torch.manual_seed(3)
    one, two, batch = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, kernel, 2, 1, groups=6), norm(6)
    works = {
        "relu": lambda h: two(one(h).relu()),
        "number": lambda h: two(one(h) * 2.5),
        "gate": lambda h: two(one(h) * torch.linspace(-1, 1, 6).double().view(6, 1, 1)),
        "pad": lambda h: two(one(F.pad(h, (0, 1, 0, 1))).relu()),
        "norm": lambda h: batch(two(batch(one(h)).sigmoid())),
        "used twice": lambda h: _twice(two, one(h).relu()),
    }
    nn.ModuleList([one, two]).double()
    assert check(Net(works[between])) == set()


def _twice(conv, x):
    return conv(x).mean((2, 3)) + x.exp().mean((2, 3))


def _thrice(x):
    return x.relu() + x.sigmoid() + x


@pytest.mark.parametrize("how", ["in place", "between", "shared", "twice", "residual", "deep"])
def test_a_gradient_of_several_consumers_is_never_overwritten(how):
    torch.manual_seed(4)
    conv, part = nn.Conv2d(4, 4, 3, padding=1).double(), norm(4)
    works = {
        "in place": lambda h: part(conv(h).relu_()),
        "between": lambda h: part(conv(h).sigmoid()),
        "shared": lambda h: conv(h).tanh() + part(conv(h)),
        "twice": lambda h: part(conv(h)) + part(part(conv(h))),
        "residual": lambda h: _thrice(h + conv(h).relu()),
        "deep": lambda h: h.view(2, -1).view_as(h).clone() + _thrice(h) + h.mean(1, True),
    }  # fmt: skip
    assert check(Net(works[how])) == set()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_batch_normalisation_of_other_dimensions(dimensions):
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions]
    part = norm(4, kind=kind)
    shape = {1: (2, 4, 48), 2: (2, 4, 6, 8), 3: (2, 4, 6, 4, 2)}[dimensions]
    assert check(Net(lambda h: part(h.reshape(shape)).exp())) == set()


class Straight(torch.autograd.Function):
    """Hands nothing to its second argument, takes a number, and has two results."""

    @staticmethod
    def forward(ctx, x, factor, y):
        ctx.factor = factor
        return x * factor, (y > 0) * x

    @staticmethod
    def backward(ctx, first, second):
        return first * ctx.factor + second, None, None


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, gradient):
        x, y = ctx.saved_tensors
        return gradient * y, gradient * x


@pytest.mark.parametrize(
    "work",
    [
        lambda h: Straight.apply(h, 3.0, h.exp())[0],
        lambda h: sum(Straight.apply(h.sin(), 3.0, h.exp().sin())),
        lambda h: Doubled.apply(h, h),
        lambda h: Doubled.apply(h, h.exp()),
        lambda h: Doubled.apply(torch.ones_like(h), h.exp()),
    ],
)
def test_functions_of_the_user(work):
    assert len(check(Net(work))) == 1


def test_checkpointed_blocks():
    conv = nn.Conv2d(4, 4, 3).double()
    net = Net(lambda h: checkpoint(lambda x: conv(x).relu().softmax(1), h, use_reentrant=False))
    check(net)


@pytest.mark.parametrize("how", ["module", "module before", "tensor", "all modules"])
def test_hooks_change_the_gradient(how):
    layer = nn.Sigmoid()

    def work(h):
        found = layer(h * 1)
        if how == "tensor":
            found.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
        return found

    net, clip = Net(nn.Sequential(nn.Identity(), layer) if how != "tensor" else work), None
    if how == "module":
        clip = layer.register_full_backward_hook(lambda _, g, __: (g[0].clamp(-0.01, 0.01),))
    if how == "module before":
        clip = layer.register_full_backward_pre_hook(lambda _, g: (g[0].clamp(-0.01, 0.01),))
    if how == "all modules":
        clip = nn.modules.module.register_module_full_backward_hook(
            lambda part, g, _: (
                (g[0].clamp(-0.001, 0.001),) if isinstance(part, nn.Sigmoid) else None
            )
        )
    pixels = random_pixels(2, 3, 6, 8)
    try:
        found = class_gradients(Classifier(net), pixels, 0)
        wanted = plain_gradients(net, pixels)
    finally:
        if clip is not None:
            clip.remove()
    close(found.own, wanted[0])
    close(found.rival_max, wanted[1:].amax(0))
    if clip is not None:
        assert not torch.allclose(wanted, plain_gradients(net, pixels))


@pytest.mark.parametrize("make", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_weights(make):
    conv = make(nn.Conv2d(4, 4, 3)).double().eval()
    net = Net(nn.Sequential(conv, nn.ReLU()))
    pixels = random_pixels(2, 3, 6, 8)
    found = class_gradients(Classifier(net), pixels, 1)
    close(found.own, plain_gradients(net, pixels)[1])


@pytest.mark.parametrize("lead", ["windows", "sequence first", "sequence as long as the batch"])
def test_a_leading_axis_that_is_not_the_batch(lead):
    def work(h):
        if lead == "windows":
            cut = h.view(2, 4, 2, 3, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 12, 4)
            mixed = (cut @ cut.mT).softmax(-1) @ cut
            return mixed.view(2, -1).sin()
        parts = h.flatten(2)[..., :2] if "batch" in lead else h.flatten(2)
        turned = parts.permute(2, 0, 1).exp()
        return turned.cumsum(0).permute(1, 0, 2).sin()

    net = Net(work, classes=40)
    for classes, basis in ((0, 0), (40, 1 << 30)):
        check(net, classes=classes, basis=basis)


class Formats(nn.Module):
    """Number formats that change on the way."""

    def __init__(self, how):
        super().__init__()
        self.how, self.conv, self.head = how, nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.register_buffer("scale", torch.linspace(1, 2, 4, dtype=torch.float64).view(4, 1, 1))

    def forward(self, x):
        if self.how == "autocast":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = self.conv(x).relu()
            return self.head(found.float().mean((2, 3)))
        if self.how == "wide constant":
            return self.head((self.conv(x) * self.scale + self.scale).float().relu().mean((2, 3)))
        if self.how == "wide sum":
            found = self.conv(x).sigmoid().sum((2, 3), dtype=torch.float64)
            return self.head(found.softmax(1).float())
        return self.head(self.conv(x).softmax(1, dtype=torch.float64).float().mean((2, 3)))


@pytest.mark.parametrize("how", ["autocast", "wide constant", "wide sum", "wide softmax"])
def test_number_formats_that_change(how):
    torch.manual_seed(0)
    net = Formats(how).eval().requires_grad_(False)
    check(
        net,
        random_pixels(2, 3, 6, 6, dtype=torch.float32),
        rtol=2e-2 if how == "autocast" else 1e-5,
    )


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_narrow_formats(dtype, rtol):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), norm(6), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.LayerNorm(72), nn.Linear(72, 4),
    )  # fmt: skip
    net = net.to(dtype).eval().requires_grad_(False)
    pixels = random_pixels(2, 3, 6, 8).to(dtype)
    check(net, pixels, rtol=rtol)


class Answering(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.head = how, nn.Linear(108, 3).double()

    def forward(self, x):
        logits = self.head(x.sin().flatten(1))
        return {"dict": {"logits": logits, "loss": 0}, "tuple": (logits, x)}[self.how]


@pytest.mark.parametrize("how", ["dict", "tuple"])
def test_answers_that_hold_the_logits(how):
    net, pixels = Answering(how), random_pixels(2, 3, 6, 6)
    found = class_gradients(Classifier(net), pixels, 2)
    close(found.own, plain_gradients(lambda x: net.head(x.sin().flatten(1)), pixels)[2])


def test_an_overwritten_input_is_the_error_that_autograd_makes_of_it():
    def work(h):
        found = h.exp()
        result = found.sin()
        found.mul_(3)
        return result

    with pytest.raises(ModelError, match="modified by an inplace operation"):
        class_gradients(Classifier(Net(work)), random_pixels(1, 3, 6, 8), 1)


def test_checkpointed_blocks_of_the_old_kind():
    conv = nn.Conv2d(4, 4, 3).double()
    net = Net(lambda h: checkpoint(lambda x: conv(x).relu(), h, use_reentrant=True))
    with pytest.raises(ModelError, match="backward pass of Net failed.*use_reentrant"):
        class_gradients(Classifier(net), random_pixels(2, 3, 6, 8), 0)
