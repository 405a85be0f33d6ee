"""A dozen architectures with operations of their own, as `python -m benchmarks.zoo` checks them."""

import warnings

import pytest
import timm
import torch
from torch import nn

from benchmarks import networks, zoo
from tests.toys import random_pixels

DOZEN = [
    "torchvision:mnasnet0_5",
    "timm:levit_128s",
    "timm:xcit_nano_12_p16_224",
    "timm:coat_lite_tiny",
    "timm:ghostnet_050",
    "timm:mambaout_femto",
    "timm:iformer_t",
    "timm:volo_d1_224",
    "timm:gmlp_ti16_224",
    "transformers:SwiftFormerForImageClassification",
    "transformers:ViTForImageClassification",
    "transformers:Siglip2ForImageClassification",
]
CLASSES = 4


@pytest.mark.parametrize("name", DOZEN)
def test_an_architecture_equals_autograd(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries' own
        row = zoo.check(name, CLASSES)
    assert row.gap < 1e-9
    assert row.notes == ()
    assert row.parameters > 0


def test_a_wrong_gradient_shows(monkeypatch):
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).double()
    pixels, change = random_pixels(2, 3, 4, 4), random_pixels(2, 3, 4, 4, seed=1)
    gap, notes = zoo.compared(module, pixels, change)
    assert gap < 1e-12
    assert notes == ()
    for name in ("target_gradients", "logit_change"):
        right = getattr(zoo, name)
        with monkeypatch.context() as patch:
            patch.setattr(zoo, name, lambda *a, right=right: right(*a) * 1.001)
            assert zoo.compared(module, pixels, change)[0] == pytest.approx(1e-3, rel=0.1)
    with pytest.raises(ValueError, match="all gradients are zero"):
        zoo.compared(nn.Sequential(module, nn.Hardtanh(5, 6)), pixels, change)


def test_operations_without_a_rule_are_counted():
    class Summing(nn.Module):
        def forward(self, x):
            return x.flatten(1).cumsum(dim=1).relu().cumsum(dim=1)

    assert zoo.operations_by_class(Summing(), random_pixels(2, 3, 2, 2)) == {"CumsumBackward0": 2}


def test_every_family_of_timm_has_a_network():
    families = {
        timm.models.model_entrypoint(name).__module__.rpartition(".")[2] for name in networks.TIMM
    }
    assert set(timm.list_modules()) == families


def test_branches_that_start_at_zero_take_part():
    module = networks.randomized(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), 8)
    assert module[1].weight.std() > 0
    values = module[0](torch.rand(64, 3, 8, 8))
    torch.testing.assert_close(module[1].running_var, values.var(dim=(0, 2, 3)), rtol=0.3, atol=0)
    assert not module[1].training
