"""Where the results of many photos go: a folder each, named like the photo."""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from chiaroscuro.images.finding import find_photos
from chiaroscuro.results import KINDS, PAGE

_LONGEST = 255
"""Bytes of a folder's name that file systems take."""


def photo_folders(sources: Iterable[str | Path]) -> dict[Path, Path]:
    """The photos of files, folders and globs, each with a folder of its own, as a relative path.

    The folder is named by the photo's stem, below the folders in which the photo lies in a source
    folder: photos/tench/a.jpg of the source photos goes to tench/a. Names that are taken get -2,
    -3, ...; bytes that are no UTF-8 are replaced, and names that are too long are cut.
    """
    inside: dict[Path, Path] = {}
    for source in sources:
        root = Path(source)
        for path in find_photos([source]):
            within = root.is_dir() and path.is_relative_to(root)
            inside.setdefault(path, path.relative_to(root).parent if within else Path())
    safe = {folder: Path(*map(safe_name, folder.parts)) for folder in set(inside.values())}
    ours = (Path(PAGE), Path(KINDS["gallery"].marker))
    parents = (above for folder in safe.values() for above in (folder, *folder.parents))
    taken = {_key(place) for place in (*ours, *parents)}
    return {path: _free(safe[folder], path.stem, taken) for path, folder in inside.items()}


def _key(place: Path) -> str:
    """What two places have in common that some file systems take for one."""
    return unicodedata.normalize("NFC", str(place)).casefold()


def _free(inside: Path, stem: str, taken: set[str]) -> Path:
    """A folder that no other photo has, and that holds no other photo's folder."""
    count, place = 1, inside / safe_name(stem)
    while _key(place) in taken:
        count += 1
        place = inside / safe_name(stem, f"-{count}")
    taken.add(_key(place))
    return place


def safe_name(name: str, end: str = "") -> str:
    """A name with this end, as UTF-8 that a file system takes, cut if need be, and not hidden."""
    text = os.fsencode(name).decode("utf-8", "replace")
    text = f"_{text[1:]}" if text.startswith(".") else text
    return text.encode()[: _LONGEST - len(end.encode())].decode("utf-8", "ignore") + end
