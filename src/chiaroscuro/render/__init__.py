"""NumPy arrays to pictures. Knows no method and no torch."""

from chiaroscuro.render.colours import class_colours, one_sided, overlay, two_sided
from chiaroscuro.render.curves import Curve, CurvePanel, CurveSheet, draw_curves, svg_text
from chiaroscuro.render.figure import Bar, FigureSheet, Frame, Panel, draw_figure
from chiaroscuro.render.smoothing import smooth

__all__ = [
    "Bar",
    "Curve",
    "CurvePanel",
    "CurveSheet",
    "FigureSheet",
    "Frame",
    "Panel",
    "class_colours",
    "draw_curves",
    "draw_figure",
    "one_sided",
    "overlay",
    "smooth",
    "svg_text",
    "two_sided",
]
