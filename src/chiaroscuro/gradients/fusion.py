"""Neighbouring steps as one, where the first hands its gradient to the second alone."""

from collections import Counter

from chiaroscuro.gradients.convolution import is_flexible
from chiaroscuro.gradients.steps import Convolve, Crop, Flows, Scale, Step
from chiaroscuro.gradients.tape import Tape


def fused(steps: list[Step], tape: Tape) -> list[Step]:
    """The steps with normalisations and paddings moved into convolutions, and products joined."""
    made = list(steps)
    arrivals = Counter(edge for entry in tape.entries for edge in entry.edges if edge is not None)
    into = Counter(edge.place for edge in arrivals.elements())
    for place in range(len(made) - 1):
        edges = [edge for edge in tape.entries[place].edges if edge is not None]
        if len(edges) != 1 or into[edges[0].place] != 1 or edges[0].place == len(made):
            continue
        following = edges[0].place
        joined = _joined(made[place], made[following], len(tape.entries[following].shapes[0]))
        if joined is not None:
            made[place], made[following] = _as_it_is, joined
    return made


def _as_it_is(flows: Flows) -> Flows:
    return flows


def _joined(step: Step, following: Step, ndim: int) -> Step | None:
    """Both in one step, or None."""
    if isinstance(step, Scale) and isinstance(following, Convolve) and step.channels:
        return Convolve(following.conv.scaled(step.factor))
    if isinstance(step, Scale) and isinstance(following, Scale):
        if step.channels and following.channels:
            return Scale(step.factor * following.factor, channels=True)
        return Scale(step.spread(ndim) * following.spread(ndim))
    if isinstance(step, Convolve) and isinstance(following, Crop) and following.is_flat:
        cropped = step.conv.cropped(following.pad)
        return Convolve(cropped) if is_flexible(cropped) else None
    return None
