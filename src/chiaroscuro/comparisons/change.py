"""A what-if of each classifier, to stand beside its maps."""

from collections.abc import Callable

from chiaroscuro.changes import WhatIf, what_if
from chiaroscuro.choices import WHAT_IF_FRACTION, Fill, Fit, parse_fill
from chiaroscuro.classifier import Classifier
from chiaroscuro.comparisons.comparison import Beside
from chiaroscuro.explanations import Explanation
from chiaroscuro.explanations.reading import ImageLike
from chiaroscuro.images import to_uint8
from chiaroscuro.render import enlarged, outlined


def beside_change(
    image: ImageLike,
    change: str | Fill,
    fraction: float = WHAT_IF_FRACTION,
    map: str = "active",
    fit: Fit | None = None,
) -> Callable[[Classifier, Explanation], Beside]:
    """What `compare(beside=...)` asks: each classifier's own top pixels of `map` changed.

    `change`, `fraction`: as in `what_if`. Raises `ChoiceError` for an unknown change.
    """
    fill = parse_fill(change)

    def ask(classifier: Classifier, explanation: Explanation) -> Beside:
        found = what_if(
            classifier, image, map, fraction, fill, target=explanation.target.index,
            rivals=explanation.choices["rivals"], fit=fit,
        )  # fmt: skip
        title = f"what if the top {100 * fraction:g} % of its {map} map become {fill}?"
        after = to_uint8(found.edited)
        return Beside(title, _lines(found), enlarged(outlined(after, found.changed)))

    return ask


def _lines(found: WhatIf) -> tuple[str, ...]:
    before, after = found.before[0], found.after[0]
    flip = f"becomes {after.label}" if found.flipped else f"stays {after.label}"
    return (
        f"logit of {found.target.label}: foretold {found.promise:+.2f}, came {found.outcome:+.2f}",
        f"prediction {before.label} ({100 * before.probability:.1f} %) {flip} "
        f"({100 * after.probability:.1f} %)",
        f"the promise holds for {100 * found.holds:.3g} % of the way",
    )
