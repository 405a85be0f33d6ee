"""Stored maps of an image set, read with the photos that they are of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chiaroscuro.choices import MAPS
from chiaroscuro.data.images import ImageRow, ImageSet, read_row
from chiaroscuro.data.loading import load_images
from chiaroscuro.errors import InputError
from chiaroscuro.images import CropBox, Photo, to_uint8
from chiaroscuro.results.explanations import Explanation, ExplanationChoices, MethodFacts
from chiaroscuro.results.facts import ImageFacts, MapFacts, Prediction
from chiaroscuro.results.folders import kind_in
from chiaroscuro.results.maps import KIND, PIXELS, MapExport, pixels_digest, read_values
from chiaroscuro.results.runs import Part, RunConfig, RunFolder, read_config
from chiaroscuro.results.store import from_plain, load

Values = NDArray[np.float32]
_LISTED = 5


@dataclass(frozen=True, eq=False)
class StoredMaps:
    """A finished export: what it says of itself, and its maps, each part checked as it is read."""

    folder: Path
    export: MapExport
    config: RunConfig

    @classmethod
    def open(cls, folder: str | Path) -> "StoredMaps":
        """The export in a folder; raises `ResultError` for anything else."""
        found: MapExport = load(folder, KIND)
        return cls(Path(folder), found, read_config(folder, KIND, RunConfig))

    @classmethod
    def find_in(cls, place: str | Path) -> "StoredMaps | None":
        """The export where a folder holds one, else None."""
        return cls.open(place) if kind_in(Path(place)) == KIND else None

    def part(self, number: int) -> Part:
        """A batch with its tables; raises `ResultError` for a damaged one."""
        return next(RunFolder(self.folder, KIND).read_parts([number]))

    def source(self, data_root: str | Path | None = None) -> ImageSet:
        """The images that the maps are of; raises `InputError` where the set is another by now."""
        images = load_images(**self.export.settings.source, root=data_root)
        if (images.count, images.fingerprint()) != (self.config.rows, self.config.files):
            raise InputError(f"{images.source}: the data changed after {self.folder} was computed")
        return images

    def parts(self) -> Iterator[tuple[list[dict[str, Any]], Values]]:
        """The rows of each batch with their maps (B, M, H, W), in the order of the data."""
        numbers = range(-(-self.export.shape[0] // self.config.batch))
        for part, values in read_values(self.folder, self.config, numbers):
            yield part.tables["rows"].to_pylist(), values

    def images(
        self, data_root: str | Path | None = None
    ) -> Iterator[tuple[Mapping[str, Any], Photo, NDArray[np.float32], Values]]:
        """Row, photo, pixels (C, H, W) and maps (M, H, W) of each image.

        Raises `InputError` where a photo is not the one that the maps are of.
        """
        model, listed = self.export.model, enumerate(self.source(data_root))
        for rows, values in self.parts():
            for row, maps in zip(rows, values, strict=True):
                source = next((one for n, one in listed if n == row["image"]), ImageRow("", b"", 0))
                photo, pixels, _ = read_row(source, model.framing, model.channels)
                if pixels_digest(pixels) != row[PIXELS]:
                    raise InputError(f"{row['id']}: not the photo that {self.folder} has maps of")
                yield row, photo, pixels, maps

    def labels(self, count: int) -> list[str]:
        """The names of so many classes."""
        return [*(self.config.facts["classes"] or (f"class {k}" for k in range(count)))]

    @cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """Batch and row by the digest of an image's pixels, as `find` checks them."""
        from pyarrow.parquet import ParquetFile

        return {
            digest: (int(file.stem), n)
            for file in sorted((self.folder / "rows").glob("*.parquet"))
            for n, digest in enumerate(ParquetFile(file).read([PIXELS])[PIXELS].to_pylist())
        }

    def find(self, pixels: NDArray[np.float32]) -> tuple[Mapping[str, Any], Values] | None:
        """Row and maps (M, H, W) of an image that the network saw so, if they are stored."""
        digest = pixels_digest(pixels)
        number, n = self.places.get(digest, (None, 0))
        if number is None:
            return None
        ((part, values),) = read_values(self.folder, self.config, [number])
        row = part.tables["rows"].slice(n, 1).to_pylist()[0]
        return (row, values[n]) if row[PIXELS] == digest else None

    def explanation(
        self, row: Mapping[str, Any], photo: Photo, pixels: NDArray[np.float32], values: Values
    ) -> Explanation:
        """Stored maps as `explain` returns them; those of integers are rounded as they were."""
        settings, model, target = self.export.settings, self.export.model, row["target"]
        logits = np.asarray(row["logits"], np.float32)
        exact = logits.astype(np.float64)
        chances = np.exp(exact - exact.max())
        chances = (1 + np.tanh(exact / 2)) / 2 if model.multi_label else chances / chances.sum()
        labels = self.labels(len(exact))
        every = [*map(Prediction, range(len(exact)), labels, exact.tolist(), chances.tolist())]
        best = [every[k] for k in np.argsort(-exact, kind="stable")[:_LISTED]]
        maps, facts = {}, {}
        shares = zip(row["support_pixels"], row["support_entries"], strict=True)
        for name, value, share in zip(settings.maps, values, shares, strict=True):
            about = MAPS[name]
            maps[name] = value.astype(np.int64) if about.kind == "class" else value
            facts[name] = MapFacts(about.form, about.kind, about.reads, *share)
        image = photo.image
        if image.mode == "F":
            image = Image.fromarray(to_uint8(np.asarray(image)[None]))
        choices = ExplanationChoices(
            target if settings.target != "predicted" else "predicted",
            settings.rivals,
            settings.score,
            from_plain(dict(self.config.facts["method"]), {}, MethodFacts),
            settings.maps,
            model.framing.fit,
        )
        return Explanation(
            image=ImageFacts(row["id"], photo.sha256, False, photo.notes, photo.white),
            crop=CropBox(*(row[name] for name in CropBox.__slots__)),
            photo=np.asarray(image.convert("RGB")),
            pixels=pixels,
            logits=logits,
            target=every[target],
            predictions=tuple(dict.fromkeys([*best, every[target]])),
            rivals=tuple(row["rivals"] or [k for k in range(len(exact)) if k != target]),
            maps=maps,
            facts=facts,
            labels=dict(enumerate(labels)),
            choices=choices,
            model=model,
            threads=self.config.threads,
            versions=self.config.versions,
        )
