"""A training's curve, drawn."""

import numpy as np
import pytest
from PIL import Image

from chiaroscuro.render.training import TrainingCurve, draw_training


def drawn(curve, path):
    draw_training(curve, path)
    with Image.open(path) as found:
        assert (found.format, "Software" in found.info) == ("PNG", False)
        return np.asarray(found.convert("RGB"))


def share_of(image, color):
    return float((np.abs(image.astype(int) - color) < 8).all(axis=-1).mean())


GREY, BLUE, ORANGE = (0x7D, 0x82, 0x8C), (0x1B, 0x4F, 0x9C), (0xD3, 0x54, 0x00)


def test_the_curve_shows_three_lines_on_white(tmp_path):
    rising = [0.2, 0.5, 0.9]
    image = drawn(TrainingCurve("a $net_", [2, 1, 0.5], rising, rising[::-1]), tmp_path / "a.png")
    assert share_of(image, (255, 255, 255)) > 0.85
    assert all(share_of(image, color) > 5e-4 for color in (GREY, BLUE, ORANGE))
    untested = drawn(TrainingCurve("a $net_", [2, 1, 0.5], rising), tmp_path / "b.png")
    assert share_of(untested, BLUE) == 0


@pytest.mark.parametrize("loss", [[float("nan")], [float("inf")] * 2, [0.0], [1.0, float("nan")]])
def test_a_loss_that_is_no_number_can_be_drawn(tmp_path, loss):
    accuracy = [1.0] * len(loss)
    image = drawn(TrainingCurve("net", loss, accuracy, accuracy), tmp_path / "a.png")
    assert share_of(image, BLUE) > 0


def test_the_same_curve_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        draw_training(TrainingCurve("net", [1.0, 0.5], [0.1, 0.2]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
