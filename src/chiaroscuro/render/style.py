"""What all figures share: settings of our own, inks, texts, pictures, bars."""

import textwrap
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from chiaroscuro.render.pictures import Rgb

INK, FAINT, GRID, EDGE = "#1b1d22", "#5d626c", "#e4e6ea", "#b9bcc4"
DPI = 120
_POINT, _SMALLEST = 0.62 / 72, 7.0
"""Inches that a letter takes per point of its size, and the smallest size of a text."""
_SETTINGS = {
    **{key: value for key, value in mpl.rcParamsDefault.items() if "backend" not in key},
    "svg.hashsalt": "chiaroscuro",
    "svg.fonttype": "path",
}
_TURN = threading.RLock()


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of the class list; `is_target` marks the class that the maps are for."""

    label: str
    share: float
    is_target: bool


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's defaults for the block, whatever the user has set; threads take turns."""
    with _TURN, mpl.rc_context(), warnings.catch_warnings():
        dict.update(mpl.rcParams, _SETTINGS)  # without a check of each of 300 values
        # A script that the font lacks shows as boxes; the page next to the figure has the name.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def new_figure(width: float, height: float, dpi: int = DPI) -> Figure:
    """A white figure of a size in inches that no window belongs to."""
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure without what differs from run to run."""
    figure.savefig(path, format="png", metadata={"Software": None})


def write_texts(figure: Figure, title: str, subtitle: str, footer: str, large: float = 17) -> None:
    """Title, subtitle and footer: smaller where they do not fit the width, then cut.

    The footer goes on in a second line.
    """
    width, height = figure.get_size_inches()
    for y, text, size, color in (
        (1 - 0.02 * large / height, title, large, INK),
        (1 - 0.038 * large / height, subtitle, max(9.5, 0.62 * large), FAINT),
        (0.18 / height, footer, 8.5, FAINT),
    ):
        lines = 2 if text == footer else 1
        room = (width - 0.4) / _POINT
        fitting = max(_SMALLEST, min(size, lines * 0.95 * room / max(len(text), 1)))
        shown = textwrap.wrap(text, int(room / fitting), max_lines=lines, placeholder="…")
        figure.text(
            0.2 / width,
            y,
            "\n".join(shown),
            fontsize=fitting,
            color=color,
            va="center",
            parse_math=False,
        )


def show_picture(axes: Axes, picture: Rgb, title: str = "", note: str = "", wrap: int = 40) -> None:
    """A picture with a title above and a note below."""
    axes.imshow(picture, interpolation="nearest" if picture.shape[0] < 128 else "antialiased")
    axes.set_axis_off()
    axes.set_anchor("N")
    set_title(axes, title, loc="center")
    axes.text(
        0.5, -0.02, textwrap.fill(note, wrap), transform=axes.transAxes, fontsize=8, color=FAINT,
        ha="center", va="top", parse_math=False,
    )  # fmt: skip


def show_bars(axes: Axes, bars: Sequence[Bar], letters: int = 44, size: float = 9.5) -> None:
    """Classes with their shares, the target class in black."""
    for place, bar in enumerate(bars):
        axes.barh(place, bar.share, height=0.3, color=INK if bar.is_target else EDGE)
        label = textwrap.shorten(bar.label, letters, placeholder=" …")
        axes.text(
            0, place - 0.26, f"{label}   {percent(bar.share)}", fontsize=size, color=INK,
            weight="bold" if bar.is_target else "normal", va="bottom", parse_math=False,
        )  # fmt: skip
    axes.set(xlim=(-0.06, 1.02), ylim=(len(bars) - 0.5, -0.8))
    axes.set_axis_off()


def set_title(axes: Axes, text: str, loc: Any = "left") -> None:
    """A small title above axes."""
    # A given height spares laying the titles out around the ticks, at every draw.
    axes.set_title(text, fontsize=11, color=INK, pad=5, loc=loc, y=1, parse_math=False)


def set_frame(axes: Axes) -> None:
    """A faint grid behind the lines, and only the left and the lower edge."""
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=8.5, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(EDGE)


def percent(share: float) -> str:
    """A share in percent; one that is not quite none or all says so.

    >>> percent(0.123), percent(0.0001), percent(0.9999)
    ('12.3 %', '< 0.1 %', '> 99.9 %')
    """
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.9995 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"
