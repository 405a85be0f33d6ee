"""Invariants that every registered map and method must keep, today's and tomorrow's."""

import copy
import dataclasses

import pytest
import torch

from chiaroscuro import Classifier, choices, class_gradients, saliency_maps
from chiaroscuro.gradients import CAPTUM, METHODS, Method
from chiaroscuro.maps import MAPS
from tests.toys import random_pixels, small_cnn

everything = pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in MAPS for method in choices.METHODS]
)


def made(name, pixels):
    """The method with few points, and a background where it needs one."""
    row = choices.METHODS[name]
    background = random_pixels(3, *pixels.shape[1:], seed=9) if row.background else None
    return Method(name, points=row.points and 4, background=background)


def devices():
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def gradients(pixels, method, **arguments):
    net = small_cnn().to(dtype=pixels.dtype, device=pixels.device)
    classifier = Classifier(net, mean=0.5, std=0.25)
    return class_gradients(
        classifier, pixels, method=made(method, pixels), argmax=True, **arguments
    )


def test_tables_list_the_same_names():
    assert MAPS.keys() == choices.MAPS.keys()
    assert (*METHODS, *CAPTUM) == tuple(choices.METHODS)
    assert all(row.captum == (name in CAPTUM) for name, row in choices.METHODS.items())
    assert all(name == row.name for name, row in choices.METHODS.items())
    assert all(name == row.name for name, row in choices.MAPS.items())


@everything
@pytest.mark.parametrize("normalize", choices.NORMALIZATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", devices())
def test_shape_dtype_device(name, method, normalize, dtype, device):
    if device == "mps" and dtype == torch.float64:
        dtype = torch.float16
    pixels = random_pixels(2, 3, 12, 10, dtype=dtype).to(device)
    found = gradients(pixels, method)
    for reduce, shape in (("max", (2, 12, 10)), ("none", (2, 3, 12, 10))):
        maps = saliency_maps(found, [name], normalize=normalize, reduce=reduce)
        expected = torch.int64 if choices.MAPS[name].kind == "class" else dtype
        assert maps[name].shape == shape
        assert maps[name].dtype == expected
        assert maps[name].device.type == device
        assert maps[name].is_contiguous()
        assert maps.support[name].pixels.shape == (2,)
        assert (maps.support[name].entries <= maps.support[name].pixels).all()


@everything
def test_finite_and_of_its_kind(name, method):
    maps = saliency_maps(gradients(random_pixels(2, 3, 12, 12), method), [name])
    values, kind = maps[name], choices.MAPS[name].kind
    assert values.isfinite().all()
    if kind == "magnitude":
        assert values.min() >= 0
        assert values.max() > 0
    if kind == "signed":
        assert values.min() < 0 < values.max()
    if kind == "class":
        assert set(values.unique().tolist()) <= {-1, 0, 1, 2, 3, 4}


@everything
def test_deterministic(name, method):
    pixels = random_pixels(2, 3, 12, 12)
    one, other = (saliency_maps(gradients(pixels, method), [name])[name] for _ in range(2))
    assert torch.equal(one, other)


@everything
def test_batch_independent(name, method):
    pixels = random_pixels(4, 3, 12, 12)
    together = saliency_maps(gradients(pixels, method), [name])
    for b in (0, 3):
        alone = saliency_maps(gradients(pixels[b : b + 1], method), [name])
        torch.testing.assert_close(alone[name][0], together[name][b], rtol=1e-9, atol=1e-12)
        assert alone.support[name].pixels[0] == together.support[name].pixels[b]


@everything
def test_permuting_images_permutes_maps(name, method):
    pixels = random_pixels(3, 3, 12, 12)
    order = [2, 0, 1]
    straight = saliency_maps(gradients(pixels, method), [name])[name]
    turned = saliency_maps(gradients(pixels[order], method), [name])[name]
    torch.testing.assert_close(turned, straight[order], rtol=1e-9, atol=1e-12)


@everything
def test_nothing_is_mutated(name, method):
    pixels = random_pixels(2, 3, 12, 12)
    kept = pixels.clone()
    found = gradients(pixels, method)
    before = copy.deepcopy({f.name: getattr(found, f.name) for f in dataclasses.fields(found)})
    for normalize in choices.NORMALIZATIONS:
        for reduce in choices.REDUCTIONS:
            saliency_maps(found, [name], normalize=normalize, reduce=reduce)
    assert torch.equal(pixels, kept)
    for key, value in before.items():
        now = getattr(found, key)
        assert torch.equal(now, value) if isinstance(value, torch.Tensor) else now == value


@everything
def test_module_left_as_found(name, method):
    net = small_cnn().double().train()
    state = copy.deepcopy(net.state_dict())
    pixels = random_pixels(2, 3, 12, 12)
    class_gradients(Classifier(net), pixels, method=made(method, pixels))
    assert all(part.training for part in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


def test_results_are_frozen():
    found = gradients(random_pixels(1, 3, 12, 12), "gradient")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.target_gradient = None
    assert str(found.choices.rivals) == "all"
    assert found.choices.method == "gradient"
    assert found.choices.score == "logit"
