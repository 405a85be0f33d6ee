"""Targets other than plain classes, in everything that takes a classifier."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from chiaroscuro import (
    Classifier,
    Region,
    class_gradients,
    confusions,
    deletion_curve,
    edit_map,
    explain,
    saliency_maps,
    what_if,
)
from chiaroscuro.checks import check
from chiaroscuro.checks.localization import localize
from chiaroscuro.edits import filled
from chiaroscuro.evaluation import evaluate
from tests.evaluation.toy import FAST, rows_of
from tests.models.clips import SIDE, clip
from tests.pictures import write_classes
from tests.toys import all_class_gradients, random_pixels

TEXTS = ["a cat", "a dog", "a bird"]


class Dense(nn.Module):
    """Scores at every position, curved in the pixels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body, self.head = nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(6, 3, 1)

    def forward(self, x):
        return {"out": 8 * self.head(torch.tanh(self.body(x)))}


class Boxes(nn.Module):
    """A left and a right box, whose scores are those of the pixels in them."""

    def __init__(self):
        super().__init__()
        self.dense = Dense()

    def forward(self, x):
        scores = self.dense(x)["out"]
        left, right = scores.chunk(2, dim=3)
        sides = torch.tensor([[0.25, 0.5, 0.5, 1], [0.75, 0.5, 0.5, 1]]).to(x)
        logits = torch.stack([left.mean((2, 3)), right.mean((2, 3))], dim=1)
        return {"pred_boxes": sides.expand(len(x), -1, -1), "logits": logits}


class Embedding(nn.Module):
    """Five numbers of an image."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.last = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 5)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)).mean((2, 3)))


@dataclass(frozen=True)
class Photos:
    """A folder of photos of three classes, and boxes on them."""

    data: Any
    boxes: Any
    first: Any


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_classes(folder / "data", TEXTS, 3, SIDE)
    boxes = {f"{name}/{n}.png": [[4, 2, 14, 12]] for name in TEXTS for n in range(3)}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return Photos(folder / "data", folder / "boxes.json", folder / "data" / TEXTS[0] / "0.png")


@cache
def classifier_of(kind, photos, folder):
    """A float64 classifier of 24 px images with that kind of target."""
    options = {"size": SIDE, "mean": 0.4, "std": 0.3}
    scores = Classifier(Dense().double(), labels=TEXTS, **options)
    match kind:
        case "texts":
            model, processor = clip(folder)
            return Classifier.from_clip(model.double(), processor, TEXTS)
        case "box":
            return scores.in_region(Region.box(3, 5, 12, 20), photos.first)
        case "predicted":
            return scores.in_region(Region.predicted())
        case "detection":
            boxes = Classifier(Boxes().double(), labels=TEXTS, **options)
            return boxes.in_region(Region.box(12, 0, 24, 24), photos.first)
    pictures = [photos.data / name / "1.png" for name in TEXTS]
    return Classifier(Embedding().double(), **options).similar_to(pictures)


KINDS = ("texts", "box", "predicted", "detection", "similarity")


@pytest.fixture(params=KINDS)
def classifier(request, photos, tmp_path_factory):
    return classifier_of(request.param, photos, tmp_path_factory.getbasetemp())


def test_gradients_are_autograds_and_classes_compete(classifier):
    pixels = random_pixels(2, 3, SIDE, SIDE, seed=5)
    found = class_gradients(classifier, pixels)
    every = all_class_gradients(classifier, pixels)
    for image, target in enumerate(found.target.tolist()):
        rivals = torch.cat([every[image, :target], every[image, target + 1 :]])
        for ours, plain in (
            (found.target_gradient, every[image, target]),
            (found.rival_max, rivals.amax(0)),
            (found.rival_min, rivals.amin(0)),
        ):
            torch.testing.assert_close(ours[image], plain, rtol=1e-8, atol=1e-11)
    active = saliency_maps(found, ["active"])["active"]
    assert ((active > 0) & (active < 1)).any()


def test_a_small_step_changes_the_logit_as_the_map_says(classifier, photos):
    result = what_if(classifier, photos.first, "active", 0.1, "+0.0001")
    assert result.actual == pytest.approx(result.predicted, rel=2e-2)
    pixels = classifier.preprocess(photos.first)
    expected = edit_map(classifier, pixels, "+0.0001")
    change = filled(pixels, "+0.0001") - pixels
    leaf = pixels.clone().requires_grad_(True)
    classifier(leaf).log_softmax(dim=1).max().backward()
    torch.testing.assert_close(expected, -(leaf.grad * change).sum(1), rtol=1e-7, atol=1e-12)


def test_an_explanation_is_saved_and_read(classifier, photos, tmp_path):
    explanation = explain(classifier, photos.first, target=1)
    explanation.save(tmp_path / "out")
    again = type(explanation).load(tmp_path / "out")
    assert again.target.label == classifier.label(1)
    np.testing.assert_array_equal(again.maps["active"], explanation.maps["active"])
    assert "TypeError" not in (tmp_path / "out" / "index.html").read_text()


def test_a_set_is_evaluated_as_its_images_are(classifier, photos, tmp_path):
    result = evaluate(classifier, photos.data, tmp_path / "out", maps=("active",), **FAST)
    assert result.data.images == 9
    rows = rows_of(tmp_path / "out").to_pylist()
    pixels = classifier.preprocess(photos.first)
    maps = saliency_maps(class_gradients(classifier, pixels), ["active"])
    curve = deletion_curve(classifier, pixels, maps["active"], "black")
    keys = {"id": f"{TEXTS[0]}/0.png", "protocol": "paper", "map": "active", "fill": "black"}
    (row,) = [r for r in rows if all(r[name] == value for name, value in keys.items())]
    assert row["predicted"] == int(classifier(pixels).argmax())
    np.testing.assert_allclose(row["logit"], curve.logit[0], rtol=1e-6)
    np.testing.assert_array_equal(row["allegiance"], curve.allegiance[0])


def test_its_maps_hang_on_weights_and_point_somewhere(classifier, photos, tmp_path):
    checked = check(
        classifier, photos.data, tmp_path / "check", maps=("active",), batch=4, resamples=60
    )
    (one,) = checked.maps
    assert one.cascade[-1].similarity.correlation.value < 0.9  # the weights inside were drawn again
    assert one.other_class.similarity.correlation.value < 0.9
    found = localize(
        classifier, photos.data, photos.boxes, tmp_path / "where", maps=("active",),
        resamples=50, flips=99,
    )  # fmt: skip
    assert found.data.images == 9


def test_its_classes_compete_over_a_set(classifier, photos, tmp_path):
    found = confusions(classifier, photos.data, tmp_path / "out", resamples=50, pairs=1)
    assert found.data.images == 9
    for kept in found.classes:
        rivals = [pair for pair in found.pairs if pair.target == kept.target]
        shares = kept.share.value + sum(pair.share.value for pair in rivals)
        assert 0.1 < shares < 1 + 1e-9  # all but the values that the scores do not depend on
