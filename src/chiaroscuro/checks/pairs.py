"""Which class takes pixels from which over an image set, as a pass that can be resumed."""

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

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
from chiaroscuro.metrics.intervals import BootstrapMeans
from chiaroscuro.passes.executor import compute
from chiaroscuro.passes.runner import Progress, part_of, run_pass, silent
from chiaroscuro.render.shown import shown_pixels
from chiaroscuro.results import KINDS
from chiaroscuro.results.confusions import GRID, MOST_PAIRS, ClassPair, Confusions, Mend
from chiaroscuro.results.explanations import Explanation
from chiaroscuro.results.facts import Interval, LeftOut
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
    folder `out` gets rows as Parquet and index.html. `resume`, `workers` and `data_root` are as for
    `evaluate`.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` may not be used.
    """
    task = _ConfusionTask(settings_from(ConfusionSettings, settings, {"data": data, **options}))
    images = load_images(**task.settings.source, root=data_root)
    return run_pass(task, classifier, images, out, resume, overwrite, workers, progress)


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

    def summarize(self, parts: Iterable[Part], run: RunConfig, images: ImageSet) -> Confusions:
        settings, classifier = self.settings, self.classifier
        assert classifier is not None
        added, data = add_up(parts, {"rows": _Sums}, images, settings)
        sums, found = added["rows"], added["rows"].found
        own = sorted(key for key in found if key[0] == key[1])
        every = sorted({*found} - {*own}, key=lambda key: (-sums.strength(key), key))
        kept = every[:MOST_PAIRS]
        shown = {photo: k for k, r in kept[: settings.pairs] for _, photo in found[k, r].photos}
        wrong = sorted(
            (k for k in every if found[k].wrong), key=lambda k: -found[k].sums[_CONFUSED]
        )
        again = _Again(classifier, images, settings, run.batch)
        explained = partial(again.explained, [*shown.items()])
        mended = partial(again.mended, [(found[k].wrong[0], *k) for k in wrong[: settings.mends]])
        taken: dict[int, list[_Pair]] = {}
        for key in every:
            taken.setdefault(key[1], []).append(found[key])
        return Confusions(
            settings=settings,
            data=data,
            model=run.model,
            labels={k: classifier.label(k) for k in sorted({k for key in found for k in key})},
            pairs=sums.pairs(kept, shown),
            pair_count=len(every),
            classes=sums.pairs(own),
            grids=_single([found[key].grid / sums.images(key) for key in kept]),
            colors=_single([found[key].colors / sums.images(key) for key in kept]),
            class_images={r: sum(len(o.places) for o in taken[r]) for r in sorted(taken)},
            class_grids={r: _single(sum(o.grid for o in taken[r])) for r in sorted(taken)},
            class_colors={r: _single(sum(o.colors for o in taken[r])) for r in sorted(taken)},
            photos=dict(compute(explained, range(len(shown)), threads=run.threads)),
            mends=tuple(
                compute(mended, range(min(settings.mends, len(wrong))), threads=run.threads)
            ),
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


Key = tuple[int, int]
"""Target and rival."""
Photo = tuple[str, int]
"""An image by its id, and its batch."""
_SUMMED = ("brighter", "darker", "lead", "inside", "region", "first", "confused", "led", "regions")
"""`led`: the lead in images with a region, and `regions` their number."""
_CONFUSED = _SUMMED.index("confused")
_SMALL = 64
"""Of images with smaller sides single pixels are changed, of others squares of `_SQUARE`."""
_SQUARE = 8


@dataclass(eq=False)
class _Pair:
    """Sums of `_SUMMED`, grids and colors; shares by image of the target; the highest ones."""

    sums: rows.Floats
    grid: rows.Floats
    colors: rows.Floats
    places: "array[int]" = field(default_factory=lambda: array("l"))
    shares: "array[float]" = field(default_factory=lambda: array("d"))
    photos: list[tuple[float, Photo]] = field(default_factory=list)
    wrong: list[Photo] = field(default_factory=list)


class _Sums(rows.Sums):
    """What each class takes from each target, for pairs that occur; `(k, k)` is what k keeps."""

    def __init__(self, table: pa.Table, settings: ConfusionSettings) -> None:
        self.settings, self.found = settings, dict[Key, _Pair]()

    def add(self, table: pa.Table) -> None:
        """Count a batch in."""
        names = CONFUSION_SCHEMA.names
        read = {n: table[n].combine_chunks().to_numpy(zero_copy_only=False) for n in names}
        own, share = read["target"] == read["rival"], (read["brighter"] + read["darker"]) / 2
        read["first"] = np.r_[False, own[:-1]] & ~own & (share > 0)  # rows fall by what is taken
        read["confused"] = read["predicted"] == read["rival"]
        read["regions"] = ~np.isnan(read["region"])
        read["led"] = read["lead"] * read["regions"]
        values = np.column_stack([np.nan_to_num(read[name].astype(float)) for name in _SUMMED])
        for i, key in enumerate(zip(read["target"].tolist(), read["rival"].tolist(), strict=True)):
            grid = np.asarray(read["grid"][i], float).reshape(GRID, GRID)
            colors = np.asarray(read["colors"][i], float).reshape(2, -1, 2)
            if key not in self.found:
                self.found[key] = _Pair(values[i] * 0, grid * 0, colors * 0)
            pair = self.found[key]
            pair.sums += values[i]
            pair.grid += grid
            pair.colors += colors
            pair.places.append(len(pair.places) if own[i] else self.images(key) - 1)
            pair.shares.append(share[i])
            photo = read["id"][i], int(read["batch"][i])
            if read["confused"][i] and not pair.wrong:
                pair.wrong.append(photo)
            best = [*pair.photos, (share[i], photo)]
            pair.photos = sorted(best, key=lambda one: -one[0])[: self.settings.photos]

    def images(self, key: Key) -> int:
        """The number of images of a pair's target, whose own row is the first of each."""
        return len(self.found[key[0], key[0]].places)

    def strength(self, key: Key) -> float:
        """The share, as if there were one more image without any: few images count for less."""
        return float(self.found[key].sums[:2].sum() / (self.images(key) + 1))

    def pairs(self, keys: list[Key], shown: Collection[Photo] = ()) -> tuple[ClassPair, ...]:
        """These pairs, which name their photos where those are `shown`."""
        ends = self._intervals(keys)
        return tuple(self._pair(key, ends[key], shown) for key in keys)

    def _pair(self, key: Key, share: Interval, shown: Collection[Photo]) -> ClassPair:
        pair, images = self.found[key], self.images(key)
        one, whole = dict(zip(_SUMMED, pair.sums, strict=True)), pair.grid.sum() or 1
        taken = one["brighter"] + one["darker"]
        has_region = one["regions"] > 0 and one["led"] > 0
        figures = {
            "brighter": one["brighter"] / images / 2,
            "darker": one["darker"] / images / 2,
            "lead": one["lead"] / taken if taken else 0,
            "first": one["first"] / images,
            "border": (whole - pair.grid[1:-1, 1:-1].sum()) / whole if pair.grid.any() else 0,
            "center": pair.grid[2:-2, 2:-2].sum() / whole,
        }
        return ClassPair(
            target=key[0],
            rival=key[1],
            images=images,
            share=share,
            confused=round(one["confused"]),
            inside=rows.rounded(one["inside"] / one["led"]) if has_region else None,
            region=rows.rounded(one["region"] / one["regions"]) if has_region else None,
            photos=tuple(photo[0] for _, photo in pair.photos if photo in shown),
            **{name: rows.rounded(value) for name, value in figures.items()},
        )

    def _intervals(self, keys: list[Key]) -> dict[Key, Interval]:
        """The mean shares with bootstrap intervals over the target's images."""
        ends: dict[Key, Interval] = {}
        for _, own in groupby(sorted(keys), key=lambda key: key[0]):
            listed = [*own]
            shares = np.zeros((self.images(listed[0]), len(listed)))
            for r, key in enumerate(listed):
                shares[self.found[key].places, r] = self.found[key].shares
            means = BootstrapMeans(len(listed), self.settings.resamples, self.settings.seed)
            for some in np.array_split(shares, -(-len(shares) // 1000)):
                means.add(some)
            found = rows.stacked(means.interval(self.settings.confidence), len(listed))
            ends |= {key: rows.interval_at(found, r) for r, key in enumerate(listed)}
        return ends


def _single(means: Any) -> NDArray[np.float32]:
    return np.asarray(means, np.float32)


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
