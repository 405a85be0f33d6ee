"""Every reader of files from outside, with files that it reads at its best."""

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from chiaroscuro import results
from chiaroscuro.images import Framing, frame, open_photo
from chiaroscuro.results import facts_of, folders, runs
from chiaroscuro.results.facts import CropBox
from chiaroscuro.results.verification import verification
from tools.fuzz_files import SIZE, Files

_KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "base.jpg": ("JPEG", "RGB", {}), "progressive.jpeg": ("JPEG", "RGB", {"progressive": True}),
    "gray.jpe": ("JPEG", "L", {}), "cmyk.jfif": ("JPEG", "CMYK", {}), "two.mpo": ("MPO", "RGB", {}),
    "rgba.png": ("PNG", "RGBA", {}), "palette.png": ("PNG", "P", {"transparency": 3}),
    "deep.png": ("PNG", "I;16", {}), "frames.apng": ("PNG", "RGB", {"save_all": True}),
    "rgb.bmp": ("BMP", "RGB", {}), "frames.gif": ("GIF", "P", {"save_all": True}),
    "rgb.ppm": ("PPM", "RGB", {}), "deep.pgm": ("PPM", "I;16", {}), "bits.pbm": ("PPM", "1", {}),
    "gray.pnm": ("PPM", "L", {}), "lossy.webp": ("WEBP", "RGB", {}),
    "frames.webp": ("WEBP", "RGBA", {"save_all": True, "lossless": True}),
    "raw.tif": ("TIFF", "RGB", {}), "float.tif": ("TIFF", "F", {}),
    "frames.tiff": ("TIFF", "RGB", {"save_all": True, "compression": "tiff_lzw"}),
    "zip.tiff": ("TIFF", "I;16", {"compression": "tiff_deflate"}),
    "rgb.avif": ("AVIF", "RGB", {}), "rgb.jp2": ("JPEG2000", "RGB", {}),
    "gray.j2k": ("JPEG2000", "L", {"no_jp2": True}),
}  # fmt: skip
"""Photos by name: Pillow's format, the mode, and options of saving; every suffix that is read."""
_FRAMINGS = (
    Framing(size=(32, 32), canvas=(36, 36)),
    Framing(size=(32, 32), fit="pad"),
    Framing(size=None, canvas=(64, 64)),
)


@dataclass(frozen=True)
class Target:
    """A reader: what it reads at its best, and the function that reads a folder of such files."""

    seeds: Callable[[], list[Files]]
    read: Callable[[Path], object]


def photos() -> list[Files]:
    """A small photo of every kind."""
    seeds: list[Files] = []
    picture = Image.effect_noise(SIZE, 60).convert("RGB")
    for name, (form, mode, options) in _KINDS.items():
        image = (
            picture.convert("L").convert(mode) if mode in ("I;16", "F") else picture.convert(mode)
        )
        more: dict[str, Any] = {"exif": _turned()} if form in ("JPEG", "PNG", "WEBP") else {}
        if form == "MPO" or "save_all" in options:
            more |= {"append_images": [image.rotate(180)]}
        target = io.BytesIO()
        image.save(target, form, **options, **more)
        seeds.append({name: target.getvalue()})
    return seeds


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def read_photo(folder: Path) -> None:
    """A photo as one of three kinds of networks sees it."""
    (file,) = folder.iterdir()
    photo = open_photo(file)
    frame(photo, _FRAMINGS[photo.image.width % len(_FRAMINGS)])


_LABELS = ("ant", "bee, wasp", "cat")


@cache
def _classifier() -> Any:
    """The network of every result and of the maps."""
    import torch

    import chiaroscuro as c

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    return c.Classifier(net, size=8, labels=_LABELS)


@cache
def _made() -> Path:
    """A folder with a result of every kind, a run, maps, a saved model, tables and regions."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    import chiaroscuro as c

    place = Path(tempfile.mkdtemp(prefix="chiaroscuro-fuzz-"))
    classifier, labels = _classifier(), _LABELS
    photo, data = np.random.default_rng(0).random((8, 8, 3), np.float32), place / "data"
    for number in range(6):
        file = data / labels[number % 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((9, 8), 50).convert("RGB").save(file)
    c.explain(classifier, photo, evidence="quick").save(place / "results/explanation")
    c.what_if(classifier, photo, "active", 0.1).save(place / "results/what-if")
    c.smallest_edit(classifier, photo).save(place / "results/smallest")
    c.compare([classifier, classifier], photo).save(place / "results/comparison")
    small: dict[str, Any] = {"maps": ("active",), "batch": 3, "resamples": 50}
    c.evaluate(classifier, str(data), out=place / "runs/evaluation", fractions=(0.1,), **small)
    c.check(classifier, str(data), out=place / "results/check", maps=("active",), draws=1)
    c.confusions(classifier, str(data), out=place / "results/confusions")
    boxes = {str(file.relative_to(data)): [[1, 1, 7, 6]] for file in data.rglob("*.png")}
    (place / "boxes.json").write_bytes(msgspec.json.encode(boxes))
    small["out"] = place / "results/localization"
    c.localize(classifier, str(data), str(place / "boxes.json"), **small)
    for dtype in ("float16", "int8"):
        kept: dict[str, Any] = {"maps": ("active", "signed"), "batch": 3, "strongest": 2}
        c.export_maps(classifier, str(data), out=place / "maps" / dtype, dtype=dtype, **kept)
    network = c.models.folder.basic_vit(3)
    saved = c.Classifier(network, size=32, labels=labels)
    c.save_classifier(saved, place / "model", architecture="basic-vit", arguments={"classes": 3})
    cells: list[dict[str, Any]] = [
        {"bytes": file.read_bytes(), "path": file.name} for file in sorted(data.rglob("*.png"))
    ]
    cells[0] = {"bytes": None, "path": "0.png"}
    table = pa.table({"image": cells, "label": [0, 1, 2] * 2})
    (place / "table").mkdir()
    parquet.write_table(table, place / "table/test.parquet", row_group_size=4)
    sides = {"id": ["a", "b"], "left": [1, 2.5], "top": [0, 1], "right": [6, 7], "bottom": [5, 6]}
    (place / "regions").mkdir()
    parquet.write_table(pa.table(sides), place / "regions/boxes.parquet")
    (place / "regions/boxes.csv").write_text("id,left,top,right,bottom\na,1,0,6,5\nb,2.5,1,7,6\n")
    (place / "regions/boxes.json").write_text('{"a": [[1, 0, 6, 5]], "b": [[2.5, 1, 7, 6]]}')
    Image.effect_noise((9, 8), 90).save(place / "regions/mask.png")
    return place


def _files(*names: str) -> list[Files]:
    """Each folder of that name below `_made`, or each file where it holds no marker."""
    kept = (".json", ".npz", ".parquet", ".safetensors", ".csv")
    found: list[Files] = []
    for folder in (one for name in names for one in sorted(_made().glob(name))):
        is_whole = "regions" in folder.parts or "maps" in folder.parts
        files = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.suffix in kept or (is_whole and file.is_file() and file.name[0] != ".")
        }
        found += [files] if folders.kind_in(folder) else [{n: data} for n, data in files.items()]
    return found


def _configs() -> list[Files]:
    """Runs that have begun."""
    marker = results.KINDS["evaluation"].marker
    held = folders.read_marker(_made() / "runs/evaluation", results.KINDS["evaluation"])
    return [{marker: msgspec.json.encode(folders.sealed(replace(held, files={}, result=None)))}]


def read_result(folder: Path) -> None:
    """A result, its words, its tables, and what a notebook shows of it."""
    found = results.load(folder)
    repr(found), facts_of(found)
    getattr(found, "_repr_html_", str)()


def read_config(folder: Path) -> None:
    """What a run was begun with."""
    runs.read_config(folder, results.KINDS["evaluation"], runs.RunConfig)


def read_manifest(folder: Path) -> None:
    """A run's receipts and parts."""
    verification(folder)
    run = runs.RunFolder(folder, results.KINDS["evaluation"])
    for part in run.read_parts([*run.finished_parts(), 0]):
        [table.num_rows for table in part.tables.values()]


@cache
def _batches() -> list[Any]:
    """The photos of the maps, as the network saw them."""
    from chiaroscuro import load_images
    from chiaroscuro.data.images import read_batches

    return [*read_batches(load_images(_made() / "data"), _classifier().framing, 3)]


def read_maps(folder: Path) -> None:
    """Stored maps: their values, what classes take, and one as the live page shows it."""
    from chiaroscuro.checks import pairs
    from chiaroscuro.data.stored import StoredMaps

    stored = StoredMaps.open(folder)
    for images, values in stored.parts():
        stored.labels(len(images[0].logits)), values.sum()
    for batch in _batches():
        pairs._stored_part(stored, batch, _classifier())
    photo = open_photo(_made() / "data" / _batches()[0].ids[0])
    if found := stored.find(photo, _batches()[0].pixels[0]):
        repr(stored.explanation(found))


def read_model(folder: Path) -> None:
    """A saved network."""
    from chiaroscuro import load_classifier

    load_classifier(folder)


def read_regions(folder: Path) -> None:
    """Boxes or masks on a photo."""
    from chiaroscuro.checks.regions import load_regions

    (file,) = folder.iterdir()
    regions = load_regions(folder if file.suffix == ".png" else file)
    for name in (file.stem, "a", "b", "#0"):
        regions.region(name, CropBox(0, 0, 9, 8, 9, 8), (8, 9))


def read_parquet(folder: Path) -> None:
    """The photos of a table."""
    from chiaroscuro import load_images
    from chiaroscuro.data.images import read_batches

    for batch in read_batches(load_images(folder), Framing(size=(8, 8)), 4):
        [pixels.shape for pixels in batch.pixels]


TARGETS = {
    "photo": Target(photos, read_photo),
    "result": Target(lambda: _files("results/*", "runs/*"), read_result),
    "config": Target(_configs, read_config),
    "manifest": Target(lambda: _files("runs/*"), read_manifest),
    "maps": Target(lambda: _files("maps/*"), read_maps),
    "model": Target(lambda: _files("model"), read_model),
    "regions": Target(lambda: _files("regions"), read_regions),
    "parquet": Target(lambda: _files("table"), read_parquet),
}
