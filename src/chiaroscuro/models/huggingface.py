"""Image classifiers of Hugging Face transformers."""

from typing import Any, cast

import numpy as np
from PIL import Image
from torch import nn

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, missing_extra
from chiaroscuro.hub import hub_if_reachable
from chiaroscuro.images import Framing, frame
from chiaroscuro.images.photos import photo_from_image
from chiaroscuro.models.checkpoints import loading

_AGREE = 0.01
"""Mean difference that resampling may make, as a share of the range of values."""


def load(name: str) -> Classifier:
    """`hf:NAME` on the hub, or `hf:FOLDER` that `save_pretrained` wrote. No remote code is run."""
    spec = f"hf:{name}"
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError:
        raise missing_extra(spec, "transformers", "hf") from None
    with loading(spec), hub_if_reachable():
        module, report = AutoModelForImageClassification.from_pretrained(
            name, output_loading_info=True
        )
        processor = AutoImageProcessor.from_pretrained(name)
    if report["missing_keys"]:
        raise ModelError(
            f"{spec}: its weights lack {min(report['missing_keys'])}: not a trained classifier"
        )
    if not hasattr(processor, "do_rescale"):
        raise ModelError(f"{spec}: a model of another library; for timm's use timm:NAME")
    classifier = build(module, processor, spec)
    _check_processor(classifier, processor)
    return classifier


def build(module: nn.Module, processor: Any, spec: str) -> Classifier:
    """A transformers module with the size, normalization and names of its processor and config."""
    config = cast(Any, module).config
    mean, std = _normalization(processor)
    return Classifier(
        module,
        mean=mean,
        std=std,
        framing=_framing(processor),
        labels=[str(config.id2label[index]) for index in range(config.num_labels)],
        multi_label=config.problem_type == "multi_label_classification",
        channels=getattr(config, "num_channels", 3),
        name=spec,
        origin={
            "architecture": f"transformers:{type(module).__name__}",
            "weights": spec,
            "license": "see the model's card",
        },
    )


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


def _framing(processor: Any) -> Framing:
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


def _check_processor(classifier: Classifier, processor: Any) -> None:
    """Raise `ModelError` when the processor does what size, mean and std do not express.

    Some turn colors round or enlarge by a fixed factor. A smooth picture goes both ways.
    """
    height, width = classifier.size or (96, 128)
    down, across = np.linspace(0, 1, 2 * height)[:, None], np.linspace(0, 1, 2 * width)[None]
    smooth = np.stack(np.broadcast_arrays(down, across, 0.5 * down * across), axis=-1)
    picture = Image.fromarray((255 * smooth).astype(np.uint8))
    if classifier.channels == 1:
        picture = picture.convert("L")
    theirs = processor(images=picture, return_tensors="np")["pixel_values"][0]
    pixels, _ = frame(photo_from_image(picture), classifier.framing, classifier.channels)
    mean, std = (
        np.reshape(default if values is None else values, (-1, 1, 1))
        for values, default in ((classifier.mean, 0.0), (classifier.std, 1.0))
    )
    ours = (pixels - mean) / std
    if ours.shape != theirs.shape or np.abs(ours - theirs).mean() > _AGREE * np.ptp(ours):
        raise ModelError(
            f"{classifier.name}: its image processor ({type(processor).__name__}) does more than "
            "resize, cut and normalize; wrap it with FILE.py:FACTORY and a Classifier of your own"
        )
