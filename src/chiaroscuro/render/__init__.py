"""NumPy arrays to pictures. Knows no method and no torch."""

from chiaroscuro.render.change import ChangeSpec, Shift, draw_change
from chiaroscuro.render.colors import class_colors, one_sided, overlay, two_sided
from chiaroscuro.render.comparison import ComparisonSpec, Row, draw_comparison
from chiaroscuro.render.curves import (
    Curve,
    CurvePanel,
    CurveSheet,
    draw_curves,
    save_curves,
    svg_text,
)
from chiaroscuro.render.figure import Bar, FigureSpec, Frame, Panel, draw_figure
from chiaroscuro.render.outline import enlarged, outlined
from chiaroscuro.render.smoothing import smooth

__all__ = [
    "Bar",
    "ChangeSpec",
    "ComparisonSpec",
    "Curve",
    "CurvePanel",
    "CurveSheet",
    "FigureSpec",
    "Frame",
    "Panel",
    "Row",
    "Shift",
    "class_colors",
    "draw_change",
    "draw_comparison",
    "draw_curves",
    "draw_figure",
    "enlarged",
    "one_sided",
    "outlined",
    "overlay",
    "save_curves",
    "smooth",
    "svg_text",
    "two_sided",
]
