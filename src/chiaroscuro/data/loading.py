"""A source's word to the set of its images."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from chiaroscuro.choices import as_int
from chiaroscuro.data.columns import ChosenColumns
from chiaroscuro.data.folders import open_folder, pick_split
from chiaroscuro.data.images import ImageSet
from chiaroscuro.data.named import DATASETS, open_name
from chiaroscuro.data.parquet import open_parquet, parquet_splits
from chiaroscuro.errors import (
    ChiaroscuroError,
    ChoiceError,
    InputError,
    MissingFileError,
    first_line,
    missing_extra,
    printable,
)


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
    if seed is not None and (seed := as_int("seed", seed)) < 0:
        raise ChoiceError(f"seed is {seed}: expected 0 or more")
    images = replace(
        _open(locate(source, root), split, (image_column, label_column)), source=printable(source)
    )
    if limit is None:
        return images
    if seed is None:
        count = None if images.count is None else min(limit, images.count)
        return replace(images, count=count, limit=limit)
    return _draw(images, limit, np.random.default_rng(seed))


def locate(source: str | Path, root: str | Path | None = None) -> str:
    """Where `load_images` finds a source; nothing of it is read.

    Raises `MissingFileError` for a folder, file or name that does not exist.
    """
    place = str(source) if root is None else str(Path(root) / source)
    if os.path.exists(place):  # noqa: PTH110 (a place that may not be entered is no error yet)
        return place
    if root is not None:
        raise MissingFileError(f"{place}: no such folder or file (data root {root})")
    if Path(place).suffix.lower() == ".parquet":
        raise MissingFileError(f"{place}: no such file")
    if place not in DATASETS and ("/" not in place or place.startswith((".", "/"))):
        raise MissingFileError(
            f"data {place!r}: no such folder or file; known names are {', '.join(DATASETS)}, "
            "or OWNER/NAME of the Hugging Face hub"
        )
    return place


def _open(source: str, split: str | None, columns: ChosenColumns) -> ImageSet:
    path = Path(source)
    try:
        if path.suffix.lower() == ".parquet" and not path.is_dir():
            return open_parquet({path.stem: [path]}, path.stem, source, path.parent, columns)
        if path.is_file():
            raise InputError(f"{source} is a file: give a folder of photos or a Parquet file")
        if not path.is_dir():
            return open_name(source, split, columns)
        if splits := parquet_splits(path):
            return open_parquet(splits, pick_split(split, splits, source), source, path, columns)
        if any(columns):
            raise ChoiceError(f"{source} is a folder of photos: it has no columns to choose")
        return open_folder(path, split)
    except ChiaroscuroError:
        raise
    except ImportError as error:
        package = "pyarrow" if (error.name or "").startswith("pyarrow") else "datasets"
        raise missing_extra(f"data {source}", package, "data") from error
    except Exception as error:  # the library's own tree has no common root
        raise InputError(f"{source}: cannot be read as images ({first_line(error)})") from error


def _draw(images: ImageSet, limit: int, generator: np.random.Generator) -> ImageSet:
    """So many rows drawn evenly; a stream of unknown length is read once to its end."""
    notes, count, drawn = images.notes, images.count, None
    if count is None:
        count, drawn = _reservoir(images, limit, generator)
        notes = (*notes, f"drawn from all {count} rows, read once to count them")
    elif limit < count:
        drawn = generator.choice(count, limit, replace=False).tolist()
    chosen = None if drawn is None else tuple(sorted(drawn))
    return replace(images, count=min(limit, count), chosen=chosen, limit=limit, notes=notes)


def _reservoir(
    rows: Iterable[object], limit: int, generator: np.random.Generator
) -> tuple[int, list[int]]:
    kept: list[int] = []
    count = 0
    for count, _ in enumerate(rows, 1):
        if count <= limit:
            kept.append(count - 1)
        elif (place := int(generator.integers(count))) < limit:
            kept[place] = count - 1
    return count, kept
