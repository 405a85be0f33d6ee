"""A classifier as a plain module: what other libraries call."""

import copy
from typing import Self

from torch import Tensor, nn

from chiaroscuro.classifier import Classifier
from chiaroscuro.guard import as_found, mark_eval


class PixelNetwork(nn.Module):
    """A classifier as an `nn.Module`: pixels (B, C, H, W) to logits (B, K), normalized inside.

    Hand it to whatever asks a network itself. It answers in eval mode and leaves the classifier's
    module as found, also when `train()` or `eval()` is called. Pixels may lie outside [0, 1], since
    these libraries add noise and fill in values. Gradients pass through.

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
        asked = copy.copy(self._classifier)
        asked.module = self.module
        return asked

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, K); raises `ModelError` when the module gives none."""
        with as_found(self.module):
            return self.classifier.logits(pixels)

    def train(self, mode: bool = True) -> Self:
        """Nothing: the network is asked in eval mode, and its own flags are not ours to change."""
        return self
