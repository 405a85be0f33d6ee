"""An image classifier: a network with what it needs to be asked."""

import copy
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from chiaroscuro.errors import ChoiceError, ImageError, ModelError, first_line, unknown
from chiaroscuro.guard import as_found
from chiaroscuro.images import Framing
from chiaroscuro.images.arrays import check_range


class Classifier:
    """An `nn.Module` that takes pixels in [0, 1]; its normalization happens inside.

    `mean`, `std`: per channel (or one number), for pixels in [0, 1]; None leaves pixels alone.
    `size`: height and width that photos are brought to; None takes them as they are.
    `framing` says how (and brings its own size). `labels`: one name a class, synonyms separated
    by commas. `multi_label`: classes do not exclude each other, so a target must be named.
    `channels`: 3, or 1 for gray input. `name` and `origin` (architecture, weights, license) are
    written into saved results.

    Raises `ChoiceError` for a std of 0, or mean and std that do not fit `channels`.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> Classifier(net, size=2, labels=["a", "b", "c"])(torch.zeros(5, 3, 2, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        size: int | tuple[int, int] | None = None,
        labels: Sequence[str] | None = None,
        framing: Framing | None = None,
        multi_label: bool = False,
        channels: int = 3,
        name: str = "",
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ModelError(f"module is a {type(module).__name__}: expected an nn.Module")
        sides = (size, size) if isinstance(size, int) else size
        self.module = module
        self.channels = channels
        self.mean = _per_channel("mean", mean, channels)
        self.std = _per_channel("std", std, channels)
        self.framing = framing or Framing(size=sides)
        self.labels = None if labels is None else tuple(map(str, labels))
        self.multi_label = multi_label
        self.name = name or type(module).__name__
        self.origin: Mapping[str, Any] = dict(origin or {})
        if self.std is not None and min(self.std) <= 0:
            raise ChoiceError(f"std is {self.std}: expected numbers above 0")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that photos are brought to; None takes them as they are."""
        return self.framing.size

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits (B, K) of pixels (B, C, H, W) in [0, 1], asked in eval mode, restored after.

        Raises `ImageError` for other pixels, `ModelError` when the module gives no (B, K) logits.
        """
        self.check_pixels(pixels)
        with as_found(self.module):
            return self.logits(pixels)

    def logits(self, pixels: Tensor, *, spare: bool = False) -> Tensor:
        """Logits (B, K), in the module's present mode, with no check of the pixels' range.

        Pixels are left as they are, unless they are `spare`: then a module may write over them.

        One output column s is read as two classes with logits (-s/2, +s/2), whose softmax is
        (1 - sigmoid(s), sigmoid(s)).
        """
        try:
            output = self.module(self._normalized(pixels, spare=spare))
        except Exception as error:
            shape = tuple(pixels.shape)
            raise ModelError(
                f"{self.name} failed on pixels of shape {shape}: {first_line(error)}"
            ) from error
        scores = _read_logits(output, len(pixels), self.name)
        if scores.shape[1] == 1:
            scores = torch.cat([-scores / 2, scores / 2], dim=1)
        if self.labels is not None and len(self.labels) != scores.shape[1]:
            raise ModelError(
                f"{self.name} gives {scores.shape[1]} classes but has {len(self.labels)} labels"
            )
        return scores

    def _normalized(self, pixels: Tensor, *, spare: bool) -> Tensor:
        """A tensor of its own, since a network's first operation may work in place."""
        if self.mean is None and self.std is None:
            return pixels if spare else pixels.clone()
        mean = pixels.new_tensor(self.mean or 0.0).view(-1, 1, 1)
        std = pixels.new_tensor(self.std or 1.0).view(-1, 1, 1)
        return (pixels - mean) / std

    def check_pixels(self, pixels: Tensor) -> None:
        """Raise `ImageError` unless pixels are (B, C, H, W) floats in [0, 1] beside the module."""
        if not isinstance(pixels, Tensor) or pixels.ndim != 4 or pixels.numel() == 0:
            shape = tuple(getattr(pixels, "shape", ()))
            raise ImageError(
                f"pixels are a {type(pixels).__name__} of shape {shape}: expected a tensor "
                "(B, C, H, W) with at least one image"
            )
        if pixels.shape[1] != self.channels:
            raise ImageError(
                f"pixels have {pixels.shape[1]} channels (shape {tuple(pixels.shape)}): "
                f"{self.name} expects {self.channels}"
            )
        if not pixels.is_floating_point():
            raise ImageError(
                f"pixels are {pixels.dtype}: expected floats in [0, 1]; divide 8-bit values by 255"
            )
        low, high = torch.aminmax(pixels.detach())
        check_range(float(low), float(high), "pixels")
        self._check_home(pixels)

    def _check_home(self, pixels: Tensor) -> None:
        weight = next((p for p in self.module.parameters() if p.is_floating_point()), None)
        if weight is None:
            return
        if weight.dtype != pixels.dtype or weight.device != pixels.device:
            raise ImageError(
                f"pixels are {pixels.dtype} on {pixels.device}, {self.name} is {weight.dtype} on "
                f"{weight.device}: bring the pixels there, or use classifier.to(...)"
            )

    def to(self, *args: Any, **kwargs: Any) -> "Classifier":
        """A classifier with a copy of the module moved as `nn.Module.to` does; this one stays."""
        moved = copy.copy(self)
        moved.module = copy.deepcopy(self.module).to(*args, **kwargs)
        return moved

    def describe(self) -> dict[str, Any]:
        """What a saved result says of it, in plain values that JSON keeps."""
        framing = dataclasses.asdict(self.framing)
        return {
            "name": self.name,
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "channels": self.channels,
            "multi_label": self.multi_label,
            "framing": {k: list(v) if isinstance(v, tuple) else v for k, v in framing.items()},
            "origin": dict(self.origin),
        }

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax of logits (B, K), or their sigmoid for a multi-label head."""
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def label(self, index: int) -> str:
        """The class's name, or "class N" without labels."""
        return self.labels[index] if self.labels is not None else f"class {index}"

    def class_index(self, name: str | int) -> int:
        """The index of a class given by index or by any one of its names, case ignored.

        Raises `ChoiceError` for an unknown name (with near ones) or one that several classes share
        (with their indices).
        """
        text = str(name).strip()
        if re.fullmatch(r"-?\d+", text):
            return self._checked_index(int(text))
        names = self._names()
        matches = names.get(text.casefold(), [])
        if len(matches) > 1:
            listed = " or ".join(f"{k} ({self.label(k)})" for k in matches)
            raise ChoiceError(f"class {text!r} is ambiguous: give the index, {listed}")
        if not matches:
            raise self._unknown_class(text, names)
        return matches[0]

    def _checked_index(self, index: int) -> int:
        if index < 0 or (self.labels is not None and index >= len(self.labels)):
            last = len(self.labels) - 1 if self.labels is not None else "K-1"
            raise ChoiceError(f"class {index} is out of range: expected 0..{last}")
        return index

    def _names(self) -> dict[str, list[int]]:
        names: dict[str, list[int]] = {}
        for index, label in enumerate(self.labels or ()):
            for synonym in {label, *label.split(",")}:
                found = names.setdefault(synonym.strip().casefold(), [])
                if index not in found:
                    found.append(index)
        return names

    def _unknown_class(self, text: str, names: Mapping[str, Sequence[int]]) -> ChoiceError:
        if not names:
            return ChoiceError(f"class {text!r}: {self.name} has no class names, give an index")
        return unknown("class", text, names, f"{self.name} has {len(self.labels or ())} classes")


def _per_channel(
    name: str, value: float | Sequence[float] | None, channels: int
) -> tuple[float, ...] | None:
    if value is None:
        return None
    if isinstance(value, int | float):
        value = (value,) * channels
    values = tuple(map(float, value))
    if len(values) != channels:
        raise ChoiceError(f"{name} has {len(values)} numbers: expected {channels}")
    return values


def _read_logits(output: Any, batch: int, name: str) -> Tensor:
    if not isinstance(output, Tensor):
        output = _unwrap(output)
    if not isinstance(output, Tensor):
        raise ModelError(
            f"{name} returned a {type(output).__name__}: expected logits as a tensor (B, K), "
            "a tuple's first item, ['logits'] or .logits"
        )
    if output.ndim != 2 or output.shape[0] != batch or output.shape[1] < 1:
        raise ModelError(
            f"{name} returned shape {tuple(output.shape)} for {batch} images: "
            f"expected logits (B, K) = ({batch}, K)"
        )
    if not output.is_floating_point():
        raise ModelError(f"{name} returned {output.dtype}: expected floating-point logits")
    return output


def _unwrap(output: Any) -> Any:
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits
    if isinstance(output, Mapping):
        return output.get("logits", output)
    if isinstance(output, Sequence) and output:
        return output[0]
    return output
