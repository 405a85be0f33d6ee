"""A saved explanation made anew, and how the two differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import METHODS, parse_method
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, ImageError, ModelError, ResultError
from chiaroscuro.explanations.explanation import Explanation
from chiaroscuro.explanations.single import explain
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.images import open_photo
from chiaroscuro.models import load_classifier

SAME = 1e-3
"""Two runs agree when logits and maps differ by less than this share of their size (another
machine's rounding may move a few ReLUs)."""


@dataclass(frozen=True)
class Differences:
    """What changed between a saved explanation and its repetition.

    `maps`: per map, the root mean square difference over the root mean square of the saved map
    (for class maps, the share of pixels with another class). `logits`: the largest difference
    over the largest size. Both are None where shapes differ. `facts`: in words, whatever else
    changed, such as versions, the photo or the predicted class.
    """

    maps: Mapping[str, float | None]
    logits: float | None
    facts: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether target, logits and maps agree to rounding; versions may differ."""
        moved = [fact for fact in self.facts if not fact.startswith("version of")]
        sizes = [self.logits, *self.maps.values()]
        return not moved and all(size is not None and size < SAME for size in sizes)


def explain_again(
    folder: str | Path,
    classifier: Classifier | None = None,
    progress: Progress | None = None,
) -> tuple[Explanation, Differences]:
    """Repeat the explanation in `folder` with its own choices; the new one and the differences.

    The photo file is read again; where it is gone or has changed, the saved pixels are explained
    and the differences say so. The model is loaded by its saved name unless given.
    Raises `ResultError` for a folder without an explanation, `ModelError` for a model that cannot
    be loaded.
    """
    saved = Explanation.load(folder)
    model = classifier or _load(saved.model["name"])
    choices = saved.choices
    image, note = _image(saved)
    made = explain(
        model,
        image,
        target=None if choices["target"] == "predicted" else choices["target"],
        maps=choices["maps"],
        rivals=choices["rivals"],
        score=choices["score"],
        method=_method(choices),
        fit=choices["fit"],
        progress=progress,
    )
    return made, compare(saved, made, note)


def compare(saved: Explanation, made: Explanation, notes: tuple[str, ...] = ()) -> Differences:
    """How a repetition differs from the saved explanation."""
    facts = [*notes]
    if saved.target.index != made.target.index:
        facts.append(f"target class: {saved.target.label} then, {made.target.label} now")
    facts += _changed("method's", _settings(saved), _settings(made))
    facts += _changed("model", saved.model, made.model)
    facts += _changed("version of", saved.versions, made.versions)
    if saved.logits.shape != made.logits.shape:
        facts.append(f"classes: {len(saved.logits)} then, {len(made.logits)} now")
    gap = _largest_gap(saved.logits, made.logits)
    maps = {name: _gap(name, saved, made) for name in saved.maps}
    return Differences(maps, gap, tuple(facts))


def _method(choices: Mapping[str, Any]) -> Any:
    """The method with its settings, of results from before there were any too."""
    known = ("points", "sigma", "baseline", "background", "seed")
    settings = choices.get("method_settings", {})
    if "background_images" in settings and "background" not in settings:
        raise ResultError(
            "the background of this explanation was handed in as pixels, not read from files: "
            "call explain with it"
        )
    if choices["method"] not in METHODS:
        raise ResultError(
            f"the method {choices['method']!r} of this explanation has no name to repeat it by: "
            "call explain with it"
        )
    return parse_method(choices["method"], **{k: settings[k] for k in known if k in settings})


def _settings(explanation: Explanation) -> Mapping[str, Any]:
    """What may change without being asked for; Captum's version is told as a version."""
    settings: Mapping[str, Any] = explanation.choices.get("method_settings", {})
    return {"background_sha256": settings.get("background_sha256")}


def _load(name: str) -> Classifier:
    try:
        return load_classifier(name)
    except ChoiceError as error:
        raise ModelError(
            f"the model {name!r} of this explanation has no spec to load it by: "
            "hand the classifier in"
        ) from error


def _image(saved: Explanation) -> tuple[Any, tuple[str, ...]]:
    pixels = np.ascontiguousarray(saved.pixels.transpose(1, 2, 0))
    if not saved.image.is_file:
        return pixels, ()
    source = Path(saved.image.source)
    if not source.is_file():
        return pixels, (f"photo {source} is gone: the saved pixels were explained",)
    try:
        photo = open_photo(source)
    except ImageError:
        photo = None
    if photo is None or photo.sha256 != saved.image.sha256:
        return pixels, (f"photo {source} has changed: the saved pixels were explained",)
    return photo, ()


def _changed(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{what} {key}: {_plain(before.get(key))} then, {_plain(after.get(key))} now"
        for key in sorted({*before, *after})
        if _plain(before.get(key)) != _plain(after.get(key))
    ]


def _plain(value: Any) -> Any:
    """Tuples as the lists that JSON made of them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _gap(name: str, saved: Explanation, made: Explanation) -> float | None:
    before, after = saved.maps[name], made.maps[name]
    if before.shape != after.shape:
        return None
    if saved.facts[name].kind == "class":
        return float((before != after).mean())
    return _relative(before, after)


def _largest_gap(before: NDArray[Any], after: NDArray[Any]) -> float | None:
    if before.shape != after.shape:
        return None
    size = float(np.abs(before).max())
    gap = float(np.abs(np.subtract(after, before, dtype=np.float64)).max())
    return gap / size if size > 0 else float(gap > 0)


def _relative(before: NDArray[Any], after: NDArray[Any]) -> float:
    size = float(np.sqrt(np.square(before, dtype=np.float64).mean()))
    gap = float(np.sqrt(np.square(np.subtract(after, before, dtype=np.float64)).mean()))
    return gap / size if size > 0 else float(gap > 0)
