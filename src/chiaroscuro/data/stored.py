"""Stored maps of an image set, read with the photos that they are of."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chiaroscuro.choices import MAPS, check_names
from chiaroscuro.data.images import ImageRow, ImageSet, read_row
from chiaroscuro.data.loading import check_named_again, load_images
from chiaroscuro.errors import InputError
from chiaroscuro.files import inside, read_regular
from chiaroscuro.images import Photo, to_uint8
from chiaroscuro.results.explanations import Explanation, ExplanationChoices, MethodFacts
from chiaroscuro.results.facts import ImageFacts, MapFacts, Prediction
from chiaroscuro.results.folders import kind_in
from chiaroscuro.results.maps import (
    KIND,
    PIXELS,
    ExportFacts,
    MapExport,
    StoredImage,
    pixels_digest,
    read_values,
)
from chiaroscuro.results.runs import Part, RunConfig, RunFolder, fitting, read_config
from chiaroscuro.results.store import from_plain, load

Values = NDArray[np.float32]
_LISTED = 5


@dataclass(frozen=True, eq=False)
class StoredPhoto:
    """A photo, the pixels (C, H, W) that the network saw, and its maps (M, H, W)."""

    about: StoredImage
    photo: Photo
    pixels: NDArray[np.float32]
    maps: Values


@dataclass(frozen=True, eq=False)
class StoredMaps:
    """A finished export: what it says of itself, and its maps, each part checked as it is read."""

    folder: Path
    export: MapExport
    config: RunConfig
    shared: ExportFacts

    @classmethod
    def open(cls, folder: str | Path) -> "StoredMaps":
        """The export in a folder; raises `ResultError` for anything else."""
        found: MapExport = load(folder, KIND)
        check_names("map", found.settings.maps, MAPS)  # they become names of files
        with fitting(Path(folder)):
            config = read_config(folder, KIND, RunConfig)
            return cls(Path(folder), found, config, ExportFacts.of(config))

    @classmethod
    def find_in(cls, place: str | Path) -> "StoredMaps | None":
        """The export where a folder holds one, else None."""
        return cls.open(place) if kind_in(Path(place)) == KIND else None

    def part(self, number: int) -> Part:
        """A batch with its tables; raises `ResultError` for a damaged one."""
        return next(RunFolder(self.folder, KIND).read_parts([number]))

    def source(self, data_root: str | Path | None = None) -> ImageSet:
        """The images that the maps are of; raises `InputError` where the set is another by now."""
        source = self.export.settings.source
        check_named_again(source["source"], data_root)
        images = load_images(**source, root=data_root)
        if (images.count, images.fingerprint()) != (self.config.rows, self.config.files):
            raise InputError(f"{images.source}: the data changed after {self.folder} was computed")
        return images

    def parts(self) -> Iterator[tuple[list[StoredImage], Values]]:
        """The images of each batch with their maps (B, M, H, W), in the order of the data."""
        numbers = range(-(-self.export.shape[0] // self.config.batch))
        for part, values in read_values(self.folder, self.config, numbers):
            yield [*map(StoredImage.read, part.tables["rows"].to_pylist())], values

    def images(self, data_root: str | Path | None = None) -> Iterator[StoredPhoto]:
        """Every photo with its maps; raises `InputError` where it is not the one they are of."""
        model, listed = self.export.model, enumerate(self.source(data_root))
        for images, values in self.parts():
            for about, maps in zip(images, values, strict=True):
                source = next((one for n, one in listed if n == about.image), ImageRow("", b"", 0))
                photo, pixels, _ = read_row(source, model.framing, model.channels)
                if pixels_digest(pixels) != about.pixels_sha256:
                    raise InputError(f"{about.id}: not the photo that {self.folder} has maps of")
                yield StoredPhoto(about, photo, pixels, maps)

    def labels(self, count: int) -> list[str]:
        """The names of so many classes."""
        return [*(self.shared.classes or (f"class {k}" for k in range(count)))]

    @cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """Batch and row by the digest of an image's pixels, as `find` checks them."""
        from pyarrow.parquet import ParquetFile

        with fitting(self.folder):
            found = dict[str, tuple[int, int]]()
            for file in sorted((self.folder / "rows").glob("*.parquet")):
                data = BytesIO(read_regular(inside(self.folder, f"rows/{file.name}")))
                read = ParquetFile(data).read([PIXELS])[PIXELS].to_pylist()
                found |= {digest: (int(file.stem), n) for n, digest in enumerate(read)}
            return found

    def find(self, photo: Photo, pixels: NDArray[np.float32]) -> StoredPhoto | None:
        """A photo that the network saw as these pixels, if its maps are stored."""
        digest = pixels_digest(pixels)
        number, n = self.places.get(digest, (None, 0))
        if number is None:
            return None
        ((part, values),) = read_values(self.folder, self.config, [number])
        about = StoredImage.read(part.tables["rows"].slice(n, 1).to_pylist()[0])
        is_it = about.pixels_sha256 == digest
        return StoredPhoto(about, photo, pixels, values[n]) if is_it else None

    def explanation(self, one: StoredPhoto) -> Explanation:
        """Stored maps as `explain` returns them; those of integers are rounded as they were."""
        with fitting(self.folder):
            return self._explanation(one)

    def _explanation(self, one: StoredPhoto) -> Explanation:
        about, photo, target = one.about, one.photo, one.about.target
        settings, model = self.export.settings, self.export.model
        logits = np.asarray(about.logits, np.float32)
        exact = logits.astype(np.float64)
        chances = np.exp(exact - exact.max())
        chances = (1 + np.tanh(exact / 2)) / 2 if model.multi_label else chances / chances.sum()
        labels = self.labels(len(exact))
        every = [*map(Prediction, range(len(exact)), labels, exact.tolist(), chances.tolist())]
        best = [every[k] for k in np.argsort(-exact, kind="stable")[:_LISTED]]
        maps, facts = {}, {}
        shares = zip(about.support_pixels, about.support_entries, strict=True)
        for name, value, share in zip(settings.maps, one.maps, shares, strict=True):
            choice = MAPS[name]
            maps[name] = value.astype(np.int64) if choice.kind == "class" else value
            facts[name] = MapFacts(choice.form, choice.kind, choice.reads, *share)
        image = photo.image
        if image.mode == "F":
            image = Image.fromarray(to_uint8(np.asarray(image)[None]))
        choices = ExplanationChoices(
            target if settings.target != "predicted" else "predicted",
            settings.rivals,
            settings.score,
            from_plain(dict(self.shared.method), {}, MethodFacts),
            settings.maps,
            model.framing.fit,
        )
        return Explanation(
            image=ImageFacts(about.id, photo.sha256, False, photo.notes, photo.white),
            crop=about.crop,
            photo=np.asarray(image.convert("RGB")),
            pixels=one.pixels,
            logits=logits,
            target=every[target],
            predictions=tuple(dict.fromkeys([*best, every[target]])),
            rivals=tuple(about.rivals or [k for k in range(len(exact)) if k != target]),
            maps=maps,
            facts=facts,
            labels=dict(enumerate(labels)),
            choices=choices,
            model=model,
            threads=self.config.threads,
            versions=self.config.versions,
        )
