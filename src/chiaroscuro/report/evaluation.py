"""The page of one evaluation, with its charts and a few of the images."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import EDIT_MAPS, MAPS, RANDOM
from chiaroscuro.images import gray
from chiaroscuro.render import one_sided, overlay
from chiaroscuro.render.pictures import Rgb
from chiaroscuro.report.charts import evaluation_charts, fill_title, is_natural
from chiaroscuro.report.linearity import linearity_charts, linearity_sentences, linearity_tables
from chiaroscuro.report.pages import data_uri, write_page
from chiaroscuro.report.runs import SURE, details, draw, images_text, interval_text
from chiaroscuro.report.sanity import check_section
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import EXAMPLES, ClassRow, Curve, Difference, Evaluation

_CLASSES = 50
"""So many classes are shown; all are in the result."""
_CLIP = 0.99


@dataclass(frozen=True, eq=False)
class Example:
    """One image of the gallery: pixels (H, W, 3), maps by name, and edits by what they do."""

    id: str
    label: str | None
    predicted: str
    pixels: Rgb
    maps: Sequence[tuple[str, Rgb]]
    edits: Sequence[tuple[str, Rgb]]


def write(result: Evaluation, folder: Path) -> None:
    """Draw every chart as PNG and SVG, and the page, which needs no other file."""
    columns = _class_columns(result)
    shown = sorted(result.classes, key=lambda row: -row.images)[:_CLASSES]
    write_page(
        folder,
        "evaluation.html.j2",
        result=result,
        images=images_text(result.data.images),
        outcome=list(outcome(result)),
        charts=draw(evaluation_charts(result), folder),
        what_if_charts=draw(linearity_charts(result), folder),
        what_if_sentences=list(linearity_sentences(result)),
        what_if_tables=linearity_tables(result),
        areas=[area_table(result, protocol) for protocol in result.settings.protocols],
        differences=_differences(result),
        metrics=[
            (row.metric, row.measure, row.map, row.fill, interval_text(row.mean))
            for row in result.metrics
        ],
        class_columns=[result.curves[j] for j in columns],
        classes=[_class_row(row, columns) for row in shown],
        examples=list(load_examples(folder)),
        data_uri=data_uri,
        details=details(result),
        sure=SURE,
        check=None if result.check is None else check_section(result.check, result.check_page),
    )


def outcome(result: Evaluation) -> Sequence[str]:
    """The outcome in sentences: the lowest area of each fill, and `original` against chance."""
    protocol = _fairest(result)
    sentences = []
    for fill in result.settings.fills:
        rows = [
            row
            for row in result.curves
            if (row.protocol, row.fill) == (protocol, fill) and not row.control
        ]
        if not rows:
            continue
        best = min(rows, key=lambda row: row.area.value)
        sentences.append(
            f"{fill_title(fill)} ({protocol}): {best.map} has the lowest area, "
            f"{interval_text(best.area)}{_equals(result, best)}.{_fitted(rows, best)}"
            f"{_against_random(result, protocol, fill)}"
        )
    if sentences and protocol != "matched":
        sentences.append(
            "Sparse maps change fewer pixels in this protocol, and no random order was measured: "
            "evaluate with the matched protocol to rank maps."
        )
    return sentences


def lines(result: Evaluation) -> Iterator[str]:
    """What a terminal shows: images, accuracy, the area of every map, what-ifs, other metrics."""
    data, right = result.data, result.accuracy
    accuracy = f"no accuracy: {result.accuracy_note or 'deletion was not measured'}"
    if right is not None:
        accuracy = f"accuracy {interval_text(right, 4)}"
    left_out = f", {data.left_out_count} left out" if data.left_out_count else ""
    yield f"{images_text(data.images)} of {data.name}{left_out}; {accuracy}"
    for protocol in result.settings.protocols:
        for fill in result.settings.fills:
            areas = ", ".join(
                f"{row.map} {row.area.value:.3f}"
                for row in result.curves
                if (row.protocol, row.fill) == (protocol, fill)
                and not row.map.startswith("inverted:")
            )
            if areas:
                yield f"area, {protocol}, {fill}: {areas}"
    yield from linearity_sentences(result)
    for row in result.metrics:
        fill = f", {row.fill}" if row.fill else ""
        yield f"{row.metric}, {row.measure}: {row.map}{fill} {interval_text(row.mean)}"


def _fitted(rows: Sequence[Curve], best: Curve) -> str:
    """That an edit map wins the score it is fitted to, and what is lowest among the other maps."""
    if best.map not in EDIT_MAPS:
        return ""
    said = " It is fitted to this very edit, so this score alone does not make it a better map."
    others = [row for row in rows if row.map not in EDIT_MAPS]
    if not others:
        return said
    next_ = min(others, key=lambda row: row.area.value)
    return (
        f"{said} Of the maps that know no edit, {next_.map} is lowest, {interval_text(next_.area)}."
    )


def _fairest(result: Evaluation) -> str:
    """The protocol to rank maps by: `matched`, where it was run."""
    protocols = result.settings.protocols
    return "matched" if "matched" in protocols else protocols[0]


def _equals(result: Evaluation, best: Curve) -> str:
    """Which maps the lowest one does not differ from significantly."""
    close = [
        row.against if row.map == best.map else row.map
        for row in result.differences
        if (row.protocol, row.fill) == (best.protocol, best.fill)
        and best.map in (row.map, row.against)
        and row.p_holm >= SURE
    ]
    return f" (not significantly different from {', '.join(close)})" if close else ""


def _against_random(result: Evaluation, protocol: str, fill: str) -> str:
    for row in result.differences:
        if (row.protocol, row.fill, row.map, row.against) == (protocol, fill, "original", RANDOM):
            difference = row.difference
            if row.p_holm >= SURE:
                size = f"difference {interval_text(difference, sign='+')}"
                return f" original does not differ significantly from a random order ({size})."
            word = "lower (better)" if difference.value < 0 else "higher (worse)"
            less = Interval(-difference.value, -difference.high, -difference.low)
            size = interval_text(less if difference.value < 0 else difference)
            return f" original is {word} than a random order by {size}."
    return ""


@dataclass(frozen=True, slots=True)
class AreaCell:
    """One area as written; `natural`: the fill is the one that the map is judged by."""

    area: str
    by_range: str
    changed: str
    lowest: bool
    natural: bool


@dataclass(frozen=True, slots=True)
class AreaTable:
    """One protocol's areas: fills with their titles, rows of maps in groups, cells by both."""

    protocol: str
    fills: Sequence[tuple[str, str]]
    groups: Sequence[tuple[str, Sequence[str]]]
    cells: Mapping[tuple[str, str], AreaCell]


def area_table(result: Evaluation, protocol: str) -> AreaTable:
    """Maps as rows, fills as columns, controls in a group of their own, the lowest marked."""
    curves = {(row.map, row.fill): row for row in result.curves if row.protocol == protocol}
    controls = list(dict.fromkeys(name for (name, _), row in curves.items() if row.control))
    maps = list(dict.fromkeys(name for name, _ in curves if name not in controls))
    lowest = {
        fill: min(row.area.value for row in curves.values() if row.fill == fill and not row.control)
        for fill in {fill for name, fill in curves if name in maps}
    }
    return AreaTable(
        protocol,
        [(fill, fill_title(fill)) for fill in result.settings.fills],
        [group for group in (("maps", maps), ("controls", controls)) if group[1]],
        {
            key: AreaCell(
                area=interval_text(row.area),
                by_range=f"{row.area_by_range.value:.3f}",
                changed=f"{100 * row.changed[-1]:.0f} %",
                lowest=row.area.value == lowest.get(row.fill) and not row.control,
                natural=is_natural(*key),
            )
            for key, row in curves.items()
        },
    )


@dataclass(frozen=True, slots=True)
class DifferenceGroup:
    """The pairs of one protocol and fill, each with the better map where one is."""

    title: str
    is_open: bool
    rows: Sequence[tuple[Difference, str]]


def _differences(result: Evaluation) -> list[DifferenceGroup]:
    """Those of the protocol to rank by come first, and open."""
    first = _fairest(result)
    groups: dict[tuple[str, str], list[tuple[Difference, str]]] = {}
    for row in sorted(result.differences, key=lambda row: row.protocol != first):
        better = row.map if row.difference.value < 0 else row.against
        pair = (row, better if row.p_holm < SURE else "")
        groups.setdefault((row.protocol, row.fill), []).append(pair)
    return [
        DifferenceGroup(f"{protocol}, {fill_title(fill)}", protocol == first, rows)
        for (protocol, fill), rows in groups.items()
    ]


def _class_columns(result: Evaluation) -> list[int]:
    """Places of the curves that a class's row shows: each fill's own maps, to rank by."""
    protocol = _fairest(result)
    return [
        j
        for j, row in enumerate(result.curves)
        if row.protocol == protocol and not row.control and is_natural(row.map, row.fill)
    ]


def _class_row(row: ClassRow, columns: Sequence[int]) -> tuple[str, str, str, list[str]]:
    """A class's name, images, accuracy and areas, as written."""
    accuracy = "" if row.accuracy is None else f"{100 * row.accuracy:.1f} %"
    return row.name, f"{row.images:,}", accuracy, [f"{row.areas[j]:.3f}" for j in columns]


def load_examples(folder: Path) -> Iterator[Example]:
    """The images that a run kept."""
    for file in sorted((folder / EXAMPLES).glob("*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            pixels = arrays["pixels"]
            shade = gray(np.moveaxis(pixels, -1, 0).astype(np.float32) / 255)
            names = [name for name in arrays.files if name.startswith("map_")]
            maps = [(name.removeprefix("map_"), arrays[name]) for name in names]
            edits = [(caption, arrays[f"edit_{n}"]) for n, caption in enumerate(about["captions"])]
        pictures = [(name, _map_picture(name, values, shade)) for name, values in maps]
        yield Example(about["id"], about["label"], about["predicted"], pixels, pictures, edits)


def _map_picture(name: str, values: NDArray[np.float32], shade: NDArray[np.floating]) -> Rgb:
    sizes = np.abs(values[values != 0])
    limit = float(np.quantile(sizes, _CLIP)) if sizes.size else 0.0
    choice = {**MAPS, **EDIT_MAPS}.get(name.partition(",")[0])
    if choice is not None and choice.kind == "signed":
        return overlay(values, limit, shade)
    return one_sided(values, limit, "either" if choice is None else choice.helps)
