"""The page of an evaluation: curves, areas, differences, what-ifs, classes and a few images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from chiaroscuro.choices import CURVES, EDIT_MAPS, FITTED_MAPS, RANDOM, SURE, WHAT_IF_TOLERANCE
from chiaroscuro.render.sheets import Chart, Curve
from chiaroscuro.report.checks import check_section
from chiaroscuro.report.pages import (
    Charts,
    draw,
    images_line,
    interval_text,
    load_examples,
    run_rows,
    too_few,
    write_page,
)
from chiaroscuro.report.scores import (
    best_maps,
    best_protocol,
    close_to,
    curves_of,
    fill_title,
    gains_of,
    pairs,
)
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Curve as Row
from chiaroscuro.results.measurements import Evaluation, WhatIfRow

NATURAL = {
    "black": ("original", "positive", "active"),
    "white": ("original", "negative", "inactive"),
}
"""The maps that the paper judges by each fill."""
GROUPS = ("own", "crossed", "inverted")
"""Curves that are drawn together: a fill's own maps, those of the other fill, and wrong orders."""
_CLASSES = 50
"""So many classes are shown; all are in the result."""
_NEAR = f"{100 * WHAT_IF_TOLERANCE:.0f} %"
WHAT_IF_CHARTS = {
    "direction": "share with predicted direction",
    "tolerated": "share within tolerance",
    "flips": "share of predictions flipped",
}
WHAT_IF_COLUMNS = {
    "direction": "predicted direction",
    "tolerated": f"within {_NEAR}",
    "slope": "slope",
    "correlation": "correlation",
    "predicted": "predicted",
    "actual": "actual",
    "flips": "flips",
    "predicted_flips": "predicted flips",
}


def write(result: Evaluation, folder: Path) -> None:
    """Draw every chart as PNG and SVG, and the page, which needs no other file."""
    best = best_protocol(result)
    steps = sorted({row.step for row in result.what_if}, reverse=True)
    shown = sorted(result.classes, key=lambda row: -row.images)[:_CLASSES]
    curves = [(j, row) for j, row in enumerate(result.curves) if row.protocol == best]
    write_page(
        folder,
        "evaluation",
        title=f"{result.model.name} on {result.data.name}",
        asked="Which map finds the pixels that the prediction depends on? A map's highest pixels "
        "are changed, and the network predicts again.",
        docs="how-to/evaluate",
        found=[best_maps(result)],
        outcome=outcome(result),
        warnings=[
            *too_few(result.data.images, len(pairs(result, "area", CURVES[0]))),
            *(f"{note[0].upper()}{note[1:]}." for note in result.notes),
        ],
        result=result,
        protocols=sorted(result.settings.protocols, key=lambda name: name != best),
        charts={group: draw(charts, folder) for group, charts in curve_charts(result).items()},
        group_of=group_of,
        fill_title=fill_title,
        pairs=pairs,
        tests=[("area", CURVES[0]), *(("gain", of) for of in CURVES)],
        curves=CURVES,
        best=best,
        steps=steps,
        part=_part,
        what_if_charts=draw(what_if_charts(result), folder),
        what_if=list(what_if_words(result)),
        columns=WHAT_IF_COLUMNS,
        near=_NEAR,
        cell=what_if_cell,
        classes=shown,
        class_columns=[
            pair
            for pair in curves
            if not pair[1].control and group_of(pair[1].map, pair[1].fill) == "own"
        ],
        examples=load_examples(folder),
        rows=run_rows(result),
        check=None if result.check is None else check_section(result.check, result.check_page),
    )


def lines(result: Evaluation) -> Iterator[str]:
    """What a terminal shows: images, accuracy, every map's scores, what-ifs, other metrics."""
    accuracy = f"no accuracy: {result.accuracy_note or 'deletion was not measured'}"
    if result.accuracy is not None:
        accuracy = f"accuracy {interval_text(result.accuracy, 4)}"
    yield f"{images_line(result)}; {accuracy}"
    for protocol in result.settings.protocols:
        for fill in result.settings.fills:
            rows = [row for row in curves_of(result, protocol, fill) if "inverted:" not in row.map]
            if rows:
                areas = ", ".join(f"{row.map} {row.area.value:.3f}" for row in rows)
                yield f"area, {protocol}, {fill}: {areas}"
    for fill in result.settings.fills:
        if gains := gains_of(result, fill):
            listed = ", ".join(f"{row.map} {row.gain.value:.3f}" for row in gains)
            yield f"relevance gain, {fill}: {listed}"
    if result.curves:
        yield best_maps(result)
    yield from (f"warning: {note}" for note in result.notes)
    yield from what_if_words(result)
    for one in result.metrics:
        fill = f", {one.fill}" if one.fill else ""
        yield f"{one.metric}, {one.measure}: {one.map}{fill} {interval_text(one.mean)}"


# Deletion


def outcome(result: Evaluation) -> list[str]:
    """The outcome in sentences: the lowest area of each fill, and `original` against chance."""
    protocol, sentences = best_protocol(result), []
    for fill in result.settings.fills:
        rows = [row for row in curves_of(result, protocol, fill) if not row.control]
        if not rows:
            continue
        best = min(rows, key=lambda row: row.area.value)
        close = close_to(result, best)
        sure = f" (not significantly different from {close})" if close else ""
        sentences.append(
            f"{fill_title(fill)} ({protocol}): {best.map} has the lowest area, "
            f"{interval_text(best.area)}{sure}.{_fitted(rows, best)}"
            f"{_against_random(result, protocol, fill)}"
        )
    if sentences and protocol != "matched":
        sentences.append(
            "Sparse maps change fewer pixels in this protocol, and no random order was measured: "
            "evaluate with the matched protocol to rank maps."
        )
    return sentences


def _fitted(rows: Sequence[Row], best: Row) -> str:
    """That an edit map wins the score it is fitted to, and what is lowest among the other maps."""
    if best.map not in FITTED_MAPS:
        return ""
    said = " It is fitted to this very edit, so this score alone does not make it a better map."
    others = [row for row in rows if row.map not in FITTED_MAPS]
    if not others:
        return said
    other = min(others, key=lambda row: row.area.value)
    area = interval_text(other.area)
    return f"{said} Among the maps that are not fitted to an edit, {other.map} is lowest, {area}."


def _against_random(result: Evaluation, protocol: str, fill: str) -> str:
    compared = pairs(result, "area", CURVES[0])
    for row in compared:
        if (row.protocol, row.fill, row.map, row.against) != (protocol, fill, "original", RANDOM):
            continue
        difference = row.difference
        if row.p_holm >= SURE:
            count = len(compared)
            return (
                " original does not differ significantly from a random order (difference "
                f"{interval_text(difference, sign='+')}; p = {row.p_holm:.2g} after correction for "
                f"{count} comparison{'' if count == 1 else 's'})."
            )
        word = "lower (better)" if difference.value < 0 else "higher (worse)"
        less = Interval(-difference.value, -difference.high, -difference.low)
        size = interval_text(less if difference.value < 0 else difference)
        return f" original is {word} than a random order by {size}."
    return ""


def group_of(name: str, fill: str) -> str:
    """The group of a map's curve under a fill; `random` and edit maps belong to every fill."""
    if name.startswith("inverted:"):
        return "inverted"
    own = name == RANDOM or name in EDIT_MAPS or name in NATURAL.get(fill, [name])
    return "own" if own else "crossed"


def curve_charts(result: Evaluation) -> dict[str, Charts]:
    """One chart a fill with the curves of one group, by PROTOCOL-GROUP; random is in each."""
    charts: dict[str, Charts] = {}
    fractions = result.settings.fractions
    for protocol in result.settings.protocols:
        for group in GROUPS:
            drawn = []
            for fill in result.settings.fills:
                curves = []
                for row in curves_of(result, protocol, fill):
                    kept = row.allegiance
                    # Inverted orders go without bands: there are as many as maps.
                    band = () if group == "inverted" else (kept.low, kept.high)
                    if row.map == RANDOM or group_of(row.map, fill) == group:
                        curves.append(Curve(row.map, fractions, kept.mean, *band))
                if any(curve.name != RANDOM for curve in curves):
                    name = f"{fill_title(fill)}, {protocol} protocol"
                    axes = ("pixels deleted (%)", "share of predictions kept")
                    end = "" if group == "own" else f"-{group}"
                    drawn.append((f"curves-{protocol}-{fill}{end}", Chart(name, curves, *axes)))
            charts[f"{protocol}-{group}"] = drawn
    return charts


# What-ifs


def what_if_charts(result: Evaluation) -> Charts:
    """A chart a figure and fill, against the part of the change."""
    charts = []
    for figure, label in WHAT_IF_CHARTS.items():
        for fill in result.settings.fills:
            points: dict[str, list[tuple[float, Interval]]] = {}
            for row in result.what_if:
                interval = _figure(row, figure)
                if row.fill == fill and interval is not None:
                    points.setdefault(row.map, []).append((row.step, interval))
            curves = []
            for name, steps in points.items():
                ends = ([getattr(one, end) for _, one in steps] for end in ("value", "low", "high"))
                curves.append(Curve(name, [step for step, _ in steps], *ends))
            if curves:
                chart = Chart(fill_title(fill), curves, "part of the change (%)", label)
                charts.append((f"curves-what-if-{figure}-{fill}", chart))
    return charts


def what_if_words(result: Evaluation) -> Iterator[str]:
    """How well the whole change is predicted, a sentence per fill."""
    last = max((row.step for row in result.what_if), default=1)
    top = f"{100 * (result.settings.what_if or 0):g} %"
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
            f"{fill_title(fill).capitalize()} of the top {top}: the target logit moves "
            f"in the predicted direction most often with {best.map}, in "
            f"{what_if_cell(best, 'direction')} of the images, by {what_if_cell(best, 'slope')} of "
            f"the predicted change; {what_if_cell(best, 'flips')} of the predictions flip. A "
            f"random order: {what_if_cell(chance, 'direction')}, "
            f"{what_if_cell(chance, 'flips')} flip."
        )


def what_if_cell(row: WhatIfRow, figure: str) -> str:
    """A figure with its interval: shares in percent, changes of logits with their sign."""
    one = _figure(row, figure)
    if one is None:
        return "none"
    if figure in ("direction", "tolerated", "flips", "predicted_flips"):
        return f"{100 * one.value:.0f} % [{100 * one.low:.0f}, {100 * one.high:.0f}]"
    return interval_text(one, 2, "+" if figure in ("predicted", "actual") else "")


def _figure(row: WhatIfRow, figure: str) -> Interval | None:
    interval: Interval | None = getattr(row, figure)
    return interval


def _part(step: float) -> str:
    return "the whole change" if step >= 1 else f"{100 * step:g} % of the change"
