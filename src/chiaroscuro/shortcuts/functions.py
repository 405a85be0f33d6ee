"""Functions of PyTorch's that have a cheaper way to the same numbers on CPUs."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from chiaroscuro.products import Pair
from chiaroscuro.shortcuts.convolutions import SmallConvolutions
from chiaroscuro.shortcuts.windows import window_maximum


class CheaperFunctions(TorchFunctionMode):
    """Runs layers a cheaper way inside, where gradients are off and tensors are PyTorch's own.

    Convolutions of a few pixels are matrix products (`SmallConvolutions`), the same sums to
    rounding, and maxima are taken axis by axis (`window_maximum`), exactly. Every other call goes
    on as it is: own kinds of tensors, other layouts, `torch.vmap`, compiling, autocast, GPUs.
    Matrices live as long as the mode.

    >>> from torch import nn
    >>> pool, pixels = nn.MaxPool2d(3, 2, 1), torch.rand(1, 4, 8, 8)
    >>> with torch.no_grad(), CheaperFunctions():
    ...     found = pool(pixels.contiguous(memory_format=torch.channels_last))
    >>> torch.equal(found, pool(pixels))
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self._convolutions = SmallConvolutions()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        way = _WAYS.get(func)
        # The first two arguments have several names; few callers use any.
        usual = way is not None and len(args) > 1 and _is_free() and _is_plain(args[0])
        found = way(self, *args, **given) if way is not None and usual else None
        return func(*args, **given) if found is None else found

    def _convolve(
        self, rows: Tensor, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1,
    ) -> Tensor | None:  # fmt: skip
        if isinstance(padding, str) or groups != 1:
            return None
        pairs = _pairs(stride, padding, dilation)
        if pairs is None or pairs[2] != (1, 1):
            return None
        return self._convolutions(rows, weight, bias, *pairs[:2])

    def _pool(
        self, values: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
        dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
    ) -> Tensor | None:  # fmt: skip
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


def _pairs(*given: int | Sequence[int]) -> list[Pair] | None:
    """Height's and width's numbers, where one alone may stand for both; None for other lengths."""
    pairs = []
    for values in given:
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
