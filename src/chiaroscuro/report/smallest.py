"""A smallest edit as a figure, a page and sentences."""

from pathlib import Path

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
from chiaroscuro.report.what_if import became
from chiaroscuro.results import FIGURE
from chiaroscuro.results.changes import Edit, SmallestEdit


def write(result: SmallestEdit, folder: Path) -> None:
    """Write the figure and the page into a folder."""
    sheet, own = smallest_sheet(result), result.before[0].label
    save_sheet(sheet, folder / FIGURE)
    chart = draw_sheet(Sheet([Row([_chart(result)], 2.9)], width=7.2), "svg")[0]
    what = f"turn {own} into {result.choices.to or 'another class'} when they"
    if result.choices.keep:
        what = f"alone keep {own} when all others"
    *pictures, (bars, _) = (row.cells for row in sheet.rows)
    write_page(
        folder,
        "smallest",
        title=sheet.title,
        asked=f"By {result.model.name}: which fewest pixels {what} {_become(result)}?",
        found=sentences(result),
        docs="how-to/flip",
        notes=result.notes,
        rows_of_pictures=pictures,
        bars=bars,
        chart=data_uri(chart, "svg+xml"),
        result=result,
        rows=photo_rows(result),
        footer=sheet.footer,
    )


def sentences(result: SmallestEdit) -> list[str]:
    """What the first edit does, whether each of its units is needed, and what it cost."""
    (first, *others), chosen, own = result.edits, result.choices, result.before[0].label
    said = [_does(result, first), _needs(result, first)]
    if not first.reached:
        goal = chosen.to or "another class"
        said = [f"No edit was found that makes {goal} win: {own} stays, with all changed too."]
    if others:
        more = ", ".join(f"{units_text(result, e)} (→ {e.after[0]})" for e in others)
        does = "keep it" if chosen.keep else "turn it"
        said.append(f"Other pixels {does} too: {more}.")
    gradients = sum(edit.gradients for edit in result.edits)
    predictions = sum(edit.predictions for edit in result.edits)
    return [
        *said,
        f"The search took {gradients:,} gradient passes and {predictions:,} predictions.",
    ]


def _does(result: SmallestEdit, edit: Edit) -> str:
    size, verb = units_text(result, edit), "keeps" if edit.units == 1 else "keep"
    change = f"{result.before[0]} → {edit.after[0]}"
    if result.choices.keep:
        return f"{size} alone {verb} the prediction when all others {_become(result)}: {change}."
    return f"{size} {_become(result, edit.units)}, and the prediction turns: {change}."


def _needs(result: SmallestEdit, edit: Edit) -> str:
    if edit.units == 0:
        return "No pixel of the image is needed for it."
    if not edit.minimal:
        return "The budget ended before each was tested: some of them may not be needed."
    own, goal = result.before[0].label, result.choices.to
    end = f"restored, {own} wins again" if goal is None else f"restored, {goal} no longer wins"
    if result.choices.keep:
        end = f"changed too, {own} no longer wins"
    who = "It is needed: with it" if edit.units == 1 else "Each is needed: with any one"
    return f"{who} {end} (real predictions). Smaller edits may exist: this is the smallest found."


def units_text(result: SmallestEdit, edit: Edit) -> str:
    """The size of an edit: 3 of 1,024 pixels; 2 cells of 8 x 8 pixels (128 of 1,024 pixels)."""
    kind, cells = "voxels" if edit.mask.ndim == 3 else "pixels", result.choices.cells
    pixels = f"{int(edit.mask.sum()):,} of {edit.mask.size:,} {kind}"
    if cells == "pixels":
        return pixels
    many = "" if edit.units == 1 else "s"
    side = " x ".join([cells] * edit.mask.ndim)
    unit = f"superpixel{many}" if "super" in cells else f"cell{many} of {side} {kind}"
    return f"{edit.units:,} {unit} ({pixels})"


def _become(result: SmallestEdit, count: int = 2) -> str:
    """The change in words: become black."""
    return f"{'becomes' if count == 1 else 'become'} {became(result.choices.change)}"


def title(result: SmallestEdit) -> str:
    """What was asked, as "cat.jpg: what turns tiger cat into lynx?"."""
    goal = "" if result.choices.to is None else f" into {result.choices.to}"
    verb = "alone keeps" if result.choices.keep else "turns"
    return f"{Path(result.image.source).name}: what {verb} {result.before[0].label}{goal}?"


def smallest_sheet(result: SmallestEdit) -> Sheet:
    """The figure: the image before and after, the pixels of each edit, the classes, the path."""
    rows = [Row(edit_pictures(result, n), 5.4) for n in range(len(result.edits))]
    return Sheet(
        [*rows, Row([_bars(result), _chart(result)], 3.6)],
        title(result),
        f"{result.model.name} · {sentences(result)[0]}",
        "found by growth along gradients, removal and swaps, each step decided by real predictions",
    )


def edit_pictures(result: SmallestEdit, number: int) -> list[Picture]:
    """The image before and after an edit, and where its pixels lie."""
    drawn, edit = pictured(result), result.edits[number]
    before, after = to_uint8(drawn.pixels), to_uint8(drawn.edited(number))
    region = None if result.region is None else result.region.mask
    marked = before if region is None else outlined(before, region, width=6)
    which = "" if number == 0 else f", edit {number + 1}"
    kept = "kept" if result.choices.keep else "changed"
    pixels = outlined(before, drawn.edits[number].mask, width=3)
    return [
        Picture(marked, "before", str(result.before[0])),
        Picture(after, f"after{which}", str(edit.after[0])),
        Picture(pixels, f"before, {kept} pixels outlined{which}", units_text(result, edit)),
    ]


def _bars(result: SmallestEdit) -> Bars:
    """The best classes before and after the first edit."""
    own, pairs = result.before[0].index, result.edits[0].shown
    return Bars(
        [Bar(a.label, a.probability, a.index == own, b.probability) for a, b in pairs],
        "classes before (gray) and after (black)",
    )


def _chart(result: SmallestEdit) -> Chart:
    """The probability of the predicted class and its rival, as the units change one by one."""
    edit, own = result.edits[0], result.before[0]
    curves = [Curve(own.label, edit.steps, edit.path)]
    curves += [Curve(edit.rival, edit.steps, edit.path_rival)] * (edit.rival != own.label)
    cells = result.choices.cells.partition(":")[0]
    units, done = (
        "cells" if cells.isdigit() else cells,
        "kept" if result.choices.keep else "changed",
    )
    top = max(max(curve.y) for curve in curves)
    ends = (-0.02 * top, 1.03 * top)
    return Chart("", curves, f"{units} {done}, most needed first", "probability", ends, False)
