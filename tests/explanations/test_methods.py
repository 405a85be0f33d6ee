"""Methods and contrasts in explanations: kept, told, and repeated."""

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient
from PIL import Image

from chiaroscuro import ResultError, class_gradients, explain, saliency_maps
from chiaroscuro.choices import MethodOptions, parse_method
from chiaroscuro.explanations import explain_again, methods
from chiaroscuro.explanations.sheet import make_sheet
from chiaroscuro.gradients import Method, PixelModule


def test_a_method_and_its_settings_are_kept(toy, photo):
    found = explain(toy, photo, method=MethodOptions("smoothgrad", 3, 0.1, seed=6), rivals="mean")
    assert found.choices["method"] == "smoothgrad"
    assert found.choices["method_settings"] == {"points": 3, "sigma": 0.1, "seed": 6}
    assert found.choices["seed"] == 6
    assert found.choices["rivals"] == "mean"
    sheet = make_sheet(found)
    assert "4 rivals (mean) · smoothgrad (3 points, sigma 0.1) of the logit" in sheet.subtitle
    pixels = torch.from_numpy(found.pixels)[None]
    method = Method("smoothgrad", points=3, sigma=0.1, seed=6)
    direct = class_gradients(toy, pixels.double(), rivals="mean", method=method)
    np.testing.assert_allclose(
        found.maps["active"], saliency_maps(direct)["active"][0].numpy(), rtol=1e-6
    )


def test_one_rival_is_in_the_question(toy, photo):
    found = explain(toy, photo, target="dog", rivals=["cup"])
    assert make_sheet(found).title.endswith("why dog and not cup, mug?")
    assert "compared with 1 rival (4)" in make_sheet(found).subtitle


def test_a_background_is_read_again(spec, photo, tmp_path):
    folder = tmp_path / "background"
    folder.mkdir()
    for seed in range(3):
        values = np.random.default_rng(seed).integers(0, 256, (20, 16, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{seed}.png")
    options = parse_method("expected-gradients", 4, background=str(folder))
    found = explain(spec, photo, method=options)
    assert found.choices["method_settings"]["background_images"] == 3
    assert "from 3 background images" in make_sheet(found).subtitle
    found.save(tmp_path / "one")
    _, differences = explain_again(tmp_path / "one")
    assert differences.same and differences.facts == ()
    (folder / "2.png").unlink()
    methods._background.cache_clear()
    _, differences = explain_again(tmp_path / "one")
    assert not differences.same
    assert differences.facts[0].startswith("method's background_sha256: ")


def test_a_method_that_has_no_name_cannot_be_repeated(spec, photo, tmp_path):
    pixels = torch.zeros(1, 3, 12, 12)
    explain(spec, photo, method=Method("expected-gradients", 2, background=pixels)).save(
        tmp_path / "tensor"
    )
    with pytest.raises(ResultError, match="background of this explanation was handed in as pixels"):
        explain_again(tmp_path / "tensor")
    theirs = InputXGradient(PixelModule(spec))
    explain(spec, photo, method=theirs).save(tmp_path / "theirs")
    with pytest.raises(
        ResultError, match="'captum:InputXGradient' of this explanation has no name"
    ):
        explain_again(tmp_path / "theirs")
