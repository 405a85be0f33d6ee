"""Pages stand alone: no script, no network, every label escaped, every map named and explained."""

import dataclasses
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch

from chiaroscuro import choices, explain
from chiaroscuro.explanations.sheet import make_sheet
from chiaroscuro.explanations.storage import describe
from chiaroscuro.report import GalleryEntry, explanation_page, gallery_page

NASTY = "<script>alert(\"x\")</script> & 'co'"
LOADING = {"src", "href", "srcset", "action", "formaction", "data", "poster", "background", "ping"}


class Reader(HTMLParser):
    """Tags, attributes and the visible text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.styles = [], [], "", ""
        self._in_style = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._in_style = tag == "style"

    def handle_endtag(self, tag):
        self._in_style = False

    def handle_data(self, data):
        if self._in_style:
            self.styles += data
        else:
            self.text += data

    def values(self, name):
        return [value for _, found, value in self.attributes if found == name]


def assert_stands_alone(reader):
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & set(reader.tags)
    for tag, name, value in reader.attributes:
        assert not re.search(r"https?:|javascript:", value, re.IGNORECASE), (tag, name, value[:80])
        assert not name.startswith("on"), (tag, name)
        if name in LOADING:
            address = urlsplit(value)
            assert address.scheme in ("", "data"), (tag, name, value[:80])
            assert not address.netloc, (tag, name, value[:80])
            assert not value.startswith("/"), (tag, name, value[:80])
    style = reader.styles + "".join(reader.values("style"))
    assert not re.search(r"url\(|@import|//", style)
    assert any("default-src 'none'" in value for value in reader.values("content"))


def parts(classifier, **options):
    image = np.random.default_rng(3).random((12, 12, 3))
    found = explain(classifier, image, **options)
    about = describe(found)
    about["display"] = {
        "scale": "image",
        "limits": dict(found.color_limits()),
        "smoothing": "smoothed",
    }
    return found, make_sheet(found), about


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: waking a second thread on a busy machine takes longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def everything(toy):
    return parts(toy, maps=choices.MAPS)


def test_an_explanation_page_asks_nothing_of_the_network(everything):
    _, sheet, about = everything
    reader = Reader(explanation_page(sheet, about))
    assert_stands_alone(reader)
    sources = reader.values("src")
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert len(sources) == 2 + 2 * (len(choices.MAPS) - 1) + 1, "photo, seen, maps twice, winner"


def test_it_names_every_map_with_its_reading_and_its_support(everything):
    found, sheet, about = everything
    text = Reader(explanation_page(sheet, about)).text
    for name, facts in found.facts.items():
        assert re.search(rf"^\s*{re.escape(name)}\s*$", text, re.MULTILINE), name
        assert choices.MAPS[name].reads in text
        note = f"{facts.reads}; support\xa0{100 * facts.support_pixels:.1f}\xa0%"
        assert note in text
    assert len({facts.support_pixels for facts in found.facts.values()}) > 3


def test_only_printed_forms_are_marked_as_such(everything):
    _, sheet, about = everything
    text = Reader(explanation_page(sheet, about)).text
    assert text.count("(the equation as printed, for comparison only)") == 2
    sheet.panels[:] = [p for p in sheet.panels if not p.name.endswith("-printed")]
    assert "as printed, for comparison" not in Reader(explanation_page(sheet, about)).text


def test_every_image_has_a_text_beside_it(everything):
    _, sheet, about = everything
    reader = Reader(explanation_page(sheet, about))
    assert reader.tags.count("img") == len([alt for alt in reader.values("alt") if alt])
    assert "lang" in {name for tag, name, _ in reader.attributes if tag == "html"}


def test_it_says_classes_choices_and_versions(everything):
    found, sheet, about = everything
    text = Reader(explanation_page(sheet, about)).text
    for prediction in found.predictions:
        assert prediction.label in text
        assert f"{100 * prediction.probability:.1f} %" in text
    for word in (
        found.image.sha256,
        "gradient",
        "logit",
        "all",
        f"torch {found.versions['torch']}",
    ):
        assert word in text
    for name, (fine, soft) in found.color_limits().items():
        assert f"{name} {fine:.3g} (smoothed {soft:.3g})" in text


def details(page):
    """The rows that say what it takes to make an explanation again."""
    return dict(re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td></tr>", page, re.DOTALL))


def test_a_models_training_is_rows_of_plain_words(toy):
    toy.origin = {
        "weights": "trained on photos",
        "training": {
            "epochs": 50, "size": (224, 224), "split": None, "test_accuracy": 0.6224,
            "versions": {"python": "3.11.7", "torch": "2.14.1"},
        },
    }  # fmt: skip
    _, sheet, about = parts(toy)
    page = explanation_page(sheet, about)
    rows = details(page)
    assert rows["model weights"] == "trained on photos"
    assert {name: value for name, value in rows.items() if name.startswith("training")} == {
        "training epochs": "50",
        "training size": "224, 224",
        "training test accuracy": "0.6224",
        "training versions": "python 3.11.7, torch 2.14.1",
    }
    assert "{" not in Reader(page).text


def test_the_legend_names_the_winning_classes(everything):
    found, sheet, about = everything
    page = explanation_page(sheet, about)
    winner = next(panel for panel in sheet.panels if panel.name == "winner")
    assert winner.legend
    names = {**found.labels, -1: "a tie"}
    for label, color in winner.legend:
        assert label in Reader(page).text
        assert f"background: rgb{color}" in page
        index = next(k for k, name in names.items() if label.startswith(f"{name} "))
        assert label.endswith(f" {100 * (found.maps['winner'] == index).mean():.0f} %")


def test_the_legend_names_every_color_of_a_class_map(toy):
    """Nine classes of 9, 8, ..., 1 pixels and 19 ties: seven have a color, two share the gray."""
    found, _, _ = parts(toy, maps=["winner"])
    classes = np.repeat([*range(9), -1], [*range(9, 0, -1), 19]).reshape(8, 8)
    labels = {k: f"name {k}" for k in range(9)}
    found = dataclasses.replace(found, maps={"winner": classes}, labels=labels)
    (panel,) = make_sheet(found).panels
    shares = ["14", "12", "11", "9", "8", "6", "5"]
    assert [label for label, _ in panel.legend] == [
        *(f"name {k} {share} %" for k, share in enumerate(shares)),
        "other classes 5 %",
        "a tie 30 %",
    ]
    for label, color in panel.legend:
        share = 100 * (panel.pixels == color).all(axis=-1).mean()
        assert label.endswith(f" {share:.0f} %")


def test_labels_and_names_are_escaped(toy):
    toy.labels = (NASTY,) * 5
    toy.name = f"{NASTY} model"
    toy.origin = {"weights": NASTY}
    _, sheet, about = parts(toy, maps=choices.MAPS)
    about["image"]["source"] = f"/tmp/{NASTY}.png"
    about["image"]["notes"] = [NASTY]
    page = explanation_page(sheet, about)
    reader = Reader(page)
    assert_stands_alone(reader)
    assert "<script" not in page
    assert reader.text.count(NASTY) > 7
    gallery = gallery_page([GalleryEntry("one", about)])
    assert "<script" not in gallery
    assert_stands_alone(Reader(gallery))


def test_the_frame_lies_where_the_network_looked(toy, tmp_path):
    _, sheet, about = parts(toy)
    frame = "left:0.00%;top:0.00%;width:100.00%;height:100.00%"
    assert frame in explanation_page(sheet, about)


def test_gallery_links_are_relative_and_quoted(toy):
    _, _, about = parts(toy)
    folders = ["cat", "two words", "no #1", "100%", "a?b=c&d", 'quo"te', "http: x", "ümlaut"]
    reader = Reader(gallery_page([GalleryEntry(folder, about) for folder in folders]))
    assert_stands_alone(reader)
    links = reader.values("href")
    assert [unquote(link) for link in links] == [f"{folder}/index.html" for folder in folders]
    assert [unquote(s) for s in reader.values("src")] == [f"{name}/figure.png" for name in folders]
    for link in links + reader.values("src"):
        assert not set(link) & set(" #?\"'<>")
        assert urlsplit(link).path == link


def test_a_gallery_says_what_each_folder_explains(toy):
    _, _, about = parts(toy, target="dog", rivals="top:2")
    about["image"]["source"] = "/home/me/a photo.jpg"
    reader = Reader(gallery_page([GalleryEntry("a photo", about)]))
    assert "a photo.jpg: why dog?" in reader.text
    assert f"{100 * about['target']['probability']:.1f} %" in reader.text
    assert "rivals top:2" in reader.text
    assert "1 explanation\n" in reader.text
    assert "/home/me" not in reader.text


def test_a_gallery_without_entries_is_a_page():
    reader = Reader(gallery_page([]))
    assert_stands_alone(reader)
    assert "0 explanations" in reader.text
