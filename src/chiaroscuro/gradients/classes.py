"""Which classes are run for which image: targets, their rivals, and the rivals' weights."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.choices import RivalRule
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, InputError, NotFiniteError

Target = int | str | Sequence[int | str] | Tensor | None
"""None for the predicted class, one class, or one per image; classes by index or name."""
Indices = int | Sequence[int] | Tensor | None
"""The same by index alone."""


def target_indices(target: Target, classifier: Classifier) -> Indices:
    """The same with every name as an index; `Classifier.class_index` raises for unknown ones."""
    if isinstance(target, str):
        return classifier.class_index(target)
    if isinstance(target, Sequence):
        return [classifier.class_index(k) if isinstance(k, str) else k for k in target]
    return target


def check_logits(logits: Tensor, when: str = "") -> None:
    """Raise `NotFiniteError` where logits (B, ..., K) of an image are NaN or infinite."""
    broken = (~logits.isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
    if broken:
        which = f" of image {broken[0]}" if len(logits) > 1 else ""
        raise NotFiniteError(f"the logits{which} are NaN or infinite{when}: check the module")


def resolve_target(
    target: Indices, logits: Tensor, *, multi_label: bool = False, name: str = "target"
) -> Tensor:
    """The target class of each image as (B,) indices; None is the predicted class."""
    images, classes = logits.shape
    check_logits(logits)
    if target is None:
        if multi_label:
            raise ChoiceError("a multi-label classifier has no predicted class: give a target")
        return logits.argmax(dim=1)
    try:
        indices = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError):
        indices = torch.empty(0)  # a float, so that it is refused by name below
    if indices.is_floating_point() or indices.dtype == torch.bool or indices.ndim > 1:
        raise ChoiceError(f"{name} is {target!r}: expected None, a class index, or one per image")
    if indices.ndim and len(indices) != images:
        raise ChoiceError(f"{name} has {len(indices)} classes for {images} images")
    indices = indices.long().expand(images).clone()
    outside = indices[(indices < 0) | (indices >= classes)]
    if len(outside):
        raise ChoiceError(f"{name} {int(outside[0])} is out of range: expected 0..{classes - 1}")
    return indices


class TargetColumns(NamedTuple):
    """A target (B,), its rivals (B, R), and the columns (B, M) that hold it and hold them."""

    target: Tensor
    rivals: Tensor
    own: NDArray[np.bool_]
    rival_columns: NDArray[np.bool_]


def make_request(
    rule: RivalRule, logits: Tensor, targets: Sequence[Tensor]
) -> tuple[Tensor, list[TargetColumns]]:
    """What is differentiated for several targets (B,) of each image, and where each finds its own.

    Classes (B, M), those that several targets need once; for weighted rivals weights (B, M, K).
    """
    indices = [class_indices(rule, logits, target) for target in targets]
    rivals = [each[:, 1:] for each in indices]
    if rule.is_weighted:  # each target, and the mean of its rivals
        pairs = [(one_hot(logits, each), rival_weights(rule, logits, each)) for each in targets]
        rows = torch.stack([row for pair in pairs for row in pair], dim=1)
        own = [np.tile(column, (len(rows), 1)) for column in np.eye(rows.shape[1], dtype=bool)[::2]]
        columns = [np.roll(each, 1, axis=1) for each in own]
    elif len(targets) == 1:
        (rows,) = indices
        own = [np.tile(np.arange(rows.shape[1]) == 0, (len(rows), 1))]
        columns = [~own[0]]
    else:
        rows = _columns(_members(logits, torch.cat(indices, dim=1)))
        own = [(rows == target[:, None]).cpu().numpy() for target in targets]
        columns = [_members(logits, each).gather(1, rows).cpu().numpy() for each in rivals]
    return rows, list(map(TargetColumns, targets, rivals, own, columns))


def class_indices(rule: RivalRule, logits: Tensor, target: Tensor) -> Tensor:
    """The classes to run, (B, M): the target, then its rivals by rising index.

    Images with fewer rivals than others repeat their last one, which changes no extreme.
    Raises `InputError` when an image is left without a rival.
    """
    is_rival = _rival_mask(rule, logits, target)
    count = is_rival.sum(dim=1)
    if not bool(count.all()):
        raise InputError(
            f"no rival is left for target {int(target[count == 0][0])} among {logits.shape[1]} "
            f"classes (rivals {rule}): the maps compare a class with at least one other"
        )
    return torch.cat([target[:, None], _columns(is_rival)], dim=1)


def one_hot(logits: Tensor, target: Tensor) -> Tensor:
    """1 at each row's target (B,), else 0: (B, K)."""
    return torch.zeros_like(logits).scatter_(1, target[:, None], 1)


def _members(logits: Tensor, classes: Tensor) -> Tensor:
    """Which classes (B, K) are among those listed (B, M)."""
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, classes, True)


def _columns(chosen: Tensor) -> Tensor:
    """The chosen classes (B, K) of each image by rising index, (B, most); the last one repeats."""
    count, classes = chosen.sum(dim=1), chosen.shape[1]
    order = torch.arange(classes, device=chosen.device).expand_as(chosen)
    ranked = torch.where(chosen, order, classes).sort(dim=1).values[:, : int(count.max())]
    last = ranked.gather(1, (count - 1)[:, None])
    return torch.where(ranked == classes, last, ranked)


def _rival_mask(rule: RivalRule, logits: Tensor, target: Tensor) -> Tensor:
    classes = logits.shape[1]
    mask = torch.ones_like(logits, dtype=torch.bool)
    if rule.indices is not None:
        outside = [index for index in rule.indices if not 0 <= index < classes]
        if outside:
            raise ChoiceError(f"rival {outside[0]} is out of range: expected 0..{classes - 1}")
        mask.zero_()[:, list(rule.indices)] = True
    mask.scatter_(1, target[:, None], False)
    if rule.count is not None and rule.count < classes - 1:
        score = logits.masked_fill(~mask, -torch.inf)
        # A stable sort settles equal logits by the lower class index.
        best = score.sort(dim=1, descending=True, stable=True).indices[:, : rule.count]
        mask = torch.zeros_like(mask).scatter_(1, best, True)
    return mask


def rival_weights(rule: RivalRule, logits: Tensor, target: Tensor) -> Tensor:
    """How much each class counts in the mean that the target competes with: (B, K).

    Rows sum to 1 and are 0 at the target (B,). "softmax": a_k = exp S_k / sum over rivals of
    exp S_j, on the untouched image's logits S (Wang and Wang, "Why not other classes?", 2022).
    """
    is_rival = _rival_mask(rule, logits, target)
    if rule.weighting == "softmax":
        return logits.masked_fill(~is_rival, -torch.inf).softmax(dim=1)
    counts = torch.ones_like(logits)
    if rule.weights is not None:
        counts[:, list(rule.indices or ())] = logits.new_tensor(rule.weights)
    counts = counts * is_rival
    return counts / counts.sum(dim=1, keepdim=True)
