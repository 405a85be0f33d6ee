"""The tests that every explanation carries: figures by hand, sentences, files, and edge cases."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from chiaroscuro import ChoiceError, Classifier, Explanation, explain
from chiaroscuro.edits import filled, noisy
from chiaroscuro.explanations.evidence import CHANGE, NOISE, half_area
from chiaroscuro.render.evidence import (
    found,
    map_rows,
    region_peak,
    region_picture,
    region_rows,
    region_values,
    sentence,
)
from chiaroscuro.results.explanations import Views
from chiaroscuro.viewer import make_feed
from tests.explanations.inputs import array
from tests.test_inputs import Volumes
from tests.test_regions import dense
from tests.toys import Linear, random_pixels, small_cnn

SIDE = 12


def linear(classes=3, side=SIDE, seed=5):
    """A linear network in float64: its gradients are its weights everywhere."""
    weights = random_pixels(classes, 3, side, side, seed=seed) - 0.5
    return Classifier(Linear(weights / 4), name="linear")


def image(side=SIDE, seed=1):
    return random_pixels(3, side, side, seed=seed).numpy()


def quickly(classifier, pixels, **options):
    return explain(classifier, torch.from_numpy(pixels), evidence="quick", **options)


def test_of_a_linear_network_everything_is_as_predicted():
    classifier = linear()
    explained = quickly(classifier, image())
    pixels = explained.pixels  # rounded to float32
    evidence, target = explained.evidence, explained.target.index
    weights = classifier.module.weights.detach().numpy()
    assert [*evidence.maps] == [*explained.maps]
    for name, one in evidence.maps.items():
        assert one.stability.pixels == pytest.approx(1), name
        assert one.stability.smoothed == pytest.approx(1), name
        assert one.linear_step == 1, name
    changed = filled(torch.from_numpy(pixels)[None], CHANGE)[0].numpy()
    effect = (weights[target] * (changed - pixels)).sum(axis=0)
    for region in evidence.regions:
        inside = evidence.units == region.unit
        assert region.area == pytest.approx(inside.mean())
        assert region.predicted == pytest.approx(effect[inside].sum(), abs=1e-9)
        assert region.actual == pytest.approx(region.predicted, abs=1e-9)
    assert evidence.agreement == pytest.approx(1)


def softmax(logits):
    parts = np.exp(logits - logits.max())
    return parts / parts.sum()


def test_the_drop_and_the_regions_by_hand():
    classifier = linear()
    explained = quickly(classifier, image())
    pixels = explained.pixels  # rounded to float32
    evidence, target = explained.evidence, explained.target.index
    weights = classifier.module.weights.detach().numpy()

    def probability(values):
        return softmax((weights * values).sum(axis=(1, 2, 3)))

    for name, fill in (("positive", 0.0), ("negative", 1.0), ("signed", 0.0)):
        top = np.argsort(-explained.maps[name], axis=None, kind="stable")[: round(0.05 * SIDE**2)]
        values = pixels.reshape(3, -1).copy()
        values[:, top] = fill
        lost = probability(pixels)[target] - probability(values.reshape(pixels.shape))[target]
        assert evidence.maps[name].drop.pixels == pytest.approx(lost, abs=1e-9), name
        assert evidence.maps[name].fill == ("white" if fill else "black")
    assert evidence.random.keys() == {"black", "white"}
    changed = filled(torch.from_numpy(pixels)[None], CHANGE)[0].numpy()
    for region in evidence.regions:
        after = probability(np.where(evidence.units == region.unit, changed, pixels))
        gains = after - probability(pixels)
        assert region.change == pytest.approx(gains[target], abs=1e-9)
        gains[target] = -1
        if region.winner is not None:
            assert region.winner.index == gains.argmax()
            assert region.gain == pytest.approx(gains.max(), abs=1e-9)
    changes = [region.change for region in evidence.regions]
    assert changes == sorted(changes)
    assert {region.unit for region in evidence.regions} == set(np.unique(evidence.units))


@pytest.mark.parametrize(
    ("values", "share"),
    [([4, 2, 1, 1], 0.25), ([1, 1, 1, 1], 0.5), ([-5, 1, 1, 1], 0.25), ([0, 0], 1), ([3], 1)],
)
def test_the_area_of_half_a_map(values, share):
    assert half_area(torch.tensor([[values]], dtype=torch.double)) == share


class Noise(nn.Module):
    """A network whose gradient is another one a thousandth of a pixel value away."""

    def forward(self, x):
        waves = torch.sin(3000 * x + torch.arange(x[0].numel()).view(x.shape[1:]))
        return torch.stack([waves.sum(dim=(1, 2, 3)), x.sum(dim=(1, 2, 3))], dim=1)


def test_a_map_of_noise_is_called_so():
    explained = quickly(Classifier(Noise()), image(), target=0)
    one = explained.evidence.maps["original"]
    assert abs(one.stability.pixels) < 0.4
    assert one.linear_step < 0.1
    said = sentence(explained, "original")
    assert said.startswith("Single pixels mean little here: noise moves them (")
    assert any("mean little: a little noise moves them" in line for line in found(explained))


def test_stability_is_the_rank_correlation_with_the_noisy_images_map():
    classifier = Classifier(small_cnn().double())
    pixels = torch.from_numpy(image())
    explained = quickly(classifier, pixels.numpy())
    other = explain(classifier, noisy(pixels[None], NOISE)[0], target=explained.target.index).maps[
        "original"
    ]
    first = explained.maps["original"]
    ranks = [np.argsort(np.argsort(values, axis=None)) for values in (first, other)]
    expected = np.corrcoef(*ranks)[0, 1]
    assert explained.evidence.maps["original"].stability.pixels == pytest.approx(expected, abs=1e-9)


def test_many_rivals_are_few_under_noise_unless_all_are_asked_for():
    classifier = linear(classes=60)
    quick = quickly(classifier, image())
    assert (quick.choices.rivals, quick.evidence.rivals) == ("all", "top:50")
    full = explain(classifier, torch.from_numpy(image()), evidence="full")
    assert full.evidence.rivals == "all"
    assert len(full.evidence.random["black"]) == 20
    assert len(full.evidence.regions) > len(quick.evidence.regions)
    assert quickly(classifier, image(), rivals="top:5").evidence.rivals == "top:5"


@pytest.mark.parametrize("side", [1, 2, 5])
@pytest.mark.parametrize("classes", [2, 4])
def test_images_of_few_pixels(side, classes):
    explained = quickly(linear(classes, side), image(side))
    assert explained.evidence.units.shape == (side, side)
    assert all(
        np.isfinite(dataclasses.astuple(one.drop)).all() for one in explained.evidence.maps.values()
    )
    assert found(explained) and len([*map_rows(explained)]) == len(explained.maps)
    assert [*region_rows(explained)]


def test_constant_maps_say_so():
    weights = (
        torch.ones(2, 3, SIDE, SIDE, dtype=torch.double)
        * torch.tensor([1.0, 0.5])[:, None, None, None]
    )
    explained = quickly(Classifier(Linear(weights)), image(), target=0)
    assert explained.evidence.maps["positive"].constant
    assert sentence(explained, "positive") == "It has one value everywhere: it orders no pixels."
    assert sentence(explained, "winner") == ""
    assert len(found(explained)) == 1


def test_an_image_that_no_change_changes():
    explained = quickly(linear(), np.full((3, SIDE, SIDE), 0.5))
    for region in explained.evidence.regions:
        assert abs(region.change) + abs(region.predicted) + region.gain < 1e-12
    assert found(explained)[0].startswith("No region decides alone: blurring any one of ")


def test_regions_volumes_and_several_labels():
    explained = explain(dense(), torch.from_numpy(image(8)), region="1,1,6,6", evidence="quick")
    assert explained.evidence.regions and explained.region is not None
    volumes = Classifier(
        Volumes().eval(), mean=(0.4, 0.5), std=(0.2, 0.3), channels=2, volumes=True
    )
    explained = explain(volumes, torch.rand(2, 6, 8, 10), evidence="quick")
    assert explained.evidence.units.shape == (6, 8, 10)
    assert found(explained) and make_feed(explained).targets[0].maps[0].kind == "regions"
    several = Classifier(small_cnn().double(), multi_label=True)
    assert quickly(several, image(), target=1).evidence.regions


def test_an_image_has_the_same_evidence_in_any_list_and_nothing_random_is_drawn():
    classifier = Classifier(small_cnn().double())
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    one = quickly(classifier, image(seed=2)).evidence
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])
    both = explain(classifier, [torch.from_numpy(image(seed=n)) for n in (3, 2)], evidence="quick")
    again = both[1].evidence
    assert np.array_equal(one.units, again.units)
    for name, first in one.maps.items():
        assert first.drop.pixels == pytest.approx(again.maps[name].drop.pixels, abs=1e-6)
        assert first.stability.pixels == pytest.approx(again.maps[name].stability.pixels, abs=1e-6)
    other = explain(classifier, torch.from_numpy(image(seed=2)), evidence="quick", seed=1)
    assert other.evidence.random != one.random


def test_the_words_of_the_first_region():
    explained = quickly(linear(), image())
    likely = dataclasses.replace(explained.target, probability=0.6)

    def said(change):
        top, *rest = explained.evidence.regions
        regions = (dataclasses.replace(top, change=change), *rest)
        held = dataclasses.replace(explained.evidence, regions=regions)
        return found(dataclasses.replace(explained, target=likely, evidence=held))[0]

    assert "points, the most of " in said(-0.061)
    assert said(-0.059).startswith("No region decides alone: ")
    assert said(-0.059).endswith(f"costs {likely.label} 5.9 points at most.")


def test_the_words_of_a_map():
    explained = quickly(linear(), image())
    evidence = explained.evidence
    one = dataclasses.replace(
        evidence.maps["positive"], stability=Views(0.12, 0.83), drop=Views(0.31, 0.2), rank=None
    )
    orders = tuple(Views(lost, 0.0) for lost in (0.03, 0.04, 0.05))

    def said(**changes):
        maps = {"positive": dataclasses.replace(one, **changes)}
        held = dataclasses.replace(evidence, maps=maps, random={"black": orders})
        return sentence(dataclasses.replace(explained, evidence=held), "positive")

    label = explained.target.label
    assert said() == (
        "Single pixels mean little here: noise moves them (0.12); the smoothed map is stable "
        f"(0.83). Blackening its top 5 % costs {label} 31 points, a random 5 % costs 4.0."
    )
    assert "Noise moves some of its single pixels (0.60); the smoothed map is steadier (0.70)" in (
        said(stability=Views(0.6, 0.7))
    )
    assert said(stability=Views(0.9, 0.95)).startswith(
        "Single pixels are stable under noise (0.90)."
    )
    assert said(drop=Views(0.04, 0.2)).endswith(
        f"costs {label} 4.0 points, no more than a random 5 % may cost (5.0)."
    )
    assert f"adds {label} 2.0 points" in said(drop=Views(-0.02, 0.2))
    assert said(rank=1).endswith("random weights none of 9 networks give a map that costs as much.")
    assert said(rank=4).endswith("random weights 3 of 9 networks give a map that costs as much.")


def test_the_rank_among_random_weights():
    evidence = quickly(linear(), image()).evidence
    assert evidence.networks == 9
    # Whatever the weights, no other order of a linear network's pixels costs its logit more.
    assert evidence.maps["positive"].rank <= 3
    assert quickly(linear(side=65), image(65)).evidence.networks == 0
    assert quickly(Classifier(Noise()), image(), target=0).evidence.networks == 0


def test_evidence_is_saved_and_read_again(tmp_path):
    explained = quickly(linear(), image())
    explained.save(tmp_path / "one")
    read = Explanation.load(tmp_path / "one").evidence
    assert np.array_equal(read.units, explained.evidence.units)
    for field in dataclasses.fields(read):
        if field.name != "units":
            assert getattr(read, field.name) == getattr(explained.evidence, field.name), field.name
    page = (tmp_path / "one/index.html").read_text()
    for words in ("Which regions the class depends on", "How far these maps can be believed"):
        assert words in page
    assert sentence(explained, "active") in page.replace("&#39;", "'")


def test_without_evidence_a_result_is_as_before(tmp_path):
    plain = explain(linear(), torch.from_numpy(image()))
    assert plain.evidence is None and not found(plain) and not [*map_rows(plain)]
    plain.save(tmp_path / "plain")
    marker = json.loads((tmp_path / "plain/chiaroscuro-explanation.json").read_text())
    assert "evidence" not in marker["result"]
    assert Explanation.load(tmp_path / "plain").evidence is None
    dataclasses.replace(quickly(linear(), image()), evidence=None).save(tmp_path / "left-out")
    for name in ("arrays.npz", "index.html", "chiaroscuro-explanation.json", "overview.webp"):
        assert (tmp_path / "plain" / name).read_bytes() == (
            tmp_path / "left-out" / name
        ).read_bytes()


def test_unknown_evidence_is_refused():
    with pytest.raises(ChoiceError, match="evidence 'much'.*none, quick, full"):
        explain(linear(), torch.from_numpy(image()), evidence="much")


def test_regions_that_hardly_matter_are_pale():
    explained = quickly(linear(), image())
    few = tuple(replace(one, change=one.change / 1000) for one in explained.evidence.regions)
    faint = replace(explained, evidence=replace(explained.evidence, regions=few))
    assert region_peak(faint) == max(0.01, 0.1 * explained.target.probability)
    light, strong = (region_picture(one).astype(int) for one in (faint, explained))
    color = [np.ptp(picture, axis=2).max() for picture in (light, strong)]
    assert color[0] < 5 < color[1]


def test_the_feed_has_the_regions_and_what_each_map_is_worth():
    explained = quickly(linear(), image())
    (target,) = make_feed(explained).targets
    regions, *maps = target.maps
    assert (regions.name, regions.kind) == ("regions", "regions")
    by_unit = {one.unit: one for one in explained.evidence.regions}
    assert [entry.value for entry in regions.regions] == [
        -by_unit[n].change for n in range(len(by_unit))
    ]
    values = region_values(explained.evidence)
    assert values[0, 0] == regions.regions[explained.evidence.units[0, 0]].value
    most = max(abs(one.value) for one in regions.regions)
    assert regions.peak == most == region_peak(explained) > 0.1 * explained.target.probability
    assert all(one.says == sentence(explained, one.name) for one in maps)
    assert make_feed(explain(linear(), array(0))).targets[0].maps[0].name == "original"
