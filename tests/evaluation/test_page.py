"""The page of an evaluation: every number of a real run, no network, sense with parts missing."""

import base64
import re
from dataclasses import replace

import numpy as np
import pytest

from chiaroscuro.choices import CURVES, PAPER_MAPS
from chiaroscuro.report.evaluation import (
    curve_charts,
    group_of,
    lines,
    outcome,
    what_if_cell,
    what_if_charts,
    what_if_words,
    write,
)
from chiaroscuro.report.pages import images_text, interval_text, load_examples, too_few
from chiaroscuro.report.scores import best_maps
from chiaroscuro.results.facts import Interval, LeftOut
from chiaroscuro.results.measurements import EXAMPLES, ClassRow
from tests.evaluation.toy import CLASSES, run, toy_classifier
from tests.pictures import BROKEN, class_rows, write_parquet
from tests.test_report import NASTY, Reader, assert_stands_alone

ODD = '<b>"x"&'


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("evaluated")
    rows = class_rows(3, 5)
    rows[4] = (BROKEN, 1)
    write_parquet(place / "data" / "test.parquet", rows, CLASSES)
    return place


@pytest.fixture(scope="session")
def evaluated(folder):
    """A small real run, of everything that an evaluation measures."""
    return run(
        folder / "data", folder / "run", toy_classifier(mean=0.5, std=0.1), what_if=0.1,
        metrics=("deletion", "sharpness"),
    )  # fmt: skip


@pytest.fixture(scope="session")
def html(evaluated, folder):
    return (folder / "run" / "index.html").read_text()


@pytest.fixture(scope="session")
def reader(html):
    return Reader(html)


def page_of(result, tmp_path, examples=None):
    """The page of a changed result, with the examples of a run."""
    if examples is not None:
        (tmp_path / EXAMPLES).symlink_to(examples / EXAMPLES)
    write(result, tmp_path)
    return (tmp_path / "index.html").read_text()


def fewer(result, fills=None, protocols=None, maps=None):
    """The result as a run of fewer fills, protocols or maps gives it."""
    chosen = result.settings
    chosen = replace(
        chosen, fills=fills or chosen.fills, protocols=protocols or chosen.protocols,
        maps=maps or chosen.maps,
    )  # fmt: skip
    names = {*chosen.maps, "random", *(f"inverted:{name}" for name in chosen.maps)}

    def kept(row):
        protocol = getattr(row, "protocol", None) in (*chosen.protocols, None)
        return protocol and row.fill in chosen.fills and row.map in names

    curves = tuple(row for row in result.curves if kept(row))
    places = [j for j, row in enumerate(result.curves) if kept(row)]
    return replace(
        replace(
            result,
            curves=curves,
            differences=tuple(r for r in result.differences if kept(r) and r.against in names),
            gains=tuple(r for r in result.gains if kept(r) and "matched" in chosen.protocols),
            classes=tuple(
                replace(row, areas=tuple(row.areas[j] for j in places)) for row in result.classes
            ),
            what_if=tuple(row for row in result.what_if if kept(row)),
        ),
        settings=chosen,
    )


# the page


def test_it_asks_nothing_of_the_network(reader):
    assert_stands_alone(reader)
    sources = reader.values("src")
    assert all(re.match(r"data:image/(png|svg\+xml);base64,", source) for source in sources)
    # A chart a fill: own and crossed of two protocols, inverted of one, three of what-ifs; seven
    # examples of an image, five maps, four edits.
    assert len(sources) == 2 * (2 + 2 + 1 + 3) + 7 * (1 + 5 + 4)
    assert reader.tags.count("img") == len([alt for alt in reader.values("alt") if alt])


def test_charts_are_the_files_next_to_the_page(reader, folder):
    drawn = [s.partition(",")[2] for s in reader.values("src") if s.startswith("data:image/svg")]
    files = {file.read_bytes() for file in (folder / "run").glob("curves-*.svg")}
    assert {base64.b64decode(text) for text in drawn} == files
    assert len(list((folder / "run").glob("curves-*.png"))) == len(files) == len(drawn)


def test_rows_hold_their_own_maps_numbers(evaluated, html):
    for protocol in ("paper", "matched"):
        table = html.partition(f"<h3>Areas, {protocol} protocol</h3>")[2].partition("</table>")[0]
        for name in dict.fromkeys(c.map for c in evaluated.curves if c.protocol == protocol):
            row = table.partition(f"<tr><td>{name}</td>")[2].partition("</tr>")[0]
            own = [c for c in evaluated.curves if (c.protocol, c.map) == (protocol, name)]
            assert re.findall(r">(\d\.\d{3} \[[^<]*)<", row) == [interval_text(c.area) for c in own]
            assert re.findall(r">(\d\.\d{3})<", row) == [
                f"{c.area_by_range.value:.3f}" for c in own
            ]
            assert re.findall(r">(\d+ %)<", row) == [f"{100 * c.changed[-1]:.0f} %" for c in own]


def test_the_lowest_map_of_each_fill_is_bold_and_no_control_is(evaluated, tmp_path):
    low = Interval(0.0001, 0.0, 0.0002)
    curves = tuple(replace(c, area=low) if c.control else c for c in evaluated.curves)
    bold = re.findall(
        r'<td class="best[^"]*" data-label="[^"]*">(\d[^<]*)<',
        page_of(replace(evaluated, curves=curves), tmp_path),
    )
    wanted = []
    for protocol in ("paper", "matched"):
        for fill in ("black", "white"):
            own = [
                c for c in evaluated.curves
                if (c.protocol, c.fill) == (protocol, fill) and not c.control
            ]  # fmt: skip
            least = min(c.area.value for c in own)
            wanted += [interval_text(c.area) for c in own if c.area.value == least]
    assert sorted(bold) == sorted(wanted)


def test_every_pair_is_listed_with_its_better_map(evaluated, tmp_path):
    sure = [
        replace(row, p_holm=0.01 if i % 2 else 0.3) for i, row in enumerate(evaluated.differences)
    ]
    html = page_of(replace(evaluated, differences=tuple(sure)), tmp_path)
    cells = re.findall(
        r'<tr><td>([\w:-]+)</td><td data-label="against">([\w:-]+)</td>'
        r'<td data-label="difference" class="(\w*)">(.*?)</tr>',
        html,
    )
    shown = [row for row in sure if row.score == "gain" or row.of == "allegiance"]
    assert len(cells) == len(shown) == 2 * (25 + 3 * 10)
    matched_first = sorted(
        shown, key=lambda row: (row.score, CURVES.index(row.of), row.protocol != "matched")
    )
    for (name, against, mark, rest), row in zip(cells, matched_first, strict=True):
        assert (name, against) == (row.map, row.against)
        lower_wins = row.score == "area"
        better = name if (row.difference.value < 0) == lower_wins else against
        assert (mark == "best") == (row.p_holm < 0.05)
        assert rest.startswith(f"{row.difference.value:+.3f}<")
        assert rest.endswith(f">{better if mark else ''}</td>")
        assert f"{row.p_holm:.4f}" in rest
        assert f"[{row.difference.low:+.3f}, {row.difference.high:+.3f}]" in rest


def test_classes_have_their_own_areas(evaluated, html):
    shown = [
        j for j, c in enumerate(evaluated.curves)
        if c.protocol == "matched" and c.map in PAPER_MAPS and group_of(c.map, c.fill) == "own"
    ]  # fmt: skip
    for row in evaluated.classes:
        found = html.partition(f"<tr><td>{row.name}</td>")[2].partition("</tr>")[0]
        assert re.findall(r"<td data-label=\"[^\"]*\">(\d\.\d{3})</td>", found) == [
            f"{row.areas[j]:.3f}" for j in shown
        ]
        assert f"{100 * row.accuracy:.1f} %" in found


def test_it_says_how_it_was_computed(evaluated, reader, folder):
    accuracy = evaluated.accuracy
    for word in (
        "14 images", "of test", f"{100 * accuracy.value:.2f} %", "test#4", "not a picture",
        evaluated.model.sha256, f"torch {evaluated.versions['torch']}", "lower is better",
        "Fractions are nominal", "computed on", "cpu, float32", "gini", str(folder / "data"),
        interval_text(evaluated.metrics[0].mean),
    ):  # fmt: skip
        assert word in reader.text, word
    assert "None" not in reader.text


def test_examples_are_those_of_the_run(evaluated, folder, reader):
    examples = list(load_examples(folder / "run"))
    assert len(examples) == 7  # one of eight was left out
    for example in examples:
        title, (maps, edits) = example
        assert [name for name, _ in maps] == ["image", *PAPER_MAPS]
        assert title in reader.text and ", predicted " in title
        assert all(caption in reader.text for caption, _ in edits)
        assert [caption.split(":")[0] for caption, _ in edits] == [
            "10 % black by original", "10 % black by positive", "10 % white by original",
            "10 % white by negative",
        ]  # fmt: skip


def test_names_from_outside_are_escaped(evaluated, tmp_path):
    result = replace(
        evaluated,
        data=replace(evaluated.data, source=NASTY, left_out=(LeftOut(NASTY, ODD),)),
        model=replace(evaluated.model, name=NASTY, origin={"file": NASTY}),
    )
    classes = [
        replace(row, name=name) for row, name in zip(result.classes, (ODD, NASTY, ODD), strict=True)
    ]
    html = page_of(replace(result, classes=tuple(classes)), tmp_path)
    found = Reader(html)
    assert_stands_alone(found)
    assert '<b>"x' not in html
    assert found.text.count(ODD) == 3
    assert found.text.count(NASTY) >= 6


# parts missing


def test_without_accuracy_it_says_why(evaluated, tmp_path):
    plain = replace(replace(evaluated, accuracy=None), accuracy_note="no class names")
    found = Reader(page_of(plain, tmp_path))
    assert "no accuracy" in found.text and "no class names" in found.text
    assert "None" not in found.text


@pytest.mark.parametrize("protocol", ["paper", "matched"])
def test_one_protocol_is_enough(evaluated, tmp_path, protocol):
    found = Reader(page_of(fewer(evaluated, protocols=(protocol,)), tmp_path))
    assert f"Areas, {protocol} protocol" in found.text
    assert found.text.count("Areas, ") == 1
    assert ("no random order was measured" in found.text) == (protocol == "paper")
    assert ("controls" in found.text) == (protocol == "matched")


def test_no_classes_nothing_left_out_no_examples(evaluated, tmp_path):
    little = replace(
        evaluated, classes=(), differences=(), gains=(), notes=(), what_if=(), metrics=()
    )
    little = replace(little, data=replace(little.data, left_out=(), left_out_count=0))
    found = Reader(page_of(little, tmp_path))
    for word in (
        "Scores of each map", "not significantly", "Class by class", "Left out",
        "A few of the images", "Paired", "What if", "Other",
    ):  # fmt: skip
        assert word not in found.text


def test_metrics_without_deletion_are_a_page(evaluated, folder, tmp_path):
    result = run(folder / "data", tmp_path / "run", metrics=("sharpness",))
    assert result.curves == () and len(result.metrics) == 2 * 5
    text = Reader((tmp_path / "run" / "index.html").read_text()).text
    assert "deletion was not measured" in text and "Curves" not in text and "Areas" not in text
    assert len(list(lines(result))) == 1 + 10


def test_a_thousand_classes_are_cut_to_the_largest_fifty(evaluated, tmp_path):
    areas = evaluated.classes[0].areas
    classes = tuple(ClassRow(f"class {k}", 400 - 3 * (k % 130), 0.5, areas) for k in range(1000))
    html = page_of(replace(evaluated, classes=classes), tmp_path)
    assert "The 50 classes with most images, of 1000" in html
    largest = sorted(classes, key=lambda row: -row.images)
    assert f"<td>{largest[0].name}</td>" in html and f"<td>{largest[-1].name}</td>" not in html
    assert len(re.findall(r"<tr><td>class \d+</td>", html)) == 50


def test_only_the_first_images_that_were_left_out_are_listed(evaluated, tmp_path):
    out = tuple(LeftOut(f"n{k:03d}", "truncated") for k in range(50))
    data = replace(evaluated.data, left_out=out, left_out_count=120)
    text = Reader(page_of(replace(evaluated, data=data), tmp_path)).text
    assert "The first 50 of 120." in text and "n049" in text


# the outcome in words


def against_random(evaluated, value, low, high, p):
    rows = tuple(
        replace(row, difference=Interval(value, low, high), p_holm=p)
        if (row.map, row.against) == ("original", "random")
        else row
        for row in evaluated.differences
    )
    (sentence,) = outcome(fewer(replace(evaluated, differences=rows), fills=("black",)))
    return sentence


def test_the_outcome_names_the_lowest_map_in_the_matched_protocol(evaluated):
    for fill, sentence in zip(("black", "white"), outcome(evaluated), strict=True):
        rows = [
            c for c in evaluated.curves
            if (c.protocol, c.fill) == ("matched", fill) and not c.control
        ]  # fmt: skip
        best = min(rows, key=lambda c: c.area.value)
        assert sentence.startswith(f"{fill}-deletion (matched): {best.map} has the lowest area")
        assert interval_text(best.area) in sentence


def test_the_outcome_says_whether_original_beats_chance(evaluated):
    better = against_random(evaluated, -0.2, -0.3, -0.1, 0.01)
    assert "original is lower (better) than a random order by 0.200 [0.100, 0.300]." in better
    worse = against_random(evaluated, 0.1, 0.02, 0.3, 0.01)
    assert "original is higher (worse) than a random order by 0.100 [0.020, 0.300]." in worse
    unknown = against_random(evaluated, 0.1, -0.02, 0.3, 0.05)
    assert (
        "original does not differ significantly from a random order (difference +0.100 [-0.020, "
        "+0.300]; p = 0.05 after correction for 25 comparisons)."
    ) in unknown


def lowest(evaluated, name, **changes):
    """A run in which one map, perhaps under another name, has the lowest black area."""
    curves = tuple(
        replace(c, area=Interval(0.001, 0, 0.002), map=changes.get("map", c.map))
        if c.map == name
        else c
        for c in evaluated.curves
    )
    return fewer(replace(evaluated, curves=curves), fills=("black",), maps=changes.get("maps"))


def test_an_edit_map_that_wins_is_called_fitted_to_it(evaluated):
    (without,) = outcome(lowest(evaluated, "positive"))
    assert "positive has the lowest area" in without and "fitted" not in without
    maps = ("original", "negative", "active", "inactive", "partial-edit")
    result = lowest(evaluated, "positive", map="partial-edit", maps=maps)
    (sentence,) = outcome(result)
    others = [
        c for c in result.curves
        if c.protocol == "matched" and not c.control and c.map != "partial-edit"
    ]  # fmt: skip
    second = min(others, key=lambda c: c.area.value)
    assert (
        "It is fitted to this very edit, so this score alone does not make it a better map. Among "
        f"the maps that are not fitted to an edit, {second.map} is lowest, "
        f"{interval_text(second.area)}."
    ) in sentence


def test_an_edit_map_belongs_to_every_fill():
    assert all(group_of("partial-edit", fill) == "own" for fill in ("black", "white", "blur"))
    assert group_of("inverted:partial-edit", "black") == "inverted"


def test_the_outcome_says_what_does_not_differ_from_the_lowest_map(evaluated):
    result = lowest(evaluated, "positive")
    for p, said in ((0.01, False), (0.2, True)):
        rows = tuple(
            replace(row, p_holm=p if {row.map, row.against} == {"positive", "active"} else 0.01)
            for row in result.differences
        )
        (sentence,) = outcome(replace(result, differences=rows))
        assert ("(not significantly different from active)" in sentence) == said


# the winner


def gained(evaluated, gains, p=0.001, pair_p=None, other=None):
    """A run under black with these gains by allegiance; `other` gains most by logit."""

    def ends(value):
        return Interval(value, value - 0.01, value + 0.01)

    result = fewer(evaluated, fills=("black",), maps=tuple(gains))
    rows = []
    for g in result.gains:
        value = 1.0 if g.map == other and g.of == "logit" else gains[g.map]
        rows.append(replace(g, gain=ends(value), p_holm=p))
    pairs = tuple(
        replace(
            row, difference=ends(gains[row.map] - gains[row.against]),
            p_holm=(pair_p or {}).get(frozenset((row.map, row.against)), 0.001),
        )
        if row.score == "gain" else row
        for row in result.differences
    )  # fmt: skip
    return replace(result, gains=tuple(rows), differences=pairs)


def test_the_winner_has_the_highest_gain_with_its_lead(evaluated):
    gains = {"original": 0.1, "positive": 0.2, "active": 0.25}
    assert best_maps(gained(evaluated, gains)) == (
        "Under black-deletion, active wins: its relevance gain is 0.250 [0.240, 0.260], 0.050 "
        "[0.040, 0.060] more than that of positive, significantly (p = 0.001)."
    )
    close = {frozenset(("active", "positive")): 0.31}
    said = best_maps(gained(evaluated, gains, pair_p=close, other="original"))
    assert (
        "more than that of positive, but not significantly more than positive (p = 0.31)." in said
    )
    assert said.endswith("The highest is original by logit.")


def test_no_map_wins_where_none_gains(evaluated):
    gains = {"original": 0.1, "positive": 0.2}
    said = best_maps(gained(evaluated, gains, p=0.05))
    assert said == (
        "Under black-deletion, no map wins: none gains significantly over its inverted order."
    )
    assert best_maps(gained(evaluated, {"original": -0.2, "positive": -0.1})) == said
    alone = best_maps(gained(evaluated, {"original": 0.2}))
    assert (
        alone == "Under black-deletion, original wins: its relevance gain is 0.200 [0.190, 0.210]."
    )
    paper = fewer(evaluated, protocols=("paper",))
    assert " has the lowest area, " in best_maps(paper)


def test_every_score_is_in_its_maps_row(evaluated, tmp_path):
    html = page_of(evaluated, tmp_path)
    part = html.partition("Scores of each map, matched protocol</h2>")[2].partition("<h2")[0]
    for fill in ("black", "white"):
        table = part.partition(f'data-name="scores-{fill}"')[2].partition("</table>")[0]
        gains = {(g.map, g.of): g for g in evaluated.gains if g.fill == fill}
        names = re.findall(r"<tr><td>([\w-]+)</td>", table)
        by_gain = sorted(PAPER_MAPS, key=lambda name: -gains[name, "allegiance"].gain.value)
        assert names == [*by_gain, "random"]
        for name in names:
            curve = evaluated.curve("matched", name, fill)
            row = table.partition(f"<tr><td>{name}</td>")[2].partition("</tr>")[0]
            cells = re.findall(r'class="small ?(\w*)" data-label="([^"]+)">([^<]*)<', row)
            shown = {label: text for _, label, text in cells}
            assert shown["area, logit"] == interval_text(curve.logit_area)
            assert shown["area, probability"] == interval_text(curve.probability_area)
            for of in CURVES:
                text = "" if name == "random" else interval_text(gains[name, of].gain)
                assert shown.get(f"gain, {of}", "") == text
            for mark, label, _ in cells:
                kind, of = label.split(", ")
                if kind == "gain" and name != "random":
                    assert (mark == "off") == (gains[name, of].p_holm >= 0.05)


def test_maps_that_chance_equals_are_warned_of(evaluated, reader):
    assert evaluated.notes
    for note in evaluated.notes:
        assert f"U{note[1:]}." in reader.text


# the charts


def names(charts):
    return {name: [curve.name for curve in chart.curves] for name, chart in charts}


def test_every_curve_is_drawn_once_and_random_with_each(evaluated):
    charts = curve_charts(evaluated)
    assert [group for group in charts if charts[group]] == [
        "paper-own", "paper-crossed", "matched-own", "matched-crossed", "matched-inverted",
    ]  # fmt: skip
    for protocol in ("paper", "matched"):
        drawn = [
            (name.split("-")[2], curve)
            for group, shown in charts.items()
            if group.startswith(protocol)
            for name, curves in names(shown).items()
            for curve in curves
            if curve != "random"
        ]
        wanted = [
            (c.fill, c.map)
            for c in evaluated.curves
            if c.protocol == protocol and c.map != "random"
        ]
        assert sorted(drawn) == sorted(wanted)


def test_each_fill_has_its_own_maps(evaluated):
    charts = curve_charts(evaluated)
    assert names(charts["paper-own"]) == {
        "curves-paper-black": ["original", "positive", "active"],
        "curves-paper-white": ["original", "negative", "inactive"],
    }
    assert names(charts["matched-own"])["curves-matched-black"][-1] == "random"
    assert names(charts["paper-crossed"]) == {
        "curves-paper-black-crossed": ["negative", "inactive"],
        "curves-paper-white-crossed": ["positive", "active"],
    }


def test_another_fill_shows_all_maps(evaluated):
    curves = tuple(replace(c, fill="blur") for c in fewer(evaluated, fills=("black",)).curves)
    result = replace(fewer(evaluated, protocols=("paper",)), curves=curves)
    result = replace(result, settings=replace(result.settings, fills=("blur",)))
    charts = [pair for shown in curve_charts(result).values() for pair in shown]
    assert names(charts) == {"curves-paper-blur": list(PAPER_MAPS)}


def test_drawn_curves_are_those_of_the_result(evaluated):
    (_, chart), _ = curve_charts(evaluated)["matched-own"]
    assert chart.title == "black-deletion, matched protocol"
    for curve in chart.curves:
        row = evaluated.curve("matched", curve.name, "black")
        assert curve.x == evaluated.settings.fractions
        assert (curve.y, curve.low, curve.high) == (
            row.allegiance.mean, row.allegiance.low, row.allegiance.high,
        )  # fmt: skip


def test_the_protocol_to_compare_by_comes_first_and_controls_are_closed(html):
    assert html.index("Deletion, matched protocol") < html.index("Deletion, paper protocol")
    assert "<details open" not in html.partition("Paired differences")[0]
    assert "<details open><summary>matched" not in html


def test_too_few_images_are_warned_of(reader):
    assert "14 images are too few to rank maps" in reader.text
    assert too_few(30, 60) == []
    (hopeless,), (possible,) = too_few(3, 1), too_few(20, 10)
    assert hopeless.endswith("No difference can be significant with so few.")
    assert "significant" not in possible and "1 image is" in too_few(1, 0)[0]


def test_numbers_of_images_read_as_words():
    assert [images_text(n) for n in (0, 1, 2, 1000)] == [
        "0 images", "1 image", "2 images", "1,000 images",
    ]  # fmt: skip


# what-ifs


def test_a_run_without_what_ifs_shows_none(evaluated):
    without = replace(evaluated, what_if=())
    assert list(what_if_charts(without)) == list(what_if_words(without)) == []


def test_what_if_charts_are_the_rows(evaluated):
    charts = dict(what_if_charts(evaluated))
    assert list(charts) == [
        f"curves-what-if-{figure}-{fill}"
        for figure in ("direction", "tolerated", "flips")
        for fill in ("black", "white")
    ]
    for curve in charts["curves-what-if-direction-black"].curves:
        own = [r for r in evaluated.what_if if (r.map, r.fill) == (curve.name, "black")]
        assert list(curve.x) == [r.step for r in own] == [0.1, 0.25, 0.5, 1.0]
        assert list(curve.y) == [r.direction.value for r in own]
        assert list(curve.low) == [r.direction.low for r in own]


def without_random_direction(result):
    rows = (replace(r, direction=None) if r.control else r for r in result.what_if)
    return replace(result, what_if=tuple(rows))


def test_a_figure_without_a_value_is_left_out(evaluated):
    result = without_random_direction(evaluated)
    assert [curve.name for curve in what_if_charts(result)[0][1].curves] == list(PAPER_MAPS)
    assert list(what_if_words(result)) == []  # nothing to compare a map with
    assert what_if_cell(result.what_if[-1], "direction") == "none"


def known(row):
    """A what-if row with figures that can be written by hand."""

    def ends(value):
        return Interval(value, value - 0.01, value + 0.01)

    return replace(
        row, images=1234, direction=ends({"positive": 0.98, "random": 0.57}.get(row.map, 0.63)),
        tolerated=ends(0.4), slope=ends(0.731), correlation=None, predicted=ends(-2.5),
        actual=ends(-1.25), flips=ends(0.77), predicted_flips=ends(0.9),
    )  # fmt: skip


def test_the_whole_change_comes_first_and_open(evaluated, tmp_path):
    html = page_of(replace(evaluated, what_if=tuple(map(known, evaluated.what_if))), tmp_path)
    html = html.partition("What if: predicted and actual changes</h2>")[2]
    tables = re.findall(r"<details( open)?><summary>([^<]*change)</summary>", html)
    assert [is_open for is_open, _ in tables] == [" open"] * 2 + [""] * 6
    assert tables[0][1] == "black-deletion, the whole change"
    assert tables[-1][1] == "white-deletion, 10 % of the change"
    row = html.partition("<tr><td>positive</td>")[2].partition("</tr>")[0]
    assert re.findall(r">([^<]+)</td>", row) == [
        "1,234", "98 % [97, 99]", "40 % [39, 41]", "0.73 [0.72, 0.74]", "none",
        "-2.50 [-2.51, -2.49]", "-1.25 [-1.26, -1.24]", "77 % [76, 78]", "90 % [89, 91]",
    ]  # fmt: skip


def test_sentences_name_the_best_map_and_chance(evaluated):
    result = replace(evaluated, what_if=tuple(map(known, evaluated.what_if)))
    first, _ = what_if_words(result)
    assert first == (
        "Black-deletion of the top 10 %: the target logit moves in the predicted direction most "
        "often with positive, in 98 % [97, 99] of the images, by 0.73 [0.72, 0.74] of the "
        "predicted change; 77 % [76, 78] of the predictions flip. A random order: 57 % [56, 58], "
        "77 % [76, 78] flip."
    )


def test_a_terminal_shows_the_figures(evaluated):
    text = "\n".join(lines(evaluated))
    assert text.startswith(f"14 images of {evaluated.data.source}, test, 1 left out; accuracy ")
    area = evaluated.curve("matched", "active", "white").area.value
    assert f"active {area:.3f}" in text and "inverted:" not in text
    (gain,) = (
        g.gain.value for g in evaluated.gains
        if (g.of, g.fill, g.map) == ("allegiance", "black", "active")
    )  # fmt: skip
    line = next(x for x in lines(evaluated) if x.startswith("relevance gain, black"))
    assert f"active {gain:.3f}" in line
    assert best_maps(evaluated) in text
    assert text.count("warning: under ") == len(evaluated.notes) >= 2
    assert np.count_nonzero(["area, " in line for line in lines(evaluated)]) == 4
