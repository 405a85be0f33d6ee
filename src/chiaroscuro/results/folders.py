"""Folders that appear whole or not at all, and that replace nothing but results of ours."""

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from filelock import FileLock, Timeout

from chiaroscuro import errors
from chiaroscuro.errors import ResultError
from chiaroscuro.files import check_regular, inside, read_regular
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.kinds import KINDS, Kind

LOCK = ".chiaroscuro-lock"
STAGE = ".chiaroscuro-stage-"
"""Before the name of a folder that is removed as soon as nobody has it locked."""
NEW = ".chiaroscuro-new"
"""After the name of a file that is being written."""
PARTS = "parts"
"""The folder of a run's receipts."""
BEGUN, SHARD = f"{PARTS}/run.json", f"{PARTS}/shard"
"""A run's first marker, with its configuration; what a damaged marker is made from."""
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that systems leave in every folder."""
_UNREADABLE = (OSError, ValueError, MemoryError, RecursionError, msgspec.MsgspecError)


@dataclass(frozen=True, slots=True)
class Digest:
    """A file's size and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Marker:
    """What a marker holds: of a run first its `config`, and in the end `files` and `result`."""

    schema: str
    files: Mapping[str, Digest] = field(default_factory=dict)
    config: Any = None
    result: Any = None
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `parts/NUMBER.json` holds; the part is there when all its files are as listed."""

    number: int
    images: int
    left_out: tuple[LeftOut, ...]
    files: Mapping[str, Digest]
    checksum: str = ""


Sealed = TypeVar("Sealed", Marker, Receipt)


def sealed(value: Sealed) -> Sealed:
    """The same with the checksum that its other values have."""
    held = msgspec.json.encode(replace(value, checksum=""))
    return replace(value, checksum=hashlib.sha256(held).hexdigest())


def read_marker(folder: Path, kind: Kind, *, current: bool = False) -> Marker:
    """A folder's marker of this kind; `current`: of this schema version, as it was written."""
    file = folder / kind.marker
    try:
        marker = msgspec.json.decode(read_regular(inside(folder, kind.marker)), type=Marker)
    except FileNotFoundError:
        missing = f"{folder}: no {kind.name} there (no {kind.marker})"
        raise errors.MissingResultError(missing) from None
    except _UNREADABLE as error:
        raise ResultError(f"{file}: cannot be read ({errors.first_line(error)})") from error
    name, _, version = marker.schema.partition("/")
    if name != kind.schema.partition("/")[0] or not re.fullmatch("[0-9]{1,6}", version):
        raise ResultError(f"{file}: schema {marker.schema!r}, expected {kind.schema!r}")
    if current and int(version) != kind.version:
        newer = int(version) > kind.version
        raise ResultError(
            f"{file}: schema version {version}, this program reads version {kind.version}: "
            f"{'update chiaroscuro to read it' if newer else 'make it once more'}"
        )
    if current and marker != sealed(marker):
        raise ResultError(f"{file} is damaged, or was changed after it was written")
    return marker


def read_receipt(folder: Path, name: str) -> Receipt | None:
    """A run's receipt that is as it was written; None for anything else."""
    with suppress(*_UNREADABLE):
        file = inside(folder, f"{PARTS}/{name}")
        receipt = msgspec.json.decode(read_regular(file), type=Receipt)
        return receipt if receipt == sealed(receipt) else None
    return None


def kind_in(folder: str | Path) -> Kind | None:
    """The kind of a folder's result, of any version, or None; one left next to it is put back."""
    if not os.path.lexists(folder):
        with suppress(ResultError):
            _settle(resolved(folder))
    for kind in KINDS.values():
        with suppress(ResultError):
            read_marker(Path(folder), kind)
            return kind
    return None


def is_result(folder: str | Path) -> bool:
    """Whether a folder is a result of this program, and not a user's with a page of ours in it."""
    kind = kind_in(folder)
    return kind is not None and not kind.shares_folder


def resolved(folder: str | Path) -> Path:
    """A folder with links resolved; raises `ResultError` for what can be no folder's name."""
    if re.match("[a-z][a-z0-9+.-]+:/", str(folder)):  # a Path has one slash of a URL's two
        advice = "give a folder, and copy the result there (copy_result, chiaroscuro copy)"
        raise errors.UnwritableResultError(f"{folder} is a URL, and results lie on disk: {advice}")
    try:
        final = Path(os.path.realpath(folder))
        with suppress(FileNotFoundError, NotADirectoryError):
            final.lstat()
    except (OSError, ValueError) as error:
        text = f"{str(folder)!r}: cannot be written ({errors.first_line(error)})"
        raise errors.UnwritableResultError(text) from error
    return final


def check_free(folder: str | Path, kind: Kind, *, overwrite: bool) -> Path:
    """The folder with links resolved, where nothing lies or, to `overwrite`, one of this kind."""
    final = resolved(folder)
    recover(final)
    if os.path.lexists(final) and not (final.is_dir() and not any(final.iterdir())):
        theirs = kind_in(final)
        if theirs != kind:
            held = f"holds a chiaroscuro {theirs.name}" if theirs else "is not a chiaroscuro result"
            why = f"so no {kind.name} is written there: choose another place"
            raise ResultError(f"{final} {held}, {why}")
        if not overwrite:
            raise errors.ExistingResultError(
                f"{final} exists already: choose another place, or overwrite it "
                "(overwrite=True, --force)"
            )
        if strangers := foreign_files(final, kind):
            raise ResultError(
                f"{final} holds files that chiaroscuro did not write (such as {strangers[0]}): "
                "move them away, or choose another place"
            )
    for place in (next(one for one in final.parents if os.path.lexists(one)), final):
        usable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
        if os.path.lexists(place) and not usable:
            why = (
                f"no permission to write in {place}"
                if place.is_dir()
                else f"{place} is not a folder"
            )
            raise errors.UnwritableResultError(f"{folder}: cannot be written ({why})")
    with writing(folder):
        Path(tempfile.mkdtemp(dir=next(filter(os.path.lexists, final.parents)))).rmdir()
    return final


def foreign_files(folder: Path, kind: Kind) -> list[str]:
    """Files below a result's folder that neither its marker nor a receipt lists."""
    ours = {*read_marker(folder, kind).files, kind.marker, LOCK, BEGUN, SHARD}
    for name, receipt in receipts(folder):
        ours |= {name, *receipt.files}
    return [name for name in files_below(folder) if name not in ours]


def holds_part_of(folder: Path, numbers: Iterable[int]) -> bool:
    """Whether a receipt of one of these parts lies there, whole or not."""
    return any((folder / PARTS / f"{number:06d}.json").exists() for number in numbers)


def receipts(folder: Path) -> Iterator[tuple[str, Receipt]]:
    """A run's receipts that are as they were written, by their files' names."""
    for file in sorted((folder / PARTS).glob("*.json")):
        if receipt := read_receipt(folder, file.name):
            yield f"{PARTS}/{file.name}", receipt


def files_below(folder: Path) -> list[str]:
    """All but those left by the system, and by a write without an end."""
    return sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if (not file.is_dir() or file.is_symlink())
        and not (file.name in _LITTER or file.name.endswith(NEW))
    )


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Say of an `OSError` which place cannot be written."""
    try:
        yield
    except OSError as error:
        raise errors.unwritable(place, error) from error


@contextmanager
def locked(folder: Path, wait: float = 0) -> Iterator[None]:
    """Hold a folder's lock, which a process that dies lets go of; `wait`: seconds for another's."""
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise ResultError(f"{folder} is being written by another process: wait for it") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A locked hidden folder that is gone in the end; `recover` clears away those of the dead."""
    word = secrets.token_hex(6)
    fresh, stage = parent / f"{NEW}-{word}", parent / f"{STAGE}{word}"
    try:
        fresh.mkdir(parents=True)
        with locked(fresh):
            fresh.replace(stage)  # under a name that others clear away only now that it is locked
            yield stage
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def staged(folder: str | Path, kind: Kind, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder`, whole, when the block ends well."""
    final = check_free(folder, kind, overwrite=overwrite)
    with writing(final), scratch(final.parent) as stage:
        yield stage
        for name in files_below(stage):
            with (stage / name).open("rb") as file:
                os.fsync(file.fileno())
        _install(stage, final)
        (final / LOCK).unlink(missing_ok=True)  # only now: what is not locked is cleared away


def _install(stage: Path, final: Path) -> None:
    if not os.path.lexists(final):
        stage.replace(final)
        return
    shutil.copymode(final, stage)
    try:
        with locked(final):  # a process that finds nothing in its place leaves the older one to us
            set_aside(final)
            stage.replace(final)
    finally:
        _settle(final)


def set_aside(final: Path) -> None:
    """Hide a result until a finished one has its place; an unfinished run yields to an older."""
    if _aside(final).exists():
        _discard(final)
    else:
        final.replace(_aside(final))


def _aside(final: Path) -> Path:
    name = hashlib.sha256(os.fsencode(final.name)).hexdigest()[:16]
    return final.with_name(f".chiaroscuro-old-{name}")


def _discard(folder: Path) -> None:
    gone = folder.with_name(f"{STAGE}{secrets.token_hex(6)}")
    folder.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)


def forget_replaced(final: Path) -> None:
    """Remove what was set aside for a result that is done, though it has no summary."""
    if (aside := _aside(final)).exists():
        with suppress(OSError, ResultError), locked(aside):
            _discard(aside)


def recover(final: Path) -> None:
    """Clear away what killed processes left, and put back the old result unless one is finished."""
    for left in final.parent.glob(f"{STAGE}*"):
        with suppress(ResultError, OSError), locked(left):
            shutil.rmtree(left, ignore_errors=True)
    _settle(final)


def _settle(final: Path) -> None:
    aside = _aside(final)
    if not aside.exists():  # which locking would create
        return
    with suppress(OSError, ResultError), locked(aside):  # another process is at it, or was faster
        if not os.path.lexists(final):
            aside.replace(final)
            (final / LOCK).unlink()
        elif (kind := kind_in(final)) and read_marker(final, kind).result:
            _discard(aside)


def write_marker(folder: Path, kind: Kind, marker: Marker) -> None:
    """Put the marker in its place, whole or not at all."""
    write_file(folder / kind.marker, marker_bytes(marker))


def marker_bytes(marker: Marker) -> bytes:
    """A marker as its file holds it."""
    return msgspec.json.format(msgspec.json.encode(sealed(marker)), indent=1) + b"\n"


def write_file(file: Path, data: bytes, word: str = "") -> None:
    """Put a file in its place, whole or not at all, also when power fails.

    `word`: tells the temporary file from that of another writer.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}{word}{NEW}")
    try:
        new.unlink(missing_ok=True)
        with new.open("xb") as target:  # no link is followed
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def digest(file: Path | bytes) -> Digest:
    """The size and SHA-256 of a regular file, or of what one will hold."""
    if isinstance(file, bytes):
        return Digest(len(file), hashlib.sha256(file).hexdigest())
    check_regular(file)
    with file.open("rb") as source:
        return Digest(file.stat().st_size, hashlib.file_digest(source, "sha256").hexdigest())


def is_as_written(folder: Path, name: str, written: Digest) -> bool:
    """Whether a file of a folder is there and what it was; none that leads out of the folder is."""
    with suppress(OSError, ValueError):
        return digest(inside(folder, name)) == written
    return False
