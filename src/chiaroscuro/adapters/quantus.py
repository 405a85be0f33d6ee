"""Our maps as a function that Quantus calls for explanations."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chiaroscuro.adapters.network import PixelNetwork, need
from chiaroscuro.adapters.question import Question, Rivals, make_question
from chiaroscuro.choices import Score
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError
from chiaroscuro.gradients import Method

_OURS = ("map", "rivals", "score", "memory_budget")


def quantus_explain(
    map: str = "active",
    *,
    rivals: Rivals = "all",
    method: str | Method = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
) -> Callable[..., NDArray[Any]]:
    """One of our maps as Quantus's `explain_func`: NumPy in, NumPy (B, 1, H, W) out, sign kept.

    Quantus passes the current network, which may be a copy with random weights. Give
    Quantus `PixelNetwork(classifier)`, so that its pixels are in [0, 1] and normalized inside; any
    other module gets its input as it is. Quantus's own keywords (`device`, `method`) are accepted
    and change nothing. A map that is zero everywhere is named in a `UserWarning`, since most
    metrics score it without a word.

    Raises `MissingExtraError` without Quantus; `ChoiceError` for a map that holds classes, and,
    when called, for choices of ours among Quantus's keywords.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    >>> explain = quantus_explain("positive")
    >>> pixels = np.ones((2, 3, 2, 2), np.float32)
    >>> explain(model=PixelNetwork(Classifier(net)), inputs=pixels, targets=np.array([0, 4])).shape
    (2, 1, 2, 2)
    """
    question = make_question(map, rivals, method, score, memory_budget)
    need("quantus_explain", "quantus", "quantus")

    def explain(model: nn.Module, inputs: Any, targets: Any, **keywords: Any) -> NDArray[Any]:
        misplaced = [name for name in _OURS if name in keywords]
        if misplaced:
            raise ChoiceError(
                f"{misplaced[0]} is among Quantus's keywords, where it changes nothing: "
                f"give it to quantus_explain({misplaced[0]}=...)"
            )
        return _explain(question, model, inputs, targets)

    return explain


def _explain(question: Question, model: nn.Module, inputs: Any, targets: Any) -> NDArray[Any]:
    pixels = _like_weights(model, inputs)
    if isinstance(model, PixelNetwork):
        classifier = model.classifier
    else:
        classifier = Classifier(model, channels=pixels.shape[1])
    classes = None if targets is None else torch.as_tensor(np.asarray(targets)).reshape(-1)
    values = question.values(classifier, pixels, classes)
    _warn_of_zeros(question.map, values)
    maps: NDArray[Any] = values[:, None].cpu().numpy()
    return maps


def _like_weights(model: nn.Module, inputs: Any) -> Tensor:
    """The images in the type and on the device of the network's weights."""
    pixels = torch.as_tensor(np.asarray(inputs))
    weight = next((p for p in model.parameters() if p.is_floating_point()), pixels)
    return pixels.to(weight.device, weight.dtype)


def _warn_of_zeros(name: str, values: Tensor) -> None:
    empty = (values == 0).flatten(1).all(dim=1).nonzero().flatten().tolist()
    if empty:
        listed = ", ".join(str(index) for index in empty)
        warnings.warn(
            f"map {name!r} is zero everywhere for image {listed} of this batch of {len(values)}: "
            "its scores mean nothing",
            stacklevel=4,
        )
