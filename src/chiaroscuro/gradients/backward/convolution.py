"""Two-dimensional convolutions as geometry and weights."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from chiaroscuro.gradients.backward.tape import Entry
from chiaroscuro.matmul import Pair


@dataclass(frozen=True, eq=False)
class Convolution:
    """A two-dimensional convolution's geometry and weights, channels_last.

    `weight` (Co, Ci/groups, kh, kw); `before` the zeros padded above and left; `size` height and
    width of the input, `out` of the output.
    """

    weight: Tensor
    stride: Pair
    before: Pair
    dilation: Pair
    groups: int
    size: Pair
    out: Pair

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def without_values(self) -> "Convolution":
        """The same geometry, whose weight has a shape alone and takes no memory."""
        return replace(self, weight=self.weight.to("meta"))

    def scaled(self, factor: Tensor) -> "Convolution":
        """The same after each output channel was multiplied by a number (Co,)."""
        return replace(self, weight=self.weight * factor.view(-1, 1, 1, 1))

    def shaded(self, factor: Tensor) -> "Convolution":
        """The same before which each input channel was multiplied by a number (Ci,)."""
        out, inner = self.weight.shape[:2]
        shares = factor.view(self.groups, 1, inner).expand(-1, out // self.groups, -1)
        return replace(self, weight=self.weight * shares.reshape(out, inner, 1, 1))

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel of the output is made of that channel of the input alone."""
        return self.weight.shape[1] == 1 and self.groups == self.weight.shape[0]

    def giving(self, channels: Tensor) -> "Convolution":
        """The same to these output channels alone; of one group."""
        return replace(self, weight=self.weight[channels])

    def reading(self, channels: Tensor) -> "Convolution":
        """The same of these input channels alone; of one group."""
        return replace(self, weight=self.weight[:, channels])

    def within(self, channels: Tensor) -> "Convolution":
        """The same of and to these channels alone; depthwise."""
        return replace(self, weight=self.weight[channels], groups=len(channels))

    def cropped(self, pad: tuple[int, ...]) -> "Convolution":
        """The same with zeros (left, right, top, bottom) taken from the input into the padding."""
        left, right, top, bottom = pad
        height, width = self.size
        return replace(
            self,
            before=(self.before[0] + top, self.before[1] + left),
            size=(height - top - bottom, width - left - right),
        )


def read_convolution(entry: Entry) -> Convolution | None:
    """The convolution of an autograd node; None for 1-d, 3-d and transposed ones."""
    weight, shape = entry.saved("weight"), entry.input_shape()
    if weight.ndim != 4 or entry.saved("transposed") or len(shape) != 4:
        return None
    stride, padding, dilation = (
        _pair(values) for values in entry.all_saved("stride", "padding", "dilation")
    )
    size, out = _pair(shape[2:]), _pair(entry.shapes[0][2:])
    return Convolution(weight, stride, padding, dilation, entry.saved("groups"), size, out)


def _pair(values: Iterable[int]) -> Pair:
    """Height's and width's number; autograd keeps one alone for both (`padding="valid"`)."""
    first, *others = (int(value) for value in values)
    return first, others[0] if others else first
