"""Which class takes pixels from which over an image set, as a pass that can be resumed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from chiaroscuro.checks.pair_sums import PairSums, Photo, Ranking, shaped
from chiaroscuro.checks.regions import Regions, digest_of, load_regions
from chiaroscuro.choices import parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.classifier.reading import to_numpy
from chiaroscuro.data.images import Batch, ImageSet, read_row
from chiaroscuro.data.loading import load_images
from chiaroscuro.edits import filled
from chiaroscuro.errors import ChoiceError
from chiaroscuro.evaluation import rows
from chiaroscuro.evaluation.deletion import target_classes
from chiaroscuro.evaluation.run import add_up, describe_method
from chiaroscuro.evaluation.stacks import image_stacks
from chiaroscuro.explanations.single import as_batch, explain, make_method
from chiaroscuro.gradients import class_gradients
from chiaroscuro.images import CropBox, to_uint8
from chiaroscuro.images.regions import Mask
from chiaroscuro.metrics.competition import Competition, competition
from chiaroscuro.passes.executor import compute
from chiaroscuro.passes.runner import Parts, Progress, part_of, run_pass, silent
from chiaroscuro.render.shown import shown_pixels
from chiaroscuro.results import KINDS
from chiaroscuro.results.confusions import MOST_PAIRS, Confusions, Mend
from chiaroscuro.results.explanations import Explanation
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.runs import Part, RunConfig
from chiaroscuro.settings import ConfusionSettings, settings_from, takes
from chiaroscuro.smallest import smallest_edits

PHOTO_MAPS = ("winner", "signed", "margin")
"""The maps of a pair's photos."""
CONFUSION_SCHEMA = rows.row_schema(
    (pa.string(), "id"),
    (pa.int32(), "batch target predicted rival"),
    (pa.float64(), "brighter darker lead inside region"),
    (pa.list_(pa.float32()), "grid colors"),
)
"""One row per image and class that takes changes of it, first its target; see `Competition`.

`rival` is the target itself in its own row; `brighter` and `darker` are `taken`. `inside` and
`region`, its share of the picture, are null without a region. The lists are flat, row by row.
"""


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
    folder `out` gets rows as Parquet and index.html. `resume`, `workers`, `engine`, `strict` and
    `data_root` are as for `evaluate`.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` may not be used.
    """
    task = _ConfusionTask(settings_from(ConfusionSettings, settings, {"data": data, **options}))
    images = load_images(**task.settings.source, root=data_root)
    return run_pass(
        task, classifier, images, out, resume, overwrite, workers, progress, engine, strict=strict
    )


@dataclass(frozen=True)
class _ConfusionTask:
    """See `Task`. The rest is set by `set_up`; `classes`: the model's class of each label."""

    settings: ConfusionSettings
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
        return {"method": describe_method(self.method), "regions": regions}

    def process(self, classifier: Classifier, batch: Batch) -> Part:
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
                about = {"id": batch.ids[n], "batch": batch.number}
                found[n] = [about | row for row in _image_rows(one, region)]
        left_out = [LeftOut(id_, "no class") for n, id_ in enumerate(batch.ids) if n not in found]
        listed = [row for n in sorted(found) for row in found[n]]
        table = pa.Table.from_pylist(listed, schema=CONFUSION_SCHEMA)
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


def _image_rows(one: Competition, region: Mask | None) -> Iterator[dict[str, Any]]:
    """An image's rows, without its id."""
    for r, rival in enumerate(one.classes.tolist()):
        yield {
            "target": int(one.classes[0]),
            "predicted": one.predicted,
            "rival": rival,
            "brighter": one.taken[r, 0],
            "darker": one.taken[r, 1],
            "lead": one.lead[r],
            "inside": None if region is None else one.inside[r],
            "region": None if region is None else region.mean(),
            "grid": one.grid[r].ravel().astype(np.float32),
            "colors": one.colors[r].ravel().astype(np.float32),
        }


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
