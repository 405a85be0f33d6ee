"""Which class takes pixels from which over an image set, as a pass that can be resumed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from chiaroscuro.checks.pair_sums import PairSums, Photo, Ranking, shaped
from chiaroscuro.checks.regions import Regions, digest_of, load_regions
from chiaroscuro.choices import parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.classifier.reading import to_numpy
from chiaroscuro.data.images import Batch, ImageSet, read_row
from chiaroscuro.data.loading import load_images
from chiaroscuro.data.stored import StoredMaps
from chiaroscuro.edits import filled
from chiaroscuro.errors import ChoiceError, InputError, ResultError
from chiaroscuro.evaluation.competitors import SCHEMA, competitor_rows
from chiaroscuro.evaluation.deletion import target_classes
from chiaroscuro.evaluation.run import add_up, describe_method
from chiaroscuro.evaluation.stacks import image_stacks
from chiaroscuro.explanations.single import as_batch, explain, make_method
from chiaroscuro.gradients import class_gradients
from chiaroscuro.images import CropBox, to_uint8
from chiaroscuro.metrics.competition import competition
from chiaroscuro.passes.executor import compute
from chiaroscuro.passes.runner import Parts, Progress, part_of, run_pass, silent
from chiaroscuro.render.shown import shown_pixels
from chiaroscuro.results import KINDS
from chiaroscuro.results.confusions import GRID, MOST_PAIRS, Confusions, Mend
from chiaroscuro.results.explanations import Explanation
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.maps import COMPETITORS, PIXELS, pixels_digest
from chiaroscuro.results.runs import Part, RunConfig, fitting
from chiaroscuro.settings import ConfusionSettings, MapExportSettings, settings_from, takes
from chiaroscuro.smallest import smallest_edits

PHOTO_MAPS = ("winner", "signed", "margin")
"""The maps of a pair's photos."""


@takes(ConfusionSettings)
def confusions(
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
    settings: ConfusionSettings | None = None,
    **options: Any,
) -> Confusions:
    """Which class takes pixels from which over an image set: how many, where, on which colors.

    Each value of an image can become brighter or darker. A change belongs to the class whose score
    gains most by it: rival k takes it from target c where g_k is the largest of all gradients, or
    where -g_k is, by the lead |g_k - g_c|. Shares of all changes are means over the target's
    images, with bootstrap intervals. A page shows the matrix of classes, every strong pair with the
    map of its leads, their colors and photos, and which classes are confused in prediction. The
    folder `out` gets rows as Parquet and index.html. `data` may be a folder of
    `export_maps(..., strongest=30)`: what it keeps decides in place of gradients, and its settings
    hold. `resume`, `workers`, `engine`, `strict`, `shard` and `data_root` are as for
    `evaluate`.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` may not be used.
    """
    chosen = settings_from(ConfusionSettings, settings, {"data": data, **options})
    if stored := StoredMaps.find_in(chosen.data):
        task = _ConfusionTask(_as_stored(chosen, stored), stored)
        images = stored.source(data_root)
    else:
        task = _ConfusionTask(chosen)
        images = load_images(**chosen.source, root=data_root)
    return run_pass(
        task, classifier, images, out, resume, overwrite, workers, progress, engine, strict, shard
    )


def _as_stored(settings: ConfusionSettings, stored: StoredMaps) -> ConfusionSettings:
    """The settings with those that stored maps were computed with; raises for any other."""
    kept, folder = stored.export.settings, stored.folder
    if kept.strongest is None:
        advice = "store maps with strongest=30 (--strongest 30)"
        raise ResultError(f"{folder} does not keep what classes take: {advice}, or give the data")
    if settings.regions is not None:
        raise ChoiceError("regions need gradients: give the data in place of stored maps")
    declared = MapExportSettings.__dataclass_fields__
    shared = [f for f in fields(settings) if f.name in declared and f.name != "data"]
    for f in shared:
        value, theirs = getattr(settings, f.name), getattr(kept, f.name)
        if value not in (f.default, theirs):
            raise ChoiceError(f"{f.name} is {value}: the maps in {folder} have {theirs}")
    return replace(settings, **{f.name: getattr(kept, f.name) for f in shared})


@dataclass(frozen=True)
class _ConfusionTask:
    """See `Task`. What follows `stored` is set by `set_up`; `classes`: the model's of each label.

    `stored`: maps of the same images, which keep what is computed otherwise.
    """

    settings: ConfusionSettings
    stored: StoredMaps | None = None
    classifier: Classifier | None = None
    method: Any = None
    regions: Regions | None = None
    classes: NDArray[np.int64] | None = None
    note: str = ""
    kind: ClassVar = KINDS["confusions"]

    def set_up(self, classifier: Classifier, images: ImageSet) -> "_ConfusionTask":
        settings, place = self.settings, self.settings.regions
        if classifier.volumes:
            raise ChoiceError(f"{classifier.name} takes volumes: confusions are of flat images")
        known = self.stored.export.model if self.stored else None
        if self.stored and known and classifier.describe(digest=True).sha256 != known.sha256:
            raise ResultError(
                f"{self.stored.folder} has maps of {known.name} with other weights than those of "
                f"{classifier.name}: give that network, or the data in place of the maps"
            )
        parse_rivals(settings.rivals).resolve(classifier.class_index)  # for its errors
        classes, note = target_classes(classifier, images.labels, settings.target)
        return replace(
            self,
            classifier=classifier,
            method=make_method(settings.method_options, classifier),
            regions=None if place is None else load_regions(place, images.split),
            classes=classes,
            note=note,
        )

    def facts(self) -> Mapping[str, Any]:
        place = self.settings.regions
        regions = None if place is None else digest_of(place)
        stored = None if self.stored is None else self.stored.export.digest
        return {"method": describe_method(self.method), "regions": regions, "stored": stored}

    def process(self, classifier: Classifier, batch: Batch) -> Part:
        if self.stored is not None:
            return _stored_part(self.stored, batch, classifier)
        settings, found = self.settings, dict[int, list[dict[str, Any]]]()
        kept = [n for n, k in enumerate(batch.labels) if self.classes is None or k is not None]
        rule = parse_rivals(settings.rivals).resolve(classifier.class_index)
        for places, pixels in image_stacks(classifier, batch, kept):
            target: Any = None
            if self.classes is not None:
                target = torch.from_numpy(self.classes[np.array([batch.labels[n] for n in places])])
            elif classifier.multi_label:
                target = classifier(pixels).argmax(dim=1)
            gradients = class_gradients(
                classifier, pixels, target, rule, self.method, settings.score, argmax=True
            )
            for b, n in enumerate(places):
                region = None
                if self.regions is not None:
                    shape = (pixels.shape[2], pixels.shape[3])
                    region = self.regions.region(batch.ids[n], batch.crops[n], shape)
                one = competition(gradients, pixels, b, settings.strongest, region)
                found[n] = [*competitor_rows(one, batch.ids[n], batch.number, region)]
        left_out = [LeftOut(id_, "no class") for n, id_ in enumerate(batch.ids) if n not in found]
        listed = [row for n in sorted(found) for row in found[n]]
        table = pa.Table.from_pylist(listed, schema=SCHEMA)
        return part_of(batch, {"rows": table}, left_out=left_out)

    def summarize(self, parts: Parts, run: RunConfig, images: ImageSet) -> Confusions:
        settings, classifier = self.settings, self.classifier
        assert classifier is not None
        first, data = add_up(parts(), {"rows": Ranking}, images, settings)
        ranking = first["rows"]
        kept, wrong = ranking.pairs(MOST_PAIRS, settings.mends)
        own = [(k, k) for k in sorted(ranking.images)]
        second = {"rows": partial(PairSums, [*own, *kept, *wrong])}
        sums = add_up(parts(), second, images, settings)[0]["rows"]
        found = sums.found
        shown = {photo: k for k, r in kept[: settings.pairs] for _, photo in found[k, r].photos}
        again = _Again(classifier, images, settings, run.batch)
        explained = partial(again.explained, [*shown.items()])
        mended = partial(again.mended, [(found[key].wrong[0], *key) for key in wrong])
        grids, colors = sums.leads(kept)
        takers = {r: (n, *shaped(places)) for r, (n, places) in sorted(sums.takers.items())}
        return Confusions(
            settings=settings,
            data=data,
            model=run.model,
            labels={k: classifier.label(k) for k in sorted({*ranking.images, *takers})},
            pairs=tuple(sums.pairs(kept, shown)),
            pair_count=len(ranking.taken) - len(own),
            classes=tuple(sums.pairs(own)),
            grids=grids,
            colors=colors,
            class_images={r: images for r, (images, _, _) in takers.items()},
            class_grids={r: grid for r, (_, grid, _) in takers.items()},
            class_colors={r: colors for r, (_, _, colors) in takers.items()},
            photos=dict(compute(explained, range(len(shown)), threads=run.threads)),
            mends=tuple(compute(mended, range(len(wrong)), threads=run.threads)),
            target_note=self.note if self.classes is None else "",
            versions=run.versions,
        )


def _stored_part(stored: StoredMaps, batch: Batch, classifier: Classifier) -> Part:
    """What stored maps keep of a batch; raises `InputError` for other photos than theirs."""
    part = stored.part(batch.number)
    with fitting(stored.folder):
        names = (part.tables["rows"][n].to_pylist() for n in ("id", PIXELS))
        digests, rows = dict(zip(*names, strict=True)), part.tables[COMPETITORS].cast(SCHEMA)
        _check_taken(rows, [*digests], batch.number, classifier)
    read = dict(zip(batch.ids, batch.pixels, strict=True))
    for id_, digest in digests.items():
        if id_ not in read or pixels_digest(read[id_]) != digest:
            raise InputError(f"{id_}: not the photo that {stored.folder} has maps of")
    left_out = [one for one in part.left_out if one.id in read]
    return part_of(batch, {"rows": rows}, left_out=left_out)


def _check_taken(rows: pa.Table, ids: list[str], batch: int, classifier: Classifier) -> None:
    """Raise `ValueError` for rows of other images, classes or sizes than those of a batch."""
    names = ("id", "target", "rival", "predicted", "batch")
    read = [*zip(*(rows[name].to_pylist() for name in names), strict=True)]
    firsts = [next(group) for _, group in groupby(read, lambda row: row[0])]
    own = [row[0] for row in read if row[1] == row[2]]
    most = classifier.num_classes or 1 << 31
    sides = {"grid": GRID**2, "colors": 4 * classifier.channels}
    sizes = {n: pc.list_value_length(rows[n]).unique().to_pylist() for n in sides}
    if (
        not own == ids == [row[0] for row in firsts if row[1] == row[2]]
        or not all(row[4] == batch and 0 <= k < most for row in read for k in row[1:4])
        or any({*sizes[n]} - {side} for n, side in sides.items())
        or any(rows[n].null_count for n in ("brighter", "darker", "lead"))
    ):
        raise ValueError("what classes take is of other images, classes or sizes")


_SMALL = 64
"""Of images with smaller sides single pixels are changed, of others squares of `_SQUARE`."""
_SQUARE = 8


@dataclass(frozen=True)
class _Again:
    """Reads images once more: jobs of `compute`, by the number of each in a list."""

    classifier: Classifier
    images: ImageSet
    settings: ConfusionSettings
    batch: int

    def _read(self, photo: Photo) -> tuple[Any, NDArray[np.float32], CropBox]:
        near = islice(self.images.rows(photo[1] * self.batch), self.batch)
        row = next(row for row in near if row.id == photo[0])
        return read_row(row, self.classifier.framing, self.classifier.channels)

    def explained(
        self, photos: list[tuple[Photo, int]], numbers: Iterable[int]
    ) -> Iterator[tuple[str, Explanation]]:
        """Photos explained for their targets."""
        settings = self.settings
        options = {"rivals": settings.rivals, "method": settings.method_options}
        options |= {"score": settings.score, "maps": PHOTO_MAPS}
        for photo, target in map(photos.__getitem__, numbers):
            yield photo[0], explain(self.classifier, self._read(photo)[0], target=target, **options)

    def mended(self, wrong: list[tuple[Photo, int, int]], numbers: Iterable[int]) -> Iterator[Mend]:
        """The smallest edits that turn predictions into the targets."""
        for photo, target, rival in map(wrong.__getitem__, numbers):
            pixels = as_batch(self.classifier, [self._read(photo)[1]])
            side = 1 if min(pixels.shape[2:]) < _SMALL else _SQUARE
            seed = self.settings.seed
            change = filled(pixels, self.settings.fill, seed)
            edit = smallest_edits(self.classifier, pixels, change, target, cells=side, seed=seed)
            changed = torch.where(edit.masks[:, None], change, pixels)
            shown = to_uint8(shown_pixels(to_numpy(changed[0]), self.classifier.shown))
            mask, units = to_numpy(edit.masks[0]), int(edit.units[0])
            yield Mend(photo[0], target, rival, shown, mask, units, side)
