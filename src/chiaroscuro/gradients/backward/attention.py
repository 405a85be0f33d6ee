"""Attention and softmax for many classes at once: weights of one forward pass, used for all."""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from chiaroscuro.gradients.backward.steps import Cotangent, Cotangents, one
from chiaroscuro.matmul import are_large, from_left, from_right, rounded


class Attention:
    """Y = P v with P = softmax(q k' + mask), q scaled; P is computed once for all classes.

    With g the gradient of y: gv = P' g, gs = P (g v' - sum of g y), gq = gs k, gk = gs' q.
    `wanted`: of which of q, k and v the gradients are needed.
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scale: float,
        wanted: Sequence[bool],
    ) -> None:
        self.lead, self.wanted = query.shape[:-2], wanted
        query = query * scale
        scores = query @ key.mT
        if mask is None:
            share = scores.softmax(dim=-1)
        else:  # queries that see no key have no weights
            share = torch.ops.aten._safe_softmax(scores + mask, -1)
        parts = (query, key * scale, value, share, share @ value)
        self.query, self.key, self.value, self.share, self.output = (
            part.reshape(-1, *part.shape[-2:]).contiguous() for part in parts
        )
        self.query, self.key, self.value = map(rounded, (self.query, self.key, self.value))
        self.kept: Tensor | None = None

    def of_queries(self, kept: Tensor) -> "Attention":
        """The same where no other queries than these have a gradient."""
        part = copy(self)
        part.kept = kept
        part.share, part.output = (t.index_select(1, kept) for t in (self.share, self.output))
        return part

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        gradient = one(cotangents).tensor
        gradient = gradient.flatten(1, gradient.ndim - 3)
        heads = len(self.share)
        # One large head at a time stays in the cache.
        span = 1 if are_large(self.share, self.value) else heads
        parts = [
            self._back(gradient[:, i : i + span], slice(i, i + span)) for i in range(0, heads, span)
        ]
        results: list[Cotangent | None] = []
        for wanted, tensors in zip(self.wanted, zip(*parts, strict=True), strict=True):
            whole = torch.cat(tensors, dim=1) if len(tensors) > 1 else tensors[0]
            results.append(Cotangent(whole.unflatten(1, self.lead), True) if wanted else None)
        return results

    def _back(self, gradient: Tensor, heads: slice) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of q, k and v of some heads."""
        query, key, value, share = (
            each[heads] for each in (self.query, self.key, self.value, self.share)
        )
        gradient = gradient.transpose(0, 1).contiguous().transpose(0, 1)
        low = gradient.to(value.dtype)  # factors of products may be rounded, all else is not
        to_scores = from_right(low, value.mT).to(gradient.dtype)
        to_scores -= (gradient * self.output[heads]).sum(dim=-1, keepdim=True)
        to_scores = to_scores.mul_(share).to(value.dtype)
        to_query = from_right(to_scores, key)
        if self.kept is not None:
            some, to_query = to_query, to_query.new_zeros(len(gradient), *query.shape)
            to_query.index_copy_(2, self.kept, some)
            query = query.index_select(1, self.kept)
        return to_query, from_left(query, to_scores).mT, from_left(share.to(low.dtype), low)


class Softmax:
    """With p = softmax(x) along an axis and g the gradient of p: p (g - sum of g p)."""

    def __init__(self, share: Tensor, axis: int) -> None:
        self.share, self.axis = share, axis

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        gradient, owned = one(cotangents)
        weighted = gradient.mul_(self.share) if owned else gradient * self.share
        total = weighted.sum(self.axis + 1, keepdim=True)
        return [Cotangent(weighted.addcmul_(self.share, total, value=-1), True)]
