"""A saved classifier: what it takes to build it, next to its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chiaroscuro.choices import Framing

WEIGHTS = "model.safetensors"
"""The state dict of a saved classifier's module."""


@dataclass(frozen=True, slots=True)
class SavedModel:
    """How a saved classifier is built; its weights lie in `model.safetensors`.

    `architecture`: timm:NAME, torchvision:NAME, or a name of `models.ARCHITECTURES`, built with
    `arguments`. `origin` says where weights are from: license, training, and so on.
    """

    architecture: str
    arguments: Mapping[str, Any]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    framing: Framing
    labels: tuple[str, ...] | None
    multi_label: bool
    channels: int
    name: str
    origin: Mapping[str, Any]

    def __repr__(self) -> str:
        count = "classes without names" if self.labels is None else f"{len(self.labels)} classes"
        return f"SavedModel({self.name}: {self.architecture}, {count})"
