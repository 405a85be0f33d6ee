"""The paper's networks, and any network with a new last layer."""

from collections import OrderedDict

from torch import nn

WIDTHS = (32, 64, 128)


def basic_cnn(classes: int = 10) -> nn.Module:
    """The paper's small network: 495,146 parameters for 10 classes.

    conv 7x7 stride 2 (3 -> 32), ReLU, max-pool 3x3 stride 2, three blocks of three 3x3 convolutions
    (32, 64, 128 channels, the second of stride 2), each with ReLU, global average, linear layer.
    Source: arXiv:2309.12913, section 4.

    >>> sum(p.numel() for p in basic_cnn().parameters())
    495146
    """
    stem = [nn.Conv2d(3, WIDTHS[0], 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    blocks = [
        _block(before, width) for before, width in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False)
    ]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], classes)]
    return nn.Sequential(*stem, *blocks, *head)


def _block(before: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, width, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, 1, 1),
        nn.ReLU(),
    )


def with_head(body: nn.Module, outputs: int, classes: int) -> nn.Module:
    """A network followed by a linear layer from its outputs to new classes, nothing between."""
    head = nn.Linear(outputs, classes)
    return nn.Sequential(OrderedDict([("body", body), ("head", head)]))
