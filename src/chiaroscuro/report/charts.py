"""Which curves of an evaluation are drawn together."""

from collections.abc import Callable

from chiaroscuro.choices import EDIT_MAPS, RANDOM, parse_fill
from chiaroscuro.render import Curve, CurvePanel, CurveSpec
from chiaroscuro.report.runs import Chart, confidence_text, images_text
from chiaroscuro.results.measurements import Curve as Row
from chiaroscuro.results.measurements import Evaluation

NATURAL = {
    "black": ("original", "positive", "active"),
    "white": ("original", "negative", "inactive"),
}
"""The maps that the paper judges by each fill."""
_PROTOCOLS = {
    "paper": "as published: pixels above the map's threshold, never its zeros",
    "matched": "the same number of pixels for every map, ties in random order",
}


def evaluation_charts(result: Evaluation) -> list[Chart]:
    """Every chart of an evaluation's curves.

    One figure per protocol with the paper's maps (all, where the fill has none of its own), and one
    with the crossed maps and the inverted orders; a figure without curves is left out.
    """
    sure = f"{confidence_text(result)} intervals over images"
    charts = []
    for protocol in result.settings.protocols:
        caption = (
            "Share of images whose predicted class is kept while a map's highest pixels are "
            f"changed; {_PROTOCOLS[protocol]}. Lower is better; bands are {sure}."
        )
        sheet = _sheet(result, protocol, "", lambda row: is_natural(row.map, row.fill))
        charts.append((f"curves-{protocol}", caption, sheet))
        caption = (
            f"Crossed and inverted, {protocol} protocol: the other fill's maps and, where the "
            "counts are matched, every map from its lowest pixel on: the sign taken the wrong way "
            f"round. A map below the random order knows something. Bands are {sure}; inverted "
            "orders have none."
        )
        sheet = _sheet(result, protocol, ", crossed and inverted", _is_crossed)
        charts.append((f"curves-{protocol}-crossed", caption, sheet))
    return [chart for chart in charts if chart[2].panels]


def is_natural(name: str, fill: str) -> bool:
    """Whether a fill is the one that a map is judged by.

    A random order goes with every fill, and an edit map is computed for it.
    """
    if name == RANDOM or name in EDIT_MAPS:
        return True
    return name in NATURAL[fill] if fill in NATURAL else ":" not in name


def fill_title(fill: str) -> str:
    """What happens to the pixels, in words that suit a heading.

    >>> fill_title("black"), fill_title("brighter:0.1")
    ('black-deletion', 'pixels brighter by 0.1')
    """
    parsed = parse_fill(fill)
    if parsed.name in ("brighter", "darker"):
        return f"pixels {parsed.name} by {parsed.amount:g}"
    return f"{fill}-deletion"


def _is_crossed(row: Row) -> bool:
    return row.map == RANDOM or not is_natural(row.map, row.fill)


def _sheet(
    result: Evaluation, protocol: str, which: str, wanted: Callable[[Row], bool]
) -> CurveSpec:
    panels = [_panel(result, protocol, fill, wanted) for fill in result.settings.fills]
    return CurveSpec(
        title=f"{result.model.name} on {result.data.name}",
        subtitle=(
            f"{protocol} protocol{which}: {_PROTOCOLS[protocol]} · "
            f"{images_text(result.data.images)}"
        ),
        panels=[panel for panel in panels if panel.curves],
        x_label="pixels deleted (%)",
        y_label="share of predictions kept",
    )


def _panel(
    result: Evaluation, protocol: str, fill: str, wanted: Callable[[Row], bool]
) -> CurvePanel:
    fractions = result.settings.fractions
    # Inverted orders go without bands: there are as many as maps, and they are controls.
    drawn = [
        Curve(row.map, fractions, row.allegiance.mean)
        if row.map.startswith("inverted:")
        else Curve(row.map, fractions, row.allegiance.mean, row.allegiance.low, row.allegiance.high)
        for row in result.curves
        if (row.protocol, row.fill) == (protocol, fill) and wanted(row)
    ]
    alone = all(curve.name == RANDOM for curve in drawn)
    return CurvePanel(fill_title(fill), [] if alone else drawn)
