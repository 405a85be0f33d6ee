"""Files that others may have made: regular ones of a bounded size, none outside a folder; URLs."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from chiaroscuro.errors import InputError, MissingFileError, first_line, missing_extra

MAX_BYTES = 1 << 30
"""Of a file that is read at once."""


def check_regular(file: Path) -> None:
    """Raise `OSError` unless a file is regular: a pipe has no end."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(f"{file.name} is no regular file")


def read_regular(file: Path, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file; raises `OSError` for any other, or for more than `most`."""
    check_regular(file)
    with file.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        if size > most:
            raise OSError(f"{file.name} has {size:,} bytes, expected at most {most:,}")
        return source.read(size)


def leads_out(file: Path, folder: Path) -> bool:
    """Whether a path, or a link in it, ends outside a folder (of the hub's cache: its blobs)."""
    hub = folder.parent.parent if folder.parent.name == "snapshots" else folder
    home = hub if (hub / "blobs").is_dir() else folder
    return not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(home))


def inside(folder: Path, name: str) -> Path:
    """A file of a folder by its name there; raises `OSError` for a name or link that leads out."""
    if leads_out(folder / name, folder):
        raise OSError(f"{name} leads out of {folder}")
    return folder / name


def is_url(place: object) -> bool:
    """Whether a place is a URL such as s3://bucket/photos, and no path."""
    return re.match(r"([a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", str(place)) is not None


def file_system(url: str) -> tuple[Any, str]:
    """What fsspec reads a URL with, and the path there; `InputError` where its library is missing.

    Keys and addresses come from where each library takes them, such as AWS_ENDPOINT_URL.
    """
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    try:
        files, path = url_to_fs(url)
    except ImportError as error:
        if url.startswith("s3:"):
            raise missing_extra(url, "s3fs", "cloud") from error
        raise InputError(f"{url}: cannot be reached ({first_line(error)})") from error
    except ValueError as error:
        raise InputError(f"{url}: cannot be reached ({first_line(error)})") from error
    if isinstance(files, LocalFileSystem):  # paths are read with more care: links, pipes
        raise InputError(f"{url} is on this machine: give its path, {path}")
    return files, path


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that fsspec reads: store, path there, name below what was listed, bytes when listed.

    No URL is made of it: `::` and `*` in a name would say something else there.
    """

    system: Any
    path: str
    name: str
    size: int

    @property
    def suffix(self) -> str:
        """The name's end, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The last part of the name, without its end."""
        return PurePosixPath(self.name).stem


def opened(file: Path | RemoteFile) -> Any:
    """An open file, for bytes."""
    return file.open("rb") if isinstance(file, Path) else file.system.open(file.path, "rb")


def list_files(url: str) -> tuple[PurePosixPath, dict[PurePosixPath, RemoteFile]]:
    """The path of a URL, and all files below it by their place there, in order.

    That of a file is itself below itself. Parts of keys that are empty or all dots, which no folder
    holds, are in brackets. Raises `InputError`, `MissingFileError` for nothing.
    """
    system, path = file_system(url)
    root, found = PurePosixPath(path), {}
    try:
        for name, about in sorted(system.find(path, detail=True).items()):
            if not name.startswith(path):
                raise InputError(f"{url}: lists {name}, which is elsewhere")
            below = name.removeprefix(path).removeprefix("/")
            parts = [part if part.strip(".") else f"({part})" for part in below.split("/") if below]
            place = PurePosixPath(*parts)
            size = about.get("size") or system.size(name) or 0
            shown = place.as_posix() if place.parts else root.name
            found[place] = RemoteFile(system, name, shown, size)
    except OSError as error:
        raise InputError(f"{url}: cannot be listed ({first_line(error)})") from error
    if not found:
        raise MissingFileError(f"{url}: nothing is there{_unreached(system, path)}")
    return root, found


def _unreached(system: Any, path: str) -> str:
    """What kept a store from answering, if that is why it lists nothing."""
    try:
        system.info(path)
    except OSError as error:
        return f" ({first_line(error.__cause__)})" if error.__cause__ else ""
    return ""


def fetched(files: Sequence[RemoteFile]) -> list[bytes | Exception]:
    """The bytes of each file of a store, or what went wrong with it; all are asked for at once."""
    small = [file for file in files if file.size <= MAX_BYTES]
    paths = [file.path for file in small]
    read = small[0].system.cat_ranges(paths, 0, MAX_BYTES) if small else []  # no name is a pattern
    found = dict(zip(paths, read, strict=True))
    large = f"bytes, expected at most {MAX_BYTES:,}"
    return [found.get(file.path, OSError(f"{file.size:,} {large}")) for file in files]
