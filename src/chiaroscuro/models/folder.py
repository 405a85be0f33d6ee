"""A classifier as a folder: a description, the folder's marker, and weights; neither runs code."""

import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torchvision import models as torchvision_zoo

from chiaroscuro import errors, results
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, first_line
from chiaroscuro.results.models import WEIGHTS, SavedModel
from chiaroscuro.results.store import write

MODEL = results.KINDS["model"]
Arguments = Mapping[str, Any] | None
_FIELDS = (
    "mean", "std", "framing", "labels", "multi_label", "channels", "shown", "volumes", "normalized",
)  # fmt: skip


_UNSAFE = {
    "cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay",
    "weights", "weights_backbone",
}  # fmt: skip
"""Arguments of libraries that would read another file, or fetch one."""


def basic_cnn(classes: int = 10) -> nn.Module:
    """The paper's small network of 495,146 parameters: arXiv:2309.12913, section 4."""
    stem = [nn.Conv2d(3, 32, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    blocks = [_block(32, 32), _block(32, 64), _block(64, 128)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes)]
    return nn.Sequential(*stem, *blocks, *head)


def _block(before: int, width: int) -> nn.Module:
    layers: list[nn.Module] = []
    for inside, stride in ((before, 1), (width, 2), (width, 1)):
        layers += [nn.Conv2d(inside, width, 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*layers)


def basic_vit(classes: int = 10) -> nn.Module:
    """A small vision transformer for small images: patches of 4 px, 4 blocks, 2 heads of 32."""
    make = cast(Callable[..., nn.Module], timm.models.VisionTransformer)
    sizes = {"img_size": 32, "patch_size": 4, "embed_dim": 64, "depth": 4, "num_heads": 2}
    return make(num_classes=classes, dynamic_img_size=True, dynamic_img_pad=True, **sizes)


def with_head(body: nn.Module, outputs: int, classes: int) -> nn.Module:
    """A network followed by a linear layer from its outputs to new classes, nothing between."""
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(outputs, classes)))


def new_head(body: str, outputs: int, classes: int, arguments: Arguments = None) -> nn.Module:
    """`body`, an architecture by name with its `arguments`, then a linear layer to new classes."""
    return with_head(build_architecture(body, arguments or {}), outputs, classes)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "basic-cnn": basic_cnn,
    "basic-vit": basic_vit,
    "new-head": new_head,
}
"""Architectures of this project by name, next to those of timm and torchvision."""


def save_classifier(
    classifier: Classifier,
    folder: str | Path,
    *,
    architecture: str | None = None,
    arguments: Arguments = None,
    overwrite: bool = False,
) -> Path:
    """Write a classifier as a folder that `load_classifier` reads.

    `architecture` and `arguments` say how to rebuild the module; classifiers of timm and
    torchvision know theirs. Raises `ModelError` when the architecture cannot be built, or its
    tensors are not the module's; `ResultError` when the folder exists.
    """
    with results.staged(folder, MODEL, overwrite=overwrite) as stage:
        write_classifier(classifier, stage, architecture, arguments)
    return Path(folder)


def write_classifier(
    classifier: Classifier, folder: Path, architecture: str | None, arguments: Arguments
) -> None:
    """Write a classifier into a folder that is there, the marker last; see `save_classifier`."""
    architecture = architecture or str(classifier.origin.get("architecture", ""))
    arguments = dict(arguments or {})
    with torch.random.fork_rng(devices=[]):
        rebuilt = build_architecture(architecture, arguments).state_dict()
    own = classifier.module.state_dict()
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in rebuilt.items()}:
        other = f"{architecture} with {arguments} has other tensors than {classifier.name}"
        raise ModelError(f"{other}: give the architecture and arguments that built it")
    about = {name: getattr(classifier, name) for name in (*_FIELDS, "name", "origin")}
    weights = folder / WEIGHTS
    save_model(classifier.module, str(weights))
    weights.chmod(stat.S_IMODE(folder.stat().st_mode) & 0o666)  # safetensors shuts others out
    write(SavedModel(architecture=architecture, arguments=arguments, **about), folder)


def load(folder: Path, name: str = "") -> Classifier:
    """The classifier that `save_classifier` or training wrote into a folder."""
    if results.kind_in(folder) != MODEL:
        raise errors.MissingModelError(
            f"{folder}: no model there (no {MODEL.marker}); expected a folder that train or "
            "save_classifier wrote; for a folder of another library write hf:FOLDER or timm:FOLDER"
        )
    try:
        about: SavedModel = results.load(folder, MODEL)
    except errors.ResultError as error:
        raise ModelError(str(error)) from error
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise errors.MissingModelError(f"{folder}: no {WEIGHTS} next to {MODEL.marker}")
    if results.verify(folder, [WEIGHTS]):
        raise ModelError(f"{weights} is damaged, or was changed after it was written")
    with _no_larger_than(weights):
        module = build_architecture(about.architecture, about.arguments)
    try:
        load_model(module, str(weights))
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = first_line(error)
        raise ModelError(f"{weights}: does not fit its {MODEL.marker} ({reason})") from error
    return Classifier(
        module,
        **{name: getattr(about, name) for name in _FIELDS},
        name=name or str(folder),
        origin={**about.origin, "architecture": about.architecture},
    )


@contextmanager
def _no_larger_than(weights: Path) -> Iterator[None]:
    """Inside, no network is built of many more numbers than its file of weights has bytes."""
    thread, left = threading.get_ident(), 2 * weights.stat().st_size + (1 << 20)

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal left
        if threading.get_ident() == thread and parameter is not None:
            left -= parameter.numel() + 64  # and what a module takes
            if left < 0:
                raise ModelError(f"{weights}: its {MODEL.marker} tells of a far larger network")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def build_architecture(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """An untrained module by "timm:NAME", "torchvision:NAME" or a name of `ARCHITECTURES`."""
    library, _, model = name.partition(":")
    unsafe = _UNSAFE & arguments.keys()
    if unsafe:
        raise ModelError(f"{name}: arguments may not name weights, as {min(unsafe)} does")
    try:
        if name in ARCHITECTURES:
            return ARCHITECTURES[name](**arguments)
        if library == "timm" and timm.is_model(model):
            return cast(nn.Module, timm.create_model(model, **arguments))
        known = torchvision_zoo.list_models(module=torchvision_zoo)
        if library == "torchvision" and model in known:
            return cast(nn.Module, torchvision_zoo.get_model(model, weights=None, **arguments))
    except errors.ChiaroscuroError:
        raise
    except Exception as error:
        raise ModelError(f"{name} cannot be built with {arguments}: {first_line(error)}") from error
    raise errors.unknown("architecture", name, [*ARCHITECTURES, "timm:NAME", "torchvision:NAME"])
