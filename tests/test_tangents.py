"""The change of every logit to first order: against full Jacobians and differences, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from chiaroscuro import Classifier, class_gradients, logit_change
from chiaroscuro.errors import ImageError, InputError, ModelError
from chiaroscuro.gradients import jacobian
from tests.test_guard import assert_same, prepared, snapshot
from tests.toys import Linear, Quadratic, all_class_gradients, random_pixels, sizes, small_cnn


def random_change(*shape, seed=1):
    return random_pixels(*shape, seed=seed) - 0.5


class Attention(nn.Module):
    """Fused attention over the pixels of a row, as transformers call it."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weights = nn.Parameter(torch.randn(3, 8, 8, generator=generator).double())
        self.head = nn.Parameter(torch.randn(8, 4, generator=generator).double())

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2) @ torch.eye(3, 8, dtype=x.dtype)
        query, key, value = (tokens @ weight for weight in self.weights)
        mixed = functional.scaled_dot_product_attention(*(t[:, None] for t in (query, key, value)))
        return mixed[:, 0].mean(dim=1) @ self.head


class Encoder(nn.Module):
    """PyTorch's own encoder layer, which takes a fast path when nothing asks for gradients."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True).double()
            self.stem = nn.Conv2d(3, 12, 1).double()
            self.head = nn.Linear(12, 4).double()

    def forward(self, x):
        return self.head(self.layer(self.stem(x).flatten(2).transpose(1, 2)).mean(dim=1))


class Square(torch.autograd.Function):
    """x^2 with a derivative of its own and no forward-mode rule."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class OnceSquare(Square):
    """The same, whose derivative cannot be derived again."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class Squaring(nn.Module):
    """A network around one of these functions."""

    def __init__(self, function):
        super().__init__()
        self.function, self.body = function, small_cnn().double()

    def forward(self, x):
        return self.body(self.function.apply(x))


NETWORKS = {
    "in-place ReLU and batch norm": lambda: small_cnn().double(),
    "fused attention": Attention,
    "an encoder's fast path": Encoder,
    "without a forward-mode rule": lambda: Squaring(Square),
    "smooth": lambda: Quadratic(random_change(5, 3, 12, 12), random_change(5, 3, 12, 12, seed=2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_full_jacobian_times_the_change(name):
    classifier = Classifier(NETWORKS[name](), mean=0.4, std=0.3)
    pixels = random_pixels(3, 3, 12, 12)
    change = random_change(3, 3, 12, 12)
    found = logit_change(classifier, pixels, change)
    net = classifier.module.eval()
    jacobian = all_class_gradients(lambda x: net((x - 0.4) / 0.3), pixels)
    expected = torch.einsum("bkchw,bchw->bk", jacobian, change)
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    small = 1e-6  # central differences, which know nothing of autograd
    with torch.no_grad():
        up, down = (net((pixels + s * change - 0.4) / 0.3) for s in (small, -small))
    torch.testing.assert_close(found, (up - down) / (2 * small), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["in-place ReLU and batch norm", "fused attention", "an encoder's fast path"]
)
def test_one_forward_mode_pass_is_enough(name, monkeypatch):
    monkeypatch.setattr(jacobian, "_double_backward", None)
    pixels = random_pixels(2, 3, 12, 12)
    logit_change(Classifier(NETWORKS[name]()), pixels, pixels)


def test_it_agrees_with_the_engine():
    toy = Classifier(small_cnn().double(), mean=0.5, std=0.25)
    pixels, change = random_pixels(4, 3, 12, 12), random_change(4, 3, 12, 12)
    found = logit_change(toy, pixels, change)
    for k in range(5):
        own = class_gradients(toy, pixels, k).target_gradient
        torch.testing.assert_close(found[:, k], (own * change).sum(dim=(1, 2, 3)))


@given(st.integers(0, 1000), st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_it_is_linear_in_the_change(seed, factor):
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(2, 3, 9, 9, seed=seed)
    one, two = (random_change(2, 3, 9, 9, seed=seed + n) for n in (1, 2))
    both = logit_change(toy, pixels, one + factor * two)
    parts = logit_change(toy, pixels, one) + factor * logit_change(toy, pixels, two)
    torch.testing.assert_close(both, parts, rtol=1e-9, atol=1e-9)


def test_images_in_parts_are_images_at_once():
    toy = Classifier(small_cnn().double())
    pixels, change = random_pixels(5, 3, 12, 12), random_change(5, 3, 12, 12)
    whole = logit_change(toy, pixels, change)
    with sizes(tangent_bytes=2 * 3 * 12 * 12 * 8):
        in_parts = logit_change(toy, pixels, change)
    torch.testing.assert_close(in_parts, whole, rtol=1e-12, atol=1e-12)
    alone = torch.cat([logit_change(toy, pixels[[b]], change[[b]]) for b in range(5)])
    torch.testing.assert_close(alone, whole, rtol=1e-12, atol=1e-12)


def test_one_output_is_read_as_two_classes():
    weights = random_change(1, 3, 4, 4)
    change = random_change(2, 3, 4, 4, seed=5)
    found = logit_change(Classifier(Linear(weights)), random_pixels(2, 3, 4, 4), change)
    half = (weights * change).sum(dim=(1, 2, 3)) / 2
    torch.testing.assert_close(found, torch.stack([-half, half], dim=1))


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_found(fails):
    net = prepared(fails)
    pixels = random_pixels(2, 3, 12, 12).requires_grad_(True)
    before = snapshot(net, pixels)
    fast = torch.backends.mha.get_fastpath_enabled()
    if fails:
        with pytest.raises(ModelError, match="broken on purpose(;|$)"):
            logit_change(Classifier(net), pixels, torch.ones_like(pixels))
    else:
        assert not logit_change(Classifier(net), pixels, torch.ones_like(pixels)).requires_grad
    assert_same(before, snapshot(net, pixels))
    assert torch.backends.mha.get_fastpath_enabled() == fast


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["in-place ReLU and batch norm", "without a forward-mode rule"])
def test_works_inside_the_callers_grad_modes(mode, name):
    toy = Classifier(NETWORKS[name]())
    pixels, change = random_pixels(2, 3, 12, 12), random_change(2, 3, 12, 12)
    outside = logit_change(toy, pixels, change)
    with mode():
        inside = logit_change(toy, pixels * 1.0, change * 1.0)
        assert not torch.is_grad_enabled()
    assert torch.equal(inside, outside)
    assert not inside.is_inference()


def test_first_derivatives_alone_are_enough():
    pixels, change = random_pixels(2, 3, 12, 12), random_change(2, 3, 12, 12)
    once = Classifier(Squaring(OnceSquare))
    wanted = (all_class_gradients(once, pixels) * change[:, None]).flatten(2).sum(2)
    torch.testing.assert_close(logit_change(once, pixels, change), wanted)


class Detached(nn.Module):
    """Leaves autograd on the way."""

    def forward(self, x):
        return x.detach().flatten(1)[:, :4]


def test_networks_without_derivatives_are_refused():
    pixels = random_pixels(1, 3, 12, 12)
    with pytest.raises(ModelError, match="the logits of Detached carry no gradient"):
        logit_change(Classifier(Detached()), pixels, pixels)

    class Root(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :4].sqrt()

    with pytest.raises(ModelError, match="Root has NaN or infinite gradients"):
        logit_change(Classifier(Root()), torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4))


def test_other_input_is_refused_in_one_line():
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(2, 3, 9, 9)
    with pytest.raises(InputError, match=r"change has shape \(1, 3, 9, 9\): expected finite"):
        logit_change(toy, pixels, pixels[:1])
    with pytest.raises(InputError, match="expected finite values"):
        logit_change(toy, pixels, pixels / 0)
    with pytest.raises(ImageError, match="pixels"):
        logit_change(toy, pixels + 1, pixels)
