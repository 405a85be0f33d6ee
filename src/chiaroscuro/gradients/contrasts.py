"""Several rivals as one weighted mean: the weights of each class."""

import torch
from torch import Tensor

from chiaroscuro.choices import RivalRule
from chiaroscuro.gradients.slots import class_slots


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
    rivals = class_slots(rule, logits, target)[:, 1:]
    is_rival = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, rivals, True)
    if rule.weighting == "softmax":
        return logits.masked_fill(~is_rival, -torch.inf).softmax(dim=1)
    counts = torch.ones_like(logits)
    if rule.weights is not None:
        counts[:, list(rule.classes or ())] = logits.new_tensor(rule.weights)
    counts = counts * is_rival
    return counts / counts.sum(dim=1, keepdim=True)


def contrast_rows(rule: RivalRule, logits: Tensor, target: Tensor) -> Tensor:
    """What is differentiated for a weighted contrast: the target and the mean, (B, 2, K)."""
    own = torch.zeros_like(logits).scatter_(1, target[:, None], 1)
    return torch.stack([own, rival_weights(rule, logits, target)], dim=1)
