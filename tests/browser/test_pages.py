"""Every page of a result as its readers meet it: desk, phone, paper, keyboard, and no scripts."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from chiaroscuro import (
    Classifier,
    check,
    choices,
    compare,
    confusions,
    explain,
    localize,
    smallest_edit,
    what_if,
)
from chiaroscuro.report.explanation import write_gallery
from chiaroscuro.report.training import write as write_training
from chiaroscuro.results.explanations import Gallery, GalleryEntry
from chiaroscuro.results.models import TrainingRecord
from chiaroscuro.settings import TrainingSettings
from tests.evaluation.toy import CLASSES, run, toy_classifier
from tests.pictures import BROKEN, class_rows, write_parquet
from tests.toys import small_cnn

LABELS = [
    "American coot, marsh hen, mud hen, water hen, Fulica americana", "black swan, Cygnus atratus",
    "cat, tabby", "dog", "crane, bird",
]  # fmt: skip
PAGES = (
    "explain", "winner", "what-if", "flip", "compare", "gallery", "evaluate", "check", "localize",
    "train",
    "confusions",
)  # fmt: skip
BEYOND = """() => {
  const width = document.documentElement.clientWidth, bad = [];
  for (const one of document.querySelectorAll("main *")) {
    const box = one.getBoundingClientRect();
    if (one.closest("svg, .chiaroscuro-viewer") || !box.width) continue;
    if (box.right > width + 1 || box.left < -1) bad.push(one.outerHTML.slice(0, 120));
  }
  return [...bad, ...(document.documentElement.scrollWidth > width ? ["the page"] : [])];
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A folder with a page of every kind, from small real results."""
    out, net = tmp_path_factory.mktemp("pages"), small_cnn().double()
    photo = out / "a photo.png"
    values = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(values).save(photo)
    first = Classifier(net, mean=0.5, std=0.25, size=24, labels=LABELS, name="first")
    second = Classifier(net, mean=0.4, std=0.2, size=24, labels=LABELS, name="second")
    found = explain(first, photo)
    found.save(out / "explain")
    for folder in ("one", "tench/a"):
        found.save(out / "gallery" / folder)
    explain(first, photo, maps=list(choices.MAPS), target="cat", rivals=["dog"]).save(
        out / "winner"
    )
    what_if(first, photo, "active", 0.1, "black").save(out / "what-if")
    smallest_edit(first, photo, "white", edits=2).save(out / "flip")
    compare([first, second], photo).save(out / "compare")
    entries = [
        GalleryEntry(folder, "photos/a photo.png", found.target, "first", "all", False)
        for folder in ("one", "tench/a")
    ]
    write_gallery(Gallery(tuple(entries)), out / "gallery")
    rows = class_rows(3, 5)
    rows[4] = (BROKEN, 1)
    write_parquet(out / "data" / "test.parquet", rows, CLASSES)
    toy, few = toy_classifier(mean=0.5, std=0.1), {"resamples": 50}
    run(out / "data", out / "evaluate", toy, what_if=0.1, metrics=("deletion", "sharpness"), **few)
    check(toy, out / "data", out / "check", depths=2, draws=1, **few)
    (out / "boxes.json").write_text(json.dumps({f"test#{n}": [[4, 4, 14, 16]] for n in range(15)}))
    localize(toy, out / "data", out / "boxes.json", out / "localize", **few)
    confusions(toy, out / "data", out / "confusions", pairs=3, **few)
    learned = TrainingSettings(data="data")
    record = TrainingRecord(learned, 15, 15, 0, 1.1, 0.3, 0.35, 2.0, {"torch": "1"})
    (out / "train").mkdir()
    write_training(record, 3, [1.2, 1.15, 1.1], [0.2, 0.3, 0.3], [0.3, 0.3, 0.35], out / "train")
    return out


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_and_all_can_be_read(pages, open_page, check_accessible, name):
    page = open_page(pages / name / "index.html")
    assert page.evaluate(BEYOND) == []
    check_accessible(page)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate(BEYOND) == []
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 without its margins
    page.emulate_media(media="print")
    assert page.evaluate(BEYOND) == []
    assert not page.locator("nav, .csv").first.is_visible()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_begins_with_question_and_answer_and_lists_its_parts(pages, open_page, name):
    page = open_page(pages / name / "index.html")
    asked = page.locator("header .asked").inner_text()
    assert len(asked) > 20 and "?" in asked
    assert page.locator("header .found").first.inner_text().endswith(".")
    links = page.locator("nav a")
    assert links.all_inner_texts() == page.locator("h2").all_inner_texts()
    for link in links.all():
        assert page.locator(link.get_attribute("href")).count() == 1


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_without_scripts(pages, open_page, name):
    page = open_page(pages / name / "index.html", java_script_enabled=False)
    assert page.locator("h2").count() > 0 and page.locator("button").count() == 0
    for picture in page.locator("main img:visible").all():
        picture.scroll_into_view_if_needed()
        assert picture.bounding_box()["height"] > 20


def test_the_explanation_has_a_viewer_and_still_pictures(pages, open_page):
    page = open_page(pages / "winner" / "index.html")
    page.locator(".chiaroscuro-viewer[data-ready]").wait_for()
    assert page.locator(".chiaroscuro-viewer canvas").first.is_visible()
    assert page.locator(".maps img:visible").count() == len(choices.MAPS)


def test_tables_sort_by_number_and_back(pages, open_page):
    page = open_page(pages / "evaluate" / "index.html")
    table = page.locator('table[data-name="areas-matched"]')
    head = table.locator("th").nth(1)

    def column(body=0):
        cells = table.locator("tbody").nth(body).locator("tr td:nth-child(2)").all_inner_texts()
        return [float(text.split(" [")[0]) for text in cells]

    before = column(), column(1)
    head.get_by_role("button").click()
    assert column() == sorted(before[0]) and column(1) == sorted(before[1]), "controls stay last"
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").press("Enter")
    assert column() == sorted(before[0], reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


def test_a_table_is_downloaded_as_csv(pages, open_page):
    page = open_page(pages / "what-if" / "index.html", accept_downloads=True)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    assert download.value.suggested_filename == "classes.csv"
    head, *rows = csv.reader(io.StringIO(download.value.path().read_text(encoding="utf-8")))
    assert head[0] == "class" and "actual change" in head
    assert {row[0] for row in rows} == set(LABELS)
    assert [row for row in rows if row[3].startswith(("+", "-"))] == rows


def test_a_picture_opens_large_by_pointer_and_keyboard(pages, open_page):
    page = open_page(pages / "what-if" / "index.html")
    picture, large = page.locator("figure img").first, page.locator("dialog img")
    picture.click()
    assert large.is_visible()
    assert large.bounding_box()["width"] > 2 * picture.bounding_box()["width"]
    assert large.get_attribute("alt") == picture.get_attribute("alt")
    page.keyboard.press("Escape")
    assert not large.is_visible()
    picture.focus()
    page.keyboard.press("Enter")
    assert large.is_visible()
    large.click()
    assert not large.is_visible()


def test_verdicts_differ_at_a_glance(pages, open_page):
    page = open_page(pages / "check" / "index.html")
    colors = set()
    for grade in page.locator(".grade").all():
        word = grade.inner_text()
        assert word in ("✓ passes", "◐ in part", "✗ fails")
        colors.add((word, grade.evaluate("one => getComputedStyle(one).color")))
    assert len(colors) == len({word for word, _ in colors}) == len({color for _, color in colors})
    assert len(colors) > 1


def test_a_click_opens_the_pair_and_a_click_the_photo_in_the_viewer(pages, open_page):
    page = open_page(pages / "confusions" / "index.html")
    link = page.locator("table[data-name=matrix] a").first
    pair = page.locator(link.get_attribute("href"))
    link.click()
    assert pair.is_visible() and pair.locator("h3").inner_text().count(" to ") == 1
    hidden = page.locator("details article").last
    assert not hidden.is_visible()
    page.locator(f'table[data-name=matrix] a[href="#{hidden.get_attribute("id")}"]').click()
    hidden.wait_for(state="visible")
    page.locator(".photos a").first.click()
    page.locator(".chiaroscuro-viewer[data-ready]").wait_for()
    assert page.locator(".chiaroscuro-viewer canvas").first.is_visible()


def test_the_matrix_sorts_by_what_a_class_takes(pages, open_page):
    page = open_page(pages / "confusions" / "index.html")
    table = page.locator("table[data-name=matrix]")
    table.locator("th").nth(2).get_by_role("button").click()
    cells = table.locator("tbody tr td:nth-child(3)").all_inner_texts()
    shares = [float(text.split(" %")[0].strip("< ")) for text in cells]
    assert shares == sorted(shares) and len(shares) == 3


def test_the_gallery_opens_its_entries_by_folder(pages, open_page):
    page = open_page(pages / "gallery" / "index.html")
    assert page.locator("h2").all_inner_texts()[:2] == ["Photos", "tench/"]
    assert page.locator("h3").all_inner_texts()[1].startswith("tench/a photo.png: why ")


def test_few_images_are_warned_of_and_many_are_not(pages, open_page, tmp_path):
    from chiaroscuro.report.evaluation import write
    from chiaroscuro.results import load

    for name in ("evaluate", "check", "localize"):
        page = open_page(pages / name / "index.html")
        assert "14 images are too few" in page.locator(".warning").first.inner_text()
    result = load(pages / "evaluate")
    many = replace(result, data=replace(result.data, images=1000), classes=())
    write(many, tmp_path)
    left = open_page(tmp_path / "index.html").locator(".warning").all_inner_texts()
    assert left and all("not significantly different" in text for text in left)
