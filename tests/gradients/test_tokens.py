"""Attention for many classes at once, and tokens whose gradient is zero, left out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chiaroscuro.gradients.backward.attention import Attention
from chiaroscuro.gradients.backward.program import Program
from chiaroscuro.gradients.backward.steps import Cotangent
from chiaroscuro.gradients.backward.tape import Tape
from chiaroscuro.matmul import from_left, from_right
from tests.gradients.oracle import close, engine_gradients, plain_gradients
from tests.toys import random_pixels

TOKENS, WIDTH = 13, 8


class Encoder(nn.Module):
    """A class token before the patches, two blocks, and a head that reads some tokens."""

    def __init__(self, read="class token", cut="unbind", fused=True, classes=3):
        super().__init__()
        torch.manual_seed(4)
        self.read, self.cut, self.fused = read, cut, fused
        self.patches = nn.Conv2d(3, WIDTH, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(5))
        self.qkv = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(3 * WIDTH, WIDTH) for _ in range(2))
        self.head = nn.Linear(WIDTH, classes)
        self.double().eval().requires_grad_(False)

    def heads(self, x, i):
        rows = len(x)
        qkv = self.qkv[i](x)
        if self.cut == "chunk":
            return [t.unflatten(-1, (2, 4)).transpose(1, 2) for t in qkv.chunk(3, dim=-1)]
        if self.cut == "slices":
            parts = (qkv[..., j * WIDTH : (j + 1) * WIDTH] for j in range(3))
            return [t.reshape(rows, -1, 2, 4).transpose(1, 2) for t in parts]
        qkv = qkv.reshape(rows, -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        if self.cut == "copied":
            qkv = qkv.contiguous()
        return qkv.unbind(0) if self.cut == "unbind" else (qkv[0], qkv[1], qkv[2])

    def mix(self, x, i):
        query, key, value = self.heads(x, i)
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = (query * 0.5 @ key.mT).softmax(-1) @ value
        return self.out[i](mixed.transpose(1, 2).reshape(x.shape))

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        for i in range(2):
            x = x + self.mix(self.norms[2 * i](x), i)
            x = x + self.down[i](F.gelu(self.up[i](self.norms[2 * i + 1](x))))
        x = self.norms[4](x)
        match self.read:
            case "class token":
                x = x[:, 0]
            case "two tokens":
                x = x[:, 0] + 2 * x[:, -1]
            case "first three":
                x = x[:, :3].mean(1)
            case "overlapping":
                x = x[:, :3].mean(1) + x[:, 2:5].mean(1)
            case "patches":
                x = x[:, 1:].mean(1)
            case "both":
                x = x[:, 0] + x.mean(1)
        return self.head(x)


def program_of(net, pixels, classes=3, basis=0):
    leaf = pixels.clone().requires_grad_(True)
    return Program(Tape.of(net(leaf.clone()), leaf), 1 << 20, classes, basis)


READ = {
    "class token": 1, "two tokens": TOKENS, "first three": 3, "overlapping": TOKENS,
    "patches": TOKENS, "both": TOKENS,
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("cut", ["unbind", "select", "copied", "chunk", "slices"])
@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("fused", [True, False])
def test_encoders_equal_autograd(read, cut, rows, fused):
    net, pixels = Encoder(read, cut, fused), random_pixels(rows, 3, 6, 8)
    wanted = plain_gradients(net, pixels)
    for chunk in (1, 1 << 20):
        made, unknown = engine_gradients(net, pixels, chunk=chunk)
        close(made, wanted)
        assert unknown == set()


@pytest.mark.parametrize(("read", "count"), READ.items())
def test_the_last_block_takes_the_tokens_that_are_read(read, count):
    """Fewer queries in the last attention, all of them in the one before."""
    program = program_of(Encoder(read), random_pixels(2, 3, 6, 8))
    queries = [s.share.shape[1] for s in map(_inner, program._steps) if isinstance(s, Attention)]
    assert queries == [count, TOKENS]


def _inner(step):
    return getattr(step, "step", step)


def test_parts_that_meet_again_at_once_are_scattered():
    """Queries, keys and values, selected one by one: only the class token is filled up again."""
    program = program_of(Encoder(cut="select"), random_pixels(2, 3, 6, 8))
    kinds = [type(step).__name__ for step in program._steps]
    assert (kinds.count("Scatter"), kinds.count("_Filled")) == (6, 1)


def test_a_basis_of_the_class_tokens_features():
    net, pixels = Encoder(classes=40), random_pixels(2, 3, 6, 8)
    program = program_of(net, pixels, 40, 1 << 30)
    assert program._tail[0].shape == (2, WIDTH)
    made, _ = engine_gradients(net, pixels, classes=40, basis=1 << 30)
    close(made, plain_gradients(net, pixels))


@pytest.mark.parametrize("shape", [(3, 5, 7), (96, 70, 128), (128, 70, 3)])
def test_products_of_many_stacks(shape):
    """Small ones in one call, large ones each in its own."""
    o, n, i = shape
    for dtype, rtol in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        stacks, right = torch.randn(4, 3, n, i, dtype=dtype), torch.randn(3, i, o, dtype=dtype)
        close(from_right(stacks, right), stacks @ right, rtol)
        left = torch.randn(3, n, o, dtype=dtype)
        close(from_left(left, stacks), left.mT @ stacks, rtol)


@pytest.mark.parametrize("tokens", [20, 130])
def test_attention_in_float32(tokens):
    """Large heads go one by one."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, tokens, 64, requires_grad=True) for _ in range(3))
    out = F.scaled_dot_product_attention(q, k, v)
    gradients = torch.randn(4, *out.shape)
    step = Attention(q.detach(), k.detach(), v.detach(), None, 1 / 8, [True] * 3)
    made = step([Cotangent(gradients.mT.contiguous().mT, False)])
    for c in range(4):
        wanted = torch.autograd.grad(out, (q, k, v), gradients[c], retain_graph=True)
        for part, whole in zip(made, wanted, strict=True):
            close(part.tensor[c], whole, 1e-4)
