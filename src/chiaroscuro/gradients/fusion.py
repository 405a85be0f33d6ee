"""Neighboring steps as one, where the first hands its gradient to the second alone."""

from collections import Counter
from collections.abc import Mapping, Sequence

from chiaroscuro.gradients.kernels import is_flexible
from chiaroscuro.gradients.layers import MaxPool
from chiaroscuro.gradients.phases import Phased
from chiaroscuro.gradients.steps import Convolve, Crop, Flows, Scale, Step
from chiaroscuro.gradients.tape import Shapes, Tape


def fused(
    steps: Sequence[Step], shapes: Sequence[Shapes], next_alone: Mapping[int, int]
) -> list[Step]:
    """The steps with normalizations and paddings moved into convolutions, and products joined.

    A step that was joined into a later one hands on what it is given.
    """
    made = list(steps)
    for place in range(len(made)):
        following = next_alone.get(place)
        if following is None:
            continue
        joined = _joined(made[place], made[following], len(shapes[following][0]))
        if joined is not None:
            made[place], made[following] = as_it_is, joined
    return made


def phased(steps: Sequence[Step], next_alone: Mapping[int, int]) -> list[Step]:
    """The steps with strided depthwise convolutions and what goes before them as one."""
    made = list(steps)
    for place in range(len(made)):
        chain = _chain(place, made, next_alone, _PHASED)
        joined = _phased([made[i] for i in chain]) if len(chain) == _PHASED else None
        if joined is not None:
            for i in chain:
                made[i] = as_it_is
            made[chain[-1]] = joined
    return made


_PHASED = 3


def pooled(
    steps: Sequence[Step], shapes: list[Shapes], next_alone: Mapping[int, int]
) -> list[Step]:
    """The steps with products before instead of behind the way through a maximum's window.

    Gradients reach the maxima alone: where those are fewer, there is less to multiply. `shapes`
    become those of what is under way in between.
    """
    made = list(steps)
    for place in range(len(made)):
        first, *others = _chain(place, made, next_alone, 2) or [place]
        last = others[0] if others else first
        pool, scale = made[first], made[last]
        if not (isinstance(pool, MaxPool) and isinstance(scale, Scale) and pool.thins_out):
            continue
        if scale.channels or scale.factor.shape[2:] != pool.size:
            continue
        # Zero times infinity is no number, which a maximum's window would pass over.
        if bool(scale.factor.isfinite().all()):
            made[first], made[last] = Scale(pool.chosen(scale.factor)), pool
            here = first
            while here != last:
                here = next_alone[here]
                shapes[here] = shapes[first]
    return made


def hand_offs(tape: Tape) -> dict[int, int]:
    """The steps that hand their gradient to one other step, which gets it from nobody else."""
    heads = [[edge.place for edge in entry.edges if edge is not None] for entry in tape.entries]
    into = Counter(place for places in heads for place in places)
    last = len(tape.entries) - 1
    return {
        i: places[0]
        for i, places in enumerate(heads)
        if len(places) == 1 and into[places[0]] == 1 and places[0] != last
    }


def _chain(
    place: int, steps: Sequence[Step], next_alone: Mapping[int, int], count: int
) -> list[int]:
    """The next steps that do something, up to `count`, each handing to the following alone."""
    found: list[int] = []
    here: int | None = place
    while here is not None and len(found) < count:
        if steps[here] is not as_it_is:
            found.append(here)
        elif not found:
            return []
        here = next_alone.get(here)
    return found


def as_it_is(flows: Flows) -> Flows:
    """The step of an operation whose work a later step does."""
    return flows


def _joined(step: Step, following: Step, ndim: int) -> Step | None:
    """Both in one step, or None."""
    if isinstance(step, Scale) and isinstance(following, Convolve) and _takes(following, step):
        return Convolve(following.conv.scaled(step.factor))
    if isinstance(step, Convolve) and isinstance(following, Scale) and _takes(step, following):
        return Convolve(step.conv.shaded(following.factor))
    if isinstance(step, Scale) and isinstance(following, Scale):
        if step.channels and following.channels:
            return Scale(step.factor * following.factor, channels=True)
        return Scale(step.spread(ndim) * following.spread(ndim))
    if isinstance(step, Convolve) and isinstance(following, Crop) and following.is_flat:
        cropped = step.conv.cropped(following.pad)
        return Convolve(cropped) if is_flexible(cropped) else None
    return None


def _takes(step: Convolve, scale: Scale) -> bool:
    """Whether a convolution's weights can hold the product, in their own number format."""
    return scale.channels and scale.factor.dtype == step.conv.weight.dtype


def _phased(steps: Sequence[Step]) -> Step | None:
    """A strided depthwise convolution, a product and a convolution of single pixels as one."""
    first, scale, last = steps
    if not (
        isinstance(first, Convolve) and isinstance(scale, Scale) and isinstance(last, Convolve)
    ):
        return None
    if scale.channels or not Phased.serves(first.conv, last.conv):
        return None
    return Phased(first.conv, scale.factor, last.conv)
