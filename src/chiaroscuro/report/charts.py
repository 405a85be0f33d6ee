"""Which curves of an evaluation are drawn together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chiaroscuro.choices import EDIT_MAPS, parse_fill
from chiaroscuro.render import Curve, CurvePanel, CurveSpec

NATURAL = {
    "black": ("original", "positive", "active"),
    "white": ("original", "negative", "inactive"),
}
"""The maps that the paper judges by each fill."""
_RANDOM = "random"
_PROTOCOLS = {
    "paper": "as published: pixels above the map's threshold, never its zeros",
    "matched": "the same number of pixels for every map, ties in random order",
}

Row = Mapping[str, Any]


def evaluation_charts(summary: Mapping[str, Any]) -> list[tuple[str, str, CurveSpec]]:
    """File name, caption and figure of every chart that a summary gives.

    One figure a protocol with the paper's maps (all, where the fill has none of its own), and one
    with the crossed maps and the inverted orders; a figure without curves is left out.
    """
    sure = f"{100 * summary['choices']['confidence']:.0f} % intervals over images"
    charts = []
    for protocol in summary["choices"]["protocols"]:
        caption = (
            "Share of images whose predicted class is kept while a map's highest pixels are "
            f"changed; {_PROTOCOLS[protocol]}. Lower is better; bands are {sure}."
        )
        charts.append((protocol, caption, _sheet(summary, protocol, "", _is_own)))
        caption = (
            f"Crossed and inverted, {protocol} protocol: the other fill's maps and, where the "
            "counts are matched, every map from its lowest pixel on; what happens when the sign is "
            "taken the wrong way round. The random order is the line between knowing and not "
            f"knowing. Bands are {sure}; inverted orders have none."
        )
        sheet = _sheet(summary, protocol, ", crossed and inverted", _is_crossed)
        charts.append((f"{protocol}-crossed", caption, sheet))
    return [chart for chart in charts if chart[2].panels]


def is_natural(name: str, fill: str) -> bool:
    """Whether a fill is the one that a map is judged by.

    A random order goes with every fill, and an edit map is made for it.
    """
    if name == _RANDOM or name in EDIT_MAPS:
        return True
    return name in NATURAL[fill] if fill in NATURAL else ":" not in name


def fill_title(fill: str) -> str:
    """What is done to the pixels, in words that suit a heading.

    >>> fill_title("black"), fill_title("brighter:0.1")
    ('black-deletion', 'pixels brighter by 0.1')
    """
    found = parse_fill(fill)
    if found.name in ("brighter", "darker"):
        return f"pixels {found.name} by {found.amount:g}"
    return f"{fill}-deletion"


def images_text(count: int) -> str:
    """A number of images in words: 1 image, 1,000 images."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def _is_own(row: Row) -> bool:
    return is_natural(row["map"], row["fill"])


def _is_crossed(row: Row) -> bool:
    return row["map"] == _RANDOM or not is_natural(row["map"], row["fill"])


def _sheet(
    summary: Mapping[str, Any], protocol: str, which: str, wanted: Callable[[Row], bool]
) -> CurveSpec:
    data, choices = summary["data"], summary["choices"]
    panels = [
        panel
        for fill in choices["fills"]
        if (panel := _panel(summary["curves"], protocol, fill, choices["fractions"], wanted)).curves
    ]
    return CurveSpec(
        title=f"{summary['model']['name']} on {data['source']}, {data['split']}",
        subtitle=(
            f"{protocol} protocol{which}: {_PROTOCOLS[protocol]} · {images_text(data['images'])}"
        ),
        panels=panels,
        x_label="pixels deleted (%)",
        y_label="share of predictions kept",
    )


def _panel(
    curves: Sequence[Row],
    protocol: str,
    fill: str,
    fractions: Sequence[float],
    wanted: Callable[[Row], bool],
) -> CurvePanel:
    # Inverted orders go without bands: there are as many as maps, and they are controls.
    drawn = [
        Curve(row["map"], fractions, row["allegiance"]["mean"])
        if row["map"].startswith("inverted:")
        else Curve(row["map"], fractions, *(row["allegiance"][e] for e in ("mean", "low", "high")))
        for row in curves
        if (row["protocol"], row["fill"]) == (protocol, fill) and wanted(row)
    ]
    alone = all(curve.name == _RANDOM for curve in drawn)
    return CurvePanel(fill_title(fill), [] if alone else drawn)
