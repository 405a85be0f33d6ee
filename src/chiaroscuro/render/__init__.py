"""NumPy arrays to pictures and figures. Knows no method and no torch."""

from chiaroscuro.render.change import ChangeSpec, Shift, draw_change
from chiaroscuro.render.curves import (
    Curve,
    CurvePanel,
    CurveSpec,
    draw_curves,
    save_curves,
    svg_text,
)
from chiaroscuro.render.figure import FigureSpec, Frame, Panel, draw_figure
from chiaroscuro.render.pictures import (
    class_colors,
    difference,
    enlarged,
    one_sided,
    outlined,
    overlay,
    smooth,
    two_sided,
)
from chiaroscuro.render.rows import ComparisonSpec, GridSpec, Row, draw_comparison, draw_grid, hot
from chiaroscuro.render.style import Bar, percent

__all__ = [
    "Bar",
    "ChangeSpec",
    "ComparisonSpec",
    "Curve",
    "CurvePanel",
    "CurveSpec",
    "FigureSpec",
    "Frame",
    "GridSpec",
    "Panel",
    "Row",
    "Shift",
    "class_colors",
    "difference",
    "draw_change",
    "draw_comparison",
    "draw_curves",
    "draw_figure",
    "draw_grid",
    "enlarged",
    "hot",
    "one_sided",
    "outlined",
    "overlay",
    "percent",
    "save_curves",
    "smooth",
    "svg_text",
    "two_sided",
]
