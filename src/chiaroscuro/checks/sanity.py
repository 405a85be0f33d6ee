"""The sanity check of a classifier's maps, as a pass over an image set that can be resumed."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.checks.layers import (
    POSITIVE_INSIDE,
    find_layers,
    positive_inside,
    randomized,
)
from chiaroscuro.checks.verdicts import SanitySums
from chiaroscuro.choices import method_name
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import Batch, ImageSet, load_images, read_batches
from chiaroscuro.edits import image_seeds, pixel_rank, tie_priority
from chiaroscuro.errors import ChoiceError, InputError, ModelError
from chiaroscuro.evaluation.columns import WORD, image_rows, in_image_order
from chiaroscuro.evaluation.run import describe_method, no_image
from chiaroscuro.evaluation.stacks import image_stacks, rival_rule
from chiaroscuro.explanations.reading import make_method
from chiaroscuro.gradients import class_gradients
from chiaroscuro.maps import SaliencyMaps, saliency_maps
from chiaroscuro.metrics.agreement import (
    average_ranks,
    map_similarity,
    masks_overlap,
    ranks_correlation,
    top_count,
    top_mask,
)
from chiaroscuro.passes import (
    Progress,
    data_facts,
    images_at_a_time,
    part_of,
    run_pass,
    silent,
)
from chiaroscuro.results import KINDS, Kind
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.measurements import Layer, SanityCheck
from chiaroscuro.results.runs import Part, RunConfig
from chiaroscuro.settings import CheckSettings, settings_from, takes

_ORDERS_FROM = 1000
"""Random orders have seeds from here on; the first few break ties."""
_ROWS = "rows"

SANITY_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("predicted", pa.int32()),
        ("method", WORD),
        ("map", WORD),
        ("test", WORD),
        ("step", pa.int16()),
        ("draw", pa.int16()),
        ("correlation", pa.float32()),
        ("overlap", pa.float32()),
        ("constant", pa.bool_()),
    ]
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
    and index.html. `resume`, `workers` and `data_root` are as for `evaluate`.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` may not be used.
    Source: Adebayo et al., Sanity checks for saliency maps, 2018 (cascading and independent
    randomization); CASE, 2025 (overlap of the two best classes).
    """
    chosen = settings_from(CheckSettings, settings, {"data": data, **options})
    images = load_images(**chosen.source, root=data_root)
    return run_pass(
        SanityTask(chosen),
        classifier,
        images,
        out,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        progress=progress,
    )


class Key(NamedTuple):
    """What a map is compared with."""

    method: str
    map: str
    test: str
    step: int
    draw: int


Values = NDArray[np.float64]
Compared = Iterator[tuple[Key, Values]]
"""By key, (B, 3): rank correlation, top overlap, and whether the other map is constant."""


@dataclass(frozen=True)
class SanityTask:
    """See `Task`. `methods` (by name) and `layers` are set by `set_up`."""

    settings: CheckSettings
    methods: tuple[tuple[str, Any], ...] = ()
    layers: tuple[Layer, ...] = ()
    kind: ClassVar[Kind] = KINDS["check"]

    def set_up(self, classifier: Classifier, images: ImageSet) -> "SanityTask":
        """See `Task`."""
        settings = self.settings
        classes = rival_rule(classifier, settings.rivals).classes
        if classes is not None and len(classes) < 2:
            raise ChoiceError(
                f"rivals is {settings.rivals!r}: the maps of the two best classes are compared, "
                "and each needs a rival: give at least two classes, or top:N"
            )
        methods = tuple(
            (method_name(given), make_method(options, classifier))
            for given, options in zip(settings.methods, settings.method_options, strict=True)
        )
        pixels = _first_pixels(classifier, images, settings)
        return replace(
            self, methods=methods, layers=find_layers(classifier, pixels, settings.depths or None)
        )

    def facts(self) -> Mapping[str, Any]:
        """See `Task`."""
        return {
            "methods": [describe_method(method) for _, method in self.methods],
            "layers": [list(layer.modules) for layer in self.layers],
        }

    def process(self, classifier: Classifier, batch: Batch) -> Part:
        """See `Task`.

        The target is the class that the untouched network predicts for the untouched image, in
        every comparison but that of the second-best class.
        """
        tables, places = [], []
        for where, pixels in image_stacks(classifier, batch):
            best = classifier(pixels).topk(2, dim=1).indices
            values = dict(self._compare(classifier, pixels, best))
            keys = dict(zip(Key._fields, zip(*values, strict=True), strict=True))
            numbers = np.stack([*values.values()], axis=1)  # (B, R, 3)
            images = {"id": [batch.ids[i] for i in where], "predicted": best[:, 0].tolist()}
            columns = {
                "correlation": numbers[..., 0],
                "overlap": numbers[..., 1],
                "constant": numbers[..., 2] > 0,
            }
            tables.append(image_rows(SANITY_SCHEMA, images, keys, columns))
            places.append(where)
        return part_of(batch, {_ROWS: in_image_order(tables, places, SANITY_SCHEMA)})

    def summarize(self, parts: Iterable[Part], run: RunConfig, images: ImageSet) -> SanityCheck:
        """See `Task`."""
        sums: SanitySums | None = None
        left_out: list[LeftOut] = []
        for part in parts:
            left_out += part.left_out
            table = part.tables[_ROWS]
            if len(table):
                sums = sums or SanitySums(table, self.settings)
                sums.add(table)
        if sums is None:
            raise no_image(images, left_out)
        return SanityCheck(
            settings=self.settings,
            data=data_facts(images, sums.means.images, left_out, self.settings.seed),
            model=run.model,
            layers=self.layers,
            maps=tuple(sums.maps()),
            versions=run.versions,
        )

    def _compare(self, classifier: Classifier, pixels: Tensor, best: Tensor) -> Compared:
        settings = self.settings
        first, second = best.unbind(dim=1)
        clean = self._all_maps(classifier, pixels, first)
        against = partial(_similarities, clean, pixels, settings)
        yield from against(self._all_maps(classifier, pixels, second), "class", 1, 0)
        for draw in range(settings.draws):
            noisy = self._all_maps(classifier, _noisy(pixels, settings, draw), first)
            yield from against(noisy, "noise", 1, draw)
            for step in range(1, len(self.layers) + 1):
                with _naming(self.layers[step - 1]):
                    top = randomized(classifier, self.layers[:step], settings.seed, draw)
                    maps = self._all_maps(top, pixels, first)
                    yield from against(maps, "cascade", step, draw)
                    if step > 1:
                        layer = self.layers[step - 1 : step]
                        one = randomized(classifier, layer, settings.seed, draw)
                        maps = self._all_maps(one, pixels, first)
                    yield from against(maps, "alone", step, draw)
        for method, saliency in clean.items():
            for name, values in saliency.items():
                for draw, row in enumerate(_random_orders(values, pixels, settings)):
                    yield Key(method, name, "random", 0, draw), row

    def _all_maps(
        self, classifier: Classifier, pixels: Tensor, target: Tensor
    ) -> dict[str, SaliencyMaps]:
        """The maps of every method, by method and map."""
        settings = self.settings
        chosen = {name: (classifier, method) for name, method in self.methods}
        if settings.reference and (changed := positive_inside(classifier)) is not None:
            chosen[POSITIVE_INSIDE] = (changed, "gradient")
        rule = rival_rule(classifier, settings.rivals)
        return {
            name: saliency_maps(
                class_gradients(
                    one, pixels, target, rivals=rule, method=method, score=settings.score
                ),
                settings.maps,
            )
            for name, (one, method) in chosen.items()
        }


def _first_pixels(classifier: Classifier, images: ImageSet, settings: CheckSettings) -> Tensor:
    """The first image that can be used, (1, C, H, W)."""
    left_out: list[LeftOut] = []
    batches = read_batches(
        images,
        classifier.framing,
        images_at_a_time(classifier),
        channels=classifier.channels,
        rgb_only=settings.rgb_only,
    )
    for batch in batches:
        for _, pixels in image_stacks(classifier, batch):
            return pixels[:1]
        left_out += (LeftOut(one.id, one.reason) for one in batch.left_out)
    raise no_image(images, left_out)


@contextmanager
def _naming(layer: Layer) -> Iterator[None]:
    """Name the layer that got random weights last where they break the network."""
    try:
        yield
    except (ModelError, InputError) as error:
        raise ModelError(f"with new random weights in layer {layer.name}: {error}") from error


def _similarities(
    clean: Mapping[str, SaliencyMaps],
    pixels: Tensor,
    settings: CheckSettings,
    others: Mapping[str, SaliencyMaps],
    test: str,
    step: int,
    draw: int,
) -> Compared:
    for method, maps in clean.items():
        for name, values in maps.items():
            other = others[method][name]
            similar = map_similarity(values, other, pixels, settings.share, settings.seed)
            flat = other.flatten(1)
            constant = flat.amax(dim=1) == flat.amin(dim=1)
            rows = [similar.correlation, similar.overlap, constant.double()]
            yield Key(method, name, test, step, draw), torch.stack(rows, dim=1).cpu().numpy()


def _noisy(pixels: Tensor, settings: CheckSettings, draw: int) -> Tensor:
    """Pixels with Gaussian noise, cut to [0, 1]; an image gets the same noise in any batch."""
    noise = [
        np.random.default_rng([seed, draw]).normal(0, settings.noise, pixels.shape[1:])
        for seed in image_seeds(pixels, settings.seed)
    ]
    return (pixels + torch.from_numpy(np.stack(noise)).to(pixels)).clamp(0, 1)


def _random_orders(values: Tensor, pixels: Tensor, settings: CheckSettings) -> Iterator[Values]:
    """The map against random orders of the pixels: the similarity that chance has."""
    count = top_count(values[0].numel(), settings.share)
    ranks = average_ranks(values.flatten(1))
    top = top_mask(values, tie_priority(pixels, settings.seed), count)
    for draw in range(settings.orders):
        places = pixel_rank(tie_priority(pixels, settings.seed + _ORDERS_FROM + draw))
        rows = [ranks_correlation(ranks, -places.double()), masks_overlap(top, places < count)]
        yield torch.stack([*rows, torch.zeros_like(rows[0])], dim=1).cpu().numpy()
