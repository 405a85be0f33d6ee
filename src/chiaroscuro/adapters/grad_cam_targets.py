"""pytorch-grad-cam's targets, callables on one image's row of outputs, as class indices."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from chiaroscuro.adapters.network import PixelNetwork
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, first_line

_ROWS = 8
_INSTEAD = {
    "ClassifierOutputSoftmaxTarget": "ClassifierOutputTarget with score='log-probability'",
    "ClassifierOutputReST": "ClassifierOutputTarget, with score='logit' or 'log-probability'",
    "FinerWeightedTarget": "ClassifierOutputTarget, with the compared classes as rivals=[...]",
}
"""What to ask us for in place of the targets that weigh several outputs."""


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
        raise ChoiceError(f"{len(targets)} targets came for {len(logits)} images: give one each")
    rows = _rows(logits)
    chosen = [_class_of(target, rows) for target in targets]
    return torch.tensor(chosen, device=logits.device)


def read_targets(classifier: Classifier, pixels: Tensor, targets: Any) -> Any:
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
