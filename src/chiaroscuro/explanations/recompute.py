"""A saved explanation recomputed, how the two differ, and why."""

import dataclasses
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from chiaroscuro.choices import METHODS, parse_method
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, ImageError, ModelError, ResultError
from chiaroscuro.explanations.reading import ImageLike
from chiaroscuro.explanations.single import explain
from chiaroscuro.gradients import Method
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.images import open_photo
from chiaroscuro.models import load_classifier
from chiaroscuro.results import Differences, Explanation, MethodFacts

TOLERANCE = 1e-3
"""Rounding on another machine may move a few ReLUs; so much of their size logits and maps may
differ."""


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
    return now, differences(saved, now, tolerance, changes)


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


UNRECORDED = "nothing that is recorded changed: the model's weights may be others"
"""Why numbers differ where every recorded fact is the same."""


def differences(
    saved: Explanation,
    now: Explanation,
    tolerance: float = TOLERANCE,
    changes: tuple[str, ...] = (),
) -> Differences:
    """How a recomputed explanation differs from the saved one."""
    result = Differences(
        maps={name: _map_difference(name, saved, now) for name in saved.maps},
        logits=_largest(saved.logits, now.logits),
        changes=(*changes, *_changes(saved, now)),
        why=tuple(_why(saved, now)),
        tolerance=tolerance,
    )
    if result.same or result.changes or result.why:
        return result
    return replace(result, why=(UNRECORDED,))


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
    return parse_method(
        method.name,
        method.points,
        method.sigma,
        method.baseline,
        None if background is None else str(background),
        method.seed or 0,
    )


def _image(saved: Explanation) -> tuple[ImageLike, tuple[str, ...]]:
    """The photo if its file is as it was, else the saved pixels and a sentence."""
    pixels = np.ascontiguousarray(saved.pixels.transpose(1, 2, 0))
    if not saved.image.is_file:
        return pixels, ()
    source = Path(saved.image.source)
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            return pixels, (f"photo {source} is not a regular file: saved pixels are explained",)
        photo = open_photo(source)
    except OSError:
        return pixels, (f"photo {source} is gone: saved pixels are explained",)
    except ImageError:
        photo = None
    if photo is None or photo.sha256 != saved.image.sha256:
        return pixels, (f"photo {source} has changed: saved pixels are explained",)
    return photo, ()


def _changes(saved: Explanation, now: Explanation) -> Iterator[str]:
    """What is asked or answered differently."""
    if saved.target.index != now.target.index:
        yield f"target class was {saved.target.label}, now {now.target.label}"
    if saved.logits.shape != now.logits.shape:
        yield f"classes were {len(saved.logits)}, now {len(now.logits)}"
    if saved.choices.method.background_sha256 != now.choices.method.background_sha256:
        yield "background images are not the same"
    before, after = (
        {f.name: getattr(e.model, f.name) for f in dataclasses.fields(e.model)}
        for e in (saved, now)
    )
    if None in (before["sha256"], after["sha256"]):
        before["sha256"] = after["sha256"] = None
    for name in before.keys() - {"device", "dtype"}:
        if _plain(before[name]) != _plain(after[name]):
            yield f"model {name} was {before[name]}, now {after[name]}"


def _why(saved: Explanation, now: Explanation) -> Iterator[str]:
    """What may move the numbers without a change of the question."""
    for name in ("device", "dtype"):
        before, after = getattr(saved.model, name), getattr(now.model, name)
        if before != after:
            yield f"{name} was {before}, now {after}"
    if saved.threads != now.threads:
        yield f"CPU threads were {saved.threads}, now {now.threads}"
    for name in sorted({*saved.versions, *now.versions}):
        before, after = saved.versions.get(name), now.versions.get(name)
        if before != after:
            yield f"{name} was {before}, now {after}"
    if saved.choices.method.captum != now.choices.method.captum:
        yield f"captum was {saved.choices.method.captum}, now {now.choices.method.captum}"


def _plain(value: Any) -> Any:
    """Tuples as the lists that JSON makes of them."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _map_difference(name: str, saved: Explanation, now: Explanation) -> float | None:
    before, after = saved.maps[name], now.maps[name]
    if before.shape != after.shape:
        return None
    if saved.facts[name].kind == "class":
        return float((before != after).mean())
    return _relative(before, after)


def _largest(before: NDArray[Any], after: NDArray[Any]) -> float | None:
    if before.shape != after.shape:
        return None
    size = float(np.abs(before).max())
    gap = float(np.abs(np.subtract(after, before, dtype=np.float64)).max())
    return gap / size if size > 0 else float(gap > 0)


def _relative(before: NDArray[Any], after: NDArray[Any]) -> float:
    size = float(np.sqrt(np.square(before, dtype=np.float64).mean()))
    gap = float(np.sqrt(np.square(np.subtract(after, before, dtype=np.float64)).mean()))
    return gap / size if size > 0 else float(gap > 0)
