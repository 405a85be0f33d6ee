"""What-if over many images: the rows of foretold and real changes."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import torch
from torch import Tensor

from chiaroscuro.choices import RANDOM
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import pixel_order, tie_priority
from chiaroscuro.fills import filled
from chiaroscuro.metrics import Forecast, forecast
from chiaroscuro.metrics.forecast import top_edit

WhatIfKey = tuple[str, str]
"""Map and fill."""

_WORD = pa.dictionary(pa.int16(), pa.string())
WHAT_IF_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("explained", pa.int32()),
        ("map", _WORD),
        ("fill", _WORD),
        ("foretold", pa.float32()),
        ("real", pa.list_(pa.float32())),
        ("kept", pa.list_(pa.bool_())),
        ("flip_foretold", pa.list_(pa.bool_())),
        ("flipped", pa.list_(pa.bool_())),
        ("changed", pa.int32()),
    ]
)
"""One row an image, map and fill; the lists have one entry a step of `WHAT_IF_STEPS`.

`foretold` is the explained logit's change to first order at step 1 (t times it at step t), `real`
what came; `kept`: within the tolerance; flips are of the predicted class; `changed` pixels.
"""


def forecasts(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    fill: str,
    fraction: float,
    seed: int,
) -> dict[str, Forecast]:
    """By map, and for a random order: what changing its first pixels foretells, and what comes."""
    priority = tie_priority(pixels, seed)
    orders = {name: pixel_order(values.detach(), priority) for name, values in maps.items()}
    changed = filled(pixels, fill, seed)
    return {
        name: forecast(classifier, pixels, top_edit(pixels, changed, order, fraction))
        for name, order in {**orders, RANDOM: priority}.items()
    }


def what_if_table(
    ids: Sequence[str], target: Tensor, found: Mapping[WhatIfKey, Forecast]
) -> Iterator[pa.Table]:
    """The rows of each image in turn."""
    words = [pa.array(column).dictionary_encode() for column in zip(*found, strict=True)]
    images = torch.arange(len(target))
    values = {
        "foretold": [one.predicted.cpu()[images, target.cpu()] for one in found.values()],
        "real": [one.real.cpu()[images, :, target.cpu()] for one in found.values()],
        "kept": [one.kept(target) for one in found.values()],
        "flip_foretold": [one.flips_foretold() for one in found.values()],
        "flipped": [one.flipped() for one in found.values()],
        "changed": [one.changed for one in found.values()],
    }  # fmt: skip
    stacked = {name: torch.stack(several, dim=1).cpu() for name, several in values.items()}
    for b, id_ in enumerate(ids):
        yield pa.Table.from_arrays(
            [
                pa.array([id_] * len(found)),
                pa.array([int(target[b])] * len(found), pa.int32()),
                *(word.cast(_WORD) for word in words),
                *(
                    pa.array(list(several[b].numpy()), WHAT_IF_SCHEMA.field(name).type)
                    for name, several in stacked.items()
                ),
            ],
            schema=WHAT_IF_SCHEMA,
        )
