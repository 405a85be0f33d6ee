"""Pre-trained classifiers of torchvision."""

import contextlib
import io
from typing import Any

from torchvision import models
from torchvision.models import WeightsEnum

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import unknown
from chiaroscuro.images import Framing
from chiaroscuro.models.checkpoints import loading


def names() -> list[str]:
    """Every classifier that torchvision has weights for."""
    return [
        name
        for name in models.list_models(module=models)
        if len(models.get_model_weights(name)) > 0
    ]


def load(name: str) -> Classifier:
    """`torchvision:NAME`, or `torchvision:NAME/WEIGHTS` for weights other than the default."""
    spec = f"torchvision:{name}"
    model, _, tag = name.partition("/")
    if model not in names():
        raise unknown("torchvision model", model, names())
    choices = models.get_model_weights(model)
    if tag and tag not in choices.__members__:
        raise unknown(f"weights of {model}", tag, choices.__members__)
    weights: WeightsEnum = choices[tag] if tag else choices["DEFAULT"]
    preset = weights.transforms()
    with loading(spec), contextlib.redirect_stdout(io.StringIO()):
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        module = models.get_model(model, weights=None, **_arguments(model, weights))
        module.load_state_dict(state)
    resize, crop = preset.resize_size[0], preset.crop_size[0]
    return Classifier(
        module,
        mean=preset.mean,
        std=preset.std,
        framing=Framing(
            size=(crop, crop),
            canvas=(resize, resize),
            interpolation=preset.interpolation.value,
        ),
        labels=weights.meta["categories"],
        name=spec,
        origin={
            "architecture": f"torchvision:{model}",
            "weights": str(weights),
            "license": "see the torchvision page of these weights",
        },
    )


def _arguments(model: str, weights: WeightsEnum) -> dict[str, Any]:
    """What torchvision's own builders set when they are given these weights."""
    arguments: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
    if model in ("googlenet", "inception_v3"):
        arguments |= {"transform_input": True, "init_weights": False}
    if model.startswith("vit_"):
        arguments["image_size"] = weights.meta["min_size"][0]
    return arguments
