"""Figures of rows of maps: several classifiers with their differences, or a plain grid."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from chiaroscuro.render.pictures import Rgb
from chiaroscuro.render.style import (
    INK,
    Bar,
    drawing,
    new_figure,
    save_png,
    show_bars,
    show_picture,
    write_texts,
)

_SIDE, _GAP, _BARS = 1.75, 0.12, 2.3
"""Inches of a picture, between pictures, and of the list of classes."""
_TOP, _BOTTOM, _NAME = 1.0, 0.42, 0.42
_CELL = 1.32
"""Inches of a grid's picture, with the room around it."""


@dataclass(frozen=True, eq=False)
class Row:
    """One row: a name, what the network sees, its classes, its maps.

    A difference has no `seen` and no `bars`. `notes` stand below the pictures, one each, or are
    empty.
    """

    name: str
    seen: Rgb | None
    bars: Sequence[Bar]
    pictures: Sequence[Rgb]
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class ComparisonSpec:
    """Everything a comparison's figure shows; `columns` name the maps."""

    title: str
    subtitle: str
    columns: Sequence[str]
    rows: Sequence[Row]
    footer: str


@dataclass(frozen=True, eq=False)
class GridSpec:
    """A title, names of columns, and rows of pictures, each row with a label."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Rgb]]]
    footer: str = ""


@drawing()
def draw_comparison(spec: ComparisonSpec, path: Path) -> None:
    """Write a comparison's figure as a PNG."""
    width = 0.3 + _SIDE + _BARS + 3 * _GAP + len(spec.columns) * (_SIDE + _GAP)
    height = _TOP + len(spec.rows) * (_SIDE + _NAME) + _BOTTOM
    figure = new_figure(width, height)
    write_texts(figure, spec.title, spec.subtitle, spec.footer, large=15)

    def axes(left: float, bottom: float, wide: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, wide / width, _SIDE / height))

    for r, row in enumerate(spec.rows):
        bottom = height - _TOP - (r + 1) * _SIDE - r * _NAME
        name = textwrap.shorten(row.name, 60, placeholder=" …")
        figure.text(
            0.2 / width, (bottom + _SIDE + 0.1) / height, name, fontsize=10, color=INK,
            weight="bold", parse_math=False,
        )  # fmt: skip
        if row.seen is not None:
            show_picture(axes(0.2, bottom, _SIDE), row.seen)
            show_bars(axes(0.2 + _SIDE + _GAP, bottom, _BARS), row.bars, letters=26, size=8.5)
        start = 0.2 + _SIDE + _BARS + 3 * _GAP
        for c, picture in enumerate(row.pictures):
            title = spec.columns[c] if r == 0 else ""
            note = row.notes[c] if row.notes else ""
            show_picture(axes(start + c * (_SIDE + _GAP), bottom, _SIDE), picture, title, note, 30)
    save_png(figure, path)


@drawing()
def draw_grid(spec: GridSpec, path: Path) -> None:
    """Write a grid as a PNG."""
    width = _CELL * len(spec.columns) + 1.35
    height = _CELL * len(spec.rows) + 1.15
    figure = new_figure(width, height, dpi=110)
    write_texts(figure, spec.title, "", spec.footer, large=12)
    grid = figure.add_gridspec(
        len(spec.rows), len(spec.columns), left=1.25 / width, right=1 - 0.1 / width,
        top=1 - 0.75 / height, bottom=0.32 / height, wspace=0.06, hspace=0.06,
    )  # fmt: skip
    for r, (label, pictures) in enumerate(spec.rows):
        for c, picture in enumerate(pictures):
            axes = figure.add_subplot(grid[r, c])
            show_picture(axes, picture, spec.columns[c] if r == 0 else "")
            if c == 0:
                axes.text(
                    -0.06, 0.5, label, transform=axes.transAxes, fontsize=8.5, color=INK,
                    ha="right", va="center", parse_math=False,
                )  # fmt: skip
    save_png(figure, path)


def hot(values: NDArray[np.floating[Any]]) -> Rgb:
    """A map (H, W) scaled to its own range in the 'hot' colors of the paper's figures."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros(values.shape)
    return np.asarray(mpl.colormaps["hot"](scaled, bytes=True)[..., :3])
