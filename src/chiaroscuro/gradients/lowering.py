"""The same network in cheaper operations, while it is asked for gradients.

Calls of convolution, padding and batch normalisation are taken as they pass
(`TorchFunctionMode`), so every module that makes them is served and none is touched. Each rewrite
is exact up to rounding.
"""

from typing import Any, Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Lowering(TorchFunctionMode):
    """Inside, network operations run in forms whose backward pass is cheap.

    - `F.batch_norm` with fixed statistics is x * scale + shift: its backward is one multiply.
    - Convolution weights are laid out like the pixels (`memory_format`) once, not at each call.
    - With `fold`, a batch normalisation right after a convolution, and a zero padding right before
      it, become one convolution with other weights, unless what they read was overwritten since.
      The plain one has run by then, so this pays when one forward serves many backward passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.memory_format = torch.contiguous_format
        self.fold = False
        self._weights: dict[int, tuple[Tensor, Tensor]] = {}
        self._conv: _Ran[_Conv] | None = None
        self._pad: _Ran[_Pad] | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func is F.conv2d:
            return self._conv2d(*args, **kwargs)
        if func is F.pad and self.fold:
            return self._pad2d(*args, **kwargs)
        return func(*args, **kwargs)

    def use_layout(self, memory_format: torch.memory_format) -> None:
        """Lay weights out in this format from now on."""
        self.memory_format = memory_format
        self._weights.clear()

    def owns(self, tensor: Tensor) -> bool:
        """Whether a tensor is a weight laid out here, which is there once and not for each row."""
        return any(copy is tensor for _, copy in self._weights.values())

    def forget(self) -> None:
        """Let go of the tensors of the last pass."""
        self._conv = self._pad = None

    def _conv2d(self, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
                padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:  # fmt: skip
        conv = _Conv(input, self._laid_out(weight), bias, stride, padding, dilation, groups)
        output = F.conv2d(*conv)
        self._conv = _Ran(output, conv) if self.fold else None
        return output

    def _pad2d(self, input: Tensor, pad: Any, mode: str = "constant",
               value: float | None = None) -> Tensor:  # fmt: skip
        output = F.pad(input, pad, mode, value)
        zeros = mode == "constant" and not value and len(pad) == 4 and min(pad) >= 0
        self._pad = _Ran(output, _Pad(input, *pad)) if zeros else None
        return output

    def _batch_norm(self, input: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
                    weight: Tensor | None = None, bias: Tensor | None = None,
                    training: bool = False, momentum: float = 0.1,
                    eps: float = 1e-5) -> Tensor:  # fmt: skip
        if training or running_mean is None or running_var is None:
            return F.batch_norm(
                input, running_mean, running_var, weight, bias, training, momentum, eps
            )
        scale = torch.rsqrt(running_var + eps)
        scale = scale if weight is None else scale * weight
        shift = -running_mean * scale if bias is None else bias - running_mean * scale
        if scale.dtype != input.dtype:
            scale, shift = scale.to(input.dtype), shift.to(input.dtype)
        if self._conv is not None and self._conv.still_gives(input):
            return self._folded(self._conv.call, scale, shift)
        across = (1, -1) + (1,) * (input.ndim - 2)
        return torch.addcmul(shift.view(across), input, scale.view(across))

    def _folded(self, conv: "_Conv", scale: Tensor, shift: Tensor) -> Tensor:
        """Scale * conv(x) + shift as one convolution of x, or of what was padded into x."""
        weight = conv.weight * scale.view(-1, 1, 1, 1)
        bias = shift if conv.bias is None else shift + conv.bias * scale
        conv = conv._replace(weight=weight, bias=bias)
        if self._pad is not None and self._pad.still_gives(conv.input) and _plain(conv):
            conv = _absorb(conv, self._pad.call)
        self.forget()
        return F.conv2d(*conv._replace(weight=self._in_format(conv.weight)))

    def _laid_out(self, weight: Tensor) -> Tensor:
        if not isinstance(weight, nn.Parameter):
            return self._in_format(weight)
        if id(weight) not in self._weights:
            # The parameter is kept beside its copy, so that its id cannot be another tensor's.
            self._weights[id(weight)] = (weight, self._in_format(weight))
        return self._weights[id(weight)][1]

    def _in_format(self, weight: Tensor) -> Tensor:
        return weight.contiguous(memory_format=self.memory_format) if weight.ndim == 4 else weight


class _Conv(NamedTuple):
    """A convolution's arguments, in the order of `F.conv2d`."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: Any
    padding: Any
    dilation: Any
    groups: int


class _Pad(NamedTuple):
    """What was padded with zeros, and by how much on each side."""

    input: Tensor
    left: int
    right: int
    top: int
    bottom: int


Call = TypeVar("Call", _Conv, _Pad)


class _Ran(Generic[Call]):
    """A call that ran, with its output, and whether running it again would give the same."""

    def __init__(self, output: Tensor, call: Call) -> None:
        self.output = output
        self.call: Call = call
        self._versions = (output._version, call.input._version)

    def still_gives(self, tensor: Tensor) -> bool:
        """Whether this tensor is the output, and neither it nor the input was written to since."""
        now = (self.output._version, self.call.input._version)
        return tensor is self.output and now == self._versions


def _plain(conv: _Conv) -> bool:
    """Whether a convolution has neither padding nor dilation of its own."""
    return _pair(conv.padding) == (0, 0) and _pair(conv.dilation) == (1, 1)


def _pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _absorb(conv: _Conv, pad: _Pad) -> _Conv:
    """Zero padding before a convolution as its own: even on both sides, with a kernel that grows
    by zeros where the padding was smaller.
    """
    across, down = max(pad.left, pad.right), max(pad.top, pad.bottom)
    grown = (across - pad.left, across - pad.right, down - pad.top, down - pad.bottom)
    return conv._replace(input=pad.input, weight=F.pad(conv.weight, grown), padding=(down, across))
