"""One deletion curve per image, and the area under it."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DeletionCurve:
    """What deleting a map's highest pixels did to B images at F fractions.

    `allegiance` (B, F): whether the predicted class is still that of the untouched image.
    `probability` and `logit` (B, F) of the target class. `changed` (B, F): pixels whose value
    really became another; `removed` (B, F): pixels that the mask took.
    """

    fractions: tuple[float, ...]
    allegiance: Tensor
    probability: Tensor
    logit: Tensor
    changed: Tensor
    removed: Tensor

    def areas(self, *, by_range: bool = False) -> Tensor:
        """The area under each image's allegiance (B,): trapezoids over the fractions.

        As published it is not divided by the range of the fractions; `by_range` divides.
        """
        area = torch.trapezoid(
            self.allegiance.double(),
            torch.tensor(self.fractions, dtype=torch.float64, device=self.allegiance.device),
        )
        return area / (self.fractions[-1] - self.fractions[0]) if by_range else area

    def area(self, *, by_range: bool = False) -> float:
        """The mean of `areas`, which is the area under the mean allegiance; lower is better."""
        return float(self.areas(by_range=by_range).mean())
