"""The paper's experiments: what is trained on what, and the numbers it published."""

from collections.abc import Mapping
from dataclasses import dataclass

from chiaroscuro.settings import TrainingSettings

EPOCHS = 50
"""The paper's number of epochs."""
COLUMNS = {
    "black": ("original", "positive", "active"),
    "white": ("original", "negative", "inactive"),
}
"""The maps of its two tables of areas."""


@dataclass(frozen=True)
class Published:
    """The paper's numbers: test accuracy, and areas under the test curves by map and fill."""

    accuracy: float
    areas: Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Experiment:
    """One network on one data set. `note`: how it differs from the paper, where it does."""

    name: str
    title: str
    training: TrainingSettings
    published: Published | None = None
    note: str = ""

    @property
    def data(self) -> str:
        """The data set's name."""
        return self.training.data


def _published(accuracy: float, black: tuple[float, ...], white: tuple[float, ...]) -> Published:
    areas = {
        (name, fill): area
        for fill, listed in (("black", black), ("white", white))
        for name, area in zip(COLUMNS[fill], listed, strict=True)
    }
    return Published(accuracy, areas)


def _cifar10(architecture: str) -> TrainingSettings:
    return TrainingSettings(architecture=architecture, data="cifar10")


def _imagenette(architecture: str, *, pretrained: bool = False) -> TrainingSettings:
    return TrainingSettings(
        architecture=architecture, data="imagenette", size=(224, 224), rgb_only=True,
        pretrained=pretrained, freeze=pretrained,
    )  # fmt: skip


EXPERIMENTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        Experiment(
            "cifar10-cnn", "CIFAR-10, basic CNN", _cifar10("basic-cnn"),
            _published(0.6307, (0.23, 0.14, 0.15), (0.21, 0.14, 0.15)),
        ),
        Experiment(
            "cifar10-resnet18", "CIFAR-10, ResNet-18", _cifar10("resnet18"),
            _published(0.7569, (0.23, 0.11, 0.11), (0.22, 0.12, 0.12)),
        ),
        Experiment(
            "imagenette-cnn", "Imagenette, basic CNN", _imagenette("basic-cnn"),
            _published(0.6205, (0.24, 0.12, 0.16), (0.21, 0.11, 0.14)),
        ),
        Experiment(
            "imagenette-resnet18", "Imagenette, ResNet-18", _imagenette("resnet18"),
            _published(0.8357, (0.26, 0.14, 0.14), (0.23, 0.18, 0.16)),
        ),
        Experiment(
            "imagenette-resnet18-pretrained", "Imagenette, ResNet-18, pre-trained",
            _imagenette("resnet18", pretrained=True),
            _published(0.9733, (0.28, 0.21, 0.24), (0.26, 0.20, 0.23)),
        ),
        Experiment(
            "imagenette-convnext-tiny-pretrained", "Imagenette, ConvNeXt-Tiny, pre-trained",
            _imagenette("convnext-tiny", pretrained=True),
            _published(0.9932, (0.49, 0.37, 0.39), (0.46, 0.37, 0.42)),
        ),
        Experiment(
            "imagenette-efficientnet-lite0", "Imagenette, EfficientNet-Lite0, pre-trained",
            TrainingSettings(
                architecture="efficientnet-lite0", data="imagenette", rgb_only=True,
                pretrained=True, freeze=True, cache_features=True, normalize=True,
            ),
            note="not in the paper: its weights come with the installation; the body's own "
            "normalization, and features computed once",
        ),
    )
}  # fmt: skip
"""Every experiment by name. Source: arXiv:2309.12913, tables 1 to 3."""
