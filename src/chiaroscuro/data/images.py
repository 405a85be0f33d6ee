"""A set of images: undecoded rows, read anew each time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from chiaroscuro.data.fingerprint import fingerprint
from chiaroscuro.data.sources import Stream, open_stream
from chiaroscuro.errors import ChoiceError, InputError, first_line


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image before decoding: its id, its bytes or file, and its class or None."""

    id: str
    data: bytes | Path
    label: int | None


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, streamed in a fixed order; iterating reads them from the start.

    `labels` are the class names, None for images without classes. `count` is the number of rows,
    None where only reading on would tell. `chosen`: the row numbers taken, None for all.
    """

    source: str
    split: str
    labels: tuple[str, ...] | None
    count: int | None
    _stream: Stream = field(repr=False)
    chosen: tuple[int, ...] | None = field(default=None, repr=False)
    limit: int | None = None

    def __iter__(self) -> Iterator[ImageRow]:
        return self.rows()

    def rows(self, start: int = 0) -> Iterator[ImageRow]:
        """The rows from the `start`-th taken one on.

        Raises `InputError` when the source breaks off (not for a broken image, which is bytes yet).
        """
        if self.count is not None and start >= self.count:
            return iter(())
        first = start if self.chosen is None else self.chosen[start]
        wanted = None if self.chosen is None else self.chosen[start:]
        numbered = self._guarded(self._stream.rows.numbered(first, wanted))
        taken = (self._row(number, values) for number, values in numbered)
        return islice(taken, None if self.count is None else self.count - start)

    def fingerprint(self) -> str | None:
        """A digest of the files behind all rows of the split; None where the hub is read.

        Raises `InputError` when a file is gone.
        """
        try:
            return fingerprint(self._stream.files, self._stream.root)
        except OSError as error:
            raise InputError(f"{self.source}: cannot be read ({error.strerror})") from error

    def _guarded(
        self, rows: Iterator[tuple[int, dict[str, Any]]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        while True:
            try:
                yield next(rows)
            except StopIteration:
                return
            except Exception as error:  # the library's own tree has no common root
                raise InputError(f"{self.source}: broke off ({first_line(error)})") from error

    def _row(self, number: int, values: dict[str, Any]) -> ImageRow:
        cell = values[self._stream.image] or {}
        if isinstance(cell, bytes):
            cell = {"bytes": cell}
        data, path = cell.get("bytes"), cell.get("path")
        label = values.get(self._stream.label) if self._stream.label else None
        if label is not None and label < 0:  # the hub's mark for hidden labels
            label = None
        return ImageRow(
            self._id(number, path),
            data if data is not None else Path(path) if path else b"",
            label,
        )

    def _id(self, number: int, path: str | None) -> str:
        if self._stream.root is not None and path:
            return Path(path).relative_to(self._stream.root).as_posix()
        return f"{self.split}#{number}"


def load_images(
    source: str | Path,
    split: str | None = None,
    limit: int | None = None,
    seed: int | None = None,
    root: str | Path | None = None,
) -> ImageSet:
    """The images of a folder, Parquet file or data set name, streamed and undecoded.

    `source`: a folder of class folders (or of photos), a Parquet file in the Hugging Face image
    layout, a folder of such files named by split, a name of `DATASETS`, or OWNER/NAME on the hub.
    `split`: default test, then validation, then train. `limit`: the first so many rows, or, with a
    `seed`, so many drawn without repeats and kept in their order. Ids are stable: a file's path in
    its folder, else SPLIT#ROW. `root`: a folder where ROOT/SOURCE is read, if it is there, in place
    of a data set of that name.

    Raises `InputError` for a source that cannot be read, `ChoiceError` for an unknown split or a
    limit below 1, `MissingExtraError` without the `data` extra.

    >>> from chiaroscuro.images import packaged_photo
    >>> print(*(row.id for row in load_images(packaged_photo("cat").parent)))
    cat.png coffee.png
    """
    if limit is not None and limit < 1:
        raise ChoiceError(f"limit is {limit}: expected a number of images above 0")
    local = None if root is None else Path(root) / str(source)
    stream = open_stream(str(local if local is not None and local.is_dir() else source), split)
    chosen = _draw(stream.count, limit, seed)
    known = stream.count if limit is None else min(limit, stream.count or limit)
    return ImageSet(str(source), stream.split, stream.labels, known, stream, chosen, limit)


def _draw(count: int | None, limit: int | None, seed: int | None) -> tuple[int, ...] | None:
    """Row numbers of a seeded draw, ascending; None takes rows as they come."""
    if limit is None or seed is None or count is None or limit >= count:
        return None
    drawn = np.random.default_rng(seed).choice(count, limit, replace=False)
    return tuple(np.sort(drawn).tolist())
