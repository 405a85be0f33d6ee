"""The pieces of work that are timed: a network in eval mode, pixels, and its classes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Work:
    """`make` gives the module and pixels (B, C, H, W) on the CPU; `classes` is K.

    `goals`: how many times longer a rival should take, for those that have a goal.
    """

    title: str
    make: Callable[[], tuple[nn.Module, Tensor]]
    classes: int
    goals: dict[str, float]

    @property
    def is_large(self) -> bool:
        """Whether rivals run some classes only and are scaled."""
        return self.classes > SEEDED


SEEDED = 50
"""Classes that rivals run where there are more: what they need is linear in them."""


def chosen_classes(work: Work, count: int, target: Tensor) -> list[int]:
    """`count` of the K classes, drawn from a fixed seed, a single image's target among them."""
    drawn = torch.randperm(work.classes, generator=torch.Generator().manual_seed(0)).tolist()
    if len(target) == 1:
        own = int(target[0])
        drawn = [own, *(k for k in drawn if k != own)]
    return sorted(drawn[:count])


def lite0() -> tuple[nn.Module, Tensor]:
    """EfficientNet-Lite0 as packaged, and the packaged photo of a cat."""
    from chiaroscuro import load_classifier
    from chiaroscuro.images import frame, open_photo, packaged_photo

    classifier = load_classifier("efficientnet-lite0")
    pixels, _ = frame(open_photo(packaged_photo("cat")), classifier.framing)
    return _with_affine("efficientnet-lite0"), torch.from_numpy(pixels)[None]


def cnn(images: int = 128) -> tuple[nn.Module, Tensor]:
    """The packaged basic CNN, trained on CIFAR-10, and random pixels."""
    torch.manual_seed(0)
    return _with_affine("cifar10-cnn"), torch.rand(images, 3, 32, 32)


def resnet(name: str, classes: int, images: int, size: int) -> tuple[nn.Module, Tensor]:
    """Random weights and random pixels, with statistics of their own as a trained network has."""
    from torchvision.models import get_model

    torch.manual_seed(0)
    module = get_model(name, num_classes=classes).eval()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 2.0)
    return module, torch.rand(images, 3, size, size)


def convnext_tiny() -> tuple[nn.Module, Tensor]:
    """Random weights, but layer scales of 0.1: the 1e-6 that training starts with adds nothing."""
    from torchvision.models import convnext_tiny as build

    torch.manual_seed(0)
    module = build(num_classes=1000).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("layer_scale"):
                parameter.fill_(0.1)
    return module, torch.rand(1, 3, 224, 224)


def vit_b16() -> tuple[nn.Module, Tensor]:
    """Random weights; the head's too, which training starts at zero."""
    from torchvision.models import vit_b_16 as build

    torch.manual_seed(0)
    module = build(num_classes=1000).eval()
    with torch.no_grad():
        module.heads.head.weight.normal_(0, 0.02)
    return module, torch.rand(1, 3, 224, 224)


def swin_tiny() -> tuple[nn.Module, Tensor]:
    """Random weights and random pixels."""
    from torchvision.models import swin_t as build

    torch.manual_seed(0)
    return build(num_classes=1000).eval(), torch.rand(1, 3, 224, 224)


def _with_affine(name: str) -> nn.Module:
    """The normalization as a layer in front, so that every algorithm asks the same bare module."""
    from chiaroscuro import load_classifier

    classifier = load_classifier(name)
    if classifier.mean is None or classifier.std is None:
        return classifier.module.eval()
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (classifier.mean, classifier.std))
    return nn.Sequential(_Affine(mean, std), classifier.module).eval()


class _Affine(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


WORKS = {
    "lite0-224px-k1000": Work(
        "EfficientNet-Lite0, K = 1000, one 224 px photo",
        lite0,
        1000,
        {"published": 25, "captum": 7, "jacrev": 6, "loop": 4.5},
    ),
    "resnet18-224px-k1000": Work(
        "ResNet-18, K = 1000, one 224 px image",
        lambda: resnet("resnet18", 1000, 1, 224),
        1000,
        {"published": 20, "captum": 5, "jacrev": 3.5, "loop": 2.5},
    ),
    "convnext-224px-k1000": Work(
        "ConvNeXt-Tiny, K = 1000, one 224 px image",
        convnext_tiny,
        1000,
        {"published": 12, "captum": 4, "jacrev": 3, "loop": 2},
    ),
    "vit-b16-224px-k1000": Work(
        "ViT-B/16, K = 1000, one 224 px image",
        vit_b16,
        1000,
        {"loop": 1.9},
    ),
    "swin-224px-k1000": Work(
        "Swin-Tiny, K = 1000, one 224 px image",
        swin_tiny,
        1000,
        {"loop": 2.6},
    ),
    "resnet18-32px-k10": Work(
        "ResNet-18, K = 10, 64 images of 32 px",
        lambda: resnet("resnet18", 10, 64, 32),
        10,
        {"published": 20, "captum": 3, "jacrev": 1.8, "loop": 1.8},
    ),
    "cnn-32px-k10": Work(
        "basic CNN, K = 10, 128 images of 32 px",
        cnn,
        10,
        {"published": 11, "captum": 2.5, "jacrev": 2, "loop": 1.6},
    ),
}
