"""Charts drawn once: a page that shows the same chart again gets the same bytes again.

`tests/test_figures.py` holds that drawing twice would have given them.
"""

from collections.abc import Hashable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from chiaroscuro.render.sheets import Sheet, draw_sheet

_drawn: dict[Hashable, list[bytes]] = {}


def drawn_once(sheet: Sheet, *kinds: str) -> list[bytes]:
    """What `draw_sheet` gives, kept for every further call with an equal sheet."""
    key = (_key(sheet), kinds)
    if key not in _drawn:
        _drawn[key] = draw_sheet(sheet, *kinds)
    return [*_drawn[key]]


def _key(value: Any) -> Hashable:
    if is_dataclass(value):
        return (type(value), *(_key(getattr(value, one.name)) for one in fields(value)))
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    assert isinstance(value, Hashable)
    return value
