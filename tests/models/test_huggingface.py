"""Transformers' models from folders that it wrote, held against its own network."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest
import timm
import torch
import transformers
from packaging.version import Version
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

from chiaroscuro import MissingExtraError, ModelError, load_classifier
from tests.models.libraries import Evil, asked, floats, framed, noise, one_line

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


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
    """The photo has the asked size already and no resizing is done: only normalization matters."""
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


def test_a_network_for_gray_pictures_has_one_channel(tmp_path):
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
    "no normalization": ViTImageProcessor(size=SMALL, do_normalize=False),
    "other factor": ViTImageProcessor(size=SMALL, do_normalize=False, rescale_factor=1 / 127.5),
    "no rescaling": ViTImageProcessor(
        size=SMALL, do_rescale=False, image_mean=[120.0] * 3, image_std=[60.0] * 3
    ),
}
"""Processors of transformers whose sizes and normalization a classifier follows."""


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("height_width", [(48, 36), (40, 64), (16, 16)])
def test_a_network_sees_what_its_processor_shows(tmp_path, name, height_width):
    """Up to one 8-bit step: torchvision's resizing of tensors rounds a few pixels the other way.

    Torchvision 0.21 rounds more of them.

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
    assert (
        difference.mean()
        <= (0.15 if Version(version("torchvision")) < Version("0.22") else 0.05) * step
    )


@pytest.mark.parametrize("processor", [MobileViTImageProcessor, LevitImageProcessor])
def test_a_processor_that_works_otherwise_is_refused(tmp_path, processor):
    """MobileViT flips the channels, LeViT enlarges by 256 / 224: never silently something else."""
    made = processor(size={"shortest_edge": 16}, crop_size=SMALL)
    save_hf(tmp_path, tiny_vit(), made)
    with pytest.raises(ModelError, match="does more than resize, cut and normalize") as caught:
        load_classifier(f"hf:{tmp_path}")
    one_line(caught)


def test_a_processor_that_cuts_without_resizing_is_refused(tmp_path):
    """A framing always brings photos to a size; cutting alone it does not express."""
    save_hf(tmp_path, tiny_vit(), DeiTImageProcessor(do_resize=False, crop_size=SMALL))
    with pytest.raises(ModelError, match="does more than resize, cut and normalize") as caught:
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


def test_a_quiet_command_hides_the_bars_of_transformers_too(tmp_path):
    """Asked of a fresh process: transformers reads the switch when it is imported."""
    save_hf(tmp_path / "saved", tiny_resnet(), MODULES["resnet"][1])
    noise(20, 24).save(tmp_path / "photo.png")
    words = ["explain", "photo.png", "--model", "hf:saved", "--map", "active", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", "from chiaroscuro.cli import main; main()", *words],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "chiaroscuro-out" / "photo" / "index.html").is_file()
