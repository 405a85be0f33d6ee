"""Every byte of a result checked against what was written: its files, its parts, its counts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiaroscuro.errors import ResultError, first_line, printable
from chiaroscuro.files import leads_out
from chiaroscuro.results import folders
from chiaroscuro.results.folders import SHARD, Marker, kind_in, read_marker
from chiaroscuro.results.kinds import KINDS, Kind
from chiaroscuro.results.runs import (
    RunFolder,
    begun,
    missing_parts,
    shard_in,
    share_of,
    tables_of,
)
from chiaroscuro.results.store import no_result, verify

_NAMED = 5
"""So many files and parts are named in a line."""


@dataclass(frozen=True)
class Verification:
    """What a look at every byte of a result found.

    `kind`: that of the result. `finished`: whether it has a summary. `damaged`: files that are gone
    or not what was written. `parts`: how many are whole. Of a run over an image set also
    `missing`, the numbers of parts that are damaged or were never made, the images that are
    `listed` (None where nobody counted them), `read` and `reported` as left out, and `faults` of
    these counts. `shard`: "i/n" where only that share of the batches is wanted here.
    """

    kind: str
    finished: bool
    damaged: tuple[str, ...] = ()
    parts: int | None = None
    missing: tuple[int, ...] = ()
    listed: int | None = None
    read: int = 0
    reported: int = 0
    faults: tuple[str, ...] = ()
    shard: str = ""

    @property
    def whole(self) -> bool:
        """Whether the result is finished, or the shard, and nothing is wrong with it."""
        is_done = self.finished or self.shard != ""
        return is_done and not (self.damaged or self.missing or self.faults)

    def lines(self) -> Iterator[str]:
        """What was found, in words."""
        state = "whole" if self.whole else "damaged" if self.finished else "not finished"
        yield f"{self.kind}{f', shard {self.shard}' if self.shard else ''}: {state}"
        if self.damaged:
            yield f"{len(self.damaged)} files are gone or damaged: {_some(self.damaged)}"
        if self.parts is not None:
            parts = f"parts: {self.parts} whole, {len(self.missing)} missing or damaged"
            yield f"{parts}: {_some(self.missing)}" if self.missing else parts
            listed = "" if self.listed is None else f"{self.listed:,} listed, "
            yield f"images: {listed}{self.read:,} read, {self.reported:,} reported as left out"
        yield from self.faults


def _some(names: tuple[Any, ...]) -> str:
    said = ", ".join(printable(name) for name in names[:_NAMED])
    return f"{said}, ..." if len(names) > _NAMED else said


def verification(folder: str | Path) -> Verification:
    """Check a result of any kind, of a gallery each explanation too.

    Raises `ResultError` for a folder without a result, or one whose marker is damaged.
    """
    folder = Path(folder)
    try:
        return _verified(folder)
    except ResultError:
        raise
    except Exception as error:  # a marker with a checksum that fits and values of other types
        raise ResultError(f"{folder}: holds values of other types ({first_line(error)})") from error


def _verified(folder: Path) -> Verification:
    kind, marker, damaged = _found(folder)
    finished = marker.result is not None
    if kind == KINDS.get("gallery"):
        damaged += [
            f"{entry['folder']}/{name}"
            for entry in (marker.result or {}).get("entries", ())
            if not leads_out(folder / entry["folder"], folder)
            for name in _damaged_below(folder / entry["folder"])
        ]
    if not isinstance(marker.config, Mapping) or "rows" not in marker.config:
        return Verification(kind.name, finished, tuple(damaged))
    whole = list(RunFolder(folder, kind).whole_parts())
    done = {receipt.number: receipt.images for receipt in whole}
    rows, size = marker.config["rows"], marker.config["batch"]
    missing = missing_parts(done, rows, size)
    if rows is None and not finished:  # nobody knows how many there will be
        missing = [number for number in range(max(done, default=-1)) if number not in done]
    listed, shard = rows, "" if finished else shard_in(folder)
    if shard is None:
        shard, damaged = "", [*damaged, SHARD]
    if shard:
        (first, step), number_of = share_of(shard), -(-rows // size)
        missing = [number for number in missing if number % step == first]
        listed = sum(min(size, rows - n * size) for n in range(first, number_of, step))
    reported = sum(len(receipt.left_out) for receipt in whole)
    read, faults = sum(done.values()) - reported, list[str]()
    if finished and not missing:
        faults = list(_count_faults(marker, read, reported))
    if len({*map(tables_of, whole)}) > 1:
        faults.append("some parts have other tables than the rest")
    return Verification(
        kind.name, finished, tuple(damaged), len(done), tuple(missing), listed, read, reported,
        tuple(faults), shard,
    )  # fmt: skip


def _found(folder: Path) -> tuple[Kind, Marker, list[str]]:
    """Kind, marker and damaged files; of a run with a damaged marker, the one it began with."""
    kind = kind_in(folder)
    try:
        marker = read_marker(folder, kind or no_result(folder), current=True)
    except ResultError:
        if (copy := begun(folder)) is None or copy[1].schema != copy[0].schema:
            raise
        return *copy, [copy[0].marker]
    assert kind is not None
    file = folder / kind.marker
    written = folders.marker_bytes(marker)
    # 1E-5 is the same number as 1e-5, and one bit away.
    is_damaged = file.read_bytes() != written and file.read_bytes().lower() == written.lower()
    return kind, marker, [*[kind.marker] * is_damaged, *verify(folder)]


def _damaged_below(folder: Path) -> list[str]:
    try:
        return list(verification(folder).damaged)
    except ResultError:
        return ["its marker"]


def _count_faults(marker: Marker, read: int, reported: int) -> Iterator[str]:
    """Where images that are listed are not those that were read and reported."""
    rows, data = marker.config["rows"], marker.result.get("data", {})
    if rows is not None and read + reported != rows:
        yield f"{rows} images are listed, and {read} + {reported} were read and reported"
    said = data.get("images", read), data.get("left_out_count", reported)
    if said != (read, reported):
        yield f"the result says {said[0]} read and {said[1]} reported; its parts, otherwise"
