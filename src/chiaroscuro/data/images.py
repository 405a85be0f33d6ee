"""A set of images: undecoded rows, read from the source each time."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

from chiaroscuro.errors import ChiaroscuroError, InputError, first_line

_END = 1 << 16
"""Bytes read of a Parquet file: its end says where every column lies, and what it holds at most."""


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
    files: tuple[Path, ...] = field(default=(), repr=False)
    root: Path | None = field(default=None, repr=False)
    chosen: tuple[int, ...] | None = field(default=None, repr=False)
    limit: int | None = None

    def __iter__(self) -> Iterator[ImageRow]:
        return self.rows()

    def rows(self, start: int = 0) -> Iterator[ImageRow]:
        """The rows from the `start`-th taken one on.

        Raises `InputError` when the source breaks off (not for a broken image, which is bytes yet).
        """
        end = self.limit if self.count is None else self.count
        if end is not None and start >= end:
            return
        first = start if self.chosen is None else self.chosen[start]
        wanted = None if self.chosen is None else self.chosen[start:]
        try:
            rows = self.contents.read(first, wanted)
            yield from islice(rows, None if end is None else end - start)
        except ChiaroscuroError:
            raise
        except Exception as error:  # the library's own tree has no common root
            raise InputError(f"{self.source}: broke off ({first_line(error)})") from error

    def batches(self, size: int) -> int | None:
        """How many batches of `size` rows there are, None where only reading on would tell."""
        return None if self.count is None else -(-self.count // size)

    def fingerprint(self) -> str | None:
        """A digest of names, sizes, and ends of Parquet files of the split; None for the hub.

        A copy elsewhere has the same one. Raises `InputError` when a file is gone.
        """
        digest = hashlib.sha256()
        try:
            for file in self.files:
                name = file.name if self.root is None else file.relative_to(self.root).as_posix()
                size = (file.stat() if file.exists() else file.lstat()).st_size
                digest.update(os.fsencode(name) + f"\0{size}\0".encode())
                if file.suffix.lower() == ".parquet":
                    with file.open("rb") as source:
                        source.seek(max(0, size - _END))
                        digest.update(source.read())
        except OSError as error:
            raise InputError(f"{self.source}: cannot be read ({error.strerror})") from error
        return digest.hexdigest()[:16] if self.files else None
