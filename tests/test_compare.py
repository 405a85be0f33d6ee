"""Two checkpoints on one photo: the same class, differences by hand, and the folder."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from chiaroscuro import Classifier, Comparison, Explanation, compare, explain, what_if
from chiaroscuro.errors import ChoiceError, ResultError
from chiaroscuro.explanations import what_if_detail
from chiaroscuro.images import to_uint8
from chiaroscuro.render.pictures import enlarged, outlined
from chiaroscuro.report.explanation import comparison_sheet
from chiaroscuro.results import facts_of
from chiaroscuro.results.explanations import Detail
from tests.toys import Linear, small_cnn

LABELS = ["crane, bird", "crane, machine", "cat, tabby"]


def linear(seed, labels=LABELS, side=4):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(len(labels), 3, side, side, generator=generator)
    return Classifier(Linear(weights), size=side, labels=labels, name=f"net{seed}")


@pytest.fixture
def photo(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_differences_by_hand(photo):
    first, second = linear(1), linear(2)
    found = compare([first, second], photo, maps=["original", "signed"])
    index = found.explanations[0].target.index
    assert [e.target.index for e in found.explanations] == [index] * 2
    a, b = (
        c.module.weights[index].detach().abs().amax(dim=0).double().numpy() for c in (first, second)
    )
    expected = b / np.sqrt((b**2).mean()) - a / np.sqrt((a**2).mean())
    (pair,) = found.pairs
    np.testing.assert_allclose(pair.maps["original"].difference, expected, atol=1e-6)
    ranks = [values.ravel().argsort().argsort() for values in (a, b)]
    rho = 1 - 6 * np.square(ranks[0] - ranks[1]).sum() / (16 * 255)
    assert pair.maps["original"].correlation == pytest.approx(rho)
    tops = [set(np.argsort(-values.ravel())[:2]) for values in (a, b)]
    assert pair.maps["original"].overlap == len(tops[0] & tops[1]) / 2


def test_a_network_and_itself_do_not_differ(photo):
    found = compare([linear(1), linear(1), linear(1)], photo)
    assert found.names == ("1 net1", "2 net1", "3 net1")
    assert [pair.other for pair in found.pairs] == [1, 2]
    for pair in found.pairs:
        for one in pair.maps.values():
            assert not one.difference.any()
            assert (one.correlation, one.overlap) == (pytest.approx(1), 1)


def test_the_class_is_found_by_name(photo):
    turned = linear(2, labels=["tabby", "dog", "machine, crane for building", "bird"])
    found = compare([linear(1), turned], photo, target="tabby")
    assert [e.target.label for e in found.explanations] == ["cat, tabby", "tabby"]
    with pytest.raises(ChoiceError, match="unknown class 'cat, tabby'"):
        compare([linear(1), linear(2, labels=["a", "b"])], photo, target=2)
    unnamed = linear(3)
    unnamed.labels = None
    found = compare([linear(1), unnamed], photo, target=2)
    assert found.explanations[1].target.index == 2


def test_other_pixels_have_no_difference(photo, tmp_path):
    found = compare([linear(1), linear(2, side=2)], photo)
    assert found.pairs[0].maps == {}
    assert found.pairs[0].note == "the networks see different pixels (4 x 4 and 2 x 2)"
    padded = linear(2)
    padded.framing = replace(padded.framing, canvas=(5, 5))
    note = compare([linear(1), padded], photo).pairs[0].note
    assert note == "the networks see different pixels (4 x 4, scaled or cut otherwise)"
    found.save(tmp_path / "out")
    assert "no differences to show" in (tmp_path / "out" / "index.html").read_text()


def test_the_folder_holds_everything(photo, tmp_path):
    told = []

    def detail(classifier, explanation):
        told.append((classifier.name, explanation.target.label))
        picture = np.zeros((4, 4, 3), np.uint8)
        return Detail("what if its top 5 % become black", ("the logit falls by 2.0",), picture)

    classifiers = [linear(1), linear(2)]
    found = compare(classifiers, photo, rivals="top:1", details=detail)
    assert [name for name, _ in told] == ["net1", "net2"]
    found.save(tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "1", "2", "arrays.npz", "chiaroscuro-comparison.json", "figure.png", "index.html",
    }  # fmt: skip
    whole = Comparison.load(tmp_path / "out")
    assert facts_of(whole) == facts_of(found)
    assert np.array_equal(whole.details[0].picture, found.details[0].picture)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "2 net2: what if its top 5 % become black" in page
    assert 'href="2/index.html"' in page
    loaded = Explanation.load(tmp_path / "out" / "2")
    assert np.array_equal(loaded.maps["active"], found.explanations[1].maps["active"])
    assert np.array_equal(
        whole.pairs[0].maps["active"].difference, found.pairs[0].maps["active"].difference
    )
    with pytest.raises(ResultError, match="exists already"):
        found.save(tmp_path / "out")
    found.save(tmp_path / "out", overwrite=True)


def test_a_change_is_asked_of_each_by_its_own_map(photo, tmp_path):
    """On linear networks the actual change is the predicted one, up to the whole step."""
    detail = what_if_detail(photo, "black", fraction=0.25, map="positive")
    found = compare([linear(1), linear(2)], photo, details=detail)
    for one, made in zip(found.details, found.explanations, strict=True):
        assert one.title == "what if the top 25 % of its positive map become black?"
        order = np.argsort(-made.maps["positive"].ravel(), kind="stable")[:4]
        weights = linear(int(made.model.name[-1])).module.weights[made.target.index]
        lost = (weights.detach().numpy() * made.pixels).sum(axis=0).ravel()[order].sum()
        assert f"changes by {-lost:+.2f}; it changes" in one.lines[0]
        assert one.lines[2].startswith("First order is valid for the whole change")
    found.save(tmp_path / "out")
    assert "become black" in (tmp_path / "out" / "index.html").read_text()
    with pytest.raises(ChoiceError, match="unknown fill"):
        what_if_detail(photo, "gray")


@pytest.mark.parametrize("by", ["signed", "margin"])
def test_a_change_follows_the_maps_that_are_compared(photo, by):
    """Their method, score and rivals, also of a map that is not among those compared."""
    net = Classifier(small_cnn(3), size=12, labels=LABELS, name="curved")
    asked = {"rivals": "top:1", "score": "log-probability", "method": "smoothgrad", "sigma": 0.6}
    change = {"fill": "white", "by": by, "fraction": 0.1}
    found = compare([net, net], photo, maps=["signed"], **asked, **change)
    alone = explain(net, photo, maps=by, **asked)
    result = what_if(net, photo, alone.maps[by], 0.1, "white")
    after = outlined(to_uint8(result.edited), result.changed)
    np.testing.assert_array_equal(found.details[0].picture, enlarged(after))
    plain = what_if(net, photo, by, 0.1, "white", rivals="top:1")
    assert (plain.changed != result.changed).any()


def test_a_comparison_has_one_kind_of_details(photo):
    nothing = Detail("nothing", (), None)
    with pytest.raises(ChoiceError, match="fill and details are given"):
        compare([linear(1)] * 2, photo, fill="black", details=lambda *given: nothing)


def test_the_sheet_has_a_row_a_network_and_one_a_difference(photo):
    sheet = comparison_sheet(compare([linear(1), linear(2)], photo, maps=["original", "active"]))
    assert [row.cells[0] for row in sheet.rows] == ["1 net1", "2 net2", "2 minus 1"]
    for row in sheet.rows:
        assert [cell.title for cell in row.cells[3:]] == ["original", "active"]
    assert sheet.rows[2].cells[3].note.startswith("rank correlation ")


def test_a_page_spells_class_names_as_they_are(photo, tmp_path):
    labels = ["Crane", "Egyptian Mau", "tabby"]
    nets = [linear(1, labels=labels), linear(2, labels=labels)]
    compare(nets, photo, target="tabby", rivals="Egyptian Mau").save(tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "in the same pixels? Compared with Egyptian Mau; gradient of the logit." in page


def test_one_classifier_is_nothing_to_compare(photo):
    with pytest.raises(ChoiceError, match="1 classifiers to compare"):
        compare([linear(1)], photo)
    with pytest.raises(ChoiceError, match="unknown map 'winner'"):
        compare([linear(1), linear(2)], photo, maps="winner")
