"""A set of images: undecoded rows, read from the source each time, and batches of their pixels."""

import hashlib
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, count, groupby, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from chiaroscuro import errors
from chiaroscuro.errors import ChoiceError, ImageError, InputError, first_line, printable
from chiaroscuro.files import RemoteFile, fetched, opened
from chiaroscuro.images import CropBox, Framing, Photo, decode_photo, frame, read_file
from chiaroscuro.results.facts import LeftOut

_END = 1 << 16
"""Bytes read of a Parquet file: its end says where every column lies, and what it holds at most."""
_THREADS = 2
_PER_TASK = 16
"""Rows that one thread takes at a time; one by one, handing over costs more than decoding."""
_HELD = 1 << 26
"""Bytes of remote files that one thread asks for at a time, or one file more."""
_AHEAD = 2
"""Batches that are decoded while one is computed with."""
SPLITS = {
    "test": ("test", "tests", "testing"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "train": ("train", "training"),
}
"""Splits in the order in which one is taken unless it is named, with the words they go by."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image before decoding; `fault` says why it cannot be used, where that is known."""

    id: str
    data: bytes | Path | RemoteFile
    label: int | None
    fault: str | None = None


class Rows(Protocol):
    """The rows of one split, in a fixed order; picklable."""

    def read(self, first: int, wanted: Sequence[int] | None) -> Iterator[ImageRow]:
        """The rows from number `first` on, of the `wanted` ones (rising) if given."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, streamed in a fixed order; iterating reads them from the start.

    `labels` are the class names, None for images without classes. `count` is the number of rows,
    None where only reading on would tell. `notes` say in words what was chosen or passed over.
    `chosen`: the row numbers taken, None for all. `files`: those that are read, none of the hub's;
    `root`: the folder that names of class folders' files are relative to. Picklable.
    """

    source: str
    split: str
    labels: tuple[str, ...] | None
    count: int | None
    contents: Rows = field(repr=False)
    notes: tuple[str, ...] = ()
    files: tuple[Path | RemoteFile, ...] = field(default=(), repr=False)
    root: Path | None = field(default=None, repr=False)
    chosen: tuple[int, ...] | None = field(default=None, repr=False)
    limit: int | None = None

    def __iter__(self) -> Iterator[ImageRow]:
        return self.rows()

    def rows(self, start: int = 0) -> Iterator[ImageRow]:
        """The rows from the `start`-th taken one on; `InputError` when the source breaks off."""
        end = self.limit if self.count is None else self.count
        if end is not None and start >= end:
            return
        first = start if self.chosen is None else self.chosen[start]
        wanted = None if self.chosen is None else self.chosen[start:]
        try:
            rows = self.contents.read(first, wanted)
            yield from islice(rows, None if end is None else end - start)
        except errors.ChiaroscuroError:
            raise
        except Exception as error:  # the library's own tree has no common root
            raise InputError(f"{self.source}: broke off ({first_line(error)})") from error

    def fingerprint(self) -> str | None:
        """A digest of names, sizes, and ends of Parquet files, as of a copy; None for the hub."""
        digest = hashlib.sha256()
        try:
            for file in self.files:
                if isinstance(file, RemoteFile):
                    name, size = file.name, file.size
                else:
                    within = self.root
                    name = file.relative_to(within).as_posix() if within else file.name
                    size = (file.stat() if file.exists() else file.lstat()).st_size
                digest.update(os.fsencode(name) + f"\0{size}\0".encode())
                if file.suffix.lower() == ".parquet":
                    with opened(file) as source:
                        source.seek(max(0, size - _END))
                        digest.update(source.read())
        except OSError as error:
            why = error.strerror or first_line(error)
            raise InputError(f"{self.source}: cannot be read ({why})") from error
        return digest.hexdigest()[:16] if self.files else None


@dataclass(frozen=True, eq=False)
class Batch:
    """Decoded images of consecutive rows (C, H, W) in [0, 1]; `left_out` cannot be used.

    `places`: of each image among the rows.
    """

    number: int
    ids: tuple[str, ...]
    pixels: tuple[NDArray[np.float32], ...]
    labels: tuple[int | None, ...]
    crops: tuple[CropBox, ...]
    left_out: tuple[LeftOut, ...]
    places: tuple[int, ...]

    @property
    def failed(self) -> dict[int, LeftOut]:
        """What is left out, by its place among the rows."""
        listed = range(len(self.ids) + len(self.left_out))
        return dict(zip(sorted({*listed} - {*self.places}), self.left_out, strict=True))

    def without(self, faults: Mapping[int, str]) -> "Batch":
        """The batch without the n-th images that have a fault, which are left out for it."""
        kept = [n for n in range(len(self.ids)) if n not in faults]
        parts: dict[str, Any] = {
            name: tuple(getattr(self, name)[n] for n in kept)
            for name in ("ids", "pixels", "labels", "crops", "places")
        }
        new = {self.places[n]: LeftOut(self.ids[n], why) for n, why in faults.items()}
        failed = dict(sorted((self.failed | new).items()))
        return replace(self, left_out=tuple(failed.values()), **parts)


def read_batches(
    images: ImageSet,
    framing: Framing,
    size: int,
    *,
    channels: int = 3,
    numbers: Iterable[int] | None = None,
    rgb_only: bool = False,
) -> Iterator[Batch]:
    """Batches of `size` rows, all or those of the given `numbers`, decoded ahead by threads.

    Boundaries follow the rows, broken ones included, so a batch holds the same images whenever it
    is read. `rgb_only` leaves files out that are not RGB. Numbers past the end give no batch.
    """
    blocks = _blocks(images, size, count() if numbers is None else numbers)
    decode = partial(_decode, framing=framing, channels=channels, rgb_only=rgb_only)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[int, list[Future[list[_Decoded | LeftOut]]]]] = deque()
        try:
            while True:
                for number, rows in islice(blocks, _AHEAD + 1 - len(waiting)):
                    parts = [rows[i : i + _PER_TASK] for i in range(0, len(rows), _PER_TASK)]
                    waiting.append((number, [pool.submit(decode, part) for part in parts]))
                if not waiting:
                    return
                number, tasks = waiting.popleft()
                yield _batch(number, [one for task in tasks for one in task.result()])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def read_row(
    row: ImageRow, framing: Framing, channels: int = 3
) -> tuple[Photo, NDArray[np.float32], CropBox]:
    """The photo of a row, its pixels (C, H, W) and where they lie; raises `ImageError`."""
    (row,) = _at_hand([row])
    if row.fault is not None:
        raise ImageError(f"{row.id}: {row.fault}")
    data = row.data if isinstance(row.data, bytes) else read_file(Path(str(row.data)), row.id)
    photo = decode_photo(data, row.id)
    return photo, *frame(photo, framing, channels)


def _blocks(
    images: ImageSet, size: int, numbers: Iterable[int]
) -> Iterator[tuple[int, list[ImageRow]]]:
    """Batches of undecoded rows; those that follow each other are read in one go."""
    rows: Iterator[ImageRow] = iter(())
    following: int | None = None
    for number in numbers:
        if number != following:
            rows = images.rows(number * size)
        block = list(islice(rows, size))
        if not block:
            return
        yield number, block
        following = number + 1


_Decoded = tuple[ImageRow, NDArray[np.float32], CropBox]


def _decode(
    rows: list[ImageRow], framing: Framing, channels: int, rgb_only: bool
) -> list[_Decoded | LeftOut]:
    done: list[_Decoded | LeftOut] = []
    for row in _at_hand(rows):
        try:
            photo, pixels, crop = read_row(row, framing, channels)
            if rgb_only and photo.mode != "RGB":
                raise ImageError(f"left out: mode {photo.mode}, not RGB")
            done.append((row, pixels, crop))
        except ImageError as error:
            done.append(LeftOut(row.id, str(error).removeprefix(f"{row.id}: ")))
    return done


def _at_hand(rows: list[ImageRow]) -> Iterator[ImageRow]:
    """The rows with the bytes of remote files, or with the fault that kept them away."""
    sizes = accumulate(row.data.size if isinstance(row.data, RemoteFile) else 0 for row in rows)
    for _, group in groupby(zip(rows, sizes, strict=True), lambda one: one[1] // _HELD):
        some = [row for row, _ in group]
        contents = iter(fetched([row.data for row in some if isinstance(row.data, RemoteFile)]))
        for row in some:
            if not isinstance(row.data, RemoteFile):
                yield row
            elif isinstance(data := next(contents), bytes):
                yield replace(row, data=data)
            else:
                yield replace(row, data=b"", fault=f"cannot be read ({first_line(data)})")


def _batch(number: int, decoded: list[_Decoded | LeftOut]) -> Batch:
    good = [one for one in decoded if not isinstance(one, LeftOut)]
    return Batch(
        number,
        tuple(row.id for row, _, _ in good),
        tuple(pixels for _, pixels, _ in good),
        tuple(row.label for row, _, _ in good),
        tuple(crop for _, _, crop in good),
        tuple(one for one in decoded if isinstance(one, LeftOut)),
        tuple(n for n, one in enumerate(decoded) if not isinstance(one, LeftOut)),
    )


def split_role(name: str) -> str | None:
    """Which of `SPLITS` a name such as "Testing", "train2017" or "ValidSet" stands for, if one."""
    found = re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
    words = {re.sub("(set|data|images)$", "", word.lower()) for word in found}
    roles = [role for role, known in SPLITS.items() if words & set(known)]
    return roles[0] if len(roles) == 1 else None


def pick_split(split: str | None, known: Iterable[str], source: str) -> str:
    """The split of that name or role, else of `SPLITS`; `ChoiceError` for none, or for several."""
    names = list(known)
    if split is None and len(names) == 1:
        return names[0]
    listed = ", ".join(map(printable, names))
    for wanted in SPLITS if split is None else [split]:
        role = split_role(wanted)
        fitting = [name for name in names if role and split_role(name) == role]
        if wanted in names or len(fitting) == 1:
            return wanted if wanted in names else fitting[0]
        if fitting:
            raise ChoiceError(f"{source} has several splits for {wanted}: choose one of {listed}")
    if split is None:
        raise ChoiceError(f"{source} has splits of unknown use: choose one of {listed}")
    raise ChoiceError(f"{source} has no split {split!r}: known are {listed}")
