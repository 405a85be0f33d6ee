"""Deletion curves: by hand, against a plain loop, and their identities."""

import dataclasses
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from chiaroscuro import Classifier, class_gradients, saliency_maps
from chiaroscuro.choices import CURVES, PAPER_FRACTIONS, RANKING_MAPS
from chiaroscuro.edits import filled
from chiaroscuro.errors import ChoiceError, ImageError, InputError
from chiaroscuro.metrics import (
    DeletionCurve,
    curves_by_fill,
    deletion_curve,
    linearity,
    localization,
    map_similarity,
    relevance_gain,
)
from chiaroscuro.metrics.deletion import Edit, predict_edits
from tests.test_edits import published_mask
from tests.toys import Linear, random_pixels, small_cnn

FRACTIONS = [0, 0.1, 0.25, 0.5, 0.75]


class Counting(torch.nn.Module):
    """Passes through and records every image that it predicts."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, x):
        self.seen += [bits(image) for image in x.detach()]
        return self.inner(x)


def bits(image):
    return image.contiguous().view(torch.uint8).numpy().tobytes()


def row_classifier():
    """Two classes on a row of five gray pixels: class 0 has their weighted sum, class 1 has 0.9."""
    weights = torch.zeros(2, 1, 1, 5, dtype=torch.float64)
    weights[0, 0, 0] = torch.tensor([1.0, 0.5, 0.25, 0.0, -1.0])
    bias = torch.tensor([0.0, 0.9], dtype=torch.float64)
    return Classifier(Linear(weights, bias), channels=1)


def test_a_curve_by_hand():
    pixels = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 5)
    values = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0], dtype=torch.float64).reshape(1, 1, 5)
    curve = deletion_curve(row_classifier(), pixels, values, "black", [0, 0.2, 0.4, 0.6, 0.8])
    # logits of class 0: 1.75, 0.75, 0.25, 0, 0, against 0.9
    assert curve.logit.tolist() == [[1.75, 0.75, 0.25, 0.0, 0.0]]
    assert curve.allegiance.tolist() == [[True, False, False, False, False]]
    expected = 1 / (1 + np.exp(0.9 - np.array([1.75, 0.75, 0.25, 0, 0])))
    assert curve.probability[0].numpy() == pytest.approx(expected)
    assert curve.removed.tolist() == [[0, 1, 2, 3, 4]]
    assert curve.changed.tolist() == [[0, 1, 2, 3, 4]]
    assert curve.area() == pytest.approx(0.1)  # one trapezoid from 1 to 0 over 0.2
    assert curve.area(by_range=True) == pytest.approx(0.125)


def test_areas_under_probability_and_logit_by_hand():
    pixels = torch.ones(1, 1, 1, 5, dtype=torch.float64)
    values = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64).reshape(1, 1, 5)
    curve = deletion_curve(row_classifier(), pixels, values, "black", [0, 0.2, 0.4], target=0)
    # logits of class 0: 0.75, -0.25, -0.75
    assert curve.areas(of="logit").item() == pytest.approx(0.2 * (0.25 - 0.5))
    assert curve.areas(of="logit", by_range=True).item() == pytest.approx(0.5 * (0.25 - 0.5))
    chance = 1 / (1 + np.exp(0.9 - np.array([0.75, -0.25, -0.75])))
    area = 0.1 * (chance[0] + 2 * chance[1] + chance[2])
    assert curve.areas(of="probability").item() == pytest.approx(area)
    with pytest.raises(ChoiceError, match="unknown curve 'logits': did you mean logit"):
        curve.areas(of="logits")


def additive(contributions):
    """A classifier of gray pixels at 1 whose first logit is the sum of what each contributes."""
    weights = torch.zeros(2, 1, 1, len(contributions), dtype=torch.float64)
    weights[0, 0, 0] = torch.tensor(contributions, dtype=torch.float64)
    pixels = torch.ones(1, 1, 1, len(contributions), dtype=torch.float64)
    return Classifier(Linear(weights), channels=1), pixels


def gains(contributions, maps, fractions, of="logit", seed=0):
    classifier, pixels = additive(contributions)
    curves = deletion_curve(
        classifier, pixels, maps, "black", fractions, "matched", target=0, seed=seed
    )
    return {name: gain.item() for name, gain in relevance_gain(curves, of=of).items()}


def row(values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, -1)


def test_a_relevance_gain_by_hand():
    parts = [4.0, 2.0, 1.0, 0.0, -2.0]
    found = gains(parts, {"best": row(parts), "worst": -row(parts)}, [0, 0.2, 0.4])
    # The highest pixels take 0, 4, 6 from the logit, the lowest 0, -2, -2: apart by 0, 6, 8.
    assert found["best"] == pytest.approx(0.2 * 3 + 0.2 * 7)
    assert found["worst"] == pytest.approx(-2)
    # 5, 1, -1 against 0 keep the class for the highest; the lowest keep it always.
    kept = gains(parts, {"best": row(parts)}, [0, 0.2, 0.4, 0.6], of="allegiance")
    assert kept["best"] == pytest.approx(0.6 - (0.2 + 0.1))


@given(st.lists(st.integers(-9, 9), min_size=6, max_size=6, unique=True), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_no_order_gains_more_than_the_true_one_of_an_additive_network(parts, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = {"true": row([float(p) for p in parts]), "any": torch.rand(1, 1, 6, generator=generator)}
    fractions = [0, 1 / 6, 2 / 6, 3 / 6]
    found = gains([float(p) for p in parts], maps, fractions)
    falling = np.sort(parts)[::-1]
    taken = [falling[:k].sum() - falling[6 - k :].sum() for k in range(4)]
    assert found["true"] == pytest.approx(np.trapezoid(taken, fractions))
    assert found["any"] <= found["true"] + 1e-9


@given(st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_an_inverted_order_gains_minus_as_much(seed):
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(2, 3, 6, 6, seed=seed)
    values = random_pixels(2, 6, 6, seed=seed + 1)
    maps = {"order": values, "inverse": -values}
    curves = deletion_curve(toy, pixels, maps, "white", protocol="matched", seed=seed)
    for of in CURVES:
        gain = relevance_gain(curves, of=of)
        assert torch.allclose(gain["order"], -gain["inverse"], atol=1e-12)


@pytest.mark.parametrize("of", CURVES)
def test_random_orders_gain_nothing_on_average(of):
    weights = random_pixels(3, 3, 2, 2) - 0.5
    toy = Classifier(nn.Sequential(nn.Hardswish(), Linear(8 * weights), nn.Hardswish()))
    pixels = random_pixels(1, 3, 2, 2, seed=1).expand(24, 3, 2, 2)
    orders = torch.tensor([*permutations([0.0, 1.0, 2.0, 3.0])]).reshape(24, 2, 2)
    curves = deletion_curve(
        toy, pixels, {"any": orders.double()}, "black", [0, 0.25, 0.5, 0.75], "matched"
    )
    gain = relevance_gain(curves, of=of)["any"]
    assert gain.mean().item() == pytest.approx(0, abs=1e-12)
    assert of == "allegiance" or gain.abs().max() > 1e-4


def test_a_gain_needs_inverted_orders():
    curves = deletion_curve(
        row_classifier(), torch.rand(1, 1, 1, 5).double(), {"a": row([1, 2, 3, 4, 5])}, "black"
    )
    with pytest.raises(
        InputError, match='no curve of a has an inverted order: take .* "matched"|no curve of a'
    ):
        relevance_gain(curves)


def test_white_raises_a_pixel_that_is_black():
    pixels = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 5)
    values = torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0], dtype=torch.float64).reshape(1, 1, 5)
    curve = deletion_curve(row_classifier(), pixels, values, "white", [0, 0.2, 0.4, 0.8])
    assert curve.logit.tolist() == [[1.75, 0.75, 0.75, 0.75]]
    assert curve.removed.tolist() == [[0, 1, 1, 1]]  # zeros of the map are never deleted
    matched = deletion_curve(
        row_classifier(), pixels, values, "white", [0, 0.2, 0.4, 0.8], "matched"
    )
    assert matched.removed.tolist() == [[0, 1, 2, 4]]
    assert matched.changed.tolist() == [[0, 1, 1, 1]]  # the others are white already
    assert matched.logit.tolist() == curve.logit.tolist()


def test_every_number_is_that_of_a_plain_loop():
    toy = Classifier(small_cnn().double(), mean=0.5, std=0.25)
    pixels = random_pixels(3, 3, 12, 12)
    maps = saliency_maps(class_gradients(toy, pixels))
    for fill in ("black", "white", "blur:0.2"):
        curves = deletion_curve(toy, pixels, maps, fill)
        changed = filled(pixels, fill)
        for name, values in maps.items():
            curve = curves[name]
            for b in range(3):
                clean = toy(pixels[[b]])[0]
                for f, fraction in enumerate(PAPER_FRACTIONS):
                    mask = torch.from_numpy(published_mask(values[b].numpy(), fraction))
                    logits = toy(torch.where(mask, changed[b], pixels[b])[None])[0]
                    top = clean.argmax()
                    assert bool(curve.allegiance[b, f]) == bool(logits.argmax() == top)
                    assert curve.logit[b, f] == pytest.approx(float(logits[top]), abs=1e-10)
                    chance = float(logits.softmax(0)[top])
                    assert curve.probability[b, f] == pytest.approx(chance, abs=1e-10)
                    differs = mask & (changed[b] != pixels[b]).any(0)
                    assert curve.changed[b, f] == differs.sum()
                    assert curve.removed[b, f] == mask.sum()


def test_each_distinct_edited_image_is_predicted_once():
    counting = Counting(small_cnn().double())
    toy = Classifier(counting)
    pixels = random_pixels(4, 3, 12, 12).round(decimals=0)  # many pixels are black already
    maps = dict(saliency_maps(class_gradients(toy, pixels)))
    maps["again"] = maps["active"] * 2
    counting.seen.clear()
    curves_by_fill(toy, pixels, maps, ["black"])
    assert len(set(counting.seen)) == len(counting.seen) < 4 * 13 * (6 + 13) - 300
    first = {bits(image) for image in pixels}
    assert first <= set(counting.seen)


def test_filling_black_pixels_with_black_predicts_nothing_new():
    counting = Counting(small_cnn().double())
    pixels = random_pixels(1, 3, 10, 10)
    pixels[:, :, 5:] = 0  # the lower half
    values = torch.linspace(1, 0.1, 100, dtype=torch.float64).reshape(1, 10, 10)  # comes last
    curve = deletion_curve(Classifier(counting), pixels, values, "black", protocol="matched")
    assert len(counting.seen) == 1 + 8  # the image, and .03 to .5; later ones are the half's
    assert curve.changed.tolist() == [[0, 3, 5, 7, 10, 20, 30, 40, 50, 50, 50, 50, 50]]


def test_equal_sets_of_pixels_of_two_images_are_two_images():
    pixels = torch.stack([torch.full((3, 1, 5), 0.25), torch.full((3, 1, 5), 0.75)]).double()
    order = torch.arange(5).expand(2, -1)
    edit = Edit(order, torch.tensor([[0, 1, 5], [0, 1, 5]]))
    counting = Counting(Linear(torch.ones(2, 3, 1, 5, dtype=torch.float64)))
    clean, (outcome,) = predict_edits(
        Classifier(counting), pixels, torch.zeros_like(pixels), [edit]
    )
    assert clean[:, 0].tolist() == pytest.approx([3.75, 11.25])
    assert outcome.logits[..., 0].numpy() == pytest.approx(np.array([[3.75, 3, 0], [11.25, 9, 0]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_edited_pixels_are_the_fill_and_the_others_stay_to_the_bit(dtype):
    pixels = random_pixels(2, 3, 4, 5).to(dtype)
    pixels[0, 0, 0, :2] = torch.tensor([0.0, -0.0])
    filled = random_pixels(2, 3, 4, 5, seed=8).to(dtype)
    order = torch.stack([torch.arange(20), torch.arange(20).flip(0)])
    counting = Counting(torch.nn.Flatten())
    counts = torch.tensor([[0, 3, 20], [1, 7, 19]])
    predict_edits(Classifier(counting), pixels, filled, [Edit(order, counts)])
    wanted = set()
    for image, (ranked, ends) in enumerate(zip(order, counts, strict=True)):
        for end in (0, *ends.tolist()):
            made = pixels[image].flatten(1).clone()
            made[:, ranked[:end]] = filled[image].flatten(1)[:, ranked[:end]]
            wanted.add(bits(made.view(3, 4, 5)))
    assert set(counting.seen) == wanted


def test_equal_sets_by_different_orders_are_one_image():
    counting = Counting(Linear(torch.ones(2, 3, 1, 5, dtype=torch.float64)))
    pixels = random_pixels(1, 3, 1, 5)
    forth = torch.arange(5)[None]
    edits = [
        Edit(forth, torch.tensor([[2, 5]])),
        Edit(forth[:, [1, 0, 4, 3, 2]], torch.tensor([[2, 5]])),
    ]
    predict_edits(Classifier(counting), pixels, torch.zeros_like(pixels), edits)
    assert len(counting.seen) == 3


def test_matched_brings_its_controls():
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(2, 3, 10, 10)
    maps = {name: random_pixels(2, 10, 10, seed=n) for n, name in enumerate(("one", "two"))}
    curves = deletion_curve(toy, pixels, maps, "black", FRACTIONS, "matched")
    assert list(curves) == ["one", "two", "random", "inverted:one", "inverted:two"]
    assert all(curve.removed.tolist() == [[0, 10, 25, 50, 75]] * 2 for curve in curves.values())
    upside_down = deletion_curve(toy, pixels, -maps["one"], "black", FRACTIONS, "matched")
    assert torch.equal(upside_down.logit, curves["inverted:one"].logit)
    flat = deletion_curve(toy, pixels, torch.zeros(2, 10, 10), "black", FRACTIONS, "matched")
    assert torch.equal(flat.logit, curves["random"].logit)  # nothing but ties
    other = deletion_curve(toy, pixels, maps, "black", FRACTIONS, "matched", seed=1)
    assert not torch.equal(other["random"].logit, curves["random"].logit)


def test_without_ties_the_protocols_agree():
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(2, 3, 10, 10)
    values = torch.stack([torch.randperm(100).reshape(10, 10).double() + 1 for _ in range(2)])
    both = curves_by_fill(toy, pixels, {"map": values}, ["mean"], FRACTIONS)["mean"]
    paper, matched = both["paper", "map"], both["matched", "map"]
    assert torch.equal(paper.logit, matched.logit)
    assert torch.equal(paper.removed, matched.removed)


@given(st.integers(0, 1000), st.sampled_from(["black", "white", "mean", "noise", "+0.3"]))
@settings(max_examples=25, deadline=None)
def test_identities(seed, fill):
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(4, 3, 9, 9, seed=seed)
    maps = {"map": random_pixels(4, 9, 9, seed=seed + 1)}
    curves = curves_by_fill(toy, pixels, maps, [fill], FRACTIONS)[fill]
    shuffle = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    shuffled = {"map": maps["map"][shuffle]}
    moved = curves_by_fill(toy, pixels[shuffle], shuffled, [fill], FRACTIONS)[fill]
    for key, curve in curves.items():
        assert curve.allegiance[:, 0].all()
        assert 0 <= curve.area() <= 0.75 + 1e-12
        assert (curve.changed <= curve.removed).all()
        assert torch.equal(curve.allegiance[shuffle], moved[key].allegiance)
        assert torch.allclose(curve.logit[shuffle], moved[key].logit, rtol=0, atol=1e-12)


def test_a_named_target_is_followed_while_allegiance_stays_with_the_prediction():
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(2, 3, 9, 9)
    values = random_pixels(2, 9, 9, seed=4)
    target = torch.tensor([1, 4])
    curve = deletion_curve(toy, pixels, values, "black", FRACTIONS, target=target)
    clean = toy(pixels)
    assert torch.allclose(curve.logit[:, 0], clean[[0, 1], target])
    assert torch.equal(
        curve.allegiance, deletion_curve(toy, pixels, values, "black", FRACTIONS).allegiance
    )


def test_the_network_is_left_as_found_and_pixels_too():
    module = small_cnn().double()
    toy = Classifier(module)
    assert module.training
    pixels = random_pixels(2, 3, 9, 9)
    before = pixels.clone(), {name: t.clone() for name, t in module.state_dict().items()}
    deletion_curve(toy, pixels, random_pixels(2, 9, 9), "white")
    assert module.training
    assert torch.equal(pixels, before[0])
    assert all(torch.equal(t, before[1][name]) for name, t in module.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


@pytest.mark.parametrize("name", RANKING_MAPS)
def test_every_ranking_map_can_be_deleted_by(name):
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(2, 3, 12, 12)
    maps = saliency_maps(class_gradients(toy, pixels), [name])
    curves = curves_by_fill(toy, pixels, maps, ["black"])["black"]
    assert all(np.isfinite(curve.area()) for curve in curves.values())
    assert ("matched", f"inverted:{name}") in curves


@pytest.mark.parametrize("name", ["winner", "active-printed", "inactive-printed"])
def test_maps_that_order_nothing_are_refused(name):
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(1, 3, 9, 9)
    with pytest.raises(ChoiceError, match=f"map '{name}' orders no pixels"):
        deletion_curve(toy, pixels, {name: torch.zeros(1, 9, 9)}, "black")


def test_other_input_is_refused_in_one_line():
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(1, 3, 9, 9)
    with pytest.raises(InputError, match=r"map 'map' has shape \(1, 8, 9\): expected"):
        deletion_curve(toy, pixels, torch.zeros(1, 8, 9), "black")
    with pytest.raises(ChoiceError, match="unknown protocol 'papers'"):
        deletion_curve(toy, pixels, torch.zeros(1, 9, 9), "black", protocol="papers")
    with pytest.raises(ChoiceError, match="unknown fill"):
        deletion_curve(toy, pixels, torch.zeros(1, 9, 9), "blak")
    with pytest.raises(ChoiceError, match="no map is given"):
        deletion_curve(toy, pixels, {}, "black")
    with pytest.raises(ImageError, match="pixels"):
        deletion_curve(toy, pixels + 1, torch.zeros(1, 9, 9), "black")
    with pytest.raises(ImageError, match="with at least one image"):
        deletion_curve(toy, pixels[:0], torch.zeros(0, 9, 9), "black")
    with pytest.raises(InputError, match="map 'mine' holds values that are not finite"):
        deletion_curve(toy, pixels, {"mine": torch.full((1, 9, 9), torch.nan)}, "black")
    with pytest.raises(InputError, match=r"map 'map' has shape \(1, 9, 9\) and is float64"):
        deletion_curve(toy, pixels, np.zeros((1, 9, 9)), "black")
    with pytest.raises(ChoiceError, match="target 5 is out of range"):
        deletion_curve(toy, pixels, torch.zeros(1, 9, 9), "black", target=5)
    with pytest.raises(ChoiceError, match="seed is -1"):
        deletion_curve(toy, pixels, torch.zeros(1, 9, 9), "black", seed=-1)


@pytest.mark.parametrize("target", [3, np.int64(3), torch.tensor(3), [3, 3], np.array([3, 3])])
def test_a_target_may_be_a_number_of_any_library(target):
    toy, pixels = Classifier(small_cnn().double()), random_pixels(2, 3, 9, 9)
    curve = deletion_curve(toy, pixels, pixels.amax(1), "black", [0, 0.5], target=target)
    assert torch.equal(curve.logit[:, 0], toy(pixels)[:, 3])


def test_a_constant_map_is_a_random_order_in_the_matched_protocol_and_nothing_in_the_papers():
    toy, pixels = Classifier(small_cnn().double()), random_pixels(2, 3, 9, 9)
    constant = {"constant": torch.full((2, 9, 9), 0.7)}
    curves = curves_by_fill(toy, pixels, constant, ["black"], FRACTIONS)["black"]
    assert curves["paper", "constant"].removed.sum() == 0
    assert torch.equal(curves["matched", "constant"].logit, curves["matched", "random"].logit)


def test_results_are_frozen_and_short_to_read():
    toy, pixels = Classifier(small_cnn().double()), random_pixels(2, 3, 9, 9)
    curve = deletion_curve(toy, pixels, pixels.amax(1), "black", [0, 0.5])
    assert repr(curve).startswith("DeletionCurve(fractions=(0.0, 0.5), allegiance=(2, 2), prob")
    with pytest.raises(dataclasses.FrozenInstanceError):
        curve.logit = None
    others = [
        linearity(toy, pixels, filled(pixels, "black")),
        map_similarity(pixels.amax(1), pixels.amin(1), pixels),
        localization(pixels.amax(1), pixels.amax(1) > 0),
        saliency_maps(class_gradients(toy, pixels)),
    ]
    assert all(len(repr(result)) < 200 and "tensor" not in repr(result) for result in others)
    assert "actual_change=(2, 4, 5)" in repr(others[0])
    assert "active (2, 9, 9)" in repr(others[3])


def test_areas_by_hand():
    allegiance = torch.tensor([[True, True, False], [True, False, False]])
    nothing = torch.zeros(2, 3)
    curve = DeletionCurve((0.0, 0.4, 0.9), allegiance, nothing, nothing, nothing, nothing)
    assert curve.areas().tolist() == pytest.approx([0.65, 0.2])
    assert curve.area() == pytest.approx(0.425)
    assert curve.area(by_range=True) == pytest.approx(0.425 / 0.9)


def test_one_fraction_has_an_area_of_0_and_no_range():
    nothing = torch.zeros(2, 1)
    curve = DeletionCurve((0.5,), torch.ones(2, 1, dtype=torch.bool), *[nothing] * 4)
    assert curve.area() == 0
    with pytest.raises(InputError, match="one fraction has no range"):
        curve.area(by_range=True)
