"""One batch of images to rows of a sanity check."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.checks.layers import Layer, randomized
from chiaroscuro.checks.reference import POSITIVE_INSIDE, positive_inside
from chiaroscuro.choices import CheckSettings, method_name
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import Batch
from chiaroscuro.edits import image_seeds, pixel_rank, tie_priority
from chiaroscuro.errors import InputError, ModelError
from chiaroscuro.explanations.methods import make_method
from chiaroscuro.gradients import class_gradients
from chiaroscuro.maps import SaliencyMaps, saliency_maps
from chiaroscuro.metrics.similarity import (
    average_ranks,
    map_similarity,
    masks_overlap,
    ranks_correlation,
    top_count,
    top_mask,
)
from chiaroscuro.runs.rows import image_stacks, rival_rule

TESTS = ("cascade", "alone", "class", "noise", "random")
MEASURES = ("correlation", "overlap")
_ORDERS_FROM = 1000
"""Random orders have seeds from here on; the first few break ties."""

_WORD = pa.dictionary(pa.int16(), pa.string())
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("predicted", pa.int32()),
        ("method", _WORD),
        ("map", _WORD),
        ("test", _WORD),
        ("step", pa.int16()),
        ("draw", pa.int16()),
        ("correlation", pa.float32()),
        ("overlap", pa.float32()),
        ("constant", pa.bool_()),
    ]
)
"""One row an image, method, map, test, step and draw: how alike the map and the other one are.

`step` counts layers from the output, 1 the last; `draw` random weights, noise or orders;
`constant` says that the other map has one value everywhere, and so no order.
"""


class Key(NamedTuple):
    """What a row compares a map with."""

    method: str
    map: str
    test: str
    step: int
    draw: int


@dataclass(frozen=True, eq=False)
class Compared:
    """Images of one size: their places in the batch, classes (B,), and values by key.

    `values` (B, 3): rank correlation, top overlap, and whether the other map is constant.
    """

    places: tuple[int, ...]
    predicted: tuple[int, ...]
    values: Mapping[Key, NDArray[np.float64]]


def compare_batch(
    classifier: Classifier, layers: tuple[Layer, ...], batch: Batch, settings: CheckSettings
) -> Iterator[Compared]:
    """Every comparison of a batch's images, those of one size together.

    The class explained is the one that the untouched network predicts for the untouched image, in
    every comparison but that of the second-best class.
    """
    for places, pixels in image_stacks(classifier, batch):
        best = classifier(pixels).topk(2, dim=1).indices
        values = dict(_compare(classifier, layers, pixels, best, settings))
        yield Compared(tuple(places), tuple(best[:, 0].tolist()), values)


def check_rows(batch: Batch, compared: list[Compared]) -> pa.Table:
    """The rows of a batch, image by image, in the order of the images."""
    tables = {
        place: _table(batch.ids[place], found.predicted[b], b, found.values)
        for found in compared
        for b, place in enumerate(found.places)
    }
    if not tables:
        return SCHEMA.empty_table()
    return pa.concat_tables([tables[place] for place in sorted(tables)]).unify_dictionaries()


def _compare(
    classifier: Classifier,
    layers: tuple[Layer, ...],
    pixels: Tensor,
    best: Tensor,
    settings: CheckSettings,
) -> Iterator[tuple[Key, NDArray[np.float64]]]:
    first, second = best.unbind(dim=1)
    ask = partial(_all_maps, settings=settings)
    clean = ask(classifier, pixels, first)
    alike = partial(_alike, clean, pixels, settings)
    yield from alike(ask(classifier, pixels, second), "class", 1, 0)
    for draw in range(settings.draws):
        yield from alike(ask(classifier, _noisy(pixels, settings, draw), first), "noise", 1, draw)
        for step in range(1, len(layers) + 1):
            with _told_of(layers[step - 1]):
                top = randomized(classifier, layers[:step], settings.seed, draw)
                found = ask(top, pixels, first)
                yield from alike(found, "cascade", step, draw)
                if step > 1:
                    one = randomized(classifier, layers[step - 1 : step], settings.seed, draw)
                    found = ask(one, pixels, first)
                yield from alike(found, "alone", step, draw)
    for method, maps in clean.items():
        for name, values in maps.items():
            for draw, row in enumerate(_random_orders(values, pixels, settings)):
                yield Key(method, name, "random", 0, draw), row


@contextmanager
def _told_of(layer: Layer) -> Iterator[None]:
    """A network that random weights break is named with the layer that got them last."""
    try:
        yield
    except (ModelError, InputError) as error:
        raise ModelError(f"with new random weights in layer {layer.name}: {error}") from error


def _all_maps(
    classifier: Classifier, pixels: Tensor, target: Tensor, settings: CheckSettings
) -> dict[str, SaliencyMaps]:
    """The maps of every method, by method and map."""
    asked: dict[str, tuple[Classifier, Any]] = {
        method_name(method): (classifier, make_method(method, classifier))
        for method in settings.method_options
    }
    if settings.reference and (changed := positive_inside(classifier)) is not None:
        asked[POSITIVE_INSIDE] = (changed, "gradient")
    rule = rival_rule(classifier, settings.rivals)
    return {
        name: saliency_maps(
            class_gradients(
                one, pixels, target, rivals=rule, method=method, score=settings.score
            ),
            settings.maps,
        )
        for name, (one, method) in asked.items()
    }  # fmt: skip


def _alike(
    clean: Mapping[str, SaliencyMaps],
    pixels: Tensor,
    settings: CheckSettings,
    others: Mapping[str, SaliencyMaps],
    test: str,
    step: int,
    draw: int,
) -> Iterator[tuple[Key, NDArray[np.float64]]]:
    for method, maps in clean.items():
        for name, values in maps.items():
            other = others[method][name]
            found = map_similarity(values, other, pixels, settings.share, settings.seed)
            flat = other.flatten(1)
            constant = flat.amax(dim=1) == flat.amin(dim=1)
            rows = torch.stack([found.correlation, found.overlap, constant.double()], dim=1)
            yield Key(method, name, test, step, draw), rows.cpu().numpy()


def _noisy(pixels: Tensor, settings: CheckSettings, draw: int) -> Tensor:
    """Pixels with Gaussian noise, cut to [0, 1]; an image gets the same noise in any batch."""
    noise = [
        np.random.default_rng([seed, draw]).normal(0, settings.noise, pixels.shape[1:])
        for seed in image_seeds(pixels, settings.seed)
    ]
    return (pixels + torch.from_numpy(np.stack(noise)).to(pixels)).clamp(0, 1)


def _random_orders(
    values: Tensor, pixels: Tensor, settings: CheckSettings
) -> Iterator[NDArray[np.float64]]:
    """The map against random orders of the pixels: what it has in common with nothing."""
    count = top_count(values[0].numel(), settings.share)
    ranks = average_ranks(values.flatten(1))
    top = top_mask(values, tie_priority(pixels, settings.seed), count)
    for draw in range(settings.orders):
        places = pixel_rank(tie_priority(pixels, settings.seed + _ORDERS_FROM + draw))
        found = (ranks_correlation(ranks, -places.double()), masks_overlap(top, places < count))
        yield torch.stack([*found, torch.zeros_like(found[0])], dim=1).cpu().numpy()


def _table(
    id_: str, predicted: int, b: int, values: Mapping[Key, NDArray[np.float64]]
) -> pa.Table:  # fmt: skip
    """One image's rows."""
    count = len(values)
    methods, maps, tests, steps, draws = zip(*values, strict=True)
    found = np.stack([rows[b] for rows in values.values()])
    columns = [
        pa.array([id_] * count),
        pa.array([predicted] * count, pa.int32()),
        *(pa.array(words).dictionary_encode().cast(_WORD) for words in (methods, maps, tests)),
        pa.array(steps, pa.int16()),
        pa.array(draws, pa.int16()),
        pa.array(found[:, 0], pa.float32()),
        pa.array(found[:, 1], pa.float32()),
        pa.array(found[:, 2] > 0, pa.bool_()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)
