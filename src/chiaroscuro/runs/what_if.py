"""What-if over many images: the rows of foretold and real changes."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import torch
from torch import Tensor

from chiaroscuro.choices import RANDOM
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import filled, pixel_order, tie_priority, top_edit
from chiaroscuro.metrics import Linearity, linearity
from chiaroscuro.runs.columns import WORD, image_rows

WhatIfKey = tuple[str, str]
"""Map and fill."""

WHAT_IF_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("explained", pa.int32()),
        ("map", WORD),
        ("fill", WORD),
        ("foretold", pa.float32()),
        ("real", pa.list_(pa.float32())),
        ("kept", pa.list_(pa.bool_())),
        ("flip_foretold", pa.list_(pa.bool_())),
        ("flipped", pa.list_(pa.bool_())),
        ("changed", pa.int32()),
    ]
)
"""One row an image, map and fill; the lists have one entry a step of `WHAT_IF_STEPS`.

`foretold` is the target logit's change to first order at step 1 (t times it at step t), `real`
what came; `kept`: within the tolerance; flips are of the predicted class; `changed` pixels.
"""


def forecasts(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    fill: str,
    fraction: float,
    seed: int,
) -> dict[str, Linearity]:
    """By map, and for a random order: what changing its first pixels foretells, and what comes."""
    priority = tie_priority(pixels, seed)
    orders = {name: pixel_order(values.detach(), priority) for name, values in maps.items()}
    changed = filled(pixels, fill, seed)
    return {
        name: linearity(classifier, pixels, top_edit(pixels, changed, order, fraction))
        for name, order in {**orders, RANDOM: priority}.items()
    }


def what_if_table(
    ids: Sequence[str], target: Tensor, found: Mapping[WhatIfKey, Linearity]
) -> pa.Table:
    """The rows of each image in turn."""
    names, fills = zip(*found, strict=True)
    images = torch.arange(len(target))
    values = {
        "foretold": [one.predicted_change.cpu()[images, target.cpu()] for one in found.values()],
        "real": [one.actual_change.cpu()[images, :, target.cpu()] for one in found.values()],
        "kept": [one.within_tolerance(target) for one in found.values()],
        "flip_foretold": [one.predicted_flips() for one in found.values()],
        "flipped": [one.flips() for one in found.values()],
        "changed": [one.changed for one in found.values()],
    }  # fmt: skip
    return image_rows(
        WHAT_IF_SCHEMA,
        {"id": ids, "explained": target.tolist()},
        {"map": names, "fill": fills},
        {n: torch.stack(several, dim=1).cpu().numpy() for n, several in values.items()},
    )
