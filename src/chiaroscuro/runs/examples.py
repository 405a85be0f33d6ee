"""A few images of a run, kept with their maps and edits for the page."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from chiaroscuro.choices import EDIT_MAPS, MAPS, EvaluationSettings
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import Batch, ImageSet
from chiaroscuro.edits import (
    apply_edit,
    filled,
    matched_counts,
    pixel_order,
    pixel_rank,
    tie_priority,
)
from chiaroscuro.images import gray, to_uint8
from chiaroscuro.render import one_sided, overlay
from chiaroscuro.report import Example
from chiaroscuro.runs.rows import Measured

EXAMPLES = "examples"
_COUNT = 8
_SHARE = 0.1
"""The share of pixels that the examples' edits change."""
_NATURAL = {"black": "positive", "white": "negative"}
"""The map that the paper judges by each fill, beside `original`."""
_CLIP = 0.99


def example_rows(images: ImageSet) -> frozenset[int]:
    """Places of the images that are kept: spread evenly, the first of an unknown number."""
    if images.count is None or images.count <= _COUNT:
        return frozenset(range(_COUNT))
    return frozenset(i * images.count // _COUNT for i in range(_COUNT))


def save_examples(
    folder: Path,
    wanted: frozenset[int],
    classifier: Classifier,
    batch: Batch,
    first: int,
    measured: Sequence[Measured],
    settings: EvaluationSettings,
    labels: Sequence[str] | None,
) -> None:
    """Keep the wanted images of a batch that begins at row `first`, with maps and edits."""
    for part in measured:
        for b, place in enumerate(part.places):
            if first + place not in wanted:
                continue
            label = batch.labels[place]
            about: dict[str, Any] = {
                "id": batch.ids[place],
                "label": labels[label] if labels is not None and label is not None else None,
                "predicted": classifier.label(int(part.target[b])),
                "captions": [],
            }
            arrays: dict[str, Any] = {
                f"map_{name}": values[b].float().cpu().numpy()
                for name, values in _named_maps(part).items()
            }
            arrays["pixels"] = to_uint8(part.pixels[b].float().cpu().numpy())
            for caption, picture in _edits(part, b, settings):
                arrays[f"edit_{len(about['captions'])}"] = picture
                about["captions"].append(caption)
            (folder / EXAMPLES).mkdir(exist_ok=True)
            arrays["about"] = np.array(json.dumps(about))
            np.savez_compressed(folder / EXAMPLES / f"{first + place:08d}.npz", **arrays)


def _named_maps(part: Measured) -> dict[str, Tensor]:
    """Every map once; those made for a fill say which."""
    return {
        f"{name}, {fill}" if name in EDIT_MAPS else name: values
        for fill, maps in part.maps.items()
        for name, values in maps.items()
    }


def _edits(
    part: Measured, b: int, settings: EvaluationSettings
) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.uint8]]]]:
    """Edits by `original` and by the fill's natural map, with what became of the prediction."""
    pixels = part.pixels[[b]]
    priority = tie_priority(pixels, settings.seed)
    protocol = "matched" if "matched" in settings.protocols else settings.protocols[0]
    step = int(np.abs(np.array(settings.fractions) - _SHARE).argmin())
    share = settings.fractions[step]
    for fill in settings.fills:
        names = dict.fromkeys(["original", _NATURAL.get(fill, "active"), *EDIT_MAPS])
        for name in (name for name in names if name in part.maps[fill]):
            curve = part.curves[protocol, name, fill]
            values = part.maps[fill][name][[b]]
            rank = pixel_rank(pixel_order(values, priority))
            counts = matched_counts(values, [share])[:, 0]
            if protocol == "paper":
                counts = curve.removed[[b], step]
            edited = apply_edit(pixels, filled(pixels, fill, settings.seed), rank, counts)
            kept = "still" if curve.allegiance[b, step] else "no longer"
            chance = 100 * float(curve.probability[b, step])
            yield (
                f"{100 * share:.0f} % {fill} by {name}: {kept} predicted ({chance:.0f} %)",
                to_uint8(edited[0].float().cpu().numpy()),
            )


def load_examples(folder: Path) -> list[Example]:
    """The kept images as the page shows them."""
    return [_load(file) for file in sorted((folder / EXAMPLES).glob("*.npz"))]


def _load(file: Path) -> Example:
    with np.load(file) as found:
        about = json.loads(str(found["about"]))
        pixels = found["pixels"]
        maps = [(n.removeprefix("map_"), found[n]) for n in found.files if n.startswith("map_")]
        edits = [(caption, found[f"edit_{n}"]) for n, caption in enumerate(about["captions"])]
    shade = gray(np.moveaxis(pixels, -1, 0).astype(np.float32) / 255)
    return Example(
        id=about["id"],
        label=about["label"],
        predicted=about["predicted"],
        pixels=pixels,
        maps=[(name, _picture(name, values, shade)) for name, values in maps],
        edits=edits,
    )


def _picture(name: str, values: Any, shade: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    sizes = np.abs(values[values != 0])
    limit = float(np.quantile(sizes, _CLIP)) if sizes.size else 0.0
    choice = {**MAPS, **EDIT_MAPS}.get(name.partition(",")[0])
    if choice is not None and choice.kind == "signed":
        return overlay(values, limit, shade)
    return one_sided(values, limit, "either" if choice is None else choice.helps)
