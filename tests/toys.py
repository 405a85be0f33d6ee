"""Small networks with known gradients, and the naive oracle that the engine is held against."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor, nn

from chiaroscuro.device import device_profile, profile_in_use


class Linear(nn.Module):
    """Logits = weights (K, C, H, W) times pixels, plus a bias: the gradients are the weights."""

    def __init__(self, weights: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)
        self.bias = nn.Parameter(
            torch.zeros(len(weights), dtype=weights.dtype) if bias is None else bias
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("kchw,bchw->bk", self.weights, x) + self.bias


class Quadratic(nn.Module):
    """S_k = sum of a_k x^2 / 2 + b_k x: the gradient at x is a_k x + b_k."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("kchw,bchw->bk", self.a, x**2 / 2) + torch.einsum(
            "kchw,bchw->bk", self.b, x
        )


def small_cnn(classes: int = 5, *, channels: int = 3, batchnorm: bool = True) -> nn.Module:
    """A random convolutional network with batch normalization, in-place ReLU and dropout."""
    generator = torch.Generator().manual_seed(7)
    norm = nn.BatchNorm2d(6) if batchnorm else nn.Identity()
    net = nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        norm,
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    )
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.5)
        if batchnorm:
            norm.running_var.add_(1.0)
    return net


def eager_net(inputs: int, classes: int = 5, hidden: int = 24) -> nn.Module:
    """A random network of two layers whose prediction a few pixels turn, in float64."""
    generator = torch.Generator().manual_seed(3)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes)
    ).double()
    with torch.no_grad():
        for part in net.parameters():
            part.copy_(torch.randn(part.shape, generator=generator, dtype=part.dtype))
        net[1].bias.sub_(net[1].weight.sum(dim=1) / 2)
        net[3].bias.zero_()
    return net


def random_pixels(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Pixels in [0, 1] from a seed of their own."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def all_class_gradients(score: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """g[b, k] by one backward pass per image and class: (B, K, C, H, W)."""
    rows = []
    for image in pixels:
        x = image[None].clone().requires_grad_(True)
        logits = score(x)[0]
        rows.append(
            torch.stack(
                [torch.autograd.grad(logit, x, retain_graph=True)[0][0] for logit in logits]
            )
        )
    return torch.stack(rows)


def sizes(**changed: int) -> AbstractContextManager[None]:
    """Work inside is cut to other sizes."""
    return profile_in_use(replace(device_profile(), **changed))
