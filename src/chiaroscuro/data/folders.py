"""Folders of photos: which folders are splits, which are classes."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chiaroscuro.data.images import ImageRow, ImageSet
from chiaroscuro.errors import ChoiceError, InputError, printable
from chiaroscuro.images import search_folder

SPLITS = {
    "test": ("test", "tests", "testing"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "train": ("train", "training"),
}
"""Splits in the order in which one is taken unless it is named, with the words they go by."""


def split_role(name: str) -> str | None:
    """Which of `SPLITS` a name such as "Testing", "train2017" or "ValidSet" stands for, if one."""
    found = re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
    words = {re.sub("(set|data|images)$", "", word.lower()) for word in found}
    roles = [role for role, known in SPLITS.items() if words & set(known)]
    return roles[0] if len(roles) == 1 else None


def pick_split(split: str | None, known: Iterable[str], source: str) -> str:
    """The split of that name or role, else of `SPLITS`; `ChoiceError` for none, or for several."""
    names = list(known)
    if split is None and len(names) == 1:
        return names[0]
    listed = ", ".join(map(printable, names))
    for wanted in SPLITS if split is None else [split]:
        role = split_role(wanted)
        fitting = [name for name in names if role and split_role(name) == role]
        if wanted in names or len(fitting) == 1:
            return wanted if wanted in names else fitting[0]
        if fitting:
            raise ChoiceError(f"{source} has several splits for {wanted}: choose one of {listed}")
    if split is None:
        raise ChoiceError(f"{source} has splits of unknown use: choose one of {listed}")
    raise ChoiceError(f"{source} has no split {split!r}: known are {listed}")


def open_folder(folder: Path, split: str | None) -> ImageSet:
    """A folder of splits, of class folders, or of photos without classes; raises `InputError`."""
    folder = folder.absolute()
    search = search_folder(folder)
    files = sorted(search.photos + search.unreadable)
    if not files:
        raise InputError(f"{folder}: no images and no Parquet files in it")
    notes = []
    if search.skipped:
        kinds = ", ".join(printable(kind or "none") for kind in sorted(search.skipped)[:5])
        notes.append(f"{sum(search.skipped.values())} files are no photos by suffix ({kinds})")
    holders = {file.parent for file in search.photos}
    base = _without_wrappers(folder, holders)
    inner = sorted({holder.relative_to(base).parts[0] for holder in holders - {base}})
    root, name = folder, printable(folder.resolve().name)
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
    rows = FolderRows(root, tuple(files), tuple(numbers.get(file.parent) for file in files))
    known = tuple(labels) or None
    return ImageSet(str(folder), name, known, len(files), rows, tuple(notes), rows.files, root)


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
    """Rows of files, which have their path below `root` as id."""

    root: Path
    files: tuple[Path, ...]
    labels: tuple[int | None, ...]

    def read(self, first: int, wanted: Sequence[int] | None) -> Iterator[ImageRow]:
        """See `Rows`."""
        for number in range(first, len(self.files)) if wanted is None else wanted:
            id_ = printable(self.files[number].relative_to(self.root).as_posix())
            yield ImageRow(id_, self.files[number], self.labels[number])
