"""The figure of a what-if: the image before and after, its classes, predicted and actual change."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from chiaroscuro.render.curves import Curve, line_style
from chiaroscuro.render.pictures import Rgb
from chiaroscuro.render.style import (
    EDGE,
    FAINT,
    INK,
    drawing,
    new_figure,
    percent,
    save_png,
    set_frame,
    set_title,
    show_picture,
    write_texts,
)


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


@drawing()
def draw_change(spec: ChangeSpec, path: Path) -> None:
    """Write the figure as a PNG: pictures, classes, and the target logit step by step."""
    height = 10.6
    figure = new_figure(15.5, height)
    upper = figure.add_gridspec(
        1, 3, left=0.02, right=0.98, top=1 - 1.15 / height, bottom=4.55 / height, wspace=0.05
    )
    lower = figure.add_gridspec(
        1, 2, left=0.02, right=0.975, top=3.75 / height, bottom=0.95 / height, wspace=0.16,
        width_ratios=[1, 0.92],
    )  # fmt: skip
    write_texts(figure, spec.title, spec.subtitle, spec.footer)
    titles = ("before", "after", "after, changed pixels outlined")
    pictures = (spec.before, spec.after, spec.outlined)
    for column, shown in enumerate(zip(pictures, titles, spec.notes, strict=True)):
        show_picture(figure.add_subplot(upper[0, column]), *shown, wrap=70)
    _show_shifts(figure.add_subplot(lower[0, 0]), spec.shifts)
    _show_path(figure.add_subplot(lower[0, 1]), spec)
    save_png(figure, path)


def _show_shifts(axes: Axes, shifts: Sequence[Shift]) -> None:
    """Two bars a class, before in gray and after in black, with the logit's change in words."""
    positions = np.arange(len(shifts), dtype=float)
    axes.barh(positions - 0.02, [s.before for s in shifts], height=0.2, color=EDGE)
    axes.barh(positions + 0.2, [s.after for s in shifts], height=0.2, color=INK)
    for place, shift in zip(positions, shifts, strict=True):
        label = textwrap.shorten(shift.label, 34, placeholder=" …")
        axes.text(
            0, place - 0.16, f"{label}   {percent(shift.before)} → {percent(shift.after)}",
            fontsize=9.5, color=INK, weight="bold" if shift.is_target else "normal", va="bottom",
            parse_math=False,
        )  # fmt: skip
        axes.text(
            1.0, place - 0.16, f"logit {shift.actual:+.2f}, predicted {shift.predicted:+.2f}",
            fontsize=8.5, color=FAINT, ha="right", va="bottom", parse_math=False,
        )  # fmt: skip
    axes.set(xlim=(0, 1.0), ylim=(len(shifts) - 0.45, -0.75))
    axes.set_axis_off()
    set_title(axes, "classes before (gray) and after (black); target class in bold")


def _show_path(axes: Axes, spec: ChangeSpec) -> None:
    """The target logit's change against the share of the change: a straight line, and a curve."""
    if spec.valid_step > 0:
        axes.axvspan(0, 100 * spec.valid_step, color="#f3efe6", linewidth=0)
    axes.axhline(0, color=EDGE, linewidth=0.8)
    for curve in spec.curves:
        color, style = line_style(curve.name)
        x = 100 * np.asarray(curve.x)
        axes.plot(x, curve.y, color=color, linestyle=style, linewidth=1.9, label=curve.name)
    axes.set_xlim(0, 100)
    set_frame(axes)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    axes.set_xlabel("share of the change made (%)", fontsize=10, color=INK)
    axes.set_ylabel("change of the target logit", fontsize=10, color=INK)
    set_title(axes, _validity(spec.valid_step))


def _validity(step: float) -> str:
    if step >= 1:
        return "first order is valid for the whole change"
    if step <= 0:
        return "first order is not valid at any step"
    return f"first order is valid up to a step of {step:.2g} (shaded)"
