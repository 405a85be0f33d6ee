"""Running extremes over classes: three images are kept, never K."""

import torch
from torch import Tensor


class Extremes:
    """Own gradient and element-wise extremes over the rivals, updated a few classes at a time.

    `target`, `high`, `low`: (G, N), the N values of G images. With `argmax`, `high_class` and
    `low_class` hold the rival at each extreme, or -1 where several different rivals share it.
    """

    def __init__(self, like: Tensor, *, argmax: bool) -> None:
        self.target = torch.empty_like(like)
        self.high = torch.full_like(like, -torch.inf)
        self.low = torch.full_like(like, torch.inf)
        self.high_class = torch.full_like(like, -1, dtype=torch.long) if argmax else None
        self.low_class = torch.full_like(like, -1, dtype=torch.long) if argmax else None

    @property
    def are_finite(self) -> bool:
        """Whether every gradient taken in was: what is not shows in the extremes."""
        # NaN wins in both reductions.
        ends = [torch.stack(found.aminmax()) for found in (self.target, self.high, self.low)]
        return bool(torch.stack(ends).isfinite().all())

    def add(
        self, gradients: Tensor, classes: Tensor, *, first: bool, values: slice = slice(None)
    ) -> None:
        """Take in gradients (V, G, n) of classes (G, V) at some of the values.

        `first`: class 0 is the target.
        """
        if first:
            self.target[:, values] = gradients[0]
            gradients, classes = gradients[1:], classes[:, 1:]
        if gradients.shape[0] == 0:
            return
        high, low = self.high[:, values], self.low[:, values]
        if self.high_class is not None and self.low_class is not None:
            index = classes.T[..., None]
            highest, lowest = gradients.amax(dim=0), gradients.amin(dim=0)
            _climb(high, self.high_class[:, values], highest, _holder(gradients == highest, index))
            # The lowest value is the highest of the negated ones.
            _climb(-low, self.low_class[:, values], -lowest, _holder(gradients == lowest, index))
        if gradients.stride(0) == 1:  # a value's classes lie side by side
            gradients = torch.stack([gradients.amax(dim=0), gradients.amin(dim=0)])
        for gradient in gradients:  # images stay in the cache, a few classes of them do not
            torch.maximum(high, gradient, out=high)
            torch.minimum(low, gradient, out=low)


def _holder(on_top: Tensor, index: Tensor) -> Tensor:
    """The class (G, n) that is on top, or -1 where different ones are."""
    last = torch.where(on_top, index, -1).amax(dim=0)
    first = torch.where(on_top, index, torch.iinfo(index.dtype).max).amin(dim=0)
    return torch.where(first == last, last, -1)


def _climb(high: Tensor, holder: Tensor, values: Tensor, index: Tensor) -> None:
    """Where `values` are larger the holder becomes `index`; where they tie with another, -1."""
    tie = (values == high) & (holder != index)
    holder.copy_(torch.where(values > high, index, torch.where(tie, -1, holder)))
