"""Rows of undecoded images, and which columns of a table they are made of."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any, Protocol

from chiaroscuro.errors import ChoiceError, InputError, printable

_IMAGE_WORDS = frozenset({"image", "images", "img", "picture", "photo", "pixels", "jpg", "png"})
_NO_IMAGE_WORDS = frozenset({"mask", "masks", "segmentation", "annotation", "depth", "label"})
_CLASS_WORDS = frozenset({"label", "labels", "class", "classes", "target", "category", "y"})
_MOST_CLASSES = 1_000_000


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image before decoding: its id, its bytes or file, and its class or None.

    `fault` says why it cannot be used, where that is known already.
    """

    id: str
    data: bytes | Path
    label: int | None
    fault: str | None = None


class Rows(Protocol):
    """The rows of one split, in a fixed order; picklable."""

    def read(self, first: int, wanted: Sequence[int] | None) -> Iterator[ImageRow]:
        """The rows from number `first` on, of the `wanted` ones (rising) if given."""
        ...


@dataclass(frozen=True)
class Split:
    """One split of a source: its rows, their number where it is known, and its class names.

    `files` are those that are read, none where the hub is; their names in a fingerprint are
    relative to `root`. `notes` say in words what was chosen or passed over.
    """

    rows: Rows
    name: str
    labels: tuple[str, ...] | None
    count: int | None
    files: tuple[Path, ...] = ()
    root: Path | None = None
    notes: tuple[str, ...] = ()


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
    names: tuple[str, ...] | None = None
    folder: Path | None = None

    def row(self, id_: str, values: Mapping[str, Any]) -> ImageRow:
        """A row of these values; an image is bytes, or a mapping of "bytes" and "path"."""
        cell = values[self.image] or {}
        data: bytes | Path | None = cell if isinstance(cell, bytes) else cell.get("bytes")
        fault = None
        if data is None:
            data, fault = self._file(cell.get("path"))
        label, wrong = self._class(values.get(self.label) if self.label else None)
        return ImageRow(id_, data, label, fault or wrong)

    def _file(self, path: str | None) -> tuple[bytes | Path, str | None]:
        """A file below the data's own folder; no table may name any other."""
        if not path:
            return b"", None
        if self.folder is None:
            return b"", f"no bytes, and the path {printable(path)} is none of this machine's"
        try:
            file = (self.folder / path).resolve()
            if file.is_relative_to(self.folder.resolve()):
                return file, None
        except (OSError, ValueError, RuntimeError):  # a null byte, links in a circle
            pass
        return b"", f"no bytes, and the path {printable(path)} leads out of the data's folder"

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
    columns: Sequence[Column], source: str, image: str | None, label: str | None
) -> tuple[str, str | None]:
    """The columns of images and of classes: those named, else by metadata, name and type.

    Raises `InputError` where there is none of images or several alike, `ChoiceError` for a named
    one that cannot be.
    """
    names = [column.name for column in columns]
    listed = ", ".join(map(printable, names)) or "none"
    able = [column for column in columns if column.images]
    able = [column for column in able if column.tag == "Image"] or able
    ranks = {column.name: _rank(column.name, _IMAGE_WORDS, _NO_IMAGE_WORDS) for column in able}
    if image is not None:
        if not any(column.images for column in columns if column.name == image):
            raise ChoiceError(f"{source}: no images in column {image!r}; it has {listed}")
    elif not ranks:
        raise InputError(f"{source}: no column of images; it has {listed}")
    else:
        image = min(ranks, key=ranks.__getitem__)
        if ranks[image] > 1 and len(ranks) > 1:
            raise InputError(
                f"{source}: the images may be in {' or '.join(map(printable, ranks))}: choose by "
                "image_column (--image-column)"
            )
    able = [column for column in columns if column.classes and column.name != image]
    if label is not None:
        if label not in [column.name for column in able]:
            raise ChoiceError(f"{source}: no classes in column {label!r}; it has {listed}")
        return image, label
    tagged = [column for column in able if column.tag == "ClassLabel"]
    ranks = {column.name: _rank(column.name, _CLASS_WORDS) for column in tagged or able}
    label = min(ranks, key=ranks.__getitem__, default=None)
    return image, label if tagged or label is None or ranks[label] < 2 else None


def describe_columns(image: str, label: str | None) -> str:
    """Which columns are read, in words."""
    classes = f"classes from {printable(label)}" if label else "no classes (--label-column)"
    return f"images from column {printable(image)}, {classes}"


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
