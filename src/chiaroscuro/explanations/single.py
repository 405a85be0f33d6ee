"""Images through a classifier, its gradients and its maps; and what callers hand in for that."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import chiaroscuro.results.explanations as results
from chiaroscuro.catalog import versions
from chiaroscuro.choices import MAPS, Fit, MethodOptions, RivalRule, as_int, parse_rivals
from chiaroscuro.classifier import Classifier, Picture
from chiaroscuro.classifier.reading import Read, to_numpy
from chiaroscuro.classifier.regions import RegionScores, is_detector, placed
from chiaroscuro.errors import ChoiceError, ImageError, ModelError, printable
from chiaroscuro.explanations.evidence import Explained, find_evidence
from chiaroscuro.gradients import ClassGradients, GradientChoices, Method, class_gradients
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.images import CropBox, Framing, Photo, find_photos, frame, open_photo, to_uint8
from chiaroscuro.maps import SaliencyMaps, needs_classes, saliency_maps
from chiaroscuro.regions import Region
from chiaroscuro.render.shown import shown_notes, shown_pixels
from chiaroscuro.results.explanations import Explanation, ExplanationChoices, MethodFacts
from chiaroscuro.results.facts import ImageFacts, MapFacts, Prediction
from chiaroscuro.results.folders import Digest, digest
from chiaroscuro.settings import ExplainSettings, settings_from, takes
from chiaroscuro.stopwatch import timed

PLAIN = "a plain module was given: it gets pixels in [0, 1], not normalized, at their own size"
MOST_LISTED = 5  # of the best classes, and of the rivals chosen by name or index

Target = int | str | Tensor | np.integer[Any]


@dataclass(frozen=True, eq=False)
class ReadImage:
    """Pixels (C, H, W) in [0, 1], where they lie on the photo, the photo to show, and its facts."""

    pixels: NDArray[np.float32]
    crop: CropBox
    photo: NDArray[np.uint8]
    facts: ImageFacts
    notes: tuple[str, ...] = ()


@overload
def explain(classifier: Classifier | nn.Module, image: Picture, **options: Any) -> Explanation: ...
@overload
def explain(
    classifier: Classifier | nn.Module, image: list[Any] | tuple[Any, ...], **options: Any
) -> list[Explanation]: ...
@takes(ExplainSettings)
def explain(
    classifier: Classifier | nn.Module,
    image: Picture | list[Any] | tuple[Any, ...],
    *,
    target: Target | Sequence[Target] | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Explanation | list[Explanation]:
    """Explain an image: the predicted classes, and which pixels raise or lower a class's score.

    `image`: a path or a Pillow image (brought to the classifier's size by `fit`, default its own);
    an array (H, W, C) or a tensor (C, H, W), floats in [0, 1] or values of 8 or 16 bits, taken as
    it is, or a NumPy file of one; (D, H, W, C) or (C, D, H, W) where a classifier takes volumes. A
    list of images, or a batch (B, C, H, W) of two or more, gives a list of explanations; images of
    one size go through the network together. A batch of one is one image. `classifier` may be a
    module that needs no normalization.

    `target` and `rivals` take class indices or names; None explains the predicted class; several
    images may have a target each. `method`: as `class_gradients` takes it, or `MethodOptions`,
    whose background is read from its files. `memory_budget`: bytes above the loaded model.
    `evidence="quick"` also tests the maps (`Evidence`), for a second or two.

    Raises `ImageError`, `ChoiceError`, `InputError` or `ModelError`.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    >>> explanation = explain(Classifier(net, size=8), np.zeros((8, 8, 3)))
    >>> explanation.maps["active"].shape, len(explanation.predictions)
    ((8, 8), 5)
    """
    classifier = as_classifier(classifier)
    images, several = split_images(image, volumes=classifier.volumes)
    settings = settings_from(ExplainSettings, None, options)
    rule = parse_rivals(settings.rivals).resolve(classifier.class_index)
    method = settings.method_options
    targets = targets_of(target, len(images))
    indices = [class_index(classifier, one) for one in targets]
    prepared = make_method(method, classifier)
    with timed("decode"):
        read = [read_image(classifier, one, settings.fit) for one in images]
    parts = [in_part(classifier, settings.part, one) for one in read]
    together = defaultdict(list)
    for n, one in enumerate(read):
        own = None if parts[n] is classifier else n
        together[one.pixels.shape, indices[n] is None, own].append(n)
    explanations: dict[int, Explanation] = {}
    score, argmax = settings.score, needs_classes(settings.maps)
    for positions in together.values():
        batch, part = as_batch(classifier, [read[n].pixels for n in positions]), parts[positions[0]]
        wanted = [k for k in (indices[n] for n in positions) if k is not None]
        gradients = class_gradients(
            part,
            batch,
            wanted or best_of_part(part, batch),
            rule,
            prepared,
            score,
            memory_budget,
            progress,
            argmax=argmax,
        )
        with timed("maps"):
            saliency = saliency_maps(gradients, settings.maps)
        facts, fit = method_facts(gradients.choices, method), settings.fit or classifier.framing.fit
        fixed = (str(gradients.choices.rivals), score, facts, settings.maps, fit)
        for row, n in enumerate(positions):
            chosen = ExplanationChoices(as_given(targets[n]), *fixed)
            explanations[n] = _explanation(
                part, read[n], batch[row], gradients, saliency, row, rule, chosen
            )
            if settings.evidence == "none":
                continue
            maps = {name: values[row : row + 1] for name, values in saliency.items()}
            asked = (maps, int(gradients.target[row]), rule, prepared, score)
            tested = Explained(part, batch[row : row + 1], *asked, settings.seed, memory_budget)
            with timed("evidence"):
                found = find_evidence(tested, settings.evidence)
            explanations[n] = dataclasses.replace(explanations[n], evidence=found)
    return [explanations[n] for n in range(len(images))] if several else explanations[0]


def _explanation(
    classifier: Classifier,
    image: ReadImage,
    pixels: Tensor,
    gradients: ClassGradients,
    saliency: SaliencyMaps,
    row: int,
    rule: RivalRule,
    choices: ExplanationChoices,
) -> Explanation:
    """The explanation of one image of a batch."""
    logits = gradients.logits[row]
    target = prediction(classifier, logits, int(gradients.target[row]))
    compared = tuple(sorted(set(gradients.rivals[row].tolist())))
    best = top_predictions(classifier, logits)
    more = dict.fromkeys((target.index, *(rule.indices or ())[:MOST_LISTED]))
    listed = {p.index for p in best}
    predictions = (*best, *(prediction(classifier, logits, k) for k in more if k not in listed))
    maps = {name: to_numpy(values[row]) for name, values in saliency.items()}
    facts = {}
    for name, support in saliency.support.items():
        about, shares = MAPS[name], (float(support.pixels[row]), float(support.entries[row]))
        facts[name] = MapFacts(about.form, about.kind, about.reads, *shares)
    labeled = {p.index for p in predictions}
    labeled |= set(compared) if len(compared) <= results.MOST_NAMED else set()
    for name, values in maps.items():
        labeled |= set(np.unique(values).tolist()) if MAPS[name].kind == "class" else set()
    notes = [*classifier.notes, *image.notes, *rival_notes(rule, logits)]
    extremes = (gradients.target_gradient, gradients.rival_max, gradients.rival_min)
    if not any(bool(values[row].any()) for values in extremes):
        notes.append("gradients are zero everywhere: small changes of pixels change no logit")
    return Explanation(
        image=image.facts,
        crop=image.crop,
        photo=image.photo,
        pixels=to_numpy(pixels),
        logits=to_numpy(logits),
        target=target,
        predictions=predictions,
        rivals=compared,
        maps=maps,
        facts=facts,
        labels={index: classifier.label(index) for index in sorted(labeled) if index >= 0},
        choices=choices,
        model=classifier.describe(),
        threads=torch.get_num_threads(),
        versions=versions(),
        notes=tuple(notes),
        region=classifier.region,
    )


def as_classifier(model: object) -> Classifier:
    """A classifier, or a module as one that gets pixels in [0, 1] as they are, with a note."""
    if isinstance(model, nn.Module):
        model = Classifier(model)
        model.notes += (PLAIN,)
    if not isinstance(model, Classifier):
        forms = "as load_classifier gives, or Classifier(module, mean=..., std=..., size=...)"
        raise ModelError(f"classifier is a {type(model).__name__}: expected a Classifier, {forms}")
    return model


def split_images(image: object, *, volumes: bool = False) -> tuple[list[Any], bool]:
    """The images of a list or of a batch (B, C, H, W), and whether there are several."""
    if isinstance(image, list | tuple):
        if image and not any(isinstance(part, int | float | list) for part in image):
            return list(image), True
        kind = type(image).__name__
        raise ImageError(f"image is a {kind} of {len(image)}: expected images in it")
    if isinstance(image, Tensor | np.ndarray) and image.ndim == 4 + volumes:
        if not len(image):
            raise ImageError(f"image has shape {tuple(image.shape)}: it holds no images")
        return list(image), len(image) > 1
    return [image], False


def read_image(classifier: Classifier, image: Picture, fit: Fit | None) -> ReadImage:
    """An image as pixels: photos at the classifier's size by `fit`, arrays as they are."""
    photo = classifier.read(image)
    if isinstance(photo, Read):
        classifier.check_sides(photo.pixels.shape)
        shown = to_uint8(shown_pixels(photo.pixels, classifier.shown))
        height, width = shown.shape[:2]
        notes = tuple(shown_notes(classifier.describe(), photo.pixels))
        box = CropBox(0, 0, width, height, width, height)
        return ReadImage(photo.pixels, box, shown, photo.facts, notes)
    is_file = isinstance(image, str | Path) or photo.is_file
    pixels, box = frame(photo, classifier.framing.with_fit(fit), classifier.channels)
    source, white = printable(photo.source), photo.white
    facts = ImageFacts(source, photo.sha256, is_file, photo.notes, white)
    if classifier.size or classifier.mean or classifier.std or PLAIN in classifier.notes:
        return ReadImage(pixels, box, _shown(photo), facts)
    note = "the classifier has no size, mean and std: the module gets the photo at its own "
    note += f"{pixels.shape[2]} x {pixels.shape[1]} px, in [0, 1] as it is"
    return ReadImage(pixels, box, _shown(photo), facts, (note,))


def in_part(classifier: Classifier, region: Region | None, image: ReadImage) -> Classifier:
    """The classifier of a region of this image, where one is chosen here or by the classifier."""
    module = classifier.module
    if region is None and isinstance(module, RegionScores) and module.region.mask is None:
        region = Region.predicted(module.label)
    elif region is None and is_detector(module):
        region = Region.detected(-1)  # there is none, so that all are listed
    if region is None:
        return classifier
    pixels = as_batch(classifier, [image.pixels])
    return classifier.at(placed(classifier, region, pixels, image.crop, image.facts.source))


def best_of_part(classifier: Classifier, pixels: Tensor) -> list[int] | None:
    """The best classes where a detector's do not exclude each other; None: what is predicted."""
    if classifier.region is None or not classifier.multi_label:
        return None
    with torch.no_grad():
        best: list[int] = classifier(pixels).argmax(1).tolist()
    return best


def _shown(photo: Photo) -> NDArray[np.uint8]:
    """The upright photo in 8 bits, at most 640 pixels a side."""
    image = photo.image
    if image.mode == "F":
        image = Image.fromarray(np.rint(np.asarray(image) * 255).astype(np.uint8))
    image = image.convert("RGB")
    image.thumbnail((640, 640), Image.Resampling.LANCZOS)
    return np.asarray(image)


def as_batch(classifier: Classifier, images: Iterable[NDArray[np.floating[Any]]]) -> Tensor:
    """Images (C, H, W) of one size as a batch, where the module lies and in its dtype."""
    pixels = torch.from_numpy(np.stack(list(images)))
    return pixels.to(device=classifier.device, dtype=classifier.dtype)


def class_index(classifier: Classifier, target: Any) -> int | None:
    """A class by index or name, None for the predicted one; raises `ChoiceError`."""
    return None if target is None else classifier.class_index(target)


def as_given(target: object) -> int | str:
    """A target in the form that a result keeps."""
    if target is None:
        return "predicted"
    return target if isinstance(target, str) else as_int("target", target)


def targets_of(target: Any, count: int) -> list[Any]:
    """One target an image; raises `ChoiceError` for another number of them."""
    if not isinstance(target, list | tuple) and getattr(target, "ndim", 0) != 1:
        return [target] * count
    if len(target) != count:
        raise ChoiceError(f"target has {len(target)} classes for {count} images")
    return list(target)


def top_predictions(classifier: Classifier, logits: Tensor) -> tuple[Prediction, ...]:
    """The classes with the highest logits (K,), best first; ties in the order of the classes."""
    best = logits.sort(descending=True, stable=True).indices[:MOST_LISTED].tolist()
    return tuple(prediction(classifier, logits, index) for index in best)


def prediction(classifier: Classifier, logits: Tensor, index: int) -> Prediction:
    """One class of logits (K,)."""
    exact = logits.detach().cpu().double()
    chance = classifier.probabilities(exact)
    return Prediction(index, classifier.label(index), float(exact[index]), float(chance[index]))


def rival_notes(rule: RivalRule, logits: Tensor) -> Iterator[str]:
    """What is unusual about rivals of logits (K,)."""
    if rule.count is not None and rule.count > len(logits) - 1:
        yield f"rivals {rule}: only {len(logits) - 1} other classes"


def make_method(options: MethodOptions | Any, classifier: Classifier) -> Method | Any:
    """The method of these options, its background framed for the classifier; others as they are."""
    if not isinstance(options, MethodOptions):
        return options
    source, background = options.background, None
    if source is not None:
        files = tuple((p, digest(p) if p.is_file() else None) for p in find_photos([source]))
        background = _read_background(source, files, classifier.framing, classifier.channels)
    tuning = options.points, options.sigma, options.baseline
    return Method(options.name, *tuning, background, options.seed, options.precision)


def method_facts(choices: GradientChoices, method: Any) -> MethodFacts:
    """What a result says of the method, with the place of a background that was read from files."""
    settings = {**choices.settings, "name": choices.method}
    place = method.background if isinstance(method, MethodOptions) else None
    return MethodFacts(**settings, background=place)


@lru_cache(maxsize=2)
def _read_background(
    source: str, files: tuple[tuple[Path, Digest | None], ...], framing: Framing, channels: int
) -> Tensor:
    """The pixels (N, C, H, W) of files of known content, which are kept from batch to batch."""
    pixels = [frame(open_photo(path), framing, channels)[0] for path, _ in files]
    sizes = sorted({image.shape for image in pixels})
    if len(sizes) > 1:
        raise ChoiceError(
            f"background {source} has images of {len(sizes)} sizes (such as {sizes[0]} and "
            f"{sizes[1]}): give a model with a size, or images of one size"
        )
    return torch.from_numpy(np.stack(pixels))
