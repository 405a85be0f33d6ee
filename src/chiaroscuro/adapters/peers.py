"""Our maps as Captum, Quantus and pytorch-grad-cam take them, and their targets as classes."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chiaroscuro.adapters.question import PixelNetwork, Question, make_question
from chiaroscuro.choices import MAPS, Rivals, Score
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import pixel_order, pixel_rank, tie_priority
from chiaroscuro.errors import ChoiceError, InputError, first_line, missing_extra
from chiaroscuro.gradients import Method
from chiaroscuro.gradients.classes import resolve_target, target_indices
from chiaroscuro.maps import scale
from chiaroscuro.metrics.deletion import check_maps

Inputs = Tensor | tuple[Tensor, ...]
Targets = Sequence[Callable[[Tensor], Any]] | Sequence[int] | Tensor | int | None

_INSTEAD = {
    "ClassifierOutputSoftmaxTarget": "ClassifierOutputTarget with score='log-probability'",
    "ClassifierOutputReST": "ClassifierOutputTarget, with score='logit' or 'log-probability'",
    "FinerWeightedTarget": "ClassifierOutputTarget, with the compared classes as rivals=[...]",
}
"""What replaces the targets of pytorch-grad-cam that weigh several outputs."""


def _need(what: str, module: str, package: str) -> None:
    if find_spec(module) is None:
        raise missing_extra(what, package, "adapters")


def captum_attribution(
    classifier: Classifier,
    map: str = "active",
    *,
    rivals: Rivals = "all",
    method: str | Method = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
) -> Any:
    """One of our maps as a Captum `GradientAttribution`.

    Its `attribute(inputs, target=None)` takes pixels (B, C, H, W), or a tuple of one such tensor,
    and gives the map per channel in the same form, sign kept. `target` is None for the predicted
    class, an index, a list, or a 1-D tensor. `forward_func`, a `PixelNetwork`, is the function for
    Captum's metrics. Inside `NoiseTunnel` a target must be named, and rivals cannot be top:N, since
    it never shows the clean image; its "smoothgrad" is the mean of *maps*, not of gradients.
    Raises `MissingExtraError` without Captum; `ChoiceError` for a map that holds classes.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> captum_attribution(Classifier(net)).attribute(torch.rand(2, 3, 2, 2), target=3).shape
    torch.Size([2, 3, 2, 2])
    """
    question = make_question(map, rivals, method, score, memory_budget)
    _need("captum_attribution", "captum", "captum")
    return _captum_map()(classifier, question)


@cache
def _captum_map() -> Any:
    """The class that Captum sees, defined where Captum is wanted."""
    from captum.attr import GradientAttribution

    class CaptumMap(GradientAttribution):  # type: ignore[misc]  # Captum's types are not followed
        """One of our maps in the form that Captum uses."""

        def __init__(self, classifier: Classifier, question: Question) -> None:
            super().__init__(PixelNetwork(classifier))
            self.classifier = classifier
            self.question = question

        def _attribute_noisy(self, inputs: Inputs, target: Any = None) -> Inputs:
            """What `NoiseTunnel` calls instead of `attribute`: it shows noisy images only."""
            chosen = "the predicted class" if target is None else f"rivals {self.question.rivals}"
            if target is None or self.question.rivals.count is not None:
                raise ChoiceError(
                    f"{chosen} would differ between noisy images, and NoiseTunnel never shows the "
                    "clean one: name the target, and rivals as 'all' or a list of classes"
                )
            return self._answer(inputs, target)

        # Sets `__wrapped__`, keeps its own name and docstring.
        @wraps(_attribute_noisy, assigned=())
        def attribute(self, inputs: Inputs, target: Any = None) -> Inputs:
            """The map per channel, (B, C, H, W), in the inputs' form; see `captum_attribution`."""
            return self._answer(inputs, target)

        def _answer(self, inputs: Inputs, target: Any) -> Inputs:
            alone = (inputs,) if isinstance(inputs, Tensor) else inputs
            if len(alone) != 1:
                raise InputError(f"inputs are {len(alone)} tensors: an image classifier takes one")
            if isinstance(target, tuple):
                raise ChoiceError(
                    f"target is the tuple {target}, to Captum one place in an output of several "
                    "axes: expected a class index, a list of them, or a 1-D tensor"
                )
            if isinstance(target, Tensor) and target.numel() == 1:
                target = target.reshape(())  # one number is for all images
            values = self.question.values(self.classifier, alone[0], target, "none")
            return (values,) if isinstance(inputs, tuple) else values

    return CaptumMap


def captum_picture(values: Tensor) -> NDArray[np.float64]:
    """One map (H, W) as Captum's `visualize_image_attr` takes it: (H, W, 1), largest size 1.

    Captum adds up the channels before it splits the sign, so it gets one channel. Draw maps that
    are never negative with `sign="positive"`, signed ones with `sign="all"`. Raises `InputError`
    for another shape, and for a map that is zero everywhere or not finite.

    >>> captum_picture(torch.tensor([[0.0, 2.0], [4.0, 1.0]]))[..., 0].tolist()
    [[0.0, 0.5], [1.0, 0.25]]
    """
    if values.ndim != 2:
        raise InputError(f"map has shape {tuple(values.shape)}: expected one map (H, W)")
    picture: NDArray[np.float64] = values.detach().cpu().double().numpy()
    top = float(np.abs(picture).max())
    if not 0 < top < np.inf:
        raise InputError(f"the map's largest size is {top}: there is nothing to draw")
    return (picture / top)[:, :, None]


def quantus_explain(
    map: str = "active",
    *,
    rivals: Rivals = "all",
    method: str | Method = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
) -> Callable[..., NDArray[Any]]:
    """One of our maps as Quantus's `explain_func`: NumPy in, NumPy (B, 1, H, W) out, sign kept.

    It explains the network that Quantus passes: give `PixelNetwork(classifier)`, which normalizes
    inside; any other module gets its input as it is. Quantus's own keywords change nothing. A map
    that is zero everywhere is named in a `UserWarning`. Raises `MissingExtraError` without Quantus;
    `ChoiceError` for a map that holds classes, and for choices of ours among Quantus's keywords.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    >>> explain = quantus_explain("positive")
    >>> pixels = np.ones((2, 3, 2, 2), np.float32)
    >>> explain(model=PixelNetwork(Classifier(net)), inputs=pixels, targets=np.array([0, 4])).shape
    (2, 1, 2, 2)
    """
    question = make_question(map, rivals, method, score, memory_budget)
    _need("quantus_explain", "quantus", "quantus")

    def explain(model: nn.Module, inputs: Any, targets: Any, **keywords: Any) -> NDArray[Any]:
        for name in keywords.keys() & {"map", "rivals", "score", "memory_budget"}:
            raise ChoiceError(
                f"{name} is among Quantus's keywords, where it changes nothing: "
                f"give it to quantus_explain({name}=...)"
            )
        pixels = torch.as_tensor(np.asarray(inputs))
        weight = next((p for p in model.parameters() if p.is_floating_point()), pixels)
        pixels = pixels.to(weight.device, weight.dtype)
        if isinstance(model, PixelNetwork):
            classifier = model.classifier
        else:
            classifier = Classifier(model, channels=pixels.shape[1])
        classes = None if targets is None else torch.as_tensor(np.asarray(targets)).reshape(-1)
        values = question.values(classifier, pixels, classes)
        empty = (values == 0).flatten(1).all(dim=1).nonzero().flatten().tolist()
        if empty:
            warnings.warn(
                f"map {map!r} is zero everywhere for image {', '.join(str(b) for b in empty)} of "
                f"this batch of {len(values)}: its scores mean nothing",
                stacklevel=2,
            )
        maps: NDArray[Any] = values[:, None].cpu().numpy()
        return maps

    return explain


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
    `grad_cam_targets` reads them, or any target of `class_gradients`. Raises as these two do, and
    `MissingExtraError` without pytorch-grad-cam.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> grad_cam_maps(Classifier(net), torch.rand(2, 3, 2, 2), [lambda row: row[4]] * 2).shape
    (2, 2, 2)
    """
    question = make_question(map, rivals, method, score, memory_budget)
    _need("grad_cam_maps", "pytorch_grad_cam", "grad-cam")
    values = question.values(classifier, pixels, _read_targets(classifier, pixels, targets))
    scaled: NDArray[Any] = scale(values, MAPS[map].kind).cpu().numpy()
    return scaled


def road_scores(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    targets: Targets = None,
    percentiles: Sequence[float] = (10, 20, 30, 40, 50, 60, 70, 80, 90),
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """pytorch-grad-cam's `ROADCombined` of each map (B, H, W): scores (B,), higher is better.

    Half the difference between the class's logit after the least and after the most relevant pixels
    are replaced by a noisy blend of their neighbors, averaged over the percentiles. It gets the
    maps' *ranks*, ties in a random order drawn from `seed`, as is its noise: a percentile among a
    sparse map's zeros would remove every pixel. Raises as `grad_cam_maps` does, and `InputError`
    for maps that do not fit the pixels.
    """
    _need("road_scores", "pytorch_grad_cam", "grad-cam")
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    check_maps(maps, pixels)
    network = PixelNetwork(classifier)
    with torch.no_grad():
        logits = network(pixels)
    target = _read_targets(classifier, pixels, targets)
    chosen = resolve_target(target, logits, multi_label=classifier.multi_label)
    outputs = [ClassifierOutputTarget(k) for k in chosen.tolist()]
    measure = ROADCombined(percentiles=list(percentiles))

    def float_logits(images: Tensor) -> Tensor:  # ROAD fills in float32, no other pixels
        logits: Tensor = network(images.to(pixels.dtype))
        return logits.float()

    scores = {}
    for name, values in maps.items():
        places = pixel_rank(pixel_order(values.detach(), tie_priority(pixels, seed)))
        last = places.shape[1] - 1
        # From the lowest pixel of an image's map (0) to the highest (1).
        ranks = ((last - places).double() / last).cpu().numpy().reshape(values.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            scores[name] = torch.from_numpy(measure(pixels.float(), ranks, outputs, float_logits))
    return scores


def grad_cam_targets(
    classifier: Classifier, pixels: Tensor, targets: Sequence[Callable[[Tensor], Any]]
) -> Tensor:
    """The class index (B,) that each of pytorch-grad-cam's targets picks out of an image's outputs.

    A target counts as class k when it returns output k of any row, whatever its type. For a network
    of one column s, read here as two classes with logits (-s/2, +s/2), one that returns s is class
    1, and one that returns -s is class 0. Our maps compare *a class* with its rivals: raises
    `ChoiceError` for every other callable, and for another number of targets than images.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> grad_cam_targets(Classifier(net), torch.rand(2, 3, 2, 2), [lambda row: row[4]] * 2)
    tensor([4, 4])
    """
    with torch.no_grad():
        logits = PixelNetwork(classifier)(pixels)
    if len(targets) != len(logits):
        raise ChoiceError(f"{len(targets)} targets for {len(logits)} images: give one each")
    # Outputs to try a target on: random ones and their negatives.
    one_column = logits.shape[1] == 2 and torch.equal(logits[:, 0], -logits[:, 1])
    generator = torch.Generator().manual_seed(0)
    width = 1 if one_column else logits.shape[1]
    half = torch.randn(8, width, generator=generator, dtype=torch.float64)
    rows = torch.cat([half, -half])
    return torch.tensor([_class_of(target, rows) for target in targets], device=logits.device)


def _read_targets(classifier: Classifier, pixels: Tensor, targets: Any) -> Any:
    """Callables and class names as class indices; any other target as it is."""
    if callable(targets):
        raise ChoiceError("targets is one callable: give a list, one for each image")
    if isinstance(targets, Sequence) and any(callable(target) for target in targets):
        return grad_cam_targets(classifier, pixels, targets)
    return target_indices(targets, classifier)


def _class_of(target: Callable[[Tensor], Any], rows: Tensor) -> int:
    reason = ""
    try:
        scores = [torch.as_tensor(target(row.clone()), dtype=row.dtype).reshape(()) for row in rows]
        classes = torch.cat([-rows, rows], dim=1) if rows.shape[1] == 1 else rows
        same = (classes == torch.stack(scores)[:, None]).all(dim=0).nonzero().flatten().tolist()
        if len(same) == 1:
            return int(same[0])
    except Exception as error:  # whatever a callable does on a row
        reason = f" ({first_line(error)})"
    name = getattr(target, "__name__", type(target).__name__)
    instead = _INSTEAD.get(name, "ClassifierOutputTarget(k) or a class index")
    raise ChoiceError(
        f"target {name} returns no single output of a row of {rows.shape[1]}{reason}: "
        f"a map explains one class; give {instead}"
    )
