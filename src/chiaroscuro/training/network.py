"""The network to train: by name, with a last layer for the data set's classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from chiaroscuro.catalog import ARCHITECTURES
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, unknown
from chiaroscuro.images import Framing
from chiaroscuro.models import load_classifier
from chiaroscuro.models.folder import basic_cnn, build_architecture, with_head
from chiaroscuro.settings import TrainingSettings

BODIES: Mapping[str, tuple[str, str]] = {
    "resnet18": ("torchvision:resnet18", "torchvision:resnet18/IMAGENET1K_V1"),
    "convnext-tiny": ("torchvision:convnext_tiny", "torchvision:convnext_tiny/IMAGENET1K_V1"),
    "efficientnet-lite0": ("timm:tf_efficientnet_lite0", "efficientnet-lite0"),
}
"""Short names: the architecture, and the spec of its pre-trained weights."""
DEFAULT_SIZE = (224, 224)
_SMALL = 64


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier to train, with how to build it again; `body` is None for a network of one."""

    classifier: Classifier
    architecture: str
    arguments: Mapping[str, Any]

    @property
    def body(self) -> nn.Module | None:
        """All but the new last layer."""
        body = getattr(self.classifier.module, "body", None)
        return body if isinstance(body, nn.Module) else None


def build_network(
    settings: TrainingSettings, labels: Sequence[str], image_size: tuple[int, int]
) -> Network:
    """The network of the settings, with fresh weights from the present random state.

    `image_size` (H, W) of the first image decides the size where nothing else does: small images
    stay as they are, others become 224 x 224. Raises `ChoiceError` for an unknown architecture,
    `ModelError` for weights that cannot be had.
    """
    own_size = image_size if max(image_size) <= _SMALL else DEFAULT_SIZE
    if settings.architecture == "basic-cnn":
        if settings.pretrained:
            raise ChoiceError("basic-cnn has no pre-trained weights: leave --pretrained out")
        classifier = _classifier(
            basic_cnn(len(labels)), settings, labels, settings.size or own_size
        )
        return Network(classifier, "basic-cnn", {"classes": len(labels)})
    name, weights = BODIES.get(settings.architecture, (settings.architecture,) * 2)
    if name.partition(":")[0] not in ("timm", "torchvision") or ":" not in name:
        raise unknown("architecture", name, [*ARCHITECTURES, "timm:NAME", "torchvision:NAME"])
    if settings.pretrained or settings.normalize:
        loaded = load_classifier(weights)
        name = str(loaded.origin["architecture"])
        own_size = loaded.size or own_size
    body = loaded.module if settings.pretrained else build_architecture(name, {})
    size = settings.size or own_size
    outputs = Classifier(body)(torch.zeros(1, 3, *size)).shape[1]
    classifier = _classifier(with_head(body, outputs, len(labels)), settings, labels, size)
    if settings.normalize:
        classifier.mean, classifier.std = loaded.mean, loaded.std
    arguments = {"body": name, "outputs": outputs, "classes": len(labels)}
    return Network(classifier, "new-head", arguments)


def _classifier(
    module: nn.Module, settings: TrainingSettings, labels: Sequence[str], size: tuple[int, int]
) -> Classifier:
    return Classifier(
        module.to(memory_format=torch.channels_last),
        framing=Framing(size=size, fit="stretch"),
        labels=labels,
        name=settings.architecture,
    )
