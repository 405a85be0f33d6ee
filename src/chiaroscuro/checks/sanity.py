"""The sanity check of a classifier's maps over an image set, into a folder."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from chiaroscuro.catalog import versions
from chiaroscuro.checks.layers import Layer, find_layers
from chiaroscuro.checks.rows import check_rows, compare_batch
from chiaroscuro.checks.summary import SCHEMA, describe, summarize_check
from chiaroscuro.choices import CheckSettings, method_name
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet, load_images, read_batches
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.render import save_curves
from chiaroscuro.report import check_charts, check_page
from chiaroscuro.runs.config import images_at_a_time, weights_digest
from chiaroscuro.runs.rows import image_stacks, rival_rule
from chiaroscuro.runs.store import RunStore
from chiaroscuro.staging import staged_folder

MARKER = "check.json"
"""The file that marks a folder as a check; it holds every figure of the page."""

OnImages = Callable[[int, int | None], object]
"""Called with (images done, images in all or None)."""


def check(
    classifier: Classifier,
    settings: CheckSettings,
    out: str | Path,
    *,
    overwrite: bool = False,
    data_root: str | Path | None = None,
    on_images: OnImages = lambda done, total: None,
) -> dict[str, Any]:
    """Ask of every map whether it depends on the weights, the class and not on noise.

    - cascade: the network's layers get new random weights from the output on, one after the other;
      after each, the map of the same class is compared with the untouched network's.
    - alone: the same with one layer at a time.
    - class: the maps of the best and of the second-best class.
    - noise: the map of the image with a little Gaussian noise.
    - random: the map against random orders of the pixels, which draw the lines for the verdicts.

    Maps are compared by rank correlation and by the overlap of their highest pixels. The classifier
    is left as found: weights change in copies only. `out` gets rows/, charts as PNG and SVG,
    index.html, check.json (returned) and last manifest.json: all of them or nothing.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` may not be used.
    Source: Adebayo et al., Sanity checks for saliency maps, 2018 (cascading and independent
    randomization); CASE, 2025 (overlap of the two best classes).
    """
    _check_rivals(classifier, settings.rivals)
    images = load_images(**settings.source, root=data_root)
    with staged_folder(out, MARKER, overwrite=overwrite) as stage:
        store = RunStore(stage)
        config = _describe(classifier, settings, images)
        layers = _write_rows(store, classifier, images, settings, config, on_images)
        found = summarize_check(store.parts(), settings, layers)
        summary = describe(found, config, settings)
        _write_page(stage, summary)
        store.write_json(MARKER, summary)
        store.finish({"schema": SCHEMA})
    return summary


def _check_rivals(classifier: Classifier, rivals: str) -> None:
    classes = rival_rule(classifier, rivals).classes
    if classes is not None and len(classes) < 2:
        raise ChoiceError(
            f"rivals is {rivals!r}: the two best classes are explained, and each needs a rival: "
            "give at least two classes, or top:N"
        )


def _describe(classifier: Classifier, settings: CheckSettings, images: ImageSet) -> dict[str, Any]:
    chosen = {field.name: getattr(settings, field.name) for field in fields(settings)}
    chosen["methods"] = [method_name(method) for method in settings.methods]
    chosen["batch"] = settings.batch or images_at_a_time(classifier)
    chosen["threads"] = settings.threads or torch.get_num_threads()
    chosen["split"] = images.split
    return {
        "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in chosen.items()},
        "model": {**classifier.describe(), "sha256": weights_digest(classifier)},
        "versions": versions(),
    }


def _write_rows(
    store: RunStore,
    classifier: Classifier,
    images: ImageSet,
    settings: CheckSettings,
    config: dict[str, Any],
    on_images: OnImages,
) -> tuple[Layer, ...]:
    layers: tuple[Layer, ...] = ()
    done = 0
    on_images(0, images.count)
    for batch in read_batches(
        images, classifier.framing, config["settings"]["batch"], channels=classifier.channels,
        rgb_only=settings.rgb_only,
    ):  # fmt: skip
        if batch.ids and not layers:
            _, pixels = next(image_stacks(classifier, batch))
            layers = find_layers(classifier, pixels[:1], settings.depths)
        compared = list(compare_batch(classifier, layers, batch, settings))
        store.write_part(batch.number, check_rows(batch, compared), batch.left_out)
        done += len(batch.ids) + len(batch.left_out)
        on_images(done, images.count)
    if not layers:
        raise InputError(f"{settings.data}: no image of {images.split} can be used")
    return layers


def _write_page(folder: Path, summary: dict[str, Any]) -> None:
    charts = [
        (caption, save_curves(sheet, folder, name))
        for name, caption, sheet in check_charts(summary)
    ]
    (folder / "index.html").write_text(check_page(summary, charts), encoding="utf-8")
