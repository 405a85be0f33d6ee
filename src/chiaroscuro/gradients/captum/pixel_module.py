"""A classifier as a plain module, for libraries that ask for one."""

import copy

import torch
from torch import Tensor, nn

from chiaroscuro.classifier import Classifier


class PixelModule(nn.Module):
    """A classifier as an `nn.Module` from pixels in [0, 1] to logits.

    Normalization is a convolution, so that rules for layers hold for it too. The classifier's own
    module is a part of this one, not a copy.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> PixelModule(Classifier(net, mean=0.5, std=0.2))(torch.zeros(5, 3, 2, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.module = classifier.module
        self.normalize = _normalization(classifier)
        # What reads logits out of the module's output, with the normalization done already.
        self.classifier = copy.copy(classifier)
        self.classifier.mean = self.classifier.std = None

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.classifier.logits(self.normalize(pixels))


def _normalization(classifier: Classifier) -> nn.Module:
    if classifier.mean is None and classifier.std is None:
        return nn.Identity()
    channels = classifier.channels
    weight = next(classifier.module.parameters(), torch.zeros(()))
    std = torch.tensor(classifier.std or (1.0,) * channels, dtype=torch.float64)
    mean = torch.tensor(classifier.mean or (0.0,) * channels, dtype=torch.float64)
    layer = nn.Conv2d(channels, channels, 1, groups=channels)
    layer.weight = nn.Parameter((1 / std).view(-1, 1, 1, 1), requires_grad=False)
    layer.bias = nn.Parameter(-mean / std, requires_grad=False)
    return layer.to(device=weight.device, dtype=weight.dtype)
