"""Localization of a classifier's maps over an image set with boxes or masks, into a folder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from chiaroscuro.checks.pointing_summary import MEASURES, SCHEMA, summarize_localization
from chiaroscuro.checks.regions import Mask, Regions, load_regions
from chiaroscuro.choices import LocalizationSettings
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet, LeftOut, load_images, read_row
from chiaroscuro.errors import ImageError, InputError
from chiaroscuro.explanations.methods import make_method
from chiaroscuro.gradients import class_gradients
from chiaroscuro.maps import saliency_maps
from chiaroscuro.metrics.localization import localization
from chiaroscuro.render import smooth
from chiaroscuro.report import localization_page
from chiaroscuro.runs.accuracy import match_classes
from chiaroscuro.runs.config import images_at_a_time
from chiaroscuro.runs.rows import rival_rule
from chiaroscuro.runs.store import RunStore
from chiaroscuro.staging import staged_folder

MARKER = "localization.json"
"""The file that marks a folder as a localization; it holds every figure of the page."""
_ROWS = pa.schema(
    [("id", pa.string()), ("explained", pa.int32()), ("map", pa.string())]
    + [(name, pa.float64()) for name in MEASURES]
)

OnImages = Callable[[int, int | None], object]


@dataclass(frozen=True, eq=False)
class _Case:
    """One image with its region on the network's pixels, and the class to explain or None."""

    id: str
    pixels: NDArray[np.float32]
    region: Mask
    label: int | None


def localize(
    classifier: Classifier,
    settings: LocalizationSettings,
    out: str | Path,
    *,
    overwrite: bool = False,
    data_root: str | Path | None = None,
    on_images: OnImages = lambda done, total: None,
) -> dict[str, Any]:
    """The pointing game and the energy share of every map on images with boxes or masks.

    Images without a region, with an empty one after framing, or with one that is the whole picture
    ask nothing and are left out, counted. Each mean has a bootstrap interval over images, and its
    difference from a random order a p-value by sign flips, corrected over maps and measures (Holm).
    `out` gets rows/, index.html, localization.json (returned) and last manifest.json.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` may not be used.
    """
    images = load_images(**settings.source, root=data_root)
    classes = _label_classes(classifier, settings, images)
    regions = load_regions(settings.regions, images.split)
    with staged_folder(out, MARKER, overwrite=overwrite) as stage:
        store = RunStore(stage)
        left_out: list[LeftOut] = []
        told = _Told(images.count, on_images)
        groups = _groups(classifier, settings, images, regions, left_out, told)
        for number, group in enumerate(groups):
            store.write_part(number, _rows(classifier, settings, group, classes), ())
        summary = summarize_localization(store.parts(), classifier, settings, images, left_out)
        (stage / "index.html").write_text(localization_page(summary), encoding="utf-8")
        store.write_json(MARKER, summary)
        store.finish({"schema": SCHEMA})
    return summary


def _label_classes(
    classifier: Classifier, settings: LocalizationSettings, images: ImageSet
) -> NDArray[np.int64] | None:
    """The model's class of each of the data's; None where its number is asked for, or no label."""
    if settings.target != "label":
        return None
    found = match_classes(classifier, images.labels)
    if found.target is None:
        raise InputError(
            f"target label: {found.note}; give --target index where the data's class numbers are "
            "the model's"
        )
    return found.target


class _Told:
    def __init__(self, total: int | None, on_images: OnImages) -> None:
        self.done, self.total, self.on_images = 0, total, on_images

    def one(self) -> None:
        self.done += 1
        self.on_images(self.done, self.total)


def _groups(
    classifier: Classifier,
    settings: LocalizationSettings,
    images: ImageSet,
    regions: Regions,
    left_out: list[LeftOut],
    told: _Told,
) -> Iterator[list[_Case]]:
    """Images of one size, as many as are asked at a time."""
    most = settings.batch or images_at_a_time(classifier)
    group: list[_Case] = []
    for case in _cases(classifier, images, regions, left_out, told):
        if settings.target != "predicted" and case.label is None:
            left_out.append(LeftOut(case.id, "no class"))
            continue
        if group and (len(group) == most or group[0].pixels.shape != case.pixels.shape):
            yield group
            group = []
        group.append(case)
    if group:
        yield group


def _cases(
    classifier: Classifier,
    images: ImageSet,
    regions: Regions,
    left_out: list[LeftOut],
    told: _Told,
) -> Iterator[_Case]:
    for row in images:
        told.one()
        try:
            _, pixels, crop = read_row(row, classifier.framing, classifier.channels)
        except ImageError as error:
            left_out.append(LeftOut(row.id, str(error).removeprefix(f"{row.id}: ")))
            continue
        region = regions.region(row.id, crop, (pixels.shape[1], pixels.shape[2]))
        if region is None or not region.any() or region.all():
            reason = "no region" if region is None else (
                "the region is all that the network sees" if region.all()
                else "the region is outside of what the network sees"
            )  # fmt: skip
            left_out.append(LeftOut(row.id, reason))
            continue
        yield _Case(row.id, pixels, region, row.label)


def _rows(
    classifier: Classifier,
    settings: LocalizationSettings,
    group: Sequence[_Case],
    classes: NDArray[np.int64] | None,
) -> pa.Table:
    """One row an image and map."""
    weight = next(classifier.module.parameters(), torch.zeros(()))
    pixels = torch.from_numpy(np.stack([case.pixels for case in group])).to(weight.device)
    if weight.is_floating_point():
        pixels = pixels.to(weight.dtype)
    target = None
    if settings.target != "predicted":
        labels = [case.label or 0 for case in group]  # those without one are left out already
        target = labels if classes is None else classes[labels].tolist()
    found = class_gradients(
        classifier, pixels, target, rivals=rival_rule(classifier, settings.rivals),
        method=make_method(settings.method_options, classifier), score=settings.score,
    )  # fmt: skip
    regions = torch.from_numpy(np.stack([case.region for case in group]))
    sigma = settings.smoothing * min(pixels.shape[2:])
    columns: dict[str, list[Any]] = {name: [] for name in _ROWS.names}
    for name, values in saliency_maps(found, settings.maps).items():
        drawn = values.cpu().double()
        if sigma:
            soft = [smooth(one, sigma) for one in drawn.numpy()]
            drawn = torch.from_numpy(np.stack(soft))
        measured = localization(drawn, regions, settings.tolerance)
        columns["id"] += [case.id for case in group]
        columns["explained"] += found.target.tolist()
        columns["map"] += [name] * len(group)
        for measure in MEASURES:
            columns[measure] += getattr(measured, measure).tolist()
    return pa.table(columns, schema=_ROWS)
