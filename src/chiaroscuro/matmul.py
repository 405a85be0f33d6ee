"""Matrix products by the machine's fastest kernels, and convolutions as such products."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]

_EITHER_WAY = (torch.float32, torch.float64, torch.bfloat16)
"""Number formats in which a transposed convolution is as fast; half precision is much slower."""
_LARGE = 1 << 13
"""Matrices of so many numbers are worth a call each."""


_FORMAT: ContextVar[torch.dtype | None] = ContextVar("product_format", default=None)


@contextmanager
def products_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Constants that are `rounded` inside have this number format; None leaves them alone."""
    token = _FORMAT.set(dtype)
    try:
        yield
    finally:
        _FORMAT.reset(token)


def rounded(constant: Tensor) -> Tensor:
    """A constant of products in the format that they are asked for in."""
    return constant.to(_FORMAT.get() or constant.dtype)


def times(rows: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows (N, I) times the transpose of matrix (O, I), and a bias (O,): (N, O).

    As a convolution of one pixel, whose kernels on CPUs outrun those of plain matrix products; a
    matrix that lies transposed in memory is read as it lies, by a transposed convolution.
    """
    count, inner = rows.shape
    if rows.device.type != "cpu" or count == 1:
        return F.linear(rows, matrix, bias)
    picture = rows.reshape(1, count, 1, inner).permute(0, 3, 1, 2)
    lies_transposed = matrix.T.is_contiguous() and not matrix.is_contiguous()
    if lies_transposed and matrix.dtype in _EITHER_WAY:
        product = F.conv_transpose2d(picture, matrix.T[:, :, None, None], bias)
    else:
        product = F.conv2d(picture, matrix[:, :, None, None], bias)
    return product.permute(0, 2, 3, 1).reshape(count, -1)


def from_right(stacks: Tensor, matrices: Tensor) -> Tensor:
    """Stacks (V, B, N, I) of B matrices times the B of (B, I, O): (V, B, N, O).

    The V copies of a matrix are rows of one product. The result lies in the order (B, V, N, O).
    """
    count, batch, height, inner = stacks.shape
    rows = stacks.transpose(0, 1).reshape(batch, count * height, inner)
    if are_large(rows, matrices):
        parts = [times(left, right) for left, right in zip(rows, matrices.mT, strict=True)]
        product = parts[0][None] if batch == 1 else torch.stack(parts)
    else:
        product = rows @ matrices
    return product.view(batch, count, height, -1).transpose(0, 1)


def from_left(matrices: Tensor, stacks: Tensor) -> Tensor:
    """The B transposes of matrices (B, N, O) times stacks (V, B, N, I) of as many: (V, B, O, I)."""
    count, batch, inner, width = stacks.shape
    folded = stacks.transpose(0, 1)
    if matrices.shape[2] < width:  # the smaller of the two is repeated
        product = (folded.mT @ matrices[:, None]).mT
    else:
        columns = folded.transpose(1, 2).reshape(batch, inner, count * width)
        product = torch.unflatten(matrices.mT @ columns, 2, (count, width)).transpose(1, 2)
    return product.transpose(0, 1)


def are_large(*matrices: Tensor) -> bool:
    """Whether the matrices (..., N, I) are so large that convolutions do them one by one."""
    fast = matrices[0].device.type == "cpu" and matrices[0].dtype == torch.float32
    return fast and min(math.prod(each.shape[-2:]) for each in matrices) >= _LARGE


def fill_matrix(matrix: Tensor, weight: Tensor, stride: Pair, before: Pair) -> None:
    """Write a convolution of few pixels into zeros (h, w, Co, H, W, Ci): outputs by inputs.

    `weight` (Co, Ci, kh, kw); `before` the zeros padded above and left. Output o reads input i
    through tap i + p - s o, along each axis.
    """
    taps = weight.permute(0, 2, 3, 1)
    tall, wide = matrix.shape[:2]
    for o in range(tall):
        down, rows = _reach(matrix.shape[3], taps.shape[1], before[0] - stride[0] * o)
        for q in range(wide):
            across, columns = _reach(matrix.shape[4], taps.shape[2], before[1] - stride[1] * q)
            matrix[o, q, :, down, across] = taps[:, rows, columns]


def _reach(size: int, taps: int, shift: int) -> tuple[slice, slice]:
    """The inputs that an output reads, and the taps that it reads them through."""
    first = max(0, -shift)
    last = max(first, min(size, taps - shift))
    return slice(first, last), slice(first + shift, last + shift)
