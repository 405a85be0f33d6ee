"""What is saved of a classifier and its training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from chiaroscuro.choices import Framing
from chiaroscuro.errors import ResultError, first_line
from chiaroscuro.results.store import from_plain
from chiaroscuro.settings import TrainingSettings

WEIGHTS = "model.safetensors"
"""The state dict of a saved classifier's module."""


@dataclass(frozen=True, slots=True)
class SavedModel:
    """How a saved classifier is built: an `architecture` with `arguments`; where it is from."""

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
    shown: tuple[int, ...] = ()
    volumes: bool = False
    normalized: bool = False


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """How a network was trained, as its folder says under "training"; the last epoch's figures."""

    settings: TrainingSettings
    images: int
    test_images: int | None
    left_out: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    seconds: float
    versions: Mapping[str, str]


def read_training(origin: Mapping[str, Any]) -> TrainingRecord:
    """The training behind a model's origin; raises `ResultError` where it tells of none."""
    try:
        return from_plain(origin["training"], {}, TrainingRecord)
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise ResultError(f"its training record cannot be read ({first_line(error)})") from error
