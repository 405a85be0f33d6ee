"""Long runs: memory and handles while they last, and the bill for sets that are far larger.

    python -m benchmarks.scale [--images 100000] [--only maps] [--broken 1] [--figure FILE]

Small images are drawn (shapes on noise, PNG of 32 px in one Parquet file of several row groups),
and their maps and deletion curves computed by the commands, with the packaged `cifar10-cnn`. Every
second the file that `--counts` writes is read. A line fitted to memory against images, without the
first tenth, says how fast it grows. `--photos`: a folder of photos or a set in it, for the rates of
EfficientNet-Lite0. The bill takes the measured rates and bytes for 10^6 and 10^9 images; it is
checked by the rate of the first tenth of the run, which predicts the time of the whole. `--broken`:
so many images of a hundred are broken, in the ways of `BROKEN` by turns; the others must be
measured, these left out, and a table counts the reasons that were given.
"""

import argparse
import io
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from pyarrow import parquet

from benchmarks.machine import describe
from chiaroscuro import load_images
from chiaroscuro.cli.terminal import LEFT_OUT
from chiaroscuro.cli.watch import duration
from chiaroscuro.render.sheets import Chart, Curve, Row, Sheet, save_sheet
from chiaroscuro.results import load
from chiaroscuro.results.facts import Reason

COMMANDS = {
    "maps": ("--map", "active", "--map", "inactive", "--dtype", "float16"),
    "evaluate": ("--protocol", "matched", "--resamples", "100", "--flips", "999"),
}
"""What is run, with its options besides data, model and places."""
_GROUP = 10_000


@dataclass(frozen=True)
class Sample:
    """The state of a run at one moment."""

    seconds: float
    images: float
    resident: float
    handles: float


def _huge(data: bytes) -> bytes:
    """The header of a PNG that says it has 10^9 pixels, its checksum right."""
    head = b"IHDR" + struct.pack(">II", 100_000, 10_000) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def _not_finite(data: bytes) -> bytes:
    """A TIFF of one channel in float32, all NaN."""
    file, values = io.BytesIO(), np.full((32, 32), np.nan, np.float32)
    Image.fromarray(values).save(file, "TIFF")
    return file.getvalue()


BROKEN: dict[str, Callable[[bytes], bytes | None]] = {
    "cut in half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "missing in its row": lambda data: None,
    "an answer of a server": lambda data: b"<!doctype html><title>404 Not Found</title>",
    "zeros": lambda data: bytes(len(data)),
    "a bit of its pixels flipped": lambda data: data[:60] + bytes([data[60] ^ 8]) + data[61:],
    "a billion pixels, by its header": _huge,
    "pixels that are NaN": _not_finite,
}
"""How images are broken."""


@dataclass(frozen=True)
class Ran:
    """A finished run: its images and those left out, samples, seconds, bytes read and written."""

    name: str
    images: int
    left_out: int
    reasons: tuple[Reason, ...]
    samples: tuple[Sample, ...]
    seconds: float
    data_bytes: int
    run_bytes: int

    @property
    def rate(self) -> float:
        """Images a second, start and end of the command included."""
        return self.images / self.seconds

    @property
    def predicted(self) -> float:
        """The seconds of the whole, by the rate up to a tenth of the images."""
        first = next(s for s in self.samples if s.images > 0)
        least = max(self.images / 10, first.images + 1)
        reached = next((s for s in self.samples if s.images >= least), None)
        if reached is None:
            return self.seconds
        rate = (reached.images - first.images) / (reached.seconds - first.seconds)
        return first.seconds + (self.images - first.images) / rate

    @property
    def growth(self) -> float:
        """Bytes of memory that an image more takes, without the first tenth."""
        late = [s for s in self.samples if self.images / 10 <= s.images < self.images]
        x, y = (np.array([getattr(s, name) for s in late]) for name in ("images", "resident"))
        return float(np.polyfit(x, y, 1)[0]) if len(late) > 2 else 0.0


def main() -> None:
    """Draw the images, run the commands, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--only", choices=COMMANDS)
    parser.add_argument("--broken", type=int, default=0)
    parser.add_argument("--photos", type=Path, help="photos for the rates of EfficientNet-Lite0")
    parser.add_argument("--photo-count", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as held:
        place = Path(held)
        write_images(place / "small" / "test.parquet", arguments.images, arguments.broken)
        names = [arguments.only] if arguments.only else [*COMMANDS]
        small = place / "small", "cifar10-cnn", arguments.images
        runs = [run(place, name, *small) for name in names]
        if arguments.photos:
            words = ("--limit", str(arguments.photo_count), "--rivals", "top:10")
            photos = arguments.photos, "efficientnet-lite0", arguments.photo_count
            runs += [run(place, name, *photos, words) for name in names]
    lines = [*figures(runs), "", *reasons(runs), "", *bill(runs), "", str(describe())]
    print("\n".join(lines))
    if arguments.figure:
        draw(runs, arguments.figure)


def write_images(file: Path, count: int, broken: int = 0, seed: int = 0) -> None:
    """So many small pictures of ten classes: a bright or dark shape on colored noise.

    Of a hundred the last `broken` ones are broken.
    """
    file.parent.mkdir(parents=True)
    drawn, y, x = np.random.default_rng(seed), *np.indices((32, 32))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", kind), ("label", pa.int64())])
    ways = [*BROKEN.values()]
    with parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, count, _GROUP):
            rows = []
            for n in range(start, min(start + _GROUP, count)):
                values = drawn.integers(0, 256, (8, 8, 3)).repeat(4, 0).repeat(4, 1)
                row, column, radius = drawn.integers(8, 24), drawn.integers(8, 24), 3 + n % 10
                values[(y - row) ** 2 + (x - column) ** 2 < radius**2] = 255 * (n % 2)
                data = io.BytesIO()
                Image.fromarray(values.astype(np.uint8)).save(data, "PNG")
                whole = data.getvalue()
                kept: bytes | None = whole
                if n % 100 >= 100 - broken:
                    kept = ways[(n // 100 + n) % len(ways)](whole)
                rows.append({"image": {"bytes": kept, "path": None}, "label": n % 10})
            writer.write_table(pa.Table.from_pylist(rows, schema))


def run(
    place: Path, name: str, data: Path, model: str, images: int, words: tuple[str, ...] = ()
) -> Ran:
    """Run a command to its end, and look at its counts every second."""
    out, counts = place / f"{name}-{model}", place / f"{name}-{model}.prom"
    start = time.perf_counter()
    command = [
        *(sys.executable, "-c", "from chiaroscuro.cli import main; main()", name, str(data)),
        *("--model", model, "--out", str(out), "--counts", str(counts), "--quiet"),
        *COMMANDS[name],
        *words,
    ]
    samples = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(1)
            if counts.exists():
                samples.append(sample(counts, time.perf_counter() - start))
    seconds = time.perf_counter() - start
    if process.returncode not in (0, LEFT_OUT):
        raise SystemExit(f"{name}: exit status {process.returncode}")
    facts = load(out).data
    if facts.images + facts.left_out_count != images:
        raise SystemExit(f"{name}: {facts.images} measured, {facts.left_out_count} left out")
    listed = load_images(data).count or images  # of which `--limit` reads some
    sizes = size(data) * images // listed, size(out)
    counted = images, facts.left_out_count, facts.reasons
    return Ran(f"{name}, {model}", *counted, tuple(samples), seconds, *sizes)


def sample(counts: Path, seconds: float) -> Sample:
    """What a file of counts says."""
    found = text_string_to_metric_families(counts.read_text())
    values = {s.name: s.value for family in found for s in family.samples}
    names = ("done", "resident_bytes", "open_files")
    return Sample(seconds, *(values.get(f"chiaroscuro_{name}", 0) for name in names))


def size(folder: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [folder] if folder.is_file() else folder.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def figures(runs: list[Ran]) -> Iterator[str]:
    """A row for each run: what it took and whether it grew."""
    heads = "run | images | left out | images/s | predicted / taken | MB at a tenth, at the end"
    yield f"| {heads} | MB more a million images | handles |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for one in runs:
        early = next(s for s in one.samples if s.images >= one.images / 10)
        handles = {int(s.handles) for s in one.samples if s.images >= one.images / 10}
        yield (
            f"| {one.name} | {one.images:,} | {one.left_out:,} | {one.rate:.1f} | "
            f"{duration(one.predicted)} / {duration(one.seconds)} | "
            f"{early.resident / 1e6:.0f}, {one.samples[-1].resident / 1e6:.0f} | "
            f"{one.growth:.1f} | {min(handles)} to {max(handles)} |"
        )


def reasons(runs: list[Ran]) -> Iterator[str]:
    """Why images were left out of each run, counted."""
    yield from ("| run | left out | reason |", "|---|---:|---|")
    yield from (f"| {one.name} | {r.count:,} | {r.text} |" for one in runs for r in one.reasons)


def bill(runs: list[Ran]) -> Iterator[str]:
    """What a million and a thousand million images take, by these rates."""
    yield "| run | images | machine time, two cores | read | written |"
    yield "|---|---:|---:|---:|---:|"
    for one in runs:
        for count in (10**6, 10**9):
            read, written = (count * each / one.images for each in (one.data_bytes, one.run_bytes))
            yield (
                f"| {one.name} | {count:,} | {duration(count / one.rate)} | {amount(read)} | "
                f"{amount(written)} |"
            )


def amount(count: float) -> str:
    """Bytes in a readable unit."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
        count /= 1000
    raise AssertionError


def draw(runs: list[Ran], file: Path) -> None:
    """Memory and handles against the images that are done."""
    rows = []
    for one in runs:
        done = [sample.images for sample in one.samples]
        memory = Curve("memory", done, [sample.resident / 1e6 for sample in one.samples])
        handles = Curve("open files", done, [sample.handles for sample in one.samples])
        charts = [
            Chart(one.name, [memory], "images", "memory, MB", (0, None), percent_x=False),
            Chart(one.name, [handles], "images", "open files", (0, None), percent_x=False),
        ]
        rows.append(Row(charts, 2.6))
    save_sheet(Sheet(rows, "Memory and open files of long runs", width=11), file)


if __name__ == "__main__":
    main()
