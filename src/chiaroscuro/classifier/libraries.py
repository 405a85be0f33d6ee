"""What torchvision, timm and transformers say of a loaded module: size, normalization, names."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image
from torch import nn

from chiaroscuro.choices import Fit
from chiaroscuro.errors import ModelError, first_line
from chiaroscuro.images import Framing, frame, photo_from_image

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

_AGREE = 0.01
"""Mean difference that resampling may make, as a share of the range of values."""
_FITS: dict[str, Fit] = {"center": "crop", "squash": "stretch", "border": "pad"}


@dataclass(frozen=True)
class Preparation:
    """What a `Classifier` has besides its module."""

    name: str
    mean: Sequence[float] | None
    std: Sequence[float] | None
    framing: Framing
    labels: Sequence[str] | None
    origin: Mapping[str, Any]
    channels: int = 3
    multi_label: bool = False


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what is missing in a library's description into a `ModelError`."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ModelError(f"{what}: {first_line(error)}") from error


def torchvision_preparation(weights: "WeightsEnum", name: str = "") -> Preparation:
    """What a member of one of torchvision's enumerations of weights says."""
    model = weights.meta.get("architecture") or type(weights).__name__.removesuffix("_Weights")
    preset = weights.transforms()
    resize, crop = preset.resize_size[0], preset.crop_size[0]
    return Preparation(
        name=name or model.lower(),
        mean=preset.mean,
        std=preset.std,
        framing=Framing((crop, crop), (resize, resize), "crop", preset.interpolation.value),
        labels=weights.meta["categories"],
        origin={
            "architecture": f"torchvision:{model.lower()}",
            "weights": str(weights),
            "license": "see the torchvision page of these weights",
        },
    )


def timm_preparation(module: nn.Module, name: str = "") -> Preparation:
    """What a timm module's own configuration says."""
    from timm.data import resolve_model_data_config

    data = resolve_model_data_config(module)
    config = cast(dict[str, Any], module.pretrained_cfg)
    architecture = config.get("architecture", "")
    return Preparation(
        name=name or architecture or type(module).__name__,
        mean=data["mean"],
        std=data["std"],
        framing=_timm_framing(data),
        labels=_timm_labels(config, int(cast(Any, module).num_classes)),
        channels=data["input_size"][0],
        origin={
            "architecture": f"timm:{architecture}",
            "weights": str(config.get("hf_hub_id") or config.get("url") or name or "not stated"),
            "license": str(config.get("license") or "not stated"),
        },
    )


def _timm_framing(data: dict[str, Any]) -> Framing:
    _, height, width = data["input_size"]
    scale = data["crop_pct"]
    fit = _FITS.get(data["crop_mode"], "crop")
    canvas = None if fit == "pad" else (math.floor(height / scale), math.floor(width / scale))
    return Framing((height, width), canvas, fit, data["interpolation"])


def _timm_labels(config: dict[str, Any], classes: int) -> Sequence[str] | None:
    names = config.get("label_names")
    if names and len(names) == classes:
        return list(names)
    subset = {1000: "imagenet-1k", 21841: "imagenet-21k"}.get(classes)
    return None if subset is None else imagenet_labels(subset)


def imagenet_labels(subset: str = "imagenet-1k") -> Sequence[str]:
    """The ImageNet class names, synonyms separated by commas; a few name two classes."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo(subset)
    return [info.index_to_description(index) for index in range(info.num_classes())]


def huggingface_preparation(module: nn.Module, processor: Any, name: str = "") -> Preparation:
    """What a transformers module's configuration and its image processor say.

    Raises `ModelError` for a processor that does what size, mean and std do not express.
    """
    config = cast(Any, module).config
    mean, std = _normalization(processor)
    preparation = Preparation(
        name=name or str(getattr(config, "name_or_path", "")) or type(module).__name__,
        mean=mean,
        std=std,
        framing=_processor_framing(processor),
        labels=[str(config.id2label[index]) for index in range(config.num_labels)],
        multi_label=config.problem_type == "multi_label_classification",
        channels=getattr(config, "num_channels", 3),
        origin={
            "architecture": f"transformers:{type(module).__name__}",
            "weights": name or str(getattr(config, "name_or_path", "")) or "not stated",
            "license": "see the model's card",
        },
    )
    _check_processor(preparation, processor)
    return preparation


def _normalization(processor: Any) -> tuple[list[float] | None, list[float] | None]:
    """Mean and std for pixels in [0, 1], with the processor's own rescaling worked in.

    The processor computes (255 p f - o - mean) / std with factor f and offset o (0 or 1);
    EfficientNet's `include_top` divides by std once more.
    """
    factor = 255 * processor.rescale_factor if processor.do_rescale else 255.0
    offset = 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    if not processor.do_normalize and factor == 1 and offset == 0:
        return None, None
    mean = processor.image_mean if processor.do_normalize else [0.0] * 3
    std = processor.image_std if processor.do_normalize else [1.0] * 3
    power = 2 if getattr(processor, "include_top", False) else 1
    return [(m + offset) / factor for m in mean], [s**power / factor for s in std]


def _processor_framing(processor: Any) -> Framing:
    resample = Image.Resampling.BILINEAR if processor.resample is None else processor.resample
    interpolation = Image.Resampling(int(resample)).name.lower()
    cuts = getattr(processor, "do_center_crop", False)
    crop = _sides(processor.crop_size) if cuts else None
    if not processor.do_resize:
        return Framing(crop, None, "crop", interpolation)
    size = dict(processor.size)
    if "shortest_edge" not in size:
        return Framing(crop or _sides(size), _sides(size), "stretch", interpolation)
    edge = size["shortest_edge"]
    share = getattr(processor, "crop_pct", None)
    if share and edge < 384:  # ConvNeXt's rule: below 384 px scale up, then cut
        return Framing((edge, edge), (int(edge / share),) * 2, "crop", interpolation)
    if share:
        return Framing((edge, edge), None, "stretch", interpolation)
    return Framing(crop or (edge, edge), (edge, edge), "crop", interpolation)


def _sides(size: Any) -> tuple[int, int]:
    return size["height"], size["width"]


def _check_processor(preparation: Preparation, processor: Any) -> None:
    """Some processors turn colors round or enlarge by a fixed factor: compare a smooth picture."""
    height, width = preparation.framing.size or (96, 128)
    down, across = np.linspace(0, 1, 2 * height)[:, None], np.linspace(0, 1, 2 * width)[None]
    smooth = np.stack(np.broadcast_arrays(down, across, 0.5 * down * across), axis=-1)
    picture = Image.fromarray((255 * smooth).astype(np.uint8))
    if preparation.channels == 1:
        picture = picture.convert("L")
    theirs = processor(images=picture, return_tensors="np")["pixel_values"][0]
    pixels, _ = frame(photo_from_image(picture), preparation.framing, preparation.channels)
    mean, std = (
        np.reshape(default if values is None else values, (-1, 1, 1))
        for values, default in ((preparation.mean, 0.0), (preparation.std, 1.0))
    )
    ours = (pixels - mean) / std
    if ours.shape != theirs.shape or np.abs(ours - theirs).mean() > _AGREE * np.ptp(ours):
        raise ModelError(
            f"{preparation.name}: its image processor ({type(processor).__name__}) does more than "
            "resize, cut and normalize; wrap it with FILE.py:FACTORY and a Classifier of your own"
        )
