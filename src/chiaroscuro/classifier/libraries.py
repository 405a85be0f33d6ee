"""What torchvision, timm and transformers say of a loaded module: size, normalization, names."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, TypeVar, cast

import numpy as np
from PIL import Image
from torch import nn

from chiaroscuro.catalog import TextClasses
from chiaroscuro.choices import Fit
from chiaroscuro.classifier.texts import text_classifier
from chiaroscuro.errors import ModelError, first_line
from chiaroscuro.images import Framing, frame, photo_from_image

C = TypeVar("C")
NO_OBJECT = "no object"
"""The class of a detector's boxes that hold nothing."""
_FITS: dict[str, Fit] = {"center": "crop", "squash": "stretch", "border": "pad"}
_sides = itemgetter("height", "width")


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn what is missing in a library's description into a `ModelError`."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ModelError(f"{what}: {first_line(error)}") from error


def _origin(architecture: str, weights: object, terms: object) -> dict[str, str]:
    weights, terms = (str(text or "not stated") for text in (weights, terms))
    return {"architecture": architecture, "weights": weights, "license": terms}


def from_torchvision(make: Callable[..., C], module: nn.Module, weights: Any, name: str) -> C:
    """A classifier by what a member of one of torchvision's enumerations of weights says."""
    with _reading(f"{weights} is no member of weights for classification, such as DEFAULT"):
        model = weights.meta.get("architecture") or type(weights).__name__.removesuffix("_Weights")
        preset = weights.transforms()
        detects = type(preset).__name__ == "ObjectDetection"  # such a network scales by itself
        framing = Framing() if detects else _preset_framing(preset)
        terms = "see the torchvision page of these weights"
        return make(
            module,
            name=name or model.lower(),
            mean=None if detects else preset.mean,
            std=None if detects else preset.std,
            framing=framing,
            labels=weights.meta["categories"],
            multi_label=type(module).__name__ in ("RetinaNet", "FCOS"),  # a sigmoid each
            origin=_origin(f"torchvision:{model.lower()}", weights, terms),
        )


def _preset_framing(preset: Any) -> Framing:
    """What a preset of torchvision cuts out; for segmentation nothing."""
    canvas = (preset.resize_size[0],) * 2 if preset.resize_size else None
    segments = type(preset).__name__ == "SemanticSegmentation"
    size = None if segments else (preset.crop_size[0],) * 2
    return Framing(size, canvas, "crop", preset.interpolation.value)


def from_timm(make: Callable[..., C], module: nn.Module, name: str) -> C:
    """A classifier by what a timm module's own configuration says."""
    from timm.data import resolve_model_data_config

    with _reading(f"{type(module).__name__} is no classifier of timm"):
        data = resolve_model_data_config(module)
        config = cast(dict[str, Any], module.pretrained_cfg)
        architecture = config.get("architecture", "")
        _, height, width = data["input_size"]
        scale, fit = data["crop_pct"], _FITS.get(data["crop_mode"], "crop")
        canvas = None if fit == "pad" else (math.floor(height / scale), math.floor(width / scale))
        weights = config.get("hf_hub_id") or config.get("url") or name
        return make(
            module,
            name=name or architecture or type(module).__name__,
            mean=data["mean"],
            std=data["std"],
            framing=Framing((height, width), canvas, fit, data["interpolation"]),
            labels=_timm_labels(config, int(cast(Any, module).num_classes)),
            channels=data["input_size"][0],
            origin=_origin(f"timm:{architecture}", weights, config.get("license")),
        )


def _timm_labels(config: Mapping[str, Any], classes: int) -> Sequence[str] | None:
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


def from_huggingface(make: Callable[..., C], module: nn.Module, processor: Any, name: str) -> C:
    """A classifier by what a transformers module's configuration and its image processor say."""
    kind, theirs = type(module).__name__, type(processor).__name__
    with _reading(f"{kind} with {theirs} is no classifier with an image processor"):
        config = cast(Any, module).config
        name = name or str(getattr(config, "name_or_path", ""))
        labels = [str(config.id2label[index]) for index in range(config.num_labels)]
        detects = kind.endswith("ForObjectDetection")
        head = getattr(module, "class_labels_classifier", nn.Identity())
        widths = [part.out_features for part in head.modules() if isinstance(part, nn.Linear)]
        exclusive = detects and widths[-1:] == [len(labels) + 1]  # a softmax with one class more
        return _with_processor(
            make,
            module,
            processor,
            name=name,
            labels=[*labels, NO_OBJECT] if exclusive else labels,
            multi_label=config.problem_type == "multi_label_classification"
            or (detects and not exclusive),
            channels=getattr(config, "num_channels", 3),
            origin=_origin(f"transformers:{kind}", name, "see the model's card"),
        )


def from_clip(
    make: Callable[..., C], model: nn.Module, processor: Any, texts: TextClasses, name: str
) -> C:
    """A classifier of the image tower of a CLIP of transformers; its classes are texts."""
    kind, theirs = type(model).__name__, type(processor).__name__
    with _reading(f"{kind} with {theirs} is no CLIP or SigLIP with its processor"):
        whole = cast(Any, model)
        name = name or str(getattr(whole.config, "name_or_path", ""))
        made_by = {"classes": list(texts.names), "templates": list(texts.templates)}
        return _with_processor(
            make,
            text_classifier(whole, processor.tokenizer, texts),
            processor.image_processor,
            name=name,
            labels=texts.names,
            multi_label=hasattr(whole, "logit_bias"),  # SigLIP's pairs are judged one by one
            channels=whole.config.vision_config.num_channels,
            origin=_origin(f"transformers:{kind}", name, "see the model's card") | made_by,
        )


def _with_processor(make: Callable[..., C], module: nn.Module, processor: Any, **about: Any) -> C:
    """A classifier with the size and normalization of an image processor of transformers."""
    mean, std = _normalization(processor)
    framing = _processor_framing(processor)
    classifier = make(module, mean=mean, std=std, framing=framing, **about)
    _check_processor(classifier, processor)
    return classifier


def _normalization(processor: Any) -> tuple[list[float] | None, list[float] | None]:
    """Mean and std for pixels p in [0, 1] of (255 p factor - offset - mean) / std."""
    factor = 255 * processor.rescale_factor if processor.do_rescale else 255.0
    offset = 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    if not processor.do_normalize and factor == 1 and offset == 0:
        return None, None
    mean = processor.image_mean if processor.do_normalize else [0.0] * 3
    std = processor.image_std if processor.do_normalize else [1.0] * 3
    power = 2 if getattr(processor, "include_top", False) else 1  # EfficientNet divides once more
    return [(m + offset) / factor for m in mean], [s**power / factor for s in std]


def _processor_framing(processor: Any) -> Framing:
    resample = Image.Resampling.BILINEAR if processor.resample is None else processor.resample
    interpolation = Image.Resampling(int(resample)).name.lower()
    crop = _sides(processor.crop_size) if getattr(processor, "do_center_crop", False) else None
    if not processor.do_resize:
        return Framing(crop, None, "crop", interpolation)
    size = dict(processor.size)
    if "longest_edge" in size and crop is None:  # the whole photo, if it is not very long
        return Framing(None, (size["shortest_edge"],) * 2, "crop", interpolation)
    if "shortest_edge" not in size:
        return Framing(crop or _sides(size), _sides(size), "stretch", interpolation)
    edge = size["shortest_edge"]
    share = getattr(processor, "crop_pct", None)
    if share and edge < 384:  # ConvNeXt's rule: below 384 px scale up, then cut
        return Framing((edge, edge), (int(edge / share),) * 2, "crop", interpolation)
    if share:
        return Framing((edge, edge), None, "stretch", interpolation)
    return Framing(crop or (edge, edge), (edge, edge), "crop", interpolation)


def _check_processor(classifier: Any, processor: Any) -> None:
    """Refuse a processor that makes of a smooth picture what differs by over 1 % of its range."""
    height, width = classifier.size or (96, 128)
    down, across = np.linspace(0, 1, 2 * height)[:, None], np.linspace(0, 1, 2 * width)[None]
    smooth = np.stack(np.broadcast_arrays(down, across, 0.5 * down * across), axis=-1)
    picture = Image.fromarray((255 * smooth).astype(np.uint8))
    if classifier.channels == 1:
        picture = picture.convert("L")
    theirs = processor(images=picture, return_tensors="np")["pixel_values"][0]
    pixels, _ = frame(photo_from_image(picture), classifier.framing, classifier.channels)
    mean = np.reshape(classifier.mean or 0.0, (-1, 1, 1))
    ours = (pixels - mean) / np.reshape(classifier.std or 1.0, (-1, 1, 1))
    if ours.shape != theirs.shape or np.abs(ours - theirs).mean() > 0.01 * np.ptp(ours):
        raise ModelError(
            f"{classifier.name}: its image processor ({type(processor).__name__}) does more than "
            "resize, cut and normalize; wrap it with FILE.py:FACTORY and a Classifier of your own"
        )
