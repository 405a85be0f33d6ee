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
    return re.match(r"[a-z][a-z0-9+.-]+(::|://)", str(place)) is not None


def file_system(url: str) -> tuple[Any, str]:
    """What fsspec reads a URL with, and the path there; `InputError` where its library is missing.

    Keys and addresses come from where each library takes them, such as AWS_ENDPOINT_URL.
    """
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(url)
    except ImportError as error:
        if url.startswith("s3:"):
            raise missing_extra(url, "s3fs", "cloud") from error
        raise InputError(f"{url}: cannot be reached ({first_line(error)})") from error
    except ValueError as error:
        raise InputError(f"{url}: cannot be reached ({first_line(error)})") from error
    return files, path


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that fsspec reads: its URL, its name below what was listed, its bytes when listed."""

    url: str
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
    if isinstance(file, Path):
        return file.open("rb")
    import fsspec

    return fsspec.open(file.url, "rb").open()


def list_files(url: str) -> tuple[PurePosixPath, dict[PurePosixPath, RemoteFile]]:
    """The path of a URL, and all files below it by their place there, in order.

    That of a file is itself below itself. Raises `InputError`, `MissingFileError` for nothing.
    """
    system, path = file_system(url)
    root, found = PurePosixPath(path), {}
    try:
        for name, about in sorted(system.find(path, detail=True).items()):
            place = PurePosixPath(name).relative_to(root)
            size = about.get("size") or system.size(name) or 0
            shown = place.as_posix() if place.parts else root.name
            found[place] = RemoteFile(system.unstrip_protocol(name), shown, size)
    except OSError as error:
        raise InputError(f"{url}: cannot be listed ({first_line(error)})") from error
    if not found:
        raise MissingFileError(f"{url}: nothing is there")
    return root, found


def fetched(files: Sequence[RemoteFile]) -> list[bytes | Exception]:
    """The bytes of each file, or what went wrong with it; all are asked for at once."""
    found: dict[str, bytes | Exception] = {
        file.url: OSError(f"{file.size:,} bytes, expected at most {MAX_BYTES:,}")
        for file in files
        if file.size > MAX_BYTES
    }
    if wanted := [file.url for file in files if file.url not in found]:
        system, _ = file_system(wanted[0])
        paths = [system._strip_protocol(url) for url in wanted]
        read = system.cat(paths, on_error="return")
        found |= {url: read[path] for url, path in zip(wanted, paths, strict=True)}
    return [found[file.url] for file in files]
