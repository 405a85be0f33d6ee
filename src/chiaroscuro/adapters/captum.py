"""Our maps as a Captum attribution, and as pictures for Captum's drawing."""

from functools import cache, wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.adapters.network import PixelNetwork, need
from chiaroscuro.adapters.question import Question, Rivals, make_question
from chiaroscuro.choices import Score
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.gradients import Method

Inputs = Tensor | tuple[Tensor, ...]


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
    and gives the map per channel in the same form, (B, C, H, W), sign kept: the maximum over
    channels (for signed maps the value of largest magnitude) is the map of `saliency_maps`.
    `target` is None for the predicted class, an index, a list, or a 1-D tensor. `forward_func`, a
    `PixelNetwork`, is the function for Captum's metrics.

    Inside `NoiseTunnel` a target must be named, and rivals cannot be top:N, since it never shows
    the clean image. Its "smoothgrad" is the mean of *maps* at noisy images; ours takes signs and
    rivals on the mean *gradient*. The two differ, and its squares and variances lose the sign.

    Raises `MissingExtraError` without Captum; `ChoiceError` for a map that holds classes.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> captum_attribution(Classifier(net)).attribute(torch.rand(2, 3, 2, 2), target=3).shape
    torch.Size([2, 3, 2, 2])
    """
    question = make_question(map, rivals, method, score, memory_budget)
    need("captum_attribution", "captum", "captum")
    return _captum_map()(classifier, question)


def captum_picture(values: Tensor) -> NDArray[np.float64]:
    """One map (H, W) as Captum's `visualize_image_attr` takes it: (H, W, 1), largest size 1.

    Captum adds up the channels before it splits the sign, so it gets one channel. Draw maps that
    are never negative with `sign="positive"`, signed ones with `sign="all"`.

    Raises `InputError` for another shape, and for a map that is zero everywhere or not finite,
    which Captum cannot scale.

    >>> import torch
    >>> captum_picture(torch.tensor([[0.0, 2.0], [4.0, 1.0]]))[..., 0].tolist()
    [[0.0, 0.5], [1.0, 0.25]]
    """
    if values.ndim != 2:
        raise InputError(f"map has shape {tuple(values.shape)}: expected one map (H, W)")
    picture: NDArray[np.float64] = values.detach().cpu().double().numpy()
    top = float(np.abs(picture).max())
    if not 0 < top < np.inf:
        raise InputError(
            f"the map's largest size is {top}: there is nothing to draw; "
            "try another map, or fewer rivals"
        )
    return (picture / top)[:, :, None]


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

        @wraps(
            _attribute_noisy, assigned=()
        )  # sets `__wrapped__`, keeps its own name and docstring
        def attribute(self, inputs: Inputs, target: Any = None) -> Inputs:
            """The map per channel, (B, C, H, W), in the inputs' form; see `captum_attribution`."""
            return self._answer(inputs, target)

        def _answer(self, inputs: Inputs, target: Any) -> Inputs:
            pixels = _only(inputs)
            values = self.question.values(self.classifier, pixels, _classes(target), "none")
            return (values,) if isinstance(inputs, tuple) else values

    return CaptumMap


def _only(inputs: Inputs) -> Tensor:
    if not isinstance(inputs, tuple):
        return inputs
    if len(inputs) != 1:
        raise InputError(f"inputs are {len(inputs)} tensors: an image classifier takes one")
    return inputs[0]


def _classes(target: Any) -> Any:
    """Captum's targets as ours: one number in a tensor is for all images, a tuple is no list."""
    if isinstance(target, tuple):
        raise ChoiceError(
            f"target is the tuple {target}, to Captum one place in an output of several axes: "
            "expected a class index, a list of them, or a 1-D tensor"
        )
    if isinstance(target, Tensor) and target.numel() == 1:
        return target.reshape(())
    return target
