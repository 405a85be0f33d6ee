"""A source's word to the set of its images: a table's, or a folder's of splits and classes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from chiaroscuro import errors
from chiaroscuro.choices import as_int
from chiaroscuro.data import tables
from chiaroscuro.data.images import ImageRow, ImageSet, pick_split, split_role
from chiaroscuro.errors import ChoiceError, InputError, MissingFileError, first_line, printable
from chiaroscuro.files import RemoteFile, is_url, list_files
from chiaroscuro.images.finding import Search, search_folder
from chiaroscuro.images.photos import SUFFIXES
from chiaroscuro.results.kinds import KINDS

_MARKERS = frozenset(kind.marker for kind in KINDS.values())


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
    table, found by metadata, name and type unless given. A URL that fsspec reads, such as
    s3://bucket/photos or one of a Parquet file, is a source too.

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
    if images.count == 0:
        raise InputError(f"{images.source}: no rows in split {images.split}")
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
    """Where `load_images` finds a source; raises `MissingFileError`. Nothing of it is read."""
    if is_url(source):
        return str(source)
    place = str(source) if root is None else str(Path(root) / source)
    if os.path.exists(place):  # noqa: PTH110 (a place that may not be entered is no error yet)
        return place
    if _is_of_hub(source) and _begins(root, source):
        return str(source)
    if root is not None:
        raise MissingFileError(f"{place}: no such folder or file (data root {root})")
    if Path(place).suffix.lower() == ".parquet":
        raise MissingFileError(f"{place}: no such file")
    if place not in tables.DATASETS and not _is_of_hub(place):
        raise MissingFileError(
            f"data {place!r}: no such folder or file; known names are "
            f"{', '.join(tables.DATASETS)}, or OWNER/NAME of the Hugging Face hub"
        )
    return place


def _is_of_hub(source: str | Path) -> bool:
    """Whether a source that does not lie here can be a name on the hub."""
    text = str(source)
    is_file = Path(text).suffix.lower() == ".parquet"
    return "/" in text and not text.startswith((".", "/")) and not is_file and not is_url(text)


def _begins(root: str | Path | None, source: str | Path) -> bool:
    """Whether the user names a source or its beginning, and no folder here by that word."""
    if root is None or not Path(root).parts or os.path.lexists(root):
        return False
    return Path(source).is_relative_to(root)


def check_named_again(source: object, root: str | Path | None) -> None:
    """Raise `InputError` for a URL or a name of the hub in a saved result that `root` begins not.

    Else a file from a stranger would make this machine ask another one.
    """
    places = [str(source)] if root is None else [str(source), str(Path(root) / str(source))]
    is_asked = is_url(source) or (_is_of_hub(str(source)) and not any(map(os.path.lexists, places)))
    if is_asked and not _begins(root, str(source)):
        what = (
            source if is_url(source) else f"{source}, which is no folder here but maybe of the hub"
        )
        raise InputError(
            f"a saved result names {what}, and files make no machine be asked: give the address, "
            "or its beginning, yourself (data_root, --data-root)"
        )


def _open(source: str, split: str | None, columns: tables.ChosenColumns) -> ImageSet:
    path = Path(source)
    try:
        if is_url(source):
            return _open_url(source, split, columns)
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
        return _open_folder(path, split)
    except errors.ChiaroscuroError:
        raise
    except ImportError as error:
        package = "pyarrow" if (error.name or "").startswith("pyarrow") else "datasets"
        raise errors.missing_extra(f"data {source}", package, "data") from error
    except Exception as error:  # the library's own tree has no common root
        raise InputError(f"{source}: cannot be read as images ({first_line(error)})") from error


def _open_url(source: str, split: str | None, columns: tables.ChosenColumns) -> ImageSet:
    """What lies under a URL, as `_open` reads folders; hidden names and results are passed over."""
    root, listed = list_files(source)
    results = {place.parent for place in listed if place.name in _MARKERS}
    files = {
        place: file
        for place, file in listed.items()
        if not any(part.startswith(".") for part in place.parts)
        and results.isdisjoint((place.parent, *place.parent.parents))
    }
    if [*listed] == [PurePosixPath()]:
        if root.suffix.lower() != ".parquet":
            raise InputError(f"{source} is a file: give a folder of photos or a Parquet file")
        whole = {root.stem: [*listed.values()]}
        return tables.open_parquet(whole, root.stem, source, None, columns)
    parquet = {place: file for place, file in files.items() if file.suffix.lower() == ".parquet"}
    if splits := tables.by_split(parquet, root.name):
        split = pick_split(split, splits, source)
        return tables.open_parquet(splits, split, source, None, columns)
    if any(columns):
        raise ChoiceError(f"{source} is a folder of photos: it has no columns to choose")
    photos = {Path(source, p): file for p, file in files.items() if p.suffix.lower() in SUFFIXES}
    if not photos:
        raise InputError(f"{source}: no images and no Parquet files in it")
    skipped = Counter(p.suffix.lower() for p in files if p.suffix.lower() not in SUFFIXES)
    images = _arranged(Path(source), root.name, Search([*photos], [], skipped, []), split)
    rows = tuple(replace(row, data=photos[Path(str(row.data))]) for row in images)
    used = tuple(row.data for row in rows if isinstance(row.data, RemoteFile))
    return replace(images, contents=FolderRows(rows), files=used, root=None)


def _open_folder(folder: Path, split: str | None) -> ImageSet:
    """A folder of splits, of class folders, or of photos without classes; raises `InputError`."""
    folder = folder.absolute()
    return _arranged(folder, folder.resolve().name, search_folder(folder), split)


def _arranged(folder: Path, name: str, search: Search, split: str | None) -> ImageSet:
    """What a folder of this name holds, as a set of images."""
    files = sorted(search.photos + search.unreadable + search.outside)
    if not files:
        raise InputError(f"{folder}: no images and no Parquet files in it")
    notes = []
    if search.skipped:
        kinds = ", ".join(printable(kind or "none") for kind in sorted(search.skipped)[:5])
        notes.append(f"{sum(search.skipped.values())} files are no photos by suffix ({kinds})")
    holders = {file.parent for file in search.photos}
    base = _without_wrappers(folder, holders)
    inner = sorted({holder.relative_to(base).parts[0] for holder in holders - {base}})
    root, name = folder, printable(name)
    if _are_splits(base, inner, holders):
        name = pick_split(split, inner, str(folder))
        root = base / name
        holders = {holder for holder in holders if root in (holder, *holder.parents)}
        files = [file for file in files if file.parent in holders or root in file.parents]
    elif split is not None:
        raise ChoiceError(f"{folder} has no split {split!r}: it is one folder of images")
    if inner and base in holders:
        notes.append(f"photos directly in {printable(base)} have no class")
    classes = _class_folders(root, {holder for holder in holders if root in holder.parents})
    labels = sorted(set(classes.values()))
    numbers = {holder: labels.index(label) for holder, label in classes.items()}
    ids = [printable(file.relative_to(root).as_posix()) for file in files]
    faults = dict.fromkeys(search.outside, "a link that leads out of the data")
    about = ((file, numbers.get(file.parent), faults.get(file)) for file in files)
    rows = [ImageRow(id_, *each) for id_, each in zip(ids, about, strict=True)]
    known, contents = tuple(labels) or None, FolderRows(tuple(rows))
    return ImageSet(
        str(folder), name, known, len(files), contents, tuple(notes), tuple(files), root
    )


def _without_wrappers(folder: Path, holders: set[Path]) -> Path:
    """The folder below which paths fork: one that holds nothing but one other says nothing."""
    while holders and folder not in holders:
        heads = {holder.relative_to(folder).parts[0] for holder in holders}
        head = folder / heads.pop()
        if heads or head in holders or split_role(head.name):
            break
        folder = head
    return folder


def _are_splits(base: Path, names: Sequence[str], holders: set[Path]) -> bool:
    """Whether folders are splits: two roles, or one alone or with folders inside."""
    roles = {name: role for name in names if (role := split_role(name))}
    deep = any(base / name not in holders for name in roles)
    return len(set(roles.values())) > 1 or deep or bool(roles and len(names) == 1)


def _class_folders(root: Path, holders: set[Path]) -> dict[Path, str]:
    """The class of each folder with photos: the outermost such folder around it."""
    outer = {
        holder: next(place for place in (*reversed(holder.parents), holder) if place in holders)
        for holder in holders
    }
    while len(set(outer.values())) > 1 and len({place.name for place in outer.values()}) == 1:
        outer = {holder: place.parent for holder, place in outer.items()}  # cat/images, dog/images
    places: dict[str, Path] = {}
    for place in sorted(set(outer.values())):
        first = places.setdefault(printable(place.name), place)
        if first != place:
            found = [printable(one.relative_to(root)) for one in (first, place)]
            raise InputError(
                f"{root}: class {printable(place.name)} has two folders, {' and '.join(found)}: "
                "name the folders of splits train, validation and test, or give one as data"
            )
    return {holder: printable(place.name) for holder, place in outer.items()}


@dataclass(frozen=True)
class FolderRows:
    """Rows of files, which have their path below the folder as id."""

    rows: tuple[ImageRow, ...]

    def read(self, first: int, wanted: Sequence[int] | None) -> Iterator[ImageRow]:
        """See `Rows`."""
        numbers = range(first, len(self.rows)) if wanted is None else wanted
        return (self.rows[number] for number in numbers)
