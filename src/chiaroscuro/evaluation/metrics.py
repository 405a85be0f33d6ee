"""Metrics of an evaluation: rows of a table, each with a schema, rows of images, and figures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
import torch
from torch import Tensor

from chiaroscuro.errors import InputError
from chiaroscuro.evaluation.classes import ClassNames
from chiaroscuro.evaluation.columns import WORD, image_rows, read_keys, read_values
from chiaroscuro.evaluation.deletion import DELETION_SCHEMA, DeletionSums, deletion_rows
from chiaroscuro.evaluation.figures import interval_at
from chiaroscuro.evaluation.sharpness import gini, neighbor_correlation
from chiaroscuro.evaluation.stacks import Stack
from chiaroscuro.evaluation.what_if import WHAT_IF_SCHEMA, WhatIfSums, what_if_rows
from chiaroscuro.metrics.intervals import BootstrapMeans
from chiaroscuro.results.measurements import Figures, MetricRow
from chiaroscuro.settings import EvaluationSettings

Place = tuple[str, str, str]
"""Measure, map, and fill ("" where none matters)."""


class Sums(Protocol):
    """What is added up over images; memory does not grow with them."""

    def add(self, table: pa.Table) -> None:
        """Count a batch's rows in."""

    def figures(self) -> Figures:
        """Means with intervals of all that was added."""


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


VALUE_SCHEMA = pa.schema(
    [("id", pa.string()), ("measure", WORD), ("map", WORD), ("fill", WORD), ("value", pa.float64())]
)
"""Rows of a metric that gives numbers: one per image, measure, map and fill."""


def number_metric(name: str, measure: Callable[[Stack], Mapping[Place, Tensor]]) -> Metric:
    """A metric of one number per image, measure, map and fill: (B,) for each (measure, map, fill).

    Its means over images have bootstrap intervals, and stand in `Evaluation.metrics`.
    """
    return Metric(name, VALUE_SCHEMA, _NumberRows(name, measure), partial(_NumberSums, name))


@dataclass(frozen=True)
class _NumberRows:
    name: str
    measure: Callable[[Stack], Mapping[Place, Tensor]]

    def __call__(self, stack: Stack) -> pa.Table:
        values = self.measure(stack)
        for place, numbers in values.items():
            if numbers.shape != (len(stack.ids),) or not bool(numbers.isfinite().all()):
                raise InputError(
                    f"metric {self.name}, {place}: shape {tuple(numbers.shape)}, expected one "
                    f"finite number for each of {len(stack.ids)} images"
                )
        measures, maps, fills = zip(*values, strict=True)
        return image_rows(
            VALUE_SCHEMA,
            {"id": stack.ids},
            {"measure": measures, "map": maps, "fill": fills},
            {"value": torch.stack([*values.values()], dim=1).double().cpu().numpy()},
        )


class _NumberSums:
    def __init__(
        self, name: str, table: pa.Table, settings: EvaluationSettings, _: ClassNames
    ) -> None:
        self.name, self.confidence = name, settings.confidence
        self.keys = read_keys(table, ("measure", "map", "fill"))
        self.means = BootstrapMeans(len(self.keys), settings.resamples, settings.seed)

    def add(self, table: pa.Table) -> None:
        """See `Sums`."""
        self.means.add(read_values(table, "value", len(self.keys)))

    def figures(self) -> Figures:
        """See `Sums`."""
        ends = self.means.interval(self.confidence)
        rows = [
            MetricRow(self.name, measure, name, fill, interval_at(ends, i))
            for i, (measure, name, fill) in enumerate(self.keys)
        ]
        return Figures(metrics=tuple(rows))


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
        Metric("deletion", DELETION_SCHEMA, deletion_rows, DeletionSums),
        number_metric("sharpness", sharpness),
    )
}
"""Every metric that `metrics=` takes by name."""

WHAT_IF = Metric("what-if", WHAT_IF_SCHEMA, what_if_rows, WhatIfSums)
"""Measured where the settings give `what_if`, the share of pixels that change."""


def chosen_metrics(settings: EvaluationSettings) -> tuple[Metric, ...]:
    """The metrics of an evaluation."""
    named: list[Any] = [METRICS.get(m, m) if isinstance(m, str) else m for m in settings.metrics]
    return (*named, *([WHAT_IF] if settings.what_if is not None else []))
