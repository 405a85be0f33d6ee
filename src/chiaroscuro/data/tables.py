"""Tables of images: Parquet files by split, and data sets of the Hugging Face hub by name."""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from math import isnan
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TypeVar

from chiaroscuro.data.images import ImageRow, ImageSet, pick_split
from chiaroscuro.errors import ChoiceError, InputError, MissingFileError, first_line, printable
from chiaroscuro.files import RemoteFile, inside, leads_out, opened
from chiaroscuro.hub import hub_if_reachable
from chiaroscuro.results import is_result

F = TypeVar("F", Path, RemoteFile)
P = TypeVar("P", bound=PurePath)
ChosenColumns = tuple[str | None, str | None]
"""The columns of images and of classes, where they are named."""
_IMAGE_WORDS = frozenset({"image", "images", "img", "picture", "photo", "pixels", "jpg", "png"})
_NO_IMAGE_WORDS = frozenset({"mask", "masks", "segmentation", "annotation", "depth", "label"})
_CLASS_WORDS = frozenset({"label", "labels", "class", "classes", "target", "category", "y"})
_MOST_CLASSES = 1_000_000
_ROWS_HELD = 256
"""Rows that are held undecoded."""
_ANY = "*.[pP][aA][rR][qQ][uU][eE][tT]"
_SHARD = re.compile(r"(^|[-_.])\d+([-_]of[-_].*)?$")


@dataclass(frozen=True, slots=True)
class DatasetChoice:
    """A data set of the hub: where it lies, the images of its splits, and class names."""

    hub: str
    rows: dict[str, int]
    labels: tuple[str, ...]
    where: Mapping[str, str] = field(default_factory=dict)


DATASETS = {
    "cifar10": DatasetChoice(
        "uoft-cs/cifar10",
        {"train": 50_000, "test": 10_000},
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "imagenette": DatasetChoice(
        "frgfm/imagenette",
        {"train": 9_469, "validation": 3_925},
        ("tench", "English springer", "cassette player", "chain saw", "church", "French horn",
         "garbage truck", "gas pump", "golf ball", "parachute"),
        # The set is published as a script, which runs code; the hub's own Parquet copy does not.
        {"data_dir": "full_size", "revision": "refs/convert/parquet"},
    ),
}  # fmt: skip
"""Short names; every other name is taken as one of the hub's, OWNER/NAME."""


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
            return None if self.folder is None else inside(self.folder, path)
        except (OSError, ValueError):  # it leads out, or holds a null byte
            return None

    def _class(self, value: Any) -> tuple[int | None, str | None]:
        """A class number and what is wrong with it; negative ones are the hub's hidden labels."""
        if self.names is None or value is None or (isinstance(value, float) and isnan(value)):
            return None, None
        number = self.names.index(value) if value in self.names else _whole(value)
        if number is not None and number < len(self.names):
            return (number if number >= 0 else None), None
        return None, f"class {printable(value)} is none of the {len(self.names)} known"


def _choose_columns(
    schema: Any, features: Mapping[str, Any], source: str, chosen: ChosenColumns
) -> tuple[str, str | None]:
    """The columns of images and of classes: those named, else by metadata, name and type."""
    listed = ", ".join(map(printable, schema.names)) or "none"
    kinds = {field.name: _holds(field.type) for field in schema}
    images = [name for name, (is_image, _) in kinds.items() if is_image]
    classes = [name for name, (_, is_class) in kinds.items() if is_class]
    for what, name, able in (("images", chosen[0], images), ("classes", chosen[1], classes)):
        if name is not None and name not in able:
            raise ChoiceError(f"{source}: no {what} in column {name!r}; it has {listed}")
    tagged = [name for name in images if features.get(name, {}).get("_type") == "Image"]
    ranks = {name: _rank(name, _IMAGE_WORDS, _NO_IMAGE_WORDS) for name in tagged or images}
    image = chosen[0] or min(ranks, key=ranks.__getitem__, default=None)
    if image is None:
        raise InputError(f"{source}: no column of images; it has {listed}")
    if chosen[0] is None and ranks[image] > 1 and len(ranks) > 1:
        raise InputError(
            f"{source}: the images may be in {' or '.join(map(printable, ranks))}: choose by "
            "image_column (--image-column)"
        )
    classes = [name for name in classes if name != image]
    tagged = [name for name in classes if features.get(name, {}).get("_type") == "ClassLabel"]
    ranks = {name: _rank(name, _CLASS_WORDS) for name in tagged or classes}
    label = min(ranks, key=ranks.__getitem__, default=None)
    return image, chosen[1] or (label if label and (tagged or ranks[label] < 2) else None)


def _holds(kind: Any) -> tuple[bool, bool]:
    """Whether a column of this type can hold images, and whether classes."""
    import pyarrow as pa

    def is_one(kind: Any, *names: str) -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return any(getattr(pa.types, f"is_{name}")(kind) for name in names)

    binary = "binary", "large_binary", "binary_view", "fixed_size_binary"
    text = "string", "large_string", "string_view"
    is_struct = pa.types.is_struct(kind)
    parts = {part.name: part.type for part in kind} if is_struct else {"bytes": kind}
    images = is_one(parts.get("bytes", pa.null()), *binary)
    images = images or is_one(parts.get("path", pa.null()), *text)
    return images, is_one(kind, "boolean", "integer", "floating", *text)


def _rank(name: str, words: frozenset[str], wrong: frozenset[str] = frozenset()) -> int:
    """0: it is one of the words; 1: it has one; 2: it has none; 3: it has a wrong one."""
    parts = set(re.findall("[a-z]+", name.lower()))
    return 0 if name.lower() in words else 3 if parts & wrong else 1 if parts & words else 2


def _features(schema: Any) -> dict[str, Any]:
    """What the Hugging Face metadata of a schema say of its columns, if there are any."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return {k: v for k, v in about["info"]["features"].items() if isinstance(v, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _listed_names(features: Mapping[str, Any], label: str | None) -> tuple[str, ...] | None:
    names = features.get(label or "", {}).get("names") or ()
    return tuple(map(str, names.values() if isinstance(names, dict) else names)) or None


def _names_of(values: set[Any]) -> tuple[str, ...] | None:
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


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """The Parquet files of a folder, `by_split`."""
    files = [*_matching(folder, _ANY), *_matching(folder, f"data/{_ANY}")]
    files = files or _matching(folder, f"*/{_ANY}") or _matching(folder, f"*/*/{_ANY}")
    return by_split({file.relative_to(folder): file for file in files}, folder.name)


def by_split(files: Mapping[P, F], folder: str) -> dict[str, list[F]]:
    """Files by split and their places in a folder of this name.

    `test.parquet`, `data/test-0-of-2.parquet`, else `test/0000.parquet`, else one folder deeper.
    """
    near = [place for place in files if place.parent in (PurePath(), PurePath("data"))]
    levels = [near, *([p for p in files if len(p.parts) == depth] for depth in (2, 3))]
    found: dict[str, list[F]] = {}
    for place in sorted(next(filter(None, levels), []), key=lambda p: (len(p.parts), p)):
        name = _SHARD.sub("", place.stem) if near else place.parent.name
        found.setdefault(name or place.parent.name or folder, []).append(files[place])
    return found


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Files in order, no hidden ones and no rows of runs; a folder of Spark's is named like one."""
    found = [f for f in folder.glob(pattern) if not f.name.startswith(".") and f.is_file()]
    found = [f for f in found if not leads_out(f, folder)]
    places = {f.parent for f in found}
    ours = {place for place in places if is_result(place) or is_result(place.parent)}
    return sorted(f for f in found if f.parent not in ours)


class _Group(NamedTuple):
    """A row group of a file: its number there, its first row's number in the split, its rows."""

    path: Path | RemoteFile
    number: int
    start: int
    rows: int


def open_parquet(
    files: Mapping[str, Sequence[Path | RemoteFile]],
    split: str,
    source: str,
    folder: Path | None,
    chosen: ChosenColumns = (None, None),
) -> ImageSet:
    """One split of Parquet files; paths in their cells lead no further than below `folder`."""
    groups, schemas, count = [], [], 0
    for path in files[split]:
        if isinstance(path, Path) and not path.is_file():
            raise MissingFileError(f"{path}: no such file")
        with _parquet(path) as file:
            schemas.append(file.schema_arrow)
            for number in range(file.num_row_groups):
                rows = file.metadata.row_group(number).num_rows
                groups.append(_Group(path, number, count, rows))
                count += rows
    features = _features(schemas[0])
    image, label = _choose_columns(schemas[0], features, source, chosen)
    for path, schema in zip(files[split], schemas, strict=True):
        if image not in schema.names:
            raise InputError(f"{path.name}: has no column {image!r}, as others of its split")
    names = _listed_names(features, label)
    if label and names is None:
        names = _names_of(_values([path for paths in files.values() for path in paths], label))
    columns = Columns(image, label if names else None, names, folder)
    contents = ParquetRows(tuple(groups), columns, split)
    return ImageSet(source, split, names, count, contents, (columns.note,), tuple(files[split]))


@contextmanager
def _parquet(path: Path | RemoteFile) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    with ExitStack() as stack:
        source = path if isinstance(path, Path) else stack.enter_context(opened(path))
        yield stack.enter_context(ParquetFile(source))


def _values(files: Sequence[Path | RemoteFile], column: str) -> set[Any]:
    """Every value of a column; files that lack it have none."""
    found: set[Any] = set()
    for path in files:
        with _parquet(path) as file:
            if column in file.schema_arrow.names:
                for batch in file.iter_batches(columns=[column]):  # a long one takes few bytes
                    found.update(batch.column(0).to_pylist())
    return found


@dataclass(frozen=True)
class ParquetRows:
    """Rows of Parquet files one after another; groups without a wanted row are not read."""

    groups: tuple[_Group, ...]
    columns: Columns
    split: str

    def read(self, first: int, wanted: Sequence[int] | None) -> Iterator[ImageRow]:
        """See `Rows`; a file without the column of classes has images without classes."""
        needed = [one for one in self.groups if _within(one.start, one.rows, first, wanted)]
        for path, groups in groupby(needed, lambda group: group.path):
            with _parquet(path) as file:
                own = (self.columns.image, self.columns.label)
                known = [name for name in file.schema_arrow.names if name in own]
                for group in groups:
                    start, only = group.start, [group.number]
                    for batch in file.iter_batches(_ROWS_HELD, row_groups=only, columns=known):
                        for number in _within(start, batch.num_rows, first, wanted):
                            (values,) = batch.slice(number - start, 1).to_pylist()
                            yield self.columns.row(f"{self.split}#{number}", values)
                        start += batch.num_rows


def _within(start: int, rows: int, first: int, wanted: Sequence[int] | None) -> Sequence[int]:
    """The numbers that are wanted of so many rows from `start` on."""
    low, high = max(start, first), max(start + rows, first)
    if wanted is None:
        return range(low, high)
    return wanted[bisect_left(wanted, low) : bisect_left(wanted, high)]


def open_name(source: str, split: str | None, chosen: ChosenColumns) -> ImageSet:
    """A name of `DATASETS` or of the hub as a stream; without known names there are no classes."""
    from datasets import Features, Image

    choice = DATASETS.get(source)
    known = choice.rows if choice else _ask(source, "get_dataset_split_names")
    split = pick_split(split, known, source)
    hub, where = (choice.hub, choice.where) if choice else (source, {})
    stream = _ask(hub, "load_dataset", split=split, streaming=True, **where)
    about = (stream.info.splits or {}).get(split)
    count = choice.rows[split] if choice else about.num_examples if about else None
    schema = (stream.features or Features()).arrow_schema
    features = _features(schema)
    image, label = _choose_columns(schema, features, source, chosen)
    if features.get(image, {}).get("_type") == "Image":
        stream = stream.cast_column(image, Image(decode=False))
    names = choice.labels if choice else None
    if names is None or chosen[1]:
        names = _listed_names(features, label) or names
    columns = Columns(image, label if names else None, names if label else None)
    contents = HubRows(stream, columns, split)
    return ImageSet(source, split, columns.names, count, contents, (columns.note,))


@dataclass(frozen=True)
class HubRows:
    """Rows of a stream of the `datasets` library, which is read from its start on."""

    stream: Any
    columns: Columns
    split: str

    def read(self, first: int, wanted: Sequence[int] | None) -> Iterator[ImageRow]:
        """See `Rows`."""
        numbers = None if wanted is None else frozenset(wanted)
        for number, values in enumerate(self.stream.skip(first) if first else self.stream, first):
            if numbers is None or number in numbers:
                yield self.columns.row(f"{self.split}#{number}", values)


def _ask(name: str, function: str, **options: Any) -> Any:
    """What a function of the `datasets` library says of a name, at once where no hub answers."""
    import datasets

    try:
        with hub_if_reachable():
            return getattr(datasets, function)(name, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"data set {name} is neither on this machine nor reachable ({first_line(error)}): "
            "connect to the internet, or give a folder"
        ) from error
