"""A set of images: undecoded rows, read from the source each time."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from chiaroscuro.choices import as_int
from chiaroscuro.data.folders import open_folder, pick_split
from chiaroscuro.data.named import open_name
from chiaroscuro.data.parquet import open_parquet, parquet_splits
from chiaroscuro.data.rows import ImageRow, Rows, Split
from chiaroscuro.errors import (
    ChiaroscuroError,
    ChoiceError,
    InputError,
    MissingFileError,
    first_line,
    missing_extra,
)

_END = 1 << 16
"""Bytes read of a Parquet file: its end says where every column lies, and what it holds at most."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, streamed in a fixed order; iterating reads them from the start.

    `labels` are the class names, None for images without classes. `count` is the number of rows,
    None where only reading on would tell. `chosen`: the row numbers taken, None for all. `notes`
    say in words what was chosen, such as columns, or passed over. Worker processes can have it.
    """

    source: str
    split: str
    labels: tuple[str, ...] | None
    count: int | None
    _split: Split = field(repr=False)
    chosen: tuple[int, ...] | None = field(default=None, repr=False)
    limit: int | None = None
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ImageRow]:
        return self.rows()

    def rows(self, start: int = 0) -> Iterator[ImageRow]:
        """The rows from the `start`-th taken one on.

        Raises `InputError` when the source breaks off (not for a broken image, which is bytes yet).
        """
        end = self.limit if self.count is None else self.count
        if end is not None and start >= end:
            return iter(())
        first = start if self.chosen is None else self.chosen[start]
        wanted = None if self.chosen is None else self.chosen[start:]
        rows = self._guarded(self._split.rows.read(first, wanted))
        return islice(rows, None if end is None else end - start)

    def batches(self, size: int) -> int | None:
        """How many batches of `size` rows there are, None where only reading on would tell."""
        return None if self.count is None else -(-self.count // size)

    def fingerprint(self) -> str | None:
        """A digest of names, sizes, and ends of Parquet files of the split; None for the hub.

        A copy elsewhere has the same one. Raises `InputError` when a file is gone.
        """
        try:
            digest = hashlib.sha256()
            for file in self._split.files:
                root = self._split.root
                name = file.name if root is None else file.relative_to(root).as_posix()
                size = (file.stat() if file.exists() else file.lstat()).st_size
                digest.update(os.fsencode(name) + f"\0{size}\0".encode())
                if file.suffix == ".parquet":
                    with file.open("rb") as source:
                        source.seek(max(0, size - _END))
                        digest.update(source.read())
        except OSError as error:
            raise InputError(f"{self.source}: cannot be read ({error.strerror})") from error
        return digest.hexdigest()[:16] if self._split.files else None

    def _guarded(self, rows: Iterator[ImageRow]) -> Iterator[ImageRow]:
        try:
            yield from rows
        except ChiaroscuroError:
            raise
        except Exception as error:  # the library's own tree has no common root
            raise InputError(f"{self.source}: broke off ({first_line(error)})") from error


def load_images(
    source: str | Path,
    split: str | None = None,
    limit: int | None = None,
    seed: int | None = None,
    root: str | Path | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
) -> ImageSet:
    """The images of a folder, Parquet file or data set name, streamed and undecoded.

    `source`: a folder of class folders (or of photos), a Parquet file, a folder of such files named
    by split, a name of `DATASETS`, or OWNER/NAME on the hub. `split`: default test, then
    validation, then train; other names in use, such as Testing or valid, are known. `limit`: the
    first so many rows, or, with a `seed`, so many drawn without repeats and kept in their order.
    Ids are stable: a file's path in its folder, else SPLIT#ROW. `root`: a folder where ROOT/SOURCE
    is read in place of a data set of that name. `image_column` and `label_column`: columns of a
    table, found by metadata, name and type unless given.

    Raises `InputError` for a source that cannot be read, `ChoiceError` for an unknown split or
    column or a limit below 1, `MissingExtraError` without the `data` extra.

    >>> from chiaroscuro.images import packaged_photo
    >>> print(*(row.id for row in load_images(packaged_photo("cat").parent)))
    cat.png coffee.png
    """
    if limit is not None and (limit := as_int("limit", limit)) < 1:
        raise ChoiceError(f"limit is {limit}: expected a number of images above 0")
    place = str(source)
    if root is not None:
        place = str(Path(root) / place)
        if not Path(place).exists():
            raise MissingFileError(f"{place}: no such folder or file (data root {root})")
    found = _open(place, split, image_column, label_column)
    count, chosen, notes = found.count, None, found.notes
    if limit is not None and seed is not None:
        generator = np.random.default_rng(seed)
        if count is None:
            count, chosen = _reservoir(found.rows, limit, generator)
            notes = (*notes, f"drawn from all {count} rows, read once to count them")
        elif limit < count:
            drawn = generator.choice(count, limit, replace=False)
            chosen = tuple(np.sort(drawn).tolist())
    if limit is not None:
        count = None if count is None else min(limit, count)
    return ImageSet(str(source), found.name, found.labels, count, found, chosen, limit, notes)


def _open(source: str, split: str | None, image: str | None, label: str | None) -> Split:
    path = Path(source)
    try:
        if path.suffix == ".parquet" and not path.is_dir():
            files = {path.stem: [path]}
            return open_parquet(files, path.stem, source, path.parent, image, label)
        if not path.is_dir():
            return open_name(source, split, image, label)
        if splits := parquet_splits(path):
            name = pick_split(split, splits, source)
            return open_parquet(splits, name, source, path, image, label)
        if image or label:
            raise ChoiceError(f"{source} is a folder of photos: it has no columns to choose")
        return open_folder(path, split)
    except ChiaroscuroError:
        raise
    except ImportError as error:
        package = "pyarrow" if (error.name or "").startswith("pyarrow") else "datasets"
        raise missing_extra(f"data {source}", package, "data") from error
    except Exception as error:  # the library's own tree has no common root
        raise InputError(f"{source}: cannot be read as images ({first_line(error)})") from error


def _reservoir(
    rows: Rows, limit: int, generator: np.random.Generator
) -> tuple[int, tuple[int, ...]]:
    """So many numbers of rows drawn evenly from a stream of unknown length, and its length."""
    kept: list[int] = []
    count = 0
    for count, _ in enumerate(rows.read(0, None), 1):
        if count <= limit:
            kept.append(count - 1)
        elif (place := int(generator.integers(count))) < limit:
            kept[place] = count - 1
    return count, tuple(sorted(kept))
