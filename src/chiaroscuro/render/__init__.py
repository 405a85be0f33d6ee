"""NumPy arrays to pictures. Knows no method and no torch."""

from chiaroscuro.render.colours import class_colours, one_sided, overlay, two_sided
from chiaroscuro.render.figure import Bar, FigureSheet, Frame, Panel, draw_figure
from chiaroscuro.render.smoothing import smooth

__all__ = [
    "Bar",
    "FigureSheet",
    "Frame",
    "Panel",
    "class_colours",
    "draw_figure",
    "one_sided",
    "overlay",
    "smooth",
    "two_sided",
]
