"""A source's word to the set of its images."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from chiaroscuro import errors
from chiaroscuro.choices import as_int
from chiaroscuro.data import tables
from chiaroscuro.data.folders import open_folder, pick_split
from chiaroscuro.data.images import ImageSet
from chiaroscuro.errors import ChoiceError, InputError, MissingFileError, first_line, printable


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
    images = _open(locate(source, root), split, (image_column, label_column))
    images = replace(images, source=printable(source), limit=limit)
    if limit is None:
        return images
    count, notes, chosen = images.count, images.notes, None
    if seed is not None:
        if count is None:
            count = sum(1 for _ in replace(images, limit=None))
            notes = (*notes, f"drawn from all {count} rows, read once to count them")
        if limit < count:
            drawn = np.random.default_rng(seed).choice(count, limit, replace=False)
            chosen = tuple(sorted(drawn.tolist()))
    taken = None if count is None else min(limit, count)
    return replace(images, count=taken, notes=notes, chosen=chosen)


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
    if place not in tables.DATASETS and ("/" not in place or place.startswith((".", "/"))):
        raise MissingFileError(
            f"data {place!r}: no such folder or file; known names are "
            f"{', '.join(tables.DATASETS)}, or OWNER/NAME of the Hugging Face hub"
        )
    return place


def _open(source: str, split: str | None, columns: tables.ChosenColumns) -> ImageSet:
    path = Path(source)
    try:
        if path.suffix.lower() == ".parquet" and not path.is_dir():
            files = {path.stem: [path]}
            return tables.open_parquet(files, path.stem, source, path.parent, columns)
        if path.is_file():
            raise InputError(f"{source} is a file: give a folder of photos or a Parquet file")
        if not path.is_dir():
            return tables.open_name(source, split, columns)
        if splits := tables.parquet_splits(path):
            split = pick_split(split, splits, source)
            return tables.open_parquet(splits, split, source, path, columns)
        if any(columns):
            raise ChoiceError(f"{source} is a folder of photos: it has no columns to choose")
        return open_folder(path, split)
    except errors.ChiaroscuroError:
        raise
    except ImportError as error:
        package = "pyarrow" if (error.name or "").startswith("pyarrow") else "datasets"
        raise errors.missing_extra(f"data {source}", package, "data") from error
    except Exception as error:  # the library's own tree has no common root
        raise InputError(f"{source}: cannot be read as images ({first_line(error)})") from error
