"""Undecoded rows to pixels, in threads, a batch ahead of the computation."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.data.images import ImageRow, ImageSet
from chiaroscuro.errors import ImageError, InputError
from chiaroscuro.images import CropBox, Framing, Photo, decode_photo, frame, read_file
from chiaroscuro.results import LeftOut

THREADS = 2
_PER_TASK = 16
"""Rows that one thread takes at a time; one by one, handing over costs more than decoding."""
_AHEAD = 2
"""Batches that are decoded while one is computed with."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Decoded images of consecutive rows, each (C, H, W) in [0, 1], sizes as the framing gives.

    `number` is the batch's place; `crops` are where the pixels lie on the photos; `left_out` are
    rows of it that cannot be used.
    """

    number: int
    ids: tuple[str, ...]
    pixels: tuple[NDArray[np.float32], ...]
    labels: tuple[int | None, ...]
    crops: tuple[CropBox, ...]
    left_out: tuple[LeftOut, ...]


def read_batches(
    images: ImageSet,
    framing: Framing,
    size: int,
    *,
    channels: int = 3,
    start: int = 0,
    numbers: Iterable[int] | None = None,
    rgb_only: bool = False,
    workers: int = THREADS,
) -> Iterator[Batch]:
    """Batches of `size` rows: those of the given `numbers`, else from the `start`-th one on.

    Boundaries follow the rows, broken ones included, so a batch holds the same images whenever it
    is read. `rgb_only` leaves files out that are not RGB. Threads decode ahead; no more than a
    few batches are ever held. Numbers past the end give no batch.
    """
    blocks = _blocks(images, size, count(start) if numbers is None else numbers)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[int, list[ImageRow], list[Future[list[_Decoded]]]]] = deque()
        decode = partial(_decode, framing=framing, channels=channels, rgb_only=rgb_only)
        try:
            while True:
                while len(waiting) <= _AHEAD and (block := next(blocks, None)):
                    number, rows = block
                    parts = [rows[i : i + _PER_TASK] for i in range(0, len(rows), _PER_TASK)]
                    waiting.append((number, rows, [pool.submit(decode, part) for part in parts]))
                if not waiting:
                    return
                number, rows, tasks = waiting.popleft()
                yield _collect(number, rows, [found for task in tasks for found in task.result()])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def read_batch(images: ImageSet, framing: Framing, size: int, number: int, **options: Any) -> Batch:
    """One batch, equal to that of `read_batches` with its options; no more than it is read.

    Raises `InputError` for a number past the end.
    """
    for batch in read_batches(images, framing, size, numbers=[number], **options):
        return batch
    raise InputError(f"{images.source}: no batch {number} of {size} images")


def read_row(
    row: ImageRow, framing: Framing, channels: int = 3
) -> tuple[Photo, NDArray[np.float32], CropBox]:
    """The photo of a row, its pixels (C, H, W) and where they lie; raises `ImageError`."""
    if row.fault is not None:
        raise ImageError(f"{row.id}: {row.fault}")
    data = row.data if isinstance(row.data, bytes) else read_file(row.data, row.id)
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


_Decoded = tuple[NDArray[np.float32], CropBox] | LeftOut


def _decode(
    rows: list[ImageRow], framing: Framing, channels: int, rgb_only: bool
) -> list[_Decoded]:
    done: list[_Decoded] = []
    for row in rows:
        try:
            photo, pixels, crop = read_row(row, framing, channels)
            if rgb_only and photo.mode != "RGB":
                raise ImageError(f"left out: mode {photo.mode}, not RGB")
            done.append((pixels, crop))
        except ImageError as error:
            done.append(LeftOut(row.id, str(error).removeprefix(f"{row.id}: ")))
    return done


def _collect(number: int, block: list[ImageRow], decoded: list[_Decoded]) -> Batch:
    done = list(zip(block, decoded, strict=True))
    good = [(row, found) for row, found in done if not isinstance(found, LeftOut)]
    return Batch(
        number,
        tuple(row.id for row, _ in good),
        tuple(found[0] for _, found in good),
        tuple(row.label for row, _ in good),
        tuple(found[1] for _, found in good),
        tuple(found for _, found in done if isinstance(found, LeftOut)),
    )
