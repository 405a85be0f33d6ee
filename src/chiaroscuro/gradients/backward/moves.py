"""Elements picked by indices or repeated, and operations without a rule that only move elements."""

from collections.abc import Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from chiaroscuro.gradients.backward.steps import Linear, Rule, Step, Work
from chiaroscuro.gradients.backward.tape import Entry, signed

_ROUNDING = 8
"""Two ways to compute one product differ by no more than so many units in the last place."""


def _index(entry: Entry) -> Step:
    """Each output is one of the input's elements, which may be in several."""
    shape, device = entry.input_shape(), entry.outputs[0].device
    places = torch.arange(shape.numel(), device=device).view(shape)
    indices = entry.saved("indices")
    places = places[tuple(slice(None) if i is None else i for i in indices)].flatten()

    def back(gradient: Tensor) -> Tensor:
        count = len(gradient)
        whole = gradient.new_zeros(count, shape.numel())
        whole.scatter_add_(1, places.expand(count, -1), gradient.reshape(count, -1))
        return whole.view(count, *shape)

    return Linear(back)


def _repeat(entry: Entry) -> Step:
    """The sum over the copies."""
    repeats, shape = [signed(n) for n in entry.saved("repeats")], entry.input_shape()
    once = [*[1] * (len(repeats) - len(shape)), *shape]
    pairs, copies = [*chain(*zip(repeats, once, strict=True))], [*range(1, 2 * len(once), 2)]

    def back(gradient: Tensor) -> Tensor:
        summed = gradient.reshape(len(gradient), *pairs).sum(copies)
        return summed.reshape(len(gradient), *shape)

    return Linear(back)


MOVES: dict[str, Rule] = {"IndexBackward0": _index, "RepeatBackward0": _repeat}
"""By autograd's name of the operation."""


def one_way(entry: Entry) -> Step | None:
    """The step where each element of an input goes into one of the output at most, times a number.

    Which one and what number is read off the operation's own backward pass, of ones and of
    coordinates; random numbers tell whether it does anything else.
    """
    (shape, dtype, device), *others = entry.outputs
    dtypes = {dtype, *(about.dtype for about in entry.inputs if about is not None)}
    is_precise = len(dtypes) == 1 and dtype in (torch.float32, torch.float64)
    is_single = not any(about.dtype.is_floating_point for about in others)
    if entry.is_custom or not is_precise or not is_single or not shape or 0 in shape:
        return None

    def backward(gradient: Tensor) -> list[Tensor]:
        results = entry.backward([gradient.to(dtype).contiguous(), *[None] * len(others)])
        return [result.detach() for result in results if result is not None]

    generator = torch.Generator(device).manual_seed(0)
    values = torch.randn(shape, dtype=dtype, device=device, generator=generator)
    factors, products = backward(torch.ones_like(values)), backward(values)
    limits = [factor.abs() * values.abs().max() for factor in factors]
    if len(factors) != len(entry.edges) - entry.edges.count(None) or not all(
        _is_close(product.abs().maximum(limit), limit)
        for product, limit in zip(products, limits, strict=True)
    ):
        return None  # something has no gradient, or gradients are added up
    lines: list[list[Tensor]] = []
    works: list[Work | None] = []
    for i, (factor, product) in enumerate(zip(factors, products, strict=True)):
        work = partial(_taken, factor.shape, factor if (factor != 1).any() else None)
        if factor.numel() != values.numel() or not _is_close(work(values[None])[0], product):
            axes = [torch.arange(n, device=device) for n in shape]
            lines = lines or [backward(line) for line in torch.meshgrid(*axes, indexing="ij")]
            work = partial(work, source=_source(factor, [line[i] for line in lines], shape))
            if not _is_close(work(values[None])[0], product):
                return None
        works.append(work if factor.any() or not any(map(torch.any, factors)) else None)
    rest = iter(works)
    return Linear(*(edge and next(rest) for edge in entry.edges), gives="either")


def _source(factor: Tensor, products: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Where each element of an input goes, by its number times the coordinates of that place."""
    source = torch.zeros_like(factor, dtype=torch.long)
    for count, product in zip(shape, products, strict=True):
        place = torch.where(factor == 0, 0, product / factor).round().clamp(0, count - 1)
        source = source * count + place.long()
    return source.flatten()


def _taken(
    shape: Sequence[int], factor: Tensor | None, gradient: Tensor, source: Tensor | None = None
) -> Tensor:
    """A gradient's elements from these places, or in their order, times numbers."""
    count = len(gradient)
    if source is not None:
        gradient = gradient.reshape(count, -1).index_select(1, source)
    gradient = gradient.reshape(count, *shape)
    return gradient if factor is None else gradient * factor


def _is_close(found: Tensor, wanted: Tensor) -> bool:
    numbers = torch.finfo(wanted.dtype)
    allowed = wanted.abs() * (_ROUNDING * numbers.eps) + numbers.tiny
    return bool(((found - wanted).abs() <= allowed).all())
