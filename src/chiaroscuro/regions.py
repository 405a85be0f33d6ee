"""A part of a photo as the question: a box, a mask, or the part that the network calls a class."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiaroscuro.choices import Class, as_float, as_int
from chiaroscuro.errors import ChoiceError

Corners = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True, eq=False, repr=False)
class Region:
    """A part of a photo whose class scores are explained; made by one of its four functions.

    A network that scores every position has its scores averaged there; of a detector they are those
    of one box. Coordinates are pixels of the upright photo. `corners`: of a box. `values`: a mask,
    or where it lies. `label`: the class that is predicted there. `number`: a detector's box.
    """

    corners: Corners | None = None
    values: Any = None
    label: Class | None = None
    number: int | None = None

    @classmethod
    def box(cls, left: float, top: float, right: float, bottom: float) -> "Region":
        """The pixels whose middle lies between `left` and `right`, `top` and `bottom`; of a
        detector, its box that is nearest to that.

        Raises `ChoiceError` unless left < right and top < bottom.
        """
        ends = [as_float("region", end) for end in (left, top, right, bottom)]
        left, top, right, bottom = ends
        if not (left < right and top < bottom and all(map(math.isfinite, ends))):
            raise ChoiceError(
                f"region is {ends}: expected left < right and top < bottom, in pixels"
            )
        return cls(corners=(left, top, right, bottom))

    @classmethod
    def mask(cls, values: Any) -> "Region":
        """What is not 0 of `values`: an array (H, W), a picture of the photo's size, or a folder of
        PNG files, each named as its photo.
        """
        return cls(values=Path(values) if isinstance(values, str | os.PathLike) else values)

    @classmethod
    def predicted(cls, label: Class | None = None) -> "Region":
        """Where class `label` has the highest score; default: the most frequent such class."""
        return cls(label=label)

    @classmethod
    def detected(cls, number: int) -> "Region":
        """A detector's box by its `number`, from 0, in the list of `Classifier.detections`."""
        return cls(number=as_int("box", number))

    @property
    def is_of_one_photo(self) -> bool:
        """Whether other photos have no such part."""
        is_folder = isinstance(self.values, Path) and self.values.is_dir()
        parts = (self.corners, self.number, None if is_folder else self.values)
        return any(part is not None for part in parts)

    def __str__(self) -> str:
        if self.corners is not None:
            return ",".join(f"{end:g}" for end in self.corners)
        if isinstance(self.values, Path):
            return f"mask {self.values}"
        if self.values is not None:
            sides = "x".join(map(str, getattr(self.values, "shape", ())[::-1]))
            return f"mask {sides or type(self.values).__name__}"
        if self.number is not None:
            return f"box {self.number}"
        return "predicted" if self.label is None else f"predicted:{self.label}"

    __repr__ = __str__


def parse_region(region: Any) -> Region:
    """Read `"40,60,220,300"`, four numbers, `"predicted"`, `"predicted:cat"` or a `Region`.

    Raises `ChoiceError` for anything else.

    >>> parse_region("40,60,220,300").corners, str(parse_region("predicted:cat"))
    ((40.0, 60.0, 220.0, 300.0), 'predicted:cat')
    """
    if isinstance(region, Region):
        return region
    if isinstance(region, str):
        word, colon, label = region.strip().partition(":")
        if word == "predicted":
            return Region.predicted(label if colon else None)
        region = region.split(",")
    try:
        ends = [float(end) for end in region] if isinstance(region, Sequence) else []
    except (TypeError, ValueError):
        ends = []
    if len(ends) != 4:
        raise ChoiceError(
            f"region is {region!r}: expected left,top,right,bottom in pixels of the photo, "
            "predicted, or predicted:CLASS"
        )
    return Region.box(*ends)
