"""Methods and contrasts in explanations: kept, told, and repeated."""

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient
from PIL import Image

from chiaroscuro import ResultError, class_gradients, explain, saliency_maps
from chiaroscuro.choices import MethodOptions, parse_method
from chiaroscuro.explanations import replay
from chiaroscuro.gradients import Method, PixelModule
from chiaroscuro.report.explanation import explanation_sheet
from chiaroscuro.results.explanations import MethodFacts


def test_a_method_and_its_settings_are_kept(toy, photo):
    found = explain(toy, photo, method=MethodOptions("smoothgrad", 3, 0.1, seed=6), rivals="mean")
    assert found.choices.method == MethodFacts("smoothgrad", 3, 0.1, seed=6)
    assert found.choices.rivals == "mean"
    subtitle = explanation_sheet(found, []).subtitle
    assert "4 rivals (mean) · smoothgrad (3 points, sigma 0.1) of the logit" in subtitle
    pixels = torch.from_numpy(found.pixels)[None]
    method = Method("smoothgrad", points=3, sigma=0.1, seed=6)
    direct = class_gradients(toy, pixels.double(), rivals="mean", method=method)
    np.testing.assert_allclose(
        found.maps["active"], saliency_maps(direct)["active"][0].numpy(), rtol=1e-6
    )


def test_one_rival_is_in_the_question(toy, photo):
    found = explain(toy, photo, target="dog", rivals=["cup"])
    assert explanation_sheet(found, []).title.endswith("why dog and not cup, mug?")
    assert "compared with cup ·" in explanation_sheet(found, []).subtitle


def test_a_background_is_read_again(spec, photo, tmp_path):
    folder = tmp_path / "background"
    folder.mkdir()
    for seed in range(3):
        values = np.random.default_rng(seed).integers(0, 256, (20, 16, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{seed}.png")
    options = parse_method("expected-gradients", 4, background=str(folder))
    found = explain(spec, photo, method=options)
    assert found.choices.method.background_images == 3
    assert "from 3 background images" in explanation_sheet(found, []).subtitle
    found.save(tmp_path / "one")
    _, differences = replay(tmp_path / "one", spec, background=folder)
    assert differences.same and differences.changes == ()
    values = np.random.default_rng(9).integers(0, 256, (20, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "2.png")
    _, differences = replay(tmp_path / "one", spec, background=folder)
    assert not differences.same
    assert differences.changes == ("background images are not the same",)
    with pytest.raises(ResultError, match=rf"3 background images \({folder}\).*hand them in"):
        replay(tmp_path / "one", spec)


def test_a_method_that_has_no_name_cannot_be_repeated(spec, photo, tmp_path):
    pixels = torch.zeros(1, 3, 12, 12)
    explain(spec, photo, method=Method("expected-gradients", 2, background=pixels)).save(
        tmp_path / "tensor"
    )
    with pytest.raises(ResultError, match=r"1 background images \(handed in as pixels\)"):
        replay(tmp_path / "tensor", spec)
    assert replay(tmp_path / "tensor", spec, background=pixels)[1].same
    theirs = InputXGradient(PixelModule(spec))
    explain(spec, photo, method=theirs).save(tmp_path / "theirs")
    with pytest.raises(
        ResultError, match="'captum:InputXGradient' of this explanation has no name"
    ):
        replay(tmp_path / "theirs", spec)
