"""A few images of a run, kept with their maps and edits for the page."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from chiaroscuro.choices import EDIT_MAPS
from chiaroscuro.data import ImageSet
from chiaroscuro.edits import (
    apply_edit,
    filled,
    matched_counts,
    pixel_order,
    pixel_rank,
    tie_priority,
)
from chiaroscuro.evaluation.stacks import Stack
from chiaroscuro.images import to_uint8
from chiaroscuro.render.pictures import Rgb
from chiaroscuro.results.measurements import EXAMPLES

_COUNT = 8
_SHARE = 0.1
"""The share of pixels that the examples' edits change."""
_NATURAL = {"black": "positive", "white": "negative"}
"""The map that the paper judges by each fill, next to `original`."""


def example_places(images: ImageSet) -> frozenset[int]:
    """Places of the images that are kept: spread evenly, the first of an unknown number."""
    if images.count is None or images.count <= _COUNT:
        return frozenset(range(_COUNT))
    return frozenset(i * images.count // _COUNT for i in range(_COUNT))


def example_files(
    stacks: Iterable[Stack], wanted: frozenset[int], first: int, labels: Sequence[str] | None
) -> dict[str, bytes]:
    """Archives of the wanted images of a batch that begins at row `first`, by file name."""
    return {
        f"{EXAMPLES}/{first + place:08d}.npz": _archive(stack, b, labels)
        for stack in stacks
        for b, place in enumerate(stack.places)
        if first + place in wanted
    }


def _archive(stack: Stack, b: int, labels: Sequence[str] | None) -> bytes:
    """One image with maps and edits."""
    label = stack.labels[b]
    edits = list(_edits(stack, b))
    about = {
        "id": stack.ids[b],
        "label": labels[label] if labels is not None and label is not None else None,
        "predicted": stack.classifier.label(int(stack.logits[b].argmax())),
        "captions": [caption for caption, _ in edits],
    }
    arrays = {
        # Maps that are computed for a fill say which.
        f"map_{name}, {fill}" if name in EDIT_MAPS else f"map_{name}": values[b]
        .float()
        .cpu()
        .numpy()
        for fill, maps in stack.maps.items()
        for name, values in maps.items()
    }
    arrays |= {f"edit_{n}": picture for n, (_, picture) in enumerate(edits)}
    arrays["pixels"] = to_uint8(stack.pixels[b].float().cpu().numpy())
    target = io.BytesIO()
    np.savez_compressed(target, **arrays, about=np.array(json.dumps(about)))  # type: ignore[arg-type]
    return target.getvalue()


def _edits(stack: Stack, b: int) -> Iterator[tuple[str, Rgb]]:
    """Edits by `original` and by the fill's natural map, with what happens to the prediction."""
    settings = stack.settings
    if "deletion" not in settings.metrics:
        return
    pixels = stack.pixels[[b]]
    priority = tie_priority(pixels, settings.seed)
    protocol = "matched" if "matched" in settings.protocols else settings.protocols[0]
    step = int(np.abs(np.array(settings.fractions) - _SHARE).argmin())
    share = settings.fractions[step]
    for fill in settings.fills:
        names = dict.fromkeys(["original", _NATURAL.get(fill, "active"), *EDIT_MAPS])
        for name in (name for name in names if name in stack.maps[fill]):
            curve = stack.curves[protocol, name, fill]
            values = stack.maps[fill][name][[b]]
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
