"""The figure of one explanation, on paper-sized white."""

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from chiaroscuro.render.colors import BRIGHTER, DARKER, ZERO, Rgb
from chiaroscuro.render.labels import percent

INK, FAINT = "#1b1d22", "#6b6f78"
_COLUMNS = 6
_DPI = 120


@dataclass(frozen=True, eq=False)
class Frame:
    """The upright photo (H, W, 3) and the rectangle in it that the network saw."""

    photo: Rgb
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of the class list; `is_target` marks the class that the maps are for."""

    label: str
    share: float
    is_target: bool


@dataclass(frozen=True, eq=False)
class Panel:
    """One map as pictures: pixel-fine, and smoothed; a class map has a `legend` instead."""

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


def draw_figure(spec: FigureSpec, path: Path) -> None:
    """Write the figure as a PNG: photo, classes, reading aid, then every map twice."""
    groups = [spec.panels[i : i + _COLUMNS] for i in range(0, len(spec.panels), _COLUMNS)]
    rows = 2 * len(groups)
    height = 4.4 + 2.75 * rows
    figure = Figure(figsize=(15.5, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1 + rows, _COLUMNS, height_ratios=[1.12] + [1] * rows, left=0.02, right=0.985,
        top=1 - 1.05 / height, bottom=0.85 / height, wspace=0.06, hspace=0.3,
    )  # fmt: skip
    _text(figure, 0.02, 1 - 0.34 / height, spec.title, 17, INK)
    _text(figure, 0.02, 1 - 0.62 / height, spec.subtitle, 10.5, FAINT)
    _text(figure, 0.02, 0.17 / height, spec.footer, 8.5, FAINT)
    _draw_frame(figure.add_subplot(grid[0, :2]), spec.frame)
    _picture(figure.add_subplot(grid[0, 2]), spec.seen, "what the network sees", "")
    _draw_bars(figure.add_subplot(grid[0, 3:5]), spec.bars)
    _draw_key(figure.add_subplot(grid[0, 5]))
    for g, group in enumerate(groups):
        for column, panel in enumerate(group):
            fine, soft = (figure.add_subplot(grid[1 + 2 * g + r, column]) for r in (0, 1))
            _picture(fine, panel.pixels, panel.name, panel.note)
            _draw_smoothed(soft, panel, spec.smoothing)
    with warnings.catch_warnings():
        # A script that the font lacks shows as boxes; the page beside the figure has the name.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, metadata={"Software": None})


def _text(figure: Figure, x: float, y: float, text: str, size: float, color: str) -> None:
    figure.text(x, y, text, fontsize=size, color=color, ha="left", va="center", parse_math=False)


def _picture(axes: Axes, picture: Rgb, title: str, note: str) -> None:
    axes.imshow(picture, interpolation="nearest" if picture.shape[0] < 128 else "antialiased")
    axes.set_axis_off()
    axes.set_anchor("N")
    axes.set_title(title, fontsize=11, color=INK, pad=4, parse_math=False)
    wrapped = textwrap.fill(note, 40)
    axes.text(
        0.5, -0.02, wrapped, transform=axes.transAxes, fontsize=8, color=FAINT, ha="center",
        va="top", parse_math=False,
    )  # fmt: skip


def _draw_smoothed(axes: Axes, panel: Panel, smoothing: str) -> None:
    if panel.smoothed is not None:
        _picture(axes, panel.smoothed, "", f"{panel.name}, {smoothing}")
        return
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()
    for row, (label, color) in enumerate(panel.legend):
        height = 0.94 - 0.11 * row  # nine rows: seven classes, others, ties
        axes.add_patch(Rectangle((0.04, height - 0.035), 0.07, 0.07, color=_hex(color)))
        text = textwrap.shorten(label, 30, placeholder=" …")
        axes.text(0.15, height, text, fontsize=8.5, color=INK, va="center", parse_math=False)


def _draw_frame(axes: Axes, frame: Frame) -> None:
    _picture(axes, frame.photo, "the photo, and what the network sees of it", "")
    height, width = frame.photo.shape[:2]
    for color, line in (("white", 4.0), (INK, 1.6)):
        axes.add_patch(
            Rectangle(
                (frame.left - 0.5, frame.top - 0.5), frame.right - frame.left,
                frame.bottom - frame.top, fill=False, edgecolor=color, linewidth=line,
                clip_on=False,
            )
        )  # fmt: skip
    axes.set_xlim(min(-0.5, frame.left - 0.5), max(width - 0.5, frame.right - 0.5))
    axes.set_ylim(max(height - 0.5, frame.bottom - 0.5), min(-0.5, frame.top - 0.5))


def _draw_bars(axes: Axes, bars: Sequence[Bar]) -> None:
    places = np.arange(len(bars))
    shares = [bar.share for bar in bars]
    colors = [INK if bar.is_target else "#b9bcc4" for bar in bars]
    axes.barh(places, shares, height=0.32, color=colors)
    for place, bar in zip(places, bars, strict=True):
        weight = "bold" if bar.is_target else "normal"
        text = f"{textwrap.shorten(bar.label, 44, placeholder=' …')}   {percent(bar.share)}"
        axes.text(
            0, place - 0.27, text, fontsize=9.5, color=INK, weight=weight, va="bottom",
            parse_math=False,
        )  # fmt: skip
    axes.set(xlim=(-0.06, 1.02), ylim=(len(bars) - 0.5, -0.8))
    axes.set_axis_off()
    axes.set_title("classes (target class in black)", fontsize=11, color=INK, pad=4)


def _draw_key(axes: Axes) -> None:
    """The two-sided scale with its two words, upright, zero in the middle."""
    stops = [tuple(v / 255 for v in color) for color in (DARKER, (150, 150, 150), BRIGHTER)]
    scale = LinearSegmentedColormap.from_list("signed", stops)
    axes.imshow(np.linspace(1, -1, 256)[:, None], cmap=scale, aspect="auto", extent=(0, 0.12, 0, 1))
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    words = (
        (0.94, "brighter helps", _hex(BRIGHTER)),
        (0.5, "no effect shown", FAINT),
        (0.06, "darker helps", _hex(DARKER)),
    )
    for height, word, color in words:
        axes.text(0.18, height, word, va="center", fontsize=10.5, color=color)
    axes.text(0.18, 0.28, "in the maps, zero\nis near-black", fontsize=8, color=_hex(ZERO))
    axes.set_axis_off()
    axes.set_title("how to read the colors", fontsize=11, color=INK, pad=4)


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
