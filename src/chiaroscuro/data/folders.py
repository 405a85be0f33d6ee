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
    "validation": ("validation", "valid", "val", "dev"),
    "train": ("train", "training"),
}
"""Splits in the order in which one is taken unless it is named, with the words they go by."""


def split_role(name: str) -> str | None:
    """Which of `SPLITS` a name such as "Testing", "train2017" or "seg_val" stands for, if one."""
    words = {word.removesuffix("set") for word in re.findall("[a-z]+", name.lower())}
    roles = [role for role, known in SPLITS.items() if words & set(known)]
    return roles[0] if len(roles) == 1 else None


def pick_split(split: str | None, known: Iterable[str], source: str) -> str:
    """The split of that name or role; without one test, else validation, else train.

    Raises `ChoiceError` where there is none, or several of that role.
    """
    names = list(known)
    listed = ", ".join(map(printable, names))
    for wanted in [*SPLITS, None] if split is None else [split]:
        role = split_role(wanted) if wanted is not None else None
        exact = [name for name in names if name == wanted]
        alike = exact or [name for name in names if role and split_role(name) == role]
        if wanted is None and len(names) == 1:
            return names[0]
        if len(alike) > 1:
            raise ChoiceError(f"{source} has several splits for {wanted}: choose one of {listed}")
        if alike:
            return alike[0]
    if split is None:
        raise ChoiceError(f"{source} has splits of unknown use: choose one of {listed}")
    raise ChoiceError(f"{source} has no split {split!r}: known are {listed}")


def open_folder(folder: Path, split: str | None) -> ImageSet:
    """A folder of splits, of class folders, or of photos without classes.

    Raises `InputError` for one without photos, or whose folders are neither splits nor classes.
    """
    folder = folder.absolute()
    search = search_folder(folder)
    files = sorted(search.photos + search.unreadable)
    if not files:
        raise InputError(f"{folder}: no images and no Parquet files in it")
    notes = []
    if search.skipped:
        kinds = ", ".join(printable(kind or "none") for kind in sorted(search.skipped)[:5])
        notes.append(f"{sum(search.skipped.values())} files are no photos by suffix ({kinds})")
    base = _without_wrappers(folder, search.photos)
    parts: dict[str, list[Path]] = {}
    for file in search.photos:
        inner = file.relative_to(base).parts
        parts.setdefault(inner[0] if len(inner) > 1 else "", []).append(file)
    outside = len(parts.pop("", ()))
    if _are_splits(base, parts):
        chosen = pick_split(split, parts, str(folder))
        if outside:
            notes.append(f"{outside} photos lie outside of the splits")
        root = base / chosen
        return _open_classes(root, [f for f in files if f.is_relative_to(root)], chosen, notes)
    if split is not None:
        raise ChoiceError(f"{folder} has no split {split!r}: it is one folder of images")
    if parts and outside:
        notes.append(f"{outside} photos lie outside of the class folders: they have no class")
    return _open_classes(folder, files, printable(folder.resolve().name), notes)


def _without_wrappers(folder: Path, photos: Sequence[Path]) -> Path:
    """The folder below which paths fork: one that holds nothing but one other says nothing."""
    while True:
        inner = [file.relative_to(folder).parts for file in photos]
        heads = {parts[0] for parts in inner}
        if len(heads) != 1 or min(map(len, inner)) < 3 or split_role(head := heads.pop()):
            return folder
        folder /= head


def _are_splits(base: Path, parts: dict[str, list[Path]]) -> bool:
    """Whether folders are splits: two roles, or one with folders of classes inside or alone.

    A folder "train" of photos next to others may be a class.
    """
    roles = {name: role for name in parts if (role := split_role(name))}
    deep = [all(file.parent != base / name for file in parts[name]) for name in roles]
    return len(set(roles.values())) > 1 or any(deep) or bool(roles and len(parts) == 1)


def _open_classes(root: Path, files: Sequence[Path], split: str, notes: Sequence[str]) -> ImageSet:
    """Classes are the outermost folders with photos directly in them."""
    holders = {file.parent for file in files} - {root}
    outer = {
        holder: next(p for p in (*reversed(holder.parents), holder) if p in holders)
        for holder in holders
    }
    places: dict[str, Path] = {}
    for place in sorted(set(outer.values())):
        name = printable(place.name)
        if name in places:
            first = places[name].relative_to(root), place.relative_to(root)
            raise InputError(
                f"{root}: folders of class {name} in {printable(first[0])} and "
                f"{printable(first[1])}: name the folders of splits train, validation and test, "
                "or give one of them as data"
            )
        places[name] = place
    names = sorted(places)
    numbers = {places[name]: number for number, name in enumerate(names)}
    labels = tuple(
        None if file.parent == root or file.is_dir() else numbers[outer[file.parent]]
        for file in files
    )
    rows = FolderRows(root, tuple(files), labels)
    known = tuple(names) or None
    return ImageSet(str(root), split, known, len(files), rows, tuple(notes), rows.files, root)


@dataclass(frozen=True)
class FolderRows:
    """Rows of files, which have their path below `root` as id."""

    root: Path
    files: tuple[Path, ...]
    labels: tuple[int | None, ...]

    def read(self, first: int, wanted: Sequence[int] | None) -> Iterator[ImageRow]:
        """See `Rows`."""
        numbers = range(first, len(self.files)) if wanted is None else wanted
        for number in numbers:
            file = self.files[number]
            id_ = printable(file.relative_to(self.root).as_posix())
            yield ImageRow(id_, file, self.labels[number])
