"""One batch of images to rows: the function that every engine runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from chiaroscuro.choices import RivalRule, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import Batch
from chiaroscuro.gradients import ClassGradients, class_gradients
from chiaroscuro.maps import SaliencyMaps, saliency_maps
from chiaroscuro.metrics import DeletionCurve, curves_by_fill
from chiaroscuro.runs.settings import EvaluationSettings

Key = tuple[str, str, str]
"""Protocol, map and fill."""

_WORD = pa.dictionary(pa.int16(), pa.string())
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("explained", pa.int32()),
        ("protocol", _WORD),
        ("map", _WORD),
        ("fill", _WORD),
        ("allegiance", pa.list_(pa.bool_())),
        ("probability", pa.list_(pa.float32())),
        ("logit", pa.list_(pa.float32())),
        ("changed", pa.list_(pa.int32())),
        ("pixels", pa.int32()),
    ]
)
"""One row an image, protocol, map and fill; the lists have one entry a fraction.

`label` is the data set's class or null, `predicted` and `explained` are the model's; `changed` are
pixels that really became others, of `pixels` in all.
"""


@dataclass(frozen=True, eq=False)
class Measured:
    """Images of one size with what was found of them: what rows and examples are made of."""

    places: Sequence[int]
    pixels: Tensor
    gradients: ClassGradients
    maps: SaliencyMaps
    curves: dict[Key, DeletionCurve]


def measure(
    classifier: Classifier, batch: Batch, settings: EvaluationSettings
) -> Iterator[Measured]:
    """Predict, explain and delete a batch's images, those of one size together."""
    rule = rival_rule(classifier, settings.rivals)
    weight = next(classifier.module.parameters(), torch.zeros(()))
    for places in _by_size(batch):
        stacked = np.stack([batch.pixels[place] for place in places])
        pixels = torch.from_numpy(stacked).to(weight.device)
        if weight.is_floating_point():
            pixels = pixels.to(weight.dtype)
        found = class_gradients(classifier, pixels, rivals=rule, score=settings.score)
        maps = saliency_maps(found, settings.maps)
        curves = {
            (protocol, name, fill): curve
            for fill, found_curves in curves_by_fill(
                classifier, pixels, maps, settings.fills, settings.fractions, settings.protocols,
                target=found.target, seed=settings.seed,
            ).items()
            for (protocol, name), curve in found_curves.items()
        }  # fmt: skip
        yield Measured(places, pixels, found, maps, curves)


def rival_rule(classifier: Classifier, rivals: str) -> RivalRule:
    """The rule of a word: "all", "top:N", or classes by index or name, separated by ";"."""
    if rivals == "all" or rivals.startswith("top:"):
        return parse_rivals(rivals)
    return parse_rivals([classifier.class_index(name) for name in rivals.split(";")])


def batch_rows(batch: Batch, measured: Sequence[Measured]) -> pa.Table:
    """The rows of a batch, image by image, in the order of the images."""
    tables = [table for part in measured for table in _tables(batch, part)]
    if not tables:
        return SCHEMA.empty_table()
    order = [place for part in measured for place in part.places]
    return pa.concat_tables([tables[i] for i in np.argsort(order)]).unify_dictionaries()


def _by_size(batch: Batch) -> list[list[int]]:
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, pixels in enumerate(batch.pixels):
        sizes.setdefault(pixels.shape, []).append(place)
    return list(sizes.values())


def _tables(batch: Batch, found: Measured) -> Iterator[pa.Table]:
    """One table an image."""
    predicted = found.gradients.logits.argmax(dim=1).tolist()
    explained = found.gradients.target.tolist()
    count = len(found.curves)
    stacked = {
        name: torch.stack([getattr(c, name) for c in found.curves.values()], dim=1).cpu().numpy()
        for name in ("allegiance", "probability", "logit", "changed")
    }
    words = [pa.array(column).dictionary_encode() for column in zip(*found.curves, strict=True)]
    for b, place in enumerate(found.places):
        lists = [
            pa.array(list(values[b]), SCHEMA.field(name).type) for name, values in stacked.items()
        ]
        columns = [
            pa.array([batch.ids[place]] * count),
            pa.array([batch.labels[place]] * count, pa.int32()),
            pa.array([predicted[b]] * count, pa.int32()),
            pa.array([explained[b]] * count, pa.int32()),
            *(word.cast(_WORD) for word in words),
            *lists,
            pa.array([found.pixels[b, 0].numel()] * count, pa.int32()),
        ]
        yield pa.Table.from_arrays(columns, schema=SCHEMA)
