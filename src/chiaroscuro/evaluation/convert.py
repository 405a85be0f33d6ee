"""Stored maps in the forms of other programs: ViRelAy, FiftyOne, and pictures over photos."""

import base64
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chiaroscuro.choices import MAP_FORMS, MAPS, check_names
from chiaroscuro.data.stored import StoredMaps, StoredPhoto
from chiaroscuro.errors import ExistingResultError, InputError, ResultError, missing_extra
from chiaroscuro.images import to_uint8
from chiaroscuro.notebook import overlay
from chiaroscuro.passes.runner import Progress, silent
from chiaroscuro.render.shown import shown_pixels
from chiaroscuro.report.pages import clip
from chiaroscuro.results import folders
from chiaroscuro.results.runs import fitting

Photos = Iterator[StoredPhoto]


def convert_maps(
    maps: str | Path,
    out: str | Path,
    to: str,
    *,
    data_root: str | Path | None = None,
    progress: Progress = silent,
) -> Path:
    """Write stored maps as another program reads them, into a new folder.

    `maps`: a folder of `export_maps`. `to`: "virelay", its HDF5 databases with a project for each
    map; "fiftyone", a data set with a `Heatmap` for each map; "overlays", PNG at the photos' size.
    The photos are read once more. Raises `ChoiceError`, `InputError` where the data changed, or
    `ResultError`.
    """
    check_names("form", [to], MAP_FORMS)
    stored, final = StoredMaps.open(maps), folders.resolved(out)
    folders.recover(final)
    if os.path.lexists(final) and not (final.is_dir() and not any(final.iterdir())):
        raise ExistingResultError(f"{out} exists already: choose another place")
    if not (count := stored.export.data.images):
        raise InputError(f"{maps}: no image has maps")

    def images() -> Photos:
        n = 0
        for n, one in enumerate(stored.images(data_root), 1):
            yield one
            progress(n, count, 0)
        if n != count:
            raise ResultError(f"{maps}: says that it has maps of {count} images, and has {n}")

    with folders.writing(final), folders.scratch(final.parent) as stage:
        with fitting(stored.folder, "maps", OSError):
            _FORMS[to](stored, images(), stage)
        if final.exists():
            final.rmdir()
        stage.replace(final)
    (final / folders.LOCK).unlink(missing_ok=True)
    return Path(out)


class _Written:
    """A file that HDF5 writes. A full disk crashes HDF5, so it is told that all went well, and the
    error is raised by `check`.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._errors = file.open("x+b", buffering=0), list[OSError]()
        self.seek, self.tell, self.close = self._file.seek, self._file.tell, self._file.close
        self.read = self._file.read  # by which h5py knows a file

    def check(self) -> None:
        """Raise what went wrong so far."""
        if self._errors:
            raise self._errors[0]

    def readinto(self, target: memoryview) -> int:
        """What is there, and zeros for what could not be written."""
        read = self._file.readinto(target)
        target[read:] = bytes(len(target) - read)
        return len(target)

    def write(self, data: memoryview) -> int:
        """See `io.RawIOBase`."""
        rest = memoryview(data).cast("B")
        with self._kept():
            while rest:
                rest = rest[self._file.write(rest) :]
        return len(data)

    def truncate(self, size: int | None = None) -> None:
        """See `io.RawIOBase`."""
        with self._kept():
            self._file.truncate(size)

    def flush(self) -> None:
        """Nothing is held back."""

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._errors.append(error)


def _virelay(stored: StoredMaps, images: Photos, folder: Path) -> None:
    """ViRelAy's databases and a project for each map; YAML holds JSON.

    Attributions have three channels, which ViRelAy adds up: the map, and zeros.
    """
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("writing HDF5", "h5py", "maps") from error
    export, own = stored.export, stored.config.labels or ()
    count, sides, settings = export.data.images, export.shape[2:], export.settings
    kept = {name: m for m, name in enumerate(settings.maps) if MAPS[name].kind != "class"}
    names: list[str] = []
    with ExitStack() as stack:

        def database(name: str, **arrays: tuple[tuple[int, ...], str]) -> Any:
            written = _Written(folder / name)
            stack.callback(written.check)  # last of all
            stack.callback(written.close)
            file = stack.enter_context(h5py.File(written, "w"))
            checks.append(written.check)
            for key, (shape, dtype) in arrays.items():
                packed = {"compression": "gzip", "compression_opts": 1} if len(shape) == 3 else {}
                chunk = (1, *shape) if packed else None
                file.create_dataset(key, (count, *shape), dtype, chunks=chunk, **packed)
            return file

        channels, checks = export.model.channels, list[Callable[[], None]]()
        inputs = database("input.h5", data=((channels, *sides), "f4"), label=((), "u4"))
        files: dict[str, Any] = {}
        for n, one in enumerate(images):
            about = one.about
            if not files:
                names = stored.labels(len(about.logits))
                names += [name for name in own if name not in names]
                arrays = {
                    "index": ((), "u4"), "attribution": ((3, *sides), "f4"),
                    "label": ((), "u4"), "prediction": ((len(about.logits),), "f4"),
                }  # fmt: skip
                files = {name: database(f"{name}.attribution.h5", **arrays) for name in kept}
            inputs["data"][n] = one.pixels
            k = about.label
            inputs["label"][n] = about.target if k is None else names.index(own[k])
            for name, file in files.items():
                file["index"][n], file["label"][n] = n, about.target
                file["attribution"][n, 0] = one.maps[kept[name]]
                file["prediction"][n] = about.logits
            for check in checks:
                check()
    known = [{"index": k, "word_net_id": "", "name": name} for k, name in enumerate(names)]
    _write_json(folder / "label-map.json", known)
    is_label = stored.shared.target_note == "" and settings.target != "predicted"
    for name in kept:
        data = {
            "name": export.data.name, "type": "hdf5", "path": "input.h5",
            "input_width": sides[1], "input_height": sides[0],
            "up_sampling_method": "none", "down_sampling_method": "none",
        }  # fmt: skip
        attributions = {
            "attribution_method": name,
            "attribution_strategy": "true_label" if is_label else "predicted_label",
            "sources": [f"{name}.attribution.h5"],
        }
        project: dict[str, Any] = {"name": f"{export.model.name}: {name}"}
        project |= {"model": export.model.name, "label_map": "label-map.json", "dataset": data}
        project |= {"attributions": attributions, "analyses": []}
        _write_json(folder / f"{name}.yaml", {"project": project})


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False), "utf-8")


def _fiftyone(stored: StoredMaps, images: Photos, folder: Path) -> None:
    """A data set in FiftyOne's JSON form, whose arrays are base64 of zlib of NumPy files."""
    names, shown, own = stored.export.settings.maps, stored.export.model.shown, stored.config.labels
    (folder / "data").mkdir()
    with (folder / "samples.json").open("w") as file:
        file.write('{"samples": [')
        for n, one in enumerate(images):
            picture = f"data/{n:06d}.png"
            Image.fromarray(to_uint8(shown_pixels(one.pixels, shown))).save(folder / picture)
            best = stored.explanation(one).predictions[0]
            sample: dict[str, Any] = {
                "filepath": picture, "tags": [], "source_id": one.about.id,
                "prediction": _class(best.label, confidence=best.probability),
                "target": _class(one.about.target_label),
            }  # fmt: skip
            if own and one.about.label is not None:
                sample["ground_truth"] = _class(own[one.about.label])
            for name, map_ in zip(names, one.maps, strict=True):
                if MAPS[name].kind != "class":
                    sample[name.replace("-", "_")] = _heatmap(map_)
            file.write(("," if n else "") + "\n" + json.dumps(sample))
        file.write("\n]}\n")
    about = {"digest": stored.export.digest, "model": stored.export.model.name}
    _write_json(folder / "metadata.json", {"info": about})


def _class(label: str, **more: float) -> dict[str, Any]:
    return {"_cls": "Classification", "label": label, **more}


def _heatmap(values: NDArray[np.float32]) -> dict[str, Any]:
    """A map (H, W) to its color limit; below 0 only where it has a sign."""
    limit = clip(values) or 1.0
    low = -limit if values.min() < 0 else 0.0
    array = io.BytesIO()
    np.save(array, values.clip(low, limit), allow_pickle=False)
    packed = base64.b64encode(zlib.compress(array.getvalue())).decode()
    binary = {"$binary": {"base64": packed, "subType": "00"}}
    return {"_cls": "Heatmap", "map": binary, "range": [low, limit]}


def _overlays(stored: StoredMaps, images: Photos, folder: Path) -> None:
    """A folder of pictures for each map, named by the number of the image."""
    for name in stored.export.settings.maps:
        (folder / name).mkdir()
    for one in images:
        explained = stored.explanation(one)
        for name in explained.maps:
            overlay(explained, name).save(folder / name / f"{one.about.image:06d}.png")


_FORMS: dict[str, Callable[[StoredMaps, Photos, Path], None]] = {
    "virelay": _virelay,
    "fiftyone": _fiftyone,
    "overlays": _overlays,
}
