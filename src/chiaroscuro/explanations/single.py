"""One image through a classifier, its gradients and its maps."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from chiaroscuro.catalogue import versions
from chiaroscuro.choices import (
    EXPLAIN_MAPS,
    MAPS,
    Fit,
    MethodOptions,
    RivalRule,
    Score,
    check_names,
    parse_rivals,
)
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ImageError, ModelError
from chiaroscuro.explanations.explanation import Explanation, ImageFacts, MapFacts, Prediction
from chiaroscuro.explanations.methods import make_method
from chiaroscuro.gradients import ClassGradients, class_gradients
from chiaroscuro.gradients.engine import Progress
from chiaroscuro.images import CropBox, Photo, check_array, frame, open_photo, to_uint8
from chiaroscuro.images.photos import photo_from_image
from chiaroscuro.maps import SaliencyMaps, needs_classes, saliency_maps
from chiaroscuro.stopwatch import timed

TOP = 5
PHOTO_SIDE = 640

ImageLike = str | Path | Photo | Image.Image | NDArray[Any] | Tensor


def explain(
    classifier: Classifier,
    image: ImageLike,
    *,
    target: int | str | None = None,
    maps: str | Iterable[str] = EXPLAIN_MAPS,
    rivals: str | Sequence[int | str] | Mapping[int | str, float] | RivalRule = "all",
    score: Score = "logit",
    method: Any = "gradient",
    fit: Fit | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Explain one image: what the classifier says, and which pixels speak for it how.

    `image`: a path or a Pillow image (brought to the classifier's size by `fit`, default its own),
    an array (H, W, C) or a tensor (C, H, W) of floats in [0, 1] (taken as it is). `target` and
    `rivals` take class indices or names; None explains the predicted class. `method`: as
    `class_gradients` takes it, or `MethodOptions`, whose background is read from its files.

    Raises `ImageError`, `ChoiceError`, `InputError` or `ModelError`.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    >>> found = explain(Classifier(net, size=8), np.zeros((8, 8, 3)))
    >>> found.maps["active"].shape, len(found.predictions)
    ((8, 8), 5)
    """
    _check_classifier(classifier)
    names = check_names("map", maps, MAPS)
    wanted = None if target is None else classifier.class_index(target)
    rule = _rule(classifier, rivals)
    with timed("decode"):
        pixels, crop, photo, facts = _read(classifier, image, fit)
    weight = next(classifier.module.parameters(), torch.zeros(()))
    batch = torch.from_numpy(pixels)[None].to(device=weight.device, dtype=_float(weight))
    found = class_gradients(
        classifier,
        batch,
        wanted,
        rule,
        make_method(method, classifier) if isinstance(method, MethodOptions) else method,
        score,
        memory_budget,
        progress,
        argmax=needs_classes(names),
    )
    with timed("maps"):
        saliency = saliency_maps(found, names)
    predictions = _predictions(classifier, found)
    chosen = int(found.target[0])
    raw = {name: _numpy(values[0]) for name, values in saliency.items()}
    compared = tuple(sorted(set(found.rivals[0].tolist())))
    listed = {chosen, *(p.index for p in predictions), *_classes_in(raw)}
    if len(compared) == 1:
        listed.update(compared)  # the figure's title names it
    choices = {
        "target": _as_given(target),
        "rivals": str(found.choices.rivals),
        "method": found.choices.method,
        "method_settings": _settings(found, method),
        "score": found.choices.score,
        "maps": list(names),
        "fit": fit or classifier.framing.fit,
        "tie_rule": "a tie with a rival is neither active nor inactive",
        "scaling": "maps are saved raw; pictures are clipped at the colour limits",
        "seed": found.choices.settings.get("seed"),  # None where nothing is random
        "device": str(weight.device),
        "dtype": str(batch.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    return Explanation(
        image=facts,
        crop=crop,
        photo=photo,
        pixels=_numpy(batch[0]),
        logits=_numpy(found.logits[0]),
        target=_prediction(classifier, found, chosen),
        predictions=predictions,
        rivals=compared,
        maps=raw,
        facts=_map_facts(saliency),
        labels={index: classifier.label(index) for index in sorted(listed) if index >= 0},
        choices=choices,
        model=classifier.describe(),
        versions=versions(),
    )


def _check_classifier(given: object) -> None:
    if not isinstance(given, Classifier):
        raise ModelError(
            f"classifier is a {type(given).__name__}: expected a Classifier, as load_classifier "
            "gives, or Classifier(module, mean=..., std=..., size=...)"
        )


def _settings(found: ClassGradients, method: Any) -> dict[str, Any]:
    """The method's settings, with the place of a background that was read from files."""
    kept = {name: value for name, value in found.choices.settings.items() if name != "name"}
    if isinstance(method, MethodOptions) and method.background is not None:
        kept["background"] = method.background
    return kept


def _rule(
    classifier: Classifier,
    rivals: str | Sequence[int | str] | Mapping[int | str, float] | RivalRule,
) -> RivalRule:
    if isinstance(rivals, str) or not isinstance(rivals, Iterable):
        return parse_rivals(rivals)
    if isinstance(rivals, Mapping):
        return parse_rivals({classifier.class_index(k): weight for k, weight in rivals.items()})
    return parse_rivals([classifier.class_index(rival) for rival in rivals])


def _read(
    classifier: Classifier, image: ImageLike, fit: Fit | None
) -> tuple[NDArray[np.float32], CropBox, NDArray[np.uint8], ImageFacts]:
    """Pixels, crop box, the photo to show, and where they came from."""
    if isinstance(image, Tensor):
        image = _array_of(image)
    if isinstance(image, np.ndarray):
        pixels = check_array(image)
        height, width = pixels.shape[1:]
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        box = CropBox(0, 0, width, height, width, height)
        return pixels, box, to_uint8(pixels), ImageFacts("array", digest, is_file=False)
    if isinstance(image, Image.Image):
        image = photo_from_image(image)
    if not isinstance(image, str | Path | Photo):
        raise ImageError(
            f"image is a {type(image).__name__}: expected a path, a Pillow image, an array "
            "(H, W, C) or a tensor (C, H, W)"
        )
    is_file = isinstance(image, str | Path) or image.is_file
    photo = image if isinstance(image, Photo) else open_photo(image)
    pixels, box = frame(photo, classifier.framing.with_fit(fit), classifier.channels)
    facts = ImageFacts(photo.source, photo.sha256, is_file, photo.notes)
    return pixels, box, _shown(photo), facts


def _array_of(image: Tensor) -> NDArray[Any]:
    """A tensor (C, H, W) as an array (H, W, C)."""
    if image.ndim != 3:
        raise ImageError(f"image is a tensor of shape {tuple(image.shape)}: expected (C, H, W)")
    return _numpy(image.permute(1, 2, 0))


def _numpy(values: Tensor) -> NDArray[Any]:
    """A NumPy copy; half precision, which NumPy lacks in part, becomes float32."""
    values = values.detach().cpu()
    half = values.dtype in (torch.float16, torch.bfloat16)
    return (values.float() if half else values).numpy().copy()


def _shown(photo: Photo) -> NDArray[np.uint8]:
    """The upright photo in 8 bits, at most `PHOTO_SIDE` a side."""
    image = photo.image
    if image.mode == "F":
        image = Image.fromarray(np.rint(np.asarray(image) * 255).astype(np.uint8))
    image = image.convert("RGB")
    image.thumbnail((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _float(weight: Tensor) -> torch.dtype:
    return weight.dtype if weight.is_floating_point() else torch.float32


def _predictions(classifier: Classifier, found: ClassGradients) -> tuple[Prediction, ...]:
    best = found.logits[0].sort(descending=True, stable=True).indices[:TOP].tolist()
    return tuple(_prediction(classifier, found, index) for index in best)


def _prediction(classifier: Classifier, found: ClassGradients, index: int) -> Prediction:
    logits = found.logits[0].cpu().double()
    chance = classifier.probabilities(logits)
    return Prediction(index, classifier.label(index), float(logits[index]), float(chance[index]))


def _classes_in(maps: Mapping[str, NDArray[Any]]) -> list[int]:
    """Classes that a class map shows."""
    named = [values for name, values in maps.items() if MAPS[name].kind == "class"]
    return [int(k) for values in named for k in np.unique(values)]


def _map_facts(saliency: SaliencyMaps) -> dict[str, MapFacts]:
    return {
        name: MapFacts(
            MAPS[name].form,
            MAPS[name].kind,
            MAPS[name].reads,
            float(support.pixels[0]),
            float(support.entries[0]),
        )
        for name, support in saliency.support.items()
    }


def _as_given(target: int | str | None) -> int | str:
    """The target rule in a form that JSON keeps."""
    if target is None:
        return "predicted"
    return target if isinstance(target, str) else int(target)
