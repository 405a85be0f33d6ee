"""Maps of a whole image set: what is returned and saved, and how they lie in Zarr."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from chiaroscuro.errors import (
    ResultError,
    first_line,
    missing_extra,
    printable,
)
from chiaroscuro.files import inside
from chiaroscuro.results.facts import CropBox, DataFacts, ModelFacts
from chiaroscuro.results.folders import read_marker
from chiaroscuro.results.kinds import KINDS
from chiaroscuro.results.runs import Part, RunConfig, RunFolder, fitting
from chiaroscuro.results.store import MAX_ARRAYS, from_plain, to_plain, verify
from chiaroscuro.settings import MapExportSettings

KIND = KINDS["map-export"]
COMPETITORS, PIXELS = "competitors", "pixels_sha256"
"""The table of what classes take of each image; the column by which an image is known again."""
ZARR = "maps.zarr"
"""The group in a run's folder: `maps`, for int8 `scale`, and the names, `map`."""
_AXES = ("image", "map", "y", "x")
_STEPS = 127
"""Steps of int8 from zero to the largest size of a map, on either side."""


@dataclass(frozen=True)
class MapExport:
    """The maps of an image set, stored in a folder.

    `shape` (N, M, H, W): of the array, by image of the data, map, and the pixels that the network
    saw. `digest`: of the configuration,
    also in the Zarr group. `target_note` says why targets are not the labels.
    """

    settings: MapExportSettings
    data: DataFacts
    model: ModelFacts
    shape: tuple[int, int, int, int]
    digest: str
    target_note: str
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        where = f"{self.model.name} on {self.data.name}: {self.data.images} images"
        return f"MapExport({where}; {', '.join(self.settings.maps)}; {self.settings.dtype})"


@dataclass(frozen=True, slots=True)
class ExportFacts:
    """What all images of an export share besides settings and network, in its configuration.

    `sides` (H, W): of the maps. `classes`: the network's names. `zarr`: the version that wrote.
    """

    method: Mapping[str, Any]
    sides: tuple[int, int]
    source: str
    classes: tuple[str, ...] | None
    target_note: str
    zarr: str

    @classmethod
    def of(cls, config: RunConfig) -> "ExportFacts":
        """Those of a run; raises `ValueError` for a configuration with others."""
        return from_plain(dict(config.facts), {}, cls)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image that has maps; `image` is its number in the arrays, and among the data's rows.

    `label` is the data set's class or None; `rivals` is None where all other classes compete.
    Supports have an entry for each map. `pixels_sha256`: by which the image is known again.
    """

    id: str
    image: int
    label: int | None
    target: int
    predicted: int
    target_label: str
    predicted_label: str
    rivals: tuple[int, ...] | None
    crop: CropBox
    logits: tuple[float, ...]
    support_pixels: tuple[float, ...]
    support_entries: tuple[float, ...]
    pixels_sha256: str

    def row(self) -> dict[str, Any]:
        """As a table keeps it: the crop's fields are columns."""
        own = {name: getattr(self, name) for name in self.__slots__ if name != "crop"}
        return own | {name: getattr(self.crop, name) for name in CropBox.__slots__}

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "StoredImage":
        """From a table's row; raises `ResultError` for columns of another kind."""
        crop = {name: row.get(name) for name in CropBox.__slots__}
        try:
            return msgspec.convert({**row, "crop": crop}, cls)
        except msgspec.ValidationError as error:
            raise ResultError(f"a row of stored maps is damaged ({first_line(error)})") from error


@dataclass(frozen=True)
class MapLayout:
    """How maps (M, H, W) are stored: a shard is a batch, a chunk of it an image."""

    maps: tuple[str, ...]
    sides: tuple[int, int]
    batch: int
    dtype: str

    def stored(self, values: NDArray[np.floating[Any]]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Values (B, M, H, W) as they are kept, and int8's scales (B, M), of others 1.

        Zero stays zero, and no sign flips; int8 is off by up to half a step.

        >>> layout = MapLayout(("signed",), (1, 3), 1, "int8")
        >>> layout.stored(np.array([[[[-1.27, 0.0, 0.004]]]]))[0].tolist()
        [[[[-127, 0, 0]]]]
        """
        ones = np.ones(values.shape[:2], np.float32)
        if self.dtype != "int8":
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is reported
                return values.astype(self.dtype), ones
        scale = np.abs(values).max(axis=(2, 3)).astype(np.float32) / np.float32(_STEPS)
        steps = values / np.where(scale > 0, scale, np.inf)[..., None, None]
        return np.rint(steps).clip(-_STEPS, _STEPS).astype(np.int8), scale

    def files(
        self, number: int, places: Sequence[int], kept: NDArray[Any], scale: NDArray[np.float32]
    ) -> dict[str, bytes]:
        """The files of a batch, always the same: what is `stored` of the images at these places."""
        store, group = self._group(self.batch)
        for name, array in group.arrays():
            given = {"maps": kept, "scale": scale}.get(name)
            if given is not None and len(places):
                whole = np.full(array.shape, array.fill_value, array.dtype)
                whole[list(places)] = given
                array[...] = whole
        first = {f"{name}/c" + "/0" * array.ndim for name, array in group.arrays()} - {"map/c/0"}
        return {
            f"{ZARR}/{key.replace('/c/0', f'/c/{number}')}": store[key].to_bytes()
            for key in sorted(first & store.keys())
        }

    def metadata(self, images: int, about: Mapping[str, Any]) -> dict[str, bytes]:
        """The files that all batches of so many images share."""
        store, group = self._group(images)
        group.attrs.update(about)
        with warnings.catch_warnings(action="ignore"):  # an extension that xarray asks for
            import_zarr().consolidate_metadata(group.store)
        shared = [key for key in store if key.endswith("zarr.json") or key.startswith("map/")]
        return {f"{ZARR}/{key}": store[key].to_bytes() for key in shared}

    def _group(self, images: int) -> tuple[dict[str, Any], Any]:
        zarr, count = import_zarr(), len(self.maps)
        store: dict[str, Any] = {}
        group = zarr.create_group(zarr.storage.MemoryStore(store))
        packed = zarr.codecs.ZstdCodec(level=3, checksum=True)
        whole = self.dtype == "int8"
        group.create_array(
            "maps",
            shape=(images, count, *self.sides),
            shards=(self.batch, count, *self.sides),
            chunks=(1, count, *self.sides),
            dtype=self.dtype,
            fill_value=0 if whole else np.nan,
            compressors=packed,
            dimension_names=_AXES,
        )
        if whole:
            group.create_array(
                "scale",
                shape=(images, count),
                chunks=(self.batch, count),
                dtype="float32",
                fill_value=np.nan,
                compressors=packed,
                dimension_names=_AXES[:2],
            )
        names = group.create_array("map", shape=(count,), dtype=str, dimension_names=_AXES[1:2])
        names[...] = np.array(self.maps, object)
        return store, group


def digest_of(run: RunConfig) -> str:
    """A digest of all that decides a run's parts: settings, weights, data, versions."""
    return hashlib.sha256(msgspec.json.encode(to_plain(run)[0], order="sorted")).hexdigest()


def pixels_digest(pixels: NDArray[np.float32]) -> str:
    """By which an image is known again: of the pixels (C, H, W) that the network saw."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def import_zarr() -> Any:
    """The library, which needs seconds."""
    try:
        import zarr
        import zarr.codecs
        import zarr.storage
    except ImportError as error:
        raise missing_extra("storing maps", "zarr", "maps") from error
    return zarr


def read_values(
    folder: Path, config: RunConfig, numbers: Sequence[int]
) -> Iterator[tuple[Part, NDArray[np.float32]]]:
    """Each part with the values (B, M, H, W) of its rows; `ResultError` for a damaged one."""
    shared = [n for n in read_marker(folder, KIND).files if n.startswith(ZARR) and "/c/" not in n]
    if damaged := verify(folder, [*shared, f"{ZARR}/map/c/0"]):
        raise ResultError(f"{folder}: {printable(damaged[0])} is gone or damaged: verify it")
    with fitting(folder):
        group = import_zarr().open_group(inside(folder, ZARR), mode="r", zarr_format=3)
        of_image = prod(group["maps"].shape[1:]) * np.dtype(np.float32).itemsize
        size = min(config.batch, group["maps"].shape[0]) * of_image
        if not 0 <= size <= MAX_ARRAYS:
            raise ValueError(f"a batch of {size:,} bytes, expected at most {MAX_ARRAYS:,}")
        for part in RunFolder(folder, KIND).read_parts(numbers):
            first = part.number * config.batch
            places = part.tables["rows"]["image"].to_numpy() - first
            values = group["maps"][first : first + config.batch][places]
            if "scale" in group:
                scale = group["scale"][first : first + config.batch][places]
                values = values.astype(np.float32) * scale[..., None, None]
            if not np.isfinite(values).all():
                raise ValueError(f"batch {part.number} has maps that are no numbers")
            yield part, values.astype(np.float32, copy=False)


def write(result: MapExport, folder: Path) -> None:
    """Write what all batches share, so that Zarr's readers find them."""
    settings, (images, _, *sides) = result.settings, result.shape
    assert settings.batch is not None
    layout = MapLayout(settings.maps, (sides[0], sides[1]), settings.batch, settings.dtype)
    about = {"digest": result.digest, "model": result.model.name, "data": result.data.name}
    for name, data in layout.metadata(images, about).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def lines(result: MapExport) -> Iterator[str]:
    """What a terminal shows: what is stored, of how many images."""
    images, data = f"{result.data.images:,} images", result.data
    left = f", {data.left_out_count:,} left out" if data.left_out_count else ""
    sides = " x ".join(map(str, result.shape[2:]))
    settings = result.settings
    yield f"{images} of {data.name}{left}: {', '.join(settings.maps)}; {sides}, {settings.dtype}"
    if result.target_note:
        yield f"targets are the predicted classes: {result.target_note}"
