"""The tests of an explanation's maps in plain sentences, tables, and a picture of its regions."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import parse_fill
from chiaroscuro.images import gray
from chiaroscuro.render import pictures as draw
from chiaroscuro.render.pictures import Rgb
from chiaroscuro.render.shown import pictured
from chiaroscuro.results.explanations import (
    Evidence,
    Explanation,
    MapEvidence,
    RegionEvidence,
    Views,
)
from chiaroscuro.results.facts import Prediction

STABLE, MOVED = 0.8, 0.5
"""Rank correlations under noise from which a map is stable, and below which noise moves it."""
LISTED = 6
"""So many regions are listed that cost the class most, and half as many that it gains from."""
_SMALL, _LITTLE = 0.01, 0.1
"""A change below the first, or below this share of a probability, is no cost worth a name."""
PLACES = (
    "in the upper left", "at the top", "in the upper right", "at the left", "in the middle",
    "at the right", "in the lower left", "at the bottom", "in the lower right",
)  # fmt: skip
"""The ninths of a picture, row by row."""
_DOES = {"black": "Blackening", "white": "Whitening", "blur": "Blurring"}


def points(change: float) -> str:
    """A change of a probability in points, without its sign."""
    size = 100 * abs(change)
    return f"{size:.0f}" if size >= 9.95 else f"{size:.1f}"


def _name(one: Prediction) -> str:
    """The first of a class's names."""
    return one.label.split(",")[0]


def place_of(row: float, column: float) -> str:
    """Where a point lies, given as shares of height and width."""
    return PLACES[3 * min(int(3 * row), 2) + min(int(3 * column), 2)]


def found(explanation: Explanation) -> list[str]:
    """The region that matters most, and how far the maps can be believed."""
    evidence = explanation.evidence
    if evidence is None:
        return []
    return [_first_region(explanation, evidence), *_all_maps(evidence)]


def _first_region(explanation: Explanation, evidence: Evidence) -> str:
    label, top, count = _name(explanation.target), evidence.regions[0], len(evidence.regions)
    does, area = _does(evidence.change), f"{100 * top.area:.1f} % of the picture,"
    if -top.change < max(_SMALL, _LITTLE * explanation.target.probability):
        most = f"costs {label} {points(max(-top.change, 0))} points at most"
        return f"No region decides alone: {does.lower()} any one of {count} {most}."
    gains = f"; {_name(top.winner)} gains {points(top.gain)}" if top.winner else ""
    costs = f"costs {label} {points(top.change)} points, the most of {count} regions{gains}"
    return f"{does} one region{_where(evidence, top)}, {area} {costs}."


def _all_maps(evidence: Evidence) -> list[str]:
    tested = [one for one in evidence.maps.values() if not one.constant]
    if not tested:
        return []
    fine = [one.stability.pixels for one in tested]
    soft = [one.stability.smoothed for one in tested]
    if min(fine) >= STABLE:
        return [f"The maps are stable under a little noise, pixel by pixel ({_range(fine)})."]
    words = "mean little: a little noise moves them" if max(fine) < STABLE else "differ"
    rest = "are stable" if min(soft) >= STABLE else "are steadier" if min(soft) > max(fine) else ""
    end = f"; the smoothed maps {rest} ({_range(soft)})" if rest else ""
    return [f"Single pixels of the maps {words} (rank correlation {_range(fine)}){end}."]


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def sentence(explanation: Explanation, name: str) -> str:
    """What to conclude of one map, "" where it was not tested."""
    evidence = explanation.evidence
    if evidence is None or name not in evidence.maps:
        return ""
    one = evidence.maps[name]
    if one.constant:
        return "It has one value everywhere: it orders no pixels."
    said = f"{_under_noise(one.stability)}. {_cost(explanation, evidence, one)}"
    return f"{said}{_rank(one, evidence.networks)}"


def _rank(one: MapEvidence, networks: int) -> str:
    """Where networks with random weights were tried, how its cost compares with their maps'."""
    if one.rank is None:
        return ""
    as_much = one.rank - 1
    count = f"{as_much} of {networks}" if as_much else f"none of {networks}"
    return f" With random weights {count} networks give a map that costs as much."


def _under_noise(stability: Views) -> str:
    fine, soft = stability.pixels, stability.smoothed
    if fine >= STABLE:
        return f"Single pixels are stable under noise ({fine:.2f})"
    if fine >= MOVED:
        said = f"Noise moves some of its single pixels ({fine:.2f})"
    else:
        said = f"Single pixels mean little here: noise moves them ({fine:.2f})"
    how = "is stable" if soft >= STABLE else "is steadier" if soft >= MOVED else "moves too"
    return f"{said}; the smoothed map {how} ({soft:.2f})"


def _cost(explanation: Explanation, evidence: Evidence, one: MapEvidence) -> str:
    share = f"{100 * evidence.share:g} %"
    orders = [drawn.pixels for drawn in evidence.random[one.fill]]
    lost, usual, label = one.drop.pixels, float(np.mean(orders)), _name(explanation.target)
    verb = "costs" if lost >= 0 else "adds"
    said = f"{_does(one.fill)} its top {share} {verb} {label} {points(lost)} points"
    if lost <= max(orders):
        return f"{said}, no more than a random {share} may cost ({_lost(max(orders))})."
    return f"{said}, a random {share} {'costs' if usual >= 0 else 'adds'} {points(usual)}."


def _does(fill: str) -> str:
    return _DOES.get(parse_fill(fill).name, "Changing")


def map_rows(explanation: Explanation) -> Iterator[tuple[str, str, list[str]]]:
    """Of each tested map its name, its sentence and its figures in the order of `MAP_COLUMNS`."""
    if (evidence := explanation.evidence) is None:
        return
    for name, one in evidence.maps.items():
        orders = evidence.random[one.fill]
        fine, soft = [drawn.pixels for drawn in orders], [drawn.smoothed for drawn in orders]
        costs = one.drop.pixels, float(np.mean(fine)), one.drop.smoothed, float(np.mean(soft))
        figures = [f"{one.stability.pixels:.2f}", f"{one.stability.smoothed:.2f}"]
        figures += [*map(_lost, costs), _step(one.linear_step), f"{100 * one.half.pixels:.1f} %"]
        yield name, sentence(explanation, name), figures


MAP_COLUMNS = (
    "stability, pixels", "stability, smoothed", "top pixels cost", "random pixels cost",
    "top smoothed cost", "random patches cost", "linear up to", "half lies on",
)  # fmt: skip
"""The figures of a map: costs in points of the target's probability."""


def _lost(drop: float) -> str:
    return points(drop) if drop >= 0 else f"\N{MINUS SIGN}{points(drop)}"


def _step(step: float) -> str:
    return "0" if step == 0 else "1" if step == 1 else f"1/{round(1 / step)}"


def _signed(number: str) -> str:
    return number.replace("-", "\N{MINUS SIGN}")


REGION_COLUMNS = ("where", "of the picture", "points", "logit", "predicted", "gains most")


def region_rows(explanation: Explanation) -> Iterator[tuple[int, list[str], float, float]]:
    """The regions that cost the class most, and those whose change it gains most from.

    Each with its place in the order of what it costs, the figures of `REGION_COLUMNS`, and the
    point x, y where it is marked, as shares of width and height.
    """
    if (evidence := explanation.evidence) is None:
        return
    every = list(enumerate(evidence.regions, 1))
    gained = [(n, one) for n, one in every[LISTED:] if one.change > _SMALL]
    for number, one in every[:LISTED] + gained[-LISTED // 2 :]:
        y, x = _middle(evidence, one)
        changes = [f"{'-' if one.change < 0 else '+'}{points(one.change)}"]
        changes += [f"{one.actual:+.2f}", f"{one.predicted:+.2f}"]
        winner = f"{_name(one.winner)} +{points(one.gain)}" if one.winner else ""
        figures = [_where(evidence, one).strip(), f"{100 * one.area:.1f} %"]
        figures += [*map(_signed, changes), "" if winner.endswith("+0.0") else winner]
        yield number, figures, x, y


def region_values(evidence: Evidence) -> NDArray[np.float64]:
    """What changing the region of each pixel costs the target's probability."""
    costs = np.zeros(max(one.unit for one in evidence.regions) + 1)
    for one in evidence.regions:
        costs[one.unit] = -one.change
    return np.where(evidence.units < 0, 0.0, costs[evidence.units])


def region_peak(explanation: Explanation) -> float:
    """The change of the probability that has the full color: the largest one, if it is not little.

    Else a tenth of the probability, so that regions that hardly matter look pale.
    """
    assert explanation.evidence is not None
    changes = [abs(one.change) for one in explanation.evidence.regions]
    return max(*changes, _SMALL, _LITTLE * explanation.target.probability)


def region_picture(explanation: Explanation) -> Rgb:
    """The regions over the gray photo: green where changing one costs the class, purple else."""
    drawn = pictured(explanation)
    assert drawn.evidence is not None
    values, ids = region_values(drawn.evidence), drawn.evidence.units
    hues = draw.HUES["supports"], draw.HUES["opposes"]
    picture = draw.overlay(values, region_peak(explanation), gray(drawn.pixels), *hues)
    edge = np.zeros(ids.shape, bool)
    edge[:-1] |= ids[:-1] != ids[1:]
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    picture[edge] = picture[edge] // 2
    return picture


def agreement(evidence: Evidence) -> str:
    """How far the linear prediction orders the regions as the network does."""
    value = evidence.agreement
    how = "well" if value >= STABLE else "in part" if value >= MOVED else "badly"
    return f"The gradient predicts their order {how}: rank correlation {value:.2f}"


def says(explanation: Explanation, one: RegionEvidence) -> str:
    """A region in one sentence, for the pointer of the viewer."""
    evidence, label = explanation.evidence, _name(explanation.target)
    assert evidence is not None
    verb = "costs" if one.change <= 0 else "adds"
    gains = f"; {_name(one.winner)} gains {points(one.gain)}" if one.winner else ""
    change = f"{_does(evidence.change)} this region {verb} {label} {points(one.change)} points"
    logit = _signed(f"logit {one.actual:+.2f}, predicted {one.predicted:+.2f}")
    return f"{change}{gains}; {logit}"


def _middle(evidence: Evidence, one: RegionEvidence) -> tuple[float, float]:
    """The pixel of a region that is nearest to its middle, as shares of height and width."""
    places = np.argwhere(evidence.units == one.unit)
    gaps = ((places - places.mean(axis=0)) ** 2).sum(axis=1)
    y, x = (places[int(gaps.argmin())][-2:] + 0.5) / evidence.units.shape[-2:]
    return float(y), float(x)


def _where(evidence: Evidence, one: RegionEvidence) -> str:
    return "" if evidence.units.ndim == 3 else f" {place_of(*_middle(evidence, one))}"
