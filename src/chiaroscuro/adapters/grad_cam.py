"""Our maps in pytorch-grad-cam's form, its targets as classes, and its ROAD score of our maps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.adapters.network import PixelNetwork, need
from chiaroscuro.adapters.question import Rivals, make_question
from chiaroscuro.choices import MAPS, Score
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import pixel_order, pixel_rank, tie_priority
from chiaroscuro.errors import ChoiceError, InputError, first_line
from chiaroscuro.gradients import Method
from chiaroscuro.maps import scale

Targets = Sequence[Callable[[Tensor], Any]] | Sequence[int] | Tensor | int | None

ROAD_PERCENTILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)
"""The percentiles that pytorch-grad-cam's own averages run through."""
_ROWS = 8
_INSTEAD = {
    "ClassifierOutputSoftmaxTarget": "ClassifierOutputTarget with score='log-probability'",
    "ClassifierOutputReST": "ClassifierOutputTarget, with score='logit' or 'log-probability'",
    "FinerWeightedTarget": "ClassifierOutputTarget, with the compared classes as rivals=[...]",
}
"""What replaces the targets that weigh several outputs."""


def grad_cam_maps(
    classifier: Classifier,
    pixels: Tensor,
    targets: Targets = None,
    map: str = "active",
    *,
    rivals: Rivals = "all",
    method: str | Method = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
) -> NDArray[Any]:
    """One of our maps as pytorch-grad-cam's calls give and take them: NumPy (B, H, W).

    Scaled per image as `saliency_maps(..., normalize="minmax")` does: to [0, 1], or for signed maps
    to [-1, 1], which `show_cam_on_image` cannot draw. `targets`: its callables, as
    `grad_cam_targets` reads them, or any target of `class_gradients`.

    Raises `MissingExtraError` without pytorch-grad-cam, `ChoiceError` for a map that holds classes
    and for callables that pick no class.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> grad_cam_maps(Classifier(net), torch.rand(2, 3, 2, 2), [lambda row: row[4]] * 2).shape
    (2, 2, 2)
    """
    question = make_question(map, rivals, method, score, memory_budget)
    need("grad_cam_maps", "pytorch_grad_cam", "grad-cam")
    target = _read_targets(classifier, pixels, targets)
    values = question.values(classifier, pixels, target)
    scaled: NDArray[Any] = scale(values, MAPS[map].kind).cpu().numpy()
    return scaled


def road_scores(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    targets: Targets = None,
    percentiles: Sequence[float] = ROAD_PERCENTILES,
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """pytorch-grad-cam's `ROADCombined` of each map (B, H, W): scores (B,), higher is better.

    Half the difference between the class's logit after the least and after the most relevant pixels
    are replaced by a noisy blend of their neighbors, averaged over the percentiles. It gets the
    maps' *ranks*, ties in a random order drawn from `seed`: of a sparse map itself, a percentile
    among its zeros would remove every pixel. Its own noise is drawn from `seed` too, and the global
    random state is restored.

    Raises `MissingExtraError` without pytorch-grad-cam; `InputError` for maps that do not fit the
    pixels; `ChoiceError` for callables that pick no class.
    """
    need("road_scores", "pytorch_grad_cam", "grad-cam")
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = PixelNetwork(classifier)
    with torch.no_grad():
        logits = network(pixels)
    chosen = _chosen(classifier, logits, _read_targets(classifier, pixels, targets))
    outputs = [ClassifierOutputTarget(k) for k in chosen]
    measure = ROADCombined(percentiles=list(percentiles))

    def float_logits(images: Tensor) -> Tensor:  # ROAD fills in float32, no other pixels
        logits: Tensor = network(images.to(pixels.dtype))
        return logits.float()

    scores = {}
    for name, values in maps.items():
        ranks = _ranks(name, values, pixels, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            scores[name] = torch.from_numpy(measure(pixels.float(), ranks, outputs, float_logits))
    return scores


def _chosen(classifier: Classifier, logits: Tensor, target: Any) -> list[int]:
    """The class of each image, checked."""
    images, classes = logits.shape
    if target is None and classifier.multi_label:
        raise ChoiceError("a multi-label classifier has no predicted class: give targets")
    chosen = logits.argmax(dim=1) if target is None else torch.as_tensor(target)
    listed: list[int] = chosen.expand(images).tolist() if chosen.ndim == 0 else chosen.tolist()
    if len(listed) != images:
        raise ChoiceError(f"{len(listed)} targets for {images} images: give one each")
    outside = [k for k in listed if not 0 <= k < classes]
    if outside:
        raise ChoiceError(f"target {outside[0]} is out of range: expected 0..{classes - 1}")
    return listed


def _ranks(name: str, values: Tensor, pixels: Tensor, seed: int) -> NDArray[np.float64]:
    """Each pixel's rank from the lowest (0) to the highest (1) of its image's map, (B, H, W)."""
    expected = (len(pixels), *pixels.shape[2:])
    if values.shape != expected:
        raise InputError(
            f"map {name!r} has shape {tuple(values.shape)}: expected (B, H, W) = {expected} "
            "as the pixels"
        )
    places = pixel_rank(pixel_order(values.detach(), tie_priority(pixels, seed)))
    last = places.shape[1] - 1
    ranks: NDArray[np.float64] = ((last - places).double() / last).cpu().numpy()
    return ranks.reshape(expected)


def grad_cam_targets(
    classifier: Classifier, pixels: Tensor, targets: Sequence[Callable[[Tensor], Any]]
) -> Tensor:
    """The class index (B,) that each of pytorch-grad-cam's targets picks out of an image's outputs.

    A target counts as class k when it returns output k of any row, whatever its type:
    `ClassifierOutputTarget(k)`, or `lambda row: row[k]`. For a network of one column s, read here
    as two classes with logits (-s/2, +s/2), one that returns s, such as
    `BinaryClassifierOutputTarget(1)`, is class 1, and one that returns -s is class 0.

    Our maps compare *a class* with its rivals, so every other callable is refused: softmax, sums,
    differences, masks. Raises `ChoiceError` for those, and for another number of targets than
    images.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> grad_cam_targets(Classifier(net), torch.rand(2, 3, 2, 2), [lambda row: row[4]] * 2)
    tensor([4, 4])
    """
    with torch.no_grad():
        logits = PixelNetwork(classifier)(pixels)
    if len(targets) != len(logits):
        raise ChoiceError(f"{len(targets)} targets for {len(logits)} images: give one each")
    rows = _rows(logits)
    chosen = [_class_of(target, rows) for target in targets]
    return torch.tensor(chosen, device=logits.device)


def _read_targets(classifier: Classifier, pixels: Tensor, targets: Any) -> Any:
    """Callables as class indices; any other target as it is."""
    if callable(targets):
        raise ChoiceError("targets is one callable: give a list, one for each image")
    if isinstance(targets, Sequence) and any(callable(target) for target in targets):
        return grad_cam_targets(classifier, pixels, targets)
    return targets


def _rows(logits: Tensor) -> Tensor:
    """Outputs to try a target on (R, K): random ones and their negatives."""
    one_column = logits.shape[1] == 2 and torch.equal(logits[:, 0], -logits[:, 1])
    generator = torch.Generator().manual_seed(0)
    width = 1 if one_column else logits.shape[1]
    half = torch.randn(_ROWS, width, generator=generator, dtype=torch.float64)
    return torch.cat([half, -half])


def _class_of(target: Callable[[Tensor], Any], rows: Tensor) -> int:
    scores = torch.stack([_score(target, row) for row in rows])
    classes = torch.cat([-rows, rows], dim=1) if rows.shape[1] == 1 else rows
    same = (classes == scores[:, None]).all(dim=0).nonzero().flatten().tolist()
    if len(same) != 1:
        raise _refused(target, "returns no single output")
    return int(same[0])


def _score(target: Callable[[Tensor], Any], row: Tensor) -> Tensor:
    try:
        score = torch.as_tensor(target(row.clone()), dtype=row.dtype)
    except Exception as error:
        raise _refused(
            target, f"fails on a row of {len(row)} outputs ({first_line(error)})"
        ) from error
    if score.numel() != 1:
        raise _refused(target, f"returns shape {tuple(score.shape)}, no single output")
    return score.reshape(())


def _refused(target: object, what: str) -> ChoiceError:
    name = getattr(target, "__name__", type(target).__name__)
    instead = _INSTEAD.get(name, "ClassifierOutputTarget(k) or a class index")
    return ChoiceError(f"target {name} {what}: a map explains one class; give {instead}")
