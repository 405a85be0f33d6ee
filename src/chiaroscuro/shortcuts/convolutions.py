"""Convolutions of a few pixels as matrix products."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from chiaroscuro.products import LARGEST_MATRIX, Pair, fill_matrix, times

_FEWEST_ROWS = 64
"""Images for which it pays to lay out a matrix."""


@dataclass(frozen=True, eq=False)
class _Laid:
    """A matrix and the bias of its outputs, made of parameters that were in a given state."""

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
        small = weight.element_size() * torch.Size(shape).numel() <= LARGEST_MATRIX
        # In one pixel both layouts are the same; in more the output's would be in doubt.
        clear = out == (1, 1) or not rows.is_contiguous()
        if not (full and small and clear and height * width < tall * wide):
            return None
        laid = self._lay(parameters, shape, stride, padding)
        found = times(rows.permute(0, 2, 3, 1).flatten(1), laid.matrix, laid.bias)
        return found.view(-1, *out, len(weight)).permute(0, 3, 1, 2)

    def _lay(
        self, parameters: list[nn.Parameter], shape: tuple[int, ...], stride: Pair, padding: Pair
    ) -> _Laid:
        """The matrix that was made before, or made anew where the parameters have changed."""
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
