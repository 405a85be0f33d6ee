"""A cheaper way to the same logits on CPUs, for predictions without gradients."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from chiaroscuro.device import device_profile
from chiaroscuro.matmul import fill_matrix, times

_FEWEST_ROWS = 64
"""Images for which it pays to lay out a matrix."""


def shortcuts(module: nn.Module) -> AbstractContextManager[Any]:
    """A network predicts for less inside, with the same logits to rounding.

    Compiled networks stay as they are, and so do those with PyTorch's own attention, which has a
    fast way of its own where no functions are watched.

    >>> net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten())
    >>> pixels = torch.rand(64, 4, 2, 2).contiguous(memory_format=torch.channels_last)
    >>> with torch.no_grad():
    ...     plain = net(pixels)
    ...     with shortcuts(net):
    ...         torch.testing.assert_close(net(pixels), plain)
    """
    return nullcontext() if any(map(_has_own_ways, module.modules())) else SmallConvolutions()


def _has_own_ways(part: nn.Module) -> bool:
    attention = isinstance(part, nn.MultiheadAttention | nn.TransformerEncoderLayer)
    return attention or part._compiled_call_impl is not None or hasattr(part, "_orig_mod")


class SmallConvolutions(TorchFunctionMode):
    """Convolutions whose every output reads every input are products with matrices inside.

    A 3x3 convolution of 2x2 or 1x1 pixels reads mostly padding; the matrix holds the other taps.
    Every other call goes on as it is: own kinds of tensors, other layouts, `torch.vmap`, compiling,
    autocast, GPUs. Matrices live as long as the mode, inside which no parameter may change.
    """

    def __init__(self) -> None:
        super().__init__()
        self._laid: dict[Any, tuple[list[nn.Parameter], Tensor, Tensor | None]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        usual = func is torch.conv2d and not kwargs and len(args) == 7 and _is_plain(args[0])
        result = self._product(*args) if usual else None
        return func(*args, **(kwargs or {})) if result is None else result

    def _product(
        self, rows: Tensor, weight: Any, bias: Any, stride: Any, padding: Any, *others: Any
    ) -> Tensor | None:
        """Outputs (R, Co, h, w) for rows (R, Ci, H, W), as a layer calls; None for other kinds."""
        parameters = [weight] if bias is None else [weight, bias]
        fit = all(type(x) is nn.Parameter and x.dtype == rows.dtype for x in parameters)
        usual = all(isinstance(pair, tuple) and len(pair) == 2 for pair in (stride, padding))
        if not fit or not usual or others != ((1, 1), 1):
            return None
        size, taps = rows.shape[2:], weight.shape[2:]
        axes = list(zip(size, taps, stride, padding, strict=True))
        out = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in axes)
        # The first output reads up to k - 1 - p: where that is all, the last starts at 0 or before.
        full = min(out) > 0 and all(n + p <= k for n, k, _, p in axes)
        shape = (*out, len(weight), *size, weight.shape[1])
        small = weight.element_size() * torch.Size(shape).numel() <= device_profile().matrix_bytes
        # In one pixel both layouts are the same; in more the output's would be in doubt.
        clear = out == (1, 1) or not rows.is_contiguous()
        if not (full and small and clear and size.numel() < taps.numel()):
            return None
        if rows.shape[1] != weight.shape[1] or len(rows) < _FEWEST_ROWS:
            return None
        key = (*map(id, parameters), shape, stride, padding)
        if key not in self._laid:
            whole = weight.new_zeros(shape)
            fill_matrix(whole, weight, stride, padding)
            spread = None if bias is None else bias.repeat(out[0] * out[1])
            self._laid[key] = parameters, whole.flatten(3).flatten(0, 2), spread
        _, matrix, spread = self._laid[key]
        result = times(rows.permute(0, 2, 3, 1).flatten(1), matrix, spread)
        return result.view(-1, *out, len(weight)).permute(0, 3, 1, 2)


def _is_plain(values: Any) -> bool:
    """Whether these are images (R, C, H, W) on a CPU, channels last, and nobody looks on."""
    watched = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    return (
        not (watched or torch.compiler.is_compiling())
        and type(values) is Tensor
        and not torch._C._functorch.is_functorch_wrapped_tensor(values)
        and values.layout is torch.strided
        and values.ndim == 4
        and values.device.type == "cpu"
        and values.is_floating_point()
        and values.is_contiguous(memory_format=torch.channels_last)
    )
