"""Curves with bands in panels, each name in a color of its own, written at the line's end."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from chiaroscuro.errors import ChoiceError
from chiaroscuro.render.style import (
    FAINT,
    INK,
    drawing,
    new_figure,
    set_frame,
    set_title,
    write_texts,
)

_COLUMNS = 2
_PITCH, _HEIGHT = 5.9, 2.75
"""Inches from panel to panel, and of a panel's axes."""
_LEFT, _TOP, _BETWEEN, _BOTTOM, _FOOTER = 0.8, 1.2, 0.85, 0.62, 0.3
_GAP, _LEADER, _SAMPLE, _LETTER = 0.165, 0.2, 0.34, 0.074
"""Inches between names, to their line samples, of these, and of a name's letter."""
_LONGEST = 24
_THIN, _WIDE = 1.1, 1.9

Line = Literal["-", "--", "-.", ":"]

_STYLES: dict[str, tuple[str, Line]] = {
    "original": (INK, "-"),
    "positive": ("#d35400", "-"),
    "active": ("#f39c12", "--"),
    "negative": ("#1b4f9c", "-"),
    "inactive": ("#3d9be9", "--"),
    "signed": ("#8e44ad", "-"),
    "margin": ("#1e8449", "-"),
    "expected-effect": ("#00796b", "--"),
    "partial-edit": ("#b03a77", "-"),
    "random": ("#7d828c", ":"),
    "predicted": ("#8a5a00", "--"),
    "actual": (INK, "-"),
}
"""Color and line by map; orange where brighter helps, blue where darker does."""
_OTHERS = ("#6d4c41", "#5c6bc0", "#827717", "#c2185b", "#00838f")
_INVERTED = "inverted:"
_FILES: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}},
}
"""How each kind of file is written: without what differs from run to run, and quickly."""


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
class CurveSpec:
    """A figure of panels that share their axes' meaning; `percent_x` writes shares as percent."""

    title: str
    subtitle: str
    panels: Sequence[CurvePanel]
    x_label: str
    y_label: str
    footer: str = ""
    y_limits: tuple[float, float] = (0.0, 1.0)
    percent_x: bool = True
    columns: int = _COLUMNS


def draw_curves(spec: CurveSpec, path: Path) -> None:
    """Write the figure as PNG or SVG, by the file's suffix; the same spec gives the same bytes.

    Raises `ChoiceError` for another suffix, or a spec without curves.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in ("png", "svg"):
        raise ChoiceError(f"{path.name}: curves are drawn as .png or .svg, choose one of them")
    path.write_bytes(_drawn(spec, kind)[kind])


def save_curves(spec: CurveSpec, folder: Path, name: str) -> str:
    """Write NAME.png and NAME.svg, drawn once; returns the SVG text."""
    drawn = _drawn(spec, "svg", "png")
    for kind, data in drawn.items():
        (folder / f"{name}.{kind}").write_bytes(data)
    return drawn["svg"].decode("utf-8")


def svg_text(spec: CurveSpec) -> str:
    """The figure as SVG text; raises `ChoiceError` for a spec without curves."""
    return _drawn(spec, "svg")["svg"].decode("utf-8")


def line_style(name: str) -> tuple[str, Line]:
    """Color and line style of a name: the same in every figure."""
    if name.startswith(_INVERTED):
        return line_style(name.removeprefix(_INVERTED))[0], "-."
    if name in _STYLES:
        return _STYLES[name]
    return _OTHERS[sum(name.encode()) % len(_OTHERS)], "-"


@drawing()
def _drawn(spec: CurveSpec, *kinds: str) -> dict[str, bytes]:
    """The figure's files by kind."""
    if not any(panel.curves for panel in spec.panels):
        raise ChoiceError(f"figure {spec.title!r} has no curves: give at least one")
    figure, files = _figure(spec), {}
    for kind in kinds:
        target = io.BytesIO()
        figure.savefig(target, format=kind, **_FILES[kind])
        files[kind] = target.getvalue()
    return files


def _figure(spec: CurveSpec) -> Figure:
    columns = min(spec.columns, len(spec.panels))
    rows = -(-len(spec.panels) // columns)
    width = _PITCH * columns + 0.2
    height = _TOP + rows * _HEIGHT + (rows - 1) * _BETWEEN + _BOTTOM
    height += _FOOTER if spec.footer else 0
    figure = new_figure(width, height, dpi=110)
    write_texts(figure, spec.title, spec.subtitle, spec.footer, large=14)
    room = max(_label_width(curve.name) for panel in spec.panels for curve in panel.curves)
    for n, panel in enumerate(spec.panels):
        row, column = divmod(n, columns)
        left, bottom = _LEFT + column * _PITCH, height - _TOP - _HEIGHT - row * (_HEIGHT + _BETWEEN)
        span = _PITCH - _LEFT - room
        axes = figure.add_axes((left / width, bottom / height, span / width, _HEIGHT / height))
        _draw_panel(axes, panel, spec)
        _draw_names(axes, panel, spec, span)
        if column == 0:
            axes.set_ylabel(spec.y_label, fontsize=10, color=INK, parse_math=False)
        if n + columns >= len(spec.panels):
            axes.set_xlabel(spec.x_label, fontsize=10, color=INK, parse_math=False)
    return figure


def _draw_panel(axes: Axes, panel: CurvePanel, spec: CurveSpec) -> None:
    for curve in panel.curves:
        x = _across(curve, spec)
        if curve.low is not None and curve.high is not None:
            color = line_style(curve.name)[0]
            axes.fill_between(x, curve.low, curve.high, color=color, alpha=0.13, linewidth=0)
        axes.plot(x, curve.y, **_look(curve.name))
    set_title(axes, panel.title)
    axes.set_title(panel.note, fontsize=8, color=FAINT, loc="right", y=1, pad=5, parse_math=False)
    low, high = spec.y_limits
    axes.set_ylim(low - 0.02 * (high - low), high + 0.03 * (high - low))
    ends = [end for curve in panel.curves for end in _across(curve, spec)[[0, -1]].tolist()]
    first, last = (min(ends), max(ends)) if ends else (0.0, 1.0)
    # The axes end where the lines do, so that their names stand right next to them.
    axes.set_xlim(first - 0.015 * (last - first or 1), last if last > first else first + 1)
    set_frame(axes)


def _draw_names(axes: Axes, panel: CurvePanel, spec: CurveSpec, span: float) -> None:
    """Each name at its line's right end behind a sample of the line, in the order of the ends."""
    # Lines that end together are named in the order that they had on the way.
    curves = sorted(panel.curves, key=lambda c: (c.y[-1], float(np.mean(np.asarray(c.y, float)))))
    low, high = axes.get_ylim()
    ends = [min(max(curve.y[-1], low), high) for curve in curves]
    first, last = axes.get_xlim()
    frame = axes.get_yaxis_transform()
    for curve, end, place in zip(
        curves, ends, spread(ends, _GAP * (high - low) / _HEIGHT, low, high), strict=True
    ):
        look = _look(curve.name)
        begin = (_across(curve, spec)[-1] - first) / (last - first)
        turn, stop = 1 + _LEADER / span, 1 + (_LEADER + _SAMPLE) / span
        leader = {"color": look["color"], "linewidth": 0.6, "alpha": 0.6}
        for x, y, style in (
            ((begin, turn), (end, place), leader),
            ((turn, stop), (place, place), look),
        ):
            axes.add_line(Line2D(x, y, transform=frame, clip_on=False, **style))
        axes.text(
            stop + 0.07 / span, place, _short(curve.name), transform=frame, fontsize=8.5,
            color=INK, va="center_baseline", parse_math=False,
        )  # fmt: skip


def _look(name: str) -> dict[str, Any]:
    color, style = line_style(name)
    thin = name.startswith(_INVERTED)
    return {
        "color": color, "linestyle": style, "linewidth": _THIN if thin else _WIDE,
        "alpha": 0.75 if thin else 1.0,
    }  # fmt: skip


def _across(curve: Curve, spec: CurveSpec) -> NDArray[np.float64]:
    return np.asarray(curve.x, np.float64) * (100 if spec.percent_x else 1)


def _short(name: str) -> str:
    return textwrap.shorten(name, _LONGEST, placeholder="…") if " " in name else name[:_LONGEST]


def _label_width(name: str) -> float:
    return _LEADER + _SAMPLE + 0.12 + _LETTER * len(_short(name))


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Positions within [low, high], at least `gap` apart, in the order of `wanted`, nearest to it.

    Nearest in the sum of squares, before the ends are cut to [low, high]. Where so many do not fit,
    they share the room evenly.

    >>> spread([0.1, 0.1, 0.9], 0.2, 0.0, 1.0).round(2).tolist()
    [0.0, 0.2, 0.9]
    """
    count = len(wanted)
    if count == 0:
        return np.zeros(0)
    gap = min(gap, (high - low) / max(count - 1, 1))
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(count)
    base = _rising(np.asarray(wanted, float)[order] - steps)
    positions = np.empty(count)
    positions[order] = np.clip(base, low, high - steps[-1]) + steps
    return positions


def _rising(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The non-decreasing sequence nearest to the values: neighbors that fall share their mean."""
    blocks: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, size = value, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    return np.repeat([mean for mean, _ in blocks], [size for _, size in blocks])
