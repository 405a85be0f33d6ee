"""Every operation's way back against plain autograd in float64."""

import pytest
import torch
import torch.nn.functional as F

from chiaroscuro.gradients.backward.rules import RULES
from tests.gradients.oracle import Net, check, plain_gradients
from tests.toys import random_pixels

FIXED = torch.linspace(-1, 2, 4 * 6 * 8, dtype=torch.float64).view(4, 6, 8)
COLUMN = FIXED[:, :1, :1]
KNOWN = {
    "add": lambda h: torch.add(h, h.sigmoid(), alpha=-0.5),
    "add broadcast": lambda h: h.mean((2, 3), keepdim=True) + torch.add(FIXED, h, alpha=3),
    "add a number": lambda h: (h + 2).mul(h),
    "sub": lambda h: torch.sub(h[:, :1], h, alpha=0.3),
    "sub from a number": lambda h: (1 - h) * h,
    "rsub alpha": lambda h: torch.rsub(h, FIXED, alpha=2) * h,
    "mul broadcast": lambda h: h * h.mean((2, 3), keepdim=True) * FIXED,
    "mul smaller by larger": lambda h: h.mean((2, 3), keepdim=True) * FIXED * COLUMN,
    "mul by itself": lambda h: h * h,
    "mul three uses": lambda h: h * h.sigmoid() + h,
    "mul scalar tensor": lambda h: h * torch.tensor(3.0, dtype=torch.float64),
    "div": lambda h: h.sin() / (2 + COLUMN) / 3,
    "div by a fraction": lambda h: h.sin() / 3.7,
    "div broadcast": lambda h: h.mean((2, 3), keepdim=True) / (5 + FIXED),
    "mean all but batch": lambda h: h.exp().mean((1, 2, 3)),
    "mean one": lambda h: h.exp().mean(-1),
    "mean negative keepdim": lambda h: h * h.mean((-1, 1), keepdim=True),
    "mean and use": lambda h: (h.mean((2, 3)).sigmoid()[..., None, None] * h),
    "sum": lambda h: h.tanh().sum(-2),
    "sum keepdim": lambda h: h + h.sin().sum((1, -1), keepdim=True),
    "sum then overwritten": lambda h: h.sum(3).mul_(2).add_(1) + h.relu().sum(3),
    "cat": lambda h: torch.cat([h, h.sigmoid(), h[:, :2]], dim=1),
    "cat negative": lambda h: torch.cat([h, h.tanh()], dim=-1),
    "cat twice the same": lambda h: torch.cat([h, h], dim=2).exp(),
    "cat a constant": lambda h: torch.cat([FIXED.expand(2, -1, -1, -1), h], dim=1).sin(),
    "stack": lambda h: torch.stack([h, h.sin(), h], dim=-2),
    "stack a constant": lambda h: torch.stack([FIXED.expand_as(h), h.sin()], dim=1),
    "unbind some": lambda h: h.exp().unbind(2)[1] * h.unbind(2)[3],
    "split some": lambda h: h.exp().split([1, 2, 1], dim=1)[1],
    "split equal": lambda h: h.exp().split(3, dim=-1)[2] + h[..., :2],
    "chunk": lambda h: torch.mul(*h.chunk(2, dim=1)),
    "chunk one of three": lambda h: h.sin().chunk(3, dim=1)[1],
    "slice steps": lambda h: h[:, 1:, ::2, 1:-1:3].exp(),
    "slice from the end": lambda h: h[:, -2:, :-1].exp(),
    "slice too long": lambda h: h[:, :99, -99:].exp(),
    "select": lambda h: h[:, 1].exp() * h[:, -1],
    "select negative axis": lambda h: h.select(-1, -3).exp(),
    "narrow": lambda h: h.narrow(2, -3, 2).exp(),
    "expand": lambda h: h[:, :, :1].expand(-1, -1, 5, -1).sin() * h[:, :, :1],
    "expand more axes": lambda h: h[None].expand(3, 2, 4, 6, 8).sum(0) * FIXED,
    "permute": lambda h: h.permute(0, 3, -3, 2).exp(),
    "transpose": lambda h: h.transpose(-1, 1).exp(),
    "transpose of a matrix": lambda h: h.flatten(1).t().exp().t(),
    "reshape after permute": lambda h: h.permute(0, 2, 3, 1).reshape(2, 12, 16).sin(),
    "squeeze": lambda h: h[:, :1].squeeze(1).unsqueeze(-1).exp(),
    "flip": lambda h: h.flip(1, -1).exp() * h,
    "roll": lambda h: h.roll((1, -2), (2, -1)).exp() * h,
    "pixel shuffle": lambda h: F.pixel_shuffle(h.sin(), 2).exp(),
    "pad": lambda h: F.pad(h.sin(), (1, 2, 0, 3)),
    "pad and crop": lambda h: F.pad(h.sin(), (-1, 2, 1, -2, 1, 0), value=3.0),
    "clone": lambda h: h.clone().mul_(2).add_(h),
    "relu_ mul_ add_": lambda h: (
        (h.sin() * 1).relu_() * 2 + h.exp().mul(1).mul_(3).add_(h, alpha=2).clamp_(-1, 1)
    ),
    "hardtanh_": lambda h: F.hardtanh_(h * 3) + h,
    "clamp": lambda h: h.clamp(min=0.1) + h.clamp(max=0.2) + h.clamp(-0.3, 0.3),
    "clamp by a tensor": lambda h: h.clamp(min=FIXED.expand_as(h)) + h.exp(),
    "power": lambda h: h.pow(3) + h**2 + h.square(),
    "power of a tensor": lambda h: h.abs() ** (FIXED + 3).expand_as(h),
    "roots": lambda h: h.exp().sqrt() + h.exp().rsqrt() + h.exp().reciprocal() + h.exp().log(),
    "trigonometry": lambda h: h.sin() * h.cos() * h.erf() + h.neg().abs(),
    "squashing": lambda h: h.tanh() + h.sigmoid() + F.softplus(h) + F.logsigmoid(h),
    "exponential units": lambda h: F.elu(h) + F.celu(h, 0.7) + F.selu(h) + F.mish(h),
    "gated units": lambda h: F.gelu(h) + F.gelu(h, approximate="tanh") + F.silu(h),
    "hard units": lambda h: F.hardsigmoid(h * 4) + F.hardswish(h * 4) + F.relu6(h),
    "leaky units": lambda h: F.leaky_relu(h, 0.1) + F.threshold(h, 0.1, 0.0),
    "prelu": lambda h: F.prelu(h, COLUMN.flatten()) + F.prelu(h, COLUMN.flatten()[:1]),
    "maximum": lambda h: torch.maximum(h, h.roll(1, 1)) + torch.minimum(h, 2 * h),
    "maximum of itself": lambda h: torch.maximum(h, h),
    "maximum of a function": lambda h: torch.maximum(h, h * 0.5),
    "where": lambda h: torch.where(h > 0, h.exp(), FIXED) + torch.where(h > 0, FIXED, h),
    "masked": lambda h: h.masked_fill(h > 0.1, 0.0).exp(),
    "softmax": lambda h: h.softmax(1) * h,
    "softmax last": lambda h: h.flatten(2).softmax(-1),
    "log softmax": lambda h: h.log_softmax(-3),
    "matrix of constants": lambda h: h.flatten(1)[:, :9] @ FIXED.flatten()[:27].view(9, 3),
    "linear": lambda h: F.linear(h.flatten(2), FIXED.view(4, 48), COLUMN.flatten()),
    "bmm": lambda h: h.flatten(2) @ h.flatten(2).mT,
    "bmm constants": lambda h: FIXED.view(4, 48)[:2].expand(2, -1, -1) @ h.flatten(2).mT,
    "addmm": lambda h: F.linear(h.flatten(1), FIXED.view(4, 48).repeat(1, 4), COLUMN.flatten()),
    "lerp and atan2": lambda h: torch.lerp(h, h.exp(), 0.3) * torch.atan2(h, h + 2),
    "layer norm": lambda h: F.layer_norm(h, (6, 8)),
    "layer norm weighted": lambda h: F.layer_norm(
        h.permute(0, 2, 3, 1), (4,), COLUMN[:, 0, 0], COLUMN[:, 0, 0]
    ),
    "group norm": lambda h: F.group_norm(h, 2, *[COLUMN[:, 0, 0]] * 2) + F.group_norm(h, 4),
    "group norm 1-d": lambda h: F.group_norm(h.flatten(2), 1),
    "max pool": lambda h: F.max_pool2d(h, 2) + F.max_pool2d(h, 3, 2, 1),
    "max pool ceil": lambda h: F.max_pool2d(h[..., :7], 3, 2, ceil_mode=True),
    "max pool dilated": lambda h: F.max_pool2d(h, (2, 3), (1, 2), (1, 1), dilation=(3, 2)),
    "max pool 1-d": lambda h: F.max_pool1d(h.flatten(2), 3, 2, 1),
    "average pool": lambda h: F.avg_pool2d(h, 3, 2, 1) * F.avg_pool2d(h, 3, 2, 1, False, False),
    "average pool ceil": lambda h: F.avg_pool2d(h[..., :7], 2, ceil_mode=True, divisor_override=3),
    "average pool 1-d": lambda h: F.avg_pool1d(h.flatten(2), 2),
    "adaptive pool": lambda h: F.adaptive_avg_pool2d(h, (4, 3)),
    "adaptive pool to one": lambda h: F.adaptive_avg_pool2d(h.exp(), 1),
    "upsample": lambda h: F.interpolate(h, scale_factor=2) + F.interpolate(h, (12, 16)),
    "upsample bilinear": lambda h: F.interpolate(
        h, size=(7, 9), mode="bilinear", align_corners=True
    ) + F.interpolate(h, (7, 9), mode="bilinear"),
    "squeeze and excite": lambda h: (
        h * (h.mean((2, 3), keepdim=True).relu() @ FIXED[:1, :1, :1]).sigmoid()
    ),
    "division by pixels": lambda h: h / (h.exp() + 1) + FIXED / (h[:, :1].exp() + 2),
    "division of small numbers": lambda h: h.sin() * 1e-200 / (h.exp() * 1e-200),
    "division by a number": lambda h: torch.ops.aten.div.Scalar(h.sin(), 3.0) * h,
    "add a scalar": lambda h: (
        torch.ops.aten.add.Scalar(h.sin(), 3.0) * torch.ops.aten.sub.Scalar(h.cos(), 2.0)
    ),
    "mul by a number": lambda h: torch.ops.aten.mul.Scalar(h.sin(), 3.0) * h,
    "product and sum": lambda h: (
        torch.addcmul(h, h.sin(), FIXED, value=0.3) + torch.addcmul(COLUMN, FIXED, h, value=2)
        + torch.addcmul(h[:, :1], h.exp(), h)
    ),
    "two constants in a cat": lambda h: torch.cat(
        [FIXED.expand(2, -1, -1, -1), h, h[:, :1].detach(), h.sin()], 1
    ).exp(),
    "norms": lambda h: (
        torch.linalg.vector_norm(h, dim=(1, -1), keepdim=True) * h + F.normalize(h, dim=-2)
        + torch.linalg.vector_norm(h, 3, dim=1, keepdim=True) + h.norm(1, dim=2, keepdim=True)
    ),
    "extremes": lambda h: (
        h.amax((1, 2), keepdim=True) * h.amin(-1, keepdim=True) * h.max(2)[0][:, :, None]
        + h.min(-1, keepdim=True)[0] + h.relu().amax(3, keepdim=True)
    ),
    "spreads": lambda h: (
        h * h.std(1, keepdim=True) + h.var((2, 3), keepdim=True, correction=0)
        + torch.mul(*torch.var_mean(h, (1, 3), keepdim=True)) + h.logsumexp((1, -1), keepdim=True)
        + torch.std_mean(h, (1, 3), keepdim=True)[1]
    ),
    "safe softmax": lambda h: torch.ops.aten._safe_softmax(h, 1) * h,
    "patches": lambda h: F.fold(F.unfold(h.sin(), (2, 3), 1, 1, 2), (6, 8), (2, 3), 1, 1, 2),
    "windows": lambda h: h.sin().unfold(2, 3, 2).exp() + h[:, :1].unfold(-2, 3, 2),
    "mirrored": lambda h: F.pad(h.sin(), (1, 2, 0, 3), "reflect").exp()[..., :6, :8] + F.pad(
        h, (0, 1, 2, 1), "replicate"
    ).exp()[..., :6, :8],
    "upsample bicubic": lambda h: F.interpolate(h.sin(), (7, 9), mode="bicubic"),
    "convolution 1-d": lambda h: F.conv1d(
        h.flatten(2), FIXED.flatten()[:24].view(2, 4, 3), stride=2
    ),
    "convolution 3-d": lambda h: F.conv3d(
        h[:, None], FIXED.flatten()[:16].view(2, 1, 2, 2, 2), padding=1
    ),
    "transposed convolution": lambda h: F.conv_transpose2d(
        h, FIXED.flatten()[:72].view(4, 2, 3, 3), stride=2, groups=2
    ),
    "dropout in eval": lambda h: F.dropout(h.exp(), 0.5, training=False),
}  # fmt: skip


def _in_place(work, *, into=lambda h: h * 2):
    """What becomes of a function of the stem's output where that is written into."""

    def run(h):
        found = into(h)
        result = work(found, h)
        return found if result is None else result

    return run


def _each(work):
    """A function of matrices, image by image."""
    return lambda h: torch.stack([work(x.flatten(1)) for x in h])


ANY_ROWS = {
    "indices": lambda h: h[:, [0, 2, 2]].exp(),
    "indices with an axis between": lambda h: h[:, [0, 3, 3], :, [1, 5, 5]].exp().transpose(0, 1),
    "indices of two axes": lambda h: h[:, [[0], [3]], [1, 5]].exp(),
    "elements behind a mask": lambda h: h.sin()[:, FIXED > 0].exp(),
    "indices in another order": lambda h: h.exp()[..., [7, 0, 1, 2, 6, 5, 4, 3]].sin(),
    "indices of rows": lambda h: h.exp()[list(range(len(h)))].flatten(1)[:, 3:].sin(),
    "repeated": lambda h: h[:, :2].repeat(1, 2, 1, 3).sin(),
    "repeated into more axes": lambda h: (h.repeat(3, 1, 1, 2, 1) * FIXED.repeat(1, 2, 1)).sum(0),
    "copied over": _in_place(lambda found, h: found.copy_(h.sin()) * h),
    "copied over by a constant": _in_place(lambda found, h: found.copy_(FIXED.sin()) * h),
    "copied into a part": _in_place(lambda found, h: found[:, 1:3].copy_(h[:, :2].sin())),
    "a part that is used further": _in_place(
        lambda found, h: found[:, 1:, ::2].mul_(3).sin(),
    ),
    "added to a part": _in_place(
        lambda found, h: found[:, :3].add_(h[:, 1:], alpha=-0.3),
        into=lambda h: torch.cat([h, h.sin()], 1),
    ),
    "added to all of it": _in_place(
        lambda found, h: found[:, :4, :, :].sub_(h.sin()),
        into=lambda h: torch.cat([h[:, :1], h[:, 1:]], 1),
    ),
    "multiplied in part": _in_place(lambda found, h: found[..., 1:].mul_(h[..., :-1])),
    "overwritten in part": _in_place(
        lambda found, h: F.hardtanh_(found[:, 1:3]) + found[:, 3].copy_(h[:, 0])[:, None]
    ),
    "zeros in part": _in_place(lambda found, h: found[:, 1].zero_()[:, None] + found),
    "strided otherwise": _each(lambda x: x[:, :4].contiguous().as_strided((4, 4), (1, 4)).exp()),
    "matrix from pixels": _each(lambda x: FIXED.view(4, 48)[:, :4] @ x),
    "matrices from pixels": _each(lambda x: x[:, :5].sin() @ x[:, 5:10].mT),
    "matrices and a sum": _each(lambda x: torch.addmm(x[:1, :4].sin(), x, x.cos().mT)),
    "a sum and a matrix": _each(
        lambda x: torch.addmm(x[:, :4].sin(), FIXED.view(4, 48), x.cos().mT)
    ),
    "sorted": lambda h: h.sort(1)[0].exp() * h.argsort(1),
    "largest few": lambda h: h.topk(2, dim=-1)[0].exp(),
    "median": lambda h: h.median(3)[0].exp(),
    "functions without a row": lambda h: (
        h.sinh() + h.exp().log1p() + h.expm1() * h.tan() + h.sign()
    ),
    "corners": lambda h: h.tril().exp() + h.sin().triu(1),
    "diagonals": lambda h: h.sin().diagonal(1, 2, 3).exp(),
    "gathered": lambda h: h.exp().gather(2, h.argsort(2)) * h.take_along_dim(h.argsort(1), 1),
    "written by indices": lambda h: h.exp().index_put((torch.arange(len(h)),), h.sin()).cos(),
    "scattered": lambda h: h.exp().scatter(3, h.argsort(3), h.sin()),
    "steps alone": lambda h: (h * 3).floor() * h + (h * 2).round(),
}  # fmt: skip
"""Of a batch of any size: rules of elements that move, and what `one_way` reads."""


def _unbatched_pools(h):
    works = (
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 3, 2),
        lambda x: F.adaptive_avg_pool2d(x, 3),
    )
    return torch.stack([torch.cat([work(x).flatten() for work in works]) for x in h])


def _dynamic_weights(h):
    weight = h.mean((2, 3)).view(8, 1, 1, 1)
    return F.conv2d(h.flatten(0, 1)[None], weight, groups=8)[0].unflatten(0, (2, 4))


LEFT_TO_PYTORCH = {
    "fft": (lambda h: torch.fft.rfft2(h).abs(), "FftR2CBackward0"),
    "complex product": (
        lambda h: torch.fft.ifft2(torch.fft.fft2(h) * torch.complex(FIXED, 1 - FIXED)).real,
        "MulBackward0",
    ),
    "maximum of its mean": (
        lambda h: torch.maximum(h, h.mean(1, keepdim=True)), "MaximumBackward0",
    ),
    "distance of its own": (lambda h: torch.cdist(h, h[:, :, :2].sin()), "CdistBackward0"),
    "product of its parts": (
        lambda h: torch.linalg.cross(h[:, :3], h[:, 1:], dim=1), "LinalgCrossBackward0",
    ),
    "weights from pixels": (_dynamic_weights, "ConvolutionBackward0"),
    "norm's weight from pixels": (
        lambda h: torch.stack([F.layer_norm(x, (8,), x.mean((0, 1))) for x in h]),
        "NativeLayerNormBackward0",
    ),
    "group norm's bias from pixels": (
        lambda h: torch.cat([F.group_norm(x[None], 2, x.mean((1, 2)), x[:, 0, 0]) for x in h]),
        "NativeGroupNormBackward0",
    ),
    "instance norm": (F.instance_norm, "NativeBatchNormBackward0"),
    "pools without a batch": (_unbatched_pools, "AvgPool2DBackward0"),
    "running sum": (lambda h: h.cumsum(1).exp(), "CumsumBackward0"),
    "sum in place": (
        _in_place(lambda found, h: found[:, :2].add_(h.mean(1, keepdim=True))),
        "torch::autograd::CopySlices",
    ),
    "indices twice": (lambda h: h.index_select(3, torch.tensor([0, 1, 1])), "IndexSelectBackward0"),
    "median of a few numbers": (lambda h: h.half().sort(1)[0].double().exp(), "SortBackward0"),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_served_for_all_classes_at_once(name):
    assert check(Net(KNOWN[name])) == set()


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("name", ANY_ROWS)
def test_batches_of_any_size_and_more_classes_than_features(name, rows):
    pixels = random_pixels(rows, 3, 6, 8)
    assert check(Net(ANY_ROWS[name]), pixels, classes=1000, basis=1 << 30) == set()


@pytest.mark.parametrize("name", LEFT_TO_PYTORCH)
def test_asked_class_by_class(name):
    work, operation = LEFT_TO_PYTORCH[name]
    assert operation in check(Net(work))


@pytest.mark.parametrize("dims", [0, 1, 2, 3, (0, 1), (1, -1), (2, 3), (1, 2, 3), None])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("kind", ["mean", "sum"])
def test_reductions_of_any_axes(dims, keep, kind):
    # Each image by itself, since a batch must not be mixed.
    def work(h):
        rows = []
        for image in h:
            reduced = getattr(image[None].exp(), kind)(*(() if dims is None else (dims, keep)))
            rows.append((reduced * image).flatten() if keep or dims is None else reduced.view(-1))
        return torch.stack(rows)

    assert check(Net(work)) == set()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, "float", "bool"])
@pytest.mark.parametrize("shared", [False, True])
def test_attention(causal, mask, shared):
    if causal and mask:
        return
    added = {None: None, "float": FIXED[0, :, :6], "bool": FIXED[0, :, :6] > -0.97}[mask]

    def work(h):
        key = h if shared else h.sin()
        return F.scaled_dot_product_attention(
            h, key, h.flip(-1), attn_mask=added, is_causal=causal, scale=0.4 if shared else None
        )

    assert check(Net(work)) == set()


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("mask", ["causal", "float", "bool", None])
def test_attention_whose_heads_share_keys(mask, heads, rows):
    """Four heads of queries, a mask for each of them, and fewer of keys and values."""
    added = {"float": FIXED[..., :6], "bool": FIXED[..., :6] % 0.2 < 0.1}.get(mask)

    def work(h):
        key, value = h[:, :heads].sin(), h[:, heads : 2 * heads]
        return F.scaled_dot_product_attention(
            h, key, value, attn_mask=added, is_causal=mask == "causal", enable_gqa=True
        )

    assert check(Net(work), random_pixels(rows, 3, 6, 8)) == set()


def test_queries_that_see_no_key():
    mask = FIXED[0, :, :6] > -0.97
    mask[2] = False
    check(Net(lambda h: F.scaled_dot_product_attention(h, h, h, attn_mask=mask)))


def test_every_rule_is_met():
    """Each row of the table that exists in this PyTorch is exercised by some case above."""
    met = set()
    for work in (
        *KNOWN.values(),
        *ANY_ROWS.values(),
        *(work for work, _ in LEFT_TO_PYTORCH.values()),
    ):
        pixels = random_pixels(2, 3, 6, 8).requires_grad_(True)
        waiting = [Net(work)(pixels).grad_fn]
        while waiting:
            node = waiting.pop()
            met.add(node.name())
            waiting += [child for child, _ in node.next_functions if child is not None]
    exercised = {name.rstrip("0123456789") for name in met}
    elsewhere = {"AliasBackward", "ReshapeAliasBackward", "UnsafeSplitBackward",
                 "ScaledDotProductFlashAttentionForCpuBackward",
                 # In test_gpu_attention.py.
                 "ScaledDotProductFlashAttentionBackward", "ScaledDotProductCudnnAttentionBackward",
                 "ScaledDotProductEfficientAttentionBackward",
                 # Names that only other versions of PyTorch use.
                 "ClampMinBackward", "ClampMaxBackward", "SeluBackward"}  # fmt: skip
    assert {name.rstrip("0123456789") for name in RULES} - exercised - elsewhere == set()


def test_the_oracle_itself():
    net = Net(lambda h: h, stem=False)
    found = plain_gradients(net, random_pixels(1, 3, 2, 2))
    weight = torch.linspace(-1, 1, 36, dtype=torch.float64).sin().view(3, 1, 3, 2, 2)
    torch.testing.assert_close(found, weight)
