"""Networks of torchvision and timm with random weights: equal to autograd, nothing unknown."""

import copy

import pytest
import timm
import torch
import torchvision

from tests.gradients.oracle import MANY, close, engine_gradients, plain_gradients
from tests.toys import random_pixels, sizes

VISION = {
    "resnet18": 32, "mobilenet_v3_small": 64, "efficientnet_b0": 32, "convnext_tiny": 32,
    "densenet121": 32, "googlenet": 32, "squeezenet1_1": 64, "shufflenet_v2_x0_5": 64,
    "regnet_y_400mf": 32, "swin_t": 32, "vgg11": 32, "alexnet": 64, "mobilenet_v2": 32,
}  # fmt: skip
TIMM = {
    "vit_tiny_patch16_224": 32, "coatnet_pico_rw_224": 64, "maxvit_pico_rw_256": 64,
    "tf_efficientnet_lite0": 48,
}  # fmt: skip
CLASSES = 3


def real(name, size):
    torch.manual_seed(1)
    if name in VISION:
        extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        return torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **extra)
    sized = {"img_size": size} if name.startswith(("vit", "coatnet", "maxvit")) else {}
    return timm.create_model(name, num_classes=CLASSES, **sized)


@pytest.mark.parametrize(("name", "size"), [*VISION.items(), *TIMM.items()])
def test_real_networks(name, size):
    net = real(name, size).double().eval().requires_grad_(False)
    pixels = random_pixels(2, 3, size, size)
    wanted = plain_gradients(net, pixels)
    for classes in (CLASSES, MANY):
        with sizes(lanes=1):
            made, unknown = engine_gradients(
                net, pixels, chunk=8 << 20, classes=classes, basis=1 << 30
            )
        close(made, wanted)
        assert unknown == set()


def test_the_packaged_network_equals_autograd(lite0):
    net = copy.deepcopy(lite0.module).to(torch.float64).eval().requires_grad_(False)
    net = torch.nn.Sequential(net, torch.nn.Linear(1000, 4, dtype=torch.float64))
    pixels = random_pixels(1, 3, 64, 64)
    made, unknown = engine_gradients(net, pixels)
    close(made, plain_gradients(net, pixels))
    assert unknown == set()
