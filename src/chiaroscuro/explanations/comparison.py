"""How explanations differ: of several classifiers, and of a saved one from itself recomputed."""

import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import chiaroscuro.results.explanations as results
from chiaroscuro import choices
from chiaroscuro.choices import Fill, Fit, MethodOptions
from chiaroscuro.classifier import Classifier, Picture
from chiaroscuro.classifier.reading import Given, opened
from chiaroscuro.errors import ChoiceError, ImageError, ModelError, ResultError
from chiaroscuro.explanations.change import what_if
from chiaroscuro.explanations.single import Target, as_classifier, explain
from chiaroscuro.gradients import Method
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.images import to_uint8
from chiaroscuro.images.regions import box_on_photo
from chiaroscuro.metrics import map_similarity
from chiaroscuro.models import load_classifier
from chiaroscuro.regions import Region
from chiaroscuro.render.pictures import enlarged, outlined
from chiaroscuro.render.shown import pictured
from chiaroscuro.report.what_if import sentences
from chiaroscuro.results import facts_of
from chiaroscuro.results.explanations import Comparison, Detail, Differences, Explanation
from chiaroscuro.results.facts import ModelFacts
from chiaroscuro.settings import CompareSettings, settings_from, takes

UNRECORDED = "nothing that is recorded changed: the model's weights may be others"


@takes(CompareSettings)
def compare(
    classifiers: Sequence[Classifier | nn.Module],
    image: Picture,
    *,
    target: Target | None = None,
    details: Callable[[Classifier, Explanation], Detail] | None = None,
    progress: Callable[[int, int, int], object] = lambda place, done, total: None,
    **options: Any,
) -> Comparison:
    """Explain one image by several classifiers for the same class, and compare their maps.

    `target`: a class by index or name; None for the class that the first classifier predicts, which
    the others look up by name where both have names, else by index. Other choices as in `explain`;
    `maps` are those that order pixels. With `fill`, the top pixels of the map `by` are changed for
    each classifier too. In place of that, `details` is called for each classifier and says what
    else to show.

    Raises `ChoiceError` for fewer than two classifiers, a class that one of them does not know, or
    `fill` and `details` together, and what `explain` raises.

    >>> nets = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)) for _ in "ab"]
    >>> comparison = compare([Classifier(net, size=8) for net in nets], np.zeros((8, 8, 3)))
    >>> comparison.names, comparison.pairs[0].maps["active"].difference.shape
    (('1 Sequential', '2 Sequential'), (8, 8))
    """
    settings = settings_from(CompareSettings, None, options)
    if len(classifiers) < 2:
        raise ChoiceError(f"{len(classifiers)} classifiers to compare: give at least two")
    if settings.fill is not None:
        if details is not None:
            raise ChoiceError("fill and details are given: a comparison shows one of them")
        change = settings.fill, settings.fraction, settings.by, settings.fit
        details = what_if_detail(image, *change, settings.method_options)
    kept = {name: getattr(settings, name) for name in ("maps", "rivals", "score", "fit")}
    kept["method"] = settings.method_options
    used = [as_classifier(classifier) for classifier in classifiers]
    explanations: list[Explanation] = []
    kept["region"] = settings.part
    for place, classifier in enumerate(used):
        same = _same_class(used[0], explanations[0], classifier) if explanations else target
        step = partial(progress, place)
        explanations.append(explain(classifier, image, target=same, progress=step, **kept))
        kept["region"] = _same_region(settings.part, explanations[0])
    shown = zip(used, explanations, strict=True)
    return Comparison(
        names=tuple(f"{i} {Path(c.name).name}" for i, c in enumerate(used, 1)),
        explanations=tuple(explanations),
        pairs=tuple(_pair(explanations[0], e, n) for n, e in enumerate(explanations[1:], 1)),
        details=tuple(details(c, e) for c, e in shown) if details else (),
    )


def what_if_detail(
    image: Picture,
    fill: str | Fill,
    fraction: float = choices.WHAT_IF_FRACTION,
    map: str = "active",
    fit: Fit | None = None,
    method: str | Method | MethodOptions = "gradient",
) -> Callable[[Classifier, Explanation], Detail]:
    """What `compare(details=...)` takes: a what-if with each one's own top pixels of `map`.

    A map that the explanation does not have is computed with its rivals and score, by `method`.
    """
    chosen = choices.parse_fill(fill)

    def detail(classifier: Classifier, explanation: Explanation) -> Detail:
        if explanation.region is not None:
            classifier = classifier.at(explanation.region)
        asked: dict[str, Any] = {"target": explanation.target.index, "fit": fit}
        asked["rivals"] = explanation.choices.rivals
        order: str | NDArray[Any] = map
        if map in choices.RANKING_MAPS:
            if map not in explanation.maps:
                more = {"maps": map, "method": method, "score": explanation.choices.score}
                explanation = explain(classifier, image, **asked, **more)
            order = explanation.maps[map]
        result = what_if(classifier, image, order, fraction, chosen, **asked)
        title = f"what if the top {100 * fraction:g} % of its {map} map become {chosen}?"
        drawn = pictured(result)
        after = outlined(to_uint8(drawn.edited), drawn.changed)
        return Detail(title, tuple(sentences(result)), enlarged(after))

    return detail


def _same_class(first: Classifier, explained: Explanation, other: Classifier) -> int:
    """The other classifier's index of the target class: by any of its names, else by index."""
    label = explained.target.label
    if first.labels is None or other.labels is None or first.labels == other.labels:
        return other.class_index(explained.target.index)
    if label in other.labels:
        return other.labels.index(label)
    known = {name for text in other.labels for name in text.casefold().split(", ")}
    names = (name.strip() for name in label.split(","))
    return other.class_index(next((name for name in names if name.casefold() in known), label))


def _same_region(part: Region | None, explained: Explanation) -> Region | None:
    """The region for the others, which number their boxes otherwise: the first one's box."""
    if part is None or part.number is None or explained.region is None or not explained.region.box:
        return part
    shape = explained.pixels.shape[1], explained.pixels.shape[2]
    return Region.box(*box_on_photo(explained.region.box, explained.crop, shape))


def _pair(first: Explanation, other: Explanation, place: int) -> results.Pair:
    if not np.array_equal(first.pixels, other.pixels):
        sizes = [" x ".join(map(str, e.pixels.shape[:0:-1])) for e in (first, other)]
        how = " and ".join(sizes) if len({*sizes}) > 1 else f"{sizes[0]}, scaled or cut otherwise"
        return results.Pair(place, {}, f"the networks see different pixels ({how})")
    pixels, maps = torch.from_numpy(first.pixels)[None], {}
    for name, values in first.maps.items():
        a, b = (torch.from_numpy(v.astype(np.float64))[None] for v in (values, other.maps[name]))
        similar = map_similarity(a, b, pixels)
        difference = (_unit(b) - _unit(a))[0].numpy()
        maps[name] = results.MapPair(difference, float(similar.correlation), float(similar.overlap))
    return results.Pair(place, maps)


def _unit(values: Tensor) -> Tensor:
    """A map divided by its root mean square; a map of zeros stays."""
    size = values.square().mean().sqrt()
    return values / size if size > 0 else values


def replay(
    folder: str | Path,
    classifier: Classifier | nn.Module | None = None,
    *,
    background: str | Path | Tensor | None = None,
    tolerance: float = choices.REPLAY_TOLERANCE,
    progress: Progress | None = None,
) -> tuple[Explanation, Differences]:
    """Recompute the explanation in `folder` with its own choices: the new one, and differences.

    Where the photo's file is gone or has changed, the saved pixels are explained and the
    differences say so. A saved result runs no code and reads no other files: a model that is a
    Python file, and background images, have to be handed in (`classifier`, `background`).
    """
    saved = Explanation.load(folder)
    method = _method(saved.choices.method, background)
    model = load_named(saved.model) if classifier is None else classifier
    if saved.region is not None:
        model = as_classifier(model).at(saved.region)
    image, changes = _image(saved)
    target = None if saved.choices.target == "predicted" else saved.choices.target
    kept = {name: getattr(saved.choices, name) for name in ("maps", "rivals", "score", "fit")}
    now = explain(model, image, target=target, method=method, progress=progress, **kept)
    if saved.model.sha256 is not None:
        now = replace(now, model=as_classifier(model).describe(digest=True))
    changes, why = (*changes, *_changes(saved, now)), _why(saved, now)
    maps = {name: _map_gap(name, saved, now) for name in saved.maps}
    differences = Differences(maps, _gap(saved.logits, now.logits, np.inf), changes, why, tolerance)
    unexplained = not (differences.same or changes or why)
    return now, replace(differences, why=(UNRECORDED,)) if unexplained else differences


def load_named(model: ModelFacts) -> Classifier:
    """The classifier that a saved result names, unless that would run a Python file."""
    try:
        return load_classifier(model.name, classes=model.texts, trusted=False)
    except ChoiceError as error:
        said = f"the model {model.name!r} of this result has no spec to load it by"
        raise ModelError(f"{said}: name one (--model), or hand the classifier in") from error


def _method(method: results.MethodFacts, background: str | Path | Tensor | None) -> Any:
    """The method with its settings; raises `ResultError` where something has to be handed in."""
    if method.name not in choices.METHODS:
        said = f"the method {method.name!r} of this explanation has no name to repeat it by"
        raise ResultError(f"{said}: call explain with it")
    if method.background_images is None:
        background = None
    elif background is None:
        raise ResultError(
            f"this explanation begins from {method.background_images} background images "
            f"({method.background or 'handed in as pixels'}), and a saved result reads no other "
            "files: hand them in (background=..., --background)"
        )
    tuning, rest = (
        (method.points, method.sigma, method.baseline),
        (method.seed or 0, method.precision),
    )
    if isinstance(background, Tensor):
        return Method(method.name, *tuning, background, *rest)
    place = None if background is None else str(background)
    return choices.parse_method(method.name, *tuning, place, *rest)


def _image(saved: Explanation) -> tuple[Picture, tuple[str, ...]]:
    """The photo if its file is as it was, else the saved pixels and a sentence."""
    pixels = Given(np.moveaxis(saved.pixels, 0, -1), is_pixels=True)
    if not saved.image.is_file:
        return pixels, ()
    source, what = Path(saved.image.source), "has changed"
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            what = "is not a regular file"
        elif (photo := opened(source, volumes=saved.model.volumes)).sha256 == saved.image.sha256:
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
    for name in old.keys() - {"device", "dtype", "sha256", "shown", "tf32"}:
        if old[name] != new[name]:
            yield f"model {name} was {getattr(saved.model, name)}, now {getattr(now.model, name)}"


def _why(saved: Explanation, now: Explanation) -> tuple[str, ...]:
    """What may move the numbers without a change of the question."""
    old, new = saved.versions, now.versions
    facts = (
        ("device was", saved.model.device, now.model.device),
        ("dtype was", saved.model.dtype, now.model.dtype),
        ("TF32 was in", *(", ".join(m.tf32) or "nothing" for m in (saved.model, now.model))),
        ("CPU threads were", saved.threads, now.threads),
        ("SHA-256 of the weights was", saved.model.sha256, now.model.sha256),
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
