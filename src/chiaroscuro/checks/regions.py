"""Where the objects of photos are: boxes from a file, or a folder of masks."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from chiaroscuro.errors import InputError, MissingFileError, first_line, printable
from chiaroscuro.files import read_regular
from chiaroscuro.images import CropBox
from chiaroscuro.images.regions import Mask, box_mask, mask_file, photo_mask, read_mask

SIDES = ("left", "top", "right", "bottom")
MAX_BOXES = 10_000_000
"""Rows of a Parquet file, of which few bytes may hold many."""


@dataclass(frozen=True)
class Regions:
    """Boxes (n, 4) by image id, or a folder of masks as PNG files named by image id.

    Boxes are left, top, right, bottom in pixels of the upright photo. Masks are as large as it;
    what is not 0 is inside.
    """

    places: Mapping[str, NDArray[np.float64]] | Path

    def region(self, id_: str, crop: CropBox, shape: tuple[int, int]) -> Mask | None:
        """Which of the network's pixels (H, W) have their middle in the region; None: no region."""
        if isinstance(self.places, Path):
            file = mask_file(self.places, id_)
            return None if file is None else photo_mask(read_mask(file), crop, shape, file)
        if id_ not in self.places:
            return None
        region = np.zeros(shape, bool)
        for left, top, right, bottom in self.places[id_]:
            region |= box_mask((left, top, right, bottom), crop, shape)
        return region


def load_regions(place: str | Path, split: str = "") -> Regions:
    """Boxes of a .csv, .json or .parquet file, or the masks of a folder.

    CSV: a header with id, left, top, right, bottom, one row a box. JSON: {id: [[left, top, right,
    bottom], ...]}. Parquet: the same columns as CSV, or `boxes`, a list of such lists; rows without
    an `id` column belong to the image SPLIT#ROW. Raises `InputError` for anything else.
    """
    path = Path(place)
    if path.is_dir():
        return Regions(path)
    if path.suffix.lower() not in (".csv", ".json", ".parquet"):
        raise InputError(f"{path}: give a .csv, .json or .parquet file of boxes, or a mask folder")
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file or folder of regions")
    try:
        by_id: dict[str, list[list[float]]] = {}
        for id_, box in _boxes(path, split):
            by_id.setdefault(id_, []).append(_checked(id_, box))
    except InputError:
        raise
    except Exception as error:  # the readers' errors have no common root
        raise InputError(f"{path}: cannot be read as boxes ({first_line(error)})") from error
    return Regions({id_: np.array(boxes, np.float64) for id_, boxes in by_id.items()})


def digest_of(place: str | Path) -> str:
    """A digest of a file of boxes, or of the masks of a folder."""
    path = Path(place)
    files = sorted(path.rglob("*.png")) if path.is_dir() else [path]
    digests = [(f.name, hashlib.sha256(read_regular(f)).hexdigest()) for f in files]
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def _boxes(path: Path, split: str) -> Iterable[tuple[str, Iterable[Any]]]:
    """Every box of a file with its image's id."""
    if path.suffix.lower() == ".json":
        listed = json.loads(read_regular(path))
        if not isinstance(listed, dict):
            raise InputError(f"{path}: expected an object of lists of boxes by image id")
        return [(id_, box) for id_, boxes in listed.items() for box in boxes]
    if path.suffix.lower() == ".csv":
        text = dict.fromkeys(("id", *SIDES), pa.string())
        table = csv.read_csv(
            io.BytesIO(read_regular(path)), convert_options=csv.ConvertOptions(column_types=text)
        )
        wanted = {"id", *SIDES}
    else:
        about = parquet.read_metadata(path)
        if about.num_rows > MAX_BOXES:
            raise InputError(f"{path}: {about.num_rows:,} boxes, expected at most {MAX_BOXES:,}")
        names = about.schema.to_arrow_schema().names
        wanted = {"boxes"} if "boxes" in names else {*SIDES}
        table = parquet.read_table(path, columns=[n for n in names if n in {"id", *wanted}])
    if missing := sorted(wanted - {*table.column_names}):
        raise InputError(f"{path}: no column {', '.join(missing)}")
    return [
        (row.get("id", f"{split}#{number}"), box)
        for number, row in enumerate(table.to_pylist())
        for box in (row["boxes"] or () if "boxes" in row else [[row[side] for side in SIDES]])
    ]


def _checked(id_: str, box: Iterable[Any]) -> list[float]:
    try:
        left, top, right, bottom = sides = [float(side) for side in box]
        if left < right and top < bottom and all(map(isfinite, sides)):
            return sides
    except (TypeError, ValueError):
        pass
    raise InputError(
        f"box {str(box)[:200]} of {printable(id_)}: expected left < right and top < bottom, in "
        f"this order: {', '.join(SIDES)}"
    )
