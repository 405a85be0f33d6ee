"""The maps of every image of a set, kept in Zarr, as a pass that can be resumed and shared."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.choices import parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.classifier.reading import to_numpy
from chiaroscuro.data.images import Batch, ImageSet
from chiaroscuro.data.loading import load_images
from chiaroscuro.errors import ChoiceError
from chiaroscuro.evaluation import competitors, rows
from chiaroscuro.evaluation.deletion import target_classes
from chiaroscuro.evaluation.run import describe_method
from chiaroscuro.evaluation.stacks import image_stacks
from chiaroscuro.explanations.single import make_method
from chiaroscuro.gradients import class_gradients
from chiaroscuro.maps import needs_classes, saliency_maps
from chiaroscuro.metrics.competition import competition
from chiaroscuro.passes.runner import LISTED, Parts, Progress, run_pass, silent
from chiaroscuro.results.facts import DataFacts, LeftOut, reasons_of
from chiaroscuro.results.maps import (
    COMPETITORS,
    KIND,
    PIXELS,
    ExportFacts,
    MapExport,
    MapLayout,
    StoredImage,
    digest_of,
    import_zarr,
    pixels_digest,
)
from chiaroscuro.results.runs import Part, RunConfig, fitting, joined
from chiaroscuro.results.store import from_plain
from chiaroscuro.settings import MapExportSettings, settings_from, takes

ROW_SCHEMA = rows.row_schema(
    (pa.string(), "id"),
    (pa.int64(), "image"),
    (pa.int32(), "label target predicted"),
    (pa.string(), "target_label predicted_label"),
    (pa.list_(pa.int32()), "rivals"),
    (pa.float64(), "left top right bottom"),
    (pa.int32(), "photo_width photo_height"),
    (pa.list_(pa.float32()), "logits support_pixels support_entries"),
    (pa.string(), PIXELS),
)
"""One row per image that has maps; see `StoredImage`."""
FAILURE_SCHEMA = rows.row_schema(
    (pa.string(), "id"), (pa.int64(), "image"), (pa.string(), "reason")
)
_EXACT = 2048
"""Whole numbers up to this are exact in float16."""


@takes(MapExportSettings)
def export_maps(
    classifier: Classifier,
    data: str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    engine: str = "local",
    strict: bool = False,
    shard: str | None = None,
    data_root: str | Path | None = None,
    progress: Progress = silent,
    settings: MapExportSettings | None = None,
    **options: Any,
) -> MapExport:
    """Store the maps of every image of a set, with predictions, targets, rivals and crop boxes.

    The folder `out` gets `maps.zarr` (Zarr v3, an array (N, M, H, W) with a shard for each batch),
    `rows` and `failures` as Parquet, and a manifest with every setting and the digests of weights
    and data. Float32 maps are those of `saliency_maps`, bit for bit. `resume` computes what is
    missing. `merge_maps` joins shards without network and data. `workers`, `engine`, `strict`,
    `shard` and `data_root` are as for `evaluate`.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` may not be used.
    """
    import_zarr()
    task = _ExportTask(settings_from(MapExportSettings, settings, {"data": data, **options}))
    images = load_images(**task.settings.source, root=data_root)
    return run_pass(
        task, classifier, images, out, resume, overwrite, workers, progress, engine, strict, shard
    )


def merge_maps(
    shards: Iterable[str | Path], out: str | Path, *, overwrite: bool = False
) -> MapExport:
    """Join `shards`, folders of `export_maps(..., shard="i/n")`: the same bytes as of one run.

    What `out` already holds of the same run stays, so shards may come one after the other. Raises
    `ResultError` for folders of different runs, and while batches are missing.
    """
    with (
        fitting(Path(out), "maps", OSError),
        joined(shards, out, KIND, overwrite=overwrite) as (run, config, numbers),
    ):
        result = _summary(run.read_parts(numbers, tables_alone=True), config)
        run.finish(result)
    return result


Rows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class _Kept:
    """Of an image: maps (M, H, W) as they are stored, scales (M,), row, competitors' rows."""

    maps: NDArray[Any]
    scale: NDArray[np.float32]
    image: StoredImage
    competitors: Rows


_UNKNOWN = ExportFacts({}, (0, 0), "", None, "", "")


@dataclass(frozen=True)
class _ExportTask:
    """See `Task`. The rest is set by `set_up`; `classes`: the model's class of each label."""

    settings: MapExportSettings
    method: Any = None
    classes: NDArray[np.int64] | None = None
    shared: ExportFacts = _UNKNOWN
    kind: ClassVar = KIND

    def set_up(self, classifier: Classifier, images: ImageSet) -> "_ExportTask":
        settings = self.settings
        parse_rivals(settings.rivals).resolve(classifier.class_index)  # for its errors
        if classifier.volumes or classifier.size is None:
            what = "takes volumes" if classifier.volumes else "has no size"
            advice = "are of flat images of one size, such as Classifier(..., size=224) takes"
            raise ChoiceError(f"{classifier.name} {what}: stored maps {advice}")
        classes, note = target_classes(classifier, images.labels, settings.target)
        method = make_method(settings.method_options, classifier)
        shared = ExportFacts(
            method=describe_method(method),
            sides=classifier.size,
            source=images.source,
            classes=classifier.labels,
            target_note=note,
            zarr=import_zarr().__version__,
        )
        return replace(self, method=method, classes=classes, shared=shared)

    def facts(self) -> Mapping[str, Any]:
        return {f.name: getattr(self.shared, f.name) for f in fields(ExportFacts)}

    def process(self, classifier: Classifier, batch: Batch) -> Part:
        settings, size, sides = self.settings, self.settings.batch or 0, self.shared.sides
        layout = MapLayout(settings.maps, sides, size, settings.dtype)
        found = dict(self._found(classifier, batch, layout))
        kept = [one for n in sorted(found) if not isinstance(one := found[n], str)]
        reasons = {n: found.get(n, "no class") for n in range(len(batch.ids))}
        failed = batch.without(
            {n: one for n, one in reasons.items() if isinstance(one, str)}
        ).failed
        first = batch.number * size
        places = [one.image.image - first for one in kept]
        shape = (0, len(settings.maps), *sides)
        values = np.stack([one.maps for one in kept]) if kept else np.zeros(shape, settings.dtype)
        scale = np.array([one.scale for one in kept], np.float32).reshape(len(kept), shape[1])
        listed = [
            {"id": one.id, "image": first + place, "reason": one.reason}
            for place, one in failed.items()
        ]
        tables = {
            "rows": pa.Table.from_pylist([one.image.row() for one in kept], ROW_SCHEMA),
            "failures": pa.Table.from_pylist(listed, FAILURE_SCHEMA),
        }
        if settings.strongest is not None:
            taken = [row for one in kept for row in one.competitors]
            tables[COMPETITORS] = pa.Table.from_pylist(taken, competitors.SCHEMA)
        return Part(
            batch.number,
            len(batch.ids) + len(batch.left_out),
            tables,
            tuple(failed.values()),
            layout.files(batch.number, places, values, scale),
        )

    def _found(
        self, classifier: Classifier, batch: Batch, layout: MapLayout
    ) -> Iterator[tuple[int, _Kept | str]]:
        """What is kept of each image that has a target, or why nothing is."""
        chosen = [n for n, k in enumerate(batch.labels) if self.classes is None or k is not None]
        for places, pixels in image_stacks(classifier, batch, chosen):
            values, images, taken = self._explained(classifier, batch, places, pixels)
            kept, scale = layout.stored(values)
            for b, n in enumerate(places):
                whole = np.isfinite(kept[b]).all() and np.isfinite(scale[b]).all()
                beyond = f"maps hold values beyond {layout.dtype}"
                yield n, _Kept(kept[b], scale[b], images[b], taken[b]) if whole else beyond

    def _explained(
        self, classifier: Classifier, batch: Batch, places: list[int], pixels: Tensor
    ) -> tuple[NDArray[np.float32], list[StoredImage], list[Rows]]:
        """The maps (B, M, H, W) of these images of a batch, what is said of them, competitors."""
        settings, target = self.settings, None
        rule = parse_rivals(settings.rivals).resolve(classifier.class_index)
        if self.classes is not None:
            target = torch.from_numpy(self.classes[np.array([batch.labels[n] for n in places])])
        elif classifier.multi_label:
            with torch.no_grad():
                target = classifier(pixels).argmax(dim=1)
        shows_classes = needs_classes(settings.maps)
        argmax = shows_classes or settings.strongest is not None
        gradients = class_gradients(
            classifier, pixels, target, rule, self.method, settings.score, argmax=argmax
        )
        best = gradients.logits.argmax(dim=1)
        if shows_classes and settings.dtype == "float16" and gradients.logits.shape[1] > _EXACT:
            raise ChoiceError(f"float16 holds no more than {_EXACT} classes: store float32")
        maps = saliency_maps(gradients, settings.maps)
        values = to_numpy(torch.stack([one.float() for one in maps.values()], dim=1))
        every = rule.count is None and rule.classes is None
        taken: list[Rows] = [[] for _ in places]
        if settings.strongest is not None:
            for b, n in enumerate(places):
                one = competition(gradients, pixels, b, settings.strongest)
                taken[b] = [*competitors.competitor_rows(one, batch.ids[n], batch.number)]
        listed = [
            StoredImage(
                id=batch.ids[n],
                image=batch.number * (settings.batch or 0) + batch.places[n],
                label=batch.labels[n],
                target=int(gradients.target[b]),
                predicted=int(best[b]),
                target_label=classifier.label(int(gradients.target[b])),
                predicted_label=classifier.label(int(best[b])),
                rivals=None if every else tuple(sorted({*gradients.rivals[b].tolist()})),
                crop=batch.crops[n],
                logits=tuple(gradients.logits[b].tolist()),
                support_pixels=tuple(float(one.pixels[b]) for one in maps.support.values()),
                support_entries=tuple(float(one.entries[b]) for one in maps.support.values()),
                pixels_sha256=pixels_digest(batch.pixels[n]),
            )
            for b, n in enumerate(places)
        ]
        return values, listed, taken

    def summarize(self, parts: Parts, run: RunConfig, images: ImageSet | None) -> MapExport:
        return _summary(parts(), run)


def _summary(parts: Iterable[Part], run: RunConfig) -> MapExport:
    """The export that all parts of a run are, or those of a shard."""
    listed, left_out = 0, list[LeftOut]()
    for part in parts:
        listed += part.images
        left_out += part.left_out
    settings = from_plain({**run.settings, "batch": run.batch}, {}, MapExportSettings)
    settings = replace(settings, threads=run.threads)
    count, shared = len(left_out), ExportFacts.of(run)
    return MapExport(
        settings=settings,
        data=DataFacts(
            shared.source,
            run.split,
            listed - count,
            settings.limit,
            settings.seed,
            count,
            tuple(left_out[:LISTED]),
            reasons_of(left_out),
        ),
        model=run.model,
        shape=(run.rows or listed, len(settings.maps), *shared.sides),
        digest=digest_of(run),
        target_note=shared.target_note,
        versions=run.versions,
    )
