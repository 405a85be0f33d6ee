"""A what-if as a figure, a page and sentences."""

import base64
from pathlib import Path

from chiaroscuro.choices import parse_fill
from chiaroscuro.images import to_uint8
from chiaroscuro.render import (
    ChangeSpec,
    Curve,
    CurvePanel,
    CurveSpec,
    Shift,
    draw_change,
    outlined,
    svg_text,
)
from chiaroscuro.report.pages import (
    Rows,
    data_uri,
    filled,
    image_rows,
    method_text,
    model_rows,
    plain,
    write_page,
)
from chiaroscuro.results import FIGURE
from chiaroscuro.results.explanations import WhatIf
from chiaroscuro.results.facts import Prediction

_BECAME = {"mean": "the image's mean", "blur": "blurred"}


def write(result: WhatIf, folder: Path) -> None:
    """Write the figure and the page into a folder."""
    spec = change_spec(result)
    draw_change(spec, folder / FIGURE)
    titles = ("before", "after", "after, changed pixels outlined")
    pictures = [data_uri(picture) for picture in (spec.before, spec.after, spec.outlined)]
    chart = base64.b64encode(svg_text(_chart(result, spec)).encode()).decode("ascii")
    write_page(
        folder,
        "what_if.html.j2",
        spec=spec,
        sentences=sentences(result),
        notes=result.notes,
        pictures=list(zip(titles, pictures, spec.notes, strict=True)),
        chart=f"data:image/svg+xml;base64,{chart}",
        shifts=[(shift, shift.predicted * shift.actual > 0) for shift in spec.shifts],
        rows=_rows(result),
    )


def sentences(result: WhatIf) -> list[str]:
    """Predicted and actual change, the predicted class, and how far first order is valid."""
    label, predicted, actual = result.target.label, result.predicted, result.actual
    if predicted == 0:
        first = (
            f"First order predicts no change of the logit of {label}; it changes by {actual:+.2f}."
        )
    else:
        way = "in the same direction" if result.same_direction else "in the other direction"
        said = f"it changes {way}, by {actual:+.2f}" if actual else "it does not change"
        first = (
            f"First order predicts that the logit of {label} changes by {predicted:+.2f}; {said}."
        )
    return [first, _flip(result), _validity(result)]


def _flip(result: WhatIf) -> str:
    before, expected, after = result.before[0], result.expected, result.after[0]
    said = (
        f"The predicted class changes from {before.label} to {after.label}"
        if result.flipped
        else f"The predicted class stays {before.label}"
    )
    if expected.index == after.index:
        return f"{said}, as first order predicts."
    return f"{said}; first order predicts {expected.label}."


def _validity(result: WhatIf) -> str:
    share, step = f"{100 * result.choices.tolerance:.0f} %", result.valid_step
    if step >= 1:
        return f"First order is valid for the whole change: the two differ by {share} at most."
    if step <= 0:
        return f"First order is not valid at any step: the two differ by more than {share}."
    return (
        f"First order is valid up to a step of {step:.2g} (1 is the whole change); beyond "
        f"it the two differ by more than {share} of the predicted change, or in direction."
    )


def change_text(result: WhatIf) -> str:
    """The change in words: the top 5 % of active become black."""
    fill = parse_fill(result.choices.fill)
    became = _BECAME.get(fill.name, fill.name)
    by = f" by {fill.amount:g}" if fill.name in ("brighter", "darker") else ""
    return (
        f"the top {100 * result.choices.fraction:g} % of {result.choices.map} become {became}{by}"
    )


def change_spec(result: WhatIf) -> ChangeSpec:
    """The figure's contents."""
    before, after = to_uint8(result.pixels), to_uint8(result.edited)
    steps = (0.0, *result.steps)
    return ChangeSpec(
        title=f"{Path(result.image.source).name}: what if {change_text(result)}?",
        subtitle=_subtitle(result),
        before=before,
        after=after,
        outlined=outlined(after, result.changed),
        notes=(_says(result.before[0]), _says(result.after[0]), _counts(result)),
        shifts=[_shift(result, *pair) for pair in result.shown],
        curves=[
            Curve("predicted", steps, [step * result.predicted for step in steps]),
            Curve("actual", steps, (0.0, *result.path)),
        ],
        valid_step=result.valid_step,
        footer=(
            "predicted: to first order, the gradient of each logit times the change · valid: the "
            "target logit's actual change differs from the predicted one by at most "
            f"{100 * result.choices.tolerance:.0f} % of it, in the same direction"
        ),
    )


def _subtitle(result: WhatIf) -> str:
    before, after = result.before[0].label, result.after[0].label
    flip = f"prediction {before} → {after}" if result.flipped else f"prediction stays {before}"
    return f"{result.model.name} · {_changes(result)} · {flip}"


def _changes(result: WhatIf) -> str:
    return (
        f"logit of {result.target.label}: predicted {result.predicted:+.2f}, "
        f"actual {result.actual:+.2f}"
    )


def _says(best: Prediction) -> str:
    return f"{best.label}, {100 * best.probability:.1f} %"


def _counts(result: WhatIf) -> str:
    count, selected = int(result.changed.sum()), result.selected
    rest = "" if count == selected else f", of {selected:,} selected; the others keep their value"
    return f"{count:,} of {result.changed.size:,} pixels changed{rest}"


def _shift(result: WhatIf, before: Prediction, after: Prediction) -> Shift:
    return Shift(
        label=before.label,
        before=before.probability,
        after=after.probability,
        logit=before.logit,
        predicted=float(result.predicted_change[before.index]),
        actual=float(result.actual_change[before.index]),
        is_target=before.index == result.target.index,
    )


def _chart(result: WhatIf, spec: ChangeSpec) -> CurveSpec:
    heights = [height for curve in spec.curves for height in curve.y]
    low, high = min(heights), max(heights)
    if low == high:
        low, high = low - 1, high + 1
    return CurveSpec(
        title="Predicted and actual change",
        subtitle=_changes(result),
        panels=[CurvePanel("", spec.curves)],
        x_label="share of the change made (%)",
        y_label="change of the logit",
        y_limits=(low, high),
    )


def _rows(result: WhatIf) -> Rows:
    choices = result.choices
    return filled(
        [
            *image_rows(result.image, result.crop),
            *model_rows(result.model, result.threads),
            ("map", choices.map),
            ("fraction", str(choices.fraction)),
            ("fill", choices.fill),
            ("target", str(choices.target)),
            ("rivals", choices.rivals),
            ("method", method_text(choices.method) if choices.method else ""),
            ("fit", choices.fit),
            ("tolerance", str(choices.tolerance)),
            ("seed", str(choices.seed)),
            ("versions", plain(result.versions)),
        ]
    )
