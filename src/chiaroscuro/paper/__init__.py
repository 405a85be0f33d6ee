"""The paper's networks, tables and figures, made anew from images and set beside its own."""

from chiaroscuro.paper.cells import CELLS, Cell
from chiaroscuro.paper.reproduction import PaperSettings, reproduce

__all__ = ["CELLS", "Cell", "PaperSettings", "reproduce"]
