"""An image classifier: a network with its normalization, framing and class names."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from math import isfinite
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from chiaroscuro.choices import Fit, as_float, as_int
from chiaroscuro.classifier.libraries import (
    huggingface_preparation,
    reading,
    timm_preparation,
    torchvision_preparation,
)
from chiaroscuro.classifier.outputs import read_logits
from chiaroscuro.errors import (
    ChoiceError,
    ImageError,
    ModelError,
    encodable,
    first_line,
    unknown,
)
from chiaroscuro.guard import as_found, check_tensors
from chiaroscuro.images import (
    Framing,
    Photo,
    check_array,
    frame,
    on_photo,
    open_photo,
    photo_from_image,
)
from chiaroscuro.images.arrays import check_range
from chiaroscuro.results import CropBox, ModelFacts

_LARGEST = 10.0
"""Means and deviations above it are those of pixels from 0 to 255."""
Picture = str | Path | Photo | Image.Image | NDArray[Any] | Tensor
"""A file, a Pillow image, an array (H, W, C) or a tensor (C, H, W)."""


class Classifier:
    """An `nn.Module` that takes pixels in [0, 1]; its normalization happens inside.

    `mean`, `std`: per channel (or one number), for pixels in [0, 1]; None leaves pixels alone.
    `size`: height and width that photos are brought to; None takes them as they are.
    `framing` says how (and brings its own size). `labels`: one name a class, synonyms separated
    by commas, or names by index. `multi_label`: classes do not exclude each other, so a target must
    be named. `channels`: 3, or 1 for gray input; tensors may have others. `name` and `origin`
    (architecture, weights, license) are written into saved results. A compiled module is used as it
    was before it was compiled; `notes` say so.

    Raises `ModelError` for what is no module, or one whose tensors autograd cannot follow (on the
    meta device, in MKL-DNN layout, created in inference mode); `ChoiceError` for a std of 0, mean
    and std that do not fit `channels` or are for pixels of 0 to 255, and labels that are no names.

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
        labels: Sequence[str] | Mapping[int, str] | None = None,
        framing: Framing | None = None,
        multi_label: bool = False,
        channels: int = 3,
        name: str = "",
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ModelError(f"module is a {type(module).__name__}: expected an nn.Module")
        self.module, self.notes = _uncompiled(module)
        check_tensors(self.module)
        self.channels = as_int("channels", channels)
        if self.channels < 1:
            raise ChoiceError(f"channels is {channels}: expected 3, or 1 for gray input")
        self.mean = _per_channel("mean", mean, self.channels)
        self.std = _per_channel("std", std, self.channels)
        self.framing = framing or Framing(size=_sides(size))
        self.labels = None if labels is None else _checked_labels(labels)
        self.multi_label = multi_label
        self.name = encodable(name or type(self.module).__name__)
        self.origin: Mapping[str, Any] = dict(origin or {})
        self._classes = None if self.labels is None else len(self.labels)
        if self.std is not None and min(self.std) <= 0:
            raise ChoiceError(f"std is {self.std}: expected numbers above 0")

    @classmethod
    def from_torchvision(cls, module: nn.Module, weights: Any, *, name: str = "") -> Self:
        """A module of torchvision with what its weights, a member of a `WeightsEnum`, say.

        >>> from torchvision.models import ResNet18_Weights, resnet18
        >>> Classifier.from_torchvision(resnet18(), ResNet18_Weights.DEFAULT)
        Classifier('resnet18', 1000 classes, 224x224, cpu float32)
        """
        with reading(f"{weights} is no member of weights for classification, such as DEFAULT"):
            return cls(module, **vars(torchvision_preparation(weights, name)))

    @classmethod
    def from_timm(cls, module: nn.Module, *, name: str = "") -> Self:
        """A module of timm with the size, normalization and names of its own configuration.

        >>> import timm
        >>> Classifier.from_timm(timm.create_model("resnet18"))
        Classifier('resnet18', 1000 classes, 224x224, cpu float32)
        """
        with reading(f"{type(module).__name__} is no classifier of timm"):
            return cls(module, **vars(timm_preparation(module, name)))

    @classmethod
    def from_huggingface(cls, module: nn.Module, processor: Any, *, name: str = "") -> Self:
        """A transformers module with the size and normalization of its image processor.

        Raises `ModelError` for a processor that does more than resize, cut and normalize.
        """
        what = f"{type(module).__name__} with {type(processor).__name__}"
        with reading(f"{what} is no classifier with an image processor"):
            return cls(module, **vars(huggingface_preparation(module, processor, name)))

    def __repr__(self) -> str:
        classes = "unknown classes" if self._classes is None else f"{self._classes} classes"
        size = "any size" if self.size is None else "x".join(map(str, self.size))
        dtype = str(self.dtype).removeprefix("torch.")
        return f"Classifier({self.name!r}, {classes}, {size}, {self.device} {dtype})"

    @property
    def device(self) -> torch.device:
        """Where the module's parameters lie."""
        return self._example.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format that the module takes: that of its first floating-point parameter."""
        return self._example.dtype

    @property
    def _example(self) -> Tensor:
        tensors = (*self.module.parameters(), *self.module.buffers())
        return next((t for t in tensors if t.is_floating_point()), torch.zeros(()))

    @property
    def num_classes(self) -> int | None:
        """The number of classes K: of the labels, or of the logits once the module has run.

        None while neither is known.
        """
        return self._classes

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that photos are brought to; None takes them as they are."""
        return self.framing.size

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits (B, K) of pixels (B, C, H, W) in [0, 1], in eval mode; the module stays as it was.

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
        normalized = self._normalized(pixels, spare=spare)
        try:
            # A module that was compiled in place runs as it was written.
            compiled = getattr(self.module, "_compiled_call_impl", None) is not None
            call: Any = self.module._call_impl if compiled else self.module
            output = call(normalized)
        except Exception as error:
            shape = " x ".join(map(str, pixels.shape[1:]))
            hint = "; to scale photos to one size give Classifier(module, size=...)"
            raise ModelError(
                f"{self.name} failed on an image of {shape} (C x H x W): {first_line(error)}"
                f"{hint if self.size is None else ''}"
            ) from error
        scores = read_logits(output, len(pixels), self.name, self._classes)
        if scores.shape[1] == 1:
            scores = torch.cat([-scores / 2, scores / 2], dim=1)
        if self.labels is not None and len(self.labels) != scores.shape[1]:
            raise ModelError(
                f"{self.name} gives {scores.shape[1]} classes but has {len(self.labels)} labels"
            )
        self._classes = scores.shape[1]
        return scores

    def _normalized(self, pixels: Tensor, *, spare: bool) -> Tensor:
        """A tensor of its own, since a network's first operation may work in place."""
        if self.mean is None and self.std is None:
            return pixels if spare else pixels.clone()
        mean = pixels.new_tensor(self.mean or 0.0).view(-1, 1, 1)
        std = pixels.new_tensor(self.std or 1.0).view(-1, 1, 1)
        return (pixels - mean) / std

    def check_pixels(self, pixels: Tensor) -> None:
        """Raise `ImageError` unless pixels are (B, C, H, W) in [0, 1] of its dtype and device."""
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
        if next(self.module.parameters(), None) is None:
            return
        if self.dtype != pixels.dtype or self.device != pixels.device:
            raise ImageError(
                f"pixels are {pixels.dtype} on {pixels.device}, {self.name} is {self.dtype} on "
                f"{self.device}: bring the pixels there, or use classifier.to(...)"
            )

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the module in place as `nn.Module.to` does, and return this classifier."""
        self.module.to(*args, **kwargs)
        return self

    def preprocess(self, pictures: Picture | Iterable[Picture], fit: Fit | None = None) -> Tensor:
        """Pixels (B, C, H, W) in [0, 1] of one picture or several, on the module's device.

        A file or Pillow image is brought to the classifier's size by `fit` (default its own); so is
        an array (H, W, C) or tensor (C, H, W) of floats in [0, 1] or of bytes, but for one that has
        the size already, which is taken as it is. Raises `ImageError` for a picture that cannot be
        read, or pictures of several sizes where the classifier has none.

        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
        >>> Classifier(net, size=8).preprocess(Image.new("RGB", (40, 20))).shape
        torch.Size([1, 3, 8, 8])
        """
        one = isinstance(pictures, str) or not isinstance(pictures, Iterable)
        several: Any = [pictures] if one or getattr(pictures, "ndim", 4) < 4 else pictures
        pixels = [self._framed(picture, fit)[0] for picture in several]
        shapes = sorted({image.shape for image in pixels})
        if len(shapes) != 1:
            raise ImageError(
                f"pictures have {len(shapes)} sizes{f', such as {shapes[:2]}' if shapes else ''}: "
                "give at least one, and a classifier with a size where they differ"
            )
        return torch.from_numpy(np.stack(pixels)).to(self.device, self.dtype)

    def to_photo(
        self, values: Tensor | NDArray[Any], picture: Picture, fit: Fit | None = None
    ) -> NDArray[Any]:
        """A map (H, W) of a picture on the picture's own pixels (H', W'), NaN where none was seen.

        Each pixel of the upright photo takes the value of the network's pixel that covers its
        middle; nothing is interpolated.
        """
        seen, crop = self._framed(picture, fit)
        drawn = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
        if drawn.shape != seen.shape[1:]:
            raise ImageError(
                f"values have shape {drawn.shape}: the network sees {seen.shape[1:]} of the picture"
            )
        return on_photo(drawn, crop)

    def _framed(self, picture: Picture, fit: Fit | None) -> tuple[NDArray[np.float32], CropBox]:
        if isinstance(picture, Tensor):
            picture = _tensor_as_array(picture)
        if isinstance(picture, np.ndarray) and self.size in (None, picture.shape[:2]):
            channels = picture.shape[2:] if picture.ndim > 2 else (1,)
            if channels in ((1,), (self.channels,)):
                is_bytes = picture.dtype == np.uint8
                pixels = check_array(picture / np.float32(255) if is_bytes else picture)
                pixels = np.repeat(pixels, self.channels // len(pixels), axis=0)
                height, width = picture.shape[:2]
                return pixels, CropBox(0, 0, width, height, width, height)
        return frame(_as_photo(picture), self.framing.with_fit(fit), self.channels)

    def describe(self, *, digest: bool = False) -> ModelFacts:
        """What a saved result says of it; with `digest`, the SHA-256 of parameters and buffers."""
        return ModelFacts(
            self.name, self.mean, self.std, self.channels, self.multi_label, self.framing,
            self.origin, str(self.device), str(self.dtype).removeprefix("torch."),
            _weights_digest(self) if digest else None,
        )  # fmt: skip

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax of logits (B, K), or their sigmoid for a multi-label head."""
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def label(self, index: int) -> str:
        """The class's name, or "class N" without labels."""
        return self.labels[index] if self.labels is not None else f"class {index}"

    def class_index(self, name: str | int | np.integer[Any] | Tensor) -> int:
        """The index of a class given by index or by any one of its names, case ignored.

        Text is a name first: "3" is the class called 3 where there is one, else index 3; "#3" is
        always index 3. Raises `ChoiceError` for an unknown name (with near ones) or one that
        several classes share (with their indices).
        """
        if not isinstance(name, str):
            return self._checked_index(as_int("class", name))
        text = name.strip()
        names = self._names()
        matches = names.get(text.casefold(), [])
        if len(matches) > 1:
            listed = " or ".join(f"#{k} ({self.label(k)})" for k in matches)
            raise ChoiceError(f"class {text!r} is ambiguous: give the index, {listed}")
        if matches:
            return matches[0]
        number = text.removeprefix("#")
        if re.fullmatch("-?[0-9]{1,18}", number):
            return self._checked_index(int(number))
        raise self._unknown_class(text, names)

    def _checked_index(self, index: int) -> int:
        if index < 0 or (self._classes is not None and index >= self._classes):
            last = "K-1" if self._classes is None else self._classes - 1
            raise ChoiceError(f"class {index} is out of range: expected 0..{last}")
        return index

    def _names(self) -> dict[str, list[int]]:
        names: dict[str, list[int]] = {}
        for index, label in enumerate(self.labels or ()):
            for synonym in {label, *label.split(",")}:
                indices = names.setdefault(synonym.strip().casefold(), [])
                if index not in indices:
                    indices.append(index)
        return names

    def _unknown_class(self, text: str, names: Mapping[str, Sequence[int]]) -> ChoiceError:
        if not names:
            return ChoiceError(f"class {text!r}: {self.name} has no class names, give an index")
        labels = self.labels or ()
        listed = f": {'; '.join(labels)}" if len(labels) <= 20 else ""
        return unknown("class", text, names, f"{self.name} has {len(labels)} classes{listed}")


def _weights_digest(classifier: Classifier) -> str:
    """SHA-256 of every parameter and buffer, with their names."""
    digest = hashlib.sha256()
    buffers = dict(classifier.module.named_buffers())  # also those that a state dict leaves out
    for name, tensor in (classifier.module.state_dict() | buffers).items():
        if not isinstance(tensor, Tensor) or tensor.is_quantized:
            digest.update(f"{name} {tensor!r}".encode())
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        values = tensor.detach().cpu().to_dense().contiguous().flatten()
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _uncompiled(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The module as it was written, since compiled code has no backward pass for many classes."""
    original = getattr(module, "_orig_mod", None)
    if isinstance(original, nn.Module):
        return original, ("torch.compile: the module is used as it was before it was compiled",)
    if getattr(module, "_compiled_call_impl", None) is not None:
        return module, ("module.compile(): the module is used as it was before it was compiled",)
    return module, ()


def _tensor_as_array(picture: Tensor) -> NDArray[Any]:
    """A tensor (C, H, W) or (H, W) as an array (H, W, C) or (H, W)."""
    values = picture.detach().cpu().to_dense()
    if values.is_floating_point():
        values = values.to(torch.promote_types(values.dtype, torch.float32))
    return (values.movedim(0, -1) if values.ndim == 3 else values).numpy()


def _as_photo(picture: Picture) -> Photo:
    if isinstance(picture, Photo):
        return picture
    if isinstance(picture, str | Path):
        return open_photo(picture)
    if isinstance(picture, Image.Image):
        return photo_from_image(picture)
    if not isinstance(picture, np.ndarray):
        raise ImageError(
            f"picture is a {type(picture).__name__}: expected a path, a Pillow image or an array "
            "(H, W, C)"
        )
    if picture.dtype != np.uint8:
        picture = np.rint(check_array(picture).transpose(1, 2, 0) * 255).astype(np.uint8)
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    if picture.ndim != 2 and (picture.ndim != 3 or picture.shape[2] > 4):
        raise ImageError(
            f"picture has shape {picture.shape}: expected an array (H, W) or (H, W, C), or "
            "a tensor (C, H, W)"
        )
    return photo_from_image(Image.fromarray(picture), "array")


def _sides(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    several = isinstance(size, Sequence) or getattr(size, "ndim", 0) == 1
    sides: Any = size if several and not isinstance(size, str) else (size, size)
    if len(sides) != 2:
        raise ChoiceError(f"size is {size!r}: expected one number, or (height, width)")
    return as_int("size", sides[0]), as_int("size", sides[1])


def _checked_labels(labels: Sequence[str] | Mapping[int, str]) -> tuple[str, ...]:
    """One name a class; the keys of a mapping, numbers or digits, must be all indices from 0 on."""
    if isinstance(labels, str | Set) or not isinstance(labels, Iterable):
        raise ChoiceError(f"labels is {labels!r}: expected a list with a name for each class")
    if isinstance(labels, Mapping):
        try:
            by_index = {
                int(index) if isinstance(index, str) else as_int("class", index): name
                for index, name in labels.items()
            }
        except ValueError:
            by_index = {}
        if sorted(by_index) != list(range(len(labels))):
            raise ChoiceError(
                f"labels has keys {list(labels)[:5]}: expected every class index from 0 to "
                f"{len(labels) - 1}, with the class's name as value"
            )
        labels = [by_index[index] for index in range(len(by_index))]
    names = tuple(map(encodable, labels))
    if not names:
        raise ChoiceError("labels is empty: expected a name for each class, or None")
    return names


def _per_channel(
    name: str, value: float | Sequence[float] | None, channels: int
) -> tuple[float, ...] | None:
    if value is None:
        return None
    several = isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1
    numbers: Any = value if several and not isinstance(value, str) else (value,) * channels
    values = tuple(as_float(name, number) for number in numbers)
    if len(values) != channels:
        raise ChoiceError(f"{name} has {len(values)} numbers: expected {channels}")
    if not all(map(isfinite, values)):
        raise ChoiceError(f"{name} is {values}: expected finite numbers")
    if max(map(abs, values)) > _LARGEST:
        raise ChoiceError(
            f"{name} is {values}, for pixels of 0 to 255: divide it by 255, pixels here are in "
            "[0, 1]"
        )
    return values
