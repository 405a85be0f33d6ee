"""A model's spec to a classifier."""

from collections.abc import Callable
from pathlib import Path

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, ModelError, unknown
from chiaroscuro.models import factory, folder, libraries, packaged

PACKAGED: dict[str, Callable[[], Classifier]] = {
    "efficientnet-lite0": packaged.efficientnet_lite0,
    "cifar10-cnn": packaged.cifar10_cnn,
}
"""Models whose weights come with the installation, by name."""

LIBRARIES: dict[str, Callable[[str], Classifier]] = {
    "torchvision": libraries.load_torchvision,
    "timm": libraries.load_timm,
    "hf": libraries.load_huggingface,
}
"""Libraries by the word before the colon."""


def runs_code(spec: str | Path) -> bool:
    """Whether loading a spec runs a file: a model that a saved result names is not loaded then.

    >>> runs_code("model.py:make"), runs_code("torchvision:resnet18")
    (True, False)
    """
    return str(spec).rpartition(":")[0].endswith(".py")


def load_classifier(spec: str | Path, *, trusted: bool = True) -> Classifier:
    """The classifier that a spec names, with its own normalization, size and class names.

    `efficientnet-lite0` or `cifar10-cnn` (packaged, offline), `torchvision:NAME`, `timm:NAME` or
    `timm:FOLDER`, `hf:NAME` or `hf:FOLDER`, `path/to/file.py:factory` (runs that file), or a folder
    that training or `save_classifier` wrote. Weights are read as data only: a checkpoint that
    would run code is refused. `trusted`: whether the spec is your own; one out of a saved result is
    not, and its Python file is not run.

    Raises `ChoiceError` for an unknown spec, `ModelError` for weights that cannot be had or a file
    that is not trusted, `MissingExtraError` for a library that is not installed.

    >>> load_classifier("efficientnet-lite0").size
    (224, 224)
    """
    text = str(spec)
    if text in PACKAGED:
        return PACKAGED[text]()
    library, colon, name = text.partition(":")
    if colon and library in LIBRARIES and name:
        return LIBRARIES[library](name)
    if runs_code(text):
        if not trusted:
            raise ModelError(
                f"the model {text!r} is a Python file, which a saved result does not run: if you "
                "trust the file, name it yourself (--model), or hand the classifier in"
            )
        path, _, function = text.rpartition(":")
        return factory.load(path, function)
    if Path(text).is_dir():
        return folder.load(Path(text))
    if Path(text).is_file():
        raise ChoiceError(
            f"model {text!r} is a file: give FILE.py:FACTORY, a function in a Python file that "
            "builds the network and loads its weights"
        )
    known = [*PACKAGED, *(f"{name}:NAME" for name in LIBRARIES), "FILE.py:FACTORY", "FOLDER"]
    raise unknown("model", text, known)
