"""Functions of PyTorch's that have a cheaper way to the same numbers on CPUs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from chiaroscuro.products import Pair, fill_matrix, times
from chiaroscuro.shortcuts.windows import window_maximum

_FEWEST_ROWS = 64
"""Images for which it pays to lay out a matrix."""
_MATRIX_BYTES = 32 << 20
"""The largest matrix that replaces a convolution of a few pixels."""


class CheaperFunctions(TorchFunctionMode):
    """Runs layers a cheaper way inside, where gradients are off and tensors are PyTorch's own.

    A 3x3 convolution of 2x2 or 1x1 pixels reads mostly padding: where every output reads every
    input it is one matrix product, the same sums to rounding. The maximum of a window is that of
    its rows' maxima, bit for bit, without a table of places. Every other call, an own kind of
    tensor, a GPU, autocast: as it is. Matrices live as long as the mode; weights that are written
    to through `.data` meanwhile are not noticed.

    >>> conv, pixels = nn.Conv2d(4, 8, 3, padding=1), torch.rand(64, 4, 2, 2)
    >>> with torch.no_grad():
    ...     plain = conv(pixels)
    ...     with CheaperFunctions():
    ...         torch.testing.assert_close(conv(pixels), plain)
    """

    def __init__(self) -> None:
        super().__init__()
        self._matrices: dict[Any, tuple[Tensor, Tensor | None, list[nn.Parameter]]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        way = _WAYS.get(func)
        found = way(self, *args, **given) if way and _is_free() else None
        return func(*args, **given) if found is None else found

    def _convolve(
        self, rows: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1,
    ) -> Tensor | None:  # fmt: skip
        parameters = [weight] if bias is None else [weight, bias]
        fit = all(type(x) is nn.Parameter and x.dtype == rows.dtype for x in parameters)
        if not (fit and _is_plain(rows) and rows.shape[1] == weight.shape[1]):
            return None
        if isinstance(padding, str) or groups != 1 or _pair(dilation) != (1, 1):
            return None
        size, taps = _pair(rows.shape[2:]), _pair(weight.shape[2:])
        stride, padding = _pair(stride), _pair(padding)
        out = _lengths(size, taps, stride, padding)
        if len(rows) < _FEWEST_ROWS or min(out) < 1 or not _is_full(size, taps, padding):
            return None
        shape = (*out, len(weight), *size, weight.shape[1])
        if weight.element_size() * torch.Size(shape).numel() > _MATRIX_BYTES:
            return None
        key = (shape, stride, padding, *((id(x), x._version) for x in parameters))
        if key not in self._matrices:
            matrix = weight.new_zeros(shape)
            fill_matrix(matrix, weight, stride, padding)
            spread = None if bias is None else bias.repeat(out[0] * out[1])
            # With the parameters themselves, whose numbers nobody else gets so long.
            self._matrices[key] = matrix.flatten(3).flatten(0, 2), spread, parameters
        found = times(rows.permute(0, 2, 3, 1).flatten(1), *self._matrices[key][:2])
        return found.view(-1, *out, len(weight)).permute(0, 3, 1, 2)

    def _pool(
        self, values: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
        dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
    ) -> Tensor | None:  # fmt: skip
        if not _is_plain(values) or ceil_mode or return_indices or _pair(dilation) != (1, 1):
            return None
        if not values.is_contiguous(memory_format=torch.channels_last):
            return None
        steps = kernel_size if stride is None or stride == [] else stride
        return window_maximum(values, _pair(kernel_size), _pair(steps), _pair(padding))


def _is_free() -> bool:
    """Whether nobody takes gradients or chooses number formats."""
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))


def _is_plain(values: Any) -> bool:
    """Whether these are images (R, C, H, W) on a CPU, in a tensor of PyTorch's own kind."""
    return (
        type(values) is Tensor
        and values.ndim == 4
        and values.device.type == "cpu"
        and values.is_floating_point()
    )


def _pair(values: int | Sequence[int]) -> Pair:
    """Height's and width's number, where one alone may stand for both."""
    if isinstance(values, int):
        return values, values
    first, *others = values
    return first, others[0] if others else first


def _lengths(size: Pair, taps: Pair, stride: Pair, padding: Pair) -> Pair:
    """Height and width of a convolution's output."""
    tall, wide = (
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, taps, stride, padding, strict=True)
    )
    return tall, wide


def _is_full(size: Pair, taps: Pair, padding: Pair) -> bool:
    """Whether every output reads every input, and the kernel more than those.

    The first output reads up to k - 1 - p, and where that is all, the last starts at 0 or before.
    """
    fewer = size[0] * size[1] < taps[0] * taps[1]
    return fewer and all(n + p <= k for n, k, p in zip(size, taps, padding, strict=True))


_WAYS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    torch.conv2d: CheaperFunctions._convolve,
    F.max_pool2d: CheaperFunctions._pool,
}
"""Functions of PyTorch's and the cheaper way to each: None where it does not serve."""
