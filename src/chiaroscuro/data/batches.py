"""Undecoded rows to pixels, in workers, a batch ahead of whoever computes."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.data.images import ImageRow, ImageSet
from chiaroscuro.errors import ImageError
from chiaroscuro.images import Framing, decode_photo, frame, read_file
from chiaroscuro.results import LeftOut

WORKERS = 2
_PER_TASK = 16
"""Rows that one worker takes at a time; one by one, handing over costs more than decoding."""
_AHEAD = 2
"""Batches that are decoded while one is computed with."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Decoded images of consecutive rows, each (C, H, W) in [0, 1], sizes as the framing gives.

    `number` is the batch's place; `left_out` are rows of it that cannot be used.
    """

    number: int
    ids: tuple[str, ...]
    pixels: tuple[NDArray[np.float32], ...]
    labels: tuple[int | None, ...]
    left_out: tuple[LeftOut, ...]


def read_batches(
    images: ImageSet,
    framing: Framing,
    size: int,
    *,
    channels: int = 3,
    start: int = 0,
    rgb_only: bool = False,
    workers: int = WORKERS,
) -> Iterator[Batch]:
    """Batches of `size` rows, from the `start`-th batch on.

    Boundaries follow the rows, broken ones included, so a batch holds the same images whenever it
    is read. `rgb_only` leaves files out that are not RGB. Threads decode ahead; no more than a
    few batches are ever held.
    """
    rows = images.rows(start * size)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[list[ImageRow], list[Future[list[_Decoded]]]]] = deque()
        decode = partial(_decode_all, framing=framing, channels=channels, rgb_only=rgb_only)
        number = start
        try:
            while True:
                while len(waiting) <= _AHEAD and (block := list(islice(rows, size))):
                    parts = [block[i : i + _PER_TASK] for i in range(0, len(block), _PER_TASK)]
                    waiting.append((block, [pool.submit(decode, part) for part in parts]))
                if not waiting:
                    return
                block, tasks = waiting.popleft()
                yield _collect(number, block, [found for task in tasks for found in task.result()])
                number += 1
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_Decoded = NDArray[np.float32] | LeftOut


def _decode_all(
    rows: list[ImageRow], framing: Framing, channels: int, rgb_only: bool
) -> list[_Decoded]:
    return [_decode(row, framing, channels, rgb_only) for row in rows]


def _decode(row: ImageRow, framing: Framing, channels: int, rgb_only: bool) -> _Decoded:
    try:
        data = row.data if isinstance(row.data, bytes) else read_file(row.data, row.id)
        photo = decode_photo(data, row.id)
        if rgb_only and photo.mode != "RGB":
            return LeftOut(row.id, f"left out: mode {photo.mode}, not RGB")
        return frame(photo, framing, channels)[0]
    except ImageError as error:
        return LeftOut(row.id, str(error).removeprefix(f"{row.id}: "))


def _collect(number: int, block: list[ImageRow], decoded: list[_Decoded]) -> Batch:
    done = list(zip(block, decoded, strict=True))
    good = [(row, found) for row, found in done if not isinstance(found, LeftOut)]
    return Batch(
        number,
        tuple(row.id for row, _ in good),
        tuple(found for _, found in good),
        tuple(row.label for row, _ in good),
        tuple(found for _, found in done if isinstance(found, LeftOut)),
    )
