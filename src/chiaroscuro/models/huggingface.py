"""Image classifiers of Hugging Face transformers."""

from typing import Any, cast

from PIL import Image
from torch import nn

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, missing_extra
from chiaroscuro.images import Framing
from chiaroscuro.models.checkpoints import first_line, no_weights, refusing_code
from chiaroscuro.models.hub import hub_if_reachable


def load(name: str) -> Classifier:
    """`hf:NAME` on the hub, or `hf:FOLDER` that `save_pretrained` wrote. No remote code is run."""
    spec = f"hf:{name}"
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError:
        raise missing_extra(spec, "transformers", "hf") from None
    with refusing_code(spec), hub_if_reachable():
        try:
            module = AutoModelForImageClassification.from_pretrained(name)
            processor = AutoImageProcessor.from_pretrained(name)
        except OSError as error:
            raise no_weights(spec, error) from error
        except ValueError as error:
            raise ModelError(f"{spec}: not an image classifier ({first_line(error)})") from error
    return build(module, processor, spec)


def build(module: nn.Module, processor: Any, spec: str) -> Classifier:
    """A transformers module with the size, normalisation and names of its processor and config."""
    config = cast(Any, module).config
    mean, std = _normalisation(processor)
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
            "licence": "see the model's card",
        },
    )


def _normalisation(processor: Any) -> tuple[list[float] | None, list[float] | None]:
    """Mean and std for pixels in [0, 1], with the processor's own rescaling worked in.

    The processor computes (255 p f - o - mean) / std with factor f and offset o (0 or 1).
    """
    factor = 255 * processor.rescale_factor if processor.do_rescale else 255.0
    offset = 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    if not processor.do_normalize and factor == 1 and offset == 0:
        return None, None
    mean = processor.image_mean if processor.do_normalize else [0.0] * 3
    std = processor.image_std if processor.do_normalize else [1.0] * 3
    return [(m + offset) / factor for m in mean], [s / factor for s in std]


def _framing(processor: Any) -> Framing:
    interpolation = Image.Resampling(processor.resample or 2).name.lower()
    if not processor.do_resize:
        return Framing(interpolation=interpolation)
    size = dict(processor.size)
    crop = dict(processor.crop_size) if getattr(processor, "do_center_crop", False) else None
    if "shortest_edge" not in size:
        sides = (size["height"], size["width"])
        if crop:
            return Framing((crop["height"], crop["width"]), sides, "crop", interpolation)
        return Framing(sides, None, "stretch", interpolation)
    edge = size["shortest_edge"]
    share = getattr(processor, "crop_pct", None)
    if share and edge < 384:  # ConvNeXt's rule: below 384 px scale up, then cut
        return Framing((edge, edge), (int(edge / share),) * 2, "crop", interpolation)
    if share:
        return Framing((edge, edge), None, "stretch", interpolation)
    if crop:
        return Framing((crop["height"], crop["width"]), (edge, edge), "crop", interpolation)
    return Framing((edge, edge), None, "crop", interpolation)
