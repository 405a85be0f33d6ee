"""A comparison as a figure and a page."""

from pathlib import Path

import numpy as np

from chiaroscuro.images import gray, to_uint8
from chiaroscuro.render import ComparisonSpec, Row, draw_comparison, smooth
from chiaroscuro.render.pictures import CLIP, difference
from chiaroscuro.report.explanation import (
    bars,
    color_limits,
    picture,
    rivals_text,
    smoothing_sigma,
)
from chiaroscuro.report.pages import data_uri, image_rows, method_text, plain, write_page
from chiaroscuro.results import FIGURE
from chiaroscuro.results.explanations import Comparison, Explanation, Pair


def write(comparison: Comparison, folder: Path) -> None:
    """Write the figure, the page, and each explanation in a folder of its own: 1, 2, ..."""
    spec = comparison_spec(comparison)
    draw_comparison(spec, folder / FIGURE)
    for place, explanation in enumerate(comparison.explanations, 1):
        explanation.save(folder / str(place))
    first = comparison.explanations[0]
    choices = first.choices
    write_page(
        folder,
        "comparison.html.j2",
        spec=spec,
        names=comparison.names,
        pairs=[(comparison.names[pair.other], pair.note) for pair in comparison.pairs if pair.note],
        figures=[
            (
                row,
                None if row.seen is None else data_uri(row.seen),
                [data_uri(values) for values in row.pictures],
            )
            for row in spec.rows
        ],
        details=[
            (detail, None if detail.picture is None else data_uri(detail.picture))
            for detail in comparison.details
        ],
        notes=[note for explanation in comparison.explanations for note in explanation.notes],
        rows=[
            *image_rows(first.image, first.crop),
            *((name, explanation.model.name)
              for name, explanation in zip(comparison.names, comparison.explanations, strict=True)),
            ("target", str(choices.target)),
            ("rivals", rivals_text(first)),
            ("score", choices.score),
            ("method", method_text(choices.method)),
            ("maps", plain(choices.maps)),
            ("fit", choices.fit),
            ("versions", plain(first.versions)),
        ],
    )  # fmt: skip


def comparison_spec(comparison: Comparison) -> ComparisonSpec:
    """The figure's contents: a row of maps a classifier, then a row of differences a pair."""
    first = comparison.explanations[0]
    sigmas = {f"{smoothing_sigma(explanation):.1f}" for explanation in comparison.explanations}
    rows = [
        _row(name, explanation)
        for name, explanation in zip(comparison.names, comparison.explanations, strict=True)
    ]
    rows += [_differences(comparison, pair) for pair in comparison.pairs if pair.maps]
    return ComparisonSpec(
        title=f"{Path(first.image.source).name}: why {first.target.label}, by classifier",
        subtitle=(
            f"compared with {rivals_text(first)} · {method_text(first.choices.method)} of the "
            f"{first.choices.score}"
        ),
        columns=tuple(first.maps),
        rows=rows,
        footer=(
            f"smoothed (Gaussian of {' or '.join(sorted(sigmas))} px), each map on its own scale, "
            f"clipped at its {100 * CLIP:.0f}th percentile · differences: each map divided by its "
            "root mean square; green: more in the second, purple: more in the first"
        ),
    )


def _row(name: str, explanation: Explanation) -> Row:
    limits, sigma = color_limits(explanation), smoothing_sigma(explanation)
    shade = gray(explanation.pixels)
    return Row(
        name,
        to_uint8(explanation.pixels),
        bars(explanation),
        [
            picture(key, smooth(values, sigma), limits[key][1], shade)
            for key, values in explanation.maps.items()
        ],
    )


def _differences(comparison: Comparison, pair: Pair) -> Row:
    sigma = smoothing_sigma(comparison.explanations[0])
    smoothed = [smooth(one.difference, sigma) for one in pair.maps.values()]
    return Row(
        f"{pair.other + 1} minus 1",
        None,
        (),
        [difference(values, float(np.quantile(np.abs(values), CLIP))) for values in smoothed],
        [
            f"rank correlation {one.correlation:.2f}, top tenth {100 * one.overlap:.0f} %"
            for one in pair.maps.values()
        ],
    )
