"""The live page in a browser: everything that a visitor can do, by pointer and by keyboard."""

import json
import re
import threading
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from chiaroscuro.web.settings import ServerSettings
from tests.browser.conftest import PATIENCE, until
from tests.browser.feeds import canvas_pixels
from tests.web.conftest import FACTORIES, Running, model_folders  # noqa: F401  # a fixture

CHOSEN = "document.querySelector('.classes [aria-pressed=true]')"


@pytest.fixture(scope="module")
def server(model_folders):  # noqa: F811
    running = Running(ServerSettings(models=model_folders))
    yield running
    running.close()


@pytest.fixture
def photo(tmp_path):
    """A photo of the visitor's own."""
    pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    return tmp_path / "mine.png"


def wait_until_whole(page):
    """Until all classes are compared and the what-if has come."""
    until(page, "Boolean(document.querySelector('.verdict')?.textContent)")
    page.wait_for_selector(".pane .running", state="hidden")


@pytest.fixture
def page(server, open_page, photo):
    page = open_page(server.address)
    page.set_input_files("#file", photo)
    page.wait_for_selector(".chiaroscuro-viewer canvas, .viewer canvas")
    wait_until_whole(page)
    return page


def test_a_photo_is_explained(page, photo):
    assert "mine.png, 120 x 90 px" in page.inner_text("#said")
    assert page.locator(".classes button").count() == 5
    assert page.locator(".classes [aria-pressed=true]").count() == 1
    assert "The prediction" in page.inner_text(".verdict")
    assert page.locator(".classes b").count() == 0  # names are text, not HTML


def test_a_class_is_chosen_from_the_list_and_by_name(page):
    second = page.locator(".classes button").nth(1)
    label = second.inner_text().rsplit(" ", 2)[0]
    second.click()
    until(
        page,
        f"label => {CHOSEN}.innerText.startsWith(label)",
        label,
    )
    page.fill("[name=target]", "class 7, of <b>0</b>")
    page.keyboard.press("Enter")
    until(page, f"{CHOSEN}.innerText.startsWith('class 7,')")


def test_an_unknown_class_is_said_and_the_page_goes_on(page):
    page.fill("[name=target]", "no such class")
    page.keyboard.press("Enter")
    page.wait_for_selector(".error:not([hidden])")
    assert "no such class" in page.inner_text(".error")
    page.fill("[name=target]", "")
    page.keyboard.press("Enter")
    page.wait_for_selector(".error", state="hidden")


def test_the_slider_changes_the_photo(page):
    before = page.get_attribute(".edited", "src")
    count = page.inner_text(".count")
    page.focus("[name=share]")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    until(page, "before => document.querySelector('.edited').src !== before", before)
    until(page, "before => document.querySelector('.count').innerText !== before", count)
    shown = float(page.inner_text(".share").split()[0])

    def is_counted():
        numbers = re.findall(r"[\d,]+", page.inner_text(".count"))
        changed, of = (int(n.replace(",", "")) for n in numbers)
        assert of == 32 * 32
        return changed == pytest.approx(shown / 100 * of, abs=1)

    until(page, is_counted)
    page.select_option("[name=fill]", "white")
    until(page, "document.querySelector('.shell').innerText.includes('--fill=white')")


def test_a_region_is_chosen_and_drawn(open_page, photo, tmp_path):
    """For a network that scores every position: said first, then a box around it on the photo."""
    (tmp_path / "nets.py").write_text(FACTORIES)
    server = Running(ServerSettings(models=(f"{tmp_path}/nets.py:dense",)))
    page = open_page(server.address)
    page.set_input_files("#file", photo)
    page.wait_for_selector(".error:not([hidden])")
    assert "region" in page.inner_text(".error")
    page.fill("[name=region]", "40,20,80,60")
    page.keyboard.press("Enter")
    page.wait_for_selector(".viewer canvas")
    wait_until_whole(page)
    assert page.locator(".error").is_hidden()
    assert "--region=40,20,80,60" in page.inner_text(".shell")
    shown = canvas_pixels(page)
    rows, columns = (shown[..., :3] == (255, 0, 170)).all(axis=-1).nonzero()
    scale = shown.shape[1] / 120
    edges = np.array([columns.min(), rows.min(), columns.max(), rows.max()]) / scale
    # Edges move by less than a pixel of the network, which covers 90 / 32 of the photo's.
    np.testing.assert_allclose(edges, [40, 20, 80, 60], atol=90 / 32 + 2)
    page.click("#link")
    assert json.loads(unquote(page.url.partition("#")[2]))["panes"][0]["region"] == "40,20,80,60"
    server.close()


def test_two_panes_stand_side_by_side(page):
    page.click("#aside")
    second = page.locator(".pane").nth(1)
    second.locator("[name=model]").select_option(index=1)
    until(
        page,
        "document.querySelector('.pane + .pane .classes button')?.innerText.includes('<b>1</b>')",
    )
    assert "<b>0</b>" in page.locator(".classes button").first.inner_text()
    second.locator(".close").click()
    assert page.locator(".pane").count() == 1


def test_the_link_restores_every_setting(page, server, open_page, photo):
    page.fill("[name=target]", "3")
    page.fill("[name=rivals]", "top:2")
    page.keyboard.press("Enter")
    page.select_option("[name=fill]", "mean")
    until(page, "document.querySelector('.shell').innerText.includes('--fill=mean')")
    wait_until_whole(page)
    page.click("#link")
    link = page.url
    state = json.loads(unquote(link.partition("#")[2]))
    assert (state["panes"][0]["target"], state["panes"][0]["rivals"]) == ("3", "top:2")
    other = open_page(link)
    until(other, "document.querySelector('#said').innerText.includes('mine.png')")
    assert other.input_value("[name=rivals]") == "top:2"
    assert other.input_value("[name=fill]") == "mean"
    other.set_input_files("#file", photo)
    wait_until_whole(other)
    until(other, lambda: other.inner_text(".verdict") == page.inner_text(".verdict"))
    other.close()


def test_a_photo_can_be_dropped_and_pasted(page, photo):
    data = photo.read_bytes()
    script = """([kind, bytes]) => {
      const given = new DataTransfer();
      given.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, {type: "image/png"}));
      const init = {bubbles: true, dataTransfer: given, clipboardData: given};
      const kinds = {drop: DragEvent, paste: ClipboardEvent};
      document.dispatchEvent(new kinds[kind](kind, init));
    }"""
    for kind in ("drop", "paste"):
        page.evaluate(script, [kind, list(data)])
        until(page, "kind => document.querySelector('#said').innerText.startsWith(kind)", kind)


def test_a_bad_file_is_said_and_a_good_one_still_works(page, photo, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.set_input_files("#file", tmp_path / "bad.png")
    page.wait_for_selector("#said.wrong")
    assert "not a picture" in page.inner_text("#said")
    page.set_input_files("#file", photo)
    until(page, "document.querySelector('#said').innerText.startsWith('mine.png')")


def test_a_photo_that_is_given_before_the_choices_have_come_is_explained(page, server, photo):
    tab, held = page.context.new_page(), []

    def hold(route):
        held.append(route)

    tab.route("**/api/choices", hold)
    tab.goto(server.address)
    until(tab, lambda: bool(held))
    with tab.expect_response("**/api/photos*"):
        tab.set_input_files("#file", photo)
    assert tab.inner_text("#said") == "reading the photo"
    held[0].continue_()
    wait_until_whole(tab)
    assert tab.inner_text("#said").startswith("mine.png")
    tab.close()


def test_two_tabs_do_not_stop_each_other(page, server, photo):
    tab = page.context.new_page()
    tab.goto(server.address)
    tab.set_input_files("#file", photo)
    page.fill("[name=target]", "5")
    page.keyboard.press("Enter")
    wait_until_whole(tab)
    wait_until_whole(page)
    assert tab.locator(".error").is_hidden()
    assert page.locator(".error").is_hidden()
    tab.close()


def test_a_computation_is_stopped_by_its_button(page, server, monkeypatch):
    from chiaroscuro.web import app

    stopped = []

    def endless(classifier, question, upload, job, rivals):
        try:
            while True:
                job.progress(1, 4)
                job.stopped.wait(0.02)
        finally:
            stopped.append(question.target)

    monkeypatch.setattr(app.answers, "explained", endless)
    page.fill("[name=target]", "2")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.where').innerText === 'class 1 of 4'")
    page.click(".stop")
    page.wait_for_selector(".running", state="hidden")
    until(page, lambda: bool(stopped))
    assert stopped == ["2"]


def test_stopping_the_comparison_with_all_keeps_the_one_with_few(page, monkeypatch):
    from chiaroscuro.web import app

    real = app.answers.explained

    def endless(classifier, question, upload, job, rivals):
        while rivals == "all":
            job.check()
            job.stopped.wait(0.02)
        return real(classifier, question, upload, job, rivals)

    monkeypatch.setattr(app.answers, "explained", endless)
    page.fill("[name=target]", "2")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.notes').innerText.includes('all others follow')")
    assert page.inner_text(".where") == "now against all others"
    page.focus(".stop")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.notes').innerText.includes('10 best rivals only')")
    assert page.evaluate("document.activeElement.name") == "model"  # not lost with the button


def test_the_keyboard_stays_in_the_list_of_classes(page):
    page.locator(".classes button").nth(2).focus()
    label = page.evaluate("document.activeElement.innerText")
    page.keyboard.press("Enter")
    until(page, f"label => {CHOSEN}.innerText === label", label)
    wait_until_whole(page)
    assert page.evaluate(f"document.activeElement === {CHOSEN}")


def test_a_closed_pane_hands_the_keyboard_to_the_button_that_opens_it(page):
    page.click("#aside")
    page.locator(".pane + .pane .close").press("Enter")
    assert page.locator(".pane").count() == 1
    assert page.evaluate("document.activeElement.id") == "aside"


def test_the_newest_photo_is_shown_though_an_older_one_is_read_later(
    page, photo, tmp_path, monkeypatch
):
    from chiaroscuro.web import app

    real, entered, go_on = app.decode_photo, threading.Event(), threading.Event()

    def slow(data, name):
        if name == "slow.png":
            entered.set()
            assert go_on.wait(PATIENCE)
        return real(data, name)

    monkeypatch.setattr(app, "decode_photo", slow)
    (tmp_path / "slow.png").write_bytes(photo.read_bytes())
    (tmp_path / "newer.png").write_bytes(photo.read_bytes())
    page.set_input_files("#file", tmp_path / "slow.png")
    until(page, entered.is_set)  # the page's requests pass through this thread
    page.set_input_files("#file", tmp_path / "newer.png")
    until(page, "document.querySelector('#said').innerText.startsWith('newer.png')")
    with page.expect_response(lambda response: "slow.png" in response.url):
        go_on.set()
    page.wait_for_timeout(300)
    assert page.inner_text("#said").startswith("newer.png")


def test_the_page_is_accessible_and_fits_a_phone(page, check_accessible):
    check_accessible(page)
    page.emulate_media(color_scheme="dark")
    check_accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(100)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390


def test_the_result_is_downloaded(page):
    with page.expect_download() as download:
        page.click(".zip")
    assert download.value.suggested_filename == "chiaroscuro-explanation.zip"
