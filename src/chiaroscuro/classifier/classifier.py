"""An image classifier: a network with its normalization, framing and class names."""

import copy
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chiaroscuro.catalog import TextClasses, Texts, read_texts
from chiaroscuro.choices import Fit, as_float, as_int
from chiaroscuro.classifier import libraries, reading
from chiaroscuro.classifier.reading import Picture, Read
from chiaroscuro.classifier.regions import (
    Detection,
    RegionScores,
    detections,
    placed,
    region_text,
)
from chiaroscuro.classifier.similarity import Similarities
from chiaroscuro.device import rounded_to_tf32
from chiaroscuro.edits import check_images
from chiaroscuro.errors import (
    ChiaroscuroError,
    ChoiceError,
    ImageError,
    ModelError,
    encodable,
    first_line,
    unknown,
)
from chiaroscuro.guard import as_found, check_tensors
from chiaroscuro.images import Framing, Photo, frame, on_photo
from chiaroscuro.regions import Region
from chiaroscuro.results.facts import CropBox, ModelFacts, RegionFacts


class Classifier:
    """An `nn.Module` that takes pixels in [0, 1]; its normalization happens inside.

    `mean`, `std`: per channel (or one number), for pixels in [0, 1]; None leaves pixels alone.
    `size`: height and width that photos are brought to; None takes them as they are.
    `framing` says how (and brings its own size). `labels`: one name a class, synonyms separated
    by commas, or names by index. `multi_label`: classes do not exclude each other, so a target must
    be named. `channels`: 3, 1 for gray input, or another number; `shown` are then one or three of
    them, by index, that pictures show (default: the first). `volumes`: it takes (B, C, D, H, W), at
    their own size. `normalized`: arrays and tensors given to `explain`, `what_if`, `compare` and
    `preprocess` are normalized already; mean and std give their pixels back. `name` and `origin`
    (architecture, weights, license) are saved with results. A compiled module is used as it was
    before it was compiled; `notes` say so. `num_classes`: K, of the labels, or of the logits once
    the module has run; None while neither is known.

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
        shown: int | Sequence[int] | None = None,
        volumes: bool = False,
        normalized: bool = False,
        name: str = "",
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ModelError(f"module is a {type(module).__name__}: expected an nn.Module")
        # Compiled code has no backward pass for many classes.
        self.module: nn.Module = getattr(module, "_orig_mod", module)
        compiled = self.module is not module or getattr(module, "_compiled_call_impl", None)
        note = "torch.compile(): the module is used as it was before it was compiled"
        self.notes: tuple[str, ...] = (note,) if compiled else ()
        check_tensors(self.module)
        self.channels = as_int("channels", channels)
        if self.channels < 1:
            raise ChoiceError(f"channels is {channels}: expected 3, or 1 for gray input")
        self.mean = _per_channel("mean", mean, self.channels)
        self.std = _per_channel("std", std, self.channels)
        if self.std is not None and min(self.std) <= 0:
            raise ChoiceError(f"std is {self.std}: expected numbers above 0")
        self.framing = framing or Framing(size=_numbers("size", size, 2, as_int))
        self.size = self.framing.size
        self.shown = _shown(shown, self.channels)
        self.volumes, self.normalized = volumes, normalized
        if volumes and self.size:
            raise ChoiceError(
                f"size is {self.size}: volumes are taken at their own size, give none"
            )
        if normalized and self.mean is None and self.std is None:
            raise ChoiceError(
                "normalized is True: give the mean and std that images are given with"
            )
        self.labels = None if labels is None else _checked_labels(labels)
        self.multi_label = multi_label
        self.name = encodable(name or type(self.module).__name__)
        self.origin: Mapping[str, Any] = dict(origin or {})
        self.num_classes: int | None = None if self.labels is None else len(self.labels)
        self.region: RegionFacts | None = None

    @classmethod
    def from_torchvision(cls, module: nn.Module, weights: Any, *, name: str = "") -> Self:
        """A module of torchvision with what its weights, a member of a `WeightsEnum`, say.

        >>> from torchvision.models import ResNet18_Weights, resnet18
        >>> Classifier.from_torchvision(resnet18(), ResNet18_Weights.DEFAULT)
        Classifier('resnet18', 1000 classes, 224x224, cpu float32)
        """
        return libraries.from_torchvision(cls, module, weights, name)

    @classmethod
    def from_timm(cls, module: nn.Module, *, name: str = "") -> Self:
        """A module of timm with the size, normalization and names of its own configuration.

        >>> import timm
        >>> Classifier.from_timm(timm.create_model("resnet18"))
        Classifier('resnet18', 1000 classes, 224x224, cpu float32)
        """
        return libraries.from_timm(cls, module, name)

    @classmethod
    def from_huggingface(cls, module: nn.Module, processor: Any, *, name: str = "") -> Self:
        """A transformers module with the size and normalization of its image processor.

        Raises `ModelError` for a processor that does more than resize, cut and normalize.
        """
        return libraries.from_huggingface(cls, module, processor, name)

    @classmethod
    def from_clip(
        cls,
        model: nn.Module,
        processor: Any,
        classes: Texts,
        templates: Texts = ("{}",),
        *,
        name: str = "",
    ) -> Self:
        """A CLIP or SigLIP of transformers with its processor; its classes are texts.

        The logit of a class is scale x cosine(image, text), for SigLIP + bias, whose probabilities
        are sigmoids (multi-label). The text tower runs here, once. The embeddings of a class by
        several `templates` ("a photo of a {}") are normalized, averaged and normalized. Texts may
        be a file with one a line. The image tower stays the model's own.

        Raises `ChoiceError` for fewer than two classes, one that is given twice, a template without
        {}, and a prompt longer than the text tower reads; `ModelError` for a model that is no CLIP.
        """
        texts = TextClasses(read_texts(classes), read_texts(templates))
        return libraries.from_clip(cls, model, processor, texts, name)

    def __repr__(self) -> str:
        classes = f"{'unknown' if self.num_classes is None else self.num_classes} classes"
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
    def _axes(self) -> str:
        return "CDHW" if self.volumes else "CHW"

    @property
    def _example(self) -> Tensor:
        tensors = (*self.module.parameters(), *self.module.buffers())
        return next((t for t in tensors if t.is_floating_point()), torch.zeros(()))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits (B, K) of pixels (B, C, H, W) in [0, 1], in eval mode; the module stays as it was.

        Raises `ImageError` for other pixels, `ModelError` when the module gives no (B, K) logits.
        """
        self.check_pixels(pixels)
        with as_found(self.module):
            return self.logits(pixels)

    def logits(self, pixels: Tensor, *, spare: bool = False) -> Tensor:
        """Logits (B, K) in the module's present mode, pixels unchecked; it may write over `spare`.

        One output column s is read as two classes with logits (-s/2, +s/2).
        """
        normalized = self.module_input(pixels, spare=spare)
        try:
            # A module that was compiled in place runs as it was written.
            compiled = getattr(self.module, "_compiled_call_impl", None) is not None
            call: Any = self.module._call_impl if compiled else self.module
            output = call(normalized)
        except ChiaroscuroError:
            raise
        except Exception as error:
            shape, axes = (" x ".join(map(str, each)) for each in (pixels.shape[1:], self._axes))
            text = f"{self.name} failed on an image of {shape} ({axes}): {first_line(error)}"
            hint = "; to scale photos to one size give Classifier(module, size=...)"
            raise ModelError(text if self.size else text + hint) from error
        scores = reading.read_logits(output, len(pixels), self.name, self.num_classes)
        if scores.shape[1] == 1:
            scores = torch.cat([-scores / 2, scores / 2], dim=1)
        count = scores.shape[1]
        if self.labels is not None and len(self.labels) != count:
            raise ModelError(f"{self.name} gives {count} classes but has {len(self.labels)} labels")
        self.num_classes = count
        return scores

    def module_input(self, pixels: Tensor, *, spare: bool = False) -> Tensor:
        """What the module gets: a tensor of its own, since its first operation may be in place;
        `spare`: or the pixels themselves.
        """
        if self.mean is None and self.std is None:
            return pixels if spare else pixels.clone()
        column = (-1, *(1,) * (pixels.ndim - 2))
        mean = pixels.new_tensor(self.mean or 0.0).view(column)
        std = pixels.new_tensor(self.std or 1.0).view(column)
        return (pixels - mean) / std

    def check_pixels(self, pixels: Tensor) -> None:
        """Raise `ImageError` unless pixels are (B, C, H, W) in [0, 1] of its dtype and device."""
        check_images(pixels)
        self.check_sides(pixels.shape[1:])
        here, home = (pixels.dtype, pixels.device), (self.dtype, self.device)
        if here != home and next(self.module.parameters(), None) is not None:
            raise ImageError(
                f"pixels are {pixels.dtype} on {pixels.device}, {self.name} is {self.dtype} on "
                f"{self.device}: bring the pixels there, or use classifier.to(...)"
            )

    def check_sides(self, shape: Sequence[int]) -> None:
        """Raise `ImageError` unless the `shape` of an image has the network's axes and channels."""
        if len(shape) != len(self._axes):
            expected = f"{self.name} expects ({', '.join(self._axes)})"
            hint = "" if self.volumes else "; Classifier(..., volumes=True) takes volumes"
            raise ImageError(f"an image has shape {tuple(shape)}: {expected}{hint}")
        if shape[0] != self.channels:
            channels = f"{shape[0]} channels (shape {tuple(shape)})"
            first, last = (", ".join(axes) for axes in (self._axes, f"{self._axes[1:]}C"))
            forms = f"{self.channels}; tensors are ({first}), arrays ({last})"
            raise ImageError(f"pixels have {channels}: {self.name} expects {forms}")

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the module in place as `nn.Module.to` does, and return this classifier."""
        self.module.to(*args, **kwargs)
        return self

    def preprocess(self, pictures: Picture | Iterable[Picture], fit: Fit | None = None) -> Tensor:
        """Pixels (B, C, H, W) in [0, 1] of one picture or several, on the module's device.

        A file or Pillow image is brought to the classifier's size by `fit` (default its own); so is
        an array (H, W, C) or tensor (C, H, W) of floats in [0, 1] or of bytes, but for one that has
        the size already, which is taken as it is. Arrays of 16 bits are divided by 255, 4095 or
        65535, and normalized ones get their pixels back. Raises `ImageError` for a picture that
        cannot be read, or pictures of several sizes where the classifier has none.

        >>> from PIL import Image
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
        >>> Classifier(net, size=8).preprocess(Image.new("RGB", (40, 20))).shape
        torch.Size([1, 3, 8, 8])
        """
        one = isinstance(pictures, str) or not isinstance(pictures, Iterable)
        several: Any = (
            [pictures] if one or getattr(pictures, "ndim", 9) < 4 + self.volumes else pictures
        )
        pixels = [self._framed(picture, fit)[0] for picture in several]
        shapes = sorted({image.shape for image in pixels})
        if len(shapes) != 1:
            raise ImageError(
                f"pictures have {len(shapes)} sizes, {shapes[:2]}: give at least one, and a "
                "classifier with a size where they differ"
            )
        return torch.from_numpy(np.stack(pixels)).to(self.device, self.dtype)

    def to_photo(
        self, values: Tensor | NDArray[Any], picture: Picture, fit: Fit | None = None
    ) -> NDArray[Any]:
        """A map (H, W) of a picture on the picture's own pixels (H', W'), NaN where none was seen.

        Each pixel of the upright photo takes the value of the network's pixel over its middle.
        """
        pixels, crop = self._framed(picture, fit)
        drawn = reading.to_numpy(values) if isinstance(values, Tensor) else np.asarray(values)
        if drawn.shape != (seen := pixels.shape[1:]):
            raise ImageError(
                f"values have shape {drawn.shape}: the network sees {seen} of the picture"
            )
        return drawn if self.volumes else on_photo(drawn, crop)

    def _framed(self, picture: Picture, fit: Fit | None) -> tuple[NDArray[np.float32], CropBox]:
        image = self.read(picture)
        if isinstance(image, Read):
            pixels, sides = image.pixels, image.pixels.shape[1:]
            if self.size in (None, sides) and len(pixels) in (1, self.channels):
                box = CropBox(0, 0, *sides[:-3:-1], *sides[:-3:-1])
                return np.repeat(pixels, self.channels // len(pixels), axis=0), box
            image = reading.as_photo(pixels)
        return frame(image, self.framing.with_fit(fit), self.channels)

    def read(self, picture: Picture) -> Photo | Read:
        """A `picture` as a photo, not yet framed, or as the pixels of an array at its own size."""
        given = reading.opened(picture, volumes=self.volumes)
        if isinstance(given, Photo):
            if self.volumes:
                forms = "give an array (D, H, W, C) or a tensor (C, D, H, W)"
                raise ImageError(
                    f"{given.source}: a photo, where {self.name} takes volumes: {forms}"
                )
            return given
        full = self.mean or (0.0,) * self.channels, self.std or (1.0,) * self.channels
        normalization = full if self.normalized else None
        return reading.as_pixels(given, volumes=self.volumes, normalization=normalization)

    @property
    def network(self) -> nn.Module:
        """The module, or the one whose scores it reads in a region."""
        return self.module.network if isinstance(self.module, RegionScores) else self.module

    def in_region(
        self, region: Region, picture: Picture | None = None, fit: Fit | None = None
    ) -> Self:
        """The classifier of a part of a picture, by a network that scores positions or boxes.

        Its K scores are averaged over the `region`, or are those of a detector's box, which is
        found again by overlap where pixels changed. So rivals are the other classes there.
        Coordinates are pixels of the upright picture, which is framed as `preprocess` does. Without
        a picture the region is `Region.predicted`, in each image its own.

        Raises `ChoiceError` for a region that the network does not see, or a box that is not there
        (with a list), `ModelError` for a network of neither kind.

        >>> net, pixels = nn.Conv2d(3, 4, 1), torch.rand(3, 8, 8)
        >>> part = Classifier(net).in_region(Region.box(0, 0, 2, 4), pixels)
        >>> torch.allclose(part(pixels[None]), net(pixels)[None, :, :4, :2].mean((2, 3)))
        True
        """
        if picture is not None:
            source = str(picture) if isinstance(picture, str | Path) else "array"
            return self.at(placed(self, region, *self._seen(picture, fit), source))
        if region.is_of_one_photo:
            raise ChoiceError(f"region {region} is a part of one picture: give in_region that too")
        label = None if region.label is None else self.class_index(region.label)
        return self.at(RegionFacts(str(region)), label)

    def similar_to(self, pictures: Iterable[Picture], fit: Fit | None = None) -> Self:
        """The classifier whose logits are similarities to pictures, by a network of embeddings.

        Logit k is the cosine of this classifier's outputs (B, D) with those of picture k, so the
        rivals of a picture are the others. With one picture it is one score: brighter pixels raise
        it or lower it, and active maps are the positive ones.

        >>> pictures = torch.rand(2, 3, 8, 8)
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
        >>> Classifier(net).similar_to(pictures)(pictures).diagonal().allclose(torch.ones(2))
        True
        """
        several = list(pictures)
        with torch.no_grad():
            embeddings = self(self.preprocess(several, fit))
        names = [
            Path(one).name if isinstance(one, str | Path) else f"picture {n}"
            for n, one in enumerate(several)
        ]
        like, labels = copy.copy(self), [f"similar to {name}" for name in names]
        like.labels = tuple(labels if len(names) > 1 else [f"not {labels[0]}", labels[0]])
        like.module, like.num_classes = Similarities(self.module, embeddings), len(like.labels)
        like.origin = {**self.origin, "classes": labels}
        return like

    def at(self, region: RegionFacts, label: int | None = None) -> Self:
        """The classifier of a `region` in the network's pixels, such as a saved result has.

        `label`: the class whose predicted part it is where the region has no mask.
        """
        part = copy.copy(self)
        part.module, part.region = RegionScores(self.network, region, label), region
        return part

    def detections(self, picture: Picture, fit: Fit | None = None) -> list[Detection]:
        """The boxes that a detector finds in a picture, best first, at most 20 of them.

        Raises `ModelError` for a network that finds no boxes.
        """
        return detections(self, *self._seen(picture, fit))

    def _seen(self, picture: Picture, fit: Fit | None) -> tuple[Tensor, CropBox]:
        pixels, crop = self._framed(picture, fit)
        return torch.from_numpy(pixels[None]).to(self.device, self.dtype), crop

    def describe(self, *, digest: bool = False) -> ModelFacts:
        """What a saved result says of it; with `digest`, the SHA-256 of parameters and buffers."""
        place = str(self.device), str(self.dtype).removeprefix("torch.")
        kind = self.name, self.mean, self.std, self.channels, self.multi_label, self.framing
        sha256 = _weights_digest(self) if digest else None
        where = self.origin, *place, sha256
        tf32 = rounded_to_tf32(self.device) if self.dtype == torch.float32 else ()
        region = "" if self.region is None else region_text(self.region)
        return ModelFacts(*kind, *where, self.shown, self.volumes, tf32, region)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax of logits (B, K), or their sigmoid for a multi-label head."""
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def label(self, index: int) -> str:
        """The class's name, or "class N" without labels."""
        return self.labels[index] if self.labels is not None else f"class {index}"

    def class_index(self, name: str | int | np.integer[Any] | Tensor) -> int:
        """The index of a class given by index or any of its names, case ignored, "_" for a space.

        Text is a name first: "3" is the class called 3 where there is one, else index 3; "#3" is
        always index 3, and so is "class 3" without labels. Raises `ChoiceError` for an unknown name
        (with near ones) or one that several classes share (with their indices).
        """
        if not isinstance(name, str):
            return self._checked_index(as_int("class", name))
        text, labels = name.strip(), self.labels or ()
        wanted = {text.casefold(), text.casefold().replace("_", " ")}
        matches = [k for k, label in enumerate(labels) if wanted & _synonyms(label)]
        if len(matches) > 1:
            listed = " or ".join(f"#{k} ({self.label(k)})" for k in matches)
            raise ChoiceError(f"class {text!r} is ambiguous: give the index, {listed}")
        if matches:
            return matches[0]
        number = text.removeprefix("#" if labels or text.startswith("#") else "class ")
        if re.fullmatch("-?[0-9]{1,18}", number):
            return self._checked_index(int(number))
        if not labels:
            raise ChoiceError(f"class {text!r}: {self.name} has no class names, give an index")
        listed = f": {'; '.join(labels)}" if len(labels) <= 20 else ""
        known = frozenset().union(*map(_synonyms, labels))
        raise unknown("class", text, known, f"{self.name} has {len(labels)} classes{listed}")

    def _checked_index(self, index: int) -> int:
        if index < 0 or (self.num_classes is not None and index >= self.num_classes):
            last = "K-1" if self.num_classes is None else self.num_classes - 1
            raise ChoiceError(f"class {index} is out of range: expected 0..{last}")
        return index


@cache
def _synonyms(label: str) -> frozenset[str]:
    """Every name of a class, in small letters: its whole label, and the parts between commas."""
    return frozenset(name.strip().casefold() for name in (label, *label.split(",")))


def _weights_digest(classifier: Classifier) -> str:
    """SHA-256 of every parameter and buffer, with their names."""
    digest, network = hashlib.sha256(), classifier.network
    buffers = dict(network.named_buffers())  # also those that a state dict leaves out
    for name, tensor in (network.state_dict() | buffers).items():
        if not isinstance(tensor, Tensor) or tensor.is_quantized:
            digest.update(f"{name} {tensor!r}".encode())
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        values = tensor.detach().cpu().to_dense().contiguous().flatten()
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _checked_labels(labels: Any) -> tuple[str, ...]:
    """One name a class; the keys of a mapping, numbers or digits, must be all indices from 0 on."""
    if isinstance(labels, Mapping):
        try:
            keys = [as_int("class", int(k) if isinstance(k, str) else k) for k in labels]
        except ValueError:
            keys = []
        if sorted(keys) != list(range(len(labels))):
            raise ChoiceError(
                f"labels has keys {list(labels)[:5]}: expected every class index from 0 to "
                f"{len(labels) - 1}, with the class's name as value"
            )
        labels = [name for _, name in sorted(zip(keys, labels.values(), strict=True))]
    is_list = isinstance(labels, Iterable) and not isinstance(labels, str | Set)
    names = tuple(map(encodable, labels)) if is_list else ()
    if not names:
        raise ChoiceError(f"labels is {labels!r}: expected a list with a name for each class")
    return names


def _shown(shown: int | Sequence[int] | None, channels: int) -> tuple[int, ...]:
    """The channels that pictures show; none where they show all, gray or red, green and blue."""
    if shown is None or shown == ():
        return () if channels in (1, 3) else (0, 1, 2) if channels > 3 else (0,)
    listed = (shown,) if isinstance(shown, int) else tuple(as_int("shown", n) for n in shown)
    if len(listed) not in (1, 3) or not all(0 <= n < channels for n in listed):
        expected = f"expected one channel or three, from 0 to {channels - 1}"
        raise ChoiceError(f"shown is {shown!r}: {expected}")
    return listed


def _per_channel(name: str, value: Any, channels: int) -> tuple[float, ...] | None:
    values: tuple[float, ...] | None = _numbers(name, value, channels, as_float)
    if values is not None and not all(abs(number) <= 10 for number in values):
        wrong = "expected finite numbers; if they are for pixels of 0 to 255: divide it by 255"
        raise ChoiceError(f"{name} is {values}: {wrong}")
    return values


def _numbers(name: str, value: Any, count: int, read: Callable[[str, object], Any]) -> Any:
    """One number for all, or `count` numbers, as a tuple; None stays."""
    if value is None:
        return None
    several = isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1
    numbers = value if several and not isinstance(value, str) else (value,) * count
    if len(numbers) != count:
        raise ChoiceError(f"{name} has {len(numbers)} numbers: expected {count}")
    return tuple(read(name, number) for number in numbers)
