"""Inputs that are no photos: other channels, 16 bits, normalized batches, volumes, NumPy files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

from chiaroscuro import (
    ChoiceError,
    Classifier,
    Explanation,
    ImageError,
    ModelError,
    WhatIf,
    choices,
    class_gradients,
    compare,
    deletion_curve,
    edit_map,
    explain,
    localization,
    map_similarity,
    what_if,
)
from chiaroscuro.classifier.reading import Given
from chiaroscuro.edits import filled
from chiaroscuro.explanations import replay
from chiaroscuro.gradients import Method
from chiaroscuro.models.folder import load, save_classifier
from chiaroscuro.notebook import html, overlay
from chiaroscuro.render.shown import flat, middle_slices, pictured, shown_pixels
from chiaroscuro.results import facts_of
from chiaroscuro.viewer import make_feed
from tests.toys import Linear, all_class_gradients, random_pixels, small_cnn

SENTINEL = {"channels": 13, "shown": (3, 2, 1)}


def bands(channels, **more):
    """A float64 network of so many channels, normalized per channel."""
    mean, std = np.linspace(0.1, 0.5, channels), np.linspace(0.2, 0.4, channels)
    net = small_cnn(channels=channels).double().eval()
    return Classifier(net, mean=mean.tolist(), std=std.tolist(), channels=channels, **more)


class Volumes(nn.Module):
    """A network of volumes with every kind of layer that has one for them."""

    def __init__(self, channels=2, classes=4):
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(
            nn.Conv3d(channels, 4, 3, padding=1),
            nn.BatchNorm3d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(2),
            nn.Conv3d(4, 6, 2),
            nn.ReLU(),
            nn.AvgPool3d(2, 1),
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(6, classes, 1),
        ).double()
        self.net[1].running_var.mul_(0.5)
        self.net[1].running_mean.add_(0.1)

    def forward(self, x):
        return {"out": self.net(x)}  # (B, K, 1, 1, 1)


SIDES = (6, 8, 10)


class Unfolded(nn.Module):
    """The same network for images (B, C, D H, W): what a volume must agree with, value by value."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.unflatten(2, SIDES[:2]))


@pytest.fixture
def volumes():
    return Classifier(Volumes().eval(), mean=(0.4, 0.5), std=(0.2, 0.3), channels=2, volumes=True)


@pytest.fixture
def unfolded(volumes):
    return Classifier(Unfolded(volumes.module), mean=(0.4, 0.5), std=(0.2, 0.3), channels=2)


def folded(values):
    """Volumes (..., D, H, W) as images (..., D H, W)."""
    return values.flatten(-3, -2)


# Channels


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_gradients_and_maps_of_any_channels_are_autograds(channels):
    classifier, x = bands(channels), random_pixels(2, channels, 12, 14)
    wanted = all_class_gradients(classifier.logits, x)
    made = class_gradients(classifier, x, target=[1, 3])
    assert_close(made.target_gradient, torch.stack([wanted[0, 1], wanted[1, 3]]))
    found = explain(classifier, x[0].movedim(0, -1).numpy(), target=1, maps=["original", "active"])
    assert_close(
        torch.from_numpy(found.maps["original"]), wanted[0, 1].abs().amax(0), rtol=1e-5, atol=1e-6
    )
    rivals = torch.cat([wanted[0, :1], wanted[0, 2:]]).amax(dim=0)
    active = torch.where(wanted[0, 1] > rivals, wanted[0, 1].abs(), 0).amax(dim=0)
    assert_close(torch.from_numpy(found.maps["active"]), active, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_arrays_have_channels_last_and_tensors_first(channels):
    classifier, x = bands(channels), random_pixels(channels, 12, 14).float()
    one, other = explain(classifier, x), explain(classifier, x.movedim(0, -1).numpy())
    assert np.array_equal(one.pixels, other.pixels)
    assert one.maps["signed"].shape == (12, 14)
    with pytest.raises(ImageError, match=r"pixels have 14 channels \(shape \(14, \d+, 12\)\): Seq"):
        explain(bands(channels), x.numpy())


def test_three_channels_of_many_are_shown_and_the_result_says_which(tmp_path):
    x = random_pixels(13, 12, 14).float()
    found = explain(bands(**SENTINEL), x)
    assert found.model.shown == (3, 2, 1)
    assert found.model.channels == 13
    expected = np.rint(255 * x[[3, 2, 1]].numpy()).transpose(1, 2, 0)
    assert np.array_equal(found.photo, expected)
    said = "pictures show channels 3, 2, 1 of 0 to 12, as red, green and blue; maps take all"
    assert found.notes == (said,)
    found.save(tmp_path / "a")
    back = Explanation.load(tmp_path / "a")
    assert back.model == found.model
    assert np.array_equal(back.pixels, found.pixels)
    page = (tmp_path / "a" / "index.html").read_text()
    assert said in page
    assert "13, shown: 3, 2, 1" in page
    now, differences = replay(tmp_path / "a", bands(channels=13, shown=0))
    assert differences.same, differences
    assert np.array_equal(now.photo[..., 0], np.rint(255 * x[0].numpy()))


@pytest.mark.parametrize(
    ("channels", "shown", "expected"),
    [
        (1, None, ()), (2, None, (0,)), (3, None, ()), (4, None, (0, 1, 2)), (13, None, (0, 1, 2)),
        (13, 7, (7,)), (3, [2, 1, 0], (2, 1, 0)), (4, (3, 3, 3), (3, 3, 3)),
    ],
)  # fmt: skip
def test_which_channels_are_shown(channels, shown, expected):
    assert Classifier(nn.Flatten(), channels=channels, shown=shown).shown == expected


@pytest.mark.parametrize("shown", [(0, 1), 13, -1, (0, 1, 13)])
def test_channels_that_cannot_be_shown_are_refused(shown):
    with pytest.raises(ChoiceError, match=r"shown is .*: expected one channel or three, from 0 to"):
        Classifier(nn.Flatten(), channels=13, shown=shown)


def test_one_channel_is_shown_gray_and_no_note_says_so():
    x = random_pixels(1, 12, 14).float()
    found = explain(bands(1), x)
    assert (found.photo == np.rint(255 * x[0].numpy())[..., None]).all()
    assert found.notes == ()
    assert explain(bands(1), Image.new("RGB", (12, 12), "red")).pixels.shape == (1, 12, 12)


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_a_photo_for_other_channels_is_one_line(channels):
    with pytest.raises(ImageError, match=rf"image: a photo has 3 channels, the network {channels}"):
        explain(bands(channels), Image.new("RGB", (12, 12)))


def test_what_if_and_comparison_of_many_channels_are_drawn(tmp_path):
    x = random_pixels(13, 12, 14).float()
    change = what_if(bands(**SENTINEL), x, "positive", 0.1, "black")
    assert change.edited.shape == (13, 12, 14)
    assert change.selected == 17
    drawn = pictured(change)
    assert np.array_equal(drawn.edited, change.edited[[3, 2, 1]])
    assert pictured(drawn) is drawn
    change.save(tmp_path / "change")
    assert facts_of(WhatIf.load(tmp_path / "change")) == facts_of(change)
    both = compare([bands(**SENTINEL), bands(13, shown=5)], x, fill="black")
    both.save(tmp_path / "both")
    for shown in (change, both):
        assert html(shown)


# 16 bits


@pytest.mark.parametrize(("highest", "white"), [(60000, 65535), (4000, 4095), (200, 255)])
@pytest.mark.parametrize("form", ["png", "tiff", "array", "npy"])
def test_16_bits_are_scaled_by_a_range_that_the_result_says(tmp_path, form, highest, white):
    values = (random_pixels(12, 14).numpy() * highest).astype(np.uint16)
    values[3, 5] = highest
    given = values
    if form == "npy":
        np.save(given := tmp_path / "a.npy", values)
    elif form != "array":
        Image.fromarray(values).save(given := tmp_path / f"a.{form}")
    found = explain(bands(1), given)
    assert found.pixels[0] == pytest.approx(values / white, abs=1e-6)
    assert found.image.white == white
    assert found.image.is_file == (form != "array")
    found.save(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "chiaroscuro-explanation.json").read_text())
    assert record["result"]["image"]["white"] == white
    assert Explanation.load(tmp_path / "out").image == found.image
    assert f"0 to {white}" in (tmp_path / "out" / "index.html").read_text()
    assert replay(tmp_path / "out", bands(1))[1].same


def test_16_bits_of_color_arrays_keep_their_depth():
    values = (random_pixels(12, 14, 3).numpy() * 65535).astype(np.uint16)
    found = explain(bands(3), values)
    assert found.pixels == pytest.approx((values / 65535).transpose(2, 0, 1), abs=1e-7)
    assert found.image.notes == ("16-bit values",)
    assert explain(bands(3), values // 4).image.notes == (
        f"16-bit values, values up to {values.max() // 4} of 65535",
    )


def test_8_bits_and_floats_have_no_range_of_their_own():
    assert explain(bands(3), np.zeros((12, 12, 3), np.uint8)).image.white is None
    assert explain(bands(3), np.zeros((12, 12, 3))).image.white is None


@pytest.mark.parametrize("data", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_broken_numpy_file_is_one_line(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.npy: no readable NumPy array \(") as caught:
        explain(bands(3), tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


def test_a_numpy_file_of_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match="no readable NumPy array"):
        explain(bands(3), tmp_path / "a.npy")


# Normalized batches


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalized(x):
    return (x - x.new_tensor(MEAN).view(-1, 1, 1)) / x.new_tensor(STD).view(-1, 1, 1)


def linear(seed=0):
    weights = torch.randn(4, 3, 6, 8, generator=torch.Generator().manual_seed(seed)).double()
    return Linear(weights)


def test_a_pixel_that_is_brighter_changes_the_logit_by_the_maps_number():
    net = linear()
    classifier = Classifier(net, mean=MEAN, std=STD, normalized=True)
    x = random_pixels(3, 6, 8) * 0.9
    found = explain(classifier, normalized(x), target=2, maps=["positive", "negative"])
    # By hand: the logit is sum_c w_c (x_c - mean_c) / std_c, so 1/255 more gives w / std / 255.
    by_hand = net.weights[2].detach() / torch.tensor(STD).double().view(-1, 1, 1)
    assert_close(torch.from_numpy(found.maps["positive"]), by_hand.relu().amax(0))
    assert_close(torch.from_numpy(found.maps["negative"]), (-by_hand).relu().amax(0))
    row, column = np.unravel_index(found.maps["positive"].argmax(), (6, 8))
    channel = int(by_hand[:, row, column].argmax())
    brighter = x.clone()
    brighter[channel, row, column] += 1 / 255
    with torch.no_grad():
        before, after = (net(normalized(each)[None])[0, 2] for each in (x, brighter))
    assert_close(float(after - before), float(found.maps["positive"][row, column]) / 255)


@pytest.mark.parametrize("fill", ["black", "white", "+0.05", "-0.05", "mean"])
def test_edits_of_normalized_input_are_made_in_pixels(fill):
    net, x = linear(), random_pixels(3, 6, 8)
    classifier = Classifier(net, mean=MEAN, std=STD, normalized=True)
    change = what_if(classifier, normalized(x), "active", 0.25, fill, target=1)
    assert_close(torch.from_numpy(change.pixels), x, rtol=1e-5, atol=1e-6)
    edited = {
        "black": torch.zeros_like(x), "white": torch.ones_like(x),
        "+0.05": (x + 0.05).clamp(max=1), "-0.05": (x - 0.05).clamp(min=0),
        "mean": x.mean((1, 2), keepdim=True).expand_as(x),
    }[fill]  # fmt: skip
    wanted = torch.where(torch.from_numpy(change.changed), edited, x)
    with torch.no_grad():
        real = (net(normalized(wanted)[None]) - net(normalized(x)[None]))[0, 1]
    assert change.actual == pytest.approx(float(real), rel=1e-4)
    assert change.predicted == pytest.approx(change.actual, rel=1e-4)


def test_normalized_input_gives_the_explanation_of_its_pixels(tmp_path):
    x = random_pixels(2, 3, 12, 14).float()
    net = small_cnn().double()
    plain = Classifier(net, mean=MEAN, std=STD)
    given = Classifier(net, mean=MEAN, std=STD, normalized=True)
    for one, other in zip(explain(given, normalized(x)), explain(plain, x), strict=True):
        assert_close(one.pixels, other.pixels, rtol=1e-5, atol=1e-6)
        assert_close(one.maps["original"], other.maps["original"], rtol=1e-4, atol=1e-5)
        assert one.image.notes == ("values were normalized: pixels are values * std + mean",)
    assert_close(given.preprocess(normalized(x)), plain.preprocess(x), rtol=1e-5, atol=1e-6)
    one.save(tmp_path / "a")
    assert replay(tmp_path / "a", given)[1].same
    photo = Image.new("RGB", (12, 14), "red")
    assert np.array_equal(explain(given, photo).pixels, explain(plain, photo).pixels)


def test_half_precision_may_round_beyond_the_range_and_no_more():
    classifier = Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(108, 3)), mean=MEAN, std=STD, normalized=True
    )
    x = torch.ones(3, 6, 6)
    assert explain(classifier, normalized(x).half()).pixels.max() <= 1
    with pytest.raises(
        ImageError, match=r"normalized values of pixels from 1\.1 to 1\.1: expected"
    ):
        explain(classifier, normalized(1.1 * x))
    with pytest.raises(ImageError, match="image has 1 channels, mean and std 3"):
        explain(classifier, torch.zeros(1, 6, 6))
    with pytest.raises(ImageError, match="normalized values of pixels from nan"):
        explain(classifier, torch.full((3, 6, 6), torch.nan))
    assert np.array_equal(explain(classifier, Given(x.numpy().T, is_pixels=True)).pixels, x.numpy())


def test_normalized_needs_mean_or_std():
    with pytest.raises(ChoiceError, match="normalized is True: give the mean and std"):
        Classifier(nn.Flatten(), normalized=True)


# Sizes


def test_photos_of_several_sizes_for_a_network_that_takes_any(tmp_path):
    sides = [(14, 20), (20, 14), (14, 20), (33, 12)]
    photos = [
        Image.fromarray(np.uint8(255 * random_pixels(h, w, 3, seed=h).numpy())) for w, h in sides
    ]
    found = explain(bands(3), photos)
    for side, photo, one in zip(sides, photos, found, strict=True):
        assert one.maps["signed"].shape == side[::-1]
        alone = explain(bands(3), photo)
        assert_close(one.maps["signed"], alone.maps["signed"], rtol=1e-6, atol=1e-9)
        one.save(tmp_path / str(side), overwrite=True)
    assert overlay(found[3]).size == (33, 12)


# Volumes


def test_gradients_of_volumes_are_autograds(volumes):
    x = random_pixels(2, 2, *SIDES)
    wanted = all_class_gradients(volumes.logits, x)
    made = class_gradients(volumes, x, target=[0, 3], argmax=True)
    assert_close(made.target_gradient, torch.stack([wanted[0, 0], wanted[1, 3]]))
    assert_close(made.rival_max, torch.stack([wanted[0, 1:].amax(0), wanted[1, :3].amax(0)]))
    assert torch.equal(
        made.rival_argmax, torch.stack([wanted[0, 1:].argmax(0) + 1, wanted[1, :3].argmax(0)])
    )


BALANCED = [name for name in choices.METHODS if "balanced" in name]
BY_POINTS = [n for n, row in choices.METHODS.items() if not row.captum and n not in BALANCED]


@pytest.mark.parametrize("name", BALANCED)
def test_what_a_balanced_gradient_has_no_rule_for_is_one_line(volumes, name):
    with pytest.raises(
        ModelError, match="no balanced gradient of Volumes: MaxPool3D.* has no rule"
    ):
        class_gradients(volumes, random_pixels(1, 2, *SIDES), method=name)


@pytest.mark.parametrize("name", BY_POINTS)
def test_every_method_takes_volumes(volumes, unfolded, name):
    x, background = random_pixels(2, 2, *SIDES), random_pixels(3, 2, *SIDES, seed=4)
    row = choices.METHODS[name]

    def made(classifier, x, background):
        method = Method(
            name, points=row.points and 4, background=background if row.background else None
        )
        return class_gradients(classifier, x, 1, method=method, argmax=True)

    one, other = made(volumes, x, background), made(unfolded, folded(x), folded(background))
    for field in ("target_gradient", "rival_max", "rival_min", "rival_argmax"):
        assert_close(folded(getattr(one, field)), getattr(other, field), rtol=1e-9, atol=1e-12)


def test_methods_through_captum_refuse_volumes(volumes):
    with pytest.raises(ChoiceError, match="'lrp' runs through Captum: it is for images alone"):
        class_gradients(volumes, random_pixels(1, 2, *SIDES), method="lrp")


@pytest.mark.parametrize("name", choices.EDIT_MAPS)
@pytest.mark.parametrize("fill", ["black", "white", "mean", "noise", "+0.1", "-0.1"])
def test_edit_maps_of_volumes(volumes, unfolded, name, fill):
    x = random_pixels(2, 2, *SIDES)
    points = 2 if name == "any-change" else 6  # its others are blurs, along D too
    one = edit_map(volumes, x, fill, name, points)
    other = edit_map(unfolded, folded(x), fill, name, points)
    assert_close(folded(one), other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("protocol", choices.PROTOCOLS)
def test_deletion_of_voxels(volumes, unfolded, protocol):
    x = random_pixels(2, 2, *SIDES)
    values = class_gradients(volumes, x).target_gradient.relu().amax(dim=1)
    fractions = [0, 0.1, 0.3, 0.6]
    one = deletion_curve(volumes, x, values, "mean", fractions, protocol=protocol)
    other = deletion_curve(
        unfolded, folded(x), folded(values), "mean", fractions, protocol=protocol
    )
    assert_close(one.logit, other.logit)
    assert torch.equal(one.removed, other.removed)
    changed = [round(share * 480) for share in fractions]
    assert protocol == "paper" or one.removed.tolist() == [changed] * 2


def test_what_if_of_voxels(volumes, unfolded):
    x = random_pixels(2, *SIDES).float()
    volumes.to(torch.float32)
    one, other = (
        what_if(classifier, given, "active", 0.1, "white")
        for classifier, given in ((volumes, x), (unfolded, folded(x)))
    )
    assert one.changed.shape == SIDES
    assert np.array_equal(one.changed.reshape(48, 10), other.changed)
    assert one.selected == 48
    assert (one.predicted, one.actual) == pytest.approx((other.predicted, other.actual), rel=1e-4)
    own = what_if(volumes, x, np.arange(480.0).reshape(SIDES), 0.1, "black")
    assert own.changed[-1, -4:].any() and not own.changed[0].any()


def test_blur_of_volumes_goes_along_all_three_axes():
    x = random_pixels(1, 2, 9, 8, 10)
    sigma = 0.1 * 8
    reach = 3
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    wanted = x.numpy()
    for axis in (2, 3, 4):
        pad = [(reach, reach) if a == axis else (0, 0) for a in range(5)]
        padded = np.pad(wanted, pad, mode="reflect")
        wanted = sum(
            w * np.take(padded, range(i, i + x.shape[axis]), axis) for i, w in enumerate(weights)
        )
    assert_close(filled(x, "blur:0.1"), torch.from_numpy(wanted), rtol=1e-6, atol=1e-8)


def test_similarity_and_localization_of_volumes():
    x = random_pixels(2, 2, *SIDES)
    values = random_pixels(2, *SIDES, seed=1)
    same = map_similarity(values, values**3, x)
    assert same.correlation.tolist() == same.overlap.tolist() == [1.0, 1.0]
    region = torch.zeros(2, *SIDES, dtype=torch.bool)
    region[0, 2, 3, 4] = region[1, 3, 4, 5] = True
    values[0, 2, 3, 4], values[1, 2, 3, 4] = 2.0, 2.0  # a hit, and one voxel off along each axis
    assert localization(values, region).hit.tolist() == [1.0, 0.0]
    assert localization(values, region, 1).hit.tolist() == [1.0, 1.0]
    assert localization(values, region, 1).chance_hit.tolist() == [27 / 480] * 2
    assert localization(values, region).center_hit.tolist() == [0.0, 1.0]


def test_a_volume_in_every_form(volumes, tmp_path):
    x = random_pixels(2, *SIDES).float()
    last = x.movedim(0, -1).numpy()
    np.save(tmp_path / "scan.npy", last)
    forms = [x, x[None], last, tmp_path / "scan.npy", str(tmp_path / "scan.npy")]
    found = [explain(volumes, form) for form in forms]
    for one in found:
        assert one.pixels.shape == (2, *SIDES)
        assert np.array_equal(one.maps["signed"], found[0].maps["signed"])
        assert one.maps["signed"].shape == SIDES
    assert [one.image.source for one in found[2:]] == ["array", *[str(tmp_path / "scan.npy")] * 2]
    several = explain(volumes, torch.stack([x, 1 - x]))
    assert [one.pixels.shape for one in several] == [(2, *SIDES)] * 2
    batch = volumes.preprocess(torch.stack([x, 1 - x]))
    assert_close(batch, torch.stack([x, 1 - x]).double())
    one_channel = Classifier(Volumes(channels=1), channels=1, volumes=True)
    assert explain(one_channel, last[..., 0]).pixels.shape == (1, *SIDES)


def test_a_saved_volume_is_the_same_and_shows_its_middle_slices(volumes, tmp_path):
    found = explain(volumes, random_pixels(2, *SIDES), maps=[*choices.EXPLAIN_MAPS, "winner"])
    assert repr(found).startswith("<Explanation of array: class ")
    assert "6 x 8 x 10 px" in repr(found)
    found.save(tmp_path / "a", figure=True)
    back = Explanation.load(tmp_path / "a")
    assert facts_of(back) == facts_of(found)
    assert back.model.volumes
    assert all(np.array_equal(back.maps[name], found.maps[name]) for name in found.maps)
    page = (tmp_path / "a" / "index.html").read_text()
    assert "pictures show the middle slices of 6 x 8 x 10 voxels (D x H x W)" in page
    assert "6 x 8 x 10 voxels" in page
    assert replay(tmp_path / "a", volumes)[1].same
    feed = make_feed(found)
    height, width = middle_slices(found.maps["signed"]).shape
    assert {(m.height, m.width) for m in feed.targets[0].maps} == {(height, width)}
    assert found.photo.shape == (height, width, 3)
    assert overlay(found, "active").size == (width, height)
    assert "voxels" in html(found)
    change = what_if(volumes, random_pixels(2, *SIDES), "active", 0.05, "white")
    change.save(tmp_path / "b")
    assert html(WhatIf.load(tmp_path / "b"))
    compare([volumes, volumes], random_pixels(2, *SIDES)).save(tmp_path / "c")


def test_where_the_middle_slices_lie():
    values = random_pixels(*SIDES).numpy()
    drawn = middle_slices(values, -1)
    gap = drawn.shape[0] - 8 - 6
    assert drawn.shape == (8 + gap + 6, 10 + gap + 6)
    assert np.array_equal(drawn[:8, :10], values[3])
    assert np.array_equal(drawn[:8, -6:], values[:, :, 5].T)
    assert np.array_equal(drawn[-6:, :10], values[:, 4])
    assert (drawn[8 : 8 + gap] == -1).all() and (drawn[:, 10 : 10 + gap] == -1).all()
    assert (drawn[-6:, -6:] == -1).all()
    assert flat(values[0]) is not None and flat(values[0]).shape == (8, 10)
    pixels = random_pixels(5, *SIDES).numpy()
    assert np.array_equal(shown_pixels(pixels, (4, 0, 2))[1], middle_slices(pixels[0], 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Image.new("RGB", (12, 12)), "image: a photo, where Volumes takes volumes: give an array"),
        (
            torch.zeros(3, *SIDES),
            r"pixels have 3 channels \(shape \(3, 6, 8, 10\)\): Volumes expects",
        ),
        (
            torch.zeros(8, 10),
            r"image has shape \(8, 10\): expected an array \(D, H, W\) or \(D, H,",
        ),
    ],
)
def test_what_is_no_volume_is_one_line(volumes, given, message):
    with pytest.raises(ImageError, match=message):
        explain(volumes, given)


def test_axes_that_do_not_fit_the_classifier_are_refused(volumes):
    with pytest.raises(ImageError, match=r"\(2, 8, 10\): Volumes expects \(C, D, H, W\)$"):
        volumes(random_pixels(1, 2, 8, 10))
    with pytest.raises(
        ImageError, match=r"Volumes expects \(C, H, W\); Classifier\(\.\.\., volumes=T"
    ):
        Classifier(Volumes(), channels=2)(random_pixels(1, 2, *SIDES))
    with pytest.raises(ChoiceError, match=r"size is \(8, 8\): volumes are taken at their own size"):
        Classifier(Volumes(), channels=2, volumes=True, size=8)


def test_a_saved_classifier_keeps_how_it_is_fed(tmp_path):
    from chiaroscuro.models import folder

    net = folder.basic_cnn(4)
    classifier = Classifier(net, mean=0.5, std=0.25, shown=(2, 1, 0), normalized=True)
    back = load(
        save_classifier(
            classifier, tmp_path / "net", architecture="basic-cnn", arguments={"classes": 4}
        )
    )
    assert (back.shown, back.volumes, back.normalized) == ((2, 1, 0), False, True)
