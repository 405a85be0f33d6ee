"""Localization: whether maps point at regions of images, as a pass that can be resumed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.checks.regions import Regions, digest_of, load_regions
from chiaroscuro.choices import parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.data.images import Batch, ImageSet
from chiaroscuro.data.loading import load_images
from chiaroscuro.evaluation import rows
from chiaroscuro.evaluation.deletion import target_classes
from chiaroscuro.evaluation.examples import archive, example_places
from chiaroscuro.evaluation.run import add_up, describe_method
from chiaroscuro.evaluation.stacks import image_stacks
from chiaroscuro.explanations.single import make_method
from chiaroscuro.gradients import class_gradients
from chiaroscuro.images.regions import Mask
from chiaroscuro.maps import saliency_maps
from chiaroscuro.metrics import localization
from chiaroscuro.metrics.intervals import SignFlips, holm
from chiaroscuro.passes.runner import Parts, Progress, part_of, run_pass, silent
from chiaroscuro.render.pictures import smooth
from chiaroscuro.results import KINDS
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.measurements import EXAMPLES, Localization, LocatedMap
from chiaroscuro.results.runs import Part, RunConfig
from chiaroscuro.settings import LocalizationSettings, settings_from, takes

MEASURES = ("hit", "energy", "chance_hit", "chance_energy", "center_hit")
LOCALIZATION_SCHEMA = rows.row_schema(
    (pa.string(), "id"),
    (pa.int32(), "target"),
    (rows.WORD, "map"),
    (pa.float64(), " ".join(MEASURES)),
)
"""One row per image and map; see `metrics.localization` for the measures."""


@takes(LocalizationSettings)
def localize(
    classifier: Classifier,
    data: str | Path,
    regions: str | Path,
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
    settings: LocalizationSettings | None = None,
    **options: Any,
) -> Localization:
    """The pointing game and the energy share of every map on images with boxes or masks.

    Images without a region, with an empty one after framing, or with one that is the whole picture
    measure nothing and are left out, counted. Each mean has a bootstrap interval over images, and
    its difference from a random order a p-value by sign flips, corrected over maps and measures
    (Holm). The folder `out` gets rows as Parquet and index.html. `regions`: see `load_regions`;
    `resume`, `workers`, `engine`, `strict`, `shard` and `data_root` are as for
    `evaluate`.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` may not be used.
    """
    given = {"data": data, "regions": regions, **options}
    task = _LocalizationTask(settings_from(LocalizationSettings, settings, given))
    images = load_images(**task.settings.source, root=data_root)
    return run_pass(
        task, classifier, images, out, resume, overwrite, workers, progress, engine, strict, shard
    )


@dataclass(frozen=True)
class _LocalizationTask:
    """See `Task`. The rest is set by `set_up`; `classes`: the model's class of each label."""

    settings: LocalizationSettings
    method: Any = None
    regions: Regions | None = None
    classes: NDArray[np.int64] | None = None
    examples: frozenset[int] = frozenset()
    kind: ClassVar = KINDS["localization"]

    def set_up(self, classifier: Classifier, images: ImageSet) -> "_LocalizationTask":
        settings = self.settings
        parse_rivals(settings.rivals).resolve(classifier.class_index)  # for its errors
        classes, _ = target_classes(classifier, images.labels, settings.target)
        method = make_method(settings.method_options, classifier)
        regions = load_regions(settings.regions, images.split)
        shown = example_places(images)
        return replace(self, method=method, regions=regions, classes=classes, examples=shown)

    def facts(self) -> Mapping[str, Any]:
        regions = digest_of(self.settings.regions)
        return {"method": describe_method(self.method), "regions": regions}

    def process(self, classifier: Classifier, batch: Batch) -> Part:
        regions = {place: self._region(batch, place) for place in range(len(batch.ids))}
        faults = {place: why for place, why in regions.items() if isinstance(why, str)}
        kept = [place for place in regions if place not in faults]
        tables, files = [], dict[str, bytes]()
        for places, pixels in image_stacks(classifier, batch, kept):
            own = torch.from_numpy(np.stack([regions[place] for place in places]))
            tables.append((places, self._rows(classifier, batch, places, pixels, own, files)))
        found = {"rows": rows.in_image_order(tables, LOCALIZATION_SCHEMA)}
        left_out = [LeftOut(batch.ids[place], why) for place, why in faults.items()]
        return part_of(batch, found, files, left_out)

    def _region(self, batch: Batch, place: int) -> Mask | str:
        """The region on the network's pixels, or why the image measures nothing."""
        assert self.regions is not None
        if self.settings.target != "predicted" and batch.labels[place] is None:
            return "no class"
        _, height, width = batch.pixels[place].shape
        region = self.regions.region(batch.ids[place], batch.crops[place], (height, width))
        if region is None:
            return "no region"
        if not region.any():
            return "the region is outside of what the network sees"
        return "the region is all that the network sees" if region.all() else region

    def _rows(
        self,
        classifier: Classifier,
        batch: Batch,
        places: list[int],
        pixels: Tensor,
        masks: Tensor,
        files: dict[str, bytes],
    ) -> pa.Table:
        """The rows of images of one size; the files of examples are added."""
        settings = self.settings
        if self.classes is None:
            target = classifier(pixels).argmax(dim=1)
        else:
            target = torch.from_numpy(self.classes[np.array([batch.labels[n] for n in places])])
        gradients = class_gradients(
            classifier,
            pixels,
            target,
            rivals=parse_rivals(settings.rivals).resolve(classifier.class_index),
            method=self.method,
            score=settings.score,
        )
        sigma = settings.smoothing * min(pixels.shape[2:])
        measured, maps = [], saliency_maps(gradients, settings.maps)
        for values in maps.values():
            drawn = values.cpu().double()
            if sigma:
                drawn = torch.from_numpy(np.stack([smooth(one, sigma) for one in drawn.numpy()]))
            measured.append(localization(drawn, masks, settings.tolerance))
        ids, targets = [batch.ids[place] for place in places], gradients.target.tolist()
        for b, place in enumerate(places):
            row = batch.number * (settings.batch or 0) + place
            if row in self.examples:
                name = classifier.label(targets[b])
                about = {"id": ids[b], "label": None, "predicted": name}
                own, region = {key: one[b] for key, one in maps.items()}, masks[b].numpy()
                files[f"{EXAMPLES}/{row:08d}.npz"] = archive(about, pixels[b], own, region=region)
        columns = {
            measure: torch.stack([getattr(one, measure) for one in measured], dim=1).numpy()
            for measure in MEASURES
        }
        images = {"id": ids, "target": targets}
        return rows.image_rows(LOCALIZATION_SCHEMA, images, {"map": settings.maps}, columns)

    def summarize(self, parts: Parts, run: RunConfig, images: ImageSet) -> Localization:
        settings = self.settings
        fault = f"has a region in {settings.regions}; ids are paths in the folder, or SPLIT#ROW"
        sums, data = add_up(parts(), {"rows": _Sums}, images, settings, fault=fault)
        maps = tuple(sums["rows"].maps())
        return Localization(settings, data, run.model, maps, run.versions)


class _Sums(rows.Sums):
    """Also sign flips of the differences from chance."""

    columns, measures = ("map",), MEASURES

    def __init__(self, table: pa.Table, settings: LocalizationSettings) -> None:
        super().__init__(table, settings)
        self.flips = SignFlips(2 * len(self.keys), settings.flips, settings.seed)

    def add_others(self, values: rows.Floats, table: pa.Table) -> None:
        """Count the differences in."""
        self.flips.add((values[..., :2] - values[..., 2:4]).reshape(len(values), -1))

    def maps(self) -> Iterator[LocatedMap]:
        """One entry per map."""
        ends = self.ends(len(self.keys), -1)
        p_values = rows.rounded(holm(self.flips.p_values()).reshape(-1, 2))
        for i, (name,) in enumerate(self.keys):
            figures = {m: rows.interval_at(ends, i, n) for n, m in enumerate(MEASURES)}
            hit_p, energy_p = p_values[i]
            yield LocatedMap(map=name, **figures, hit_p=hit_p, energy_p=energy_p)
