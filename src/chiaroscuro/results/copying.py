"""Results copied to and from object stores, part by part; what is there is not sent twice."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import msgspec

from chiaroscuro.errors import (
    ExistingResultError,
    InputError,
    MissingResultError,
    ResultError,
    first_line,
    printable,
)
from chiaroscuro.files import MAX_BYTES, file_system, inside, is_url, read_regular
from chiaroscuro.results import folders
from chiaroscuro.results.folders import BEGUN, PARTS, SHARD, Digest, Marker, Receipt, digest, sealed
from chiaroscuro.results.kinds import KINDS, Kind

Progress = Callable[[int, int | None, int], object]


class _Place(Protocol):
    """Where a result lies: its files by name, each whole or not there."""

    def names(self) -> list[str]: ...
    def read(self, name: str) -> bytes: ...
    def write(self, name: str, data: bytes) -> None: ...
    def remove(self, name: str) -> None: ...
    def locked(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class _Folder:
    folder: Path

    def names(self) -> list[str]:
        own = {folders.LOCK}
        return [name for name in folders.files_below(self.folder) if name not in own]

    def read(self, name: str) -> bytes:
        return read_regular(inside(self.folder, name))

    def write(self, name: str, data: bytes) -> None:
        with folders.writing(self.folder):
            folders.write_file(inside(self.folder, name), data)

    def remove(self, name: str) -> None:
        inside(self.folder, name).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with folders.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        is_new = not (self.folder / folders.LOCK).exists()
        with folders.locked(self.folder):
            try:
                yield
            except ResultError:
                if is_new:  # nothing stays in a folder that was refused
                    (self.folder / folders.LOCK).unlink(missing_ok=True)
                raise


@dataclass(frozen=True)
class _Store:
    """A prefix of an object store. Objects appear whole; nothing there can be locked."""

    system: Any
    path: str

    @classmethod
    def at(cls, url: str) -> "_Store":
        return cls(*file_system(url))

    def names(self) -> list[str]:
        self.system.invalidate_cache()
        root = PurePosixPath(self.path)
        return [PurePosixPath(n).relative_to(root).as_posix() for n in self.system.find(self.path)]

    def read(self, name: str) -> bytes:
        size = self.system.size(self._at(name))
        if size > MAX_BYTES:
            raise OSError(f"{name} has {size:,} bytes, expected at most {MAX_BYTES:,}")
        data: bytes = self.system.cat_file(self._at(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        with suppress(FileExistsError):  # folders of stores that have some; others need none
            self.system.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
        self.system.pipe_file(self._at(name), data)

    def remove(self, name: str) -> None:
        self.system.rm_file(self._at(name))

    def locked(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _at(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"


@dataclass(frozen=True)
class _Held:
    """What a place says it holds: a result's marker, and the receipts of its parts, as bytes."""

    kind: Kind
    marker: Marker
    raw: bytes
    receipts: dict[str, bytes]
    begun: bytes | None
    shard: bytes | None

    def files(self) -> Iterator[str]:
        """Every file of the result, the marker last."""
        yield from [SHARD] * (self.shard is not None)
        yield from [BEGUN] * (self.begun is not None)
        for name, raw in self.receipts.items():
            yield from (*_receipt(raw).files, name)
        yield from self.marker.files
        yield self.kind.marker


def copy_result(
    source: str | Path,
    target: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress = lambda done, total, before: None,
) -> str:
    """Copy a result between folders and object stores.

    `source`, `target`: paths, or URLs that fsspec reads, such as s3://bucket/run. Only files that
    the result lists are copied, each checked against its SHA-256; the marker comes last, so a copy
    that was stopped is no result yet, and the same call goes on. Parts of the same run that the
    target has are not copied again: an unfinished run can be copied now and then, and resumed
    elsewhere. `overwrite` replaces another result there. Returns the target.

    Raises `InputError` for a URL that cannot be reached, `ResultError` for a damaged source, or a
    target that holds something else.

    >>> import numpy as np
    >>> import torch
    >>> from tempfile import mkdtemp
    >>> from chiaroscuro import Classifier, copy_result, explain
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    >>> found = explain(Classifier(net), np.random.rand(4, 4, 3))
    >>> copy_result(found.save(f"{mkdtemp()}/one"), "memory://bucket/one")
    'memory://bucket/one'
    """
    here, there = _place(source), _place(target)
    if here == there:
        raise ResultError(f"{target} is the source itself: choose another place")
    try:
        held = _held(here, str(source))
        if held is None:
            raise MissingResultError(f"{source}: no chiaroscuro result there")
        if held.kind.shares_folder:
            raise ResultError(f"{source} is a gallery: copy the explanations in it one by one")
        with there.locked():
            _send(held, here, there, _make_room(held, there, str(target), overwrite), progress)
    except (ResultError, InputError):
        raise
    except Exception as error:  # those of the libraries behind fsspec have no common root
        raise InputError(f"{source} to {target}: stopped ({first_line(error)})") from error
    return str(target)


def _place(place: str | Path) -> _Place:
    return _Store.at(str(place)) if is_url(place) else _Folder(folders.resolved(place))


def _held(place: _Place, name: str) -> _Held | None:
    names = place.names()
    kinds = [kind for kind in KINDS.values() if kind.marker in names]
    if not kinds:
        return None
    raw = place.read(kinds[0].marker)
    try:
        marker = msgspec.json.decode(raw, type=Marker)
    except ValueError as error:
        raise ResultError(f"{name}/{kinds[0].marker}: cannot be read") from error
    if marker != sealed(marker) or marker.schema != kinds[0].schema:
        raise ResultError(
            f"{name}/{kinds[0].marker}: damaged, or of another version of chiaroscuro"
        )
    receipts = [n for n in names if re.fullmatch(PARTS + r"/\d+\.json", n)]
    begun, shard = (place.read(name) if name in names else None for name in (BEGUN, SHARD))
    return _Held(kinds[0], marker, raw, {n: place.read(n) for n in sorted(receipts)}, begun, shard)


def _receipt(raw: bytes) -> Receipt:
    with suppress(ValueError):
        receipt = msgspec.json.decode(raw, type=Receipt)
        if receipt == sealed(receipt):
            return receipt
    raise ResultError("a receipt is damaged: verify the result, repair it, then copy it")


def _make_room(held: _Held, there: _Place, target: str, overwrite: bool) -> dict[str, bool]:
    """The files that the target has, and whether its result, of the same run, lists them.

    Another result is removed if it may be.
    """
    names, theirs = {*there.names()}, _held(there, target)
    is_same_run = BEGUN in names and there.read(BEGUN) == held.begun
    if theirs is None:
        if not is_same_run and (strangers := names - {*held.files()}):
            what = printable(min(strangers))
            raise ResultError(f"{target} holds other files (such as {what}): choose another place")
        return dict.fromkeys(names, False)
    if is_same_run or theirs.raw == held.raw:
        own = {BEGUN, SHARD, theirs.kind.marker, *theirs.marker.files, *theirs.receipts}
        for raw in theirs.receipts.values():
            with suppress(ResultError):  # a damaged receipt is sent once more
                own |= {*_receipt(raw).files}
        return {name: name in own for name in names}
    if not overwrite:
        advice = "choose another place, or replace it (overwrite=True, --force)"
        raise ExistingResultError(f"{target} holds another {theirs.kind.name}: {advice}")
    # The marker last: until then it says whose they are.
    for name in dict.fromkeys((SHARD, *theirs.files())):
        if name in names:
            there.remove(name)
    return dict.fromkeys(there.names(), False)


def _send(
    held: _Held, here: _Place, there: _Place, names: dict[str, bool], progress: Progress
) -> None:
    """Copy what the target, which has these files, lacks; what says that it is there comes last."""

    def put(name: str, data: bytes) -> None:
        if names.get(name) is False and there.read(name) != data:  # of a copy that broke off?
            advice = "move it away, or choose another place"
            raise ResultError(f"the target holds another {printable(name)}: {advice}")
        there.write(name, data)

    _send_shard(held, there, names)
    total, made = len(held.receipts) + 1, {BEGUN}
    if held.begun is not None and BEGUN not in names:
        put(BEGUN, held.begun)
    for done, (name, raw) in enumerate(held.receipts.items(), 1):
        files = _receipt(raw).files
        made |= {name, *files}
        if not (names.keys() >= {name, *files} and there.read(name) == raw):
            for file, written in files.items():
                put(file, _checked(here, file, written))
            put(name, raw)
        progress(done, total, 0)
    for file, written in held.marker.files.items():
        if file not in made:
            put(file, _checked(here, file, written))
    put(held.kind.marker, held.raw)
    progress(total, total, 0)


def _send_shard(held: _Held, there: _Place, names: dict[str, bool]) -> None:
    """Say of a new copy which share it is; with another share there it is none."""
    if BEGUN not in names and held.shard is not None:
        there.write(SHARD, held.shard)
    elif SHARD in names and there.read(SHARD) != held.shard:
        there.remove(SHARD)


def _checked(place: _Place, name: str, written: Digest) -> bytes:
    """A file's bytes; raises `ResultError` unless they are those that were written."""
    safe = PurePosixPath(name)
    if safe.is_absolute() or ".." in safe.parts:
        raise ResultError(f"{printable(name)} leads out of the source")
    try:
        data = place.read(name)
    except FileNotFoundError:
        data = b""
    if digest(data) != written:
        advice = "chiaroscuro verify --repair computes it once more"
        raise ResultError(f"{printable(name)} of the source is gone or damaged: {advice}")
    return data
