"""A classifier as a folder: `model.json` and `model.safetensors`.

`model.json` holds

    schema        "chiaroscuro-model/1"
    architecture  "timm:NAME", "torchvision:NAME", or a name of `ARCHITECTURES`
    arguments     keyword arguments of the architecture, such as {"num_classes": 10}
    mean, std     per channel, or null
    framing       {"size", "canvas", "fit", "interpolation"}
    labels        class names, or null
    multi_label   true or false
    channels      3 or 1
    name, origin  what results say of it: weights, license, training, ...

`model.safetensors` holds the module's state dict. Neither file can run code.
"""

import dataclasses
import json
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn
from torchvision import models as torchvision_zoo

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChiaroscuroError, ModelError, first_line, unknown
from chiaroscuro.images import Framing
from chiaroscuro.models.architectures import basic_cnn, with_head
from chiaroscuro.staging import staged_folder

SCHEMA = "chiaroscuro-model/1"
MARKER = "model.json"


def new_head(
    body: str, outputs: int, classes: int, arguments: Mapping[str, Any] | None = None
) -> nn.Module:
    """`body`, an architecture by name with its `arguments`, then a linear layer to new classes."""
    return with_head(build_architecture(body, arguments or {}), outputs, classes)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"basic-cnn": basic_cnn, "new-head": new_head}
"""Architectures of this project by name, besides those of timm and torchvision."""


def save_classifier(
    classifier: Classifier,
    folder: str | Path,
    *,
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a classifier as a folder that `load_classifier` reads.

    `architecture` and `arguments` say how to build the module again; classifiers of timm and
    torchvision know theirs. Raises `ModelError` when the architecture cannot be built, or its
    tensors are not the module's; `ResultError` when the folder exists.
    """
    with staged_folder(folder, MARKER, overwrite=overwrite) as stage:
        write_classifier(classifier, stage, architecture=architecture, arguments=arguments)
    return Path(folder)


def write_classifier(
    classifier: Classifier,
    folder: Path,
    *,
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Write both model files into a folder that is there; see `save_classifier`."""
    architecture = architecture or str(classifier.origin.get("architecture", ""))
    arguments = dict(arguments or {})
    with torch.random.fork_rng(devices=[]):
        rebuilt = build_architecture(architecture, arguments).state_dict()
    own = classifier.module.state_dict()
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in rebuilt.items()}:
        raise ModelError(
            f"{architecture} with {arguments} has other tensors than {classifier.name}: "
            "give the architecture and arguments that built it"
        )
    description = {
        "schema": SCHEMA,
        "architecture": architecture,
        "arguments": arguments,
        "mean": classifier.mean,
        "std": classifier.std,
        "framing": dataclasses.asdict(classifier.framing),
        "labels": classifier.labels,
        "multi_label": classifier.multi_label,
        "channels": classifier.channels,
        "name": classifier.name,
        "origin": dict(classifier.origin),
    }
    weights, about = folder / "model.safetensors", folder / MARKER
    save_model(classifier.module, str(weights))
    about.write_text(json.dumps(description, indent=2) + "\n")
    weights.chmod(stat.S_IMODE(about.stat().st_mode))  # safetensors shuts everyone else out


def load(folder: Path) -> Classifier:
    """The classifier that `save_classifier` or training wrote into a folder."""
    about, weights = folder / "model.json", folder / "model.safetensors"
    for file in (about, weights):
        if not file.is_file():
            raise ModelError(f"{folder}: no {file.name}; expected a folder with both model files")
    try:
        return _read(json.loads(about.read_text()), weights)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{about}: not a model description ({error!r})") from error


def _read(about: Mapping[str, Any], weights: Path) -> Classifier:
    if about.get("schema") != SCHEMA:
        raise ModelError(f"{weights.parent}: schema {about.get('schema')!r}, expected {SCHEMA!r}")
    module = build_architecture(about["architecture"], about["arguments"])
    try:
        load_model(module, str(weights))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelError(f"{weights}: does not fit its model.json ({first_line(error)})") from error
    framing = about["framing"]
    return Classifier(
        module,
        mean=about["mean"],
        std=about["std"],
        framing=Framing(
            _sides(framing["size"]),
            _sides(framing["canvas"]),
            framing["fit"],
            framing["interpolation"],
        ),
        labels=about["labels"],
        multi_label=about["multi_label"],
        channels=about["channels"],
        name=str(weights.parent),
        origin={**about["origin"], "architecture": about["architecture"]},
    )


def _sides(value: Sequence[int] | None) -> tuple[int, int] | None:
    return None if value is None else (int(value[0]), int(value[1]))


def build_architecture(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """An untrained module by "timm:NAME", "torchvision:NAME" or a name of `ARCHITECTURES`."""
    library, _, model = name.partition(":")
    unsafe = {"checkpoint_path", "pretrained", "pretrained_cfg", "weights"} & arguments.keys()
    if unsafe:
        raise ModelError(f"{name}: arguments may not name weights, as {min(unsafe)} does")
    try:
        if name in ARCHITECTURES:
            return ARCHITECTURES[name](**arguments)
        if library == "timm" and timm.is_model(model):
            return cast(nn.Module, timm.create_model(model, **arguments))
        if library == "torchvision" and model in torchvision_zoo.list_models(
            module=torchvision_zoo
        ):
            return cast(nn.Module, torchvision_zoo.get_model(model, weights=None, **arguments))
    except ChiaroscuroError:
        raise
    except Exception as error:
        raise ModelError(f"{name} cannot be built with {arguments}: {first_line(error)}") from error
    raise unknown("architecture", name, [*ARCHITECTURES, "timm:NAME", "torchvision:NAME"])
