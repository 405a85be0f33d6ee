"""timm's models from folders that timm wrote, held against its own network."""

import pytest
import timm
import torch
from timm.data import create_transform, resolve_model_data_config

from chiaroscuro import ChoiceError, ModelError, hub, load_classifier
from tests.models.libraries import Evil, asked, floats, framed, noise, normalized, one_line


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
    assert torch.equal(classifier(x), asked(module, normalized(x, data["mean"], data["std"])))
    assert classifier.size == data["input_size"][1:]
    assert classifier.labels is None
    assert classifier.origin["architecture"] == f"timm:{name}"
    assert classifier.origin["license"] == "apache-2.0"


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
    mine = normalized(framed(classifier, image), data["mean"], data["std"])
    own = create_transform(**data, is_training=False)(image)[None]
    torch.testing.assert_close(mine, own, rtol=0, atol=1e-6)


@pytest.mark.parametrize("height_width", [(201, 300), (260, 190)])
def test_a_timm_network_for_oblong_pictures_sees_what_timms_transform_shows(tmp_path, height_width):
    """Of a canvas that is not square timm rounds the scaled sides, where torchvision cuts them."""
    config = {"crop_mode": "center", "crop_pct": 0.95, "input_size": (3, 128, 160)}
    test_a_timm_network_sees_what_timms_transform_shows(tmp_path, config, height_width)


def test_an_unknown_timm_name_lists_near_ones():
    message = (
        r"^unknown timm model 'resnet1888': did you mean resnet18 or .*\? "
        rf"timm [\d.]+ has {len(timm.list_models())} models, timm\.list_models\(\) lists them$"
    )
    with pytest.raises(ChoiceError, match=message) as caught:
        load_classifier("timm:resnet1888")
    assert len(one_line(caught)) < 200, "a thousand names would hide the near ones"


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
