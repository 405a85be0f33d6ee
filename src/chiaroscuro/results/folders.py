"""Folders that appear whole or not at all, and that replace nothing but results of ours."""

import ctypes
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from chiaroscuro.errors import (
    ExistingResultError,
    MissingResultError,
    ResultError,
    UnwritableResultError,
    first_line,
    unwritable,
)
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.kinds import KINDS, Kind

LOCK = ".chiaroscuro-lock"
FRESH = ".chiaroscuro-fresh-"
"""A folder that nobody clears away within `_PATIENCE`."""
STAGE = ".chiaroscuro-stage-"
_OLD = ".chiaroscuro-old-"
NEW = ".chiaroscuro-new"
"""After the name of a file that is being written."""
PARTS = "parts"
"""The folder of a run's receipts."""
_HOME = ".chiaroscuro-home"
"""Inside a folder that was moved aside: where it belongs."""
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that systems leave in every folder."""
_PATIENCE = 3600.0
"""Seconds."""
_LARGEST = 1 << 28
"""Bytes; no marker has as many."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A file's size and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Marker:
    """What a marker file holds.

    `files`: every other file of the folder; `config`: what a run was begun with; `result`: absent
    until a run is finished; `replaces`: the older result that is removed then; `checksum`: of all
    the others, so that a changed figure is noticed.
    """

    schema: str
    files: Mapping[str, Digest] = field(default_factory=dict)
    config: Any = None
    result: Any = None
    replaces: str | None = None
    checksum: str = ""

    def sealed(self) -> "Marker":
        """The marker with the checksum that its other values have."""
        held = msgspec.json.encode(replace(self, checksum=""))
        return replace(self, checksum=hashlib.sha256(held).hexdigest())


def kind_in(folder: str | Path) -> Kind | None:
    """The kind of result that lies in a folder, of any schema version; None for anything else."""
    for kind in KINDS.values():
        with suppress(ResultError):
            read_marker(Path(folder), kind)
            return kind
    return None


def is_result(folder: str | Path) -> bool:
    """Whether a folder is a result of this program, and not a user's with a page of ours in it."""
    kind = kind_in(folder)
    return kind is not None and not kind.shares_folder


def read_marker(folder: Path, kind: Kind) -> Marker:
    """A folder's marker, of any version of the kind; raises `ResultError` where there is none."""
    file = folder / kind.marker
    try:
        check_regular(file, _LARGEST)
        marker = msgspec.json.decode(file.read_bytes(), type=Marker)
    except FileNotFoundError:
        raise MissingResultError(f"{folder}: no {kind.name} there (no {kind.marker})") from None
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ResultError(f"{file}: cannot be read ({first_line(error)})") from error
    name, _, version = marker.schema.partition("/")
    if name != kind.schema.partition("/")[0] or not re.fullmatch("[0-9]{1,6}", version):
        raise ResultError(f"{file}: schema {marker.schema!r}, expected {kind.schema!r}")
    return marker


def check_readable(folder: Path, kind: Kind, marker: Marker) -> None:
    """Raise `ResultError` for a marker of another schema version, or one that was changed."""
    version = int(marker.schema.partition("/")[2])
    if version != kind.version:
        advice = "update chiaroscuro to read it" if version > kind.version else "make it once more"
        raise ResultError(
            f"{folder / kind.marker}: schema version {version}, this program reads version "
            f"{kind.version}: {advice}"
        )
    if marker != marker.sealed():
        raise ResultError(f"{folder / kind.marker} is damaged, or was changed after it was written")


def check_free(folder: str | Path, kind: Kind, *, overwrite: bool) -> Path:
    """The folder with links resolved, when a result of this kind may be written there.

    Raises `ResultError` when something lies there that may not be replaced (anything but a result
    of the same kind that holds our files alone, and that only with `overwrite`), or when the folder
    around it cannot be written to.
    """
    final = resolved(folder)
    recover(final)
    if os.path.lexists(final):
        _check_replaceable(final, kind, overwrite=overwrite)
    around = next(place for place in final.parents if os.path.lexists(place))
    if not around.is_dir():
        raise UnwritableResultError(f"{folder}: cannot be written ({around} is not a folder)")
    for place in (around, final):
        if os.path.lexists(place) and not os.access(place, os.W_OK | os.X_OK):
            raise UnwritableResultError(
                f"{folder}: cannot be written (no permission to write in {place})"
            )
    return final


def resolved(folder: str | Path) -> Path:
    """A folder with links resolved; raises `ResultError` for what can be no folder's name."""
    try:
        final = Path(os.path.realpath(folder))
        with suppress(FileNotFoundError, NotADirectoryError):
            final.lstat()
    except OSError as error:
        raise unwritable(folder, error) from error
    except ValueError as error:
        raise UnwritableResultError(f"{str(folder)!r}: cannot be written ({error})") from error
    return final


def _check_replaceable(final: Path, kind: Kind, *, overwrite: bool) -> None:
    if final.is_dir() and not any(final.iterdir()):
        return
    theirs = kind_in(final) if final.is_dir() else None
    if theirs != kind:
        held = f"holds a chiaroscuro {theirs.name}" if theirs else "is not a chiaroscuro result"
        raise ResultError(
            f"{final} {held}, so no {kind.name} is written there: choose another place"
        )
    if not overwrite:
        raise ExistingResultError(
            f"{final} exists already: choose another place, or overwrite it "
            "(overwrite=True, --force)"
        )
    strangers = foreign_files(final, kind)
    if strangers:
        raise ResultError(
            f"{final} holds files that chiaroscuro did not write (such as {strangers[0]}): "
            "move them away, or choose another place"
        )


def foreign_files(folder: Path, kind: Kind) -> list[str]:
    """Files below a result's folder that its marker does not list; of a run, those not its own."""
    marker = read_marker(folder, kind)
    ours = {*marker.files, kind.marker, LOCK, _HOME}
    names = [name for name in _files(folder) if name not in ours and not _is_passing(name)]
    if marker.result is None and marker.config is not None:
        is_ours = _files_of_parts(folder)
        names = [name for name in names if not is_ours(name)]
    return sorted(names)


def _is_passing(name: str) -> bool:
    """Whether a file belongs to nobody: left by the system, or by a write without an end."""
    return Path(name).name in _LITTER or name.endswith(NEW)


def _files_of_parts(folder: Path) -> Callable[[str], bool]:
    """Which files of an unfinished run are its own: those of receipts, and numbered ones there.

    One that has no receipt yet owns every file that is named by a batch's number.
    """
    receipts = filter(None, map(read_receipt, (folder / PARTS).glob("*.json")))
    listed = {name for receipt in receipts for name in receipt.files}
    places = {name.rpartition("/")[0] for name in listed}

    def is_ours(name: str) -> bool:
        place, _, last = name.rpartition("/")
        numbered = re.fullmatch(r"[0-9]{6,}\.[a-z]+", last) is not None
        return name in listed or (
            numbered and "/" not in place and place in (places or {place}) | {PARTS}
        )

    return is_ours


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `parts/NUMBER.json` holds: a part is there when its receipt is, and its files are."""

    number: int
    images: int
    left_out: tuple[LeftOut, ...]
    files: Mapping[str, Digest]

    def sealed(self) -> bytes:
        """The receipt in JSON, and on a second line the checksum of that."""
        text = msgspec.json.encode(self)
        return b"\n".join([text, hashlib.sha256(text).hexdigest().encode(), b""])


def read_receipt(file: Path) -> Receipt | None:
    """A receipt whose second line is the checksum of its first; None for anything else."""
    try:
        check_regular(file, _LARGEST)
        text, checksum, rest = file.read_bytes().split(b"\n")
        whole = checksum == hashlib.sha256(text).hexdigest().encode() and not rest
        return msgspec.json.decode(text, type=Receipt) if whole else None
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return None


@contextmanager
def staged(folder: str | Path, kind: Kind, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder next to `folder` that takes its place when the block ends well.

    On an error nothing is left behind, and a folder that was there stays as it was; a folder that
    is replaced stays until the new one is whole. Raises `ResultError` as `check_free` does.
    """
    final = check_free(folder, kind, overwrite=overwrite)
    word = secrets.token_hex(6)
    fresh, stage = final.parent / f"{FRESH}{word}", final.parent / f"{STAGE}{word}"
    try:
        fresh.mkdir(parents=True)
        with locked(fresh):
            fresh.replace(stage)  # under a name that others clear away only now that it is locked
            yield stage
            sync_tree(stage)
            _install(stage, final)
            # Only now: whatever is not locked is cleared away.
            (final / LOCK).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(final, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stage, ignore_errors=True)


def seal(
    folder: Path, kind: Kind, *, config: Any = None, result: Any = None, without: Iterable[str] = ()
) -> None:
    """Write a folder's marker, which lists every other file (`without` some) with its digest."""
    others = {kind.marker, LOCK, *without}
    files = {
        name: digest(folder / name)
        for name in _files(folder)
        if name not in others and not _is_passing(name)
    }
    write_marker(folder, kind, Marker(kind.schema, files, config, result))


def write_marker(folder: Path, kind: Kind, marker: Marker) -> None:
    """Put the marker in its place, whole or not at all."""
    text = msgspec.json.format(msgspec.json.encode(marker.sealed()), indent=1)
    write_file(folder / kind.marker, text + b"\n")


def write_file(file: Path, data: bytes) -> None:
    """Put a file in its place, whole or not at all, also when power fails."""
    file.parent.mkdir(exist_ok=True)
    new = file.with_name(f"{file.name}{NEW}")
    try:
        new.unlink(missing_ok=True)
        with new.open("xb") as target:  # no link is followed
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def check_regular(file: Path, most: float = inf) -> None:
    """Raise `OSError` unless a file is regular, with at most so many bytes: a pipe has no end."""
    about = file.stat()
    if not stat.S_ISREG(about.st_mode) or about.st_size > most:
        raise OSError(f"{file.name} is no regular file, or too large")


def digest(file: Path) -> Digest:
    """A regular file's size and SHA-256."""
    check_regular(file)
    with file.open("rb") as source:
        return Digest(file.stat().st_size, hashlib.file_digest(source, "sha256").hexdigest())


@contextmanager
def locked(folder: Path, wait: float = 0) -> Iterator[None]:
    """Hold a folder's lock; a process that dies lets go of it.

    Raises `ResultError` when another process (or another thread of this one) still holds it after
    `wait` seconds.
    """
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise ResultError(f"{folder} is being written by another process: wait for it") from None
    try:
        yield
    finally:
        lock.release()


def sync_tree(folder: Path) -> None:
    """Bring the files of a folder to the disk."""
    for name in _files(folder):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def _files(folder: Path) -> list[str]:
    return sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if not file.is_dir() or file.is_symlink()
    )


def _install(stage: Path, final: Path) -> None:
    """Put the stage in its place, at once where the system can exchange two names."""
    if not os.path.lexists(final):
        stage.replace(final)
        return
    shutil.copymode(final, stage)
    if not exchange(stage, final):
        aside = move_aside(final)
        try:
            stage.replace(final)
        except OSError:
            put_back(aside, final)
            raise
        remove_aside(aside)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system cannot."""
    if platform.system() != "Linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), swap) == 0)


def move_aside(folder: Path) -> Path:
    """Rename a result to a hidden name next to it, which says where it belongs."""
    home, aside = folder / _HOME, folder.with_name(f"{_OLD}{secrets.token_hex(6)}")
    try:
        home.unlink(missing_ok=True)
        home.write_text(folder.name, encoding="utf-8", errors="surrogateescape")
        folder.replace(aside)
    except OSError:
        home.unlink(missing_ok=True)
        raise
    return aside


def put_back(aside: Path, final: Path) -> None:
    """Undo `move_aside`."""
    aside.replace(final)
    (final / _HOME).unlink(missing_ok=True)


def remove_aside(aside: Path) -> None:
    """Remove a result that was moved aside; anything else stays."""
    if aside.name.startswith(_OLD) and (aside / _HOME).is_file():
        shutil.rmtree(aside, ignore_errors=True)


def recover(final: Path) -> None:
    """Clear away what killed processes left next to `final`, and put its old result back.

    An old result of which a finished one has the place is removed.
    """
    if not final.parent.is_dir():
        return
    for left in final.parent.glob(f"{STAGE}*"):
        with suppress(ResultError, OSError), locked(left):
            shutil.rmtree(left, ignore_errors=True)
    for left in final.parent.glob(f"{FRESH}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _PATIENCE:
                shutil.rmtree(left, ignore_errors=True)
    asides = [old for old in sorted(final.parent.glob(f"{_OLD}*")) if _home(old) == final.name]
    if not asides:
        return
    if not os.path.lexists(final):
        put_back(asides[0], final)
        return
    kind = kind_in(final)
    if kind is not None and read_marker(final, kind).result is not None:
        for aside in asides:
            remove_aside(aside)


def _home(aside: Path) -> str | None:
    try:
        check_regular(aside / _HOME)
        return (aside / _HOME).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
