"""A run over an image set: a folder with one part a batch, each whole or not there."""

import io
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from chiaroscuro.errors import (
    ChiaroscuroError,
    ChoiceError,
    ExistingResultError,
    OtherConfigurationError,
    ResultError,
    first_line,
)
from chiaroscuro.files import inside, read_regular
from chiaroscuro.results import folders
from chiaroscuro.results.facts import LeftOut, ModelFacts
from chiaroscuro.results.folders import (
    BEGUN,
    NEW,
    PARTS,
    SHARD,
    Marker,
    Receipt,
    digest,
    read_marker,
)
from chiaroscuro.results.kinds import KINDS, Kind
from chiaroscuro.results.store import Result, from_plain, to_plain, write

if TYPE_CHECKING:
    import pyarrow as pa


_TABLE = ".parquet"


@dataclass(frozen=True, eq=False)
class Part:
    """What a run makes of one batch, always the same; it covers `images` rows of the set."""

    number: int
    images: int
    tables: Mapping[str, "pa.Table"]
    left_out: tuple[LeftOut, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What that decides the parts of a run; `profile` decides rounding, `files` is a digest."""

    settings: Mapping[str, Any]
    batch: int
    threads: int
    split: str
    rows: int | None
    labels: tuple[str, ...] | None
    files: str | None
    facts: Mapping[str, Any]
    profile: Mapping[str, Any]
    model: ModelFacts
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batches of {self.batch} images")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; its marker is written first, and once more with the result."""

    folder: Path
    kind: Kind

    def finished_parts(self) -> dict[int, int]:
        """The numbers of all parts that are there and whole, with the images each covers."""
        return {receipt.number: receipt.images for receipt in self.whole_parts()}

    def whole_parts(self) -> Iterator[Receipt]:
        """The receipts of all parts that are there and whole."""
        files = sorted((self.folder / PARTS).glob("*.json"))
        return (receipt for file in files if (receipt := self._whole(file.name)))

    def write_part(self, part: Part) -> Receipt:
        """Put a part in its place: first its receipt, so that every file there is known as ours."""
        number = f"{part.number:06d}"
        tables = {f"{name}/{number}{_TABLE}": _bytes(rows) for name, rows in part.tables.items()}
        files = {**tables, **part.files}
        listed = {name: digest(data) for name, data in files.items()}
        receipt = Receipt(part.number, part.images, part.left_out, listed)
        text = msgspec.json.encode(folders.sealed(receipt))
        word = secrets.token_hex(4)  # a worker that was given up may write the same part just now
        for name, data in {f"{PARTS}/{number}.json": text, **files}.items():
            folders.write_file(self.folder / name, data, f".{word}")
        return receipt

    def note_shard(self, shard: str | None) -> None:
        """Keep which share of the batches is here, of the whole, or a finished run, nothing."""
        file = self.folder / SHARD
        if shard is None or read_marker(self.folder, self.kind).result is not None:
            file.unlink(missing_ok=True)
        else:
            folders.write_file(file, f"{shard} {digest(shard.encode()).sha256}".encode())

    def take_part(self, number: int, other: Path) -> None:
        """Put a finished part of another folder in its place, byte by byte."""
        name = f"{number:06d}.json"
        receipt = folders.read_receipt(other, name)
        for file in (f"{PARTS}/{name}", *(receipt.files if receipt else ())):
            folders.write_file(self.folder / file, read_regular(inside(other, file)))

    def read_parts(self, numbers: Sequence[int], *, tables_alone: bool = False) -> Iterator[Part]:
        """The parts of these numbers with their tables; raises `ResultError` for a damaged one.

        `tables_alone`: other files are not looked at, which are larger than the tables.
        """
        from pyarrow.parquet import ParquetFile  # `read_table` would import data sets and pandas

        known = frozenset[str]()
        for number in numbers:
            if (receipt := self._whole(f"{number:06d}.json", tables_alone)) is None:
                advice = "resume=True (--resume) computes it"
                raise ResultError(f"{self.folder}: part {number} is gone or damaged: {advice}")
            names = [name for name in receipt.files if name.endswith(_TABLE)]
            held = tables_of(receipt)
            if held != (known := known or held):
                raise ResultError(f"{self.folder}: part {number} has other tables than the rest")
            try:
                files = (
                    ParquetFile(self.folder / n, page_checksum_verification=True) for n in names
                )
                tables = {
                    name.partition("/")[0]: file.read()
                    for name, file in zip(names, files, strict=True)
                }
            except Exception as error:  # pyarrow's have no common root
                unread = f"{self.folder}: part {number} cannot be read ({first_line(error)})"
                raise ResultError(unread) from error
            yield Part(number, receipt.images, tables, receipt.left_out)

    def finish(self, result: Any) -> None:
        """Write result, pictures, page, and last the marker; remove what the run replaces."""
        for left in self.folder.rglob(f"*{NEW}"):  # of writes that never came to their end
            left.unlink()
        write(result, self.folder, config=read_marker(self.folder, self.kind).config)
        folders.recover(self.folder)

    def receipt(self, number: int) -> Receipt | None:
        """The receipt of a part that is there and whole."""
        return self._whole(f"{number:06d}.json")

    def _whole(self, name: str, tables_alone: bool = False) -> Receipt | None:
        receipt = folders.read_receipt(self.folder, name)
        for file, written in receipt.files.items() if receipt else ():
            is_wanted = file.endswith(_TABLE) or not tables_alone
            if is_wanted and not folders.is_as_written(self.folder, file, written):
                return None
        return receipt


def merge_runs(shards: Iterable[str | Path], out: str | Path, *, overwrite: bool = False) -> None:
    """Join `shards`, folders of `evaluate(..., shard="i/n")`, into `out`, an interrupted run.

    So are joined those of `check`, `localize`, `confusions` and `export_maps`. The same call as of
    the shards, with this folder, `resume=True` and without `shard`, then summarizes it and computes
    nothing: the same bytes as of one run. What `out` already holds of the same run stays, so shards
    may come one after the other. Raises `ResultError` for folders of different runs, and while
    batches are missing, which are named.
    """
    with joined(shards, out, overwrite=overwrite):
        pass


@contextmanager
def joined(
    shards: Iterable[str | Path], out: str | Path, kind: Kind | None = None, *, overwrite: bool
) -> Iterator[tuple[RunFolder, RunConfig, list[int]]]:
    """The run that `merge_runs` makes, locked, with its configuration and the numbers of parts."""
    places = [Path(shard) for shard in shards]
    if not places:
        raise ChoiceError("no shards are given: give the folders to join")
    if overwrite and folders.resolved(out) in map(folders.resolved, places):
        raise ResultError(f"{out} is one of the shards: join them there without replacing it")
    kind = kind or kind_of_shard(places[0])
    is_there = not overwrite and folders.kind_in(out) == kind
    config = read_config(out if is_there else places[0], kind, RunConfig)
    for place in places:
        theirs = read_config(place, kind, RunConfig)
        check_config(place, kind, _as_on(theirs, config))
    with open_run(out, kind, config, resume=not overwrite, overwrite=overwrite) as run:
        done = run.finished_parts()
        for place in places:
            for number, images in RunFolder(place, kind).finished_parts().items():
                if number not in done:
                    run.take_part(number, place)
                    done[number] = images
        count = -(-(config.rows or 0) // config.batch)
        if missing := [number for number in range(count) if number not in done]:
            listed = ", ".join(map(str, missing[:5])) + (", ..." if missing[5:] else "")
            hurt = next((p for p in places if folders.holds_part_of(p, missing)), None)
            damaged = f"; {hurt} has damaged parts: repair it" if hurt else ""
            raise ResultError(
                f"{out}: {len(missing)} of {count} batches are in none of the shards ({listed}): "
                f"merge the others too, or compute them there (resume=True, --resume){damaged}"
            )
        run.note_shard(None)
        yield run, config, sorted(done)


def _as_on(theirs: RunConfig, config: RunConfig) -> RunConfig:
    """A configuration as another machine has it, whose caches and memory round otherwise."""
    one, other = theirs.model.device, config.model.device
    is_same = one.partition(":")[0] == other.partition(":")[0]
    model = replace(config.model, device=one) if is_same else config.model
    return replace(config, profile=theirs.profile, model=model)


def share_of(shard: str) -> tuple[int, int]:
    """I and n of "i/n"; raises `ChoiceError`."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", shard)
    first, step = map(int, found.groups()) if found else (0, 0)
    if first >= step:
        raise ChoiceError(f"shard is {shard!r}: expected i/n with i from 0 to n - 1, such as 0/3")
    return first, step


def shard_in(folder: Path) -> str | None:
    """Which share of the batches a run's folder has, "" for all; None where that is damaged."""
    try:
        shard, _, checksum = read_regular(inside(folder, SHARD)).decode().partition(" ")
        share_of(shard)
        return shard if checksum == digest(shard.encode()).sha256 else None
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return None


def kind_of_shard(folder: str | Path) -> Kind:
    """The kind of a run's folder; raises `ResultError` for what is none."""
    kind = folders.kind_in(folder)
    if kind is None or begun(Path(folder)) is None:
        raise ResultError(f"{folder}: no shard of a run there: give folders of --shard (shard=)")
    return kind


def tables_of(receipt: Receipt) -> frozenset[str]:
    """The names of a part's tables, of which every part of a run has the same."""
    return frozenset(n.partition("/")[0] for n in receipt.files if n.endswith(_TABLE))


@contextmanager
def fitting(folder: Path, what: str = "maps", *passed: type[Exception]) -> Iterator[None]:
    """Make one error of whatever parts of a run that do not fit each other raise."""
    ours: tuple[type[Exception], ...] = (ChiaroscuroError, *passed)
    try:
        yield
    except ours:
        raise
    except Exception as error:  # those of Zarr, its codecs and Arrow have no common root
        raise ResultError(f"{folder}: {what} that cannot be read ({first_line(error)})") from error


@contextmanager
def open_run(
    folder: str | Path, kind: Kind, config: Any, *, resume: bool, overwrite: bool
) -> Iterator[RunFolder]:
    """A run's folder, locked: started now with this configuration, or there with the same."""
    with folders.writing(folder):
        final, is_there = check_startable(folder, kind, resume=resume, overwrite=overwrite)
        marker = Marker(kind.schema, config=to_plain(config)[0])
        replaced = is_there and not resume
        with folders.locked(final) if replaced else nullcontext():
            if replaced:
                folders.set_aside(final)
            if not final.is_dir():
                with folders.scratch(final.parent) as stage:
                    folders.write_marker(stage, kind, marker)
                    stage.replace(final)
        with folders.locked(final):
            if is_there and resume:
                check_config(final, kind, config)
            else:
                folders.write_marker(final, kind, marker)
            folders.write_file(final / BEGUN, folders.marker_bytes(marker))
            yield RunFolder(final, kind)


def begun(folder: Path) -> tuple[Kind, Marker] | None:
    """The kind and first marker of a run from their copy, whatever became of its marker."""
    with suppress(OSError, ValueError, RecursionError):  # msgspec's are ValueErrors
        marker = msgspec.json.decode(read_regular(inside(folder, BEGUN)), type=Marker)
        name = marker.schema.partition("/")[0].removeprefix("chiaroscuro-")
        if marker == folders.sealed(marker) and name in KINDS:
            return KINDS[name], marker
    return None


def restore_marker(folder: Path) -> None:
    """Put a run's first marker in place of a damaged one; the run is then resumed to its end."""
    if found := begun(folder):
        kind, marker = found
        with folders.writing(folder), folders.locked(folder):
            folders.write_marker(folder, kind, marker)


def check_startable(
    folder: str | Path, kind: Kind, *, resume: bool, overwrite: bool
) -> tuple[Path, bool]:
    """The folder with links resolved, and whether a run of this kind lies there to be resumed."""
    final = folders.resolved(folder)
    folders.recover(final)
    is_there = folders.kind_in(final) == kind
    if is_there and not resume and not overwrite:
        advice = "resume it (resume=True, --resume) or replace it (overwrite=True, --force)"
        raise ExistingResultError(f"{final} holds a run: {advice}")
    if not (is_there and resume):
        folders.check_free(final, kind, overwrite=overwrite)
    elif link := next((file for file in final.rglob("*") if file.is_symlink()), None):
        raise ResultError(f"{link} is a link: a run is resumed in a folder without any")
    return final, is_there


def check_config(folder: Path, kind: Kind, config: Any, what: str = "a run") -> None:
    """Raise `ResultError`, with up to three differences, for a result of another configuration."""
    old = read_marker(folder, kind, current=True).config
    new = msgspec.json.decode(msgspec.json.encode(to_plain(config)[0]))  # as a file keeps it
    if differences := list(_differences(old, new, "")):
        said = "; ".join(differences[:3])
        error = OtherConfigurationError(
            f"{folder} holds {what} of another configuration ({said}): "
            "choose another place, repeat it as it was, or replace it (overwrite=True, --force)"
        )
        error.said = said
        raise error


def _differences(old: Any, new: Any, name: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield f"{name} was {old!s:.60}, now {new!s:.60}"


def read_config(folder: str | Path, kind: Kind, config_type: type[Result]) -> Result:
    """What a run was begun with; raises `ResultError` for a folder without one."""
    config = read_marker(Path(folder), kind, current=True).config
    try:
        return from_plain(config, {}, config_type)
    except (ValueError, msgspec.MsgspecError) as error:
        raise ResultError(f"{folder}: configuration is damaged ({first_line(error)})") from error


def missing_parts(done: Mapping[int, int], rows: int | None, size: int) -> Iterable[int]:
    """The numbers of batches without a part; endless where only reading tells how many."""
    ends = [number for number, images in done.items() if images < size]
    if rows is None and not ends:
        return (number for number in count() if number not in done)
    last = max(ends) + 1 if rows is None else -(-rows // size)
    return [number for number in range(last) if number not in done]


def _bytes(table: "pa.Table") -> bytes:
    from pyarrow import parquet

    target = io.BytesIO()
    parquet.write_table(table, target, compression="zstd", write_page_checksum=True)
    return target.getvalue()
