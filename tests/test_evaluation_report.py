"""The page of an evaluation: every number, no network, and sense with parts missing."""

import base64
import re

import numpy as np
import pytest

from chiaroscuro.choices import PAPER_MAPS
from chiaroscuro.render import svg_text
from chiaroscuro.report import Example, evaluation_charts, evaluation_page
from chiaroscuro.report.charts import fill_title, images_text, is_natural
from chiaroscuro.report.evaluation import interval_text, outcome
from tests.summaries import small_summary
from tests.test_report import NASTY, Reader, assert_stands_alone

ODD = '<b>"x"&'


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (6, 5, 3), dtype=np.uint8)


def example(**changes):
    parts = {
        "id": "n01_7.JPEG", "label": "church", "predicted": "truck", "pixels": picture(),
        "maps": [("original", picture(1)), ("active", picture(2))],
        "edits": [("10 % black by active: no longer predicted (3 %)", picture(3))],
    }  # fmt: skip
    return Example(**(parts | changes))


def page(summary, examples=(), charts=(("a caption", "<svg/>"),)):
    return evaluation_page(summary, charts, examples)


def rewritten(summary, **sections):
    return summary | sections


@pytest.fixture(scope="module")
def summary():
    return small_summary()


@pytest.fixture(scope="module")
def reader(summary):
    charts = [(caption, svg_text(sheet)) for _, caption, sheet in evaluation_charts(summary)]
    return Reader(page(summary, [example()], charts))


# the page


def test_it_asks_nothing_of_the_network(reader):
    assert_stands_alone(reader)
    sources = reader.values("src")
    assert all(re.match(r"data:image/(png|svg\+xml);base64,", source) for source in sources)
    assert len(sources) == 4 + 4, "four charts; an image, two maps and an edit"
    assert reader.tags.count("img") == len([alt for alt in reader.values("alt") if alt])


def test_charts_are_the_figures_themselves(summary):
    (_, _, sheet), *_ = evaluation_charts(summary)
    found = Reader(page(summary, charts=[("what is seen", svg_text(sheet))]))
    (source,) = found.values("src")
    assert base64.b64decode(source.partition(",")[2]).decode() == svg_text(sheet)
    assert "what is seen" in found.text


def test_every_number_of_every_curve_is_there(summary, reader):
    for curve in summary["curves"]:
        assert interval_text(curve["area"]) in reader.text
        assert f"{curve['area_by_range']['value']:.3f}" in reader.text
        assert f"{100 * curve['changed'][-1]:.0f} %" in reader.text


def test_rows_hold_their_own_maps_numbers(summary):
    html = page(summary)
    for protocol in ("paper", "matched"):
        table = html.partition(f"<h2>Areas, {protocol} protocol</h2>")[2].partition("</table>")[0]
        for name in PAPER_MAPS:
            row = table.partition(f"<tr><td>{name}</td>")[2].partition("</tr>")[0]
            wanted = [
                interval_text(curve["area"])
                for curve in summary["curves"]
                if (curve["protocol"], curve["map"]) == (protocol, name)
            ]
            assert re.findall(r">(\d\.\d{3} \[[^<]*)<", row) == wanted


def test_the_lowest_map_of_each_fill_is_bold_and_no_control_is(summary):
    changed = rewritten(summary, curves=[dict(curve) for curve in summary["curves"]])
    control = next(curve for curve in changed["curves"] if curve["map"] == "random")
    control["area"] = {"value": 0.001, "low": 0.0, "high": 0.002}
    bold = re.findall(r'<td class="lowest[^"]*">(\d[^<]*)<', page(changed))
    lowest = [
        min(
            (
                c
                for c in changed["curves"]
                if (c["protocol"], c["fill"]) == key and not c["control"]
            ),
            key=lambda c: c["area"]["value"],
        )
        for key in [(p, f) for p in ("paper", "matched") for f in ("black", "white")]
    ]
    assert sorted(bold) == sorted(interval_text(curve["area"]) for curve in lowest)


def test_every_pair_is_listed_with_its_better_map(summary):
    html = page(summary)
    cells = re.findall(
        r"<tr><td>([\w:-]+)</td><td>([\w:-]+)</td><td class=\"(\w*)\">(.*?)</tr>", html
    )
    assert len(cells) == len(summary["differences"])
    told = {(row["map"], row["against"], f"{row['difference']:+.3f}"): row for row in
            summary["differences"]}  # fmt: skip
    for name, against, mark, rest in cells:
        row = told[name, against, rest.partition("<")[0]]
        better = name if row["difference"] < 0 else against
        assert (mark == "lowest") == (row["p_holm"] < 0.05)
        assert rest.endswith(f"<td>{better if mark else ''}</td>")
        assert f"{row['p_holm']:.4f}" in rest
        assert f"[{row['low']:+.3f}, {row['high']:+.3f}]" in rest


def test_classes_have_their_own_areas(summary):
    html = page(summary)
    for row in summary["classes"]:
        found = html.partition(f"<tr><td>{row['class']}</td>")[2].partition("</tr>")[0]
        wanted = [
            f"{area['area']:.3f}"
            for area in row["areas"]
            if area["protocol"] == "matched"
            and area["map"] in PAPER_MAPS
            and is_natural(area["map"], area["fill"])
        ]
        assert re.findall(r"<td>(\d\.\d{3})</td>", found) == wanted
        assert f"{100 * row['accuracy']:.1f} %" in found


def test_class_areas_are_found_by_name_and_not_by_place(summary):
    backwards = [row | {"areas": row["areas"][::-1]} for row in summary["classes"]]
    assert page(rewritten(summary, classes=backwards)) == page(summary)


def test_it_says_what_it_was_made_of(summary, reader):
    for word in (
        "1,000", "images of validation", "83.57 %", "[82.38, 84.69]", "n00.JPEG", "truncated file",
        "runs/r18/model", "torch 2.9.0", "ab" * 32, "9999", "church", "predicted truck",
        "no longer predicted (3 %)", "lower is better", "Fractions are nominal",
    ):  # fmt: skip
        assert word in reader.text, word


def test_names_from_outside_are_escaped():
    summary = small_summary(classes=2, labels=[ODD, NASTY], broken=1)
    summary["model"]["name"] = summary["data"]["source"] = NASTY
    summary["model"]["origin"] = {"file": NASTY}
    summary["data"]["broken"] = [{"id": NASTY, "reason": ODD}]
    charts = [(caption, svg_text(sheet)) for _, caption, sheet in evaluation_charts(summary)]
    shown = example(id=NASTY, label=ODD, predicted=NASTY, edits=[(ODD, picture())])
    html = page(summary, [shown], [*charts, (NASTY, "<svg/>")])
    found = Reader(html)
    assert_stands_alone(found)
    assert "<script" not in html
    assert "<b>&quot;x" not in html and '<b>"x' not in html
    assert found.text.count(ODD) == 4, "a class, a reason, a label and a caption"
    assert found.text.count(NASTY) >= 8


# parts missing


def test_without_accuracy_it_says_why():
    found = Reader(page(small_summary(accuracy=False)))
    assert "no accuracy" in found.text
    assert "the classes of the set are not those of the model" in found.text
    assert "None" not in found.text


@pytest.mark.parametrize("protocol", ["paper", "matched"])
def test_one_protocol_is_enough(protocol):
    summary = small_summary(protocols=(protocol,))
    found = Reader(page(summary))
    assert f"Areas, {protocol} protocol" in found.text
    assert found.text.count("Areas, ") == 1
    assert ("no random order was measured" in found.text) == (protocol == "paper")
    assert ("controls" in found.text) == (protocol == "matched")
    assert found.tags.count("details") == 2
    assert [name for _, name, _ in found.attributes].count("open") == 2


def test_no_classes_no_broken_images_no_examples():
    found = Reader(page(small_summary(classes=0, broken=0)))
    for word in ("Class by class", "Left out", "A few of the images", "broken"):
        assert word not in found.text


def test_an_image_without_a_label_has_its_prediction():
    text = Reader(page(small_summary(), [example(label=None)])).text
    assert "n01_7.JPEG, predicted truck" in text


def test_a_run_in_which_no_image_could_be_read_has_a_page():
    summary = rewritten(small_summary(accuracy=False), curves=[], differences=[], classes=[])
    summary["accuracy_note"] = ""
    summary["data"]["images"] = 0
    assert evaluation_charts(summary) == []
    text = Reader(page(summary, charts=[])).text
    assert "Nothing was measured" in text
    assert "n00.JPEG" in text
    assert "Curves" not in text


def test_a_thousand_classes_are_cut_to_the_largest_fifty():
    summary = small_summary(classes=1000)
    html = page(summary)
    assert "The 50 classes with most images, of 1000" in html
    largest = sorted(summary["classes"], key=lambda row: -row["images"])
    assert f"<td>{largest[0]['class']}</td>" in html
    assert len(re.findall(r"<tr><td>class \d+</td>", html)) == 50
    assert f"<td>{largest[-1]['class']}</td>" not in html


def test_only_the_first_broken_images_are_listed():
    text = Reader(page(small_summary(broken=120))).text
    assert "The first 50 of 120." in text
    assert "n049.JPEG" in text and "n050.JPEG" not in text


def test_any_fill_any_maps_one_image():
    fills = ("mean", "blur", "noise", "brighter:0.1", "darker:0.1")
    summary = small_summary(images=1, maps=("original", "signed"), fills=fills)
    found = Reader(page(summary))
    assert_stands_alone(found)
    assert "image of validation" in found.text
    for fill in fills:
        assert fill_title(fill) in found.text


# the outcome in words


def told(difference, low, high, p):
    summary = small_summary(fills=("black",))
    for row in summary["differences"]:
        if (row["map"], row["against"]) == ("original", "random"):
            row |= {"difference": difference, "low": low, "high": high, "p_holm": p}
    (sentence,) = outcome(summary)
    return sentence


def test_the_outcome_names_the_lowest_map_in_the_matched_protocol(summary):
    for fill, sentence in zip(("black", "white"), outcome(summary), strict=True):
        rows = [
            curve for curve in summary["curves"]
            if (curve["protocol"], curve["fill"]) == ("matched", fill) and not curve["control"]
        ]  # fmt: skip
        best = min(rows, key=lambda curve: curve["area"]["value"])
        start = f"{fill}-deletion (matched): {best['map']} has the lowest area"
        assert sentence.startswith(start)
        assert interval_text(best["area"]) in sentence


def test_the_outcome_says_whether_original_beats_chance():
    better, worse = told(-0.2, -0.3, -0.1, 0.01), told(0.1, 0.02, 0.3, 0.01)
    assert "original is lower (better) than a random order by 0.200 [0.100, 0.300]." in better
    assert "original is higher (worse) than a random order by 0.100 [0.020, 0.300]." in worse
    unknown = told(0.1, -0.02, 0.3, 0.05)
    wanted = "original cannot be told from a random order (difference +0.100 [-0.020, +0.300])."
    assert wanted in unknown


def test_an_edit_map_that_wins_is_called_made_for_it():
    summary = small_summary(fills=("black",))
    (without,) = outcome(summary)
    assert "positive has the lowest area" in without and "made for" not in without
    for curve in summary["curves"]:
        if curve["map"] == "positive":
            curve["map"] = "partial-edit"
    (sentence,) = outcome(summary)
    others = [
        curve for curve in summary["curves"]
        if curve["protocol"] == "matched" and not curve["control"]
        and curve["map"] != "partial-edit"
    ]  # fmt: skip
    second = min(others, key=lambda curve: curve["area"]["value"])
    assert (
        "It is made for this very edit, so this score alone does not make it a better map. Of the "
        f"maps that know no edit, {second['map']} is lowest, {interval_text(second['area'])}."
    ) in sentence


def test_an_edit_map_belongs_to_every_fill():
    assert all(is_natural("partial-edit", fill) for fill in ("black", "white", "blur"))
    assert not is_natural("inverted:partial-edit", "black")


def test_the_outcome_says_what_the_lowest_map_is_not_told_from():
    summary = small_summary(fills=("black",))
    (before,) = outcome(summary)
    assert "not told apart" not in before
    for row in summary["differences"]:
        if {row["map"], row["against"]} == {"positive", "active"}:
            row["p_holm"] = 0.2
    (sentence,) = outcome(summary)
    assert "positive has the lowest area" in sentence
    assert "(not told apart from active)" in sentence


# the charts


def names(sheet):
    return {panel.title: [curve.name for curve in panel.curves] for panel in sheet.panels}


def test_charts_show_every_curve_once_and_random_beside_each(summary):
    charts = evaluation_charts(summary)
    assert [name for name, _, _ in charts] == [
        "paper", "paper-crossed", "matched", "matched-crossed",
    ]  # fmt: skip
    for protocol in ("paper", "matched"):
        drawn = [
            (fill, name)
            for title, _, sheet in charts
            if title.startswith(protocol)
            for fill, found in names(sheet).items()
            for name in found
            if name != "random"
        ]
        wanted = [
            (fill_title(curve["fill"]), curve["map"])
            for curve in summary["curves"]
            if curve["protocol"] == protocol and curve["map"] != "random"
        ]
        assert sorted(drawn) == sorted(wanted)


def test_each_fill_has_its_own_maps(summary):
    found = {name: names(sheet) for name, _, sheet in evaluation_charts(summary)}
    assert found["paper"] == {
        "black-deletion": ["original", "positive", "active"],
        "white-deletion": ["original", "negative", "inactive"],
    }
    assert found["matched"]["black-deletion"][-1] == "random"
    assert found["paper-crossed"] == {
        "black-deletion": ["negative", "inactive"], "white-deletion": ["positive", "active"],
    }  # fmt: skip


def test_another_fill_shows_all_maps():
    summary = small_summary(fills=("blur", "brighter:0.1"), protocols=("paper",))
    ((name, _, sheet),) = evaluation_charts(summary)
    assert name == "paper"
    assert names(sheet) == {
        "blur-deletion": list(PAPER_MAPS), "pixels brighter by 0.1": list(PAPER_MAPS),
    }  # fmt: skip


def test_curves_are_those_of_the_summary(summary):
    _, _, (_, caption, sheet), _ = evaluation_charts(summary)
    assert "Lower is better" in caption and "95 % intervals" in caption
    curve = sheet.panels[0].curves[1]
    row = next(
        row for row in summary["curves"]
        if (row["protocol"], row["map"], row["fill"]) == ("matched", curve.name, "black")
    )  # fmt: skip
    assert curve.x == summary["choices"]["fractions"]
    assert (curve.y, curve.low, curve.high) == tuple(
        row["allegiance"][end] for end in ("mean", "low", "high")
    )


def test_numbers_of_images_read_as_words():
    assert [images_text(n) for n in (0, 1, 2, 1000)] == [
        "0 images", "1 image", "2 images", "1,000 images",
    ]  # fmt: skip
