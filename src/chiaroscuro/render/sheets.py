"""Figures from one description: rows of pictures, class bars, legends and charts."""

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from chiaroscuro.render import percent
from chiaroscuro.render.pictures import Color, Rgb

INK, FAINT, GRID, EDGE = "#1b1d22", "#5d626c", "#e4e6ea", "#b9bcc4"
_TOP, _BOTTOM = 1.0, 0.55
"""Inches of a figure's title and of its footer."""
_LONGEST = 26
"""Letters of a name in a legend."""
_SETTINGS = {
    **{key: value for key, value in mpl.rcParamsDefault.items() if "backend" not in key},
    "svg.hashsalt": "chiaroscuro",
    "svg.fonttype": "path",
}
_FILES: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}},
}
"""How each kind of file is written: without what differs from run to run, and quickly."""
_TURN = threading.RLock()

Line = Literal["-", "--", "-.", ":"]
_LINES: dict[str, tuple[str, Line]] = {
    "original": (INK, "-"),
    "positive": ("#d35400", "-"),
    "active": ("#f39c12", "--"),
    "negative": ("#1b4f9c", "-"),
    "inactive": ("#3d9be9", "--"),
    "signed": ("#8e44ad", "-"),
    "margin": ("#1e8449", "-"),
    "expected-effect": ("#00796b", "--"),
    "partial-edit": ("#b03a77", "-"),
    "any-change": ("#5d4037", "-"),
    "random": ("#7d828c", ":"),
    "predicted": ("#8a5a00", "--"),
    "actual": (INK, "-"),
    "train accuracy": ("#7d828c", "-"),
    "test accuracy": ("#1b4f9c", "-"),
    "train loss": ("#d35400", "-"),
}
"""Color and line by name; orange where brighter helps, blue where darker does."""
_OTHERS = ("#6d4c41", "#5c6bc0", "#827717", "#c2185b", "#00838f")


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels (H, W, 3) with a title, a note below, and a frame: left, top, right, bottom."""

    pixels: Rgb
    title: str = ""
    note: str = ""
    frame: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """A class with its share, and that `after` a change; `is_target`: the maps are for it."""

    label: str
    share: float
    is_target: bool
    after: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Bars:
    """A list of classes."""

    bars: Sequence[Bar]
    title: str = ""


@dataclass(frozen=True, eq=False)
class Legend:
    """Colors by what they mean."""

    colors: Sequence[tuple[str, Color]]
    title: str = ""


@dataclass(frozen=True, eq=False)
class Curve:
    """One line by name, with the ends of its band where it has one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True, eq=False)
class Chart:
    """Curves on one pair of axes.

    `y_limits`: None is an end that the curves decide; `percent_x` writes shares as percent, whole
    numbers without it; x up to `shade` is marked.
    """

    title: str
    curves: Sequence[Curve]
    x_label: str
    y_label: str
    y_limits: tuple[float | None, float | None] = (-0.02, 1.03)
    percent_x: bool = True
    shade: float = 0.0


@dataclass(frozen=True, eq=False)
class Row:
    """Cells next to each other with their relative widths; a cell of text is a label."""

    cells: Sequence[Picture | Bars | Legend | Chart | str]
    height: float
    widths: Sequence[float] | None = None


@dataclass(frozen=True, eq=False)
class Sheet:
    """A figure: rows below each other; sizes in inches."""

    rows: Sequence[Row]
    title: str = ""
    subtitle: str = ""
    footer: str = ""
    width: float = 15.5


def save_sheet(sheet: Sheet, *files: Path) -> None:
    """Write a figure, drawn once, as PNG or SVG by each suffix; the same sheet, the same bytes."""
    drawn = draw_sheet(sheet, *(file.suffix[1:] for file in files))
    for file, data in zip(files, drawn, strict=True):
        file.write_bytes(data)


def draw_sheet(sheet: Sheet, *kinds: str) -> list[bytes]:
    """A figure as the bytes of files, "png" or "svg"."""
    files = []
    with _drawing():
        figure = _figure(sheet)
        for kind in kinds:
            target = io.BytesIO()
            figure.savefig(target, format=kind, **_FILES[kind])
            files.append(target.getvalue())
    return files


def line_style(name: str) -> tuple[str, Line]:
    """Color and line style of a name: the same in every figure."""
    if name.startswith("inverted:"):
        return line_style(name.removeprefix("inverted:"))[0], "-."
    return _LINES.get(name) or (_OTHERS[sum(name.encode()) % len(_OTHERS)], "-")


def hot(values: NDArray[np.floating]) -> Rgb:
    """A map (H, W) scaled to its own range in the 'hot' colors of the paper's figures."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros(values.shape)
    return np.asarray(mpl.colormaps["hot"](scaled, bytes=True)[..., :3])


@contextmanager
def _drawing() -> Iterator[None]:
    """Matplotlib's defaults for the block, whatever the user has set; threads take turns."""
    with _TURN, mpl.rc_context(), warnings.catch_warnings():
        dict.update(mpl.rcParams, _SETTINGS)  # without a check of each of 300 values
        # A script that the font lacks shows as boxes; the page next to the figure has the name.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def _figure(sheet: Sheet) -> Figure:
    top, bottom = _TOP * bool(sheet.title), _BOTTOM * bool(sheet.footer)
    heights = [row.height for row in sheet.rows]
    height = sum(heights) + top + bottom
    low, high = bottom / height, 1 - top / height
    figure = Figure((sheet.width, height), dpi=120, facecolor="white")
    margins = {"left": 0.02, "right": 0.98, "bottom": low, "top": high, "hspace": 0.3}
    if any(isinstance(cell, Chart) for row in sheet.rows for cell in row.cells):
        rect = (0.01, low, 0.98, high - low)
        figure.set_layout_engine(ConstrainedLayoutEngine(rect=rect, h_pad=0.1))
        margins = {}
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights, **margins)
    for place, row in enumerate(sheet.rows):
        cells = grid[place].subgridspec(1, len(row.cells), width_ratios=row.widths, wspace=0.06)
        for column, cell in enumerate(row.cells):
            _draw(figure.add_subplot(cells[column]), cell)
    _write_texts(figure, sheet)
    return figure


def _write_texts(figure: Figure, sheet: Sheet) -> None:
    """Title, subtitle and footer: smaller where they do not fit the width, then cut."""
    width, height = figure.get_size_inches()
    for inches, text, size, color, lines in (
        (height - 0.32, sheet.title, 15, INK, 1),
        (height - 0.62, sheet.subtitle, 10, FAINT, 1),
        (0.18, sheet.footer, 8.5, FAINT, 2),
    ):
        letters = (width - 0.4) / 0.0086  # of one point; 0.0086 inches are a letter's mean width
        fitting = max(7.0, min(size, 0.95 * lines * letters / max(len(text), 1)))
        shown = "\n".join(wrap(text, int(letters / fitting), max_lines=lines, placeholder="…"))
        look: dict[str, Any] = {"fontsize": fitting, "color": color, "parse_math": False}
        figure.text(0.2 / width, inches / height, shown, va="center", **look)


def _draw(axes: Axes, cell: Picture | Bars | Legend | Chart | str) -> None:
    if not isinstance(cell, Chart):
        axes.set_axis_off()
    match cell:
        case Picture():
            _draw_picture(axes, cell)
        case Bars():
            _draw_bars(axes, cell)
        case Legend():
            hues = [("#{:02x}{:02x}{:02x}".format(*color), name) for name, color in cell.colors]
            patches = [Patch(color=hue, label=_short(name, 34)) for hue, name in hues]
            _draw_legend(axes, patches, loc="upper left")
            _draw_title(axes, cell.title, "left")
        case Chart():
            _draw_chart(axes, cell)
        case _:
            _write(axes, 1, 0.5, _folded(cell, 18), 9, ha="right", va="center", weight="bold")


def _draw_picture(axes: Axes, cell: Picture) -> None:
    axes.imshow(cell.pixels, interpolation="nearest" if len(cell.pixels) < 128 else "antialiased")
    axes.set_anchor("N")
    _draw_title(axes, cell.title, "center")
    note = _folded(cell.note, max(12, int(15 * axes.bbox.width / axes.figure.dpi)))
    place = {"transform": axes.transAxes, "ha": "center", "va": "top"}
    _write(axes, 0.5, -0.02, note, 8, color=FAINT, **place)
    if cell.frame is None:
        return
    height, width = cell.pixels.shape[:2]
    left, top, right, bottom = (end - 0.5 for end in cell.frame)
    for color, line in (("white", 4.0), (INK, 1.6)):
        box = Rectangle((left, top), right - left, bottom - top, fill=False, clip_on=False)
        box.set(edgecolor=color, linewidth=line)
        axes.add_patch(box)
    axes.set_xlim(min(-0.5, left), max(width - 0.5, right))
    axes.set_ylim(max(height - 0.5, bottom), min(-0.5, top))


def _draw_bars(axes: Axes, cell: Bars) -> None:
    """One bar a class, or two, before in gray and after in black."""
    for place, bar in enumerate(cell.bars):
        shares = [bar.share] if bar.after is None else [bar.share, bar.after]
        dark = bar.is_target if bar.after is None else False
        for n, share in enumerate(shares):
            axes.barh(place + 0.22 * n, share, height=0.2, color=INK if n or dark else EDGE)
        text = f"{_short(bar.label, 34)}   {' → '.join(map(percent, shares))}"
        weight = "bold" if bar.is_target else "normal"
        _write(axes, 0, place - 0.14, text, 9, weight=weight, va="bottom")
        _write(
            axes, 1, place - 0.14, _short(bar.note, 40), 8.5, color=FAINT, ha="right", va="bottom"
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(len(cell.bars) - 0.5, -0.8))
    _draw_title(axes, cell.title, "left")


def _draw_chart(axes: Axes, chart: Chart) -> None:
    scale = 100 if chart.percent_x else 1
    lines = []
    for curve in chart.curves:
        x = scale * np.asarray(curve.x, float)
        color, style = line_style(curve.name)
        thin = curve.name.startswith("inverted:")
        look: dict[str, Any] = {
            "color": color,
            "linestyle": style,
            "linewidth": 1.1 if thin else 1.9,
        }
        if curve.low is not None and curve.high is not None:
            axes.fill_between(x, curve.low, curve.high, color=color, alpha=0.13, linewidth=0)
        axes.plot(x, curve.y, marker="o" if len(x) < 3 else None, markersize=4, **look)
        lines.append((curve.y[-1], Line2D([], [], label=_short(curve.name, _LONGEST), **look)))
    # Names in the order of the lines' ends, so that each stands about where its line ends.
    names = [line for _, line in sorted(lines, key=lambda pair: -np.nan_to_num(pair[0]))]
    _draw_legend(axes, names, loc="center left", bbox_to_anchor=(1.01, 0.5))
    if chart.shade > 0:
        axes.axvspan(0, scale * chart.shade, color="#f3efe6", linewidth=0, zorder=0)
    axes.margins(x=0.02)
    axes.set_ylim(*chart.y_limits)
    axes.set_xlabel(chart.x_label, fontsize=10, color=INK, parse_math=False)
    axes.set_ylabel(chart.y_label, fontsize=10, color=INK, parse_math=False)
    _draw_title(axes, chart.title, "left")
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=8.5, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(EDGE)
    if not chart.percent_x:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


def _draw_legend(axes: Axes, handles: Sequence[Any], **place: Any) -> None:
    legend = axes.legend(
        handles=handles, frameon=False, fontsize=9, labelcolor=INK, handlelength=2.4, **place
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_title(axes: Axes, text: str, loc: Literal["left", "center"]) -> None:
    # A given height spares laying the titles out around the ticks, at every draw.
    axes.set_title(_short(text, 60), fontsize=11, color=INK, pad=5, loc=loc, y=1, parse_math=False)


def _write(axes: Axes, x: float, y: float, text: str, size: float, **look: Any) -> None:
    axes.text(x, y, text, fontsize=size, parse_math=False, **{"color": INK, **look})


def _folded(text: str, letters: int) -> str:
    return "\n".join(wrap(text, letters, max_lines=4, placeholder="…"))


def _short(text: str, letters: int) -> str:
    """A text in one line, cut where it is too long."""
    text = " ".join(text.split())
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
