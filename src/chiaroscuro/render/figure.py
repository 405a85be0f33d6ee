"""The figure of one explanation."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from chiaroscuro.render.pictures import BRIGHTER, DARKER, ZERO, Rgb
from chiaroscuro.render.style import (
    FAINT,
    INK,
    Bar,
    drawing,
    new_figure,
    save_png,
    set_title,
    show_bars,
    show_picture,
    write_texts,
)

_COLUMNS = 6


@dataclass(frozen=True, eq=False)
class Frame:
    """The upright photo (H, W, 3) and the rectangle in it that the network sees."""

    photo: Rgb
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, eq=False)
class Panel:
    """One map as pictures: pixel by pixel, and smoothed; a class map has a `legend` instead."""

    name: str
    note: str
    pixels: Rgb
    smoothed: Rgb | None
    legend: Sequence[tuple[str, tuple[int, int, int]]] = ()


@dataclass(frozen=True, eq=False)
class FigureSpec:
    """Everything the figure shows. `smoothing` says the Gaussian's width in words."""

    title: str
    subtitle: str
    frame: Frame
    seen: Rgb
    bars: Sequence[Bar]
    panels: Sequence[Panel]
    smoothing: str
    footer: str


@drawing()
def draw_figure(spec: FigureSpec, path: Path) -> None:
    """Write the figure as a PNG: photo, classes, reading aid, then every map twice."""
    groups = [spec.panels[i : i + _COLUMNS] for i in range(0, len(spec.panels), _COLUMNS)]
    rows = 2 * len(groups)
    height = 4.4 + 2.75 * rows
    figure = new_figure(15.5, height)
    grid = figure.add_gridspec(
        1 + rows, _COLUMNS, height_ratios=[1.12] + [1] * rows, left=0.02, right=0.985,
        top=1 - 1.05 / height, bottom=0.85 / height, wspace=0.06, hspace=0.3,
    )  # fmt: skip
    write_texts(figure, spec.title, spec.subtitle, spec.footer)
    _show_frame(figure.add_subplot(grid[0, :2]), spec.frame)
    show_picture(figure.add_subplot(grid[0, 2]), spec.seen, "what the network sees")
    classes = figure.add_subplot(grid[0, 3:5])
    show_bars(classes, spec.bars)
    set_title(classes, "classes (target class in black)", loc="center")
    _show_key(figure.add_subplot(grid[0, 5]))
    for g, group in enumerate(groups):
        for column, panel in enumerate(group):
            fine, soft = (figure.add_subplot(grid[1 + 2 * g + r, column]) for r in (0, 1))
            show_picture(fine, panel.pixels, panel.name, panel.note)
            if panel.smoothed is None:
                _show_legend(soft, panel)
            else:
                show_picture(soft, panel.smoothed, "", f"{panel.name}, {spec.smoothing}")
    save_png(figure, path)


def _show_legend(axes: Axes, panel: Panel) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()
    for row, (label, color) in enumerate(panel.legend):
        height = 0.94 - 0.11 * row  # nine rows: seven classes, others, ties
        axes.add_patch(Rectangle((0.04, height - 0.035), 0.07, 0.07, color=_hex(color)))
        text = textwrap.shorten(label, 30, placeholder=" …")
        axes.text(0.15, height, text, fontsize=8.5, color=INK, va="center", parse_math=False)


def _show_frame(axes: Axes, frame: Frame) -> None:
    show_picture(axes, frame.photo, "the photo, and what the network sees of it")
    height, width = frame.photo.shape[:2]
    corner = frame.left - 0.5, frame.top - 0.5
    sides = frame.right - frame.left, frame.bottom - frame.top
    for color, line in (("white", 4.0), (INK, 1.6)):
        axes.add_patch(
            Rectangle(corner, *sides, fill=False, edgecolor=color, linewidth=line, clip_on=False)
        )
    axes.set_xlim(min(-0.5, frame.left - 0.5), max(width - 0.5, frame.right - 0.5))
    axes.set_ylim(max(height - 0.5, frame.bottom - 0.5), min(-0.5, frame.top - 0.5))


def _show_key(axes: Axes) -> None:
    """The two-sided scale with its two words, upright, zero in the middle."""
    stops = [tuple(v / 255 for v in color) for color in (DARKER, (150, 150, 150), BRIGHTER)]
    scale = LinearSegmentedColormap.from_list("signed", stops)
    axes.imshow(np.linspace(1, -1, 256)[:, None], cmap=scale, aspect="auto", extent=(0, 0.12, 0, 1))
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    for height, word, size, color in (
        (0.94, "brighter helps", 10.5, _hex(BRIGHTER)),
        (0.5, "no effect shown", 10.5, FAINT),
        (0.06, "darker helps", 10.5, _hex(DARKER)),
        (0.32, "in the maps, zero\nis near-black", 8, _hex(ZERO)),
    ):
        axes.text(0.18, height, word, va="center", fontsize=size, color=color)
    axes.set_axis_off()
    set_title(axes, "how to read the colors", loc="center")


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
