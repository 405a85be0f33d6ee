"""Which columns of a table are images and classes, and rows made of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any

from chiaroscuro.data.images import ImageRow
from chiaroscuro.errors import ChoiceError, InputError, printable

ChosenColumns = tuple[str | None, str | None]
"""The columns of images and of classes, where they are named."""
_IMAGE_WORDS = frozenset({"image", "images", "img", "picture", "photo", "pixels", "jpg", "png"})
_NO_IMAGE_WORDS = frozenset({"mask", "masks", "segmentation", "annotation", "depth", "label"})
_CLASS_WORDS = frozenset({"label", "labels", "class", "classes", "target", "category", "y"})
_MOST_CLASSES = 1_000_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column: whether its type can hold images or classes, and what metadata say it is."""

    name: str
    images: bool
    classes: bool
    tag: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns of images and of classes, the class names, and where paths in cells may lead."""

    image: str
    label: str | None
    names: tuple[str, ...] | None
    folder: Path | None = None

    @property
    def note(self) -> str:
        """Which columns are read, in words."""
        classes = f"classes from {printable(self.label)}" if self.names else "no classes"
        return f"images from column {printable(self.image)}, {classes}"

    def row(self, id_: str, values: Mapping[str, Any]) -> ImageRow:
        """A row of these values; an image is bytes, or a mapping of "bytes" and "path"."""
        cell = values[self.image] or {}
        data: bytes | Path | None = cell if isinstance(cell, bytes) else cell.get("bytes")
        label, fault = self._class(values.get(self.label) if self.label else None)
        if data is None and (path := cell.get("path")):
            data = self._file(str(path))
            fault = fault if data else f"no bytes, and the path {printable(path)} leads elsewhere"
        elif not isinstance(data, bytes | None):
            data, fault = None, f"its bytes are a {type(data).__name__}"
        return ImageRow(id_, data or b"", label, fault)

    def _file(self, path: str) -> Path | None:
        """A file below the data's own folder; no table may name any other."""
        try:
            file = ((self.folder or Path()) / path).resolve()
            inside = self.folder is not None and file.is_relative_to(self.folder.resolve())
        except (OSError, ValueError, RuntimeError):  # a null byte, links in a circle
            return None
        return file if inside else None

    def _class(self, value: Any) -> tuple[int | None, str | None]:
        """A class number and what is wrong with it; negative ones are the hub's hidden labels."""
        if self.names is None or value is None or (isinstance(value, float) and isnan(value)):
            return None, None
        number = self._numbers.get(value) if isinstance(value, str) else _whole(value)
        if number is not None and number < len(self.names):
            return (number if number >= 0 else None), None
        return None, f"class {printable(value)} is none of the {len(self.names)} known"

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names or ())}


def choose_columns(
    columns: Sequence[Column], source: str, chosen: ChosenColumns
) -> tuple[str, str | None]:
    """The columns of images and of classes: those named, else by metadata, name and type.

    Raises `InputError` where no column can be it or several can, `ChoiceError` for a named
    one that cannot be.
    """
    listed = ", ".join(printable(column.name) for column in columns) or "none"
    able = [column for column in columns if column.images]
    image = _named("images", chosen[0], able, source, listed)
    if image is None:
        able = [column for column in able if column.tag == "Image"] or able
        ranks = {column.name: _rank(column.name, _IMAGE_WORDS, _NO_IMAGE_WORDS) for column in able}
        if not ranks:
            raise InputError(f"{source}: no column of images; it has {listed}")
        image = min(ranks, key=ranks.__getitem__)
        if ranks[image] > 1 and len(ranks) > 1:
            raise InputError(
                f"{source}: the images may be in {' or '.join(map(printable, ranks))}: choose by "
                "image_column (--image-column)"
            )
    able = [column for column in columns if column.classes and column.name != image]
    label = _named("classes", chosen[1], able, source, listed)
    if label is None:
        tagged = [column for column in able if column.tag == "ClassLabel"]
        ranks = {column.name: _rank(column.name, _CLASS_WORDS) for column in tagged or able}
        if ranks and (tagged or min(ranks.values()) < 2):
            label = min(ranks, key=ranks.__getitem__)
    return image, label


def _named(
    what: str, name: str | None, able: Sequence[Column], source: str, listed: str
) -> str | None:
    if name is not None and name not in [column.name for column in able]:
        raise ChoiceError(f"{source}: no {what} in column {name!r}; it has {listed}")
    return name


def _rank(name: str, words: frozenset[str], wrong: frozenset[str] = frozenset()) -> int:
    """0: it is one of the words; 1: it has one; 2: it has none; 3: it has a wrong one."""
    parts = set(re.findall("[a-z]+", name.lower()))
    return 0 if name.lower() in words else 3 if parts & wrong else 1 if parts & words else 2


def class_names(values: set[Any]) -> tuple[str, ...] | None:
    """Names for the values of a column: texts in order, or numbers from 0; None for others."""
    found = {value for value in values if not (isinstance(value, float) and isnan(value))} - {None}
    if all(isinstance(value, str) for value in found):
        return tuple(sorted(found)) or None
    numbers = [number for value in found if (number := _whole(value)) is not None]
    if len(numbers) < len(found) or max(numbers) >= _MOST_CLASSES:
        return None
    return tuple(map(str, range(max(numbers) + 1))) or None


def _whole(value: Any) -> int | None:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else None
