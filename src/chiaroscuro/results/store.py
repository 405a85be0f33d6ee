"""Saving, loading and checking results of every kind: JSON values, and arrays next to them."""

import dataclasses
import io
import math
import os
import zipfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_origin

import msgspec
import numpy as np

from chiaroscuro.errors import MissingResultError, ResultError, encodable, first_line
from chiaroscuro.files import inside
from chiaroscuro.results import folders
from chiaroscuro.results.folders import LOCK, Marker, digest, kind_in, read_marker
from chiaroscuro.results.kinds import KINDS, PAGE, Kind, imported
from chiaroscuro.settings import Settings, unchecked

Result = TypeVar("Result")
Arrays = Mapping[str, np.ndarray[Any, Any]]
ARRAYS = "arrays.npz"
"""The arrays of a result, each named by where it stands in it."""
MAX_ARRAYS = 1 << 33
"""Bytes of all arrays of a result that is loaded."""
_ARRAY, _NUMBER = "array", "number"
ABSENT = {"absent": None}
"""Metadata of a field that is not written where it is None."""


def to_plain(result: Any) -> tuple[Any, Arrays]:
    """A result as values that JSON keeps, and its arrays by where they stand in it.

    A number that JSON does not have becomes {"number": "nan"}; what it does not know, its text.

    >>> from chiaroscuro.results.facts import Interval
    >>> to_plain((Interval(1.0, 0.5, 2.0), np.zeros(3)))[0]
    [{'value': 1.0, 'low': 0.5, 'high': 2.0}, {'array': '1'}]
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}

    def plain(value: Any, name: str) -> Any:
        inner = f"{name}." if name else ""
        match value:
            case np.ndarray():
                arrays[name] = value
                return {_ARRAY: name}
            case np.generic():
                return plain(value.item(), name)
            case float() if not math.isfinite(value):
                return {_NUMBER: repr(value)}
            case bool() | int() | float() | None:
                return value
            case list() | tuple():
                return [plain(held, f"{inner}{i}") for i, held in enumerate(value)]
            case Settings():
                return plain(value.plain(), name)
            case Mapping():
                return {(k := encodable(key)): plain(v, f"{inner}{k}") for key, v in value.items()}
        if dataclasses.is_dataclass(value):
            own = {field.name: field.metadata for field in dataclasses.fields(value)}
            names = [n for n in own if own[n] != ABSENT or getattr(value, n) is not None]
            return {field: plain(getattr(value, field), f"{inner}{field}") for field in names}
        return encodable(value)

    return plain(result, ""), arrays


def _mapped(plain: Any, change: Callable[[dict[str, Any]], Any]) -> Any:
    """Plain values with every mapping changed, inner ones first."""
    if isinstance(plain, dict):
        return change({key: _mapped(value, change) for key, value in plain.items()})
    return [_mapped(value, change) for value in plain] if isinstance(plain, list) else plain


def facts_of(result: Any) -> Any:
    """A result as values that JSON keeps, without its arrays.

    >>> facts_of({"a": np.zeros(3), "b": (1, 2)})
    {'b': [1, 2]}
    """

    def kept(held: dict[str, Any]) -> Any:
        if [*held] == [_NUMBER]:
            return held[_NUMBER]
        return {k: v for k, v in held.items() if not (isinstance(v, dict) and [*v] == [_ARRAY])}

    return _mapped(to_plain(result)[0], kept)


def from_plain(plain: Any, arrays: Arrays, kind: type[Result]) -> Result:
    """The result that `to_plain` took apart; raises `ValueError` where its values do not fit."""

    def array(wanted: type, held: Any) -> Any:
        if get_origin(wanted) is not np.ndarray:
            raise TypeError(f"no way to read a {wanted}")
        return arrays[held[_ARRAY]]

    def number(held: dict[str, Any]) -> Any:
        return float(held[_NUMBER]) if [*held] == [_NUMBER] else held

    with unchecked():  # settings may name methods that are objects
        return msgspec.convert(_mapped(plain, number), kind, dec_hook=array, str_keys=True)


def kind_of(result: Any) -> Kind:
    """The kind of a result, or of its type; raises `ResultError` for what is no result."""
    own = result if isinstance(result, type) else type(result)
    for kind in KINDS.values():
        if kind.type == f"{own.__module__}:{own.__qualname__}":
            return kind
    raise ResultError(f"a {own.__name__} is not a result that can be saved")


def save(
    result: Any, folder: str | Path, *, overwrite: bool = False, config: Any = None, **view: Any
) -> Path:
    """Write a result with its pictures and its page into a folder: all of it, or `ResultError`.

    `view` goes to what draws this kind of result.
    """
    with folders.staged(folder, kind_of(result), overwrite=overwrite) as stage:
        write(result, stage, config=config, **view)
    return Path(folder)


def write(result: Any, folder: Path, *, config: Any = None, **view: Any) -> None:
    """Write arrays, views, and last the marker: of all files but what others put into a run."""
    kind = kind_of(result)
    plain, arrays = to_plain(result)
    others = folders.foreign_files(folder, kind) if (folder / kind.marker).exists() else []
    written = {name: (folder / name).lstat().st_mtime_ns for name in others}
    if arrays:
        _write_arrays(arrays, folder / ARRAYS)
    names = kind.draw(result, folder, **view) or [
        name
        for name in folders.files_below(folder)
        if written.get(name) != (folder / name).lstat().st_mtime_ns
    ]
    # Of a run's parts, which may be terabytes, receipts say what was written.
    known = dict(item for _, receipt in folders.receipts(folder) for item in receipt.files.items())
    ours = {
        name: known.get(name) or digest(folder / name)
        for name in names
        if name not in (kind.marker, LOCK)
    }
    folders.write_marker(folder, kind, Marker(kind.schema, ours, config, plain))


def check_page_free(folder: Path, kind: Kind) -> None:
    """Raise `ResultError` for a page in the folder that is not, byte by byte, one of this kind."""
    page = folder / PAGE
    with suppress(ResultError, OSError):
        if not os.path.lexists(page) or digest(page) == read_marker(folder, kind).files.get(PAGE):
            return
    what = f"is not the page of a chiaroscuro {kind.name}, or was changed"
    raise ResultError(f"{page} {what}: move it away, or choose another place")


def save_page(folder: Path, kind: Kind, update: Callable[[Any], Any]) -> None:
    """Write the page that `update` makes of the older one or None into a folder of other things."""
    with folders.writing(folder), folders.locked(folder, wait=60):
        check_page_free(folder, kind)
        result = update(load(folder, kind) if kind_in(folder) == kind else None)
        with folders.scratch(folder) as stage:
            kind.draw(result, stage)
            page = (stage / PAGE).read_bytes()
        # A marker without its page is harmless, a page without its marker is a stranger's.
        (folder / PAGE).unlink(missing_ok=True)
        marker = Marker(kind.schema, {PAGE: digest(page)}, result=to_plain(result)[0])
        folders.write_marker(folder, kind, marker)
        folders.write_file(folder / PAGE, page)


def _write_arrays(arrays: Arrays, file: Path) -> None:
    """Every array in one archive; the first level saves nearly as much as the highest, sooner."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy")  # without the time: same arrays, same bytes
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=1)


def load(folder: str | Path, kind: Kind | None = None) -> Any:
    """The result that lies in a folder, of the wanted kind or of any.

    Nothing of it is run, and no pickle is read. Raises `ResultError` for a folder without a result,
    one of a newer schema, an unfinished or a damaged one.
    """
    folder = Path(folder)
    found = kind_in(folder)
    kind = kind or found or no_result(folder)
    if found is not None and not (folder / kind.marker).exists():
        what = f"no {kind.name} there; it holds a chiaroscuro {found.name}"
        raise MissingResultError(f"{folder}: {what}")
    marker = read_marker(folder, kind, current=True)
    if marker.result is None:
        advice = "resume it (resume=True, --resume)"
        raise ResultError(f"{folder}: the {kind.name} is not finished: {advice}")
    try:
        arrays: Arrays = {}
        if ARRAYS in marker.files:
            file = inside(folder, ARRAYS)
            if digest(file) != marker.files[ARRAYS]:
                raise ValueError(f"{ARRAYS} is not what was written: it is damaged or was changed")
            with np.load(file, allow_pickle=False) as kept:
                size = sum(member.file_size for member in kept.zip.infolist())
                if size > MAX_ARRAYS:
                    raise ValueError(f"arrays of {size:,} bytes, expected at most {MAX_ARRAYS:,}")
                arrays = dict(kept)
        return from_plain(marker.result, arrays, imported(kind.type))
    except Exception as error:  # whatever damage makes of it
        raise ResultError(f"{folder}: not a readable {kind.name} ({first_line(error)})") from error


def no_result(folder: Path) -> NoReturn:
    """Say that there is no result."""
    raise MissingResultError(f"{folder}: no chiaroscuro result there")


def verify(folder: str | Path, names: Collection[str] | None = None) -> list[str]:
    """The files of a result (or those of these names) that are gone or not what was written."""
    folder = Path(folder)
    files = read_marker(folder, kind_in(folder) or no_result(folder)).files
    wanted = {name: files[name] for name in files if names is None or name in names}
    return [
        name for name, written in wanted.items() if not folders.is_as_written(folder, name, written)
    ]
