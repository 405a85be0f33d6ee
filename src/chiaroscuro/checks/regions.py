"""Where the objects of photos are: boxes from a file, or a folder of masks."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.errors import ImageError, InputError, MissingFileError, first_line, printable
from chiaroscuro.images import CropBox, image_errors, open_image, read_file

Mask = NDArray[np.bool_]
SIDES = ("left", "top", "right", "bottom")


class Regions(Protocol):
    """What knows the regions of images by id."""

    def region(self, id_: str, crop: CropBox, shape: tuple[int, int]) -> Mask | None:
        """Which of the network's pixels (H, W) have their middle in the region; None: no region."""


@dataclass(frozen=True)
class Boxes:
    """Boxes (n, 4) by image id: left, top, right, bottom in pixels of the upright photo."""

    rows: Mapping[str, NDArray[np.float64]]

    def region(self, id_: str, crop: CropBox, shape: tuple[int, int]) -> Mask | None:
        """The pixels whose middle lies in one of the boxes."""
        if id_ not in self.rows:
            return None
        y, x = pixel_middles(crop, shape)
        region = np.zeros(shape, bool)
        for left, top, right, bottom in self.rows[id_]:
            region |= ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
        return region


@dataclass(frozen=True)
class Masks:
    """A folder of PNG files named by image id, as large as the upright photo; inside is not 0."""

    folder: Path

    def region(self, id_: str, crop: CropBox, shape: tuple[int, int]) -> Mask | None:
        """The pixels whose middle lies on a mask pixel that is not 0."""
        file = self._file(id_)
        if file is None:
            return None
        mask = _read_mask(file)
        if mask.shape != (crop.photo_height, crop.photo_width):
            raise InputError(
                f"{file}: {mask.shape[1]} x {mask.shape[0]} px, its photo has "
                f"{crop.photo_width} x {crop.photo_height}: give masks of the photos' size"
            )
        y, x = (np.floor(middles).astype(int) for middles in pixel_middles(crop, shape))
        rows, columns = ((i >= 0) & (i < n) for i, n in zip((y, x), mask.shape, strict=True))
        inside = mask[np.clip(y, 0, len(mask) - 1)][:, np.clip(x, 0, mask.shape[1] - 1)]
        region: Mask = inside & rows[:, None] & columns
        return region

    def _file(self, id_: str) -> Path | None:
        names = (f"{id_}.png", str(Path(id_).with_suffix(".png")))
        return next((f for name in names if (f := self.folder / name).is_file()), None)


def pixel_middles(
    crop: CropBox, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where on the upright photo the middles of the network's pixels lie: rows (H,), columns (W,).

    >>> pixel_middles(CropBox(10, 0, 30, 20, 40, 20), (2, 4))[1].tolist()
    [12.5, 17.5, 22.5, 27.5]
    """
    return _middles(crop.top, crop.bottom, shape[0]), _middles(crop.left, crop.right, shape[1])


def _middles(first: float, last: float, count: int) -> NDArray[np.float64]:
    step = (last - first) / count
    return np.array([first + (i + 0.5) * step for i in range(count)])


def load_regions(place: str | Path, split: str = "") -> Regions:
    """Boxes of a .csv, .json or .parquet file, or the masks of a folder.

    CSV: a header with id, left, top, right, bottom, one row a box. JSON: {id: [[left, top, right,
    bottom], ...]}. Parquet: the same columns as CSV, or `boxes`, a list of such lists; rows without
    an `id` column belong to the image SPLIT#ROW. Raises `InputError` for anything else.
    """
    path = Path(place)
    if path.is_dir():
        return Masks(path)
    readers = {".csv": _csv_rows, ".json": _json_rows, ".parquet": _parquet_rows}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: give a .csv, .json or .parquet file of boxes, or a mask folder")
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file or folder of regions")
    try:
        by_id: dict[str, list[list[float]]] = {}
        for id_, box in readers[path.suffix.lower()](path, split):
            by_id.setdefault(id_, []).append(_checked(id_, box))
    except InputError:
        raise
    except Exception as error:  # the readers' errors have no common root
        raise InputError(f"{path}: cannot be read as boxes ({first_line(error)})") from error
    return Boxes({id_: np.array(boxes, np.float64) for id_, boxes in by_id.items()})


def _checked(id_: str, box: Iterable[Any]) -> list[float]:
    try:
        sides = [float(side) for side in box]
    except (TypeError, ValueError):
        sides = []
    ordered = len(sides) == 4 and sides[0] < sides[2] and sides[1] < sides[3]
    if not ordered or not all(map(isfinite, sides)):
        raise InputError(
            f"box {box} of {printable(id_)}: expected left < right and top < bottom, in this "
            f"order: {', '.join(SIDES)}"
        )
    return sides


def _csv_rows(path: Path, _: str) -> Iterable[tuple[str, Iterable[Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = {"id", *SIDES} - set(rows.fieldnames or ())
        if missing:
            raise InputError(f"{path}: no column {', '.join(sorted(missing))} in its first line")
        yield from ((row["id"], [row[side] for side in SIDES]) for row in rows)


def _json_rows(path: Path, _: str) -> Iterable[tuple[str, Iterable[Any]]]:
    listed = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(listed, dict):
        raise InputError(f"{path}: expected an object of lists of boxes by image id")
    yield from ((id_, box) for id_, boxes in listed.items() for box in boxes)


def _parquet_rows(path: Path, split: str) -> Iterable[tuple[str, Iterable[Any]]]:
    from pyarrow import parquet

    names = parquet.read_schema(path).names
    wanted = ["boxes"] if "boxes" in names else list(SIDES)
    missing = [side for side in wanted if side not in names]
    if missing:
        raise InputError(f"{path}: no column boxes, and none {', '.join(missing)}")
    columns = [name for name in ("id", *wanted) if name in names]
    for number, row in enumerate(parquet.read_table(path, columns=columns).to_pylist()):
        id_ = row.get("id", f"{split}#{number}")
        boxes = (row["boxes"] or ()) if "boxes" in row else [[row[side] for side in SIDES]]
        yield from ((id_, box) for box in boxes)


def _read_mask(file: Path) -> Mask:
    try:
        with image_errors(str(file)):
            image = open_image(read_file(file, str(file)), str(file))
            values = np.asarray(image)
            opaque = [c for c, band in enumerate(image.getbands()) if band != "A"]
    except ImageError as error:
        raise InputError(f"{error}: expected a mask") from error
    colors = values.reshape(*values.shape[:2], -1)[..., opaque]
    inside: Mask = np.not_equal(colors.max(axis=2), 0)
    return inside
