"""What results show in a notebook: overlays by hand-computed pixels, HTML, axes, widgets."""

import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from chiaroscuro import Classifier, compare, explain, overlay, plot_maps, smallest_edit, what_if
from chiaroscuro.errors import ChoiceError
from chiaroscuro.render.pictures import BRIGHTER, DARKER
from tests.toys import small_cnn

mpl.use("agg")
LIMIT = 300_000


@pytest.fixture
def classifier():
    labels = ["a<b>", "cat, tabby", "dog", "cup", "crane"]
    return Classifier(small_cnn().double(), size=12, labels=labels)


@pytest.fixture
def photo(tmp_path):
    """A file of 48 x 24 px, of which the network sees the middle 24 x 24 at half size."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "<i>.png")
    return tmp_path / "<i>.png"


@pytest.fixture
def explained(classifier, photo):
    return explain(classifier, photo, maps=["original", "active", "inactive", "signed", "winner"])


def with_map(explained, name, values):
    return replace(explained, maps={**explained.maps, name: values})


def test_an_overlay_has_the_photo_s_size_and_its_pixels_outside_the_crop(explained, photo):
    shown = np.asarray(overlay(explained, "signed", in_gray=False))
    original = np.asarray(Image.open(photo))
    assert shown.shape == (24, 48, 3)
    np.testing.assert_array_equal(shown[:, :12], original[:, :12])
    np.testing.assert_array_equal(shown[:, 36:], original[:, 36:])


def test_an_overlay_covers_by_the_share_of_the_limit_in_the_hue_of_the_sign(explained, photo):
    """Two pixels of 12 x 12 at the limit, one of each sign, lie on 2 x 2 photo pixels each."""
    values = np.zeros((12, 12))
    values[0, 0], values[11, 11] = 2.0, -2.0
    shown = overlay(with_map(explained, "signed", values), "signed", smoothing=0)
    shown = np.asarray(shown).astype(int)
    gray = np.asarray(Image.open(photo).convert("L").convert("RGB"))
    expected = gray.astype(int).copy()
    expected[0:2, 12:14] = BRIGHTER
    expected[22:24, 34:36] = DARKER
    np.testing.assert_array_equal(shown, expected)


def test_half_opacity_is_half_way(explained, photo):
    values = np.full((12, 12), 1.0)
    shown = np.asarray(overlay(with_map(explained, "active", values), "active", opacity=0.5))
    gray = np.asarray(Image.open(photo).convert("L").convert("RGB")).astype(float)
    middle = (gray[10, 20] + np.array(BRIGHTER)) / 2
    np.testing.assert_allclose(shown[10, 20], middle, atol=1)


def test_top_keeps_the_highest_pixels_alone(explained, photo):
    values = np.arange(144.0).reshape(12, 12)
    shown = overlay(with_map(explained, "active", values), "active", smoothing=0, top=1 / 144)
    gray = np.asarray(Image.open(photo).convert("L").convert("RGB"))
    touched = (np.asarray(shown) != gray).any(axis=2)
    assert np.argwhere(touched).tolist() == [[22, 34], [22, 35], [23, 34], [23, 35]]


def test_an_empty_map_shows_the_photo_alone(explained, photo):
    shown = overlay(with_map(explained, "active", np.zeros((12, 12))), "active", in_gray=False)
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(Image.open(photo)))


def test_a_photo_that_is_gone_is_taken_from_the_explanation(explained, photo):
    before = np.asarray(overlay(explained, "signed"))
    photo.unlink()
    np.testing.assert_array_equal(np.asarray(overlay(explained, "signed")), before)


def test_a_padded_photo_is_covered_where_it_is_alone(classifier, photo):
    """The crop box of `pad` begins above the photo."""
    explained = explain(classifier, photo, maps="signed", fit="pad")
    assert explained.crop.top < 0
    assert overlay(explained, "signed").size == (48, 24)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"map": "activ"}, "activ"), ({"opacity": 1.5}, "opacity is 1.5"), ({"top": -1}, "top is -1")],
)
def test_a_wrong_choice_is_named(explained, options, words):
    with pytest.raises(ChoiceError, match=re.escape(words)):
        explained.overlay(**options)


def test_maps_become_axes_to_go_on_with(explained):
    import matplotlib.pyplot as plt

    axes = plot_maps(explained, ["active", "winner"])
    assert [ax.get_title() for ax in axes] == ["active", "winner"]
    np.testing.assert_array_equal(
        axes[0].images[0].get_array(), np.asarray(overlay(explained, "active"))
    )
    plt.close(axes[0].figure)
    _, own = plt.subplots()
    (same,) = explained.plot("signed", ax=own, over=False)
    assert same is own
    assert own.images[0].get_array().shape == (12, 12, 3)
    plt.close(own.figure)
    with pytest.raises(ChoiceError, match="give one a map"):
        plot_maps(explained, ["active", "signed"], axes=own)


def outputs(classifier, photo, explained):
    torch.manual_seed(1)
    other = Classifier(small_cnn().double(), size=12, labels=classifier.labels)
    yield explained
    yield what_if(classifier, photo, "active", 0.1)
    yield smallest_edit(classifier, photo)
    yield compare([classifier, other], photo)


def test_results_show_themselves_without_scripts_and_escaped(classifier, photo, explained):
    for result in outputs(classifier, photo, explained):
        shown = result._repr_html_()
        assert len(shown) < LIMIT
        assert "<script" not in shown
        assert "http" not in shown
        assert "<b>" not in re.sub(r"<b>([^<]*)</b>", r"\1", shown)
        assert "&lt;i&gt;.png" in shown
        assert ("a&lt;b&gt;" in shown) == (not hasattr(result, "pairs"))
        assert len(repr(result)) < 400


def test_large_results_stay_small(lite0):
    noise = np.random.default_rng(0).random((224, 224, 3), np.float32)
    explained = explain(lite0, noise, rivals="top:3", maps=["positive", "negative", "active",
                        "inactive", "original", "signed", "margin", "winner"])  # fmt: skip
    assert len(explained._repr_html_()) < LIMIT


def test_the_widget_has_the_feed_and_the_script(explained):
    widget = explained.widget()
    feed = widget.feed
    assert feed["title"] == "<i>.png"
    assert [m["name"] for m in feed["targets"][0]["maps"]] == list(explained.maps)
    assert "export default" in widget._esm
    widget.state = {"map": "active"}
    assert widget.state == {"map": "active"}
