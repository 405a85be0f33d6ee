"""A training's curve: accuracies and loss against epochs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from chiaroscuro.render.style import INK, drawing, new_figure, save_png, set_frame, write_texts

_TRAIN, _TEST, _LOSS = "#7d828c", "#1b4f9c", "#d35400"
_WIDTH, _HEIGHT = 7.4, 5.6
_GAP = 0.06
"""The least distance of two labels, as a share of the axis."""


@dataclass(frozen=True, eq=False)
class TrainingCurve:
    """Figures of epochs 1, 2, ...; `test_accuracy` is empty where nothing was tested."""

    title: str
    loss: Sequence[float]
    train_accuracy: Sequence[float]
    test_accuracy: Sequence[float] = ()


@drawing()
def draw_training(curve: TrainingCurve, path: Path) -> None:
    """Write the curve as PNG; the same curve gives the same bytes."""
    figure = new_figure(_WIDTH, _HEIGHT)
    grid = figure.add_gridspec(
        2, 1, height_ratios=(2, 1), left=0.09, right=0.765, top=0.86, bottom=0.095, hspace=0.14
    )
    write_texts(figure, curve.title, _summary(curve), "", large=13)
    above, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    lines = [("train accuracy", curve.train_accuracy, _TRAIN)]
    if curve.test_accuracy:
        lines.append(("test accuracy", curve.test_accuracy, _TEST))
    _draw_lines(above, "accuracy", lines, top=1.0)
    above.tick_params(labelbottom=False)
    _draw_lines(below, "loss", [("train loss", curve.loss, _LOSS)], top=_highest(curve.loss))
    below.set_xlabel("epoch", fontsize=10, color=INK)
    save_png(figure, path)


def _summary(curve: TrainingCurve) -> str:
    count = len(curve.loss)
    epochs = f"{count} epoch{'s' if count > 1 else ''}"
    if not curve.test_accuracy:
        return f"{epochs}, the last one kept; no images to test on"
    return f"{epochs}, the last one kept: test accuracy {curve.test_accuracy[-1]:.4f}"


def _highest(values: Sequence[float]) -> float:
    """The axis' end for a loss, which may have become infinite."""
    return 1.08 * max((value for value in values if math.isfinite(value)), default=1.0) or 1.0


def _draw_lines(
    axes: Axes, label: str, lines: Sequence[tuple[str, Sequence[float], str]], *, top: float
) -> None:
    count = len(lines[0][1])
    for _, values, color in lines:
        axes.plot(
            range(1, count + 1), values, color=color, linewidth=1.9, clip_on=False,
            marker="o" if count < 12 else None, markersize=4,
        )  # fmt: skip
    axes.set_xlim((1, count) if count > 1 else (0.5, 1.5))
    axes.set_ylim(0, top)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.set_ylabel(label, fontsize=10, color=INK)
    set_frame(axes)
    _label_ends(axes, lines, top)


def _label_ends(axes: Axes, lines: Sequence[tuple[str, Sequence[float], str]], top: float) -> None:
    """Names and last values right of the lines' ends, in their colors, none over another."""
    above = math.inf
    for name, values, color in sorted(lines, key=lambda line: -line[1][-1]):
        value = values[-1]
        above = min(value / top if math.isfinite(value) else 0.0, 1.0, above - _GAP)
        axes.annotate(
            f"{name} {value:.3f}", (1, above), xycoords="axes fraction", xytext=(8, 0),
            textcoords="offset points", color=color, fontsize=9.5, va="center",
        )  # fmt: skip
