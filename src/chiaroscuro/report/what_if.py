"""A what-if as a figure, a page and sentences."""

from pathlib import Path

from chiaroscuro.choices import parse_fill
from chiaroscuro.images import to_uint8
from chiaroscuro.render.pictures import outlined
from chiaroscuro.render.sheets import (
    Bar,
    Bars,
    Chart,
    Curve,
    Picture,
    Row,
    Sheet,
    draw_sheet,
    save_sheet,
)
from chiaroscuro.render.shown import pictured
from chiaroscuro.report.pages import data_uri, photo_rows, write_page
from chiaroscuro.results import FIGURE
from chiaroscuro.results.changes import WhatIf
from chiaroscuro.results.facts import Prediction

_BECAME = {"mean": "the image's mean", "blur": "blurred"}


def write(result: WhatIf, folder: Path) -> None:
    """Write the figure and the page into a folder."""
    sheet, target = what_if_sheet(result), result.target
    save_sheet(sheet, folder / FIGURE)
    chart = draw_sheet(Sheet([Row([_chart(result)], 2.9)], width=5.4), "svg")[0]
    write_page(
        folder,
        "what_if",
        title=sheet.title,
        found=sentences(result),
        docs="how-to/what-if",
        asked=f"Does {result.model.name} answer as its gradient says for {target.label}, when "
        f"{change_text(result)}?",
        notes=result.notes,
        pictures=sheet.rows[0].cells,
        chart=data_uri(chart, "svg+xml"),
        result=result,
        rows=photo_rows(result),
        footer=sheet.footer,
    )


def sentences(result: WhatIf) -> list[str]:
    """Predicted and actual change, the predicted class, and how far first order is valid."""
    label, predicted, actual = result.target.label, result.predicted, result.actual
    way = "in the same direction" if result.same_direction else "in the other direction"
    change, came = f"changes by {predicted:+.2f}", f"it changes {way}, by {actual:+.2f}"
    first = f"First order predicts that the logit of {label} {change}; "
    first += f"{came if actual else 'it does not change'}."
    if predicted == 0:
        first = "First order predicts no change of the logit of "
        first += f"{label}; it changes by {actual:+.2f}."
    before, expected, after = result.before[0], result.expected, result.after[0]
    flip = f"changes from {before.label} to" if result.flipped else "stays"
    agrees = expected.index == after.index
    order = ", as first order predicts" if agrees else f"; first order predicts {expected.label}"
    flip = f"The predicted class {flip} {after.label}{order}."
    share, step = f"{100 * result.choices.tolerance:.0f} %", result.valid_step
    if step >= 1:
        valid = f"valid for the whole change: the two differ by {share} at most"
    elif step <= 0:
        valid = f"not valid at any step: the two differ by more than {share}"
    else:
        valid = (
            f"valid up to a step of {step:.2g} (1 is the whole change); beyond it the two differ "
            f"by more than {share} of the predicted change, or in direction"
        )
    return [first, flip, f"First order is {valid}."]


def change_text(result: WhatIf) -> str:
    """The change in words: the top 5 % of active become black."""
    top = f"the top {100 * result.choices.fraction:g} % of {result.choices.map}"
    return f"{top} become {became(result.choices.fill)}"


def became(fill: str) -> str:
    """What pixels have become, in words: black, darker by 0.1."""
    read = parse_fill(fill)
    by = f" by {read.amount:g}" if read.name in ("brighter", "darker") else ""
    return _BECAME.get(read.name, read.name) + by


def what_if_sheet(result: WhatIf) -> Sheet:
    """The figure: the image before and after, its classes, predicted and actual change."""
    drawn = pictured(result)
    before, after = to_uint8(drawn.pixels), to_uint8(drawn.edited)
    region = None if result.region is None else result.region.mask
    marked = before if region is None else outlined(before, region, width=6)
    count, selected = int(result.changed.sum()), result.selected
    rest = "" if count == selected else f", of {selected:,} selected; the others keep their value"
    pictures = [
        Picture(
            marked,
            "before" if region is None else "before, region outlined",
            str(result.before[0]),
        ),
        Picture(after, "after", str(result.after[0])),
        Picture(
            outlined(after, drawn.changed),
            "after, changed pixels outlined",
            f"{count:,} of {result.changed.size:,} pixels changed{rest}",
        ),
    ]
    classes = Bars(
        [_bar(result, *pair) for pair in result.shown],
        "classes before (gray) and after (black); target class in bold",
    )
    flip = f"{result.before[0].label} → " if result.flipped else "stays "
    return Sheet(
        [Row(pictures, 5.4), Row([classes, _chart(result)], 3.6)],
        f"{Path(result.image.source).name}: what if {change_text(result)}?",
        f"{result.model.name} · logit of {result.target.label}: predicted {result.predicted:+.2f}, "
        f"actual {result.actual:+.2f} · prediction {flip}{result.after[0].label}",
        "predicted: to first order, the gradient of each logit times the change · valid: the "
        "target logit's actual change differs from the predicted one by at most "
        f"{100 * result.choices.tolerance:.0f} % of it, in the same direction",
    )


def _bar(result: WhatIf, before: Prediction, after: Prediction) -> Bar:
    predicted, actual = (
        float(changes[before.index]) for changes in (result.predicted_change, result.actual_change)
    )
    is_target = before.index == result.target.index
    note = f"logit {actual:+.2f}, predicted {predicted:+.2f}"
    return Bar(before.label, before.probability, is_target, after.probability, note)


def _chart(result: WhatIf) -> Chart:
    """A straight line, the prediction, and what the network does."""
    steps, valid = (0.0, *result.steps), result.valid_step
    return Chart(
        "first order is valid in the shaded part" if 0 < valid < 1 else "",
        [
            Curve("predicted", steps, [step * result.predicted for step in steps]),
            Curve("actual", steps, (0.0, *result.path)),
        ],
        "share of the change made (%)",
        "change of the target logit",
        (None, None),
        shade=valid,
    )
