"""The page of one change of pixels."""

import base64
from collections.abc import Mapping
from typing import Any

from chiaroscuro.render import ChangeSheet, CurvePanel, CurveSheet, svg_text
from chiaroscuro.render.labels import percent
from chiaroscuro.report.pages import data_uri, detail_rows, environment


def what_if_page(sheet: ChangeSheet, about: Mapping[str, Any]) -> str:
    """One what-if as a page that needs no other file and no network.

    `about` is what `what-if.json` holds.
    """
    pictures = zip(
        ("before", "after", "after, changed pixels outlined"),
        (data_uri(picture) for picture in (sheet.before, sheet.after, sheet.outlined)),
        sheet.notes,
        strict=True,
    )
    chart = base64.b64encode(svg_text(_chart(sheet)).encode()).decode("ascii")
    template = environment().get_template("what_if.html.j2")
    return template.render(
        sheet=sheet,
        about=about,
        sentences=sentences(about),
        pictures=list(pictures),
        chart=f"data:image/svg+xml;base64,{chart}",
        rows=[
            (shift, percent(shift.before), percent(shift.after), _agrees(shift))
            for shift in sheet.shifts
        ],
        details=list(detail_rows(about)),
    )


def sentences(about: Mapping[str, Any]) -> list[str]:
    """What was foretold, what came, and how far the one can be taken for the other."""
    label, told, real = about["target"]["label"], about["foretold"], about["real"]
    if told == 0:
        first = f"First order foretells no change of the logit of {label}; it moved by {real:+.2f}."
    else:
        way = "the same way" if about["as_foretold"] else "the other way"
        came = f"it moved {way}, by {real:+.2f}" if real else "it did not move"
        first = f"First order foretells that the logit of {label} moves by {told:+.2f}; {came}."
    return [first, _flip(about), _held(about)]


def _flip(about: Mapping[str, Any]) -> str:
    before, expected, after = about["before"][0], about["expected"], about["after"][0]
    turns = f"turns from {before['label']} to {after['label']}"
    came = turns if about["flipped"] else f"stays {before['label']}"
    if expected["index"] == after["index"]:
        return f"The prediction {came}, as first order foretold."
    if not about["flip_foretold"]:
        return f"The prediction {came}, which first order did not foretell."
    return f"The prediction {came}, though first order foretold {expected['label']}."


def _held(about: Mapping[str, Any]) -> str:
    share = f"{100 * about['choices']['tolerance']:.0f} %"
    if about["holds"] >= 1:
        return f"The promise holds all the way: real and foretold change differ by {share} at most."
    if about["holds"] <= 0:
        return f"The promise fails from the first step on: they differ by more than {share}."
    return (
        f"The promise holds up to {100 * about['holds']:.2g} % of the way; there they part by more "
        f"than {share} of the foretold change, or in direction."
    )


def _agrees(shift: Any) -> bool:
    return bool(shift.foretold * shift.real > 0)


def _chart(sheet: ChangeSheet) -> CurveSheet:
    heights = [height for curve in sheet.curves for height in curve.y]
    low, high = min(heights), max(heights)
    if low == high:
        low, high = low - 1, high + 1
    return CurveSheet(
        title="How long the promise holds",
        subtitle=sheet.subtitle.split(" · ")[1],
        panels=[CurvePanel("", sheet.curves)],
        x_label="part of the change made (%)",
        y_label="change of the logit",
        y_limits=(low, high),
    )
