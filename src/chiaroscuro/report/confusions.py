"""The page of confusions: who takes pixels from whom, every strong pair, and their photos."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import SMOOTHING
from chiaroscuro.images import gray, to_uint8
from chiaroscuro.render import percent
from chiaroscuro.render.pictures import Rgb, one_sided, outlined, overlay, smooth
from chiaroscuro.render.sheets import Bar
from chiaroscuro.render.shown import pictured
from chiaroscuro.report.pages import FEW, images_line, images_text, run_rows, write_page
from chiaroscuro.results.confusions import GRID, ClassPair, Confusions, Mend
from chiaroscuro.results.explanations import Explanation
from chiaroscuro.viewer.page import viewer_page

_THIRDS = {0: slice(0, 2), 1: slice(2, 6), 2: slice(6, 8)}
PLACES = {
    "in the upper left corner": (0, 0), "at the upper edge": (0, 1),
    "in the upper right corner": (0, 2), "at the left edge": (1, 0), "in the center": (1, 1),
    "at the right edge": (1, 2), "in the lower left corner": (2, 0), "at the lower edge": (2, 1),
    "in the lower right corner": (2, 2),
}  # fmt: skip
"""Parts of the grid: corners of 1/16 of the picture, edges of 1/8, and its middle quarter."""
MARKED = 3.0
"""A class that takes pixels so many times more densely in one place than elsewhere is named."""
_PHOTOS = 10
"""A class is named if it takes pixels of so many photos, and of half of all others' photos."""
_SHOWN, _LISTED, _ACROSS, _SHADES = 100, 200, 14, 8
"""At most: pairs with a map of their own, pairs in the table, classes and shades in the matrix."""


Side = tuple[str, float, float]
"""A channel, and the shares of the lead of what wants it darker and brighter."""


@dataclass(frozen=True, eq=False)
class Card:
    """A pair as the page shows it; photos have their pictures and the page that each opens."""

    pair: ClassPair
    said: Sequence[str]
    grid: Rgb
    sides: Sequence[Side]
    photos: Sequence[tuple[str, Rgb, Rgb, str]]


def write(result: Confusions, folder: Path) -> None:
    """Write the page, and one with the viewer for each photo."""
    pages = {name: f"photos/{n:03d}.html" for n, name in enumerate(result.photos)}
    for name, page in pages.items():
        (folder / "photos").mkdir(exist_ok=True)
        text = viewer_page(result.photos[name], {"map": "winner"})
        (folder / page).write_text(text, encoding="utf-8", errors="backslashreplace")
    cards = [_card(result, n, pages) for n in range(min(_SHOWN, len(result.pairs)))]
    fewest = min(pair.images for pair in result.classes)
    warnings = []
    if fewest < FEW:
        warnings.append(
            f"Some classes have only {images_text(fewest)}: intervals over so few are not reliable."
        )
    if result.target_note and result.settings.target is None:
        warnings.append(
            f"Pixels are taken from the predicted class, since {result.target_note}. "
            "--target index takes the data's class numbers."
        )
    write_page(
        folder,
        "confusions",
        title=f"Confusions: {result.model.name} on {result.data.name}",
        asked="Which class takes pixels from which? Each value of a photo can become brighter or "
        "darker, and such a change belongs to the class whose score gains most by it.",
        found=found(result),
        docs="how-to/confusions",
        warnings=warnings,
        result=result,
        cards=cards,
        links={(card.pair.target, card.pair.rival) for card in cards},
        matrix=_matrix(result),
        listed=result.pairs[:_LISTED],
        mends=[
            (mend_text(result, one), outlined(one.edited, one.changed, 320, 3))
            for one in result.mends
        ],
        share=share_text,
        place=place_text,
        wishes=wishes,
        busiest=sorted(result.class_images, key=lambda k: -result.class_images[k])[:_LISTED],
        kept={pair.target: pair for pair in result.classes},
        rows=run_rows(result),
    )


def lines(result: Confusions) -> Iterator[str]:
    """What a terminal shows: images, the conclusion, and the strongest pairs."""
    yield images_line(result)
    yield from found(result)
    for pair in result.pairs[:10]:
        names = f"{result.name(pair.target)} to {result.name(pair.rival)}"
        yield f"{names}: {share_text(pair)}{_confused(pair)}"


def found(result: Confusions) -> list[str]:
    """The strongest pairs, the most frequent wrong prediction, and places that stand out."""
    if not result.pairs:
        return ["No class takes a pixel from another."]
    first, *others = [
        (result.name(pair.target), result.name(pair.rival), percent(pair.share.value))
        for pair in result.pairs[:4]
    ]
    target, rival, share = first
    (keeps,) = (p.share.value for p in result.classes if p.target == result.pairs[0].target)
    more = ", ".join("{} to {} ({})".format(*other) for other in others)
    sentences = [
        f"{target} loses most pixels to {rival}: {share} of the changes help {rival} most, "
        f"{percent(keeps)} {target} itself.{f' Next: {more}.' if more else ''}"
    ]
    wrong = sorted((p for p in result.pairs if p.confused), key=lambda p: -p.confused)
    if wrong:
        said = [f"{result.name(p.target)} as {result.name(p.rival)}" for p in wrong[:3]]
        said = [f"{s} ({p.confused} of {p.images})" for s, p in zip(said, wrong, strict=False)]
        sentences.append(f"Predicted wrongly most often: {', '.join(said)}.")
    return [*sentences, *marks(result)]


def marks(result: Confusions) -> Iterator[str]:
    """Up to three classes that take pixels in one place above all, of most photos of others."""
    own, whole = {pair.target: pair.images for pair in result.classes}, result.data.images
    places = {
        index: place_of(result.class_grids[index])
        for index, images in result.class_images.items()
        if images >= max(_PHOTOS, (whole - own.get(index, 0)) / 2)
    }
    densest = sorted(places.items(), key=lambda one: -one[1][1] / one[1][2])
    for index, (place, share, area) in densest[:3]:
        if share >= MARKED * area:
            yield (
                f"{result.name(index)} takes pixels {place} above all: {percent(share)} of its "
                f"lead lies on {percent(area)} of the picture, most where "
                f"{wishes(result.class_colors[index])[0].label} helps it. Look for a mark there in "
                "its photos."
            )


def place_of(grid: NDArray[np.floating]) -> tuple[str, float, float]:
    """Where leads are densest, with its share of them and of the picture.

    >>> grid = np.zeros((8, 8))
    >>> grid[7, 6] = 1
    >>> place_of(grid)
    ('in the lower right corner', 1.0, 0.0625)
    """
    found = []
    for name, (down, across) in PLACES.items():
        part = grid[_THIRDS[down], _THIRDS[across]]
        found.append((name, float(part.sum() / (grid.sum() or 1)), part.size / GRID**2))
    return max(found, key=lambda place: place[1] / place[2])


def place_text(grid: NDArray[np.floating]) -> str:
    """The same in words."""
    place, share, area = place_of(grid)
    return f"{place}: {percent(share)} on {percent(area)} of the picture"


def sides(colors: NDArray[np.floating]) -> list[Side]:
    """What a class wants of each channel."""
    channels = colors.shape[1]
    names = {1: ["gray"], 3: ["red", "green", "blue"]}.get(channels, [])
    names = names or [f"channel {n}" for n in range(channels)]
    brighter, darker = (colors.sum(axis=2) / (colors.sum() or 1)).tolist()
    return [*zip(names, darker, brighter, strict=True)]


def wishes(colors: NDArray[np.floating]) -> list[Bar]:
    """What a class wants, "red brighter", with shares of the lead, the largest first."""
    wanted = [
        Bar(f"{name} {way}", share, False)
        for name, *shares in sides(colors)
        for way, share in zip(("darker", "brighter"), shares, strict=True)
    ]
    return sorted(wanted, key=lambda bar: -bar.share)


def mend_text(result: Confusions, mend: Mend) -> str:
    """What the smallest edit is, in a sentence."""
    target, rival = result.name(mend.target), result.name(mend.rival)
    if not mend.units:
        return f"{target}, predicted as {rival}: no edit was found ({mend.id})"
    plural = "" if mend.units == 1 else "s"
    units = f"square{plural} of {mend.side} pixels" if mend.side > 1 else f"pixel{plural}"
    return (
        f"{target}, predicted as {rival}: {target} once {mend.units} {units} "
        f"become{'' if plural else 's'} {result.settings.fill} ({mend.id})"
    )


def share_text(pair: ClassPair) -> str:
    """A pair's share with its interval, which one photo does not have."""
    ends = f" [{100 * pair.share.low:.1f}, {100 * pair.share.high:.1f}]"
    return f"{percent(pair.share.value)}{ends if pair.images > 1 else ''}"


def _confused(pair: ClassPair) -> str:
    return f"; {pair.confused} of {images_text(pair.images)} predicted so" if pair.confused else ""


def _card(result: Confusions, n: int, pages: Mapping[str, str]) -> Card:
    pair, grid, colors = result.pairs[n], result.grids[n], result.colors[n]
    parts = {"border": (pair.border, 0.4375), "center": (pair.center, 0.25)}
    if pair.inside is not None and pair.region is not None:
        parts["object"] = pair.inside, pair.region
    values = (colors.sum(axis=1) / (colors.sum() or 1)).tolist()  # by way, then dark and bright
    wants = [
        f"{old} values {way} {percent(values[w][v])}"
        for v, old in enumerate(("dark", "bright"))
        for w, way in enumerate(("brighter", "darker"))
    ]
    said = [
        f"{result.name(pair.rival)} takes {share_text(pair)} of all changes, by {pair.lead:.2g} "
        "logits per unit of pixel value. No other rival takes more in "
        f"{percent(pair.first)} of the photos{_confused(pair)}.",
        f"Densest {place_text(grid)}. "
        + "; ".join(f"{k} {percent(s)} on {percent(a)}" for k, (s, a) in parts.items()).capitalize()
        + ".",
        f"It wants {', '.join(wants)}.",
    ]
    photos = [
        (name, *_pictures(result.photos[name], pair.rival), pages[name]) for name in pair.photos
    ]
    picture = one_sided(grid, float(grid.max()), "either")
    return Card(pair, said, picture, sides(colors), photos)


def _pictures(explanation: Explanation, rival: int) -> tuple[Rgb, Rgb]:
    """What the network saw, and over it in orange where brightening helps the rival most."""
    drawn = pictured(explanation)
    taken = (drawn.maps["winner"] == rival).astype(float)
    soft = smooth(taken, SMOOTHING * min(taken.shape))
    return to_uint8(drawn.pixels), overlay(soft, float(soft.max()), gray(drawn.pixels))


Cells = list[tuple[ClassPair | None, int]]
"""The pairs of a row of the matrix, with their shades."""


def _matrix(result: Confusions) -> tuple[list[int], list[tuple[ClassPair, Cells]]]:
    """The columns, and for each target what it keeps and its row; the classes of strong pairs."""
    strong = [k for pair in result.pairs for k in (pair.target, pair.rival)]
    shown = sorted([*dict.fromkeys([*strong, *result.labels])][:_ACROSS])
    by_key = {(pair.target, pair.rival): pair for pair in result.pairs}
    top = max((pair.share.value for pair in result.pairs), default=1)
    rows = []
    for kept in (pair for pair in result.classes if pair.target in shown):
        pairs = [by_key.get((kept.target, rival)) for rival in shown]
        cells = [(p, round(_SHADES * p.share.value / top) if p else 0) for p in pairs]
        rows.append((kept, cells))
    return shown, rows
