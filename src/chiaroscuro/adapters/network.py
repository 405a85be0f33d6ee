"""A classifier as a plain module: what other libraries call; and whether they are installed."""

import copy
from importlib.util import find_spec
from typing import Self

from torch import Tensor, nn

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import missing_extra
from chiaroscuro.guard import as_found, mark_eval


class PixelNetwork(nn.Module):
    """A classifier as an `nn.Module`: pixels (B, C, H, W) to logits (B, K), normalized inside.

    Give it to whatever calls a network itself. It runs in eval mode and leaves the classifier's
    module unchanged, also when `train()` or `eval()` is called. Pixels may lie outside [0, 1],
    since these libraries add noise and fill in values. Gradients pass through.

    >>> import torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> PixelNetwork(Classifier(net, mean=0.5, std=0.25))(torch.zeros(5, 3, 2, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.module = classifier.module
        self._classifier = classifier
        mark_eval(self)

    @property
    def classifier(self) -> Classifier:
        """The classifier around this module's own network, which may be a changed copy."""
        around = copy.copy(self._classifier)
        around.module = self.module
        return around

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, K); raises `ModelError` when the module gives none."""
        with as_found(self.module):
            return self.classifier.logits(pixels)

    def train(self, mode: bool = True) -> Self:
        """Nothing: the network runs in eval mode, and its own flags stay."""
        return self


def need(what: str, module: str, package: str) -> None:
    """Raise `MissingExtraError` unless the library is installed; it is not imported."""
    if find_spec(module) is None:
        raise missing_extra(what, package, "adapters")
