"""Our maps as a Captum attribution, and as pictures for Captum's drawing."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.adapters.peers import need
from chiaroscuro.adapters.question import Rivals, make_question
from chiaroscuro.choices import Score
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import InputError
from chiaroscuro.gradients import Method

if TYPE_CHECKING:
    from chiaroscuro.adapters.captum_map import CaptumMap


def captum_attribution(
    classifier: Classifier,
    map: str = "active",
    *,
    rivals: Rivals = "all",
    method: str | Method = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
) -> "CaptumMap":
    """One of our maps as a Captum `GradientAttribution`.

    Its `attribute(inputs, target=None)` takes pixels (B, C, H, W), or a tuple of one such tensor,
    and gives the map per channel in the same form, (B, C, H, W), sign kept: the maximum over
    channels (for signed maps the value of largest magnitude) is the map of `saliency_maps`.
    `target` is None for the predicted class, an index, a list, or a 1-D tensor. `forward_func`, a
    `PixelNetwork`, is what to hand to Captum's metrics.

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
    from chiaroscuro.adapters.captum_map import CaptumMap

    return CaptumMap(classifier, question)


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
