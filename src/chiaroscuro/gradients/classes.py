"""Which classes are run for which image: index 0 the target, the other indices its rivals."""

from collections.abc import Sequence

import torch
from torch import Tensor

from chiaroscuro.choices import RivalRule
from chiaroscuro.errors import ChoiceError, InputError, ModelError


def resolve_target(
    target: int | Sequence[int] | Tensor | None, logits: Tensor, *, multi_label: bool
) -> Tensor:
    """The target class of each image as (B,) indices; None is the predicted class.

    Raises `ChoiceError` for a wrong count or a class outside 0..K-1, `ModelError` for NaN logits.
    """
    images, classes = logits.shape
    broken = (~logits.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        raise ModelError(f"the logits of image {broken[0]} are NaN or infinite: check the module")
    if target is None:
        if multi_label:
            raise ChoiceError("a multi-label classifier has no predicted class: give a target")
        return logits.argmax(dim=1)
    try:
        chosen = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError):
        chosen = torch.empty(0)  # a float, so what came is named below
    if chosen.is_floating_point() or chosen.dtype == torch.bool or chosen.ndim > 1:
        raise ChoiceError(f"target is {target!r}: expected None, a class index, or one per image")
    chosen = chosen.long().expand(images) if chosen.ndim == 0 else chosen.long()
    if len(chosen) != images:
        raise ChoiceError(f"target has {len(chosen)} classes for {images} images")
    outside = chosen[(chosen < 0) | (chosen >= classes)]
    if len(outside):
        raise ChoiceError(f"target {int(outside[0])} is out of range: expected 0..{classes - 1}")
    return chosen.clone()


def class_indices(rule: RivalRule, logits: Tensor, target: Tensor) -> Tensor:
    """The classes to run, (B, M): the target, then its rivals by rising index.

    Images with fewer rivals than others repeat their last one, which changes no extreme.
    Raises `InputError` when an image is left without a rival.
    """
    classes = logits.shape[1]
    is_rival = _rival_mask(rule, logits, target)
    count = is_rival.sum(dim=1)
    if not bool(count.all()):
        raise InputError(
            f"no rival is left for target {int(target[count == 0][0])} among {classes} classes "
            f"(rivals {rule}): the maps compare a class with at least one other"
        )
    widest = int(count.max())
    order = torch.arange(classes, device=logits.device).expand_as(is_rival)
    ranked = torch.where(is_rival, order, classes).sort(dim=1).values[:, :widest]
    last = ranked.gather(1, (count - 1)[:, None])
    return torch.cat([target[:, None], torch.where(ranked == classes, last, ranked)], dim=1)


def _rival_mask(rule: RivalRule, logits: Tensor, target: Tensor) -> Tensor:
    """Which classes are rivals, (B, K) booleans."""
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
    exp S_j, on the untouched image's logits S (B, K); "mean": equal; given weights: relative to
    their sum over the rivals. Raises `InputError` when an image is left without a rival.
    Source of the softmax weights: Wang and Wang, "Why not other classes?", 2022.

    >>> logits = torch.tensor([[0.0, 1.0, 1.0]])
    >>> rival_weights(RivalRule(weighting="softmax"), logits, torch.tensor([0]))
    tensor([[0.0000, 0.5000, 0.5000]])
    """
    rivals = class_indices(rule, logits, target)[:, 1:]
    is_rival = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, rivals, True)
    if rule.weighting == "softmax":
        return logits.masked_fill(~is_rival, -torch.inf).softmax(dim=1)
    counts = torch.ones_like(logits)
    if rule.weights is not None:
        counts[:, list(rule.indices or ())] = logits.new_tensor(rule.weights)
    counts = counts * is_rival
    return counts / counts.sum(dim=1, keepdim=True)


def contrast_rows(rule: RivalRule, logits: Tensor, target: Tensor) -> Tensor:
    """What is differentiated for a weighted contrast: the target and the mean, (B, 2, K)."""
    own = torch.zeros_like(logits).scatter_(1, target[:, None], 1)
    return torch.stack([own, rival_weights(rule, logits, target)], dim=1)
