"""What is saved of a classifier and its training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import Framing
from chiaroscuro.errors import ResultError, first_line
from chiaroscuro.results.facts import frame_of
from chiaroscuro.results.store import from_plain
from chiaroscuro.settings import ProbeSettings, TrainingSettings

if TYPE_CHECKING:
    import pandas as pd

WEIGHTS = "model.safetensors"
"""The state dict of a saved classifier's module."""
PROBE_SCORES = ("gain", "area", "share", "previous", "last")
"""What a probe says of each map."""


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


@dataclass(frozen=True, eq=False)
class ProbedTraining:
    """Maps of B images after E epochs of a training, and their scores.

    `network`: its name; `epochs` that were looked at; `ids`, `labels` of the target classes and
    `pixels` (B, C, H, W) of the images, of which `shown` channels are drawn; `maps`
    (E, B, M, H, W). `probability` (E, B) of the target, and whether it is predicted, `right`
    (E, B). Of each map (E, B, M): `gain` and `area` of that probability; `share` of pixels that
    are not 0; the rank correlation with the map of the `previous` epoch looked at (1 at first) and
    of the `last`.
    """

    settings: ProbeSettings
    network: str
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    epochs: tuple[int, ...]
    shown: tuple[int, ...]
    pixels: NDArray[np.float32]
    maps: NDArray[np.float32]
    probability: NDArray[np.float64]
    right: NDArray[np.bool_]
    gain: NDArray[np.float64]
    area: NDArray[np.float64]
    share: NDArray[np.float64]
    previous: NDArray[np.float64]
    last: NDArray[np.float64]
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        return f"ProbedTraining({self.network}: {len(self.ids)} images after epochs {self.epochs})"

    def to_frame(self) -> "pd.DataFrame":
        """A tidy pandas table: one row per epoch, image and map."""
        return frame_of(
            {"epoch": epoch, "image": image, "label": self.labels[b], "map": name}
            | {score: getattr(self, score)[e, b] for score in ("probability", "right")}
            | {score: getattr(self, score)[e, b, m] for score in PROBE_SCORES}
            for e, epoch in enumerate(self.epochs)
            for b, image in enumerate(self.ids)
            for m, name in enumerate(self.settings.maps)
        )


def read_training(origin: Mapping[str, Any]) -> TrainingRecord:
    """The training behind a model's origin; raises `ResultError` where it tells of none."""
    try:
        return from_plain(origin["training"], {}, TrainingRecord)
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise ResultError(f"its training record cannot be read ({first_line(error)})") from error
