"""How noisy a map is: how unequally its mass lies, and how smooth it is between neighbors."""

import torch
from torch import Tensor


def gini(values: Tensor) -> Tensor:
    """How unequally each map's mass lies on its pixels (B,): 0 evenly on all, near 1 on one.

    >>> gini(torch.tensor([[[1.0, 1.0]], [[0.0, 1.0]]])).tolist()
    [0.0, 0.5]
    """
    rising = values.double().flatten(1).sort(dim=1).values
    count = rising.shape[1]
    places = torch.arange(1, count + 1, dtype=torch.float64, device=values.device)
    total = rising.sum(dim=1)
    weighted = (rising * places).sum(dim=1)
    safe = total.clamp(min=torch.finfo(torch.float64).tiny)
    unequal = 2 * weighted / (count * safe) - (count + 1) / count
    return torch.where(total > 0, unequal, torch.zeros_like(total))


def neighbor_correlation(values: Tensor) -> Tensor:
    """Correlation of each map with itself one pixel to the right and one below (B,): 0 is noise.

    >>> ramp = torch.arange(4.0).expand(1, 4, 4)
    >>> round(float(neighbor_correlation(ramp)), 2)
    0.88
    """
    wide = values.double()
    pairs = (
        torch.cat([wide[:, :, :-1].flatten(1), wide[:, :-1].flatten(1)], dim=1),
        torch.cat([wide[:, :, 1:].flatten(1), wide[:, 1:].flatten(1)], dim=1),
    )
    first, second = (side - side.mean(dim=1, keepdim=True) for side in pairs)
    size = (first.square().sum(dim=1) * second.square().sum(dim=1)).sqrt()
    together = (first * second).sum(dim=1)
    return torch.where(size > 0, together / size.clamp(min=1e-300), torch.zeros_like(size))
