"""The evaluation's page: every figure on it, nothing asked of the network, honest words."""

import copy
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from chiaroscuro.choices import PAPER_FRACTIONS, PAPER_MAPS
from chiaroscuro.render import svg_text
from chiaroscuro.report import Example, evaluation_charts, evaluation_page
from chiaroscuro.report.evaluation import interval_text, outcome

NASTY = '<b>"x"&'


def curve(protocol, name, fill, rng):
    mean = np.sort(rng.random(13))[::-1]
    mean[0] = 1
    ends = {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}
    listed = {end: values.round(6).tolist() for end, values in ends.items()}
    area = float(np.trapezoid(mean, PAPER_FRACTIONS))
    value = {"value": area, "low": area - 0.02, "high": area + 0.02}
    return {
        "protocol": protocol, "map": name, "fill": fill,
        "control": name == "random" or name.startswith("inverted:"),
        "allegiance": listed, "probability": listed, "changed": list(PAPER_FRACTIONS),
        "area": value, "area_by_range": {k: v / 0.9 for k, v in value.items()},
    }  # fmt: skip


@pytest.fixture
def summary():
    rng = np.random.default_rng(0)
    controls = ["random", *(f"inverted:{name}" for name in PAPER_MAPS)]
    curves = [
        curve(protocol, name, fill, rng)
        for fill in ("black", "white")
        for protocol in ("paper", "matched")
        for name in (*PAPER_MAPS, *(controls if protocol == "matched" else ()))
    ]
    pair = {"difference": -0.05, "low": -0.08, "high": -0.02, "p": 0.0004, "p_holm": 0.012}
    return {
        "schema": "chiaroscuro-evaluation/1",
        "data": {
            "source": NASTY, "split": "test", "images": 1234, "limit": None, "seed": 0,
            "broken_count": 60,
            "broken": [{"id": f"test#{n}", "reason": NASTY} for n in range(50)],
        },
        "model": {"name": "net " + NASTY, "origin": {"weights": NASTY, "training": {"epochs": 3}},
                  "mean": None, "std": None, "sha256": "abc"},
        "accuracy": {"value": 0.6224, "low": 0.6128, "high": 0.6318},
        "accuracy_note": "",
        "choices": {
            "maps": list(PAPER_MAPS), "fills": ["black", "white"],
            "protocols": ["paper", "matched"], "fractions": list(PAPER_FRACTIONS), "seed": 0,
            "confidence": 0.95, "threads": 2,
        },
        "curves": curves,
        "differences": [
            {"protocol": protocol, "fill": fill, "map": "original", "against": against, **pair}
            for protocol in ("paper", "matched")
            for fill in ("black", "white")
            for against in ("positive", "random")
        ],
        "classes": [
            {"class": f"class {n} {NASTY}", "images": 1000 - n, "accuracy": 0.5,
             "areas": [{"protocol": c["protocol"], "map": c["map"], "fill": c["fill"],
                        "area": 0.25 + n / 1000} for c in curves]}
            for n in range(60)
        ],
        "versions": {"torch": "2.0"},
    }  # fmt: skip


def page_of(summary, examples=()):
    charts = [(caption, svg_text(sheet)) for _, caption, sheet in evaluation_charts(summary)]
    return evaluation_page(summary, charts, examples)


class Loads(HTMLParser):
    """Everything that a browser would fetch or run."""

    def __init__(self):
        super().__init__()
        self.sources, self.tags = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]


def loads(page):
    parser = Loads()
    parser.feed(page)
    return parser


def test_every_figure_is_on_the_page_and_the_nasty_names_are_text(summary):
    page = page_of(summary)
    for row in summary["curves"]:
        assert interval_text(row["area"]) in page
        assert f"{row['area_by_range']['value']:.3f}" in page
    assert "62.24 %" in page and "[61.28, 63.18]" in page and "1,234" in page
    assert NASTY not in page and "&lt;b&gt;" in page
    assert "test#49" in page and "The first 50 of 60" in page
    assert "The 50 classes with most images, of 60" in page


def test_the_page_asks_nothing_of_the_network(summary):
    found = loads(page_of(summary))
    assert found.sources and all(source.startswith("data:") for source in found.sources)
    assert not {"script", "link", "iframe", "object", "form"} & found.tags


def test_the_outcome_is_said_in_words(summary):
    lines = outcome(summary)
    assert len(lines) == 2
    for line, fill in zip(lines, ("black", "white"), strict=True):
        maps = [
            c for c in summary["curves"]
            if (c["protocol"], c["fill"]) == ("matched", fill) and not c["control"]
        ]  # fmt: skip
        best = min(maps, key=lambda c: c["area"]["value"])
        assert f"{best['map']} has the lowest area, {interval_text(best['area'])}" in line
        assert "original is lower (better) than a random order by 0.050" in line
    for row in summary["differences"]:
        row["p_holm"] = 0.3
    assert "original cannot be told from a random order" in outcome(summary)[0]
    for row in summary["differences"]:
        row.update(p_holm=0.01, difference=0.02)
    assert "original is higher (worse) than a random order by 0.020" in outcome(summary)[1]


def test_the_lowest_map_is_marked_and_no_control_is(summary):
    for row in summary["curves"]:
        if row["map"] == "inverted:active":
            row["area"]["value"] = 0.0001
    page = page_of(summary)
    marked = re.findall(r'class="lowest[^"]*">([\d.]+) \[', page)
    assert len(marked) == 4
    assert "0.000" not in marked


def test_charts_hold_the_articles_maps_and_the_crossed_ones(summary):
    charts = {name: sheet for name, _, sheet in evaluation_charts(summary)}
    assert list(charts) == ["paper", "paper-crossed", "matched", "matched-crossed"]
    black, white = charts["matched"].panels
    assert [c.name for c in black.curves] == ["original", "positive", "active", "random"]
    assert [c.name for c in white.curves] == ["original", "negative", "inactive", "random"]
    crossed = [c.name for c in charts["matched-crossed"].panels[0].curves]
    assert {"negative", "inactive", "random", "inverted:positive"} <= set(crossed)
    assert "positive" not in crossed
    assert charts["paper"].panels[0].curves[0].low is not None


def test_less_is_a_page_too(summary):
    little = copy.deepcopy(summary)
    little["accuracy"], little["accuracy_note"] = None, "the images have no classes"
    little["classes"], little["differences"] = [], []
    little["data"]["broken"], little["data"]["broken_count"] = [], 0
    little["choices"]["protocols"] = ["paper"]
    little["choices"]["fills"] = ["black"]
    little["curves"] = [c for c in little["curves"] if c["protocol"] == "paper"][:5]
    page = page_of(little)
    assert "no accuracy" in page and "the images have no classes" in page
    assert "Class by class" not in page and "Left out" not in page and "Paired" not in page


def test_other_fills_show_all_maps():
    rng = np.random.default_rng(1)
    curves = [curve("matched", name, "blur", rng) for name in (*PAPER_MAPS, "random")]
    made = {
        "data": {"source": "d", "split": "s", "images": 3}, "model": {"name": "m"},
        "choices": {"protocols": ["matched"], "fills": ["blur"], "confidence": 0.9,
                    "fractions": list(PAPER_FRACTIONS)},
        "curves": curves,
    }  # fmt: skip
    ((name, _, sheet),) = evaluation_charts(made)
    assert name == "matched"
    assert [c.name for c in sheet.panels[0].curves] == [*PAPER_MAPS, "random"]


def test_the_gallery_shows_image_maps_and_edits(summary):
    gray = np.full((4, 4, 3), 99, np.uint8)
    example = Example(f"id {NASTY}", "cat", "dog", gray, [("active", gray)], [("10 % black", gray)])
    page = page_of(summary, [example])
    assert "id &lt;b&gt;" in page and "cat, predicted dog" in page and "10 % black" in page
    assert page.count("data:image/png") == 3
