"""A few images of a run, kept with their maps and edits for the page."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.choices import EDIT_MAPS, FITTED_MAPS
from chiaroscuro.data.images import ImageSet
from chiaroscuro.edits import filled, pixel_order, tie_priority, top_edit
from chiaroscuro.evaluation.stacks import Stack
from chiaroscuro.images import to_uint8
from chiaroscuro.render.pictures import Rgb
from chiaroscuro.results.measurements import EXAMPLES

_COUNT, _SHARE = 8, 0.1
"""Images that are kept, and the share of pixels that their edits change."""
_NATURAL = {"black": "positive", "white": "negative"}
"""The map that the paper judges by each fill, next to `original`."""


def example_places(images: ImageSet) -> frozenset[int]:
    """Places of the images that are kept: spread evenly, the first of an unknown number."""
    count = max(images.count or 0, _COUNT)
    return frozenset(i * count // _COUNT for i in range(_COUNT))


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
    edits = [*_edits(stack, b)]
    about = {
        "id": stack.ids[b],
        "label": labels[label] if labels is not None and label is not None else None,
        "predicted": stack.classifier.label(int(stack.logits[b].argmax())),
        "captions": [caption for caption, _ in edits],
    }
    maps = {
        f"{name}, {fill}" if name in FITTED_MAPS else name: values[b]
        for fill, named in stack.maps.items()
        for name, values in named.items()
    }
    pictures = {f"edit_{n}": picture for n, (_, picture) in enumerate(edits)}
    return archive(about, stack.pixels[b], maps, **pictures)


def archive(
    about: Mapping[str, Any], pixels: Tensor, maps: Mapping[str, Tensor], **more: Any
) -> bytes:
    """The file of an example: (C, H, W) pixels, maps (H, W) by name, and `more` arrays."""
    arrays = {f"map_{name}": values.float().cpu().numpy() for name, values in maps.items()} | more
    seen, target = to_uint8(pixels.float().cpu().numpy()), io.BytesIO()
    np.savez_compressed(target, pixels=seen, about=np.array(json.dumps(about)), **arrays)
    return target.getvalue()


def _edits(stack: Stack, b: int) -> Iterator[tuple[str, Rgb]]:
    """Edits by `original` and by the fill's natural map, with what happens to the prediction."""
    pixels, target = stack.pixels[[b]], int(stack.target[b])
    priority = tie_priority(pixels, stack.settings.seed)
    for fill, maps in stack.maps.items():
        changed = filled(pixels, fill, stack.settings.seed)
        names = dict.fromkeys(["original", _NATURAL.get(fill, "active"), *EDIT_MAPS])
        for name in (name for name in names if name in maps):
            edited = top_edit(pixels, changed, pixel_order(maps[name][[b]], priority), _SHARE)
            with torch.no_grad():
                logits = stack.classifier(edited)
            kept = "still" if int(logits.argmax()) == target else "no longer"
            chance = 100 * float(stack.classifier.probabilities(logits)[0, target])
            yield (
                f"{100 * _SHARE:.0f} % {fill} by {name}: {kept} predicted ({chance:.0f} %)",
                to_uint8(edited[0].float().cpu().numpy()),
            )
