"""Regions of photos: where they lie for the network, and the scores that they have there."""

import json
import re
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from chiaroscuro import (
    ChoiceError,
    Classifier,
    Explanation,
    ModelError,
    Region,
    class_gradients,
    compare,
    explain,
    what_if,
)
from chiaroscuro.choices import Framing
from chiaroscuro.classifier.regions import Detection, RegionScores
from chiaroscuro.errors import InputError
from chiaroscuro.explanations import replay
from chiaroscuro.explanations.comparison import Differences
from chiaroscuro.images import CropBox, frame, photo_from_image
from chiaroscuro.images.regions import box_mask, box_on_network, box_on_photo
from chiaroscuro.regions import parse_region
from chiaroscuro.render.pictures import OUTLINE
from chiaroscuro.report.explanation import comparison_sheet, write
from chiaroscuro.results.facts import RegionFacts
from chiaroscuro.viewer import make_feed
from tests.toys import all_class_gradients, random_pixels, small_cnn

K = 4
LABELS = ["sky", "grass", "cat", "dog"]


class Dense(nn.Module):
    """A small network with scores (B, K, H / stride, W / stride)."""

    def __init__(self, stride=1, wrap=lambda scores: scores, classes=K):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Conv2d(3, 6, 3, stride, 1)
        self.head = nn.Conv2d(6, classes, 1)
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.head(torch.tanh(self.body(x))))


class Given(nn.Module):
    """The same scores for every image, whatever its pixels."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, x):
        return self.scores.to(x).expand(len(x), -1, -1, -1) + 0 * x.sum((1, 2, 3), keepdim=True)


def dense(stride=1, size=None, **options):
    net = Dense(stride, **options).double()
    return Classifier(net, labels=LABELS, mean=0.4, std=0.3, size=size)


def on_pixels(scores, height, width):
    """Scores (K, h, w) at every pixel of (height, width), where each cell is so many pixels."""
    down, across = height // scores.shape[1], width // scores.shape[2]
    return scores.repeat_interleave(down, 1).repeat_interleave(across, 2)


# Where a region lies


@pytest.mark.parametrize(
    ("text", "corners"),
    [("1,2,3,4", (1, 2, 3, 4)), (" 1.5, 2 ,3,4e1", (1.5, 2, 3, 40)), ((1, 2, 3, 4), (1, 2, 3, 4))],
)
def test_boxes_are_read(text, corners):
    assert parse_region(text).corners == corners


def test_a_region_reads_its_own_words():
    for word in ("1,2,3.5,4", "predicted", "predicted:cat"):
        assert str(parse_region(word)) == word
    assert parse_region("predicted:cat").label == "cat"
    assert str(Region.detected(3)) == "box 3"
    assert str(Region.mask(np.ones((4, 6)))) == "mask 6x4"
    assert str(Region.mask("a/cat.png")) == "mask a/cat.png"
    assert str(Region.mask([[0, 1]])) == "mask list"
    assert str(Detection(0, "cat", 0.5, (-0.2, 1, 2, 3))) == "cat 50.0 % at 0,1,2,3"


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "a,b,c,d", "3,2,1,4", "1,4,3,4", "nan,0,1,1", "0,0,inf,1", 7, [1, 2]]
)
def test_other_regions_are_refused(text):
    with pytest.raises(ChoiceError, match="region is .*: expected left"):
        parse_region(text)


def test_only_one_kind_of_region_is_taken():
    classifier, image = dense(), np.zeros((8, 8, 3))
    with pytest.raises(ChoiceError, match="region and mask are given: choose the part"):
        explain(classifier, image, region="0,0,4,4", mask="cat.png")


framings = st.builds(
    lambda size, more, fit: Framing(
        size, tuple(s + m for s, m in zip(size, more, strict=True)), fit
    ),
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    st.sampled_from(["crop", "stretch", "pad"]),
)
ends = st.floats(-20, 80, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(framings, st.integers(2, 60), st.integers(2, 60), ends, ends, ends, ends)
def test_a_box_on_the_photo_and_in_the_network_is_one_box(framing, width, height, a, b, c, d):
    pixels, crop = frame(photo_from_image(Image.new("RGB", (width, height))), framing)
    shape = pixels.shape[1:]
    box = (min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1)
    inner = box_on_network(box, crop, shape)
    np.testing.assert_allclose(box_on_photo(inner, crop, shape), box, atol=1e-9)
    for y, x in np.ndindex(*shape):
        here = inner[0] <= x + 0.5 < inner[2] and inner[1] <= y + 0.5 < inner[3]
        edge = min(abs(x + 0.5 - e) for e in inner[::2]), min(abs(y + 0.5 - e) for e in inner[1::2])
        assert box_mask(box, crop, shape)[y, x] == here or min(edge) < 1e-9


def test_the_crop_of_the_photo_counts():
    """A photo 16 wide and 8 high, of which the middle 8 x 8 are seen as 4 x 4 pixels."""
    classifier = dense(size=4)
    part = classifier.in_region(Region.box(6, 2, 9, 8), Image.new("RGB", (16, 8)))
    # Middles lie at 5, 7, 9, 11 and 1, 3, 5, 7.
    assert np.argwhere(part.region.mask).tolist() == [[1, 1], [2, 1], [3, 1]]
    assert part.region.box == (1.0, 1.0, 2.5, 4.0)
    with pytest.raises(
        ChoiceError, match=r"has no pixel that the network sees: it sees 4,0,12,8 of"
    ):
        classifier.in_region(Region.box(0, 0, 4, 8), Image.new("RGB", (16, 8)))


def test_a_mask_is_of_the_photos_size(tmp_path):
    photo, mask = Image.new("RGB", (16, 8)), np.zeros((8, 16), np.uint8)
    mask[3, 7] = 200
    for given_mask in (mask, mask > 0, torch.from_numpy(mask)):
        part = dense(size=4).in_region(Region.mask(given_mask), photo)
        assert np.argwhere(part.region.mask).tolist() == [[1, 1]]
    Image.fromarray(mask).save(tmp_path / "a.png")
    assert np.argwhere(
        dense(size=4).in_region(Region.mask(tmp_path / "a.png"), photo).region.mask
    ).size
    with pytest.raises(InputError, match="8 x 8 px, its photo has 16 x 8"):
        dense(size=4).in_region(Region.mask(mask[:, :8]), photo)
    with pytest.raises(ChoiceError, match=r"mask has shape \(1, 8, 16\): expected \(H, W\)"):
        dense(size=4).in_region(Region.mask(mask[None]), photo)
    with pytest.raises(ChoiceError, match="has no pixel that the network sees"):
        dense(size=4).in_region(Region.mask(0 * mask), photo)


# Scores of a region


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_scores_are_means_over_the_pixels_of_the_region(stride):
    classifier, pixels = dense(stride), random_pixels(3, 3, 8, 12)
    part = classifier.in_region(Region.box(1, 2, 8, 5), pixels[0])
    scores = classifier.module((pixels - 0.4) / 0.3)
    wanted = torch.stack([on_pixels(each, 8, 12)[:, 2:5, 1:8].mean((1, 2)) for each in scores])
    torch.testing.assert_close(part(pixels), wanted, rtol=1e-12, atol=1e-12)


def test_cells_that_pixels_share_count_by_their_part():
    """Six rows and columns seen as four cells: on a grid of 12 both are whole."""
    scores = random_pixels(1, K, 4, 4, seed=2)
    mask = random_pixels(6, 6, seed=5) > 0.5
    net = Classifier(Given(scores))
    part = net.in_region(Region.mask(mask), torch.zeros(3, 6, 6, dtype=torch.float64))
    fine, inside = on_pixels(scores[0], 12, 12), on_pixels(mask[None], 12, 12)[0]
    wanted = torch.stack([each[inside].mean() for each in fine])
    pixels = torch.zeros(1, 3, 6, 6, dtype=torch.float32)
    torch.testing.assert_close(part(pixels)[0], wanted.float())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda scores: scores,
        lambda scores: OrderedDict(out=scores, aux=2 * scores),
        lambda scores: {"logits": scores},
        lambda scores: type("Output", (), {"logits": scores})(),
    ],
    ids=["tensor", "torchvision", "mapping", "transformers"],
)
def test_every_form_of_output_is_read(wrap):
    pixels, region = random_pixels(1, 3, 8, 8), Region.box(0, 0, 3, 3)
    part = dense(wrap=wrap).in_region(region, pixels[0])
    assert torch.equal(part(pixels), dense().in_region(region, pixels[0])(pixels))


def test_one_score_is_two_classes():
    net = Classifier(Dense(classes=1).double(), labels=["other", "tumor"])
    pixels = random_pixels(1, 3, 8, 8)
    part = net.in_region(Region.box(0, 0, 8, 8), pixels[0])
    score = net.module(pixels).mean((2, 3))
    torch.testing.assert_close(part(pixels), torch.cat([-score / 2, score / 2], 1))
    assert explain(net, pixels[0], region="predicted").logits.shape == (2,)


def layout(classes):
    """Scores whose winners are these classes."""
    return nn.functional.one_hot(torch.tensor(classes), K).permute(2, 0, 1)[None].double()


def test_a_predicted_region_is_where_the_class_wins():
    """A cell is two pixels wide and high; grass wins most cells, then sky, then one cell of cat."""
    scores = layout([[0, 0, 1], [0, 2, 1], [1, 1, 1]]) + 0.1 * random_pixels(1, K, 3, 3)
    net = Classifier(Given(scores), labels=LABELS)
    image = torch.zeros(3, 6, 6)
    cat = net.in_region(Region.predicted("cat"), image)
    assert np.argwhere(cat.region.mask).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    torch.testing.assert_close(cat(image[None])[0], scores[0, :, 1, 1].float())
    most = net.in_region(Region.predicted(), image)
    torch.testing.assert_close(
        most(image[None])[0], scores[0][:, layout_of(scores) == 1].mean(1).float()
    )
    assert most(image[None]).argmax() == 1
    with pytest.raises(ChoiceError, match="dog is predicted nowhere, most often grass"):
        net.in_region(Region.predicted("dog"), image)
    with pytest.raises(ChoiceError, match="unknown class 'bird'"):
        net.in_region(Region.predicted("bird"), image)


def layout_of(scores):
    return scores[0].argmax(0)


def test_without_a_picture_each_image_has_its_own_predicted_region():
    classifier, pixels = dense(2), random_pixels(3, 3, 8, 8)
    with torch.no_grad():
        classifier.module.head.bias[3] -= 100
    scores = classifier.module((pixels - 0.4) / 0.3)
    part = classifier.in_region(Region.predicted())
    for row, each in zip(part(pixels), scores, strict=True):
        winners = each.argmax(0)
        most = winners.flatten().bincount(minlength=K).argmax()
        torch.testing.assert_close(row, each[:, winners == most].mean(1))
    whole = classifier.in_region(Region.predicted("dog"))(pixels[:1])  # which is nowhere
    torch.testing.assert_close(whole[0], scores[0].mean((1, 2)))
    with pytest.raises(
        ChoiceError, match="region 1,2,3,4 is a part of one picture: give in_region"
    ):
        classifier.in_region(Region.box(1, 2, 3, 4))


def test_images_of_another_size_are_refused():
    part = dense().in_region(Region.box(0, 0, 2, 2), random_pixels(3, 8, 8))
    with pytest.raises(ModelError, match="region 0,0,2,2 and image have 8 x 8 and 6 x 6 px"):
        part(random_pixels(1, 3, 6, 6))


def test_the_network_stays_as_it_was():
    classifier = dense()
    before = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    part = classifier.in_region(Region.box(0, 0, 4, 4), random_pixels(3, 8, 8))
    assert part.network is classifier.module
    assert part.in_region(Region.predicted()).network is classifier.module
    assert classifier.region is None
    assert classifier.module.training
    assert all(torch.equal(v, before[n]) for n, v in classifier.module.state_dict().items())
    assert part.describe(digest=True).sha256 == classifier.describe(digest=True).sha256
    assert part.describe().region.startswith("0,0,4,4 (16 pixels, ")
    assert classifier.describe().region == ""


class Boxes(nn.Module):
    """Three boxes on images of 10 x 10 pixels; a box has its number as the score of each class."""

    def forward(self, x):
        sides = torch.tensor([[0, 0, 10, 8], [4, 4, 6, 6], [0, 9, 1, 10]]) / 10
        middles, sizes = (sides[:, :2] + sides[:, 2:]) / 2, sides[:, 2:] - sides[:, :2]
        boxes = torch.cat([middles, sizes], 1).expand(len(x), -1, -1)
        scores = torch.arange(3.0).to(x).view(1, 3, 1).expand(len(x), -1, K)
        return {"pred_boxes": boxes.to(x), "logits": scores}


@pytest.mark.parametrize(
    ("box", "number"),
    [((0, 0, 10, 10), 0), ((3.5, 3.5, 6.5, 6.5), 1), ((2, 9, 3, 10), 2), ((9, 8.5, 10, 9.5), 1)],
    ids=["overlap", "the box", "none, nearest", "none, middle"],
)
def test_a_box_is_found_by_its_overlap_then_by_its_middle(box, number):
    """The first has a nearer middle to the second box, but more of the first in common."""
    pixels = random_pixels(1, 3, 10, 10)
    part = Classifier(Boxes()).in_region(Region.box(*box), pixels[0])
    assert part(pixels)[0, 0] == number


@pytest.mark.parametrize("rivals", ["all", "top:2", "softmax"])
@pytest.mark.parametrize("region", [Region.box(1, 2, 8, 5), Region.predicted()], ids=str)
def test_class_gradients_of_a_region_are_autograds(region, rivals):
    classifier, pixels = dense(2), random_pixels(1, 3, 8, 12)
    part = classifier.in_region(region, pixels[0])
    gradients = class_gradients(part, pixels, rivals=rivals)
    every = all_class_gradients(part, pixels)
    target = int(gradients.target[0])
    torch.testing.assert_close(
        gradients.target_gradient[0], every[0, target], rtol=1e-9, atol=1e-12
    )
    if rivals == "all":
        others = torch.cat([every[0, :target], every[0, target + 1 :]])
        torch.testing.assert_close(gradients.rival_max[0], others.amax(0), rtol=1e-9, atol=1e-12)


# Explanations


@pytest.fixture
def photo(tmp_path):
    values = np.random.default_rng(1).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_an_explanation_is_of_its_region(photo):
    classifier = dense(2, size=8)
    made = explain(classifier, photo, region="5,1,11,9")
    part = classifier.in_region(Region.box(5, 1, 11, 9), photo)
    again = explain(part, photo)
    for one in (made, again):
        assert one.region.asked == "5,1,11,9"
        assert one.model.region == part.describe().region
        logits = part(classifier.preprocess(photo))[0].detach()
        np.testing.assert_allclose(one.logits, logits, rtol=1e-12, atol=1e-14)
    assert all(np.array_equal(made.maps[name], again.maps[name]) for name in made.maps)
    rows = np.flatnonzero(made.region.mask.any(1))
    beyond = made.maps["original"][rows[-1] + 2 :]
    assert beyond.size
    assert not beyond.any()  # what the network does not look at from inside
    assert explain(classifier.in_region(Region.predicted()), photo).region.mask.any()


def test_several_images_have_a_region_each(photo):
    classifier = dense(2, size=8)
    wide, tall = Image.new("RGB", (16, 8), "red"), Image.new("RGB", (8, 16), "red")
    a, b = explain(classifier, [wide, tall], region=(4, 4, 8, 8))
    assert np.argwhere(a.region.mask)[[0, -1]].tolist() == [[4, 0], [7, 3]]
    assert np.argwhere(b.region.mask)[[0, -1]].tolist() == [[0, 4], [3, 7]]
    alone = explain(classifier, tall, region=(4, 4, 8, 8))
    assert np.array_equal(alone.maps["signed"], b.maps["signed"])


def test_a_network_without_a_region_says_what_it_needs(photo):
    with pytest.raises(ModelError, match=r"returned shape \(1, 4, 8, 8\).*\(region, mask\)"):
        explain(dense(size=8), photo)
    with pytest.raises(ModelError, match=r"returned shape \(1, 5\): a region needs class scores"):
        explain(Classifier(small_cnn().double(), size=12), photo, region="predicted")
    with pytest.raises(ModelError, match="is no detector: choose a region or a mask"):
        explain(dense(size=8), photo, box=0)


def test_a_saved_region_is_replayed(photo, tmp_path):
    classifier = dense(2, size=8)
    for number, region in enumerate(("5,1,11,9", "predicted", Region.mask(np.eye(12, 20)))):
        folder = explain(classifier, photo, region=region).save(tmp_path / str(number))
        now, differences = replay(folder, classifier)
        assert differences == Differences(dict.fromkeys(now.maps, 0.0), 0.0, (), (), 1e-3)
        loaded = Explanation.load(folder)
        assert np.array_equal(loaded.region.mask, now.region.mask)
        assert loaded.region.box == now.region.box
    photo.unlink()  # the saved pixels have the same region
    _, differences = replay(folder, classifier)
    assert set(differences.maps.values()) == {0.0}


def test_a_what_if_keeps_the_region_of_the_untouched_photo(photo):
    classifier = dense(2, size=8)
    result = what_if(classifier, photo, "active", 0.5, "white", region="predicted")
    part = classifier.at(result.region)
    before, after = (torch.from_numpy(v)[None] for v in (result.pixels, result.edited))
    change = (part(after) - part(before))[0].detach().numpy()
    np.testing.assert_allclose(result.actual_change, change, atol=1e-12)
    assert result.model.region == part.describe().region


def test_classifiers_are_compared_in_one_region(photo, tmp_path):
    both = [dense(2, size=8), dense(1, size=8)]
    result = compare(both, photo, region="5,1,11,9", fill="black")
    first, second = result.explanations
    assert np.array_equal(first.region.mask, second.region.mask)
    logits = both[1].at(second.region)(both[1].preprocess(photo))[0].detach()
    np.testing.assert_allclose(second.logits, logits, rtol=1e-12, atol=1e-14)
    result.save(tmp_path / "both")
    page = (tmp_path / "both" / "index.html").read_text()
    assert "gradient of the logit in the outlined region (5,1,11,9)." in page
    for row in comparison_sheet(result).rows[:2]:
        for cell in (row.cells[1], *row.cells[3:]):
            assert (cell.pixels == OUTLINE).all(axis=-1).any()


def test_pages_and_feeds_draw_the_region(photo, tmp_path):
    classifier = dense(2, size=8)
    made = explain(classifier, photo, region="5,1,11,9")
    folder = made.save(tmp_path / "one", figure=True)
    page = (folder / "index.html").read_text()
    assert "in the outlined region (5,1,11,9)" in page
    assert '<path id="region" d="M' in page
    assert page.count('href="#region"') == 1 + len(made.maps)
    assert make_feed(made).targets[0].outline.startswith("M")
    whole = replace(made, region=None)
    write(whole, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert 'id="region"' not in page
    assert "outlined region" not in page
    assert make_feed(whole).targets[0].outline == ""


def test_the_outline_lies_on_the_photo():
    crop = CropBox(4, 0, 12, 8, 16, 8)
    made = explain(dense(size=4), Image.new("RGB", (16, 8), "red"), region="6,2,9,8")
    assert made.crop == crop
    path = make_feed(made).targets[0].outline
    assert sorted(re.findall("M[^M]*", path)) == ["M6 2H8", "M6 2V8", "M6 8H8", "M8 2V8"]


# Pictures as classes


def test_similarities_are_cosines():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).double()
    pictures, pixels = random_pixels(3, 3, 4, 4), random_pixels(2, 3, 4, 4, seed=8)
    like = Classifier(net, mean=0.5, std=0.5).similar_to(list(pictures))
    ours, theirs = (net((each - 0.5) / 0.5) for each in (pixels, pictures))
    wanted = torch.cosine_similarity(ours[:, None], theirs[None], dim=2)
    torch.testing.assert_close(like(pixels), wanted)
    assert like.labels == ("similar to picture 0", "similar to picture 1", "similar to picture 2")
    gradients = class_gradients(like, pixels, target=1)
    every = all_class_gradients(like, pixels)
    torch.testing.assert_close(gradients.target_gradient, every[:, 1], rtol=1e-9, atol=1e-12)


def test_one_picture_is_one_score(photo):
    net = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), size=8)
    like = net.similar_to([photo])
    assert like.labels == ("not similar to a.png", "similar to a.png")
    made = explain(like, np.full((8, 8, 3), 0.3), target="similar to a.png")
    assert np.allclose(made.maps["active"], made.maps["positive"])
    assert json.loads(json.dumps(made.model.origin)) == {"classes": ["similar to a.png"]}
    assert isinstance(RegionScores(net.module, RegionFacts("predicted")), nn.Module)
