"""The figure of a comparison: a row of maps for each network, and one for each difference."""

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from chiaroscuro.render.colors import Rgb
from chiaroscuro.render.figure import FAINT, INK, Bar

_SIDE, _GAP, _BARS = 1.75, 0.12, 2.3
"""Inches of a picture, between pictures, and of the list of classes."""
_TOP, _BOTTOM, _NAME = 1.0, 0.42, 0.42
_DPI = 120


@dataclass(frozen=True, eq=False)
class Row:
    """One row: a name, what the network sees, its classes, its maps.

    A difference has no `seen` and no `bars`.

    `notes` stand below the pictures, one each, or are empty.
    """

    name: str
    seen: Rgb | None
    bars: Sequence[Bar]
    pictures: Sequence[Rgb]
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class ComparisonSpec:
    """Everything the figure shows; `columns` name the maps."""

    title: str
    subtitle: str
    columns: Sequence[str]
    rows: Sequence[Row]
    footer: str


def draw_comparison(spec: ComparisonSpec, path: Path) -> None:
    """Write the figure as a PNG."""
    width = 0.3 + _SIDE + _BARS + 3 * _GAP + len(spec.columns) * (_SIDE + _GAP)
    height = _TOP + len(spec.rows) * (_SIDE + _NAME) + _BOTTOM
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for y, text, size, color in (
        (1 - 0.28 / height, spec.title, 15.0, INK),
        (1 - 0.56 / height, spec.subtitle, 9.5, FAINT),
        (0.16 / height, spec.footer, 8.0, FAINT),
    ):
        figure.text(0.2 / width, y, text, fontsize=size, color=color, va="center",
                    parse_math=False)  # fmt: skip

    def axes(left: float, bottom: float, wide: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, wide / width, _SIDE / height))

    for r, row in enumerate(spec.rows):
        bottom = height - _TOP - (r + 1) * _SIDE - r * _NAME
        name = textwrap.shorten(row.name, 60, placeholder=" …")
        figure.text(0.2 / width, (bottom + _SIDE + 0.1) / height, name, fontsize=10, color=INK,
                    weight="bold", parse_math=False)  # fmt: skip
        if row.seen is not None:
            _picture(axes(0.2, bottom, _SIDE), row.seen, "", "")
            _bars(axes(0.2 + _SIDE + _GAP, bottom, _BARS), row.bars)
        start = 0.2 + _SIDE + _BARS + 3 * _GAP
        for c, picture in enumerate(row.pictures):
            title = spec.columns[c] if r == 0 else ""
            note = row.notes[c] if row.notes else ""
            _picture(axes(start + c * (_SIDE + _GAP), bottom, _SIDE), picture, title, note)
    with warnings.catch_warnings():
        # A script that the font lacks shows as boxes; the page beside the figure has the name.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, metadata={"Software": None})


def _picture(axes: Axes, picture: Rgb, title: str, note: str) -> None:
    axes.imshow(picture, interpolation="nearest" if picture.shape[0] < 128 else "antialiased")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10.5, color=INK, pad=4, parse_math=False)
    axes.text(0.5, -0.02, textwrap.fill(note, 34), transform=axes.transAxes, fontsize=7,
              color=FAINT, ha="center", va="top", parse_math=False)  # fmt: skip


def _bars(axes: Axes, bars: Sequence[Bar]) -> None:
    for place, bar in enumerate(bars):
        axes.barh(place, bar.share, height=0.28, color=INK if bar.is_target else "#b9bcc4")
        label = textwrap.shorten(bar.label, 26, placeholder=" …")
        axes.text(0, place - 0.24, f"{label}  {100 * bar.share:.1f} %", fontsize=8.5, color=INK,
                  weight="bold" if bar.is_target else "normal", va="bottom",
                  parse_math=False)  # fmt: skip
    axes.set(xlim=(-0.02, 1.02), ylim=(len(bars) - 0.5, -0.9))
    axes.set_axis_off()
