"""Saliency maps by name: what a pixel of each says, and which of them are taken where."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["magnitude", "signed", "class", "printed"]
Helps = Literal["either", "brighter", "darker"]
Normalize = Literal["none", "minmax"]
Reduce = Literal["max", "none"]

NORMALIZATIONS: tuple[str, ...] = ("none", "minmax")
REDUCTIONS: tuple[str, ...] = ("max", "none")


@dataclass(frozen=True, slots=True)
class MapChoice:
    """One saliency map by name: how a pixel reads, and what its values are.

    `kind`: "magnitude" is >= 0, "signed" has a meaningful zero, "class" holds class indices,
    "printed" is an equation of the paper as printed, kept for comparison and never ranked by.
    `helps`: which change of a bright pixel of the map helps the class; it decides the map's hue.
    """

    name: str
    reads: str
    kind: Kind = "magnitude"
    helps: Helps = "either"

    @property
    def form(self) -> str:
        """Which of the paper's two forms this is: its code's ("computed") or "printed"."""
        return "printed" if self.kind == "printed" else "computed"


_ACTIVE = "brightening the pixel raises the class over every rival"
_INACTIVE = "darkening the pixel raises the class over every rival"

MAPS: dict[str, MapChoice] = {
    choice.name: choice
    for choice in (
        MapChoice("original", "how strongly the pixel moves the class, either way"),
        MapChoice("positive", "brightening the pixel helps the class", helps="brighter"),
        MapChoice("negative", "darkening the pixel helps the class", helps="darker"),
        MapChoice("active", _ACTIVE, helps="brighter"),
        MapChoice("inactive", _INACTIVE, helps="darker"),
        MapChoice(
            "signed", "active minus inactive: > 0 brighter helps, < 0 darker helps", "signed"
        ),
        MapChoice("margin", "the lead over the best rival, signed like 'signed'", "signed"),
        MapChoice(
            "competition",
            "the class's own value where it is > 0 and above every rival, or < 0 and below",
            "signed",
        ),
        MapChoice("winner", "the class that gains most from brightening; -1 on a tie", "class"),
        MapChoice("active-printed", f"{_ACTIVE}; ties stay, no absolute value", "printed"),
        MapChoice("inactive-printed", f"{_INACTIVE}; as printed, degenerate", "printed"),
    )
}
"""Every saliency map by name; the functions are in `chiaroscuro.maps.MAPS`."""


class LiveNames(Collection[str]):
    """Names read from their tables at each use, so that rows added at run time are included."""

    def __init__(self, read: Callable[[], Iterable[str]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(list(self._read()))

    def __contains__(self, name: object) -> bool:
        return name in list(self._read())


RANKING_MAPS = LiveNames(
    lambda: [name for name, row in MAPS.items() if row.kind in ("magnitude", "signed")]
)
"""The maps that order pixels: neither classes nor the degenerate printed forms."""
RANDOM = "random"
"""A random order of pixels: the control for every map."""

EDIT_MAPS: dict[str, MapChoice] = {
    choice.name: choice
    for choice in (
        MapChoice(
            "expected-effect",
            "what the class loses, to first order, when this pixel alone is changed",
            "signed",
        ),
        MapChoice(
            "partial-edit",
            "what the class loses when this pixel is changed along with others",
            "signed",
        ),
    )
}
"""Every map computed for one edit of pixels; functions are in `chiaroscuro.maps.EDIT_MAPS`."""
MEASURED_MAPS = LiveNames(lambda: (*RANKING_MAPS, *EDIT_MAPS))
"""Every map that deletion can order pixels by."""
ORDERS = LiveNames(lambda: (*MEASURED_MAPS, RANDOM))
"""Every order in which pixels can be taken."""
PAPER_MAPS: tuple[str, ...] = ("original", "positive", "negative", "active", "inactive")
EXPLAIN_MAPS: tuple[str, ...] = (*PAPER_MAPS, "signed")
CONTRAST_MAPS: tuple[str, ...] = (*PAPER_MAPS, "margin")
"""What answers "why this and not that": with one rival the margin is the difference."""
