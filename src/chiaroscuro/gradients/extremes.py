"""Running extremes over classes: three images are kept, never K."""

import torch
from torch import Tensor


class Extremes:
    """Own gradient and element-wise extremes over the rivals, updated a few classes at a time.

    `own`, `high`, `low`: (G, C, H, W). With `argmax`, `high_class` and `low_class` hold the rival
    at each extreme, or -1 where several different rivals share it.
    """

    def __init__(self, like: Tensor, *, argmax: bool) -> None:
        self.own = torch.empty_like(like)
        self.high = torch.full_like(like, -torch.inf)
        self.low = torch.full_like(like, torch.inf)
        self.high_class = torch.full_like(like, -1, dtype=torch.long) if argmax else None
        self.low_class = torch.full_like(like, -1, dtype=torch.long) if argmax else None

    def add(self, gradients: Tensor, classes: Tensor, *, first: bool) -> None:
        """Take in gradients (G, V, C, H, W) of classes (G, V); `first`: slot 0 is the target."""
        if first:
            self.own.copy_(gradients[:, 0])
            gradients, classes = gradients[:, 1:], classes[:, 1:]
        if gradients.shape[1] == 0:
            return
        if self.high_class is None or self.low_class is None:
            torch.maximum(self.high, gradients.amax(dim=1), out=self.high)
            torch.minimum(self.low, gradients.amin(dim=1), out=self.low)
            return
        for slot in range(gradients.shape[1]):
            index = classes[:, slot].view(-1, 1, 1, 1)
            _climb(self.high, self.high_class, gradients[:, slot], index)
            # The lowest value is the highest of the negated ones.
            self.low.neg_()
            _climb(self.low, self.low_class, -gradients[:, slot], index)
            self.low.neg_()


def _climb(high: Tensor, holder: Tensor, values: Tensor, index: Tensor) -> None:
    """Raise `high` to `values` where larger; the holder becomes `index`, or -1 on a tie."""
    tie = (values == high) & (holder != index)
    holder.copy_(torch.where(values > high, index, torch.where(tie, -1, holder)))
    torch.maximum(high, values, out=high)
