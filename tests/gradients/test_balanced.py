"""The balanced way back: a network with its gates detached by hand, and the sum over pixels."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from chiaroscuro import ChoiceError, Classifier, ModelError, class_gradients, reduce_gradients
from chiaroscuro.gradients.backward.steps import Linear
from chiaroscuro.gradients.backward.tape import Entry, UnknownNodeError
from chiaroscuro.models.folder import basic_vit
from tests.gradients.oracle import close, plain_gradients
from tests.toys import random_pixels, small_cnn

FIXED = torch.linspace(-1, 2, 4 * 6 * 8, dtype=torch.float64).view(4, 6, 8)
COLUMN = FIXED[:, 0, 0]


class Every:
    """All gradients, (B, K, C, H, W)."""

    def start(self, images, classes):
        self.all = images.new_empty(len(images), classes, *images.shape[1:])

    def add(self, gradients, classes):
        self.all[:, classes] = gradients.movedim(0, 1)

    def finish(self):
        return self.all


def balanced(net, pixels, **options):
    """(K, B, C, H, W) by the engine."""
    every = reduce_gradients(Classifier(net), pixels, Every(), method="balanced", **options)
    return every.movedim(1, 0)


class Net(nn.Module):
    """A function between a convolution and a linear head, both without a bias."""

    def __init__(self, work):
        super().__init__()
        torch.manual_seed(5)
        self.work, self.stem = work, nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.double().eval().requires_grad_(False)

    def forward(self, x):
        found = self.work(self.stem(x)).reshape(len(x), -1)
        weight = torch.linspace(-1, 1, found.shape[1] * 3, dtype=torch.float64)
        return found @ weight.sin().view(3, -1).T


def tokens(h):
    return h.flatten(2).mT.reshape(len(h), 1, -1, 4)


def shares(h, *, mask=None, causal=False):
    scores = tokens(h) @ tokens(2 * h).mT / 2
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    return (scores if mask is None else scores + mask).softmax(-1)


def deviations(h, axes):
    return (h.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()


MASK = FIXED.flatten()[:48] * torch.ones(48, 1)
CASES = {
    # What the engine runs, and the same with detach() where something is held constant.
    "gelu": (F.gelu, lambda h: h * (F.gelu(h) / h).detach()),
    "gelu tanh": (
        lambda h: F.gelu(h, approximate="tanh"),
        lambda h: h * (F.gelu(h, approximate="tanh") / h).detach(),
    ),
    "gelu by hand": (
        lambda h: 0.5 * h * (1 + torch.erf(h / 2**0.5)),
        lambda h: h * (0.5 + 0.5 * torch.erf(h / 2**0.5)).detach(),
    ),
    "silu": (F.silu, lambda h: h * h.sigmoid().detach()),
    "quick gelu": (
        lambda h: h * torch.sigmoid(1.702 * h),
        lambda h: h * torch.sigmoid(1.702 * h).detach(),
    ),
    "exponential units": (
        lambda h: F.elu(h, 0.7) + F.selu(h) + F.celu(h, 0.3) + F.mish(h),
        lambda h: h * ((F.elu(h, 0.7) + F.selu(h) + F.celu(h, 0.3) + F.mish(h)) / h).detach(),
    ),
    "hardswish": (
        lambda h: F.hardswish(4 * h),
        lambda h: h * (F.hardswish(4 * h) / h).detach(),
    ),
    "swiglu": (
        lambda h: F.silu(h[:, :2]) * h[:, 2:],
        lambda h: (
            h[:, :2] * (h[:, :2].sigmoid() * h[:, 2:]).detach()
            + F.silu(h[:, :2]).detach() * h[:, 2:]
        ) / 2,
    ),
    "glu": (
        lambda h: h[:, :2] * h[:, 2:].sigmoid(),
        lambda h: h[:, :2] * h[:, 2:].sigmoid().detach(),
    ),
    "squeeze and excite": (
        lambda h: h * (h.mean((2, 3), keepdim=True).relu() * FIXED[:, :1, :1]).sigmoid(),
        lambda h: h * (h.mean((2, 3), keepdim=True).relu() * FIXED[:, :1, :1]).sigmoid().detach(),
    ),
    "mul": (
        lambda h: h * h.roll(1, 1) * FIXED,
        lambda h: (h * h.roll(1, 1).detach() + h.detach() * h.roll(1, 1)) / 2 * FIXED,
    ),
    "addcmul": (
        lambda h: torch.addcmul(h, h.sigmoid(), h, value=3) + torch.addcmul(h, h, h),
        lambda h: 2 * h + 3 * h.sigmoid().detach() * h + h * h.detach(),
    ),
    "bmm": (
        lambda h: tokens(h)[:, 0] @ tokens(h.roll(1, 1))[:, 0].mT,
        lambda h: (
            tokens(h)[:, 0] @ tokens(h.roll(1, 1))[:, 0].mT.detach()
            + tokens(h)[:, 0].detach() @ tokens(h.roll(1, 1))[:, 0].mT
        ) / 2,
    ),
    "dynamic convolution": (
        lambda h: torch.stack([F.conv2d(x[None], x[:, None, :3, :3], groups=4)[0] for x in h]),
        lambda h: torch.stack([
            F.conv2d(x[None], x[:, None, :3, :3].detach(), groups=4)[0] / 2
            + F.conv2d(x[None].detach(), x[:, None, :3, :3], groups=4)[0] / 2
            for x in h
        ]),
    ),
    "division": (
        lambda h: h / (1 + h.abs().sum(1, keepdim=True)),
        lambda h: h / (1 + h.abs().sum(1, keepdim=True)).detach(),
    ),
    "response norm": (
        lambda h: h * h.norm(dim=(2, 3), keepdim=True),
        lambda h: (
            h * h.norm(dim=(2, 3), keepdim=True).detach()
            + h.detach() * h.norm(dim=(2, 3), keepdim=True)
        ) / 2,
    ),
    "attention": (
        lambda h: F.scaled_dot_product_attention(tokens(h), tokens(2 * h), tokens(3 * h)),
        lambda h: shares(h).detach() @ tokens(3 * h),
    ),
    "attention masked": (
        lambda h: F.scaled_dot_product_attention(tokens(h), tokens(2 * h), tokens(h), MASK),
        lambda h: shares(h, mask=MASK).detach() @ tokens(h),
    ),
    "attention causal": (
        lambda h: F.scaled_dot_product_attention(
            tokens(h), tokens(2 * h), tokens(h), is_causal=True
        ),
        lambda h: shares(h, causal=True).detach() @ tokens(h),
    ),
    "attention by hand": (
        lambda h: shares(h) @ tokens(h) + tokens(h),
        lambda h: shares(h).detach() @ tokens(h) + tokens(h),
    ),
    "layer norm": (
        lambda h: F.layer_norm(h, (6, 8)) + F.layer_norm(h, (4, 6, 8), FIXED),
        lambda h: (
            (h - h.mean((2, 3), keepdim=True)) / deviations(h, (2, 3)).detach()
            + (h - h.mean((1, 2, 3), keepdim=True)) / deviations(h, (1, 2, 3)).detach() * FIXED
        ),
    ),
    "layer norm by hand": (
        lambda h: (h - h.mean(1, keepdim=True)) / deviations(h, 1),
        lambda h: (h - h.mean(1, keepdim=True)) / deviations(h, 1).detach(),
    ),
    "group norm": (
        lambda h: F.group_norm(h, 2, COLUMN) + F.group_norm(h, 1),
        lambda h: (
            (h.unflatten(1, (2, 2)) - h.unflatten(1, (2, 2)).mean((2, 3, 4), keepdim=True))
            / deviations(h.unflatten(1, (2, 2)), (2, 3, 4)).detach()
        ).flatten(1, 2) * COLUMN[:, None, None]
        + (h - h.mean((1, 2, 3), keepdim=True)) / deviations(h, (1, 2, 3)).detach(),
    ),
    "root mean square norm": (
        lambda h: F.rms_norm(h, (8,), FIXED[0, 0], 1e-5),
        lambda h: h * (h.square().mean(-1, keepdim=True) + 1e-5).rsqrt().detach() * FIXED[0, 0],
    ),
    "piecewise linear": (
        lambda h: F.leaky_relu(F.max_pool2d(h, 2).relu() - F.avg_pool2d(h, 2)),
        lambda h: F.leaky_relu(F.max_pool2d(h, 2).relu() - F.avg_pool2d(h, 2)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_equals_the_same_network_with_its_gates_detached(case):
    work, detached = CASES[case]
    pixels = random_pixels(2, 3, 6, 8)
    net = Net(work)
    close(net(pixels), Net(detached)(pixels))  # the oracle computes the same logits
    made = balanced(net, pixels)
    close(made, plain_gradients(Net(detached), pixels))
    close((made * pixels).sum((2, 3, 4)).T, net(pixels))


class Block(nn.Module):
    """A transformer's block by hand; `held`: with detach() where the rules hold constant."""

    def __init__(self, width, heads, *, bias, held):
        super().__init__()
        self.heads, self.held = heads, held
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=bias) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width, bias), nn.Linear(width, width, bias)
        self.up, self.down = nn.Linear(width, 2 * width, bias), nn.Linear(2 * width, width, bias)

    def norm(self, part, x):
        if not self.held:
            return part(x)
        deviation = (x.var(-1, correction=0, keepdim=True) + part.eps).sqrt().detach()
        found = (x - x.mean(-1, keepdim=True)) / deviation * part.weight
        return found if part.bias is None else found + part.bias

    def forward(self, x):
        parts = self.qkv(self.norm(self.norms[0], x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if self.held:
            share = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1).detach()
            mixed = share @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        inner = self.up(self.norm(self.norms[1], x))
        inner = inner * (F.gelu(inner) / inner).detach() if self.held else F.gelu(inner)
        return x + self.down(inner)


class Transformer(nn.Module):
    """Patches of 2 px, a class token, some blocks and a head."""

    def __init__(self, *, width=8, heads=2, depth=2, classes=7, bias=True, held=False, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, width, 2, 2, bias=bias)
        self.token = nn.Parameter(torch.randn(1, 1, width)) if bias else None
        blocks = [Block(width, heads, bias=bias, held=held) for _ in range(depth)]
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(width, classes, bias)
        self.double().eval()
        with torch.no_grad():
            for name, tensor in self.named_parameters():
                if "norms" in name or name.endswith("bias"):
                    tensor.normal_()

    def forward(self, x):
        tokens = self.stem(x).flatten(2).mT
        if self.token is not None:
            tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.head(self.blocks(tokens)[:, 0])


def test_a_transformer_equals_the_same_one_with_its_gates_detached():
    pixels, options = random_pixels(2, 3, 6, 8), {"depth": 3, "seed": 1}
    net, by_hand = Transformer(**options), Transformer(held=True, **options)
    close(net(pixels), by_hand(pixels))
    wanted = plain_gradients(by_hand, pixels)
    close(balanced(net, pixels), wanted)
    assert (plain_gradients(net, pixels) - wanted).abs().max() > 0.1 * wanted.abs().max()


@settings(max_examples=15, deadline=None)
@given(
    heads=st.integers(1, 3), depth=st.integers(0, 4), classes=st.integers(2, 30),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_pixels_times_gradients_add_up_to_every_logit(heads, depth, classes, seed):
    net = Transformer(
        width=4 * heads, heads=heads, depth=depth, classes=classes, bias=False, seed=seed
    )
    pixels = random_pixels(2, 3, 4, 6, seed=seed)
    close((balanced(net, pixels) * pixels).sum((2, 3, 4)).T, net(pixels), rtol=1e-8)


def test_what_is_missing_is_what_biases_add():
    """Times their own gradients, which the network with detached gates has from autograd."""
    net, by_hand = Transformer(), Transformer(held=True)
    pixels = random_pixels(1, 3, 6, 8)
    added = [p for name, p in by_hand.named_parameters() if name.endswith(("bias", "token"))]
    by_pixels = (balanced(net, pixels) * pixels).sum((2, 3, 4))[:, 0]
    for k, logit in enumerate(by_hand(pixels)[0]):
        gradients = torch.autograd.grad(logit, added, retain_graph=True)
        by_biases = sum((b * g).sum() for b, g in zip(added, gradients, strict=True))
        close(by_pixels[k] + by_biases, net(pixels)[0, k])
        assert by_biases.abs() > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda: basic_vit(6),
        lambda: timm.create_model("mixer_s32_224", img_size=32, num_classes=6),
        lambda: timm.create_model("convnextv2_atto", num_classes=6),
        lambda: timm.create_model("efficientnet_b0", num_classes=6),
        lambda: timm.create_model("eva02_tiny_patch14_224", img_size=28, num_classes=6),
        lambda: timm.create_model("xcit_nano_12_p8_224", img_size=32, num_classes=6),
        lambda: torchvision.models.swin_t(num_classes=6),
        lambda: torchvision.models.swin_v2_t(num_classes=6),
    ],
    ids=["basic", "mixer", "convnext", "efficientnet", "eva2", "xcit", "swin", "swin2"],
)  # fmt: skip
def test_networks_without_biases(make):
    torch.manual_seed(3)
    net = make().double().eval()
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if "pos_embed" in name or name.endswith(("bias", "running_mean", "_token", "beta")):
                tensor.zero_()
            elif tensor.is_floating_point() and tensor.ndim > 1:
                tensor.mul_(2)
    side = 28 if type(net).__name__ == "Eva" else 32
    pixels = random_pixels(2, 3, side, side)
    made = balanced(net, pixels)
    close((made * pixels).sum((2, 3, 4)).T, net(pixels).detach(), rtol=1e-7)


def test_a_network_of_relus_has_balanced_gradients_anyway():
    net, pixels = small_cnn().double().eval(), random_pixels(2, 3, 12, 12)
    close(balanced(net, pixels), plain_gradients(net, pixels))


def test_a_gate_at_zero_is_its_slope():
    net, pixels = Net(F.gelu), random_pixels(1, 3, 6, 8)
    pixels[..., :5] = 0  # and so are four columns behind the convolution
    made, plain = balanced(net, pixels), plain_gradients(net, pixels)
    close(made[..., :3], plain[..., :3])
    assert not torch.allclose(made, plain)


def test_sign_and_rivals_are_taken_on_balanced_gradients():
    net, pixels = Transformer(), random_pixels(2, 3, 6, 8)
    every = balanced(net, pixels)
    for method, factor in (("balanced", 1), ("input-x-balanced", pixels)):
        found = class_gradients(Classifier(net), pixels, 2, [1, 4, 6], method=method)
        close(found.target_gradient, every[2] * factor)
        close(found.rival_max, (every[[1, 4, 6]] * factor).amax(0))
        close(found.rival_min, (every[[1, 4, 6]] * factor).amin(0))
        assert found.choices.method == method and not found.notes


class Relu(torch.autograd.Function):
    """No ReLU but for its name."""

    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values.exp()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].exp()


REFUSED = {
    "a function of the network's own": (
        Relu.apply,
        "ReluBackward has no rule, and the logits are made of its output",
    ),
    "an output that is added": (
        lambda h: h + h.exp(),
        "ExpBackward0 has no rule, and AddBackward0 adds its output",
    ),
    "an output that is passed on": (
        lambda h: torch.cat([h, 2 * h.tanh()], 1),
        "TanhBackward0 has no rule, and CatBackward0 adds its output",
    ),
    "a product that is added": (
        lambda h: h + h.sigmoid() * h.tanh(),
        "TanhBackward0 has no rule, and AddBackward0 adds its output|SigmoidBackward0",
    ),
    "a product of constants in a sum": (
        lambda h: torch.addcmul(h, h.sigmoid(), h.tanh()),
        "SigmoidBackward0 has no rule, and AddcmulBackward0 adds its output",
    ),
    "a term next to a product": (
        lambda h: torch.addcmul(h.exp(), h, h),
        "ExpBackward0 has no rule, and AddcmulBackward0 adds its output",
    ),
    "probabilities": (
        lambda h: h.softmax(1),
        "SoftmaxBackward0 has no rule, and the logits are made of its output",
    ),
    "statistics of the image": (
        F.instance_norm,
        "NativeBatchNormBackward0 has no rule, and the logits are made of its output",
    ),
    "weights of a normalization": (
        lambda h: torch.stack([F.layer_norm(x, (6, 8), x[0]) for x in h]),
        "NativeLayerNormBackward0 has no rule",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_never_a_plain_gradient_in_its_place(case):
    work, reason = REFUSED[case]
    with pytest.raises(ModelError, match=f"no balanced gradient of Net: ({reason})"):
        balanced(Net(work), random_pixels(2, 3, 6, 8))


def test_what_is_held_constant_may_be_made_of_anything():
    work = lambda h: (h + h.exp()).softmax(1) * h  # noqa: E731
    detached = lambda h: (h + h.exp()).softmax(1).detach() * h  # noqa: E731
    pixels = random_pixels(2, 3, 6, 8)
    close(balanced(Net(work), pixels), plain_gradients(Net(detached), pixels))


def test_hooks_and_small_budgets_are_refused():
    net, pixels = Net(F.gelu), random_pixels(1, 3, 6, 8)
    with pytest.raises(
        ChoiceError, match="memory_budget is 9: balanced gradients of Net need at least"
    ):
        balanced(net, pixels, memory_budget=9)
    net.stem.register_full_backward_hook(lambda *_: None)
    with pytest.raises(ModelError, match="no balanced gradient of Net: .* backward hooks"):
        balanced(net, pixels)


def test_a_step_that_fails_is_no_reason_for_plain_gradients(monkeypatch):
    def fail(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(Linear, "__call__", fail)
    with pytest.raises(ModelError, match="no such kernel"):
        balanced(Transformer(), random_pixels(1, 3, 6, 8))


def test_a_node_that_cannot_be_read_is_refused(monkeypatch):
    def renamed(entry, name):
        if name == "result2":
            raise UnknownNodeError("NativeLayerNormBackward0 has no _saved_result2")
        return saved(entry, name)

    saved = Entry.saved
    monkeypatch.setattr(Entry, "saved", renamed)
    with pytest.raises(ModelError, match="no balanced gradient of .* has no _saved_result2"):
        balanced(Transformer(), random_pixels(1, 3, 6, 8))
