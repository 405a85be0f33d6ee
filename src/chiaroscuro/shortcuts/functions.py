"""Functions of PyTorch's that have a cheaper way to the same numbers on CPUs."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from chiaroscuro.device import device_profile
from chiaroscuro.matmul import Pair, fill_matrix, times

_FEWEST_ROWS = 64
"""Images for which it pays to lay out a matrix."""


@dataclass(frozen=True, eq=False)
class _Laid:
    """A matrix and the bias of its outputs, computed from parameters in a recorded state."""

    matrix: Tensor
    bias: Tensor | None
    parameters: list[nn.Parameter]
    state: list[tuple[int, int]]


class SmallConvolutions:
    """Convolutions whose every output reads every input, as products with matrices that are kept.

    A 3x3 convolution of 2x2 or 1x1 pixels reads mostly padding; the matrix holds the other taps.
    Parameters that change are noticed, but for values that are written in place through `.data`.
    """

    def __init__(self) -> None:
        self._laid: dict[Any, _Laid] = {}

    def __call__(
        self, rows: Tensor, weight: Any, bias: Any, stride: Pair, padding: Pair
    ) -> Tensor | None:
        """Outputs (R, Co, h, w) for rows (R, Ci, H, W); None where it does not serve."""
        parameters = [weight] if bias is None else [weight, bias]
        fit = all(type(x) is nn.Parameter and x.dtype == rows.dtype for x in parameters)
        if not fit or rows.shape[1] != weight.shape[1] or len(rows) < _FEWEST_ROWS:
            return None
        height, width = rows.shape[2:]
        tall, wide = weight.shape[2:]
        out = (
            (height + 2 * padding[0] - tall) // stride[0] + 1,
            (width + 2 * padding[1] - wide) // stride[1] + 1,
        )
        # The first output reads up to k - 1 - p: where that is all, the last starts at 0 or before.
        full = min(out) > 0 and height + padding[0] <= tall and width + padding[1] <= wide
        shape = (*out, len(weight), height, width, weight.shape[1])
        small = weight.element_size() * torch.Size(shape).numel() <= device_profile().matrix_bytes
        # In one pixel both layouts are the same; in more the output's would be in doubt.
        clear = out == (1, 1) or not rows.is_contiguous()
        if not (full and small and clear and height * width < tall * wide):
            return None
        laid = self._lay(parameters, shape, stride, padding)
        result = times(rows.permute(0, 2, 3, 1).flatten(1), laid.matrix, laid.bias)
        return result.view(-1, *out, len(weight)).permute(0, 3, 1, 2)

    def _lay(
        self, parameters: list[nn.Parameter], shape: tuple[int, ...], stride: Pair, padding: Pair
    ) -> _Laid:
        """The matrix of these parameters, computed where they have changed."""
        key = (*map(id, parameters), shape, stride, padding)
        state = [(x._version, x.data_ptr()) for x in parameters]
        laid = self._laid.get(key)
        if laid is None or laid.state != state:
            weight, *biases = parameters
            matrix = weight.new_zeros(shape)
            fill_matrix(matrix, weight, stride, padding)
            spread = biases[0].repeat(shape[0] * shape[1]) if biases else None
            laid = _Laid(matrix.flatten(3).flatten(0, 2), spread, parameters, state)
            self._laid[key] = laid
        return laid


def window_maximum(values: Tensor, taps: Pair, stride: Pair, padding: Pair) -> Tensor | None:
    """The largest value (R, C, h, w) in each window of values (R, C, H, W); None where unusual.

    The maximum of a window is that of its rows' maxima: k + k comparisons in place of k k, each of
    a slice of the picture, and no table of places.
    """
    usual = zip(taps, stride, padding, strict=True)
    if any(s < 1 or p < 0 or 2 * p > k for k, s, p in usual):
        return None
    result: Tensor | None = values
    for axis, (k, s, p) in enumerate(zip(taps, stride, padding, strict=True), start=2):
        result = None if result is None else _along(result, axis, k, s, p)
    return result


def _along(values: Tensor, axis: int, taps: int, step: int, padding: int) -> Tensor | None:
    """The same along one axis; None where no tap lies inside for every window."""
    size = values.shape[axis]
    count = (size + 2 * padding - taps) // step + 1
    whole: list[tuple[int, Tensor]] = []
    edges: list[tuple[int, Tensor]] = []
    for shift in range(-padding, taps - padding):
        first, last = max(0, -(shift // step)), min(count, (size - 1 - shift) // step + 1)
        start = step * first + shift
        read = values[(slice(None),) * axis + (slice(start, step * last + shift, step),)]
        if first < last:
            (whole if last - first == count else edges).append((first, read))
    if not whole:
        return None
    maxima = torch.maximum(whole[0][1], whole[-1][1])
    for first, read in whole[1:-1] + edges:
        part = maxima.narrow(axis, first, read.shape[axis])
        torch.maximum(part, read, out=part)
    return maxima


class CheaperFunctions(TorchFunctionMode):
    """Runs layers a cheaper way inside, where gradients are off and tensors are PyTorch's own.

    Convolutions of a few pixels are matrix products (`SmallConvolutions`), the same sums to
    rounding, and maxima are taken axis by axis (`window_maximum`), exactly. Every other call goes
    on as it is: own kinds of tensors, other layouts, `torch.vmap`, compiling, autocast, GPUs.
    Matrices live as long as the mode.

    >>> from torch import nn
    >>> pool, pixels = nn.MaxPool2d(3, 2, 1), torch.rand(1, 4, 8, 8)
    >>> with torch.no_grad(), CheaperFunctions():
    ...     result = pool(pixels.contiguous(memory_format=torch.channels_last))
    >>> torch.equal(result, pool(pixels))
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self._convolutions = SmallConvolutions()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        way = _WAYS.get(func)
        # The first two arguments have several names; few callers use any.
        usual = way is not None and len(args) > 1 and _is_free() and _is_plain(args[0])
        result = way(self, *args, **named) if way is not None and usual else None
        return func(*args, **named) if result is None else result

    def _convolve(
        self,
        rows: Tensor,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor | None:
        if isinstance(padding, str) or groups != 1:
            return None
        pairs = _pairs(stride, padding, dilation)
        if pairs is None or pairs[2] != (1, 1):
            return None
        return self._convolutions(rows, weight, bias, *pairs[:2])

    def _pool(
        self,
        values: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Tensor | None:
        steps = kernel_size if stride is None or stride in ([], ()) else stride
        pairs = _pairs(kernel_size, steps, padding, dilation)
        if pairs is None or pairs[3] != (1, 1) or ceil_mode or return_indices:
            return None
        return window_maximum(values, *pairs[:3])


def _is_free() -> bool:
    """Whether nobody takes gradients, chooses number formats, or reads the program itself."""
    watched = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    return not (watched or torch.compiler.is_compiling())


def _is_plain(values: Any) -> bool:
    """Whether these are images (R, C, H, W) on a CPU, channels last, in PyTorch's own tensor."""
    return (
        type(values) is Tensor
        and not torch._C._functorch.is_functorch_wrapped_tensor(values)
        and values.layout is torch.strided
        and values.ndim == 4
        and values.device.type == "cpu"
        and values.is_floating_point()
        and values.is_contiguous(memory_format=torch.channels_last)
    )


def _pairs(*options: int | Sequence[int]) -> list[Pair] | None:
    """Height's and width's numbers, where one alone may stand for both; None for other lengths."""
    pairs = []
    for values in options:
        numbers = values if isinstance(values, Sequence) else [values]
        if len(numbers) not in (1, 2):
            return None
        pairs.append((operator.index(numbers[0]), operator.index(numbers[-1])))
    return pairs


_WAYS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    torch.conv2d: CheaperFunctions._convolve,
    F.max_pool2d: CheaperFunctions._pool,
}
"""Functions of PyTorch's and the cheaper way to each: None where it does not serve."""
