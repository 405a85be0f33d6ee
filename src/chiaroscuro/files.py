"""Files that others may have made: regular ones of a bounded size, none outside a folder."""

import os
import stat
from pathlib import Path

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
