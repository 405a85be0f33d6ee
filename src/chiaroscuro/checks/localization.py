"""Localization: whether maps point at regions of images, as a pass that can be resumed."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from chiaroscuro.checks.regions import Mask, Regions, load_regions
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import Batch, ImageSet, load_images
from chiaroscuro.errors import InputError
from chiaroscuro.evaluation.classes import match_classes
from chiaroscuro.evaluation.columns import WORD, image_rows, in_image_order, read_values
from chiaroscuro.evaluation.figures import interval_at, reshaped, rounded
from chiaroscuro.evaluation.run import describe_method
from chiaroscuro.evaluation.stacks import image_stacks, rival_rule
from chiaroscuro.explanations.reading import make_method
from chiaroscuro.gradients import class_gradients
from chiaroscuro.maps import saliency_maps
from chiaroscuro.metrics import localization
from chiaroscuro.metrics.intervals import BootstrapMeans, SignFlips, holm
from chiaroscuro.passes import Progress, data_facts, part_of, run_pass, silent
from chiaroscuro.render import smooth
from chiaroscuro.results import KINDS, Kind
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.measurements import Localization, LocatedMap
from chiaroscuro.results.runs import Part, RunConfig
from chiaroscuro.settings import LocalizationSettings, settings_from, takes

MEASURES = ("hit", "energy", "chance_hit", "chance_energy", "center_hit")
LOCALIZATION_SCHEMA = pa.schema(
    [("id", pa.string()), ("target", pa.int32()), ("map", WORD)]
    + [(name, pa.float64()) for name in MEASURES]
)
"""One row per image and map; see `metrics.localization` for the measures."""
_ROWS = "rows"


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
    `resume`, `workers` and `data_root` are as for `evaluate`.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` may not be used.
    """
    given = {"data": data, "regions": regions, **options}
    chosen = settings_from(LocalizationSettings, settings, given)
    images = load_images(**chosen.source, root=data_root)
    return run_pass(
        LocalizationTask(chosen),
        classifier,
        images,
        out,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        progress=progress,
    )


@dataclass(frozen=True)
class LocalizationTask:
    """See `Task`. The rest is set by `set_up`; `classes`: the model's class of each label."""

    settings: LocalizationSettings
    method: Any = None
    regions: Regions | None = None
    classes: NDArray[np.int64] | None = None
    kind: ClassVar[Kind] = KINDS["localization"]

    def set_up(self, classifier: Classifier, images: ImageSet) -> "LocalizationTask":
        """See `Task`."""
        settings, classes = self.settings, None
        rival_rule(classifier, settings.rivals)
        if settings.target == "label":
            names = match_classes(classifier, images.labels)
            if names.target is None:
                raise InputError(
                    f"target label: {names.note}; give --target index where the data's class "
                    "numbers are the model's"
                )
            classes = names.target
        return replace(
            self,
            method=make_method(settings.method_options, classifier),
            regions=load_regions(settings.regions, images.split),
            classes=classes,
        )

    def facts(self) -> Mapping[str, Any]:
        """See `Task`."""
        return {
            "method": describe_method(self.method),
            "regions": _fingerprint(Path(self.settings.regions)),
        }

    def process(self, classifier: Classifier, batch: Batch) -> Part:
        """See `Task`."""
        masks: list[Mask] = []
        left_out: list[LeftOut] = []
        kept: list[int] = []
        for place, id_ in enumerate(batch.ids):
            region = self._region(batch, place)
            if isinstance(region, str):
                left_out.append(LeftOut(id_, region))
            else:
                kept.append(place)
                masks.append(region)
        chosen = _only(batch, kept)
        tables, places = [], []
        for where, pixels in image_stacks(classifier, chosen):
            regions = torch.from_numpy(np.stack([masks[i] for i in where]))
            tables.append(self._rows(classifier, chosen, where, pixels, regions))
            places.append(where)
        rows = in_image_order(tables, places, LOCALIZATION_SCHEMA)
        return part_of(batch, {_ROWS: rows}, left_out=left_out)

    def _region(self, batch: Batch, place: int) -> Mask | str:
        """The region on the network's pixels, or why the image measures nothing."""
        assert self.regions is not None
        if self.settings.target != "predicted" and batch.labels[place] is None:
            return "no class"
        shape = batch.pixels[place].shape[1:]
        region = self.regions.region(batch.ids[place], batch.crops[place], (shape[0], shape[1]))
        if region is None:
            return "no region"
        if not region.any():
            return "the region is outside of what the network sees"
        return "the region is all that the network sees" if region.all() else region

    def _rows(
        self,
        classifier: Classifier,
        batch: Batch,
        where: list[int],
        pixels: torch.Tensor,
        regions: torch.Tensor,
    ) -> pa.Table:
        """The rows of images of one size."""
        settings = self.settings
        target: torch.Tensor | None = None
        if settings.target != "predicted":
            labels = np.array([batch.labels[i] for i in where])
            target = torch.from_numpy(labels if self.classes is None else self.classes[labels])
        elif classifier.multi_label:
            target = classifier(pixels).argmax(dim=1)
        gradients = class_gradients(
            classifier,
            pixels,
            target,
            rivals=rival_rule(classifier, settings.rivals),
            method=self.method,
            score=settings.score,
        )
        sigma = settings.smoothing * min(pixels.shape[2:])
        measured = []
        for values in saliency_maps(gradients, settings.maps).values():
            drawn = values.cpu().double()
            if sigma:
                drawn = torch.from_numpy(np.stack([smooth(one, sigma) for one in drawn.numpy()]))
            measured.append(localization(drawn, regions, settings.tolerance))
        return image_rows(
            LOCALIZATION_SCHEMA,
            {"id": [batch.ids[i] for i in where], "target": gradients.target.tolist()},
            {"map": settings.maps},
            {
                measure: torch.stack([getattr(one, measure) for one in measured], dim=1).numpy()
                for measure in MEASURES
            },
        )

    def summarize(self, parts: Iterable[Part], run: RunConfig, images: ImageSet) -> Localization:
        """See `Task`."""
        settings = self.settings
        count = len(settings.maps)
        means = BootstrapMeans(count * len(MEASURES), settings.resamples, settings.seed)
        flips = SignFlips(2 * count, settings.flips, settings.seed)
        left_out: list[LeftOut] = []
        for part in parts:
            left_out += part.left_out
            table = part.tables[_ROWS]
            if len(table):
                columns = [read_values(table, name, count) for name in MEASURES]
                values = np.stack(columns, axis=2)  # (B, M, 5)
                means.add(values.reshape(len(values), -1))
                flips.add((values[..., :2] - values[..., 2:4]).reshape(len(values), -1))
        if not means.images:
            reason = f", the first because: {left_out[0].id}: {left_out[0].reason}"
            raise InputError(
                f"{settings.regions}: no image of {settings.data} has a region to point at"
                f"{reason if left_out else ''}; ids are paths in the folder, or SPLIT#ROW"
            )
        return Localization(
            settings=settings,
            data=data_facts(images, means.images, left_out, settings.seed),
            model=run.model,
            maps=tuple(_located(settings, means, flips)),
            versions=run.versions,
        )


def _located(
    settings: LocalizationSettings, means: BootstrapMeans, flips: SignFlips
) -> Iterator[LocatedMap]:
    ends = reshaped(means.interval(settings.confidence), len(settings.maps), len(MEASURES))
    p_values = holm(flips.p_values()).reshape(-1, 2)
    for i, name in enumerate(settings.maps):
        figures = {measure: interval_at(ends, i, m) for m, measure in enumerate(MEASURES)}
        hit_p, energy_p = (rounded(p) for p in p_values[i])
        yield LocatedMap(map=name, **figures, hit_p=hit_p, energy_p=energy_p)


def _only(batch: Batch, places: list[int]) -> Batch:
    """Some of a batch's images."""
    return replace(
        batch,
        ids=tuple(batch.ids[i] for i in places),
        pixels=tuple(batch.pixels[i] for i in places),
        labels=tuple(batch.labels[i] for i in places),
    )


def _fingerprint(path: Path) -> str:
    """A digest of the regions, so that others are noticed."""
    digest = hashlib.sha256()
    files = sorted(path.rglob("*.png")) if path.is_dir() else [path]
    for file in files:
        digest.update(f"{file.name}\n".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
