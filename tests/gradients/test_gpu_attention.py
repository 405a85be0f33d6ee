"""The nodes that attention has on CUDA, made by PyTorch with stand-in forward kernels for CPUs."""

import pytest
import torch
import torch.nn.functional as F

from chiaroscuro.gradients.backward.rules import step_of
from chiaroscuro.gradients.backward.steps import Opaque
from chiaroscuro.gradients.backward.tape import Tape
from tests.gradients.oracle import Net, close, engine_gradients, plain_gradients
from tests.toys import random_pixels

aten = torch.ops.aten
BIAS = torch.linspace(-1, 2, 2 * 4 * 6 * 6, dtype=torch.float64).sin().view(2, 4, 6, 6)


def flash(query, key, value, dropout=0.0, causal=False, debug=False, *, scale=None):
    return efficient(query, key, value, None, True, dropout, causal, scale=scale, others=(3, 5))


def cudnn(query, key, value, bias, lse, dropout=0.0, causal=False, debug=False, *, scale=None):
    return efficient(query, key, value, bias, lse, dropout, causal, scale=scale, others=(3, 5))


def efficient(
    query, key, value, bias, lse, dropout=0.0, causal=False, *, scale=None, others=(3, 0)
):
    """Attention in single steps; the other outputs are empty."""
    shared = query.shape[:2] != key.shape[:2]
    result = F.scaled_dot_product_attention(
        query, key, value, bias, is_causal=causal, scale=scale, enable_gqa=shared
    )
    first, last = others
    sizes = [6, 6] if last else []
    return (result, *(torch.empty(0) for _ in range(first)), *sizes,
            *(torch.empty(0) for _ in range(last - len(sizes))))  # fmt: skip


KERNELS = {
    "flash": ("_scaled_dot_product_flash_attention", flash),
    "efficient": ("_scaled_dot_product_efficient_attention", efficient),
    "cudnn": ("_scaled_dot_product_cudnn_attention", cudnn),
}


@pytest.fixture
def on_cpu():
    """The three operations run on CPUs, with the autograd nodes that they have on GPUs."""
    library = torch.library.Library("aten", "IMPL")
    for name, kernel in KERNELS.values():
        library.impl(name, kernel, "CPU")
    yield
    library._destroy()


def call(kind, q, k, v, *, bias=None, causal=False, scale=None, dropout=0.0):
    if kind == "flash":
        return aten._scaled_dot_product_flash_attention(
            q, k, v, dropout, causal, False, scale=scale
        )[0]
    if kind == "efficient":
        return aten._scaled_dot_product_efficient_attention(
            q, k, v, bias, True, dropout, causal, scale=scale
        )[0]
    return aten._scaled_dot_product_cudnn_attention(
        q, k, v, bias, True, dropout, causal, False, scale=scale
    )[0]


def both(kind, *, heads=4, **options):
    """The same attention by a GPU's node, and in an operation of the CPU's."""
    plain = {"attn_mask": options.get("bias"), "is_causal": options.get("causal", False)}
    plain["scale"] = options.get("scale")

    def fused(h):
        return call(kind, h.sin(), h[:, :heads], h[:, :heads].flip(-1), **options)

    def single(h):
        key = h[:, :heads].repeat_interleave(4 // heads, dim=1)
        return F.scaled_dot_product_attention(h.sin(), key, key.flip(-1), **plain)

    return Net(fused), Net(single)


def test_the_nodes_are_those_of_gpus(on_cpu):
    leaf = random_pixels(2, 3, 6, 8).requires_grad_(True)
    for kind, name in (
        ("flash", "ScaledDotProductFlashAttentionBackward0"),
        ("efficient", "ScaledDotProductEfficientAttentionBackward0"),
        ("cudnn", "ScaledDotProductCudnnAttentionBackward0"),
    ):
        assert name in {e.name for e in Tape.of(both(kind)[0](leaf), leaf).entries}


OPTIONS = [
    {}, {"causal": True}, {"scale": 0.4}, {"bias": BIAS}, {"heads": 1, "bias": BIAS},
    {"heads": 2, "causal": True},
]  # fmt: skip


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_all_classes_go_back_at_once(on_cpu, kind, options):
    if kind == "flash" and "bias" in options:
        return
    pixels = random_pixels(2, 3, 6, 8)
    fused, single = both(kind, **options)
    made, unknown = engine_gradients(fused, pixels)
    assert unknown == set()
    close(made, plain_gradients(single, pixels))


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("why", ["dropout", "lopsided", "bias"])
def test_what_a_rule_declines(on_cpu, kind, why):
    works = {
        "dropout": lambda h: call(kind, h, h, h, dropout=0.1),
        "lopsided": lambda h: call(kind, h, h[:, :, 1:], h[:, :, 1:], causal=True),
        "bias": lambda h: call(kind, h, h, h, bias=(h @ h.mT)),
    }
    if why == "bias" and kind != "efficient":
        return  # the others have no gradient for one
    leaf = random_pixels(2, 3, 6, 8).requires_grad_(True)
    tape = Tape.of(Net(works[why])(leaf), leaf)
    (entry,) = [e for e in tape.entries if "ScaledDotProduct" in e.name]
    assert isinstance(step_of(entry), Opaque)
