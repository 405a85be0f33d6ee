"""A comparison as pictures and rows, ready to be drawn or laid out."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import MAPS
from chiaroscuro.comparisons.comparison import Comparison, Pair
from chiaroscuro.explanations import Explanation
from chiaroscuro.explanations.sheet import CLIP, color_limits, smoothing_sigma
from chiaroscuro.images import gray, to_uint8
from chiaroscuro.render import Bar, one_sided, overlay, smooth
from chiaroscuro.render.colors import Rgb, difference
from chiaroscuro.render.sides import Side, SidesSheet


def make_sheet(comparison: Comparison) -> SidesSheet:
    """The figure's contents: a row of maps a classifier, then a row of differences a pair."""
    first = comparison.explanations[0]
    sigmas = {f"{smoothing_sigma(e):.1f}" for e in comparison.explanations}
    rows = [
        _side(name, made)
        for name, made in zip(comparison.names, comparison.explanations, strict=True)
    ]
    rows += [_differences(comparison, pair) for pair in comparison.pairs if pair.maps]
    return SidesSheet(
        title=f"{Path(first.image.source).name}: why {first.target.label}, by whom?",
        subtitle=(
            f"compared with rivals {first.choices['rivals']} · {first.choices['method']} of the "
            f"{first.choices['score']}"
        ),
        columns=tuple(first.maps),
        rows=rows,
        footer=(
            f"smoothed (Gaussian of {' or '.join(sorted(sigmas))} px), each map on its own scale, "
            f"clipped at its {100 * CLIP:.0f}th percentile · differences: each map divided by its "
            "root mean square; green: more in the second, purple: more in the first"
        ),
    )


def _side(name: str, made: Explanation) -> Side:
    limits, sigma, shade = color_limits(made), smoothing_sigma(made), gray(made.pixels)
    pictures = []
    for key, values in made.maps.items():
        soft, limit = smooth(values, sigma), limits[key][1]
        signed = MAPS[key].kind == "signed"
        pictures.append(
            overlay(soft, limit, shade) if signed else one_sided(soft, limit, MAPS[key].helps)
        )
    bars = [Bar(p.label, p.probability, p.index == made.target.index) for p in made.predictions]
    if not any(bar.explained for bar in bars):
        bars.append(Bar(made.target.label, made.target.probability, True))
    return Side(name, to_uint8(made.pixels), bars, pictures)


def _differences(comparison: Comparison, pair: Pair) -> Side:
    sigma = smoothing_sigma(comparison.explanations[0])
    notes = [f"rank correlation {m.correlation:.2f}, top tenth {100 * m.overlap:.0f} %"
             for m in pair.maps.values()]  # fmt: skip
    return Side(
        f"{pair.other + 1} minus 1",
        None,
        (),
        [_difference(smooth(m.difference, sigma)) for m in pair.maps.values()],
        notes,
    )


def _difference(values: NDArray[np.float64]) -> Rgb:
    return difference(values, float(np.quantile(np.abs(values), CLIP)))
