"""Rows of what classes take of images: computed by a pass, or kept with stored maps."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from chiaroscuro.evaluation import rows
from chiaroscuro.images.regions import Mask
from chiaroscuro.metrics.competition import Competition

SCHEMA = rows.row_schema(
    (pa.string(), "id"),
    (pa.int32(), "batch target predicted rival"),
    (pa.float64(), "brighter darker lead inside region"),
    (pa.list_(pa.float32()), "grid colors"),
)
"""One row per image and class that takes changes of it, first its target; see `Competition`.

`rival` is the target itself in its own row; `brighter` and `darker` are `taken`. `inside` and
`region`, its share of the picture, are null without a region. The lists are flat, row by row.
"""


def competitor_rows(
    one: Competition, id_: str, batch: int, region: Mask | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of an image of this id and batch."""
    for r, rival in enumerate(one.classes.tolist()):
        yield {
            "id": id_,
            "batch": batch,
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
