"""Every map, re-derived pixel by pixel in plain Python on networks whose gradients are known.

The oracle reads the paper's definitions and imports nothing of ours but the calls under test.
"""

import math

import pytest
import torch

from chiaroscuro import Classifier, class_gradients, saliency_maps
from chiaroscuro.errors import InputError
from chiaroscuro.maps import scale
from tests.toys import Linear, Quadratic, random_pixels


def oracle(gradients: torch.Tensor, target: int, name: str) -> torch.Tensor:
    """One map (H, W) from the gradients (K, C, H, W) of all classes, by loops."""
    classes, channels, height, width = gradients.shape
    result = torch.zeros(height, width, dtype=gradients.dtype)
    for i in range(height):
        for j in range(width):
            entries = [
                (
                    float(gradients[target, c, i, j]),
                    [float(gradients[k, c, i, j]) for k in range(classes) if k != target],
                )
                for c in range(channels)
            ]
            result[i, j] = PIXEL[name](entries)
    return result


def size_where(rule):
    return lambda entries: max(abs(g) if rule(g, rivals) else 0.0 for g, rivals in entries)


def own_where(rule):
    return lambda entries: max(g if rule(g, rivals) else 0.0 for g, rivals in entries)


def largest(values):
    high, low = max(values), min(values)
    if high == -low:
        return 0.0
    return high if high > -low else low


def beats_all(g, rivals):
    return all(g > r for r in rivals)


def under_all(g, rivals):
    return all(g < r for r in rivals)


def lead(g, rivals):
    return max(g - max(rivals), 0.0) - max(min(rivals) - g, 0.0)


PIXEL = {
    "original": lambda entries: max(abs(g) for g, _ in entries),
    "positive": lambda entries: max(max(g, 0.0) for g, _ in entries),
    "negative": lambda entries: max(max(-g, 0.0) for g, _ in entries),
    "active": size_where(beats_all),
    "inactive": size_where(under_all),
    "competition": lambda entries: largest(
        [
            g if (g > 0 and beats_all(g, rivals)) or (g < 0 and under_all(g, rivals)) else 0.0
            for g, rivals in entries
        ]
    ),
    "signed": lambda entries: largest(
        [
            (abs(g) if beats_all(g, rivals) else 0.0) - (abs(g) if under_all(g, rivals) else 0.0)
            for g, rivals in entries
        ]
    ),
    "margin": lambda entries: largest([lead(g, rivals) for g, rivals in entries]),
    "active-printed": own_where(lambda g, rivals: g == max([g, *rivals])),
    "inactive-printed": own_where(lambda g, rivals: g == min([g, *rivals])),
}


@pytest.mark.parametrize("name", PIXEL)
@pytest.mark.parametrize("target", [0, 2])
def test_linear_network(name, target):
    # Few distinct values, so that ties between classes and between channels are common.
    weights = torch.randint(
        -2, 3, (4, 3, 5, 6), generator=torch.Generator().manual_seed(1)
    ).double()
    pixels = random_pixels(2, 3, 5, 6)
    found = class_gradients(Classifier(Linear(weights)), pixels, target)
    made = saliency_maps(found, [name])[name]
    expected = oracle(weights, target, name)
    assert expected.count_nonzero() > 0 or name == "inactive-printed"
    assert torch.equal(made[0], expected)
    assert torch.equal(made[1], expected)


@pytest.mark.parametrize("name", PIXEL)
def test_network_with_curvature_and_normalization(name):
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(5, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.5]
    pixels = random_pixels(3, 3, 4, 4)
    found = class_gradients(Classifier(Quadratic(a, b), mean=mean, std=std), pixels, [4, 0, 1])
    made = saliency_maps(found, [name])[name]
    center, width = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (mean, std))
    for image, target in enumerate([4, 0, 1]):
        gradients = (a * (pixels[image] - center) / width + b) / width
        torch.testing.assert_close(made[image], oracle(gradients, target, name))


def test_signed_by_hand():
    # One pixel a column; classes: target, rival. Channels: 3.
    own = torch.tensor([[3.0, 3.0, -1.0], [-3.0, 2.0, -1.0], [1.0, 0.0, -4.0]])  # (C, W)
    rival = torch.tensor([[1.0, 1.0, -2.0], [-1.0, 5.0, -2.0], [1.0, 0.0, -2.0]])
    weights = torch.stack([own, rival])[:, :, None, :]
    found = class_gradients(Classifier(Linear(weights)), torch.full((1, 3, 1, 3), 0.5), 0)
    maps = saliency_maps(found, ["signed", "margin", "active", "inactive"])
    # Pixel 0: active 3 and inactive 3 cancel. Pixel 1: active 3 beats inactive 2.
    # Pixel 2: active (-1 > -2, size 1) twice against inactive size 4.
    assert maps["signed"][0, 0].tolist() == [0.0, 3.0, -4.0]
    # Leads: pixel 0 +2 and -2 cancel; pixel 1 +2 against -3; pixel 2 +1, +1 against -2.
    assert maps["margin"][0, 0].tolist() == [0.0, -3.0, -2.0]
    assert maps["active"][0, 0].tolist() == [3.0, 3.0, 1.0]
    assert maps["inactive"][0, 0].tolist() == [3.0, 2.0, 4.0]


def test_winner_by_hand():
    # Classes 0..3 over five pixels, two channels and the first again; target 1.
    values = {
        0: [[5.0, 1.0, 2.0, 0.0, 7.0], [0.0, 1.0, 0.0, 0.0, 0.0]],
        1: [[1.0, 4.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 7.0]],
        2: [[0.0, 1.0, 0.0, 9.0, 0.0], [0.0, 1.0, 0.0, 9.0, 0.0]],
        3: [[0.0, 4.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]],
    }
    weights = torch.tensor([[*values[k], values[k][0]] for k in range(4)])[:, :, None, :]
    classifier = Classifier(Linear(weights))
    found = class_gradients(classifier, torch.full((1, 3, 1, 5), 0.5), 1, argmax=True)
    maps = saliency_maps(found, ["winner"], normalize="minmax")
    # Pixel 0: class 0. 1: target ties with rival 3. 2: target ties with rival 0. 3: class 2 leads
    # in both channels, no tie. 4: class 0 and class 1 share the top in different channels.
    assert maps["winner"][0, 0].tolist() == [0, -1, -1, 2, -1]
    assert maps.support["winner"].pixels.tolist() == pytest.approx([4 / 5])
    per_channel = saliency_maps(found, ["winner"], reduce="none")["winner"]
    assert per_channel[0, :2, 0].tolist() == [[0, -1, -1, 2, 0], [-1, -1, 3, 2, 1]]
    assert torch.equal(per_channel[0, 2], per_channel[0, 0])


def test_winner_without_its_classes_is_refused():
    found = class_gradients(Classifier(Linear(torch.ones(2, 3, 2, 2))), torch.rand(1, 3, 2, 2))
    with pytest.raises(Exception, match=r"call class_gradients\(\.\.\., argmax=True\)"):
        saliency_maps(found, ["winner"])


def test_support_is_counted_on_the_mask():
    # The target's gradient is 0 where it beats both rivals: in the mask, though the map is 0 there.
    weights = torch.tensor([[[[0.0, 1.0, 1.0, 2.0]]], [[[-1.0, 1.0, 2.0, 3.0]]], [[[-2.0] * 4]]])
    classifier = Classifier(Linear(weights), channels=1)
    maps = saliency_maps(class_gradients(classifier, torch.zeros(1, 1, 1, 4), 0))
    assert maps["active"].count_nonzero() == 0
    assert maps.support["active"].pixels.item() == 0.25
    assert maps.support["original"].entries.item() == 0.75


def test_support_of_pixels_and_of_entries():
    weights = torch.zeros(2, 3, 1, 4)
    weights[0, 0, 0, :3] = 1.0
    weights[0, 1, 0, :2] = 1.0
    weights[0, 2, 0, 2] = 1.0
    found = class_gradients(Classifier(Linear(weights)), torch.zeros(1, 3, 1, 4), target=0)
    support = saliency_maps(found).support["active"]
    assert (support.pixels.item(), support.entries.item()) == (0.75, 0.5)


def test_minmax_by_hand():
    weights = torch.zeros(2, 1, 1, 4)
    weights[0, 0, 0] = torch.tensor([1.0, -2.0, 3.0, 5.0])
    weights[1] = -1.0
    found = class_gradients(Classifier(Linear(weights), channels=1), torch.zeros(1, 1, 1, 4), 0)
    maps = saliency_maps(found, ["original", "signed", "active-printed"], normalize="minmax")
    assert maps["original"][0, 0].tolist() == [0.0, 0.25, 0.5, 1.0]
    # Signed maps keep their zero: +1, -2 (inactive), +3, +5 over 5.
    torch.testing.assert_close(maps["signed"][0, 0], torch.tensor([0.2, -0.4, 0.6, 1.0]))
    torch.testing.assert_close(maps["active-printed"][0, 0], torch.tensor([0.2, 0.0, 0.6, 1.0]))


@pytest.mark.parametrize("name", ["original", "positive", "active", "signed", "margin"])
def test_constant_map_becomes_zeros(name):
    found = class_gradients(
        Classifier(Linear(torch.stack([torch.ones(3, 2, 2), torch.ones(3, 2, 2)]))),
        torch.rand(1, 3, 2, 2),
        0,
    )
    made = saliency_maps(found, [name], normalize="minmax")[name]
    assert made.tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


def test_extreme_gradients_give_no_nan():
    top = torch.finfo(torch.float32).max
    weights = torch.tensor([[top, -top, 1e-45, 0.0], [-top, top, -1e-45, 0.0]]).view(2, 1, 1, 4)
    found = class_gradients(Classifier(Linear(weights), channels=1), torch.zeros(1, 1, 1, 4), 0)
    names = [*PIXEL]
    for normalize in ("none", "minmax"):
        for name, values in saliency_maps(found, names, normalize=normalize).items():
            assert values.isfinite().all(), (name, normalize)
    scaled = saliency_maps(found, ["margin", "active-printed"], normalize="minmax")
    assert scaled["margin"][0, 0].tolist() == [1.0, -1.0, 0.0, 0.0]


def test_scaling_a_map_of_both_float_extremes():
    top = torch.finfo(torch.float32).max
    made = scale(torch.tensor([[[-top, 0.0, top]]]), "printed")
    assert made[0, 0].tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("kind", ["magnitude", "signed", "printed"])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_a_map_that_is_not_finite_has_no_scale(kind, wrong):
    with pytest.raises(InputError, match="not finite: it has no scale"):
        scale(torch.tensor([[[0.0, 1.0]], [[wrong, 0.0]]]), kind)


def test_reduce_none_keeps_channels():
    weights = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    found = class_gradients(Classifier(Linear(weights)), torch.rand(2, 3, 4, 4), 1)
    kept = saliency_maps(found, reduce="none")
    joined = saliency_maps(found)
    assert kept["active"].shape == (2, 3, 4, 4)
    for name, values in joined.items():
        assert torch.equal(kept[name].amax(dim=1), values)
    assert torch.equal(kept["positive"][0], weights[1].relu())


def test_active_entries_may_fall_and_still_be_the_least_falling():
    weights = torch.tensor([[[[-1.0]]], [[[-3.0]]], [[[-2.0]]]])
    found = class_gradients(Classifier(Linear(weights), channels=1), torch.zeros(1, 1, 1, 1), 0)
    maps = saliency_maps(found, ["active", "positive", "active-printed"])
    assert maps["active"].item() == 1.0
    assert maps["positive"].item() == 0.0
    assert maps["active-printed"].item() == -1.0
    assert math.isclose(maps.support["active"].pixels.item(), 1.0)


def test_unknown_names_are_refused():
    found = class_gradients(Classifier(Linear(torch.ones(2, 3, 2, 2))), torch.rand(1, 3, 2, 2))
    with pytest.raises(Exception, match="unknown map 'activ': did you mean active"):
        saliency_maps(found, ["activ"])
    with pytest.raises(Exception, match="unknown normalize 'max'.*known are none, minmax"):
        saliency_maps(found, normalize="max")
    with pytest.raises(Exception, match="unknown reduce 'sum'.*known are max, none"):
        saliency_maps(found, reduce="sum")
