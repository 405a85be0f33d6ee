"""Photo files in folders and globs, in a fixed order, without the figures of saved results."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from chiaroscuro.images.photos import SUFFIXES
from chiaroscuro.results import is_result


class Search(NamedTuple):
    """What a search of a folder found: photos by their suffix, sorted, and what is none.

    `unreadable` are folders that could not be listed, `skipped` other files by suffix.
    """

    photos: list[Path]
    unreadable: list[Path]
    skipped: dict[str, int]


def find_photos(sources: Iterable[str | Path]) -> list[Path]:
    """Files, folders (searched whole, by suffix) and globs as a list of files, each in order.

    Hidden files and folders, and folders of saved results, are passed over. A source without any
    photo and an unreadable folder are kept as they are, so that opening them says what is wrong.
    """
    return list(dict.fromkeys(file for source in sources for file in _matches(source)))


def _matches(source: str | Path) -> list[Path]:
    text = str(source)
    if _is_folder(text):
        return _in_folder(Path(source)) or [Path(source)]
    if os.path.lexists(text) or not glob.has_magic(text):
        return [Path(source)]
    found: list[Path] = []
    for match in sorted(map(Path, glob.glob(text, recursive=True))):
        if "**" in text and any(map(is_result, match.parents)):
            continue
        found += _in_folder(match) if _is_folder(match) else [match]
    return found or [Path(source)]


def _in_folder(folder: Path) -> list[Path]:
    search = search_folder(folder)
    return sorted(search.photos + search.unreadable)


def search_folder(folder: Path) -> Search:
    """Everything below a folder, links to folders followed, except hidden names and results."""
    search = Search([], [], {})
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while waiting:
        place, above = waiting.pop()
        try:
            about = place.stat()
            with os.scandir(place) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except OSError:
            search.unreadable.append(place)
            continue
        itself = about.st_dev, about.st_ino
        if itself in above or is_result(place):
            continue
        for entry in entries:
            file = place / entry.name
            suffix = file.suffix.lower()
            if _is_folder(entry):
                waiting.append((file, above | {itself}))
            elif suffix in SUFFIXES:
                search.photos.append(file)
            else:
                search.skipped[suffix] = search.skipped.get(suffix, 0) + 1
    search.photos.sort()
    search.unreadable.sort()
    return search


def _is_folder(place: str | Path | os.DirEntry[str]) -> bool:
    try:
        return place.is_dir() if isinstance(place, os.DirEntry) else Path(place).is_dir()
    except OSError:  # a link to itself, or a folder that may not be entered
        return False
