"""A file of weights that a training wrote, for an architecture by name; it runs no code."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as torchvision_zoo

from chiaroscuro.classifier import Classifier, libraries
from chiaroscuro.errors import MissingModelError, ModelError
from chiaroscuro.models.folder import ARCHITECTURES, build_architecture

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
"""Keys under which trainings keep the weights, those of an average first, as timm takes them."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DataParallel, Lightning and torch.compile put before the names of tensors."""
_LISTED = 3


def load(architecture: str, file: str) -> Classifier:
    """`ARCHITECTURE@FILE`: size and normalization are the architecture's, K the last layer's.

    Raises `ModelError` for weights that are not the architecture's: what is missing, unexpected or
    of another shape is counted, and the first are named. Unexpected ones alone become a note.
    """
    spec = f"{architecture}@{file}"
    if not Path(file).is_file():
        raise MissingModelError(f"{spec}: no such file {file}")
    if file.endswith(".safetensors"):
        saved: Any = load_file(file)
    else:
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm keeps its options
            saved = torch.load(file, map_location="cpu", weights_only=True)
    state, inside = _state_dict(saved, spec)
    with torch.random.fork_rng(devices=[]):
        module = build_architecture(architecture, {})
        state, taken = _bare(state, module.state_dict().keys())
        if arguments := _arguments(architecture, module, state):
            module = build_architecture(architecture, arguments)
    unexpected = _fill(module, state, spec)
    channels = arguments.get("in_chans", 3)
    said = {
        "weights are those in {}": inside,
        "{} taken off the names of tensors": taken,
        "{}, left out": unexpected,
        "{} channels: no mean and std are known, none are used": str(channels) * (channels != 3),
    }
    classifier = _classifier(architecture, module, spec, channels)
    notes = (f"{Path(file).name}: {text.format(what)}" for text, what in said.items() if what)
    classifier.notes += tuple(notes)
    return classifier


def _state_dict(saved: Any, spec: str) -> tuple[dict[str, Tensor], str]:
    """The tensors by name in what was saved, and the wrappers around them."""
    inside: list[str] = []
    while isinstance(saved, Mapping):
        key = next((k for k in WRAPPERS if isinstance(saved.get(k), Mapping)), None)
        if key is None:
            break
        saved, inside = saved[key], [*inside, key]
    held = saved if isinstance(saved, Mapping) else {f"a {type(saved).__name__}": None}
    tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
    if not tensors:
        known = ", ".join(WRAPPERS)
        raise ModelError(f"{spec}: no tensors by name, nor in {known}; it holds {_some([*held])}")
    return tensors, ".".join(inside)


def _bare(state: Mapping[str, Tensor], known: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """The tensors with prefixes taken off names that the architecture does not know."""
    bare, taken = dict[str, Tensor](), dict[str, None]()
    for name, value in state.items():
        own = name
        while own not in known and own.startswith(PREFIXES):
            own = own.partition(".")[2]
        if own in known and own != name:
            taken[name.removesuffix(own)] = None
        bare[own if own in known else name] = value
    return bare, _some([*taken])


def _arguments(architecture: str, module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, int]:
    """What builds the architecture with the weights' classes and, in timm, their channels."""
    own, arguments = dict(module.named_parameters()), {}
    last = [*own][-1]
    if last in state and state[last].shape[:1] != own[last].shape[:1]:
        arguments["classes" if architecture in ARCHITECTURES else "num_classes"] = len(state[last])
    first = next((name for name, values in own.items() if values.ndim > 3), last)
    if first in state and architecture.startswith("timm:"):
        channels = state[first].shape[1:2]
        arguments |= {"in_chans": channels[0]} if channels != own[first].shape[1:2] else {}
    return arguments


def _fill(module: nn.Module, state: Mapping[str, Tensor], spec: str) -> str:
    """Put weights into a module; what was left over, or one error of all that is wrong."""
    own = module.state_dict()
    counters = "num_batches_tracked"  # older files lack them, and eval mode reads none
    lists = {
        "missing": [n for n in own if n not in state and not n.endswith(counters)],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(values.shape)}"
            for name, values in own.items()
            if name in state and state[name].shape != values.shape
        ],
        "unexpected": [name for name in state if name not in own],
    }
    said = "; ".join(
        f"{len(names)} {what} ({_some(names)})" for what, names in lists.items() if names
    )
    if lists["missing"] or lists["of another shape"]:
        raise ModelError(f"{spec}: these weights are of another network: {said}")
    module.load_state_dict({name: state[name] for name in own if name in state}, strict=False)
    return said


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"


def _classifier(architecture: str, module: nn.Module, spec: str, channels: int) -> Classifier:
    """The classifier with what the library says of the architecture, but for its weights."""
    library, _, name = architecture.partition(":")
    origin = {"architecture": architecture, "weights": spec.partition("@")[2]}

    def make(module: nn.Module, *, labels: Any = None, **about: Any) -> Classifier:
        about |= {"origin": {**origin, "license": "not stated"}}
        if channels != 3:
            about |= {"channels": channels, "mean": None, "std": None}
        fits = labels is not None and len(labels) == len([*module.parameters()][-1])
        return Classifier(module, labels=labels if fits else None, **about)

    if library == "timm":
        return libraries.from_timm(make, module, spec)
    if library == "torchvision" and len(known := torchvision_zoo.get_model_weights(name)):
        return libraries.from_torchvision(make, module, known["DEFAULT"], spec)
    return make(module, name=spec)
