"""torchvision's models from files that torchvision wrote, held against its own network."""

import pytest
import torch
from torchvision import models as zoo

from chiaroscuro import ChoiceError, ModelError, load_classifier
from tests.models.libraries import Evil, asked, floats, framed, noise, normalized, one_line, place


def test_a_torchvision_model_answers_as_torchvisions_own(checkpoints):
    module = zoo.squeezenet1_1()
    weights, _ = place(checkpoints, "squeezenet1_1", module.state_dict())
    classifier = load_classifier("torchvision:squeezenet1_1")
    x = floats(2, 3, 96, 96)
    preset = weights.transforms()
    assert torch.equal(classifier(x), asked(module, normalized(x, preset.mean, preset.std)))
    assert classifier.labels == tuple(weights.meta["categories"])
    assert classifier.name == "torchvision:squeezenet1_1"
    assert classifier.origin["architecture"] == "torchvision:squeezenet1_1"
    assert classifier.origin["weights"] == "SqueezeNet1_1_Weights.IMAGENET1K_V1"


@pytest.mark.parametrize("height_width", [(300, 411), (260, 230), (500, 280)])
def test_a_torchvision_model_sees_what_its_transforms_show(checkpoints, height_width):
    weights, _ = place(checkpoints, "squeezenet1_1", zoo.squeezenet1_1().state_dict())
    classifier = load_classifier("torchvision:squeezenet1_1")
    image, preset = noise(*height_width), weights.transforms()
    mine = normalized(framed(classifier, image), preset.mean, preset.std)
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
    assert torch.equal(classifier(x), asked(module, normalized(x, preset.mean, preset.std)))


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
