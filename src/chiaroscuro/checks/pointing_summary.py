"""Rows of a localization to means with intervals and their distance from chance."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from chiaroscuro.catalog import versions
from chiaroscuro.choices import LocalizationSettings, method_name
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet, LeftOut
from chiaroscuro.errors import InputError
from chiaroscuro.metrics.intervals import BootstrapMeans, SignFlips, holm
from chiaroscuro.runs.config import weights_digest
from chiaroscuro.runs.store import Part

SCHEMA = "chiaroscuro-localization/1"
MEASURES = ("hit", "energy", "chance_hit", "chance_energy", "center_hit")
_DIGITS = 6


def summarize_localization(
    parts: Sequence[Part],
    classifier: Classifier,
    settings: LocalizationSettings,
    images: ImageSet,
    left_out: Sequence[LeftOut],
) -> dict[str, Any]:
    """What `localization.json` holds."""
    means = BootstrapMeans(len(settings.maps) * len(MEASURES), settings.resamples, settings.seed)
    flips = SignFlips(2 * len(settings.maps), settings.flips, settings.seed)
    for part in parts:
        table = part.read()
        shape = (len(settings.maps), len(table) // len(settings.maps))
        values = np.stack([table[name].to_numpy().reshape(shape) for name in MEASURES])  # (5, M, B)
        means.add(values.transpose(2, 1, 0).reshape(shape[1], -1))
        flips.add((values[:2] - values[2:4]).transpose(2, 1, 0).reshape(shape[1], -1))
    if not means.images:
        reason = f", the first because: {left_out[0].id}: {left_out[0].reason}" if left_out else ""
        raise InputError(
            f"{settings.regions}: no image of {settings.data} has a region to point at{reason}; "
            "ids are paths in the folder, or SPLIT#ROW"
        )
    chosen = {field.name: getattr(settings, field.name) for field in fields(settings)}
    chosen.update(method=method_name(settings.method), split=images.split, maps=list(settings.maps))
    return {
        "schema": SCHEMA,
        "data": {
            "source": settings.data, "split": images.split, "images": means.images,
            "left_out_count": len(left_out),
            "left_out": [{"id": one.id, "reason": one.reason} for one in left_out[:50]],
        },
        "model": {**classifier.describe(), "sha256": weights_digest(classifier)},
        "choices": chosen,
        "maps": _entries(settings, means, flips),
        "versions": versions(),
    }  # fmt: skip


def _entries(
    settings: LocalizationSettings, means: BootstrapMeans, flips: SignFlips
) -> list[dict[str, Any]]:
    found = means.interval(settings.confidence)
    shape = (len(settings.maps), len(MEASURES))
    value, low, high = (v.reshape(shape) for v in (found.value, found.low, found.high))
    p_values = holm(flips.p_values()).reshape(-1, 2)
    return [
        {
            "map": name,
            **{
                measure: {
                    "value": _round(value[i, m]), "low": _round(low[i, m]),
                    "high": _round(high[i, m]),
                }
                for m, measure in enumerate(MEASURES)
            },
            "p_holm": {"hit": _round(p_values[i, 0]), "energy": _round(p_values[i, 1])},
        }
        for i, name in enumerate(settings.maps)
    ]  # fmt: skip


def _round(value: Any) -> float:
    return round(float(value), _DIGITS)
