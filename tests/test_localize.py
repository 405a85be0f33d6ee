"""Boxes and masks of a user's set, brought to the network's pixels, and the run over them."""

import json
import os

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from torch import nn

from chiaroscuro import Classifier
from chiaroscuro.checks import LocalizationSettings, localize
from chiaroscuro.checks.regions import load_regions
from chiaroscuro.errors import ChoiceError, InputError, MissingFileError, ResultError
from chiaroscuro.images import CropBox
from chiaroscuro.render.pictures import OUTLINE
from chiaroscuro.report.checks import lines
from chiaroscuro.report.pages import load_examples
from chiaroscuro.results import load
from tests.evaluation.toy import bytes_of

WHOLE = CropBox(0, 0, 8, 8, 8, 8)
HALF = CropBox(2, 0, 6, 4, 8, 4)
"""A crop of a photo 8 wide and 4 high, its middle square."""


def places(region):
    return np.argwhere(region).tolist()


def test_boxes_of_every_format_are_the_same(tmp_path):
    boxes = [[0, 0, 2, 1], [6, 6, 8, 8]]
    (tmp_path / "a.json").write_text(json.dumps({"cats/1.png": boxes}))
    lines = ["id,name,left,top,right,bottom", "cats/1.png,x,0,0,2,1", "cats/1.png,y,6,6,8,8"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    columns = dict(zip(["left", "top", "right", "bottom"], zip(*boxes, strict=True), strict=True))
    table = {"id": ["cats/1.png"] * 2, **{k: list(v) for k, v in columns.items()}}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    nested = {"id": ["cats/1.png", "none.png"], "boxes": [boxes, []]}
    parquet.write_table(pa.table(nested), tmp_path / "b.parquet")
    by_row = {"boxes": [[], boxes]}
    parquet.write_table(pa.table(by_row), tmp_path / "c.parquet")
    found = [
        load_regions(tmp_path / name, "test").region(id_, WHOLE, (8, 8))
        for name, id_ in (
            ("a.json", "cats/1.png"), ("a.csv", "cats/1.png"), ("a.parquet", "cats/1.png"),
            ("b.parquet", "cats/1.png"), ("c.parquet", "test#1"),
        )
    ]  # fmt: skip
    for region in found:
        assert places(region) == [[0, 0], [0, 1], [6, 6], [6, 7], [7, 6], [7, 7]]
    assert load_regions(tmp_path / "b.parquet").region("none.png", WHOLE, (8, 8)) is None


def test_a_pixel_belongs_to_a_region_when_its_middle_does(tmp_path):
    """On the crop of 4 x 4 photo pixels, network pixels of 2 x 2 have their middles at 3 and 5."""
    (tmp_path / "a.json").write_text(json.dumps({"x": [[3, 0, 5, 4]], "y": [[3.1, 1.5, 9, 3]]}))
    regions = load_regions(tmp_path / "a.json")
    assert places(regions.region("x", HALF, (2, 2))) == [[0, 0], [1, 0]]
    assert places(regions.region("y", HALF, (2, 2))) == []
    middles = regions.region("y", HALF, (4, 4))
    # Rows 0.5 1.5 2.5 3.5, columns 2.5 3.5 4.5 5.5: rows 1 and 2, columns from 3.5 on.
    assert places(middles) == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]


def test_masks_are_found_by_name_and_cropped_like_the_photo(tmp_path):
    mask = np.zeros((4, 8), np.uint8)
    mask[1, 2:4] = 255
    (tmp_path / "cats").mkdir()
    Image.fromarray(mask).save(tmp_path / "cats" / "1.png")
    see_through = np.stack([mask, np.full_like(mask, 255)], axis=2)
    Image.fromarray(see_through, "LA").save(tmp_path / "2.jpg.png")
    regions = load_regions(tmp_path)
    assert places(regions.region("cats/1.jpg", HALF, (4, 4))) == [[1, 0], [1, 1]]
    assert places(regions.region("2.jpg", HALF, (4, 4))) == [[1, 0], [1, 1]]
    padded = CropBox(-2, -2, 10, 6, 8, 4)
    assert places(regions.region("2.jpg", padded, (8, 12))) == [[3, 4], [3, 5]]
    assert regions.region("3.jpg", HALF, (4, 4)) is None
    with pytest.raises(InputError, match="8 x 4 px, its photo has 8 x 8"):
        regions.region("2.jpg", WHOLE, (4, 4))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "give a .csv, .json or .parquet file"),
        ("a.csv", "id,left,top,right\nx,1,2,3", "no column bottom"),
        ("a.csv", "id,left,top,right,bottom\nx,1,2,1,3", "expected left < right"),
        ("a.csv", "id,left,top,right,bottom\nx,1,2,three,3", "of x: expected left < right"),
        ("a.json", "[]", "expected an object"),
        ("a.json", '{"x": [[1, 2, 3]]}', "expected left < right"),
        ("a.json", "{", "cannot be read as boxes"),
    ],
)
def test_other_files_are_refused(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        load_regions(tmp_path / name)


def test_regions_that_are_missing_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.csv: no such file or folder of regions$"):
        load_regions(tmp_path / "none.csv")


@pytest.mark.parametrize("side", ["nan", "inf", "-inf", "1e999", "", "three"])
def test_a_side_that_is_no_number_is_named_with_its_image(tmp_path, side):
    (tmp_path / "a.csv").write_text(f"id,left,top,right,bottom\nx,1,2,{side},3")
    with pytest.raises(InputError, match=r"box \['1', '2', .*, '3'\] of x: expected left < right"):
        load_regions(tmp_path / "a.csv")


def test_masks_that_are_no_pictures_are_one_line(tmp_path):
    crop = CropBox(0, 0, 8, 4, 8, 4)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "text.png").write_text("no mask")
    Image.new("L", (8, 4)).save(tmp_path / "eps.png", "EPS")
    Image.new("1", (9_500, 9_500)).save(tmp_path / "bomb.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    masks = load_regions(tmp_path)
    assert masks.region("pipe", crop, (4, 8)) is None  # no regular file: no mask
    assert masks.region("zero", crop, (4, 8)) is None
    for name, reason in {"text": "not a picture", "eps": "not a picture", "bomb": "over "}.items():
        with pytest.raises(InputError, match=f"{name}.png: {reason}.*: expected a mask"):
            masks.region(name, crop, (4, 8))


def test_a_parquet_file_without_boxes_is_refused(tmp_path):
    parquet.write_table(pa.table({"id": ["x"], "left": [1.0]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no column bottom, right, top"):
        load_regions(tmp_path / "a.parquet")


class Spot(nn.Module):
    """Class 0 hangs on pixel (1, 2), class 1 on pixel (5, 6) twice as much; class 2 on nothing."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        spots = torch.stack([x[:, 0, 1, 2], 2 * x[:, 0, 5, 6], 0 * x[:, 0, 0, 0]], dim=1)
        return self.weight * spots


@pytest.fixture
def data(tmp_path):
    for label, name in enumerate(["left", "right"]):
        (tmp_path / "data" / name).mkdir(parents=True)
        for n in range(4):
            picture = np.full((8, 8, 3), 10 * n + 60 * label, np.uint8)
            Image.fromarray(picture).save(tmp_path / "data" / name / f"{n}.png")
    (tmp_path / "data" / "left" / "broken.png").write_bytes(b"\x89PNG no picture")
    return tmp_path


@pytest.fixture
def boxes(data):
    boxes = {f"right/{n}.png": [[6, 5, 8, 7]] for n in range(4)}
    boxes |= {f"left/{n}.png": [[2, 1, 4, 2]] for n in range(3)}
    boxes["left/3.png"] = [[100, 100, 120, 120]]
    (data / "boxes.json").write_text(json.dumps(boxes))
    return data


def point(data, out, classifier=None, **options):
    chosen = {"maps": ("original",), "resamples": 50, "flips": 4999, **options}
    return localize(
        classifier or Classifier(Spot(), size=8, labels=["left", "right", "none"]), data / "data",
        data / "boxes.json", data / out, **chosen,
    )  # fmt: skip


def test_a_run_over_boxes_by_hand(boxes):
    """Right is always predicted: its spot lies in every box of 'right', in none of 'left'."""
    result = point(boxes, "out", maps=("original", "positive"), batch=3)
    assert (result.data.images, result.data.left_out_count) == (7, 2)
    reasons = {one.id: one.reason for one in result.data.left_out}
    assert reasons["left/3.png"] == "the region is outside of what the network sees"
    assert "left/broken.png" in reasons
    table = pa.concat_tables(map(parquet.read_table, sorted(boxes.glob("out/rows/*"))))
    for located in result.maps:
        # The black image's logits tie, so the first class is predicted there.
        rows = [r for r in table.to_pylist() if r["map"] == located.map]
        hits = {r["id"]: (r["hit"], r["energy"]) for r in rows}
        assert all(hits[f"right/{n}.png"] == (1, 1) for n in range(4))
        assert hits["left/1.png"] == hits["left/2.png"] == (0, 0)
        assert located.hit.value == pytest.approx(np.mean([h for h, _ in hits.values()]))
        assert located.chance_hit.value == pytest.approx((4 * 4 + 3 * 2) / 64 / 7)
        assert located.center_hit.value == 0
    own = point(boxes, "labels", target="label")
    assert own.maps[0].hit.value == own.maps[0].energy.value == 1
    assert point(boxes, "numbers", target="index").maps == own.maps
    # Seven images that all point inside: the exact p is 2 / 2^7, doubled by Holm.
    assert own.maps[0].hit_p == pytest.approx(4 / 128, abs=0.01)
    assert own.to_frame()["hit_low"].tolist() == [1]
    assert load(boxes / "labels") == own
    page = (boxes / "labels" / "index.html").read_text()
    assert "left/3.png" in page and "better than a random order" in page
    # Seven of the first eight rows measure something: the image and its maps, the region outlined.
    assert page.count("<article") == 7 and page.count('alt="original"') == 7
    shown = load_examples(boxes / "labels")
    assert shown[0][0].startswith("left/0.png, predicted ")
    for _, ((_, *maps),) in shown:
        assert [name for name, _ in maps] == list(own.settings.maps)
        for _, picture in maps:
            assert (picture == OUTLINE).all(axis=-1).mean() > 0.01
    assert next(lines(own)).endswith(", 2 left out")


def test_interrupted_and_resumed_it_is_the_same_bytes(boxes):
    def interrupt(done, total, before):
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        point(boxes, "run", batch=3, progress=interrupt)
    point(boxes, "run", batch=3, resume=True)
    point(boxes, "whole", batch=3)
    assert bytes_of(boxes / "run") == bytes_of(boxes / "whole")
    (boxes / "boxes.json").write_text(json.dumps({"right/1.png": [[0, 0, 1, 1]]}))
    with pytest.raises(ResultError, match=r"facts\.regions was"):
        point(boxes, "run", batch=3, resume=True)


def test_a_set_without_any_region_says_why(data):
    (data / "boxes.json").write_text(json.dumps({"elsewhere.png": [[0, 0, 1, 1]]}))
    with pytest.raises(InputError, match=r"no image of .* has a region .*; ids are .*broken.png: "):
        point(data, "out", Classifier(Spot(), size=8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "best"}, "unknown target 'best'"),
        ({"tolerance": -1}, "tolerance is -1: expected at least 0"),
        ({"smoothing": 1.0}, r"smoothing is 1.0: expected a number in \[0, 1\)"),
        ({"maps": ()}, "no maps are given"),
        ({"method": "gradiant"}, "unknown method"),
    ],
)
def test_other_settings_are_refused(options, message):
    with pytest.raises(ChoiceError, match=message):
        LocalizationSettings(data="data", regions="boxes.csv", **options)


def test_labels_that_the_model_does_not_know_are_refused(data):
    (data / "boxes.json").write_text("{}")
    classifier = Classifier(Spot(), size=8, labels=["a", "b", "c"])
    with pytest.raises(InputError, match="target label: class names do not map"):
        point(data, "out", classifier, target="label")
    assert not (data / "out").exists()
