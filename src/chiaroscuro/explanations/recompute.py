"""A saved explanation recomputed, how the two differ, and why."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from chiaroscuro.choices import METHODS, parse_method
from chiaroscuro.classifier import Classifier, Picture
from chiaroscuro.errors import ChoiceError, ImageError, ModelError, ResultError
from chiaroscuro.explanations.single import explain
from chiaroscuro.gradients import Method
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.images import open_photo
from chiaroscuro.models import load_classifier
from chiaroscuro.results import facts_of
from chiaroscuro.results.explanations import Differences, Explanation, MethodFacts

TOLERANCE = 1e-3
"""Rounding on another machine may move a few ReLUs; so much of their size logits and maps may
differ."""
UNRECORDED = "nothing that is recorded changed: the model's weights may be others"
"""Why numbers differ where every recorded fact is the same."""


def replay(
    folder: str | Path,
    classifier: Classifier | nn.Module | None = None,
    *,
    background: str | Path | Tensor | None = None,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> tuple[Explanation, Differences]:
    """Recompute the explanation in `folder` with its own choices: the new one, and differences.

    The photo is read from its file; where it is gone or has changed, the saved pixels are explained
    and the differences say so. A packaged model, one of a library, or a saved folder is loaded by
    its name. A saved result runs no code and reads no other files: a model that is a Python file,
    and background images, are used only when they are handed in (`classifier`, `background`).

    Raises `ResultError` for a folder without an explanation, or one that needs a background,
    `ModelError` for a model that has to be handed in.
    """
    saved = Explanation.load(folder)
    method = _method(saved.choices.method, background)
    model = load_named(saved.model.name) if classifier is None else classifier
    image, changes = _image(saved)
    choices = saved.choices
    now = explain(
        model,
        image,
        target=None if choices.target == "predicted" else choices.target,
        maps=choices.maps,
        rivals=choices.rivals,
        score=choices.score,
        method=method,
        fit=choices.fit,
        progress=progress,
    )
    changes, why = (*changes, *_changes(saved, now)), _why(saved, now)
    maps = {name: _map_gap(name, saved, now) for name in saved.maps}
    found = Differences(maps, _gap(saved.logits, now.logits, np.inf), changes, why, tolerance)
    unexplained = not (found.same or changes or why)
    return now, replace(found, why=(UNRECORDED,)) if unexplained else found


def load_named(name: str) -> Classifier:
    """The classifier that a saved result names, unless that would run a Python file.

    Raises `ModelError` for such a file, and for a name that is no spec.
    """
    try:
        return load_classifier(name, trusted=False)
    except ChoiceError as error:
        raise ModelError(
            f"the model {name!r} of this result has no spec to load it by: name one (--model), or "
            "hand the classifier in"
        ) from error


def _method(method: MethodFacts, background: str | Path | Tensor | None) -> Any:
    """The method with its settings; raises `ResultError` where something has to be handed in."""
    if method.name not in METHODS:
        raise ResultError(
            f"the method {method.name!r} of this explanation has no name to repeat it by: "
            "call explain with it"
        )
    if method.background_images is None:
        background = None
    elif background is None:
        raise ResultError(
            f"this explanation begins from {method.background_images} background images "
            f"({method.background or 'handed in as pixels'}), and a saved result reads no other "
            "files: hand them in (background=..., --background)"
        )
    if isinstance(background, Tensor):
        return Method(method.name, method.points, background=background, seed=method.seed or 0)
    place, seed = None if background is None else str(background), method.seed or 0
    return parse_method(method.name, method.points, method.sigma, method.baseline, place, seed)


def _image(saved: Explanation) -> tuple[Picture, tuple[str, ...]]:
    """The photo if its file is as it was, else the saved pixels and a sentence."""
    pixels = np.ascontiguousarray(saved.pixels.transpose(1, 2, 0))
    if not saved.image.is_file:
        return pixels, ()
    source = Path(saved.image.source)
    what = "has changed"
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            what = "is not a regular file"
        elif (photo := open_photo(source)).sha256 == saved.image.sha256:
            return photo, ()
    except OSError:
        what = "is gone"
    except ImageError:
        pass
    return pixels, (f"photo {source} {what}: saved pixels are explained",)


def _changes(saved: Explanation, now: Explanation) -> Iterator[str]:
    """What is asked or answered differently."""
    if saved.target.index != now.target.index:
        yield f"target class was {saved.target.label}, now {now.target.label}"
    if saved.logits.shape != now.logits.shape:
        yield f"classes were {len(saved.logits)}, now {len(now.logits)}"
    if saved.choices.method.background_sha256 != now.choices.method.background_sha256:
        yield "background images are not the same"
    old, new = facts_of(saved.model), facts_of(now.model)
    if None in (old["sha256"], new["sha256"]):
        old["sha256"] = new["sha256"]
    for name in old.keys() - {"device", "dtype"}:
        if old[name] != new[name]:
            yield f"model {name} was {getattr(saved.model, name)}, now {getattr(now.model, name)}"


def _why(saved: Explanation, now: Explanation) -> tuple[str, ...]:
    """What may move the numbers without a change of the question."""
    old, new = saved.versions, now.versions
    facts = (
        ("device was", saved.model.device, now.model.device),
        ("dtype was", saved.model.dtype, now.model.dtype),
        ("CPU threads were", saved.threads, now.threads),
        *((f"{name} was", old.get(name), new.get(name)) for name in sorted({*old, *new})),
        ("captum was", saved.choices.method.captum, now.choices.method.captum),
    )
    return tuple(f"{what} {was}, now {now}" for what, was, now in facts if was != now)


def _map_gap(name: str, saved: Explanation, now: Explanation) -> float | None:
    before, after = saved.maps[name], now.maps[name]
    if saved.facts[name].kind == "class" and before.shape == after.shape:
        return float((before != after).mean())
    return _gap(before, after, 2)


def _gap(before: NDArray[Any], after: NDArray[Any], order: float) -> float | None:
    """The norm of the difference over that of the saved values; None where shapes differ."""
    if before.shape != after.shape:
        return None
    old, new = (values.astype(np.float64).ravel() for values in (before, after))
    size, gap = (float(np.linalg.norm(values, order)) for values in (old, new - old))
    return gap / size if size > 0 else float(gap > 0)
