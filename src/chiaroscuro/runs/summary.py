"""Rows of a run to figures: means with intervals, paired differences, classes."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from chiaroscuro.choices import RANDOM, EvaluationSettings
from chiaroscuro.data import LeftOut
from chiaroscuro.metrics.deletion import INVERTED
from chiaroscuro.metrics.intervals import BootstrapMeans, SignFlips, holm, interval, share_interval
from chiaroscuro.runs.accuracy import ClassNames
from chiaroscuro.runs.blocks import Block, read_block
from chiaroscuro.runs.promises import WhatIfSums
from chiaroscuro.runs.rows import Key
from chiaroscuro.runs.store import Part

SCHEMA = "chiaroscuro-evaluation/1"
_BROKEN_LISTED = 50
_DIGITS = 12
"""Figures are rounded here, so that a summary made anew is the same text."""


def summarize(
    parts: Sequence[Part],
    settings: EvaluationSettings,
    config: Mapping[str, Any],
    names: ClassNames,
) -> dict[str, Any]:
    """What `summary.json` holds: read part by part, so memory does not grow with the images.

    Means over images have percentile intervals of a Poisson bootstrap, accuracies Wilson's; pairs
    of maps are tested by sign flips of whole images, p-values corrected over all pairs of the run.
    `what_if` is there where the run asked for it.
    """
    sums: _Sums | None = None
    promises: WhatIfSums | None = None
    broken: list[LeftOut] = []
    left_out = 0
    for part in parts:
        found = part.broken
        left_out += len(found)
        broken += found[: _BROKEN_LISTED - len(broken)]
        table = part.read()
        if len(table):
            block = read_block(table, len(settings.fractions))
            sums = sums or _Sums(block.keys, settings, names)
            sums.add(block)
        if settings.what_if is not None and len(told := part.read_what_if()):
            promises = promises or WhatIfSums(told, settings)
            promises.add(told)
    what_if = {} if promises is None else {"what_if": promises.figures()}
    return {
        "schema": SCHEMA,
        "data": {
            "source": settings.data,
            "split": config["settings"]["split"],
            "images": 0 if sums is None else sums.means.images,
            "limit": settings.limit,
            "seed": settings.seed,
            "broken_count": left_out,
            "broken": [{"id": one.id, "reason": one.reason} for one in broken],
        },
        "model": config["model"],
        "accuracy": None if sums is None else sums.accuracy(),
        "accuracy_note": names.note,
        "choices": {"target": "predicted", **config["settings"]},
        "curves": [] if sums is None else sums.curves(),
        "differences": [] if sums is None else sums.differences(),
        "classes": [] if sums is None else sums.classes(),
        **what_if,
        "versions": config["versions"],
    }


class _Sums:
    """Everything that is added up over images."""

    def __init__(
        self, keys: tuple[Key, ...], settings: EvaluationSettings, names: ClassNames
    ) -> None:
        self.keys, self.settings, self.names = keys, settings, names
        self.fractions = np.array(settings.fractions)
        values = len(keys) * (2 * len(self.fractions) + 1)
        self.means = BootstrapMeans(values, settings.resamples, settings.seed)
        self.changed = np.zeros((len(keys), len(self.fractions)))
        self.pairs = _pairs(keys)
        self.flips = SignFlips(len(self.pairs), settings.flips, settings.seed)
        count = len(names.classes)
        self.class_images = np.zeros(count, np.int64)
        self.class_right = np.zeros(count, np.int64)
        self.class_areas = np.zeros((count, len(keys)))

    def add(self, block: Block) -> None:
        """Count a batch in."""
        areas = np.trapezoid(block.allegiance, self.fractions, axis=2)
        flat = (block.allegiance, block.probability)
        self.means.add(np.concatenate([*(v.reshape(len(v), -1) for v in flat), areas], axis=1))
        self.changed += block.changed.sum(axis=0)
        if self.pairs:
            first, second = np.array(self.pairs).T
            self.flips.add(areas[:, first] - areas[:, second])
        of = block.labels if self.names.by_label else block.predicted
        known = (of >= 0) & (of < len(self.class_images))
        np.add.at(self.class_images, of[known], 1)
        np.add.at(self.class_areas, of[known], areas[known])
        if self.names.target is not None:
            right = known & (self.names.target[block.labels] == block.predicted)
            np.add.at(self.class_right, of[right], 1)

    def accuracy(self) -> dict[str, float] | None:
        """The share of images whose predicted class is their own, with Wilson's interval."""
        count, right = int(self.class_images.sum()), int(self.class_right.sum())
        if self.names.target is None or not count:
            return None
        low, high = share_interval(right, count, self.settings.confidence)
        return _rounded({"value": right / count, "low": low, "high": high})

    def curves(self) -> list[dict[str, Any]]:
        """Mean allegiance and probability by fraction, and the areas, of every curve."""
        found = self.means.interval(self.settings.confidence)
        shape = (len(self.keys), len(self.fractions))
        ends = {"mean": found.value, "low": found.low, "high": found.high}
        size = shape[0] * shape[1]
        share = self.changed / self.means.images
        span = self.fractions[-1] - self.fractions[0]
        rows = []
        for j, (protocol, name, fill) in enumerate(self.keys):
            area = {
                "value" if end == "mean" else end: float(values[2 * size + j])
                for end, values in ends.items()
            }
            rows.append(
                {
                    "protocol": protocol,
                    "map": name,
                    "fill": fill,
                    "control": _is_control(name),
                    "allegiance": {
                        end: _round_all(values[:size].reshape(shape)[j])
                        for end, values in ends.items()
                    },
                    "probability": {
                        end: _round_all(values[size : 2 * size].reshape(shape)[j])
                        for end, values in ends.items()
                    },
                    "changed": _round_all(share[j]),
                    "area": _rounded(area),
                    "area_by_range": _rounded(
                        {k: v / span for k, v in area.items()} if span else area
                    ),
                }
            )
        return rows

    def differences(self) -> list[dict[str, Any]]:
        """Every pair of maps under one protocol and fill: area of the first minus the second's."""
        if not self.pairs:
            return []
        first, second = np.array(self.pairs).T
        at = 2 * len(self.keys) * len(self.fractions)
        mean, resampled = self.means.mean[at:], self.means.resampled[:, at:]
        found = interval(
            mean[first] - mean[second],
            resampled[:, first] - resampled[:, second],
            self.settings.confidence,
        )
        p_values = self.flips.p_values()
        corrected = holm(p_values)
        return [
            {
                "protocol": self.keys[a][0],
                "fill": self.keys[a][2],
                "map": self.keys[a][1],
                "against": self.keys[b][1],
                **_rounded(
                    {
                        "difference": float(found.value[i]),
                        "low": float(found.low[i]),
                        "high": float(found.high[i]),
                        "p": float(p_values[i]),
                        "p_holm": float(corrected[i]),
                    }
                ),
            }
            for i, (a, b) in enumerate(self.pairs)
        ]

    def classes(self) -> list[dict[str, Any]]:
        """Images, accuracy and areas of every class that has images."""
        rows = []
        for k in np.flatnonzero(self.class_images).tolist():
            count = int(self.class_images[k])
            areas = self.class_areas[k] / count
            accuracy = self.class_right[k] / count if self.names.target is not None else None
            rows.append(
                {
                    "class": self.names.classes[k],
                    "images": count,
                    "accuracy": None if accuracy is None else round(float(accuracy), _DIGITS),
                    "areas": [
                        {
                            "protocol": p,
                            "map": m,
                            "fill": f,
                            "area": round(float(areas[j]), _DIGITS),
                        }
                        for j, (p, m, f) in enumerate(self.keys)
                    ],
                }
            )
        return rows


def _pairs(keys: Sequence[Key]) -> list[tuple[int, int]]:
    """Places of the curves that are compared: maps with each other, and with a random order."""
    compared = [j for j, (_, name, _) in enumerate(keys) if not name.startswith(INVERTED)]
    return [
        (a, b)
        for a, b in combinations(compared, 2)
        if (keys[a][0], keys[a][2]) == (keys[b][0], keys[b][2])
    ]


def _is_control(name: str) -> bool:
    return name == RANDOM or name.startswith(INVERTED)


def _round_all(values: Iterable[Any]) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in values.items()}
