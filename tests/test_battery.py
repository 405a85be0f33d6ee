"""Invariants of every registered map, method, edit map and fill, present and future."""

import copy
import dataclasses

import pytest
import torch

from chiaroscuro import Classifier, choices, class_gradients, edit_map, saliency_maps
from chiaroscuro.edits import FILLS, filled
from chiaroscuro.gradients import CAPTUM, METHODS, Method
from chiaroscuro.maps import EDIT_MAPS, MAPS
from tests.toys import random_pixels, small_cnn

everything = pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in MAPS for method in choices.METHODS]
)
WORDS = [
    f"{name}:0.3" if row.amount and row.default is None else name
    for name, row in choices.FILLS.items()
]
every_fill = pytest.mark.parametrize("fill", WORDS)
every_edit_map = pytest.mark.parametrize(
    ("name", "fill"), [(name, fill) for name in EDIT_MAPS for fill in WORDS]
)


def method_of(name, pixels):
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
        classifier, pixels, method=method_of(method, pixels), argmax=True, **arguments
    )


def test_tables_list_the_same_names():
    for functions, words in ((MAPS, choices.MAPS), (EDIT_MAPS, choices.EDIT_MAPS)):
        assert functions.keys() == words.keys()
        assert all(name == row.name for name, row in words.items())
    assert FILLS.keys() == choices.FILLS.keys()
    assert not EDIT_MAPS.keys() & MAPS.keys()
    assert (*choices.RANKING_MAPS, *EDIT_MAPS) == tuple(choices.MEASURED_MAPS)
    assert all(row.kind == "signed" for row in choices.EDIT_MAPS.values())
    assert {*METHODS, *CAPTUM} == choices.METHODS.keys()
    assert all(row.captum == (name in CAPTUM) for name, row in choices.METHODS.items())
    assert all(name == row.name for name, row in choices.METHODS.items())


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
    class_gradients(Classifier(net), pixels, method=method_of(method, pixels))
    assert all(part.training for part in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


@every_fill
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", devices())
def test_fills(fill, dtype, device):
    dtype = torch.float16 if device == "mps" and dtype == torch.float64 else dtype
    pixels = random_pixels(3, 3, 8, 6, dtype=dtype).to(device)
    kept, state = pixels.clone(), torch.get_rng_state()
    result = filled(pixels, fill)
    assert result.shape == pixels.shape
    assert result.dtype == dtype and result.device.type == device
    assert result.min() >= 0 and result.max() <= 1
    assert not torch.equal(result, pixels)
    assert torch.equal(pixels, kept) and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(result, filled(pixels, fill))
    result.fill_(0.5)
    assert torch.equal(pixels, kept)
    for order in ([1], [2, 0, 1]):
        torch.testing.assert_close(filled(pixels[order], fill), filled(pixels, fill)[order])


@every_edit_map
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", devices())
def test_edit_maps(name, fill, dtype, device):
    dtype = torch.float16 if device == "mps" and dtype == torch.float64 else dtype
    pixels = random_pixels(3, 3, 12, 10, dtype=dtype).to(device)
    classifier = Classifier(small_cnn().to(device, dtype), mean=0.5, std=0.25)
    one, two = (edit_map(classifier, pixels, fill, name, 5) for _ in range(2))
    assert one.shape == (3, 12, 10)
    assert one.dtype == dtype and one.device.type == device
    assert one.isfinite().all()
    assert one.max() > 0
    assert torch.equal(one, two)


@every_edit_map
def test_edit_maps_are_batch_independent(name, fill):
    pixels = random_pixels(4, 3, 12, 12)
    classifier = Classifier(small_cnn().double(), mean=0.5, std=0.25)
    together = edit_map(classifier, pixels, fill, name, 6)
    for order in ([2], [3, 0], [3, 2, 1, 0]):
        apart = edit_map(classifier, pixels[order], fill, name, 6)
        torch.testing.assert_close(apart, together[order], rtol=1e-8, atol=1e-11)


@every_edit_map
def test_edit_maps_leave_all_as_found(name, fill):
    net, pixels = small_cnn().double().train(), random_pixels(2, 3, 12, 12)
    state, kept = copy.deepcopy(net.state_dict()), pixels.clone()
    random = torch.get_rng_state()
    with torch.inference_mode():
        edit_map(Classifier(net), pixels, fill, name, 3)
    assert torch.equal(pixels, kept)
    assert torch.equal(torch.get_rng_state(), random)
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
