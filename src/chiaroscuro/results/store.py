"""Saving, loading and checking results of every kind."""

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from chiaroscuro.errors import MissingResultError, ResultError, first_line, unwritable
from chiaroscuro.results.codec import from_plain, to_plain
from chiaroscuro.results.folders import (
    FRESH,
    Digest,
    Marker,
    check_readable,
    digest,
    kind_in,
    locked,
    read_marker,
    seal,
    staged,
    write_file,
    write_marker,
)
from chiaroscuro.results.kinds import KINDS, PAGE, Kind

ARRAYS = "arrays.npz"
"""The arrays of a result, each named by where it stands in it."""


def kind_of(result: Any) -> Kind:
    """The kind of a result, or of its type; raises `ResultError` for what is no result."""
    own = result if isinstance(result, type) else type(result)
    place = f"{own.__module__}:{own.__qualname__}"
    for kind in KINDS.values():
        if kind.type == place:
            return kind
    raise ResultError(f"a {own.__name__} is not a result that can be saved")


def save(result: Any, folder: str | Path, *, overwrite: bool = False, config: Any = None) -> Path:
    """Write a result with its pictures and its page into a folder: all of it or nothing.

    `config` is what `read_config` returns. Raises `ResultError` when something lies there that may
    not be replaced, or on a full disk.
    """
    kind = kind_of(result)
    with staged(folder, kind, overwrite=overwrite) as stage:
        write(result, stage, config=config)
    return Path(folder)


def write(result: Any, folder: Path, *, config: Any = None, without: Iterable[str] = ()) -> None:
    """Write a result into a folder: arrays, views, and last the marker, `without` others' files."""
    kind = kind_of(result)
    plain, arrays = to_plain(result)
    if arrays:
        _write_arrays(arrays, folder / ARRAYS)
    kind.draw(result, folder)
    seal(folder, kind, config=config, result=plain, without=without)


def check_page_free(folder: Path, kind: Kind) -> None:
    """Raise `ResultError` for a page in the folder that is not, byte by byte, one of this kind."""
    page = folder / PAGE
    if not os.path.lexists(page):
        return
    with suppress(ResultError, OSError):
        if digest(page) == read_marker(folder, kind).files.get(PAGE):
            return
    raise ResultError(
        f"{page} is not the page of a chiaroscuro {kind.name}, or was changed: move it away, or "
        "choose another place"
    )


def save_page(folder: str | Path, kind: Kind, update: Callable[[Any], Any]) -> Path:
    """Write the page and the marker of a result into a folder that also holds other things.

    `update` makes the result from the older one there, None where there is none; other processes
    wait meanwhile. Raises `ResultError` where another page lies.
    """
    folder = Path(folder)
    try:
        with locked(folder, wait=60):
            check_page_free(folder, kind)
            result = update(load(folder, kind) if kind_in(folder) == kind else None)
            with TemporaryDirectory(prefix=FRESH, dir=folder) as stage:
                kind.draw(result, Path(stage))
                page = (Path(stage) / PAGE).read_bytes()
            # A marker without its page is harmless, a page without its marker is a stranger's.
            (folder / PAGE).unlink(missing_ok=True)
            written = {PAGE: Digest(len(page), hashlib.sha256(page).hexdigest())}
            plain, _ = to_plain(result)
            write_marker(folder, kind, Marker(kind.schema, written, result=plain))
            write_file(folder / PAGE, page)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def save_beside(result: Any, folder: Path, views: Callable[[Path], Iterable[str]]) -> None:
    """Write the views of a result, then its marker, into a folder that also holds other things.

    `views` writes files into the folder and returns their names; the marker lists them alone.
    """
    kind = kind_of(result)
    try:
        files = {name: digest(folder / name) for name in views(folder)}
        write_marker(folder, kind, Marker(kind.schema, files, result=to_plain(result)[0]))
    except OSError as error:
        raise unwritable(folder, error) from error


def _write_arrays(arrays: dict[str, np.ndarray[Any, Any]], file: Path) -> None:
    """Every array in one archive; the first level saves nearly as much as the highest, sooner."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy")  # without the time: same arrays, same bytes
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=1)


def load(folder: str | Path, kind: Kind | None = None) -> Any:
    """The result that lies in a folder, of the wanted kind or of any.

    Nothing of it is run, and no pickle is read. Raises `ResultError` for a folder without a result,
    one of a newer schema, an unfinished or a damaged one.
    """
    folder = Path(folder)
    found = kind or kind_in(folder)
    if found is None:
        raise MissingResultError(f"{folder}: no chiaroscuro result there")
    if (other := kind_in(folder)) is not None and not (folder / found.marker).exists():
        raise MissingResultError(
            f"{folder}: no {found.name} there; it holds a chiaroscuro {other.name}"
        )
    marker = read_marker(folder, found)
    check_readable(folder, found, marker)
    if marker.result is None:
        raise ResultError(
            f"{folder}: the {found.name} is not finished: resume it (resume=True, --resume)"
        )
    try:
        arrays = _read_arrays(folder / ARRAYS, marker.files.get(ARRAYS))
        return from_plain(marker.result, arrays, found.load_type())
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, RecursionError,
            zipfile.BadZipFile, zlib.error, msgspec.MsgspecError) as error:  # fmt: skip
        raise ResultError(f"{folder}: not a readable {found.name} ({first_line(error)})") from error


def _read_arrays(file: Path, written: Digest | None) -> dict[str, np.ndarray[Any, Any]]:
    if written is None:
        return {}
    if digest(file) != written:
        raise ValueError(f"{file.name} is not what was written: it is damaged or was changed")
    with file.open("rb") as source, np.load(source, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def verify(folder: str | Path, names: Collection[str] | None = None) -> list[str]:
    """The files of a result (or those of these names) that are gone or not what was written.

    Raises `ResultError` for a folder without a result.
    """
    folder = Path(folder)
    kind = kind_in(folder)
    if kind is None:
        raise MissingResultError(f"{folder}: no chiaroscuro result there")
    marker = read_marker(folder, kind)
    return [
        name
        for name, written in marker.files.items()
        if (names is None or name in names)
        and (not (folder / name).is_file() or digest(folder / name) != written)
    ]
