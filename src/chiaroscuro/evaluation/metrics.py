"""Metrics of an evaluation: rows of a table, each with a schema, rows of images, and figures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from chiaroscuro.errors import InputError
from chiaroscuro.evaluation import deletion, rows
from chiaroscuro.evaluation.deletion import ClassNames
from chiaroscuro.evaluation.rows import Sums
from chiaroscuro.evaluation.stacks import Stack
from chiaroscuro.evaluation.what_if import WHAT_IF_SCHEMA, WhatIfSums, what_if_rows
from chiaroscuro.metrics.agreement import ranks_correlation
from chiaroscuro.results.measurements import Figures, MetricRow
from chiaroscuro.settings import EvaluationSettings

Place = tuple[str, str, str]
"""Measure, map, and fill ("" where none matters)."""
Measure = Callable[[Stack], Mapping[Place, Tensor]]


@dataclass(frozen=True)
class Metric:
    """One thing that is measured of every image.

    `rows` gives a stack's rows, image by image and the same keys for every image; `sums` begins to
    add up, from a first table of rows.
    """

    name: str
    schema: pa.Schema
    rows: Callable[[Stack], pa.Table]
    sums: Callable[[pa.Table, EvaluationSettings, ClassNames], Sums]


VALUE_SCHEMA = rows.row_schema(
    (pa.string(), "id"), (rows.WORD, "measure map fill"), (pa.float64(), "value")
)
"""Rows of a metric that gives numbers: one per image, measure, map and fill."""


def number_metric(name: str, measure: Measure) -> Metric:
    """A metric of one number per image, measure, map and fill: (B,) for each (measure, map, fill).

    Its means over images have bootstrap intervals, and stand in `Evaluation.metrics`.
    """
    make_rows = partial(_number_rows, name, measure)
    return Metric(name, VALUE_SCHEMA, make_rows, partial(_NumberSums, name))


def _number_rows(name: str, measure: Measure, stack: Stack) -> pa.Table:
    values = measure(stack)
    for place, numbers in values.items():
        if numbers.shape != (len(stack.ids),) or not bool(numbers.isfinite().all()):
            raise InputError(
                f"metric {name}, {place}: shape {tuple(numbers.shape)}, expected one finite number "
                f"for each of {len(stack.ids)} images"
            )
    measures, maps, fills = zip(*values, strict=True)
    return rows.image_rows(
        VALUE_SCHEMA,
        {"id": stack.ids},
        {"measure": measures, "map": maps, "fill": fills},
        {"value": torch.stack([*values.values()], dim=1).double().cpu().numpy()},
    )


class _NumberSums(Sums):
    columns, measures = ("measure", "map", "fill"), ("value",)

    def __init__(self, name: str, *about: Any) -> None:
        self.name = name
        super().__init__(*about)

    def figures(self) -> Figures:
        ends = self.ends(len(self.keys))
        found = (
            MetricRow(self.name, measure, name, fill, rows.interval_at(ends, i))
            for i, (measure, name, fill) in enumerate(self.keys)
        )
        return Figures(metrics=tuple(found))


def gini(values: Tensor) -> Tensor:
    """How unequally each map's mass lies on its pixels (B,): 0 evenly on all, near 1 on one."""
    rising = values.double().flatten(1).sort(dim=1).values
    count = rising.shape[1]
    ranks = torch.arange(1, count + 1, device=values.device)
    mean_rank = (rising * ranks).sum(dim=1) / rising.sum(dim=1)
    return ((2 * mean_rank - count - 1) / count).nan_to_num(0.0)


def neighbor_correlation(values: Tensor) -> Tensor:
    """Correlation of each map with itself one pixel to the right and one below (B,): 0 is noise."""
    wide = values.double()
    return ranks_correlation(
        torch.cat([wide[:, :, :-1].flatten(1), wide[:, :-1].flatten(1)], dim=1),
        torch.cat([wide[:, :, 1:].flatten(1), wide[:, 1:].flatten(1)], dim=1),
    )


def sharpness(stack: Stack) -> dict[Place, Tensor]:
    """How unequally a map's mass lies on its pixels, and how smooth it is."""
    measures = {"gini": gini, "neighbors": neighbor_correlation}
    return {
        (measure, name, ""): call(values.abs())
        for measure, call in measures.items()
        for name, values in stack.saliency().items()
    }


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("deletion", deletion.DELETION_SCHEMA, deletion.deletion_rows, deletion.DeletionSums),
        number_metric("sharpness", sharpness),
    )
}
"""Every metric that `metrics=` takes by name."""

WHAT_IF = Metric("what-if", WHAT_IF_SCHEMA, what_if_rows, WhatIfSums)
"""Measured where the settings give `what_if`, the share of pixels that change."""
