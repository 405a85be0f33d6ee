"""Curves with bands, one panel a fill, each name in a colour of its own."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

INK, FAINT, GRID = "#1b1d22", "#5d626c", "#e4e6ea"
_COLUMNS = 2
_DPI = 110

Line = Literal["-", "--", "-.", ":"]

_STYLES: dict[str, tuple[str, Line]] = {
    "original": (INK, "-"),
    "positive": ("#d35400", "-"),
    "active": ("#f39c12", "--"),
    "negative": ("#1b4f9c", "-"),
    "inactive": ("#3d9be9", "--"),
    "signed": ("#8e44ad", "-"),
    "margin": ("#1e8449", "-"),
    "random": ("#7d828c", ":"),
}
"""Colour and line by map; orange where brighter helps, blue where darker does."""
_OTHERS = ("#b03a77", "#00796b", "#6d4c41", "#5c6bc0", "#827717")
_INVERTED = "inverted:"


@dataclass(frozen=True, eq=False)
class Curve:
    """One line by name, with the ends of its band where it has one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True, eq=False)
class CurvePanel:
    """Curves on one pair of axes."""

    title: str
    curves: Sequence[Curve]
    note: str = ""


@dataclass(frozen=True, eq=False)
class CurveSheet:
    """A figure of panels that share their axes' meaning; `percent_x` writes shares as per cent."""

    title: str
    subtitle: str
    panels: Sequence[CurvePanel]
    x_label: str
    y_label: str
    footer: str = ""
    y_limits: tuple[float, float] = (0.0, 1.0)
    percent_x: bool = True
    columns: int = _COLUMNS


def draw_curves(sheet: CurveSheet, path: Path) -> None:
    """Write the figure as PNG or SVG, by the file's suffix; the same sheet gives the same bytes."""
    kind = path.suffix.removeprefix(".")
    path.write_bytes(_drawn(sheet, kind))


def svg_text(sheet: CurveSheet) -> str:
    """The figure as SVG text."""
    return _drawn(sheet, "svg").decode("utf-8")


def line_style(name: str) -> tuple[str, Line]:
    """Colour and line style of a name: the same in every figure."""
    if name.startswith(_INVERTED):
        return line_style(name.removeprefix(_INVERTED))[0], "-."
    if name in _STYLES:
        return _STYLES[name]
    return _OTHERS[sum(name.encode()) % len(_OTHERS)], "-"


def _drawn(sheet: CurveSheet, kind: str) -> bytes:
    target = io.BytesIO()
    metadata: dict[str, Any] = (
        {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    )
    with mpl.rc_context({"svg.hashsalt": "chiaroscuro", "svg.fonttype": "path"}):
        _figure(sheet).savefig(target, format=kind, metadata=metadata)
    return target.getvalue()


def _figure(sheet: CurveSheet) -> Figure:
    columns = min(sheet.columns, len(sheet.panels))
    rows = -(-len(sheet.panels) // columns)
    width, height = 5.4 * columns + 0.6, 3.7 * rows + 1.35
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        rows, columns, left=0.75 / width, right=1 - 0.2 / width, top=1 - 1.15 / height,
        bottom=0.75 / height, wspace=0.16, hspace=0.32,
    )  # fmt: skip
    left = 0.2 / width
    for y, text, size, colour in (
        (1 - 0.3 / height, sheet.title, 14, INK),
        (1 - 0.6 / height, sheet.subtitle, 9.5, FAINT),
        (0.16 / height, sheet.footer, 8.5, FAINT),
    ):
        figure.text(left, y, text, fontsize=size, color=colour, va="center", parse_math=False)
    for n, panel in enumerate(sheet.panels):
        axes = figure.add_subplot(grid[n // columns, n % columns])
        _draw_panel(axes, panel, sheet)
        if n % columns == 0:
            axes.set_ylabel(sheet.y_label, fontsize=10, color=INK)
        if n + columns >= len(sheet.panels):
            axes.set_xlabel(sheet.x_label, fontsize=10, color=INK)
    return figure


def _draw_panel(axes: Axes, panel: CurvePanel, sheet: CurveSheet) -> None:
    scale = 100 if sheet.percent_x else 1
    for curve in panel.curves:
        colour, style = line_style(curve.name)
        thin = curve.name.startswith(_INVERTED)
        x = np.asarray(curve.x, float) * scale
        if curve.low is not None and curve.high is not None:
            axes.fill_between(x, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(
            x, curve.y, style, color=colour, linewidth=1.1 if thin else 1.9,
            alpha=0.75 if thin else 1.0, label=curve.name,
        )  # fmt: skip
    axes.set_title(panel.title, fontsize=11, color=INK, loc="left", pad=6, parse_math=False)
    low, high = sheet.y_limits
    axes.set_ylim(low - 0.02 * (high - low), high + 0.03 * (high - low))
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=8.5, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#b9bcc4")
    if panel.note:
        axes.text(
            0.0, -0.13, panel.note, transform=axes.transAxes, fontsize=8, color=FAINT, va="top"
        )
    _draw_legend(axes, panel)


def _draw_legend(axes: Axes, panel: CurvePanel) -> None:
    """Names by their lines, the highest at the right end first, as the eye meets them."""
    ends = sorted(panel.curves, key=lambda curve: -float(np.mean(np.asarray(curve.y, float))))
    handles = [
        Line2D([], [], color=line_style(c.name)[0], linestyle=line_style(c.name)[1], linewidth=1.9)
        for c in ends
    ]
    legend = axes.legend(
        handles, [curve.name for curve in ends], fontsize=8.5, loc="upper right", frameon=True,
        facecolor="white", framealpha=0.85, edgecolor="none", handlelength=2.4,
        ncols=2 if len(ends) > 6 else 1,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_color(INK)
        text.set_parse_math(False)
