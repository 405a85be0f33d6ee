"""Photo files in folders and globs, in a fixed order, and a folder for the results of each."""

import glob
import os
import unicodedata
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from chiaroscuro.files import leads_out
from chiaroscuro.images.photos import SUFFIXES
from chiaroscuro.results import KINDS, PAGE, is_result


class Search(NamedTuple):
    """What lies in a folder: photos by suffix and unreadable folders, sorted; others counted.

    `outside`: links to folders or photos that lie elsewhere, which are not followed.
    """

    photos: list[Path]
    unreadable: list[Path]
    skipped: dict[str, int]
    outside: list[Path]


def find_photos(sources: Iterable[str | Path]) -> list[Path]:
    """Files, folders (searched whole, by suffix) and globs as a list of files, each in order.

    Hidden files and folders, folders of saved results, and links that lead out of a folder are
    passed over; `links_out` lists the latter. A source without any photo and an unreadable
    folder are kept as they are, so that opening them says what is wrong.
    """
    return list(dict.fromkeys(file for source in sources for file in _matches(source)))


def links_out(sources: Iterable[str | Path]) -> list[Path]:
    """Links of folders that `find_photos` does not follow, since they lead elsewhere."""
    searched = (search_folder(Path(one)) for one in sources if _is_folder(Path(one)))
    return [link for search in searched for link in search.outside]


def _matches(source: str | Path) -> list[Path]:
    text, places = str(source), [Path(source)]
    if glob.has_magic(text) and not os.path.lexists(text):
        places = sorted(map(Path, glob.glob(text, recursive=True)))
    if "**" in text:
        places = [place for place in places if not any(map(is_result, place.parents))]
    files = [file for p in places for file in (_in_folder(p) if _is_folder(p) else [p])]
    return files or [Path(source)]


def _in_folder(folder: Path) -> list[Path]:
    search = search_folder(folder)
    return sorted(search.photos + search.unreadable)


def search_folder(folder: Path) -> Search:
    """Everything below a folder, links inside it followed, except hidden names and results."""
    search = Search([], [], {}, [])
    above: dict[Path, frozenset[tuple[int, int]]] = {}

    def is_outside(link: Path) -> bool:
        outside = link.is_symlink() and leads_out(link, folder)
        search.outside.extend([link] if outside else [])
        return outside

    def unreadable(error: OSError) -> None:
        search.unreadable.append(Path(error.filename))

    for name, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        place = Path(name)
        about, outer = place.stat(), above.get(place.parent, frozenset())
        itself = about.st_dev, about.st_ino
        if itself in outer or is_result(place):
            folders.clear()
            continue
        above[place] = outer | {itself}
        folders[:] = [f for f in folders if not (f.startswith(".") or is_outside(place / f))]
        for file in (place / inner for inner in files if not inner.startswith(".")):
            suffix = file.suffix.lower()
            if suffix in SUFFIXES:
                search.photos.extend([] if is_outside(file) else [file])
            else:
                search.skipped[suffix] = search.skipped.get(suffix, 0) + 1
    search.photos.sort()
    search.unreadable.sort()
    search.outside.sort()
    return search


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except OSError:  # a link to itself, or a folder that may not be entered
        return False


def photo_folders(sources: Iterable[str | Path]) -> dict[Path, Path]:
    """The photos of files, folders and globs, each with a folder of its own, as a relative path.

    photos/tench/a.jpg of the source photos goes to tench/a. Names that are taken get -2, -3, ...
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
    ends = chain([""], (f"-{number}" for number in count(2)))
    place = next(p for end in ends if _key(p := inside / safe_name(stem, end)) not in taken)
    taken.add(_key(place))
    return place


def safe_name(name: str, end: str = "") -> str:
    """A name with this end, as UTF-8 of at most 255 bytes, and not hidden."""
    text = os.fsencode(name).decode("utf-8", "replace")
    text = f"_{text[1:]}" if text.startswith(".") else text
    return text.encode()[: 255 - len(end.encode())].decode("utf-8", "ignore") + end
