"""The viewer's feed: what is in it, and that its codes give the maps back."""

import base64
import io
import json
import zlib
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from chiaroscuro import explain
from chiaroscuro.render import percent
from chiaroscuro.render.pictures import BRIGHTER, CLASS_COLORS, DARKER
from chiaroscuro.viewer import make_feed, script, viewer_html, viewer_page
from chiaroscuro.viewer.feed import OTHER, SIDE, TIE, value_codes
from tests.pictures import picture

MAPS = ("original", "active", "signed", "winner")


@pytest.fixture
def explanation(toy, tmp_path):
    file = tmp_path / "a photo.png"
    picture(3, side=40).resize((60, 40)).save(file)
    return explain(toy, file, maps=MAPS)


def codes_of(shown, dtype):
    data = zlib.decompress(base64.b64decode(shown.data))
    return np.frombuffer(data, dtype).reshape(shown.height, shown.width)


def photo_of(feed):
    return Image.open(io.BytesIO(base64.b64decode(feed.photo.uri.partition(",")[2])))


def test_codes_give_a_map_back(explanation):
    (target,) = make_feed(explanation).targets
    assert [shown.name for shown in target.maps] == [*MAPS]
    for shown in target.maps[:3]:
        values = explanation.maps[shown.name]
        codes = codes_of(shown, "<i2").astype(float)
        decoded = shown.peak * np.sign(codes) * (codes / 4095) ** 2
        step = shown.peak * np.sqrt(np.abs(values) / shown.peak) / 4095
        assert (np.abs(decoded - values) <= step + 1e-7 * shown.peak).all()


def test_codes_keep_zero_sign_and_order():
    values = np.array([[0.0, 1e-4, 2e-4, -3.0, 5.0, np.nan, np.inf]])
    codes, peak = value_codes(values)
    assert peak == 5 and codes.dtype == np.dtype("<i2")
    assert codes[0, 0] == codes[0, 5] == codes[0, 6] == 0
    assert codes[0, 3] < 0 < codes[0, 1] < codes[0, 2] < codes[0, 4] == 4095
    assert value_codes(np.zeros((2, 2)))[0].tolist() == [[0, 0], [0, 0]]


def test_a_class_map_names_its_classes(explanation):
    winner = make_feed(explanation).targets[0].maps[3]
    values, codes = explanation.maps["winner"], codes_of(winner, "<u2")
    assert winner.kind == "class"
    for code, shown in enumerate(winner.classes):
        assert shown.label == explanation.labels[shown.index]
        assert ((codes == code) == (values == shown.index)).all()
    assert ((codes == TIE) == (values < 0)).all()
    assert not (codes == OTHER).any()


def test_the_photo_is_the_file_at_its_own_resolution(explanation, tmp_path):
    feed = make_feed(explanation)
    assert (feed.title, feed.photo.width, feed.photo.height) == ("a photo.png", 60, 40)
    original = Image.open(tmp_path / "a photo.png")
    assert (np.asarray(photo_of(feed)) == np.asarray(original)).all(), "small photos are exact"
    large = make_feed(explanation, original.resize((3 * SIDE, 2 * SIDE)))
    assert photo_of(large).size == (SIDE, round(SIDE * 2 / 3))
    assert (large.photo.width, large.photo.height) == (60, 40)


def test_a_file_that_changed_is_not_shown(explanation, tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a photo.png")
    assert (np.asarray(photo_of(make_feed(explanation))) == explanation.photo).all()


def test_several_explanations_are_targets_with_names(explanation):
    other = replace(explanation, target=explanation.predictions[1])
    feed = make_feed([explanation, other])
    first, second = explanation.predictions[:2]
    assert [target.label for target in feed.targets] == [first.label, second.label]
    assert feed.targets[0].name == f"{first.label.split(',')[0]} · {percent(first.probability)}"
    cranes = [
        replace(explanation, target=replace(first, label=f"crane, {kind}", probability=0.5))
        for kind in ("bird", "machine")
    ]
    assert [target.name for target in make_feed(cranes).targets] == [
        "crane, bird · 50.0 %", "crane, machine · 50.0 %",
    ]  # fmt: skip
    named = make_feed([explanation, explanation], names=("before", "after"))
    assert [target.name for target in named.targets] == ["before", "after"]


def test_nothing_ends_the_script_early(explanation):
    name = "</script><b>"
    image = replace(explanation.image, source=name, is_file=False)
    feed = make_feed(replace(explanation, image=image))
    held = viewer_html(feed, {"map": name}, "<p>still</p>")
    assert held.count("</script>") == 1 and held.endswith("</script><p>still</p></div>")
    inside = held.partition('json">')[2].partition("</script>")[0]
    assert json.loads(inside)["state"]["map"] == name
    assert "</script" not in script()
    assert "http" not in viewer_page(feed).replace("http-equiv", "")


# Colors


def linear(color):
    share = np.asarray(color) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(light):
    """CIE L*a*b* of linear sRGB."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ np.clip(light, 1e-3, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Machado, Oliveira and Fernandes (2009), severity 1: normal, protan and deutan sight.
SIGHTS = {
    "normal": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


@pytest.mark.parametrize("sight", SIGHTS)
def test_class_colors_differ_for_every_sight(sight):
    seen = [lab(np.array(SIGHTS[sight]) @ linear(color)) for color in CLASS_COLORS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 25


def test_class_colors_are_neither_orange_nor_blue():
    for hue in (BRIGHTER, DARKER):
        far = [np.linalg.norm(lab(linear(hue)) - lab(linear(c))) for c in CLASS_COLORS]
        assert min(far) > 35
