"""What networks do beside plain operations: blocks, hooks, formats, leading axes, and real ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from chiaroscuro import Classifier, ModelError, class_gradients
from tests.gradients.oracle import Net, check, close, norm, plain_gradients
from tests.toys import random_pixels


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
def test_batch_normalization_of_other_dimensions(dimensions):
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
    close(found.target_gradient, wanted[0])
    close(found.rival_max, wanted[1:].amax(0))
    if clip is not None:
        assert not torch.allclose(wanted, plain_gradients(net, pixels))


@pytest.mark.parametrize("make", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_weights(make):
    conv = make(nn.Conv2d(4, 4, 3)).double().eval()
    net = Net(nn.Sequential(conv, nn.ReLU()))
    pixels = random_pixels(2, 3, 6, 8)
    found = class_gradients(Classifier(net), pixels, 1)
    close(found.target_gradient, plain_gradients(net, pixels)[1])


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


WIDE = torch.linspace(-1, 1, 2 * 24, dtype=torch.float64).sin().view(2, 24)
ROWS_MOVED = {
    "flipped": (lambda h: h.flip(0), lambda h: h.flip(-2)),
    "rolled": (lambda h: h.roll(1, 0), lambda h: h.roll((0, -1), (1, -2))),
    "by indices": (lambda h: h[[2, 0, 1]], lambda h: h[torch.tensor([1, 2, 0])]),
    "by an index": (
        lambda h: h.index_select(0, torch.tensor([2, 0, 1])),
        lambda h: h.index_select(0, torch.tensor([1, 2, 0])),
    ),
    "gathered": (
        lambda h: h.gather(0, torch.tensor([[2], [0], [1]]).expand(h.shape)),
        lambda h: h.take_along_dim(torch.tensor([[1], [2], [0]]), 0),
    ),
    "padded": (lambda h: F.pad(h, (0, 0, 2, 0)), lambda h: F.pad(h, (0, 0, -2, 0))),
    "repeated": (lambda h: h.repeat(2, 1).roll(1, 0), lambda h: h[1:4]),
}


@pytest.mark.parametrize("how", ROWS_MOVED)
def test_features_of_rows_in_another_order(how):
    """A basis holds each row's features at its own place."""
    there, back = ROWS_MOVED[how]

    def work(h):
        few = there(h.mean(3).flatten(1)).sin() @ WIDE.T
        return back(few.exp() @ WIDE).exp()

    check(Net(work, classes=40), random_pixels(3, 3, 6, 8), classes=1000, basis=1 << 30)


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
    close(found.target_gradient, plain_gradients(lambda x: net.head(x.sin().flatten(1)), pixels)[2])


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
