"""The small parts that several results share, and their rows as tables."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.catalog import TextClasses, takes_classes
from chiaroscuro.choices import Framing
from chiaroscuro.errors import ChoiceError, ResultError, first_line, missing_extra

if TYPE_CHECKING:
    import pandas as pd

Row = TypeVar("Row")
_KINDS = 20
"""So many kinds of faults are counted apart."""


class Shown:
    """A result that a notebook shows by itself."""

    def _repr_html_(self) -> str:
        try:
            return str(import_module("chiaroscuro.notebook").html(self))
        except Exception as error:  # a file may hold parts that do not fit each other
            raise ResultError(f"{self!r} cannot be shown ({first_line(error)})") from error


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the ends of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that could not be used, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reason:
    """A kind of fault, its numbers as N, and how many images were left out for it."""

    text: str
    count: int


def reasons_of(left_out: Iterable[LeftOut]) -> tuple[Reason, ...]:
    """The kinds of faults, the most frequent first.

    >>> reasons_of([LeftOut("a", "broken (at byte 7)"), LeftOut("b", "broken (at byte 9)")])
    (Reason(text='broken', count=2),)
    """
    kinds = Counter(
        re.sub("[0-9]+([.,][0-9]+)*", "N", one.reason.partition(" (")[0]) for one in left_out
    )
    return tuple(Reason(text, count) for text, count in kinds.most_common(_KINDS))


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The images of a run: `images` were measured; the first `left_out` are listed, all counted.

    `reasons`: why, the most frequent kind first.
    """

    source: str
    split: str
    images: int
    limit: int | None
    seed: int
    left_out_count: int
    left_out: tuple[LeftOut, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def name(self) -> str:
        """The data and their split, or the data alone where that is a folder without splits."""
        is_plain = PurePath(self.source).name == self.split
        return self.source if is_plain else f"{self.source}, {self.split}"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The classifier behind a result, read off itself; `sha256` of parameters and buffers.

    `shown`: the channels that pictures show; none where they show all. `volumes`: of (C, D, H, W).
    `tf32`: what its GPU rounds to TensorFloat-32 on the way, of "convolutions" and "products".
    `region`: the part of the picture whose scores it gives, "" for the whole.
    """

    name: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    channels: int
    multi_label: bool
    framing: Framing
    origin: Mapping[str, Any]
    device: str
    dtype: str
    sha256: str | None = None
    shown: tuple[int, ...] = ()
    volumes: bool = False
    tf32: tuple[str, ...] = ()
    region: str = ""

    @property
    def texts(self) -> TextClasses | None:
        """Its classes where they are texts; raises `ChoiceError` for a record without them."""
        if not takes_classes(self.name):
            return None
        return TextClasses(*(tuple(self.origin.get(name, ())) for name in ("classes", "templates")))


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class of an image."""

    index: int
    label: str
    logit: float
    probability: float

    def __str__(self) -> str:
        return f"{self.label} {100 * self.probability:.1f} %"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Where pixels come from: a path or a word, their hash, and what reading changed.

    `white`: the value that became 1, where there are more than 8 bits.
    """

    source: str
    sha256: str
    is_file: bool
    notes: tuple[str, ...] = ()
    white: float | None = None


@dataclass(frozen=True, slots=True)
class MapFacts:
    """A map in numbers: its form, and how much of pixels and of channel entries its mask takes."""

    form: str
    kind: str
    reads: str
    support_pixels: float
    support_entries: float


@dataclass(frozen=True, slots=True)
class CropBox:
    """The rectangle of the upright photo that the network saw, beyond its edges where padded."""

    left: float
    top: float
    right: float
    bottom: float
    photo_width: int
    photo_height: int


@dataclass(frozen=True, eq=False)
class RegionFacts:
    """The part of a picture whose class scores are explained, in pixels that the network saw.

    `asked`: how it was chosen. `mask` (H, W): the pixels inside. `box`: what holds them all, or of
    a detector the box itself: left, top, right, bottom. Both are None where each image has its own.
    """

    asked: str
    mask: NDArray[np.bool_] | None = None
    box: tuple[float, float, float, float] | None = None


def frame_of(rows: Iterable[Any]) -> "pd.DataFrame":
    """Rows as a table: an interval is three columns, a dataclass its fields', a tuple none."""
    try:
        import pandas as pd
    except ImportError as error:
        raise missing_extra("to_frame", "pandas", "data") from error
    return pd.DataFrame([dict(_columns(row)) for row in rows])


def _columns(row: Any) -> Iterator[tuple[str, Any]]:
    names = row if isinstance(row, Mapping) else [field.name for field in fields(row)]
    for name in names:
        value = row[name] if isinstance(row, Mapping) else getattr(row, name)
        if isinstance(value, Interval):
            yield name, value.value
            yield from ((f"{name}_low", value.low), (f"{name}_high", value.high))
        elif is_dataclass(value):
            yield from _columns(value)
        elif not isinstance(value, tuple):
            yield name, value


def pick(rows: Sequence[Row], **fields: object) -> Row:
    """The row whose fields have these values; raises `ChoiceError` where there is none."""
    for row in rows:
        if all(getattr(row, name) == value for name, value in fields.items()):
            return row
    wanted = ", ".join(f"{name} {value}" for name, value in fields.items())
    raise ChoiceError(f"nothing was measured of {wanted}")
