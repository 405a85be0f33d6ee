"""The small parts that several results share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from chiaroscuro.choices import Framing


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the ends of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that could not be used, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The images of a run: `images` were measured; the first `left_out` are listed, all counted."""

    source: str
    split: str
    images: int
    limit: int | None
    seed: int
    left_out_count: int
    left_out: tuple[LeftOut, ...] = ()

    @property
    def name(self) -> str:
        """The data and their split, or the data alone where that is a folder without splits."""
        plain = PurePath(self.source).name == self.split
        return self.source if plain else f"{self.source}, {self.split}"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The classifier behind a result, read off the classifier itself.

    `mean` and `std` are per channel, for pixels in [0, 1]; `origin` says where the weights are
    from; `sha256` is the digest of parameters and buffers, where it is wanted.
    """

    name: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    channels: int
    multi_label: bool
    framing: Framing
    origin: Mapping[str, Any]
    device: str
    dtype: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class of an image."""

    index: int
    label: str
    logit: float
    probability: float


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Where pixels come from: a path or a word, their hash, and what reading changed."""

    source: str
    sha256: str
    is_file: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MapFacts:
    """A map in numbers: its form, and how much of pixels and of channel entries its mask takes."""

    form: str
    kind: str
    reads: str
    support_pixels: float
    support_entries: float


@dataclass(frozen=True, slots=True)
class CropBox:
    """The rectangle of the upright photo that the network saw, in photo pixels, edges included.

    A padded photo has a box that reaches beyond it.
    """

    left: float
    top: float
    right: float
    bottom: float
    photo_width: int
    photo_height: int
