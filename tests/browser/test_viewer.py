"""The viewer in a browser: every control by pointer and keyboard, and what is drawn."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from chiaroscuro.render.pictures import (
    CLASS_COLORS,
    HUES,
    OTHER_CLASS,
    ZERO,
    one_sided,
    overlay,
    smooth,
    two_sided,
)
from chiaroscuro.results.facts import CropBox
from chiaroscuro.viewer import viewer_page
from tests.browser.feeds import (
    CROP,
    HEIGHT,
    SIDE,
    WIDTH,
    at_map,
    canvas_pixels,
    make_target,
    one_map,
    photo_pixels,
    settle,
    signed_values,
    small_feed,
    viewer_at,
)

SCALE = 8
"""Canvas pixels per photo pixel in a box of 640 px."""
SHARP = {"map": "signed", "smoothing": 0}
MIDDLE = {"x": 320, "y": 240}


def state(page):
    return page.evaluate("viewer.get()")


def stage(page):
    return page.locator(".cv-stage canvas")


def slider(page, name):
    return page.get_by_role("slider", name=name, exact=True)


def gray_photo():
    """The photo's brightness below each pixel of the map."""
    luma = photo_pixels() @ np.array([0.299, 0.587, 0.114]) / 255
    x = (CROP.left + (np.arange(SIDE) + 0.5) * 5).astype(int)
    y = (CROP.top + (np.arange(SIDE) + 0.5) * 5).astype(int)
    return luma[np.ix_(y, x)]


def assert_colors(actual, expected, within=1):
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= within


# What is drawn


def test_a_map_alone_has_the_colors_of_the_figures(open_page):
    values = signed_values()
    page = viewer_at(open_page, small_feed(), {**SHARP, "view": "map"})
    drawn = canvas_pixels(page)
    assert_colors(at_map(drawn), two_sided(values, np.abs(values).max()))
    assert drawn[5, 5, 3] == 0, "nothing outside of what the network saw"
    page.evaluate("viewer.set({ map: 'active' })")
    positive = np.maximum(values, 0)
    assert_colors(at_map(canvas_pixels(page)), one_sided(positive, positive.max(), "brighter"))
    page.evaluate("viewer.set({ map: 'original' })")
    sizes = np.abs(values)
    assert_colors(at_map(canvas_pixels(page)), one_sided(sizes, sizes.max(), "either"))


def test_a_map_over_the_photo_covers_it_by_its_size_and_the_opacity(open_page):
    values = signed_values()
    limit = np.abs(values).max()
    page = viewer_at(open_page, small_feed(), SHARP)
    assert_colors(at_map(canvas_pixels(page)), overlay(values, limit, gray_photo()), 2)
    page.evaluate("viewer.set({ opacity: 0.5 })")
    half = overlay(values / 2, limit, gray_photo())
    assert_colors(at_map(canvas_pixels(page)), half, 2)
    page.evaluate("viewer.set({ opacity: 0, gray: false })")
    x = (CROP.left + (np.arange(SIDE) + 0.5) * 5).astype(int)
    y = (CROP.top + (np.arange(SIDE) + 0.5) * 5).astype(int)
    assert_colors(at_map(canvas_pixels(page)), photo_pixels()[np.ix_(y, x)], 0)


def test_the_crop_box_places_the_map(open_page):
    values = np.full((SIDE, SIDE), 0.5)
    target = make_target()
    target = replace(target, maps=(one_map("signed", values),))
    page = viewer_at(open_page, small_feed(targets=(target,)), {"smoothing": 0, "view": "map"})
    shown = canvas_pixels(page)[..., 3] > 0
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    assert [rows[0], rows[-1] + 1] == [CROP.top * SCALE, CROP.bottom * SCALE]
    assert [columns[0], columns[-1] + 1] == [CROP.left * SCALE, CROP.right * SCALE]
    assert shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_a_padded_photo_lies_inside_the_crop_box(open_page):
    box = CropBox(0, -10, 80, 70, WIDTH, HEIGHT)
    page = viewer_at(open_page, small_feed(targets=(make_target(crop=box),)), {"view": "photo"})
    drawn = canvas_pixels(page)
    height, width = drawn.shape[:2]
    assert width == height == 640
    assert drawn[40, 320, 3] == 0, "the padding is no photo"
    assert (drawn[84, 4, :3] == photo_pixels()[0, 0]).all()


def test_the_photo_alone_is_the_photo_faded_outside_the_crop(open_page):
    page = viewer_at(open_page, small_feed(), {"view": "photo"})
    drawn = canvas_pixels(page)[4::SCALE, 4::SCALE, :3].astype(int)
    photo = photo_pixels().astype(int)
    inside = np.s_[10:50, 20:60]
    assert (drawn[inside] == photo[inside]).all()
    faded = (photo + np.array([14, 16, 20])) / 2
    assert np.abs(drawn[:10] - faded[:10]).max() <= 2


def test_the_strongest_pixels_are_the_asked_share(open_page):
    values = signed_values()
    page = viewer_at(open_page, small_feed(), {**SHARP, "view": "map"})
    for percent in (10, 25, 50):
        page.evaluate(f"viewer.set({{ top: {percent} }})")
        shown = (at_map(canvas_pixels(page)) != ZERO).any(-1)
        count = round(percent / 100 * values.size)
        strongest = np.abs(values) >= np.sort(np.abs(values), axis=None)[-count]
        assert shown.sum() == count
        assert (shown == strongest).all()


def test_colors_end_at_the_quantile_of_the_feed(open_page):
    values = signed_values()
    page = viewer_at(open_page, small_feed(clip=0.5), {**SHARP, "view": "map"})
    sizes = np.abs(values[values != 0])
    assert_colors(at_map(canvas_pixels(page)), two_sided(values, np.quantile(sizes, 0.5)))


def test_same_limits_are_those_of_the_largest_map(open_page):
    values = signed_values()
    weak = one_map("active", np.maximum(values, 0) / 10, "magnitude", "brighter")
    target = replace(make_target(), maps=(one_map("signed", values), weak))
    feed = small_feed(targets=(target,))
    page = viewer_at(open_page, feed, {"map": "active", "smoothing": 0, "view": "map"})
    page.get_by_role("radio", name="all maps").check()
    expected = one_sided(np.maximum(values, 0) / 10, np.abs(values).max(), "brighter")
    assert_colors(at_map(canvas_pixels(page)), expected)
    page.get_by_role("radio", name="all maps").press("ArrowLeft")
    assert state(page)["limits"] == "own"


def test_limits_that_several_photos_share(open_page):
    values = signed_values()
    shared = replace(one_map("signed", values), limits=(0.5, 0.1))
    target = replace(make_target(), maps=(shared,), smoothing=2.0)
    feed = small_feed(targets=(target,))
    page = viewer_at(open_page, feed, {"smoothing": 0, "view": "map"})
    assert state(page)["limits"] == "given"
    assert_colors(at_map(canvas_pixels(page)), two_sided(values, 0.5))
    page.evaluate("viewer.set({ smoothing: 1 })")
    assert page.locator(".cv-ends").first.inner_text().split() == ["\N{MINUS SIGN}0.3", "0", "+0.3"]
    page.get_by_role("radio", name="each map").click()
    page.evaluate("viewer.set({ smoothing: 0 })")
    assert_colors(at_map(canvas_pixels(page)), two_sided(values, np.abs(values).max()))


def test_winner_has_hues_and_names_of_its_own(open_page):
    page = viewer_at(open_page, small_feed(), {"map": "winner", "view": "map"})
    drawn = at_map(canvas_pixels(page))
    assert (drawn[:3] == CLASS_COLORS[0]).all() and (drawn[3:5] == CLASS_COLORS[1]).all()
    assert (drawn[5] == OTHER_CLASS).all() and (drawn[6:] == ZERO).all()
    rows = page.locator(".cv-classes li").all_inner_texts()
    assert [row.split("\n") for row in rows] == [
        ["cat", "37.5 %"], ["dog", "25.0 %"], ["other classes", "12.5 %"], ["a tie", "25.0 %"],
    ]  # fmt: skip
    stage(page).hover(position={"x": 320, "y": 220})
    expect(page.locator(".cv-readout")).to_contain_text("winner: dog")


# Numbers


def test_smoothing_is_that_of_the_figures(open_page):
    page = viewer_at(open_page, small_feed())
    for width, height, sigma in ((9, 7, 0.8), (5, 12, 3.0), (64, 48, 4.5), (4, 4, 0)):
        values = np.random.default_rng(1).normal(size=(height, width)).astype(np.float32)
        found = page.evaluate(
            "([values, ...rest]) => [...cv.smooth(Float32Array.from(values), ...rest)]",
            [values.ravel().tolist(), width, height, sigma],
        )
        expected = smooth(values, sigma)
        np.testing.assert_allclose(np.reshape(found, values.shape), expected, atol=2e-6)


def test_ranks_and_quantiles_are_those_of_numpy(open_page):
    values = np.random.default_rng(2).standard_cauchy(501).astype(np.float32)
    values[:40] = 0
    page = viewer_at(open_page, small_feed())
    ranks = [1, 2, 250, 461, 462, 501]
    found, quantiles, empty = page.evaluate(
        """([values, ranks]) => {
          const numbers = Float32Array.from(values);
          return [ranks.map((k) => cv.kthLargest(numbers, k)),
            [0, 0.5, 0.99, 1].map((q) => cv.quantile(numbers, q)),
            cv.quantile(new Float32Array(4), 0.99)];
        }""",
        [values.tolist(), ranks],
    )
    sizes = np.sort(np.abs(values))[::-1]
    np.testing.assert_array_equal(found, sizes[np.array(ranks) - 1])
    expected = np.quantile(sizes[sizes > 0].astype(float), [0, 0.5, 0.99, 1])
    np.testing.assert_allclose(quantiles, expected, rtol=1e-5)
    assert empty == 0


# Controls


@pytest.mark.parametrize(
    ("name", "keys", "key", "after"),
    [
        ("Opacity", ["End", "ArrowLeft"], "opacity", 0.99),
        ("Strongest pixels", ["Home", "ArrowRight"], "top", 0.04),
        ("Smoothing", ["Home", "ArrowRight"], "smoothing", 0.1),
    ],
)
def test_sliders_by_keyboard_and_by_pointer(open_page, name, keys, key, after):
    page = viewer_at(open_page, small_feed())
    for pressed in keys:
        slider(page, name).press(pressed)
    assert state(page)[key] == pytest.approx(after)
    assert page.evaluate(f"events.at(-1).{key}") == pytest.approx(after)
    slider(page, name).scroll_into_view_if_needed()
    box = slider(page, name).bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    middle = {"opacity": 0.5, "top": 25.5, "smoothing": 1.5}[key]
    assert state(page)[key] == pytest.approx(middle, rel=0.1)
    assert (
        slider(page, name).get_attribute("aria-valuetext")
        == {
            "opacity": "50 %",
            "top": f"top {state(page)['top']:.0f} %",
            "smoothing": "1.5 px",
        }[key]
    )


def test_views_by_pointer_and_keyboard(open_page):
    page = viewer_at(open_page, small_feed())
    for name, view in (("Map", "map"), ("Photo", "photo"), ("Compare", "split")):
        page.get_by_role("radio", name=name, exact=True).click()
        assert state(page)["view"] == view
    page.get_by_role("radio", name="Compare").press("ArrowLeft")
    assert state(page)["view"] == "photo"
    assert slider(page, "Opacity").is_disabled()
    page.get_by_role("radio", name="Photo", exact=True).press("ArrowLeft")
    assert state(page)["view"] == "map"
    assert [event["view"] for event in page.evaluate("events")][-2:] == ["photo", "map"]


def test_map_and_class_are_chosen_by_name(open_page):
    feed = small_feed(targets=(make_target(), make_target("dog · 10 %", "dog", 2)))
    page = viewer_at(open_page, feed, {"smoothing": 0, "view": "map"})
    page.get_by_label("Map", exact=True).nth(0)
    page.get_by_role("combobox", name="Map", exact=True).select_option("signed")
    page.get_by_role("combobox", name="Class", exact=True).select_option("dog · 10 %")
    assert (state(page)["target"], state(page)["map"]) == (1, "signed")
    values = np.roll(signed_values(), 2, axis=0)
    assert_colors(at_map(canvas_pixels(page)), two_sided(values, np.abs(values).max()))
    page.get_by_role("combobox", name="Class", exact=True).press("ArrowUp")
    assert state(page)["target"] == 0


def test_one_class_needs_no_choice_of_classes(open_page):
    page = viewer_at(open_page, small_feed())
    assert page.get_by_role("combobox").count() == 1
    assert page.get_by_role("radio", name="all photos").count() == 0


def test_photo_in_color_or_gray(open_page):
    page = viewer_at(open_page, small_feed(), {**SHARP, "opacity": 0})
    box = page.get_by_role("checkbox", name="Photo in gray below a map")
    assert (np.ptp(at_map(canvas_pixels(page)).astype(int), axis=-1) == 0).all()
    box.uncheck()
    assert np.ptp(at_map(canvas_pixels(page)).astype(int), axis=-1).max() > 50
    box.press("Space")
    assert state(page)["gray"] is True


def test_two_maps_behind_the_divider(open_page):
    values = signed_values()
    wish = {**SHARP, "view": "split", "otherMap": "original", "divider": 0.5}
    page = viewer_at(open_page, small_feed(), wish)
    limit, gray = np.abs(values).max(), gray_photo()
    drawn = at_map(canvas_pixels(page))
    assert_colors(drawn[:, :4], overlay(values, limit, gray)[:, :4], 2)
    cover = np.abs(values)[..., None] / limit
    ground = np.repeat((80 + 130 * gray)[..., None], 3, axis=2)
    assert_colors(drawn[:, 4:], (ground * (1 - cover) + HUES["either"] * cover)[:, 4:], 2)
    assert page.locator(".cv-tag").all_inner_texts() == ["signed", "original"]
    page.get_by_role("combobox", name="Map, right").select_option("photo")
    assert state(page)["otherMap"] == ""
    photo = canvas_pixels(page)[4::SCALE, 4::SCALE, :3]
    assert (photo[20, 45:59] == photo_pixels()[20, 45:59]).all()


def test_the_divider_by_pointer_and_keyboard(open_page):
    page = viewer_at(open_page, small_feed(), {"view": "split"})
    divider = slider(page, "Divider")
    box = divider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(160, box["y"] + 60, steps=3)
    page.mouse.up()
    assert state(page)["divider"] == pytest.approx(0.25, abs=0.01)
    divider.press("ArrowRight")
    assert state(page)["divider"] == pytest.approx(0.26, abs=0.01)
    divider.press("Shift+ArrowLeft")
    assert state(page)["divider"] == pytest.approx(0.16, abs=0.01)
    divider.press("End")
    assert state(page)["divider"] == 1 and divider.get_attribute("aria-valuenow") == "100"
    divider.press("Home")
    assert state(page)["divider"] == 0


def test_each_side_lies_in_its_own_crop(open_page):
    """Two networks may see different parts of the photo."""
    box = CropBox(40, 20, 80, 60, WIDTH, HEIGHT)
    flat = replace(make_target(crop=box), maps=(one_map("signed", np.ones((SIDE, SIDE))),))
    feed = small_feed(targets=(make_target(), flat))
    wish = {**SHARP, "view": "split", "otherTarget": 1, "otherMap": "signed", "divider": 0.25}
    page = viewer_at(open_page, feed, wish)
    drawn = canvas_pixels(page)[4::SCALE, 4::SCALE, :3]
    assert (drawn[20:, 40:] == HUES["brighter"]).all()
    assert (drawn[:20, 20:] != HUES["brighter"]).any(-1).all()


# Reading


def test_value_class_and_share_under_the_pointer(open_page):
    values = signed_values()
    page = viewer_at(open_page, small_feed(), SHARP)
    readout = page.locator(".cv-readout")
    stage(page).hover(position={"x": (20 + 5 * 2 + 2) * SCALE, "y": (10 + 5 * 6 + 2) * SCALE})
    value = values[6, 2]
    rank = (np.abs(values) > abs(value)).sum() + 1
    helps = "brighter" if value > 0 else "darker"
    number = f"{value:+g}".replace("-", "\N{MINUS SIGN}")
    share = f"in the top {100 * rank / values.size:.1f} %"
    expect(readout).to_have_text(f"signed {number}: {helps} helps cat, {share} · pixel 2, 6")
    y, x = np.argwhere(values == 0)[0]
    stage(page).hover(position={"x": int(22 + 5 * x) * SCALE, "y": int(12 + 5 * y) * SCALE})
    expect(readout).to_have_text(f"signed 0: no effect shown · pixel {x}, {y}")
    stage(page).hover(position={"x": 4, "y": 4})
    expect(readout).to_have_text("Outside what the network saw.")
    page.mouse.move(700, 800)
    expect(readout).to_have_text("Point at the picture to read a pixel.")


def test_the_cursor_reads_by_keyboard(open_page):
    page = viewer_at(open_page, small_feed(), SHARP)
    readout = page.locator(".cv-readout")
    stage(page).press("ArrowRight")
    expect(readout).to_contain_text("pixel 4, 4")
    stage(page).press("ArrowLeft")
    stage(page).press("ArrowUp")
    expect(readout).to_contain_text("pixel 3, 3")
    stage(page).press("Shift+ArrowDown")
    expect(readout).to_contain_text("pixel 3, 7")
    drawn = canvas_pixels(page)
    left, top = (20 + 5 * 3) * SCALE, (10 + 5 * 7) * SCALE
    assert (drawn[top + 20, left, :3] == 255).all(), "a white line around the pixel"
    stage(page).press("Escape")
    expect(readout).to_have_text("Point at the picture to read a pixel.")


# Zoom


def test_zoom_by_buttons_keys_wheel_and_double_click(open_page):
    page = viewer_at(open_page, small_feed())
    page.get_by_role("button", name="Zoom in").click()
    assert state(page)["zoom"] == pytest.approx(1.5)
    page.get_by_role("button", name="Zoom out").click()
    assert state(page)["zoom"] == pytest.approx(1)
    stage(page).press("+")
    stage(page).press("+")
    assert state(page)["zoom"] == pytest.approx(2.25)
    stage(page).press("-")
    stage(page).press("0")
    assert state(page)["zoom"] == 1
    stage(page).dblclick(position={"x": 100, "y": 100})
    assert state(page)["zoom"] == pytest.approx(2)
    page.get_by_role("button", name="show everything").press("Enter")
    assert state(page)["zoom"] == 1
    stage(page).hover(position={"x": 400, "y": 200})
    page.mouse.wheel(0, -300)
    assert state(page)["zoom"] == 1, "the page scrolls, the picture does not zoom"
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.wait_for_function("viewer.get().zoom > 1.5")


def test_zoom_keeps_what_is_under_the_pointer(open_page):
    page = viewer_at(open_page, small_feed(), {"view": "photo"})
    stage(page).dblclick(position={"x": 30 * SCALE + 4, "y": 20 * SCALE + 4})
    drawn, photo = canvas_pixels(page)[..., :3], photo_pixels()
    assert (drawn[20 * SCALE + 4, 30 * SCALE + 4] == photo[20, 30]).all()
    assert (drawn[20 * SCALE + 4, 30 * SCALE + 4 + 2 * SCALE] == photo[20, 31]).all()


def test_single_pixels_are_seen_when_near(open_page):
    page = viewer_at(open_page, small_feed(), {"view": "photo", "zoom": 6, "x": 0.5, "y": 0.5})
    drawn = canvas_pixels(page)[..., :3]
    side = 6 * SCALE
    block = drawn[240 : 240 + side, 320 : 320 + side]
    assert (block == photo_pixels()[30, 40]).all()
    page.evaluate("viewer.set({ view: 'map', map: 'signed', smoothing: 1 })")
    block = canvas_pixels(page)[242:478, 322:558, :3]
    assert (block == block[0, 0]).all(), "a pixel of a smoothed map is one color too"


def test_dragging_and_the_cursor_move_what_is_shown(open_page):
    page = viewer_at(open_page, small_feed(), {"zoom": 4})
    page.mouse.move(300, stage(page).bounding_box()["y"] + 200)
    page.mouse.down()
    page.mouse.move(332, stage(page).bounding_box()["y"] + 136, steps=2)
    page.mouse.up()
    assert state(page)["x"] == pytest.approx(0.5 - 32 / 4 / 640, abs=1e-3)
    assert state(page)["y"] == pytest.approx(0.5 + 64 / 4 / 480, abs=1e-3)
    before = state(page)["x"]
    for _ in range(6):
        stage(page).press("ArrowRight")
    assert state(page)["x"] > before


def test_two_fingers_zoom(open_page):
    page = viewer_at(open_page, small_feed(), has_touch=True)
    top = stage(page).bounding_box()["y"]
    touch = page.context.new_cdp_session(page)

    def send(kind, *points):
        points = [{"x": x, "y": y + top, "id": n} for n, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", (300, 200), (340, 200))
    send("touchMove", (280, 200), (360, 200))
    send("touchMove", (240, 200), (400, 200))
    send("touchEnd")
    assert state(page)["zoom"] == pytest.approx(4, rel=0.1)


def test_sharp_screens_and_other_widths(open_page):
    page = viewer_at(open_page, small_feed(), SHARP, device_scale_factor=2)
    assert canvas_pixels(page).shape == (960, 1280, 4)
    stage(page).hover(position={"x": 22 * SCALE, "y": 12 * SCALE})
    expect(page.locator(".cv-readout")).to_contain_text("pixel 0, 0")
    page.evaluate("document.getElementById('box').style.width = '320px'")
    page.wait_for_function("document.querySelector('.cv-stage canvas').width === 640")
    values = signed_values()
    expected = overlay(values, np.abs(values).max(), gray_photo())
    assert_colors(at_map(canvas_pixels(page)), expected, 2)


# Files, links, events


def test_the_download_has_the_size_of_the_photo(open_page):
    page = viewer_at(open_page, small_feed(), {**SHARP, "zoom": 4})
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download PNG").click()
    assert waiting.value.suggested_filename == "cat-signed.png"
    picture = np.asarray(Image.open(waiting.value.path()).convert("RGB"))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    values = signed_values()
    middles = picture[12:50:5, 22:60:5]
    assert_colors(middles, overlay(values, np.abs(values).max(), gray_photo()), 2)


def test_the_download_of_a_comparison_has_its_divider(open_page):
    wish = {**SHARP, "view": "split", "otherMap": "", "divider": 0.5, "zoom": 2}
    page = viewer_at(open_page, small_feed(), wish)
    data = page.evaluate(
        "viewer.picture().then((blob) => blob.arrayBuffer()).then((b) => [...new Uint8Array(b)])"
    )
    picture = np.asarray(Image.open(io.BytesIO(bytes(data))).convert("RGB"))
    assert (picture[20, 41:59] == photo_pixels()[20, 41:59]).all()
    assert (picture[20, 21:39] != photo_pixels()[20, 21:39]).any()


def test_a_link_holds_the_state(open_page):
    wish = {"view": "split", "map": "active", "otherMap": "", "opacity": 0.4, "top": 12.25,
            "smoothing": 2.5, "limits": "same", "gray": False, "divider": 0.3, "zoom": 2.5,
            "x": 0.4, "y": 0.6}  # fmt: skip
    page = viewer_at(open_page, small_feed(), wish)
    assert state(page) == {"target": 0, "otherTarget": 0, **wish}
    link = page.evaluate("cv.toQuery(viewer.get())")
    page.evaluate("viewer.set({ view: 'map', zoom: 1, gray: true, opacity: 1, top: 100 })")
    page.evaluate("link => viewer.set(cv.fromQuery(link))", link)
    assert state(page) == {"target": 0, "otherTarget": 0, **wish}
    assert page.evaluate("events.length") == 0, "only what a person does is an event"


def test_a_state_that_does_not_fit_is_put_right(open_page):
    page = viewer_at(open_page, small_feed(), {"view": "?", "map": "gone", "target": 7})
    assert [state(page)[key] for key in ("view", "map", "target")] == ["over", "signed", 0]
    for wish, key, expected in (
        ({"opacity": "NaN"}, "opacity", 1), ({"opacity": 9}, "opacity", 1),
        ({"zoom": -3}, "zoom", 1), ({"top": ""}, "top", 100), ({"x": None}, "x", 0),
        ({"__proto__": 1}, "x", 0), ({"smoothing": 1e9}, "smoothing", 64),
    ):  # fmt: skip
        page.evaluate("wish => viewer.set(wish)", wish)
        assert state(page)[key] == expected, wish
    canvas_pixels(page)


def test_full_screen_and_back(open_page):
    page = viewer_at(open_page, small_feed())
    button = page.get_by_role("button", name="Full screen")
    button.click()
    page.wait_for_function("document.fullscreenElement?.className === 'cv'")
    button.click()
    page.wait_for_function("!document.fullscreenElement")


def test_another_feed_keeps_what_fits(open_page):
    page = viewer_at(open_page, small_feed(), {"map": "active", "opacity": 0.5, "target": 0})
    values = np.ones((2, 2))
    target = replace(make_target(), maps=(one_map("margin", values),))
    page.evaluate(f"viewer.update({small_feed(targets=(target,), title='dog.png').json()})")
    assert (state(page)["map"], state(page)["opacity"]) == ("margin", 0.5)
    assert stage(page).get_attribute("aria-label") == "dog.png: margin map for cat"
    page.evaluate("viewer.destroy()")
    assert page.locator(".cv").count() == 0


def test_a_broken_photo_is_told(open_page):
    page = viewer_at(open_page, small_feed())
    feed = small_feed(photo=replace(small_feed().photo, uri="data:image/png;base64,AAAA"))
    failed = page.evaluate(f"viewer.update({feed.json()}).then(() => false, () => true)")
    assert failed
    expect(page.locator(".cv-readout")).to_contain_text("The picture cannot be made: ")


def test_the_newest_of_several_feeds_stays(open_page):
    page = viewer_at(open_page, small_feed())
    feeds = [small_feed(title=f"{n}.png").json() for n in range(3)]
    page.evaluate(
        f"""() => {{
          const {{ decode }} = Image.prototype;
          let wait = 300;  // the first takes longest
          Image.prototype.decode = async function () {{
            await new Promise((done) => setTimeout(done, (wait -= 100)));
            return decode.call(this);
          }};
          return Promise.all([{",".join(feeds)}].map((feed) => viewer.update(feed)));
        }}"""
    )
    settle(page)
    assert "2.png" in stage(page).get_attribute("aria-label")


def test_a_notebook_widget_shares_feed_and_state(open_page):
    page = viewer_at(open_page, small_feed())
    page.evaluate(
        f"""() => {{
          const held = {{ feed: {small_feed().json()}, state: {{ map: "active" }} }};
          const listeners = {{}};
          window.model = {{ held, saved: 0, listeners, get: (name) => held[name],
            set: (name, value) => {{ held[name] = value; }},
            save_changes: () => {{ model.saved++; }},
            on: (name, act) => {{ listeners[name] = act; }},
            off: (name) => {{ delete listeners[name]; }} }};
          window.viewer.destroy();
          window.clean = cv.widget.render({{ model, el: document.getElementById("box") }});
        }}"""
    )
    assert page.get_by_role("combobox", name="Map").input_value() == "active"
    page.get_by_role("combobox", name="Map").select_option("signed")
    assert page.evaluate("[model.held.state.map, model.saved]") == ["signed", 1]
    page.evaluate(
        "() => { model.held.state = { map: 'original' }; model.listeners['change:state'](); }"
    )
    assert page.get_by_role("combobox", name="Map").input_value() == "original"
    # JupyterLab, which listens on the document, moves between cells by the arrows.
    page.evaluate("document.addEventListener('keydown', (e) => e.preventDefault())")
    slider = page.get_by_role("slider", name="Opacity")
    before = float(slider.input_value())
    slider.press("ArrowLeft")
    assert float(slider.input_value()) < before
    page.evaluate("clean()")
    assert page.evaluate("Object.keys(model.listeners)") == [] and page.locator(".cv").count() == 0


# People and pages


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "view"), [(1280, "split"), (390, "over")])
def test_nothing_serious_for_screen_readers(open_page, check_accessible, color_scheme, width, view):
    feed = small_feed(targets=(make_target(), make_target("dog · 10 %", "dog", 2)))
    options = {"box": "", "css": "", "width": width, "color_scheme": color_scheme}
    page = viewer_at(open_page, feed, {"view": view}, **options)
    check_accessible(page)
    ground = page.locator("select").first.evaluate("e => getComputedStyle(e).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (color_scheme == "light")


def test_a_phone_shows_everything_without_scrolling_sideways(open_page):
    page = viewer_at(open_page, small_feed(), {"view": "split"}, "", "", width=390, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for control in page.locator(".cv button, .cv select, .cv input, .cv-divider").all():
        if (box := control.bounding_box()) is None:
            continue  # not shown, such as the choice of one class
        assert box["x"] >= -16 and box["x"] + box["width"] <= 406


def test_every_control_is_reached_by_tab(open_page):
    page = viewer_at(open_page, small_feed(), {"view": "split"})
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(e => e.getAttribute('aria-label') ?? e.labels?.[0]?.innerText ?? e.innerText)"
                "(document.activeElement)"
            )
        )
        if "Download" in str(reached[-1]):
            break
    text = json.dumps(reached)
    for name in (
        "Compare", "Map, left", "Map, right", "Divider", "Zoom in", "Opacity", "Strongest pixels",
        "Smoothing", "each map", "Photo in gray", "Download",
    ):  # fmt: skip
        assert name in text, (name, reached)


def test_the_page_opens_from_a_file_under_its_own_policy(open_page):
    page = open_page(viewer_page(small_feed(title="<b>&.png"), {"map": "active"}))
    page.wait_for_selector(".chiaroscuro-viewer[data-ready]")
    assert page.title() == "<b>&.png"
    assert page.get_by_role("combobox").input_value() == "active"


def test_sliders_keep_up_with_the_screen(open_page, record_property):
    values = np.random.default_rng(0).standard_cauchy((224, 224))
    maps = tuple(one_map(name, values * k) for k, name in enumerate(("signed", "margin"), 1))
    target = replace(make_target(), maps=maps, smoothing=4.48)
    page = viewer_at(open_page, small_feed(targets=(target,)), {"view": "over"})
    took = {}
    for key, start, step in (("opacity", 0, 0.015), ("top", 1, 1.5), ("smoothing", 0.1, 0.1)):
        took[key] = page.evaluate(
            """([key, start, step]) => new Promise((done) => {
              const times = [];
              const canvas = document.querySelector(".cv-stage canvas");
              let n = 0;
              const turn = () => {
                const before = performance.now();
                viewer.set({ [key]: start + step * n });
                requestAnimationFrame(() => {
                  canvas.getContext("2d").getImageData(0, 0, 1, 1);
                  times.push(performance.now() - before);
                  if (++n < 60) turn(); else done(times.sort((a, b) => a - b)[30]);
                });
              };
              turn();
            })""",
            [key, start, step],
        )
    print({key: f"{time:.1f} ms" for key, time in took.items()})
    record_property("median_ms_per_move", took)
    assert max(took.values()) < 100, took
