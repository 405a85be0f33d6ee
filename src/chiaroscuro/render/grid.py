"""Pictures in rows and named columns, as papers show maps side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from chiaroscuro.render.colors import Rgb
from chiaroscuro.render.figure import FAINT, INK

_SIDE = 1.25
_DPI = 110


@dataclass(frozen=True, eq=False)
class GridSheet:
    """A title, names of columns, and rows of pictures, each row with a label."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Rgb]]]
    footer: str = ""


def hot(values: NDArray[np.floating[Any]]) -> Rgb:
    """A map scaled to [0, 1] by its extremes, in the 'hot' colors of the paper's figures."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros(values.shape)
    return np.asarray(mpl.colormaps["hot"](scaled, bytes=True)[..., :3])


def draw_grid(sheet: GridSheet, path: Path) -> None:
    """Write the figure as a PNG."""
    width = _SIDE * len(sheet.columns) * 1.06 + 1.35
    height = _SIDE * len(sheet.rows) * 1.06 + 1.15
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.12 / width, 1 - 0.25 / height, sheet.title, fontsize=12, color=INK, va="center",
                parse_math=False)  # fmt: skip
    figure.text(0.12 / width, 0.14 / height, sheet.footer, fontsize=8, color=FAINT, va="center",
                parse_math=False)  # fmt: skip
    grid = figure.add_gridspec(
        len(sheet.rows), len(sheet.columns), left=1.25 / width, right=1 - 0.1 / width,
        top=1 - 0.75 / height, bottom=0.32 / height, wspace=0.06, hspace=0.06,
    )  # fmt: skip
    for r, (label, pictures) in enumerate(sheet.rows):
        for c, picture in enumerate(pictures):
            axes = figure.add_subplot(grid[r, c])
            axes.imshow(
                picture, interpolation="nearest" if picture.shape[0] < 128 else "antialiased"
            )
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
            if r == 0:
                axes.set_title(sheet.columns[c], fontsize=10, color=INK, pad=4)
            if c == 0:
                axes.set_ylabel(
                    label, fontsize=8.5, color=INK, rotation=0, ha="right", va="center", labelpad=6,
                    parse_math=False,
                )  # fmt: skip
    figure.savefig(path, metadata={"Software": None})
