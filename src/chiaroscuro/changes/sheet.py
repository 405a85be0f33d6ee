"""A what-if as pictures and rows, ready to be drawn or laid out."""

from pathlib import Path

from chiaroscuro.changes.outcome import WhatIf
from chiaroscuro.choices import parse_fill
from chiaroscuro.explanations import Prediction
from chiaroscuro.images import to_uint8
from chiaroscuro.render import ChangeSheet, Curve, Shift, outlined

_BECAME = {"mean": "the image's mean", "blur": "blurred"}


def make_sheet(found: WhatIf) -> ChangeSheet:
    """The figure's contents."""
    before, after = to_uint8(found.pixels), to_uint8(found.edited)
    steps = (0.0, *found.steps)
    return ChangeSheet(
        title=f"{Path(found.image.source).name}: what if {what_changes(found)}?",
        subtitle=_subtitle(found),
        before=before,
        after=after,
        outlined=outlined(after, found.changed),
        notes=(_says(found.before[0]), _says(found.after[0]), _counts(found)),
        shifts=[_shift(found, *pair) for pair in found.shown],
        curves=[
            Curve("foretold", steps, [step * found.promise for step in steps]),
            Curve("real", steps, (0.0, *found.way)),
        ],
        holds=found.holds,
        footer=(
            "foretold: to first order, the gradient of each logit times the change · holds: the "
            f"target logit's real change differs from the foretold one by at most "
            f"{100 * found.tolerance:.0f} % of it, in the same direction"
        ),
    )  # fmt: skip


def what_changes(found: WhatIf) -> str:
    """The change in words: the top 5 % of active became black."""
    fill = parse_fill(found.choices["change"])
    became = _BECAME.get(fill.name, fill.name)
    by = f" by {fill.amount:g}" if fill.name in ("brighter", "darker") else ""
    share = f"{100 * found.choices['fraction']:g} %"
    return f"the top {share} of {found.choices['map']} became {became}{by}"


def _subtitle(found: WhatIf) -> str:
    target = found.target
    told = "the same way" if found.as_foretold else "the other way"
    if found.promise == 0:
        told = "nothing foretold"
    flip = (
        f"prediction {found.before[0].label} → {found.after[0].label}"
        if found.flipped
        else f"prediction {found.before[0].label} kept"
    )
    return (
        f"{found.model['name']} · logit of {target.label}: foretold {found.promise:+.2f}, came "
        f"{found.outcome:+.2f} ({told}) · {flip}"
    )


def _says(best: Prediction) -> str:
    return f"{best.label}, {100 * best.probability:.1f} %"


def _counts(found: WhatIf) -> str:
    count, taken = int(found.changed.sum()), found.taken
    rest = "" if count == taken else f", of {taken:,} taken; the others had that value already"
    return f"{count:,} of {found.changed.size:,} pixels changed{rest}"


def _shift(found: WhatIf, before: Prediction, after: Prediction) -> Shift:
    return Shift(
        label=before.label,
        before=before.probability,
        after=after.probability,
        logit=before.logit,
        foretold=float(found.predicted[before.index]),
        real=float(found.real[before.index]),
        explained=before.index == found.target.index,
    )
