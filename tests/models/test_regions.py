"""Segmentation networks and detectors of torchvision and transformers, held against their own."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import nn
from torchvision.models import detection, segmentation
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.ops import MultiScaleRoIAlign, box_iou
from transformers import (
    ConditionalDetrConfig,
    ConditionalDetrForObjectDetection,
    ConditionalDetrImageProcessor,
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    ResNetConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    YolosConfig,
    YolosForObjectDetection,
)

from chiaroscuro import (
    ChoiceError,
    Classifier,
    Region,
    class_gradients,
    explain,
    load_classifier,
    what_if,
)
from chiaroscuro.explanations import replay
from tests.models.libraries import asked, floats, framed, noise, normalized, place
from tests.toys import all_class_gradients, random_pixels

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
NAMES = {"id2label": {0: "ant", 1: "bee", 2: "cat"}, "label2id": {"ant": 0, "bee": 1, "cat": 2}}
BACKBONE = {"weights": None, "weights_backbone": None, "num_classes": 4}
VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def lively(module):
    """Random weights large enough that answers differ from pixel to pixel; in float64."""
    torch.manual_seed(4)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.ndim > 1:
                torch.nn.init.orthogonal_(value)
            elif "bias" in name:
                value.copy_(0.1 * torch.randn_like(value))
    return module.double()


def segformer():
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 12],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
        decoder_hidden_size=8, **NAMES,
    )  # fmt: skip
    return SegformerForSemanticSegmentation(config)


def resnet_config():
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1]}
    return ResNetConfig(**sizes, layer_type="basic", out_features=["stage2"])


def detr(config=DetrConfig, make=DetrForObjectDetection):
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    return make(
        config(
            backbone_config=resnet_config(), d_model=16, num_queries=6, **heads, **sizes, **NAMES
        )
    )


def yolos():
    sizes = {"image_size": [48, 64], "patch_size": 16, "num_detection_tokens": 5}
    return YolosForObjectDetection(YolosConfig(**VIT, **sizes, **NAMES))


class Levels(nn.Module):
    """A backbone of so many levels, as torchvision's feature pyramids give them."""

    out_channels = 32

    def __init__(self, count):
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 32, 3, 4, 1), nn.SiLU())
        self.stages = nn.ModuleList(
            [first, *(nn.Conv2d(32, 32, 3, 2, 1) for _ in range(count - 1))]
        )

    def forward(self, x):
        levels = OrderedDict()
        for number, stage in enumerate(self.stages):
            x = levels[str(number)] = stage(x)
        return levels


def anchors(count, ratios=(0.5, 1.0)):
    return AnchorGenerator(tuple((16 * 2**n,) for n in range(count)), (ratios,) * count)


def rcnn():
    pool = MultiScaleRoIAlign(["0", "1"], 3, 2, canonical_scale=24)
    sizes = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 12}
    return detection.FasterRCNN(
        Levels(2), 4, rpn_anchor_generator=anchors(2), box_roi_pool=pool, **sizes
    )


def ssd():
    levels = Levels(2)
    levels.out_channels = [32, 32]
    return detection.ssd.SSD(levels, DefaultBoxGenerator([[2], [2]]), (48, 64), 4)


DENSE = {
    "lraspp": lambda: segmentation.lraspp_mobilenet_v3_large(**BACKBONE),
    "segformer": segformer,
}
DETECTORS = {
    "detr": detr,
    "conditional": lambda: detr(ConditionalDetrConfig, ConditionalDetrForObjectDetection),
    "yolos": yolos,
    "rcnn": rcnn,
    "retina": lambda: detection.RetinaNet(
        Levels(2), 4, anchor_generator=anchors(2), min_size=64, max_size=96
    ),
    "fcos": lambda: detection.FCOS(
        Levels(2), 4, anchor_generator=anchors(2, (1.0,)), min_size=64, max_size=96
    ),
    "ssd": ssd,
}


@pytest.mark.parametrize("name", DENSE)
def test_class_gradients_in_a_region_are_autograds(name):
    module, pixels = lively(DENSE[name]()), random_pixels(2, 3, 64, 96)
    classifier = Classifier(module, mean=0.4, std=0.3)
    part = classifier.in_region(Region.box(10, 20, 50, 60), pixels[0])
    output = asked(module, (pixels - 0.4) / 0.3)
    scores = output if isinstance(output, torch.Tensor) else output["out"]
    down, across = 64 // scores.shape[2], 96 // scores.shape[3]
    fine = scores.repeat_interleave(down, 2).repeat_interleave(across, 3)
    wanted = fine[:, :, 20:60, 10:50].mean((2, 3))
    torch.testing.assert_close(part(pixels), wanted, rtol=1e-9, atol=1e-12)
    _check_gradients(part, pixels)


def _check_gradients(part, pixels):
    gradients = class_gradients(part, pixels, target=1)
    every = all_class_gradients(part, pixels)
    size = float(every.abs().max())
    assert size > 0
    tight = {"rtol": 1e-8, "atol": 1e-10 * size}
    torch.testing.assert_close(gradients.target_gradient, every[:, 1], **tight)
    others = every[:, [k for k in range(every.shape[1]) if k != 1]]
    torch.testing.assert_close(gradients.rival_max, others.amax(1), **tight)
    torch.testing.assert_close(gradients.rival_min, others.amin(1), **tight)


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request):
    module = lively(DETECTORS[request.param]())
    labels = ["__background__", "ant", "bee", "cat"]
    if request.param == "fcos":  # boxes around its points, none without a side
        torch.nn.init.constant_(module.head.regression_head.bbox_reg.bias, 1.0)
    if request.param in ("detr", "yolos"):
        labels = ["ant", "bee", "cat", "no object"]
    elif request.param == "conditional":
        labels = ["ant", "bee", "cat"]
    sigmoid = request.param in ("conditional", "retina", "fcos")
    norm = {} if hasattr(module, "transform") else {"mean": 0.4, "std": 0.3}
    return Classifier(module, labels=labels, multi_label=sigmoid, **norm)


def test_a_box_has_the_detectors_own_scores(detector):
    """Every row of the detector's scores for the photo: exactly the chosen box's is among them."""
    pixels = random_pixels(3, 48, 64)
    boxes = detector.detections(pixels)
    assert boxes
    assert [b.score for b in boxes] == sorted((b.score for b in boxes), reverse=True)
    rows = []
    keep = lambda module, given, output: rows.append(_rows(output))  # noqa: E731
    module = detector.module
    inner = getattr(module, "head", None) or getattr(module, "roi_heads", module)
    inner = getattr(inner, "box_predictor", inner)
    handle = inner.register_forward_hook(keep)
    module.eval()
    with torch.no_grad():
        module(detector.module_input(pixels[None]))
    handle.remove()
    module.train()
    for number, box in enumerate(boxes[:3]):
        part = detector.in_region(Region.detected(number), pixels)
        logits = part(pixels[None])[0].detach()
        assert float((rows[0] - logits).abs().amax(1).min()) < 1e-7
        chance = detector.probabilities(logits)
        assert abs(float(chance[box.index]) - box.score) < 1e-7
        assert box.label not in ("__background__", "no object")
        assert part.region.asked == f"box {number}: {box}"
        again = detector.in_region(Region.box(*box.box), pixels)  # the box itself names it too
        torch.testing.assert_close(again(pixels[None])[0], logits)


def _rows(output):
    """Scores (N, K) in what a head, or a whole detector of transformers, returns."""
    if isinstance(output, dict):
        return output.get("cls_logits", output.get("logits"))[0]
    return output[0] if isinstance(output, tuple) else output.logits[0]


def test_class_gradients_of_a_box_are_autograds(detector):
    pixels = random_pixels(2, 3, 48, 64)
    _check_gradients(detector.in_region(Region.detected(0), pixels[0]), pixels)


def test_the_box_is_found_again_in_changed_pixels(detector):
    pixels = random_pixels(3, 48, 64)
    part = detector.in_region(Region.detected(0), pixels)
    changed = pixels.clone()
    changed[:, :, :6] = 0
    rows = torch.stack([pixels, changed, 1 - pixels])
    logits = part(rows)
    torch.testing.assert_close(logits[:1], part(rows[:1]))
    found = detector.at(part.region)(changed[None])
    torch.testing.assert_close(logits[1:2], found)
    part_of = Region.detected(0)
    result = what_if(detector, pixels, "positive", 0.2, "black", region=part_of)
    assert result.target.index == int(logits[0].argmax())
    assert np.isfinite(result.actual_change).all()


def test_boxes_are_listed_where_none_or_a_wrong_one_is_chosen(detector):
    pixels = random_pixels(3, 48, 64)
    count, first = len(detector.detections(pixels)), detector.detections(pixels)[0]
    for options in ({}, {"box": count}):
        with pytest.raises(ChoiceError) as caught:
            explain(detector, pixels, **options)
        message = str(caught.value)
        assert message.startswith(f"choose a box of array by its number (--box N): 0: {first}")
        assert len(message.splitlines()) == 1


def test_torchvisions_detectors_list_what_they_return():
    module = lively(DETECTORS["rcnn"]()).eval()
    pixels = random_pixels(3, 48, 64)
    classifier = Classifier(module, labels=["__background__", "ant", "bee", "cat"])
    boxes = classifier.detections(pixels)
    with torch.no_grad():
        (theirs,) = module([pixels])
    best = theirs["scores"].argmax()
    assert boxes[0].index == int(theirs["labels"][best])
    assert boxes[0].score == pytest.approx(float(theirs["scores"][best]))
    clipped = torch.tensor([boxes[0].box], dtype=torch.float64).clamp(min=0)
    clipped[:, 2:] = torch.minimum(clipped[:, 2:], torch.tensor([[64.0, 48.0]]))
    assert float(box_iou(clipped, theirs["boxes"][best][None])) == pytest.approx(1)


def test_an_explanation_of_a_box_is_replayed(tmp_path):
    classifier = Classifier(lively(detr()), labels=["ant", "bee", "cat", "no object"])
    made = explain(classifier, noise(48, 64), box=0)
    folder = made.save(tmp_path / "one")
    now, differences = replay(folder, classifier)
    assert differences.same
    assert now.region.box == made.region.box
    assert now.region.asked == made.region.asked
    assert "in the outlined region (box 0: " in (folder / "index.html").read_text()


# Networks by name


def test_a_torchvision_segmentation_is_loaded(checkpoints):
    module = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    weights, _ = place(checkpoints, "lraspp_mobilenet_v3_large", module.state_dict())
    classifier = load_classifier("torchvision:lraspp_mobilenet_v3_large")
    preset, image = weights.transforms(), noise(260, 300)
    mine = normalized(framed(classifier, image), preset.mean, preset.std)
    torch.testing.assert_close(mine, preset(image)[None], rtol=0, atol=1e-6)
    x = floats(1, 3, 64, 64)
    part = classifier.in_region(Region.box(0, 0, 64, 64), x)
    wanted = asked(module, normalized(x, preset.mean, preset.std))["out"].mean((2, 3))
    torch.testing.assert_close(part(x), wanted, rtol=1e-4, atol=1e-5)
    assert classifier.labels[8] == "cat"


def test_a_torchvision_detector_is_loaded(checkpoints):
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    module = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=91
    )
    state = {k: v for k, v in module.state_dict().items() if "num_batches" not in k}
    place(checkpoints, name, state)
    classifier = load_classifier(f"torchvision:{name}")
    assert classifier.labels[0] == "__background__"
    assert classifier.mean is None and classifier.size is None
    boxes = classifier.detections(noise(96, 128))
    part = classifier.in_region(Region.box(10, 10, 60, 60), noise(96, 128))
    assert part(classifier.preprocess(noise(96, 128))).shape == (1, 91)
    assert all(box.label != "__background__" for box in boxes)


def test_transformers_segmentations_and_detectors_are_loaded(tmp_path):
    shortest = {"size": {"shortest_edge": 48, "longest_edge": 96}}
    segments = SegformerImageProcessor(size={"height": 32, "width": 32})
    for name, module, processor, labels in (
        ("segformer", segformer(), segments, ("ant", "bee", "cat")),
        ("detr", detr(), DetrImageProcessor(**shortest), ("ant", "bee", "cat", "no object")),
        (
            "conditional",
            detr(ConditionalDetrConfig, ConditionalDetrForObjectDetection),
            ConditionalDetrImageProcessor(**shortest),
            ("ant", "bee", "cat"),
        ),
    ):
        folder = tmp_path / name
        module.save_pretrained(folder)
        processor.save_pretrained(folder)
        classifier = load_classifier(f"hf:{folder}")
        assert type(classifier.module) is type(module)
        assert classifier.labels == labels
        assert classifier.multi_label == (name == "conditional")
        image = Image.new("RGB", (80, 60), "olive")
        theirs = processor(image, return_tensors="pt")["pixel_values"]
        assert framed(classifier, image).shape == theirs.shape
        region = "predicted" if name == "segformer" else Region.detected(0)
        made = explain(classifier, image, region=region)
        assert made.region.mask.shape == theirs.shape[2:]
        assert made.predictions[0].label == made.target.label
