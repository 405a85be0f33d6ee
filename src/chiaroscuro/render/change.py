"""The figure of a what-if: the image before and after, its classes, predicted and actual change."""

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from chiaroscuro.render.colors import Rgb
from chiaroscuro.render.curves import FAINT, GRID, INK, Curve, line_style
from chiaroscuro.render.labels import percent

_DPI = 120
_BEFORE = "#b9bcc4"


@dataclass(frozen=True, slots=True)
class Shift:
    """One class before and after: probabilities, and the logit's predicted and actual change."""

    label: str
    before: float
    after: float
    logit: float
    predicted: float
    actual: float
    is_target: bool


@dataclass(frozen=True, eq=False)
class ChangeSpec:
    """Everything the figure shows; `outlined` is the image after, larger, its changes marked."""

    title: str
    subtitle: str
    before: Rgb
    after: Rgb
    outlined: Rgb
    notes: tuple[str, str, str]
    shifts: Sequence[Shift]
    curves: Sequence[Curve]
    valid_step: float
    footer: str


def draw_change(spec: ChangeSpec, path: Path) -> None:
    """Write the figure as a PNG: pictures, classes, and the target logit step by step."""
    height = 10.6
    figure = Figure(figsize=(15.5, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    pictures = figure.add_gridspec(
        1, 3, left=0.02, right=0.98, top=1 - 1.15 / height, bottom=4.55 / height, wspace=0.05
    )
    lower = figure.add_gridspec(
        1, 2, left=0.02, right=0.975, top=3.75 / height, bottom=0.95 / height, wspace=0.16,
        width_ratios=[1, 0.92],
    )  # fmt: skip
    for y, text, size, color in (
        (1 - 0.36 / height, spec.title, 17, INK),
        (1 - 0.68 / height, spec.subtitle, 10.5, FAINT),
        (0.22 / height, spec.footer, 8.5, FAINT),
    ):
        figure.text(0.02, y, text, fontsize=size, color=color, va="center", parse_math=False)
    titles = ("before", "after", "after, changed pixels outlined")
    shown = (spec.before, spec.after, spec.outlined)
    for column, (title, picture, note) in enumerate(zip(titles, shown, spec.notes, strict=True)):
        _picture(figure.add_subplot(pictures[0, column]), picture, title, note)
    _draw_shifts(figure.add_subplot(lower[0, 0]), spec.shifts)
    _draw_path(figure.add_subplot(lower[0, 1]), spec)
    with warnings.catch_warnings():
        # A script that the font lacks shows as boxes; the page beside the figure has the name.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, metadata={"Software": None})


def _picture(axes: Axes, picture: Rgb, title: str, note: str) -> None:
    axes.imshow(picture, interpolation="nearest" if picture.shape[0] < 128 else "antialiased")
    axes.set_axis_off()
    axes.set_title(title, fontsize=11.5, color=INK, pad=5, parse_math=False)
    axes.text(
        0.5, -0.025, textwrap.fill(note, 70), transform=axes.transAxes, fontsize=9, color=FAINT,
        ha="center", va="top", parse_math=False,
    )  # fmt: skip


def _draw_shifts(axes: Axes, shifts: Sequence[Shift]) -> None:
    """Two bars a class, before in gray and after in black, with the logit's change in words."""
    places = np.arange(len(shifts), dtype=float)
    axes.barh(places - 0.02, [s.before for s in shifts], height=0.2, color=_BEFORE)
    axes.barh(places + 0.2, [s.after for s in shifts], height=0.2, color=INK)
    for place, shift in zip(places, shifts, strict=True):
        label = textwrap.shorten(shift.label, 34, placeholder=" …")
        weight = "bold" if shift.is_target else "normal"
        axes.text(
            0, place - 0.16, f"{label}   {percent(shift.before)} → {percent(shift.after)}",
            fontsize=9.5, color=INK, weight=weight, va="bottom", parse_math=False,
        )  # fmt: skip
        axes.text(
            1.0, place - 0.16, f"logit {shift.actual:+.2f}, predicted {shift.predicted:+.2f}",
            fontsize=8.5, color=FAINT, ha="right", va="bottom", parse_math=False,
        )  # fmt: skip
    axes.set(xlim=(0, 1.0), ylim=(len(shifts) - 0.45, -0.75))
    axes.set_axis_off()
    axes.set_title(
        "classes before (gray) and after (black); target class in bold", fontsize=11,
        color=INK, pad=4, loc="left",
    )  # fmt: skip


def _draw_path(axes: Axes, spec: ChangeSpec) -> None:
    """The target logit's change against the share of the change: a straight line, and a curve."""
    if spec.valid_step > 0:
        axes.axvspan(0, 100 * spec.valid_step, color="#f3efe6", linewidth=0)
    axes.axhline(0, color="#b9bcc4", linewidth=0.8)
    for curve in spec.curves:
        color, style = line_style(curve.name)
        x = 100 * np.asarray(curve.x)
        axes.plot(x, curve.y, color=color, linestyle=style, linewidth=1.9, label=curve.name)
    axes.set_xlim(0, 100)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=8.5, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#b9bcc4")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    axes.set_xlabel("share of the change made (%)", fontsize=10, color=INK)
    axes.set_ylabel("change of the target logit", fontsize=10, color=INK)
    axes.set_title(_validity(spec.valid_step), fontsize=11, color=INK, pad=4, loc="left")


def _validity(step: float) -> str:
    if step >= 1:
        return "first order is valid for the whole change"
    if step <= 0:
        return "first order is not valid at any step"
    return f"first order is valid up to a step of {step:.2g} (shaded)"
