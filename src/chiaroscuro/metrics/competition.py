"""Which class gains most from each change of a value: what rivals take from a target."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.errors import brief
from chiaroscuro.gradients import ClassGradients
from chiaroscuro.results.confusions import GRID

Doubles = NDArray[np.float64]
_CHUNK = 8192
"""Values of an image that are looked at together: what is held besides is small."""


@dataclass(frozen=True, eq=False)
class Competition:
    """What R classes take of one image, the target first, then rivals, the strongest first.

    Each of the n = C H W values can become brighter or darker; the class whose logit gains most
    takes this change, by its lead: over the best rival, or of that rival over the target. `taken`
    (R, 2): changes to brighter and to darker over n. `lead` (R,): the sum of leads over n. Parts
    of it: `grid` (R, GRID, GRID) by place; `colors` (R, 2, C, 2) by way (brighter, darker),
    channel, and value (below a half, others); `inside` (R,) in a region.
    """

    classes: NDArray[np.int64]
    predicted: int
    taken: Doubles
    lead: Doubles
    grid: Doubles
    colors: Doubles
    inside: Doubles
    __repr__ = brief


def competition(
    gradients: ClassGradients,
    pixels: Tensor,
    image: int,
    strongest: int,
    region: NDArray[np.bool_] | None = None,
) -> Competition:
    """What the target of an image and its `strongest` rivals take, and the class predicted for it.

    `gradients` with `argmax`, of pixels (B, C, H, W). Changes that help two classes equally belong
    to none; a predicted rival is always among those kept.
    """
    channels, height, width = pixels.shape[1:]
    values, target = pixels[image].flatten(), int(gradients.target[image])
    predicted, known = int(gradients.logits[image].argmax()), gradients.logits.shape[1]
    counts = np.zeros((2, known + 1), np.int64)  # the last is nobody
    for way, _, winner, _ in _contests(gradients, image):
        counts[way] += np.bincount(winner, minlength=known + 1)
    order = np.argsort(-counts[:, :known].sum(axis=0), kind="stable").tolist()
    rivals = [k for k in order if k != target and counts[:, k].any()][:strongest]
    if predicted in gradients.rivals[image] and predicted not in rivals:
        rivals.append(predicted)
    classes = np.array([target, *rivals])
    slots = np.full(known + 1, len(classes))
    slots[classes] = np.arange(len(classes))
    down, across = (np.arange(side) * GRID // side for side in (height, width))
    cells = (down[:, None] * GRID + across).astype(np.uint8).ravel()
    grid, inside = np.zeros((len(classes) + 1, GRID * GRID)), np.zeros(len(classes) + 1)
    colors = np.zeros((2, len(classes) + 1, channels * 2))
    for way, at, winner, lead in _contests(gradients, image):
        channel, pixel = np.divmod(np.arange(at.start, at.stop), height * width)
        slot, bright = slots[winner], (values[at] >= 0.5).cpu().numpy()
        grid += _summed(slot, cells[pixel], lead, grid.shape)
        colors[way] += _summed(slot, 2 * channel + bright, lead, colors[way].shape)
        if region is not None:
            inside += np.bincount(slot, lead * region.ravel()[pixel], minlength=len(inside))
    entries, kept = len(values), slice(len(classes))
    return Competition(
        classes,
        predicted,
        counts[:, classes].T / entries,
        grid[kept].sum(axis=1) / entries,
        grid[kept].reshape(-1, GRID, GRID) / entries,
        colors[:, kept].swapaxes(0, 1).reshape(-1, 2, channels, 2) / entries,
        inside[kept] / entries,
    )


def _contests(
    gradients: ClassGradients, image: int
) -> Iterator[tuple[int, slice, NDArray[np.int64], Doubles]]:
    """By way (0 brighter, 1 darker) and some values: who takes each change, and by what lead.

    The number of classes stands for nobody.
    """
    assert gradients.rival_argmax is not None
    assert gradients.rival_argmin is not None
    target, nobody = gradients.target[image], gradients.logits.shape[1]
    own = gradients.target_gradient[image].flatten()
    ends = (
        (gradients.rival_max, gradients.rival_argmax, 1),
        (gradients.rival_min, gradients.rival_argmin, -1),
    )
    for way, (extreme, holder, sign) in enumerate(ends):
        for first in range(0, len(own), _CHUNK):
            at = slice(first, min(first + _CHUNK, len(own)))
            lead = sign * (extreme[image].flatten()[at].double() - own[at].double())
            winner = torch.where(lead < 0, target, holder[image].flatten()[at].long())
            winner = torch.where((lead == 0) | (winner < 0), nobody, winner)
            yield way, at, winner.cpu().numpy(), lead.abs().cpu().numpy()


def _summed(
    slot: NDArray[np.int64], part: NDArray[np.integer], lead: Doubles, shape: tuple[int, ...]
) -> Doubles:
    """Sums of leads by class and part."""
    flat = np.bincount(slot * shape[1] + part, lead, minlength=shape[0] * shape[1])
    return flat.astype(np.float64).reshape(shape)
