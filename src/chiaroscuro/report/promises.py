"""Which figures of an evaluation's what-ifs are drawn and listed together."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chiaroscuro.choices import RANDOM, WHAT_IF_TOLERANCE
from chiaroscuro.render import Curve, CurvePanel, CurveSpec
from chiaroscuro.report.charts import fill_title, images_text

Row = Mapping[str, Any]
_NEAR = f"{100 * WHAT_IF_TOLERANCE:.0f} %"
_CHARTS = {
    "direction": (
        "share moved as foretold",
        "Share of images whose target logit moves in the direction that first order foretells",
    ),
    "kept": (
        "share of promises kept",
        "Share of images whose target logit moves as foretold, and by an amount that differs "
        f"from the foretold one by at most {_NEAR} of it",
    ),
    "flipped": (
        "share of predictions flipped",
        "Share of images whose predicted class becomes another",
    ),
}
_SHARES = ("direction", "kept", "flipped", "flip_foretold")
_COLUMNS = {
    "direction": "as foretold",
    "kept": f"within {_NEAR}",
    "slope": "slope",
    "correlation": "correlation",
    "foretold": "foretold",
    "real": "real",
    "flipped": "flipped",
    "flip_foretold": "flips foretold",
}


def promise_charts(summary: Mapping[str, Any]) -> list[tuple[str, str, CurveSpec]]:
    """File name, caption and figure of every what-if chart; none for a run without what-ifs."""
    rows = summary.get("what_if", [])
    if not rows:
        return []
    data, choices = summary["data"], summary["choices"]
    sure = f"{100 * choices['confidence']:.0f} % intervals over images"
    share = f"{100 * choices['what_if']:g} %"
    charts = []
    for figure, (label, meaning) in _CHARTS.items():
        sheet = CurveSpec(
            title=f"{summary['model']['name']} on {data['source']}, {data['split']}",
            subtitle=f"what if the top {share} of a map's pixels change · "
            f"{images_text(data['images'])}",
            panels=[_panel(rows, fill, figure) for fill in choices["fills"]],
            x_label="part of the change made (%)",
            y_label=label,
        )
        caption = f"{meaning}, while a growing part of the change is made. Bands are {sure}."
        charts.append((f"what-if-{figure}", caption, sheet))
    return [chart for chart in charts if any(panel.curves for panel in chart[2].panels)]


def _panel(rows: Sequence[Row], fill: str, figure: str) -> CurvePanel:
    curves: dict[str, list[Row]] = {}
    for row in rows:
        if row["fill"] == fill and row[figure] is not None:
            curves.setdefault(row["map"], []).append(row)
    drawn = [
        Curve(
            name,
            [row["step"] for row in found],
            *([row[figure][end] for row in found] for end in ("value", "low", "high")),
        )
        for name, found in curves.items()
    ]
    return CurvePanel(fill_title(fill), drawn)


def promise_tables(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """One table a fill and step, the whole change first and open: a row a map, random last."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in summary.get("what_if", []):
        groups.setdefault((row["fill"], row["step"]), []).append(row)
    fills = list(dict.fromkeys(fill for fill, _ in groups))
    steps = sorted({step for _, step in groups}, reverse=True)
    return [
        {
            "title": f"{fill_title(fill)}, {_part(step)}",
            "open": step == steps[0],
            "columns": list(_COLUMNS.values()),
            "rows": [
                (row["map"], f"{row['images']:,}", [_cell(row, figure) for figure in _COLUMNS])
                for row in groups[fill, step]
            ],
        }
        for step in steps
        for fill in fills
    ]


def promise_sentences(summary: Mapping[str, Any]) -> Iterator[str]:
    """What was found of the whole change, a sentence a fill."""
    rows = summary.get("what_if", [])
    if not rows:
        return
    share = f"{100 * summary['choices']['what_if']:g} %"
    last = max(row["step"] for row in rows)
    for fill in summary["choices"]["fills"]:
        found = {
            row["map"]: row
            for row in rows
            if (row["fill"], row["step"]) == (fill, last) and row["direction"] is not None
        }
        if RANDOM not in found or len(found) == 1:
            continue
        best = max(
            (name for name in found if name != RANDOM),
            key=lambda name: float(found[name]["direction"]["value"]),
        )
        chance = _cell(found[RANDOM], "direction")
        yield (
            f"{fill_title(fill).capitalize()} of the top {share}: the target logit moves as "
            f"first order foretells most often by {best}, in {_cell(found[best], 'direction')} of "
            f"the images, by {_cell(found[best], 'slope')} of the foretold change; it flips "
            f"{_cell(found[best], 'flipped')} of the predictions. A random order: {chance}, flips "
            f"{_cell(found[RANDOM], 'flipped')}."
        )


def _part(step: float) -> str:
    return "the whole change" if step >= 1 else f"{100 * step:g} % of the change"


def _cell(row: Row, figure: str) -> str:
    """A figure with its interval: shares in percent, changes of logits with their sign."""
    found = row[figure]
    if found is None:
        return "none"
    if figure in _SHARES:
        value, low, high = (f"{100 * found[end]:.0f}" for end in ("value", "low", "high"))
        return f"{value} % [{low}, {high}]"
    sign = "+" if figure in ("foretold", "real") else ""
    value, low, high = (f"{found[end]:{sign}.2f}" for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
