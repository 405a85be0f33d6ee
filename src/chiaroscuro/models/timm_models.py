"""Classifiers of timm, by name or from a folder that timm saved."""

import math
from pathlib import Path
from typing import Any, cast

import timm
from timm.data import ImageNetInfo, resolve_model_data_config
from torch import nn

from chiaroscuro.choices import Fit
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, unknown
from chiaroscuro.hub import hub_if_reachable
from chiaroscuro.images import Framing
from chiaroscuro.models.checkpoints import loading
from chiaroscuro.models.packaged import imagenet_labels

_FITS: dict[str, Fit] = {"center": "crop", "squash": "stretch", "border": "pad"}


def load(name: str) -> Classifier:
    """`timm:NAME` (with an optional .TAG), or `timm:FOLDER` with timm's config.json and weights."""
    spec = f"timm:{name}"
    local = Path(name).is_dir()
    if not local and not timm.is_model(name.partition(".")[0]):
        known = timm.list_models()  # far too many for a line
        listed = f"timm {timm.__version__} has {len(known)} models, timm.list_models() lists them"
        raise unknown("timm model", name, known, listed)
    module = _create(f"local-dir:{name}" if local else name, spec)
    return build(module, spec)


def build(module: nn.Module, spec: str) -> Classifier:
    """A timm module with the size, normalization and names of its own configuration."""
    data = resolve_model_data_config(module)
    config = cast(dict[str, Any], module.pretrained_cfg)
    return Classifier(
        module,
        mean=data["mean"],
        std=data["std"],
        framing=_framing(data),
        labels=_labels(config, int(cast(Any, module).num_classes)),
        channels=data["input_size"][0],
        name=spec,
        origin={
            "architecture": f"timm:{config.get('architecture', '')}",
            "weights": str(config.get("hf_hub_id") or config.get("url") or spec),
            "license": str(config.get("license") or "not stated"),
        },
    )


def _create(name: str, spec: str) -> nn.Module:
    with loading(spec), hub_if_reachable():
        module = cast(nn.Module, timm.create_model(name, pretrained=True))
        if cast(Any, module).num_classes < 1:
            raise ModelError(f"{spec}: a body without a classification head (num_classes = 0)")
        return module


def _framing(data: dict[str, Any]) -> Framing:
    _, height, width = data["input_size"]
    scale = data["crop_pct"]
    fit = _FITS.get(data["crop_mode"], "crop")
    canvas = None if fit == "pad" else (math.floor(height / scale), math.floor(width / scale))
    return Framing((height, width), canvas, fit, data["interpolation"])


def _labels(config: dict[str, Any], classes: int) -> list[str] | None:
    names = config.get("label_names")
    if names and len(names) == classes:
        return list(names)
    if classes == 1000:
        return list(imagenet_labels())
    if classes == 21841:
        info = ImageNetInfo("imagenet-21k")
        return [info.index_to_description(index) for index in range(classes)]
    return None
