"""What an evaluation says of the linear prediction: charts, tables and sentences of what-ifs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chiaroscuro.choices import RANDOM, WHAT_IF_TOLERANCE
from chiaroscuro.render import Curve, CurvePanel, CurveSpec
from chiaroscuro.report.charts import fill_title
from chiaroscuro.report.runs import Chart, confidence_text, images_text, interval_text
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Evaluation, WhatIfRow

_NEAR = f"{100 * WHAT_IF_TOLERANCE:.0f} %"
_CHARTS = {
    "direction": (
        "share with predicted direction",
        "Share of images whose target logit moves in the predicted direction",
    ),
    "tolerated": (
        "share within tolerance",
        "Share of images whose target logit moves in the predicted direction, by an amount that "
        f"differs from the predicted one by at most {_NEAR} of it",
    ),
    "flips": (
        "share of predictions flipped",
        "Share of images whose predicted class changes",
    ),
}
_SHARES = ("direction", "tolerated", "flips", "predicted_flips")
_COLUMNS = {
    "direction": "predicted direction",
    "tolerated": f"within {_NEAR}",
    "slope": "slope",
    "correlation": "correlation",
    "predicted": "predicted",
    "actual": "actual",
    "flips": "flips",
    "predicted_flips": "predicted flips",
}


@dataclass(frozen=True, slots=True)
class StepTable:
    """One fill and step: a row per map with the number of images and the figures as texts."""

    title: str
    is_open: bool
    rows: Sequence[tuple[str, str, Sequence[str]]]
    columns: Sequence[str] = tuple(_COLUMNS.values())


def linearity_charts(result: Evaluation) -> list[Chart]:
    """Every what-if chart; none for a run without what-ifs."""
    if not result.what_if:
        return []
    sure = f"{confidence_text(result)} intervals over images"
    charts = []
    for figure, (label, meaning) in _CHARTS.items():
        sheet = CurveSpec(
            title=f"{result.model.name} on {result.data.name}",
            subtitle=f"what if the top {_share(result)} of a map's pixels change · "
            f"{images_text(result.data.images)}",
            panels=[_panel(result.what_if, fill, figure) for fill in result.settings.fills],
            x_label="part of the change (%)",
            y_label=label,
        )
        caption = f"{meaning}, for a growing part of the change. Bands are {sure}."
        charts.append((f"curves-what-if-{figure}", caption, sheet))
    return [chart for chart in charts if any(panel.curves for panel in chart[2].panels)]


def _panel(rows: Sequence[WhatIfRow], fill: str, figure: str) -> CurvePanel:
    points: dict[str, list[tuple[float, Interval]]] = {}
    for row in rows:
        interval = _figure(row, figure)
        if row.fill == fill and interval is not None:
            points.setdefault(row.map, []).append((row.step, interval))
    curves = []
    for name, steps in points.items():
        ends = [
            [getattr(interval, end) for _, interval in steps] for end in ("value", "low", "high")
        ]
        curves.append(Curve(name, [step for step, _ in steps], *ends))
    return CurvePanel(fill_title(fill), curves)


def _figure(row: WhatIfRow, figure: str) -> Interval | None:
    interval: Interval | None = getattr(row, figure)
    return interval


def linearity_tables(result: Evaluation) -> list[StepTable]:
    """One table per fill and step, the whole change first and open: a row per map, random last."""
    groups: dict[tuple[str, float], list[WhatIfRow]] = {}
    for row in result.what_if:
        groups.setdefault((row.fill, row.step), []).append(row)
    steps = sorted({step for _, step in groups}, reverse=True)
    return [
        StepTable(
            title=f"{fill_title(fill)}, {_part(step)}",
            is_open=step == steps[0],
            rows=[
                (row.map, f"{row.images:,}", [_cell(row, figure) for figure in _COLUMNS])
                for row in groups[fill, step]
            ],
        )
        for step in steps
        for fill in dict.fromkeys(fill for fill, _ in groups)
    ]


def linearity_sentences(result: Evaluation) -> Iterator[str]:
    """How well the whole change is predicted, a sentence per fill."""
    last = max((row.step for row in result.what_if), default=1)
    for fill in result.settings.fills:
        rows = {
            row.map: (row.direction.value, row)
            for row in result.what_if
            if (row.fill, row.step) == (fill, last) and row.direction is not None
        }
        if RANDOM not in rows or len(rows) == 1:
            continue
        chance = rows.pop(RANDOM)[1]
        best = max(rows.values(), key=lambda pair: pair[0])[1]
        yield (
            f"{fill_title(fill).capitalize()} of the top {_share(result)}: the target logit moves "
            f"in the predicted direction most often with {best.map}, in "
            f"{_cell(best, 'direction')} of the images, by {_cell(best, 'slope')} of the predicted "
            f"change; {_cell(best, 'flips')} of the predictions flip. A random order: "
            f"{_cell(chance, 'direction')}, {_cell(chance, 'flips')} flip."
        )


def _share(result: Evaluation) -> str:
    return f"{100 * (result.settings.what_if or 0):g} %"


def _part(step: float) -> str:
    return "the whole change" if step >= 1 else f"{100 * step:g} % of the change"


def _cell(row: WhatIfRow, figure: str) -> str:
    """A figure with its interval: shares in percent, changes of logits with their sign."""
    interval = _figure(row, figure)
    if interval is None:
        return "none"
    if figure in _SHARES:
        value, low, high = (
            f"{100 * end:.0f}" for end in (interval.value, interval.low, interval.high)
        )
        return f"{value} % [{low}, {high}]"
    return interval_text(interval, 2, "+" if figure in ("predicted", "actual") else "")
