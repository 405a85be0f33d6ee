"""The sanity check of a classifier's maps, as a pass over an image set that can be resumed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from chiaroscuro.choices import method_name, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.classifier.copies import POSITIVE_INSIDE, find_layers, positive_inside, randomized
from chiaroscuro.data.images import Batch, ImageSet, read_batches
from chiaroscuro.data.loading import load_images
from chiaroscuro.edits import noisy, pixel_rank, tie_priority
from chiaroscuro.errors import ChoiceError, InputError, ModelError
from chiaroscuro.evaluation import rows
from chiaroscuro.evaluation.run import add_up, describe_method
from chiaroscuro.evaluation.stacks import image_stacks
from chiaroscuro.explanations.single import make_method
from chiaroscuro.gradients import class_gradients
from chiaroscuro.maps import saliency_maps
from chiaroscuro.metrics import agreement as similarity
from chiaroscuro.metrics.intervals import interval
from chiaroscuro.passes.runner import Parts, Progress, part_of, run_pass, silent
from chiaroscuro.results import KINDS, measurements
from chiaroscuro.results.measurements import LEVELS, Layer, Level, Limits, SanityCheck, Step
from chiaroscuro.results.runs import Part, RunConfig
from chiaroscuro.settings import CheckSettings, settings_from, takes

Key = tuple[str, str, str, int, int]
Steps = Sequence[Step]
Pair = tuple[Limits, Limits]
_QUANTILE = 0.95
"""Of the similarities with random orders: the floor."""
_ORDERS_FROM = 1000
"""Random orders have seeds from here on; the first few break ties."""

SANITY_SCHEMA = rows.row_schema(
    (pa.string(), "id"),
    (pa.int32(), "predicted"),
    (rows.WORD, "method map test"),
    (pa.int16(), "step draw"),
    (pa.float32(), "correlation overlap"),
    (pa.bool_(), "constant"),
)
"""One row per image, method, map, test, step and draw: how similar the map and the other one are.

`test`: cascade, alone, class, noise or random. `step` counts layers from the output, 1 the last;
`draw` random weights, noise or orders; `constant`: the other map has one value everywhere, and so
no order.
"""


@takes(CheckSettings)
def check(
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
    settings: CheckSettings | None = None,
    **options: Any,
) -> SanityCheck:
    """Measure whether maps depend on the weights and the class, and not on noise.

    - cascade: the network's layers get new random weights from the output on, one after the other;
      after each, the map of the same class is compared with the untouched network's.
    - alone: the same with one layer at a time.
    - class: the maps of the best and of the second-best class.
    - noise: the map of the image with a little Gaussian noise.
    - random: the map against random orders of the pixels, which give the limits for the verdicts.

    Maps are compared by rank correlation and by the overlap of their highest pixels. The classifier
    is left as found: weights change in copies only. The folder `out` gets rows as Parquet, charts
    and index.html. `resume`, `workers`, `engine`, `strict`, `shard` and `data_root` are as for
    `evaluate`.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` may not be used.
    Source: Adebayo et al., Sanity checks for saliency maps, 2018 (cascading and independent
    randomization); CASE, 2025 (overlap of the two best classes).
    """
    task = _SanityTask(settings_from(CheckSettings, settings, {"data": data, **options}))
    images = load_images(**task.settings.source, root=data_root)
    return run_pass(
        task, classifier, images, out, resume, overwrite, workers, progress, engine, strict, shard
    )


_Maps = Mapping[tuple[str, str], Tensor]
"""By method and map."""
Compared = Iterator[tuple[Key, Tensor]]
"""By key, (B, 3): rank correlation, top overlap, and whether the other map is constant."""


@dataclass(frozen=True)
class _SanityTask:
    """See `Task`. `methods` (by name) and `layers` are set by `set_up`."""

    settings: CheckSettings
    methods: tuple[tuple[str, Any], ...] = ()
    layers: tuple[Layer, ...] = ()
    kind: ClassVar = KINDS["check"]

    def set_up(self, classifier: Classifier, images: ImageSet) -> "_SanityTask":
        settings = self.settings
        classes = parse_rivals(settings.rivals).resolve(classifier.class_index).classes
        if classes is not None and len(classes) < 2:
            raise ChoiceError(
                f"rivals is {settings.rivals!r}: the maps of the two best classes are compared, "
                "and each needs a rival: give at least two classes, or top:N"
            )
        given = zip(settings.methods, settings.method_options, strict=True)
        methods = ((method_name(name), make_method(how, classifier)) for name, how in given)
        layers = find_layers(classifier, self._first(classifier, images), settings.depths or None)
        return replace(self, methods=tuple(methods), layers=layers)

    def _first(self, classifier: Classifier, images: ImageSet) -> Tensor:
        """The first image that can be used, (1, C, H, W)."""
        rgb_only, channels = self.settings.rgb_only, classifier.channels
        framing = classifier.framing
        for batch in read_batches(images, framing, 1, channels=channels, rgb_only=rgb_only):
            for _, pixels in image_stacks(classifier, batch):
                return pixels
        raise InputError(f"{images.source}: no image of {images.split} can be used")

    def facts(self) -> Mapping[str, Any]:
        return {
            "methods": [describe_method(method) for _, method in self.methods],
            "layers": [list(layer.modules) for layer in self.layers],
        }

    def process(self, classifier: Classifier, batch: Batch) -> Part:
        tables = []
        for places, pixels in image_stacks(classifier, batch):
            best = classifier(pixels).topk(2, dim=1).indices
            values = dict(self._compare(classifier, pixels, best))
            keys = dict(zip(SanitySums.columns, zip(*values, strict=True), strict=True))
            numbers = torch.stack([*values.values()], dim=1).cpu().numpy()  # (B, R, 3)
            images = {"id": [batch.ids[i] for i in places], "predicted": best[:, 0].tolist()}
            columns = {"correlation": numbers[..., 0], "overlap": numbers[..., 1]}
            columns["constant"] = numbers[..., 2] > 0
            tables.append((places, rows.image_rows(SANITY_SCHEMA, images, keys, columns)))
        return part_of(batch, {"rows": rows.in_image_order(tables, SANITY_SCHEMA)})

    def summarize(self, parts: Parts, run: RunConfig, images: ImageSet) -> SanityCheck:
        settings = self.settings
        sums, data = add_up(parts(), {"rows": SanitySums}, images, settings)
        maps = tuple(sums["rows"].maps())
        return SanityCheck(settings, data, run.model, self.layers, maps, run.versions)

    def _compare(self, classifier: Classifier, pixels: Tensor, best: Tensor) -> Compared:
        """Every test; the target is the class that the untouched network predicts but for one."""
        settings = self.settings
        first, second = best.unbind(dim=1)
        clean = self._all_maps(classifier, pixels, first)

        def against(test: str, step: int, draw: int, others: _Maps) -> Compared:
            for (method, name), values in clean.items():
                other = others[method, name]
                similar = similarity.map_similarity(
                    values, other, pixels, settings.share, settings.seed
                )
                flat = other.flatten(1)
                constant = (flat.amax(dim=1) == flat.amin(dim=1)).double()
                row = [similar.correlation, similar.overlap, constant]
                yield (method, name, test, step, draw), torch.stack(row, dim=1)

        yield from against("class", 1, 0, self._all_maps(classifier, pixels, second))
        for draw in range(settings.draws):
            others = self._all_maps(
                classifier, noisy(pixels, settings.noise, settings.seed, draw), first
            )
            yield from against("noise", 1, draw, others)
            for step, layer in enumerate(self.layers, 1):
                for test, layers in (("cascade", self.layers[:step]), ("alone", (layer,))):
                    try:
                        if test == "cascade" or step > 1:
                            other = randomized(classifier, layers, settings.seed, draw)
                            maps = self._all_maps(other, pixels, first)
                        yield from against(test, step, draw, maps)
                    except (ModelError, InputError) as error:
                        raise ModelError(
                            f"with new random weights in layer {layer.name}: {error}"
                        ) from error
        for (method, name), values in clean.items():
            for draw, row in enumerate(_random_orders(values, pixels, settings)):
                yield (method, name, "random", 0, draw), row

    def _all_maps(self, classifier: Classifier, pixels: Tensor, target: Tensor) -> _Maps:
        settings = self.settings
        chosen = {name: (classifier, method) for name, method in self.methods}
        if settings.reference and (changed := positive_inside(classifier)) is not None:
            chosen[POSITIVE_INSIDE] = (changed, "gradient")
        rule = parse_rivals(settings.rivals).resolve(classifier.class_index)
        found: dict[tuple[str, str], Tensor] = {}
        for name, (one, method) in chosen.items():
            gradients = class_gradients(
                one, pixels, target, rivals=rule, method=method, score=settings.score
            )
            maps = saliency_maps(gradients, settings.maps)
            found |= {(name, map_): values for map_, values in maps.items()}
        return found


def _random_orders(values: Tensor, pixels: Tensor, settings: CheckSettings) -> Iterator[Tensor]:
    """The map against random orders of the pixels: the similarity that chance has."""
    count = similarity.top_count(values[0].numel(), settings.share)
    ranks = similarity.average_ranks(values.flatten(1))
    top = similarity.top_mask(values, tie_priority(pixels, settings.seed), count)
    for draw in range(settings.orders):
        places = pixel_rank(tie_priority(pixels, settings.seed + _ORDERS_FROM + draw))
        correlation = similarity.ranks_correlation(ranks, -places.double())
        overlap = similarity.masks_overlap(top, places < count)
        yield torch.stack([correlation, overlap, torch.zeros_like(overlap)], dim=1)


class SanitySums(rows.Sums):
    """Means over images and draws, with intervals of a bootstrap over images."""

    columns = ("method", "map", "test", "step", "draw")
    measures = ("correlation", "overlap", "constant")

    def __init__(self, table: pa.Table, settings: CheckSettings) -> None:
        super().__init__(table, settings)
        self.random: list[rows.Floats] = []

    def add_others(self, values: rows.Floats, table: pa.Table) -> None:
        """Keep the similarities with random orders."""
        self.random.append(values[:, self._rows("random"), :2])

    def maps(self) -> Iterator[measurements.CheckedMap]:
        """One entry per method and map."""
        shape = (len(self.keys), len(self.measures))
        mean, resampled = self.means.mean.reshape(shape), self.means.resampled.reshape(-1, *shape)
        random = np.concatenate(self.random)
        controls = [self.keys[row][:2] for row in self._rows("random")]

        def step(number: int, own: list[int], *, by_draw: bool = True) -> Step:
            means, others = mean[own].mean(axis=0), resampled[:, own, :2].mean(axis=1)
            ends = rows.stacked(interval(means[:2], others, self.settings.confidence), 2)
            similarity = measurements.Similarities(
                rows.interval_at(ends, 0), rows.interval_at(ends, 1)
            )
            draws = tuple(map(tuple, rows.rounded(mean[own, :2]))) if by_draw else ()
            return Step(number, similarity, rows.rounded(means[2]), draws)

        for place in dict.fromkeys(key[:2] for key in self.keys):
            cascade, alone, (other_class,), (noise,) = (
                tuple(
                    step(number, self._rows(test, *place, number))
                    for number in dict.fromkeys(self.keys[i][3] for i in self._rows(test, *place))
                )
                for test in ("cascade", "alone", "class", "noise")
            )
            own = random[:, [control == place for control in controls]].reshape(-1, 2)
            quantiles = np.quantile(own, [1 - _QUANTILE, _QUANTILE], axis=0)
            correlation, overlap = (
                Limits(rows.rounded(low), rows.rounded(floor), rows.rounded((floor + 1) / 2))
                for low, floor in quantiles.T
            )
            mean_step = step(0, self._rows("cascade", *place), by_draw=False)
            tests = (cascade, alone, mean_step, other_class, noise)
            yield measurements.CheckedMap(
                place[0],
                place[1],
                *tests,
                step(0, self._rows("random", *place), by_draw=False),
                correlation,
                overlap,
                verdict(*tests, (correlation, overlap)),
            )

    def _rows(self, test: str, *place: object) -> list[int]:
        """The rows of a test, of one method and map, or of one step of theirs."""
        chosen = (*place[:2], test, *place[2:])
        if not place:
            return [i for i, key in enumerate(self.keys) if key[2] == test]
        return [i for i, key in enumerate(self.keys) if key[: len(chosen)] == chosen]


def verdict(
    cascade: Steps, alone: Steps, cascade_mean: Step, other_class: Step, noise: Step, limits: Pair
) -> measurements.Verdict:
    """How similar a map stays in each test, by the worse measure, and the layers it overlooks.

    Random weights must leave no similarity in the last step, and in the mean over all: a map that
    only the layers next to the pixels can change does not depend on the network.
    """

    def levels(step: Step) -> list[Level]:
        return [limit.level(one) for limit, one in zip(limits, step.similarity, strict=True)]

    return measurements.Verdict(
        weights=_most([*levels(cascade[-1]), *levels(cascade_mean)]),
        other_class=_most(levels(other_class)),
        noise=min(levels(noise), key=LEVELS.index),
        changes_after=next((s.step for s in cascade if _most(levels(s)) != "much"), None),
        overlooked=tuple(s.step for s in alone if _most(levels(s)) == "much"),
    )


def _most(levels: Sequence[Level]) -> Level:
    """The level of the measure that finds most similarity."""
    return max(levels, key=LEVELS.index)
