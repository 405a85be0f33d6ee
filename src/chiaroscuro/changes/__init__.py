"""One image with a given change of pixels: what first order foretells, and what comes."""

from chiaroscuro.changes.outcome import WhatIf
from chiaroscuro.changes.single import what_if

__all__ = ["WhatIf", "what_if"]
