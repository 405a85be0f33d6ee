"""Pages stand alone: no network, only their own script, all escaped, every map named."""

import base64
import dataclasses
import hashlib
import re
from email.message import Message
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from chiaroscuro import Classifier, choices, explain
from chiaroscuro.report import explanation as view
from chiaroscuro.report import pages
from chiaroscuro.report.explanation import color_limits, map_panels, write, write_gallery
from chiaroscuro.report.pages import glossary
from chiaroscuro.results.explanations import Gallery, GalleryEntry
from chiaroscuro.results.facts import ImageFacts
from tests.toys import small_cnn

NASTY = "<script>alert(\"x\")</script> & 'co'"
LOADING = {"src", "href", "srcset", "action", "formaction", "data", "poster", "background", "ping"}


class Reader(HTMLParser):
    """Tags, attributes and the visible text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.styles, self.scripts, self._open = [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open = "data" if ("type", "application/json") in attrs else tag

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open == "style":
            self.styles.append(data)
        elif self._open == "script":
            self.scripts.append(data)
        elif self._open != "data":
            self.text += data

    def values(self, name):
        return [value for _, found, value in self.attributes if found == name]


def digests(texts):
    found = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return " ".join(f"'sha256-{one}'" for one in found)


def assert_stands_alone(reader):
    assert not {"iframe", "object", "embed", "link", "base", "form"} & set(reader.tags)
    for tag, name, value in reader.attributes:
        assert not re.search(r"https?:|javascript:", value, re.IGNORECASE), (tag, name, value[:80])
        assert not name.startswith("on"), (tag, name)
        if name in LOADING:
            address = urlsplit(value)
            assert address.scheme in ("", "data"), (tag, name, value[:80])
            assert not address.netloc, (tag, name, value[:80])
            assert not value.startswith("/"), (tag, name, value[:80])
    assert not any(re.search(r"url\(|@import|//", style) for style in reader.styles)
    calls = r"https?:|fetch|import\(|XMLHttp|WebSocket"
    assert not any(re.search(calls, script) for script in reader.scripts)
    assert "style" not in {name for _, name, _ in reader.attributes}, "the policy forbids them"
    (policy,) = (value for value in reader.values("content") if "default-src" in value)
    assert policy == (
        f"default-src 'none'; img-src data: 'self'; style-src {digests(reader.styles)}; "
        f"script-src {digests(reader.scripts)}"
    )
    headings = [value for tag, name, value in reader.attributes if (tag, name) == ("h2", "id")]
    links = [value[1:] for value in reader.values("href") if re.fullmatch(r"#s\d+", value)]
    assert links == (headings if len(headings) > 1 else []), "the list of contents"


class Page:
    """An explanation with its figure's contents and its page, as saving makes them."""

    def __init__(self, folder, explanation):
        write(explanation, folder)
        self.found, self.panels = explanation, map_panels(explanation)
        self.html = (folder / "index.html").read_text(encoding="utf-8")
        self.reader = Reader(self.html)


@pytest.fixture
def page_of(tmp_path, monkeypatch):
    """The page of an explanation of an array, drawn without its figure."""
    monkeypatch.setattr(view, "save_sheet", lambda sheet, path: None)

    def make(classifier, changes=None, **options):
        image = np.random.default_rng(3).random((12, 12, 3))
        found = explain(classifier, image, **options)
        return Page(tmp_path, dataclasses.replace(found, **(changes or {})))

    return make


def gallery(tmp_path, *entries):
    write_gallery(Gallery(tuple(entries)), tmp_path)
    return Reader((tmp_path / "index.html").read_text(encoding="utf-8"))


def entry(explanation, folder="one", source=None):
    return GalleryEntry(
        folder, source or explanation.image.source, explanation.target, explanation.model.name,
        explanation.choices.rivals, shared_scale=False,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: waking a second thread on a busy machine takes longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def everything(toy, page_of):
    return page_of(toy, maps=choices.MAPS)


def test_an_explanation_page_asks_nothing_of_the_network(everything):
    assert_stands_alone(everything.reader)
    sources = everything.reader.values("src")
    assert all(source.startswith(("data:image/png;", "data:image/webp;")) for source in sources)
    assert len(sources) == 2 + len(choices.MAPS), "photo, seen, maps"


def test_it_names_every_map_with_its_reading_and_its_support(everything):
    facts, text = everything.found.facts, everything.reader.text
    for name, one in facts.items():
        assert re.search(rf"^\s*{re.escape(name)}\s*$", text, re.MULTILINE), name
        assert choices.MAPS[name].reads in text
        assert f"{one.reads}; support\xa0{100 * one.support_pixels:.1f}\xa0%" in text
    assert len({one.support_pixels for one in facts.values()}) > 3


def test_only_printed_forms_are_marked_as_such(everything, page_of, toy):
    words = "(the equation as printed, for comparison only)"
    assert everything.reader.text.count(words) == 2
    assert words not in page_of(toy).reader.text


def test_every_image_has_a_text_beside_it(everything):
    reader = everything.reader
    assert reader.tags.count("img") == len([alt for alt in reader.values("alt") if alt])
    assert "lang" in {name for tag, name, _ in reader.attributes if tag == "html"}


def test_it_says_classes_choices_and_versions(everything):
    found, text = everything.found, everything.reader.text
    for prediction in found.predictions:
        assert prediction.label in text
        assert f"{100 * prediction.probability:.1f} %" in text
    words = (found.image.sha256, "gradient", "logit", "all", f"torch {found.versions['torch']}")
    assert all(word in text for word in (*words, "cpu, float64, CPU threads: 1"))
    for name, (fine, soft) in color_limits(found).items():
        assert f"{name} {fine:.3g} (smoothed {soft:.3g})" in text


def test_notes_and_chosen_rivals_are_shown(toy, page_of):
    """Eight classes, so that the worst one is not among the five best."""
    many = Classifier(small_cnn(8).double(), mean=0.5, std=0.25, size=12, name="eight")
    found = page_of(many, rivals="top:99").found
    worst = int(found.logits.argmin())
    page = page_of(many, rivals=[worst])
    assert [p.index for p in page.found.predictions][5:] == [worst]
    assert f"Compared with class {worst};" in page.reader.text
    assert f"why class {found.target.index} and not class {worst}?" in page.reader.text
    assert (
        "Note: rivals top:99: only 7 other classes." in page_of(many, rivals="top:99").reader.text
    )
    assert "Note:" not in page_of(many).reader.text


def test_gradients_of_zero_are_noted(page_of):
    class Steps(nn.Module):
        def forward(self, x):
            return (x * 255).round().flatten(1)[:, :3] / 255

    page = page_of(Classifier(Steps(), mean=0.0, std=1.0, size=12))
    assert "gradients are zero everywhere" in page.reader.text
    plain = explain(Steps(), Image.new("RGB", (403, 288)))
    assert plain.notes[0].startswith("a plain module was given: it gets pixels in [0, 1], not")


def details(page):
    """The rows that say what it takes to reproduce an explanation."""
    return dict(re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td></tr>", page, re.DOTALL))


def test_a_models_training_is_rows_of_plain_words(toy, page_of):
    toy.origin = {
        "weights": "trained on photos",
        "training": {
            "epochs": 50, "size": (224, 224), "split": None, "test_accuracy": 0.6224,
            "versions": {"python": "3.11.7", "torch": "2.14.1"},
        },
    }  # fmt: skip
    page = page_of(toy)
    rows = details(page.html)
    assert rows["model weights"] == "trained on photos"
    assert {name: value for name, value in rows.items() if name.startswith("training")} == {
        "training epochs": "50",
        "training size": "224, 224",
        "training test accuracy": "0.6224",
        "training versions": "python 3.11.7, torch 2.14.1",
    }
    assert "{" not in page.reader.text


def test_the_legend_names_the_winning_classes(everything):
    found = everything.found
    winner = next(panel for panel in everything.panels if panel.name == "winner")
    assert winner.legend
    names = {**found.labels, -1: "a tie"}
    for label, color in winner.legend:
        assert label in everything.reader.text
        assert f'fill="rgb{color}"' in everything.html
        index = next(k for k, name in names.items() if label.startswith(f"{name} "))
        assert label.endswith(f" {100 * (found.maps['winner'] == index).mean():.0f} %")


def test_the_legend_names_every_color_of_a_class_map(toy):
    """Nine classes of 9, 8, ..., 1 pixels and 19 ties: seven have a color, two share the gray."""
    found = explain(toy, np.zeros((12, 12, 3)), maps=["winner"])
    classes = np.repeat([*range(9), -1], [*range(9, 0, -1), 19]).reshape(8, 8)
    labels = {k: f"name {k}" for k in range(9)}
    found = dataclasses.replace(found, maps={"winner": classes}, labels=labels)
    (panel,) = map_panels(found)
    shares = ["14", "12", "11", "9", "8", "6", "5"]
    assert [label for label, _ in panel.legend] == [
        *(f"name {k} {share} %" for k, share in enumerate(shares)),
        "other classes 5 %",
        "a tie 30 %",
    ]
    for label, color in panel.legend:
        share = 100 * (panel.fine == color).all(axis=-1).mean()
        assert label.endswith(f" {share:.0f} %")


def test_labels_and_names_are_escaped(toy, page_of, tmp_path):
    toy.labels = (NASTY,) * 5
    toy.name = f"{NASTY} model"
    toy.origin = {"weights": NASTY}
    image = ImageFacts(f"/tmp/{NASTY}.png", "0", is_file=True, notes=(NASTY,))
    page = page_of(toy, {"image": image, "notes": (NASTY,)}, maps=choices.MAPS)
    assert_stands_alone(page.reader)
    assert page.reader.text.count(NASTY) > 7
    assert_stands_alone(gallery(tmp_path, entry(page.found)))


def test_the_frame_lies_where_the_network_looked(toy, page_of):
    assert 'x="0.0" y="0.0" width="12.0" height="12.0"' in page_of(toy).html


def test_gallery_links_are_relative_and_quoted(toy, tmp_path):
    found = explain(toy, np.zeros((12, 12, 3)))
    folders = [
        "cat", "two words", "no #1", "100%", "a?b=c&d", 'quo"te', "http: x", "ümlaut", "tench/a",
    ]  # fmt: skip
    reader = gallery(tmp_path, *(entry(found, folder) for folder in folders))
    assert_stands_alone(reader)
    links = [link for link in reader.values("href") if not link.startswith("#s")]
    assert [unquote(link) for link in links] == [f"{folder}/index.html" for folder in folders]
    sources = [unquote(source) for source in reader.values("src")]
    assert sources == [f"{name}/overview.webp" for name in folders]
    for link in links + reader.values("src"):
        assert not set(link) & set(" #?\"'<>")
        assert urlsplit(link).path == link


def test_a_gallery_says_what_each_folder_explains(toy, tmp_path):
    found = explain(toy, np.zeros((12, 12, 3)), target="dog", rivals="top:2")
    reader = gallery(tmp_path, entry(found, "a photo", "/home/me/a photo.jpg"))
    assert "a photo.jpg: why dog?" in reader.text
    assert f"{100 * found.target.probability:.1f} %" in reader.text
    assert "rivals top:2" in reader.text
    assert "1 explanation\n" in reader.text
    assert "/home/me" not in reader.text


def test_a_gallery_without_entries_is_a_page(tmp_path):
    reader = gallery(tmp_path)
    assert_stands_alone(reader)
    assert "0 explanations" in reader.text


def test_pages_link_to_the_documentation_once_the_package_declares_one(tmp_path, monkeypatch):
    def written():
        pages.environment.cache_clear()
        write_gallery(Gallery(()), tmp_path)
        return (tmp_path / "index.html").read_text(encoding="utf-8")

    assert "Documentation: docs/" in written()
    declared = Message()
    declared["Project-URL"] = "Source, https://source.test"
    declared["Project-URL"] = "Documentation, https://docs.test/latest"
    monkeypatch.setattr(pages, "metadata", lambda name: declared)
    (link,) = [link for link in Reader(written()).values("href") if "docs.test" in link]
    assert re.fullmatch(r"https://docs\.test/latest/[\w/-]+\.html", link)
    monkeypatch.undo()
    assert "docs.test" not in written()


def test_a_page_says_what_its_words_mean(everything):
    """The packaged glossary is the documents'; a page lists the terms that it uses."""
    page = Path("docs/reference/glossary.md")
    packaged = resources.files("chiaroscuro.report") / "templates" / "glossary.md"
    assert packaged.read_text() == page.read_text(), f"copy {page} to {packaged}"
    terms = dict(glossary())
    assert "allegiance" in terms and not re.search(r"[`*|]|\]\(", "".join(terms.values()))
    text = everything.reader.text.rpartition("Words on this page")[2]
    assert terms["support"] in text and terms["rivals"] in text
    assert terms["allegiance"] not in text
