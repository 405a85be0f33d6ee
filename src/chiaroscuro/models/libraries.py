"""Pre-trained classifiers by name: of torchvision, timm and Hugging Face transformers."""

import contextlib
import io
from pathlib import Path
from typing import Any, cast

import timm
from torch import nn
from torchvision import models as torchvision_zoo
from torchvision.models import WeightsEnum

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, missing_extra, unknown
from chiaroscuro.hub import hub_if_reachable
from chiaroscuro.models.checkpoints import loading


def load_torchvision(name: str) -> Classifier:
    """`torchvision:NAME`, or `torchvision:NAME/WEIGHTS` for weights other than the default."""
    spec = f"torchvision:{name}"
    model, _, tag = name.partition("/")
    if model not in torchvision_names():
        raise unknown("torchvision model", model, torchvision_names())
    choices = torchvision_zoo.get_model_weights(model)
    if tag and tag not in choices.__members__:
        raise unknown(f"weights of {model}", tag, choices.__members__)
    weights: WeightsEnum = choices[tag] if tag else choices["DEFAULT"]
    with loading(spec), contextlib.redirect_stdout(io.StringIO()):
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        module = torchvision_zoo.get_model(model, weights=None, **_arguments(model, weights))
        module.load_state_dict(state)
    return Classifier.from_torchvision(module, weights, name=spec)


def torchvision_names() -> list[str]:
    """Every classifier that torchvision has weights for."""
    return [
        name
        for name in torchvision_zoo.list_models(module=torchvision_zoo)
        if len(torchvision_zoo.get_model_weights(name)) > 0
    ]


def _arguments(model: str, weights: WeightsEnum) -> dict[str, Any]:
    """What torchvision's own builders set when they are given these weights."""
    arguments: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
    if model in ("googlenet", "inception_v3"):
        arguments |= {"transform_input": True, "init_weights": False}
    if model.startswith("vit_"):
        arguments["image_size"] = weights.meta["min_size"][0]
    return arguments


def load_timm(name: str) -> Classifier:
    """`timm:NAME` (with an optional .TAG), or `timm:FOLDER` with timm's config.json and weights."""
    spec = f"timm:{name}"
    local = Path(name).is_dir()
    if not local and not timm.is_model(name.partition(".")[0]):
        known = timm.list_models()  # far too many for a line
        listed = f"timm {timm.__version__} has {len(known)} models, timm.list_models() lists them"
        raise unknown("timm model", name, known, listed)
    with loading(spec), hub_if_reachable():
        place = f"local-dir:{name}" if local else name
        module = cast(nn.Module, timm.create_model(place, pretrained=True))
        if cast(Any, module).num_classes < 1:
            raise ModelError(f"{spec}: a body without a classification head (num_classes = 0)")
    return Classifier.from_timm(module, name=spec)


def load_huggingface(name: str) -> Classifier:
    """`hf:NAME` on the hub, or `hf:FOLDER` that `save_pretrained` wrote. No remote code is run."""
    spec = f"hf:{name}"
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError:
        raise missing_extra(spec, "transformers", "hf") from None
    with loading(spec), hub_if_reachable():
        module, report = AutoModelForImageClassification.from_pretrained(
            name, output_loading_info=True
        )
        processor = AutoImageProcessor.from_pretrained(name)
    if report["missing_keys"]:
        raise ModelError(
            f"{spec}: its weights lack {min(report['missing_keys'])}: not a trained classifier"
        )
    if not hasattr(processor, "do_rescale"):
        raise ModelError(f"{spec}: a model of another library; for timm's use timm:NAME")
    return Classifier.from_huggingface(module, processor, name=spec)
