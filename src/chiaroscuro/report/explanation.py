"""Explanations as figures and pages: one, the list of many, and several of one image compared."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chiaroscuro.choices import DEFAULT_MODEL, SMOOTHING, parse_rivals
from chiaroscuro.images import gray, to_uint8
from chiaroscuro.render import evidence, percent
from chiaroscuro.render import pictures as draw
from chiaroscuro.render.pictures import CLIP, Color, Rgb
from chiaroscuro.render.sheets import Bar, Bars, Legend, Picture, Row, Sheet, save_sheet
from chiaroscuro.render.shown import flat, pictured
from chiaroscuro.report.pages import (
    clip,
    map_picture,
    method_text,
    photo_rows,
    sides_text,
    write_page,
)
from chiaroscuro.results import FIGURE
from chiaroscuro.results.explanations import (
    MOST_NAMED,
    ColorLimits,
    Comparison,
    Explanation,
    Gallery,
    GalleryEntry,
    Pair,
)
from chiaroscuro.viewer import make_feed
from chiaroscuro.viewer.feed import photo_outline

OVERVIEW = "overview.webp"
"""A small picture of an explanation, for the list of many."""
_COLUMNS, _SMALL = 6, 160
_KEY = Legend(
    [
        ("brighter helps", draw.BRIGHTER), ("darker helps", draw.DARKER),
        ("no effect shown, over the photo", (150, 150, 150)), ("no effect shown, else", draw.ZERO),
    ],
    "how to read the colors",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Panel:
    """A map as pictures: pixel by pixel, and smoothed; a class map has a `legend` instead.

    `limits`: the color limits of both.
    """

    name: str
    note: str
    fine: Rgb
    soft: Rgb | None
    legend: Sequence[tuple[str, Color]] = ()
    limits: tuple[float, float] = (0.0, 0.0)


def write(explanation: Explanation, folder: Path, *, figure: bool = False) -> None:
    """Write a small picture and the page into a folder; with `figure`, every map on one picture."""
    panels = map_panels(explanation)
    if figure:
        save_sheet(explanation_sheet(explanation, panels), folder / FIGURE)
    seen, target = to_uint8(pictured(explanation).pixels), explanation.target
    region = _mask(explanation)
    small = [seen, *(panel.fine if panel.soft is None else panel.soft for panel in panels[:4])]
    _write_overview(small, folder / OVERVIEW)
    left, top, right, bottom = _frame(explanation)
    limits = ", ".join(
        "{} {:.3g} (smoothed {:.3g})".format(panel.name, *panel.limits)
        for panel in panels
        if panel.soft is not None
    )
    write_page(
        folder,
        "explanation",
        title=title(explanation),
        docs="how-to/choose-a-method",
        asked=f"Which pixels of {_source(explanation)} speak for {target.label}, the class that "
        f"{explanation.model.name} gives {percent(target.probability)}"
        f"{_where(explanation)}, and how? Compared with "
        f"{rivals_text(explanation)}; {_method(explanation)}.",
        found=[*found(explanation), *evidence.found(explanation)],
        feed=make_feed(explanation),
        evidence=explanation.evidence,
        tests=evidence,
        shown=explanation,
        panels=panels,
        seen=seen,
        sides=sides_text(explanation.pixels),
        outline="" if region is None else draw.outline(region),
        photo_outline=photo_outline(explanation, _scale(explanation)),
        photo=explanation.photo,
        frame=(left, top, right - left, bottom - top),
        bars=bars(explanation),
        smoothing=_smoothing(explanation),
        facts=explanation.facts,
        notes=explanation.notes,
        footer=_footer(explanation),
        flip=_flip_line(explanation),
        rows=photo_rows(
            explanation,
            compared_with=rivals_text(explanation),
            color_limits=limits,
            color_scale="per image" if explanation.color_limits is None else "shared",
            seed=str(explanation.choices.method.seed),
            background=str(explanation.choices.method.background),
        ),
    )


def _flip_line(explanation: Explanation) -> str:
    """What to type for the fewest pixels that turn the prediction; "" where it needs more words."""
    image, model = explanation.image, explanation.model
    if not image.is_file or explanation.region is not None or model.texts is not None:
        return ""
    named = [] if model.name == DEFAULT_MODEL else ["--model", model.name]
    return shlex.join(["chiaroscuro", "flip", image.source, *named])


def _write_overview(pictures: Sequence[Rgb], file: Path) -> None:
    """Pictures of one size next to each other, `_SMALL` pixels high."""
    height, width = pictures[0].shape[:2]
    across = max(1, round(_SMALL * width / height))
    strip = Image.new("RGB", (len(pictures) * (across + 6) - 6, _SMALL), "white")
    for place, picture in enumerate(pictures):
        strip.paste(Image.fromarray(picture).resize((across, _SMALL)), (place * (across + 6), 0))
    strip.save(file, quality=80)


def write_gallery(gallery: Gallery, folder: Path) -> None:
    """Write the page of links to the explanations of a gallery, by folder."""
    groups: dict[str, list[GalleryEntry]] = {}
    for entry in gallery.entries:
        groups.setdefault(PurePosixPath(entry.folder).parent.as_posix(), []).append(entry)
    count = f"{len(gallery.entries)} explanation{'' if len(gallery.entries) == 1 else 's'}"
    asked = "Which pixels of each photo speak for its class, and how?"
    said = "Each entry opens the page of its photo. The small pictures: what the network sees, and "
    write_page(
        folder,
        "gallery",
        title=count,
        asked=asked,
        found=[f"{said}the first maps, smoothed."],
        docs="index",
        groups=groups,
        OVERVIEW=OVERVIEW,
    )


# Words


def title(explanation: Explanation) -> str:
    """What was asked, as "photo.jpg: why cat and not dog?"."""
    rivals = explanation.rivals
    contrast = f" and not {explanation.labels[rivals[0]]}" if len(rivals) == 1 else ""
    return f"{_source(explanation)}: why {explanation.target.label}{contrast}?"


def found(explanation: Explanation) -> list[str]:
    """What the network predicts, and how much of the picture the first map takes, and where."""
    best, target = explanation.predictions[0], explanation.target
    said = f"The network predicts {best.label} ({percent(best.probability)}){_where(explanation)}"
    sentences = [f"{said}." if best.index == target.index else f"{said}, not {target.label}."]
    names = [name for name, facts in explanation.facts.items() if facts.kind != "class"]
    if names:
        name = "active" if "active" in names else names[0]
        sizes = np.abs(explanation.maps[name].astype(float))
        if not sizes.any():
            return [*sentences, f"Its {name} map is empty."]
        highest = np.sort(sizes, axis=None)[::-1].cumsum()
        half = (int(np.searchsorted(highest, highest[-1] / 2)) + 1) / sizes.size
        if sizes.ndim == 3:
            return [
                *sentences,
                f"Half of the {name} map's sum lies on {percent(half)} of the voxels.",
            ]
        ninths = [
            float(part.sum())
            for band in np.array_split(sizes, 3)
            for part in np.array_split(band, 3, axis=1)
        ]
        most, place = max(ninths) / sum(ninths), evidence.PLACES[int(np.argmax(ninths))]
        spread = f"spread over the picture: no ninth of it has more than {100 * most:.0f} %"
        if most >= 0.2:
            spread = f"the ninth of the picture {place} has the most, {100 * most:.0f} %"
        pixels = percent(half)
        sentences.append(f"Half of the {name} map's sum lies on {pixels} of the pixels; {spread}.")
    return sentences


def rivals_text(explanation: Explanation) -> str:
    """The classes compared with, in words."""
    rule, rivals = explanation.choices.rivals, explanation.rivals
    if rule == "all":
        return f"all {len(rivals)} other classes"
    chosen = parse_rivals(rule)
    word = f" ({rule})" if chosen.classes is None or chosen.is_weighted else ""
    if len(rivals) <= MOST_NAMED:
        names = [explanation.labels[k].split(",")[0] for k in rivals]
        return f"{' and '.join([', '.join(names[:-1]), names[-1]][len(names) < 2 :])}{word}"
    return f"{len(rivals)} rivals{word}"


def _source(explanation: Explanation) -> str:
    return Path(explanation.image.source).name


def _method(explanation: Explanation) -> str:
    return f"{method_text(explanation.choices.method)} of the {explanation.choices.score}"


def _where(explanation: Explanation) -> str:
    region = explanation.region
    return "" if region is None else f" in the outlined region ({region.asked})"


def _mask(explanation: Explanation) -> NDArray[np.bool_] | None:
    return None if explanation.region is None else explanation.region.mask


def _smoothing(explanation: Explanation) -> str:
    sigma = smoothing_sigma(explanation)
    return f"smoothed (Gaussian \N{GREEK SMALL LETTER SIGMA} {sigma:.1f} px)"


def _footer(explanation: Explanation) -> str:
    own = explanation.color_limits is None
    scale = "each map has its own color scale" if own else "one color scale for all images"
    notes = "".join(f" · {note}" for note in (*explanation.image.notes, *explanation.notes))
    return f"{scale}, clipped at its {100 * CLIP:.0f}th percentile{notes}"


# Colors


def smoothing_sigma(explanation: Explanation) -> float:
    """Standard deviation of the smoothed view in pixels."""
    return SMOOTHING * float(min(pictured(explanation).pixels.shape[1:]))


def color_limits(explanation: Explanation) -> ColorLimits:
    """The clip quantile of each map's sizes, pixel by pixel and smoothed; class maps have none."""
    drawn, soft = pictured(explanation), _smoothed(explanation)
    return {name: (clip(drawn.maps[name]), clip(soft[name])) for name in soft}


def _smoothed(explanation: Explanation) -> dict[str, NDArray[np.float64]]:
    """Every map that has a smoothed view, smoothed."""
    sigma, drawn = smoothing_sigma(explanation), pictured(explanation)
    names = [name for name in drawn.maps if drawn.facts[name].kind != "class"]
    return {name: draw.smooth(drawn.maps[name], sigma) for name in names}


def shared_limits(several: Sequence[ColorLimits]) -> ColorLimits:
    """The largest limits of several images, map by map."""
    largest: dict[str, tuple[float, float]] = {}
    for limits in several:
        for name, (fine, soft) in limits.items():
            before = largest.get(name, (0.0, 0.0))
            largest[name] = (max(fine, before[0]), max(soft, before[1]))
    return largest


# The figure


def explanation_sheet(explanation: Explanation, panels: Sequence[Panel]) -> Sheet:
    """The figure: photo, classes, how to read it, then every map twice."""
    photo = Picture(
        explanation.photo, "the photo, and what the network sees of it", frame=_frame(explanation)
    )
    seen = Picture(
        marked(explanation, to_uint8(pictured(explanation).pixels)), "what the network sees"
    )
    classes = Bars(bars(explanation), "classes (target class in black)")
    rows = [Row([photo, seen, classes, _KEY], 3.1, [2, 1, 1.8, 1.2])]
    for start in range(0, len(panels), _COLUMNS):
        group = panels[start : start + _COLUMNS]
        empty = [""] * (_COLUMNS - len(group))
        fine = [Picture(marked(explanation, one.fine), one.name, one.note) for one in group]
        words = f", {_smoothing(explanation)}"
        soft = [
            Legend(one.legend)
            if one.soft is None
            else Picture(marked(explanation, one.soft), "", one.name + words)
            for one in group
        ]
        rows += [Row([*fine, *empty], 2.9), Row([*soft, *empty], 2.9)]
    return Sheet(rows, title(explanation), _subtitle(explanation), _footer(explanation))


def marked(explanation: Explanation, picture: Rgb) -> Rgb:
    """A picture of what the network sees, with the region outlined."""
    mask = _mask(explanation)
    return picture if mask is None else draw.outlined(picture, mask, width=6)


def _subtitle(explanation: Explanation) -> str:
    target = explanation.target
    return (
        f"{explanation.model.name} · class {target.index} at {100 * target.probability:.1f} % · "
        f"compared with {rivals_text(explanation)} · {_method(explanation)}{_where(explanation)}"
    )


def bars(explanation: Explanation) -> list[Bar]:
    """The listed classes, the target class marked."""
    target = explanation.target.index
    return [Bar(p.label, p.probability, p.index == target) for p in explanation.predictions]


def _frame(explanation: Explanation) -> tuple[float, float, float, float]:
    """What the network sees, in pixels of the photo as it is kept."""
    crop, scale = explanation.crop, _scale(explanation)
    return crop.left * scale, crop.top * scale, crop.right * scale, crop.bottom * scale


def _scale(explanation: Explanation) -> float:
    """Pixels of the photo as it is kept, for one of its own."""
    return float(explanation.photo.shape[1] / explanation.crop.photo_width)


def map_panels(explanation: Explanation) -> list[Panel]:
    """Every map as pictures, on the explanation's color limits or its own."""
    smoothed, shared = _smoothed(explanation), explanation.color_limits
    drawn, panels = pictured(explanation), []
    shade = gray(drawn.pixels)
    for name, values in drawn.maps.items():
        facts = explanation.facts[name]
        share = f"{100 * facts.support_pixels:.1f}"
        note = f"{facts.reads}; support\N{NO-BREAK SPACE}{share}\N{NO-BREAK SPACE}%"
        if facts.kind == "class":
            pixels, colors = draw.class_colors(values)
            panel = Panel(
                name,
                note,
                pixels,
                None,
                _winners(explanation.labels, explanation.maps[name], colors),
            )
        else:
            limits = (clip(values), clip(smoothed[name])) if shared is None else shared[name]
            fine = map_picture(name, values, shade, limits[0])
            soft = map_picture(name, smoothed[name], shade, limits[1])
            panel = Panel(name, note, fine, soft, limits=limits)
        panels.append(panel)
    return panels


def _winners(
    labels: Mapping[int, str], values: NDArray[Any], colors: dict[int, Color]
) -> list[tuple[str, Color]]:
    """Names and shares of the most frequent classes, of all others and of ties: what is shown."""
    rest = (values >= 0) & ~np.isin(values, [*colors])
    shown = [(labels[k], values == k, color) for k, color in colors.items()]
    shown += [("other classes", rest, draw.OTHER_CLASS), ("a tie", values < 0, draw.ZERO)]
    return [(f"{n} {100 * where.mean():.0f} %", color) for n, where, color in shown if where.any()]


# A comparison


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write the figure, the page, and each explanation in a folder of its own: 1, 2, ..."""
    explanations, names = comparison.explanations, comparison.names
    first = explanations[0]
    for place, explanation in enumerate(explanations, 1):
        explanation.save(folder / str(place))
    sheet = comparison_sheet(comparison)
    save_sheet(sheet, folder / FIGURE)
    write_page(
        folder,
        "comparison",
        title=sheet.title,
        found=found_pairs(comparison),
        feed=make_feed(explanations, names=names),
        asked=f"Do {len(names)} classifiers see {first.target.label} in the same pixels? "
        f"{sheet.subtitle[0].upper()}{sheet.subtitle[1:].replace(' · ', '; ')}.",
        docs="how-to/compare-checkpoints",
        sheet=sheet,
        names=names,
        notes=[note for one in explanations for note in one.notes],
        details=comparison.details,
        rows=photo_rows(first, classifiers=", ".join(one.model.name for one in explanations)),
    )


def found_pairs(comparison: Comparison) -> list[str]:
    """What each predicts, and how similar the first map that both have is."""
    said = [
        f"{name}: {one.predictions[0].label} {percent(one.predictions[0].probability)}, "
        f"{one.target.label} {percent(one.target.probability)}"
        for name, one in zip(comparison.names, comparison.explanations, strict=True)
    ]
    sentences = [f"{'; '.join(said)}."]
    for pair in comparison.pairs:
        both = f"{comparison.names[0]} and {comparison.names[pair.other]}"
        if pair.note:
            sentences.append(f"{both} have no differences to show: {pair.note}.")
            continue
        name = "active" if "active" in pair.maps else next(iter(pair.maps))
        one = pair.maps[name]
        sentences.append(
            f"The {name} maps of {both} have a rank correlation of {one.correlation:.2f} (1 is the "
            f"same order) and share {100 * one.overlap:.0f} % of their highest tenth of pixels."
        )
    return sentences


def comparison_sheet(comparison: Comparison) -> Sheet:
    """The figure: a row of maps a classifier, then a row of differences a pair."""
    explanations = [pictured(one) for one in comparison.explanations]
    first = explanations[0]
    rows: list[list[Picture | Bars | str]] = []
    for name, one in zip(comparison.names, explanations, strict=True):
        limits, sigma, shade = color_limits(one), smoothing_sigma(one), gray(one.pixels)
        seen = Picture(marked(one, to_uint8(one.pixels)), "what it sees")
        maps = [
            map_picture(key, draw.smooth(values, sigma), shade, limits[key][1])
            for key, values in one.maps.items()
        ]
        panels = [Picture(marked(one, m), key) for key, m in zip(one.maps, maps, strict=True)]
        rows.append([name, seen, Bars(bars(one)), *panels])
    rows += [_differences(comparison, pair) for pair in comparison.pairs if pair.maps]
    sigmas = sorted({f"{smoothing_sigma(explanation):.1f}" for explanation in explanations})
    widths = [0.8, 1, 1.3, *[1] * len(first.maps)]
    return Sheet(
        [Row(cells, 2.4, widths) for cells in rows],
        f"{_source(first)}: why {first.target.label}, by classifier",
        f"compared with {rivals_text(first)} · {_method(first)}{_where(first)}",
        f"smoothed (Gaussian of {' or '.join(sigmas)} px), each map on its own scale, "
        f"clipped at its {100 * CLIP:.0f}th percentile · differences: each map divided by its "
        "root mean square; green: more in the second, purple: more in the first",
    )


def _differences(comparison: Comparison, pair: Pair) -> list[Picture | Bars | str]:
    sigma = smoothing_sigma(comparison.explanations[0])
    cells: list[Picture | Bars | str] = [f"{pair.other + 1} minus 1", "", ""]
    for name, one in pair.maps.items():
        values = draw.smooth(flat(one.difference), sigma)
        limit = float(np.quantile(np.abs(values), CLIP))
        note = f"rank correlation {one.correlation:.2f}, top tenth {100 * one.overlap:.0f} %"
        cells.append(Picture(draw.difference(values, limit), name, note))
    return cells
