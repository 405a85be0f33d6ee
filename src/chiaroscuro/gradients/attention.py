"""Scaled dot-product attention."""

import torch
from torch import Tensor

from chiaroscuro.gradients.steps import Flow, Flows, Step, one
from chiaroscuro.gradients.tape import Entry


def attention(entry: Entry) -> Step | None:
    """The way back; declines where heads share keys or values."""
    query, key, value = (
        saved.detach()
        for saved in (entry.node._saved_query, entry.node._saved_key, entry.node._saved_value)
    )
    if query.shape[:-2] != key.shape[:-2]:
        return None
    scale = entry.node._saved_scale
    return _Attention(
        query * (query.shape[-1] ** -0.5 if scale is None else scale), key, value,
        _mask(entry, query, key), entry,
    )  # fmt: skip


def _mask(entry: Entry, query: Tensor, key: Tensor) -> Tensor | None:
    """What is added to the products of queries and keys."""
    length, others = query.shape[-2], key.shape[-2]
    if entry.node._saved_is_causal:
        above = query.new_full((length, others), -torch.inf)
        return above.triu(1)
    mask: Tensor | None = entry.node._saved_attn_mask
    return mask


class _Attention:
    """Y = P v with P = softmax(q k' + mask); the weights P are computed once for all classes.

    With g the gradient of y: gv = P' g, gs = P (g v' - sum of g y), gq = gs k, gk = gs' q.
    """

    def __init__(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, entry: Entry
    ) -> None:
        self.query, self.key, self.value = query, key, value
        scores = query @ key.mT
        self.share = (scores if mask is None else scores + mask).softmax(dim=-1)
        scale = entry.node._saved_scale
        self.scale = query.shape[-1] ** -0.5 if scale is None else scale
        self.wanted = [edge is not None for edge in entry.edges[:3]]

    def __call__(self, flows: Flows) -> Flows:
        """As every `Step`."""
        gradient = one(flows).tensor
        to_share = gradient @ self.value.mT
        to_share -= (to_share * self.share).sum(dim=-1, keepdim=True)
        scores = to_share.mul_(self.share)
        found = [
            scores @ self.key * self.scale, scores.mT @ self.query, self.share.mT @ gradient,
        ]  # fmt: skip
        return [Flow(t, True) if w else None for t, w in zip(found, self.wanted, strict=True)]
