"""Fills: what a pixel becomes, exactly."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chiaroscuro import Classifier, choices, deletion_curve, edit_map
from chiaroscuro.choices import Fill, parse_fill
from chiaroscuro.edits import FILLS, filled
from chiaroscuro.errors import ChoiceError, ImageError
from chiaroscuro.settings import EvaluationSettings
from tests.toys import random_pixels, small_cnn

WORDS = ["black", "white", "mean", "blur", "blur:0.2", "noise", "brighter:0.25", "darker:0.25"]


def test_constant_fills_by_hand():
    pixels = torch.tensor([[0.0, 0.5], [0.9, 1.0]]).reshape(1, 1, 2, 2)
    assert filled(pixels, "black").flatten().tolist() == [0, 0, 0, 0]
    assert filled(pixels, "white").flatten().tolist() == [1, 1, 1, 1]
    assert filled(pixels, "mean").flatten().tolist() == pytest.approx([0.6] * 4)
    assert filled(pixels, "+0.25").flatten().tolist() == pytest.approx([0.25, 0.75, 1, 1])
    assert filled(pixels, "-0.25").flatten().tolist() == pytest.approx([0, 0.25, 0.65, 0.75])


def test_the_mean_is_each_channels_own():
    pixels = torch.stack([torch.full((4, 4), 0.2), torch.full((4, 4), 0.8)])[None]
    pixels[0, 0, 0, 0] = 1.0
    assert filled(pixels, "mean")[0, :, 2, 2].tolist() == pytest.approx([0.25, 0.8])


def test_blur_is_a_gaussian_of_the_said_width():
    pixels = torch.zeros(1, 1, 41, 61, dtype=torch.float64)
    pixels[0, 0, 20, 30] = 1
    found = filled(pixels, Fill("blur", 0.05))[0, 0]
    sigma = 0.05 * 41
    y, x = torch.meshgrid(torch.arange(41.0), torch.arange(61.0), indexing="ij")
    bell = torch.exp(-((y - 20) ** 2 + (x - 30) ** 2) / (2 * sigma**2)).double()
    assert (found - bell / bell.sum()).abs().max() < 2e-4  # the bell's tails are cut at 3 sigma
    flat = torch.full((1, 3, 5, 5), 0.3)
    assert torch.allclose(filled(flat, "blur:1"), flat)


def test_noise_belongs_to_the_image_and_the_seed():
    pixels = random_pixels(4, 3, 8, 8, dtype=torch.float32)
    noise = filled(pixels, "noise", seed=3)
    assert torch.equal(noise, filled(pixels, "noise", seed=3))
    assert torch.equal(noise[[2]], filled(pixels[[2]], "noise", seed=3))
    assert not torch.equal(noise, filled(pixels, "noise", seed=4))
    assert not torch.equal(noise[0], noise[1])


def test_noise_leaves_the_random_state():
    state = torch.get_rng_state()
    filled(torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)), "noise")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("word", "fill", "text"),
    [
        ("black", Fill("black"), "black"),
        ("blur", Fill("blur", 0.05), "blur"),
        ("blur:0.1", Fill("blur", 0.1), "blur:0.1"),
        ("+0.1", Fill("brighter", 0.1), "brighter:0.1"),
        ("-.5", Fill("darker", 0.5), "darker:0.5"),
        ("darker:1", Fill("darker", 1.0), "darker:1"),
    ],
)
def test_words_are_parsed_and_written_back(word, fill, text):
    assert parse_fill(word) == fill
    assert str(fill) == text
    assert parse_fill(text) == fill


@pytest.mark.parametrize("word", ["gray", "", "black:0.1", "brighter", "+0", "-2", "+x", "blur:"])
def test_other_words_are_refused(word):
    with pytest.raises(ChoiceError, match="fill"):
        parse_fill(word)


@pytest.mark.parametrize(
    ("name", "amount"),
    [("gray", None), ("black", 0.1), ("brighter", None), ("blur", 0), ("darker", 1.1),
     ("blur", float("nan")), ("blur", "0.1"), ("blur", np.ones(2))],
)  # fmt: skip
def test_other_fills_are_refused(name, amount):
    with pytest.raises(ChoiceError):
        Fill(name, amount)


@given(st.floats(0, 1, exclude_min=True))
def test_a_fill_is_read_back_from_its_word(amount):
    for name in ("blur", "brighter", "darker"):
        assert parse_fill(str(Fill(name, amount))) == Fill(name, amount)


def test_amounts_may_be_numbers_of_any_library():
    for half in (np.float32(0.5), np.array(0.5), torch.tensor(0.5)):
        assert Fill("blur", half) == Fill("blur", 0.5)
        assert type(Fill("blur", half).amount) is float


@pytest.mark.parametrize("fill", WORDS)
@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(0, 3, 4, 4), torch.zeros(3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
        torch.full((1, 3, 4, 4), torch.nan), torch.full((1, 3, 4, 4), 255.0),
        np.zeros((1, 3, 4, 4)),
    ],
)  # fmt: skip
def test_other_pixels_are_refused(fill, pixels):
    with pytest.raises(ImageError, match="pixels"):
        filled(pixels, fill)


def test_a_new_fill_takes_two_rows(monkeypatch):
    """One row for its words, one for its function: every part that takes fills then knows it."""
    words = choices.FillChoice("the pixel's negative", "how far of the way", 1.0)
    monkeypatch.setitem(choices.FILLS, "negative", words)
    monkeypatch.setitem(FILLS, "negative", lambda x, amount, _: x + amount * (1 - 2 * x))
    pixels, classifier = random_pixels(2, 3, 9, 9), Classifier(small_cnn().double())
    assert torch.equal(filled(pixels, "negative"), 1 - pixels)
    assert torch.equal(filled(pixels, "negative:0.5"), torch.full_like(pixels, 0.5))
    edited = deletion_curve(classifier, pixels, pixels.amax(1), "negative", [0, 0.5], "matched")
    black = deletion_curve(classifier, pixels, pixels.amax(1), "black", [0, 0.5], "matched")
    assert torch.equal(edited.removed, black.removed)
    assert not torch.equal(edited.logit, black.logit)
    assert edit_map(classifier, pixels, "negative").shape == (2, 9, 9)
    assert EvaluationSettings(data="photos", fills=["negative:0.5"]).fills == ("negative:0.5",)


@given(st.floats(0.01, 1.0), st.integers(0, 5))
def test_brighter_then_darker_never_pass_the_ends(amount, seed):
    pixels = random_pixels(1, 1, 3, 3, seed=seed)
    up, down = (filled(pixels, Fill(name, amount)) for name in ("brighter", "darker"))
    assert (up >= pixels).all() and (down <= pixels).all()
    assert ((up - pixels) <= amount + 1e-12).all() and ((pixels - down) <= amount + 1e-12).all()


def test_a_blur_too_narrow_for_floats_is_the_image():
    pixels = random_pixels(1, 3, 8, 8)
    assert torch.equal(filled(pixels, "blur:1e-200"), pixels)
    assert torch.equal(filled(pixels, "blur:0.001"), pixels)
