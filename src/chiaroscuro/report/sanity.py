"""The page of a sanity check, its charts, and the section that other pages show of it."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from chiaroscuro.render import Curve, CurvePanel, CurveSpec
from chiaroscuro.report.charts import images_text
from chiaroscuro.report.evaluation import interval_text
from chiaroscuro.report.pages import environment

_MEASURES = {"correlation": "rank correlation", "overlap": "overlap of the highest pixels"}
_ALONE = "each layer alone"
_CASCADE = "layers randomized from the output on"
_NAMED = 4
"""So many overlooked layers are named in the table; more stand in its tooltip."""
_REFERENCE = "positive-inside"
_METHODS = {
    _REFERENCE: "known to fail, for comparison: only positive gradients at every ReLU inside the "
    "network (guided backpropagation)"
}
_QUESTIONS = {"weights": "random weights", "class": "second-best class", "noise": "input noise"}
_MARKS = {
    ("weights", "unlike"): "good", ("weights", "alike"): "bad",
    ("class", "unlike"): "good", ("class", "alike"): "bad",
    ("noise", "alike"): "good", ("noise", "unlike"): "bad",
}  # fmt: skip


def check_charts(summary: Mapping[str, Any]) -> list[tuple[str, str, CurveSpec]]:
    """File name, caption and figure of every chart: two a method, against the depth."""
    charts = []
    for method in _methods(summary):
        for test, words in (("cascade", _CASCADE), ("alone", _ALONE)):
            caption = (
                f"{method}: likeness of each map to that of the untouched network, {words}; 1 is "
                "the same map. The dotted line and its band are a random order's mean, and what "
                "nine in ten random orders come to. Other bands are "
                f"{_confidence(summary)} intervals over images. Lower is better."
            )
            charts.append((f"{test}-{method}", caption, _sheet(summary, method, test, words)))
    return charts


def check_page(summary: Mapping[str, Any], charts: Sequence[tuple[str, str]]) -> str:
    """One check as a page that needs no other file and no network; `charts`: captions with SVG."""
    drawn = [
        (caption, f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')}")
        for caption, svg in charts
    ]
    template = environment().get_template("check.html.j2")
    return template.render(
        summary=summary,
        section=check_section(summary),
        images=images_text(summary["data"]["images"]),
        charts=drawn,
        tables=[_numbers(summary, method) for method in _methods(summary)],
        details=_details(summary),
    )


def check_section(summary: Mapping[str, Any], link: str = "") -> Markup:
    """The verdicts of a check as a part of a page; `link` leads to the check's own page."""
    template = environment().get_template("verdicts.html.j2")
    return Markup(
        template.render(
            outcome=outcome(summary),
            questions=list(_QUESTIONS.values()),
            groups=[_verdicts(summary, method) for method in _methods(summary)],
            lines=_lines(summary),
            link=link,
        )
    )


def outcome(summary: Mapping[str, Any]) -> list[str]:
    """What was found, in sentences: which maps pass with random weights, and which do not."""
    found = []
    for method in _methods(summary):
        levels: dict[str, list[str]] = {}
        for entry in _entries(summary, method):
            levels.setdefault(entry["verdict"]["weights"]["level"], []).append(entry["map"])
        said = [
            f"{', '.join(levels[level])} {words}"
            for level, words in (
                ("unlike", "lose all likeness to themselves"),
                ("trace", "keep a trace of it"),
                ("alike", "hardly notice"),
            )
            if level in levels
        ]
        found.append(f"{method}: when weights become random, {'; '.join(said)}.")
    return found


def _methods(summary: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(entry["method"] for entry in summary["maps"]))


def _entries(summary: Mapping[str, Any], method: str) -> list[Mapping[str, Any]]:
    return [entry for entry in summary["maps"] if entry["method"] == method]


def _confidence(summary: Mapping[str, Any]) -> str:
    return f"{100 * summary['choices']['confidence']:.0f} %"


def _sheet(summary: Mapping[str, Any], method: str, test: str, words: str) -> CurveSpec:
    data, count = summary["data"], len(summary["layers"])
    draws = summary["choices"]["draws"]
    source = data["source"].rstrip("/").rpartition("/")[2]
    entries = _entries(summary, method)
    panels = [
        CurvePanel(title, [*(_curve(e, test, m) for e in entries), _control(entries, m, count)])
        for m, title in _MEASURES.items()
    ]
    return CurveSpec(
        title=f"{summary['model']['name']}, {method}: {words}",
        subtitle=(
            f"likeness to the untouched network's map · {images_text(data['images'])} of "
            f"{source}, {data['split']} · {draws} draw{'' if draws == 1 else 's'} of weights"
        ),
        panels=panels,
        x_label=_CASCADE if test == "cascade" else "the layer, counted from the output",
        y_label="likeness",
        y_limits=(min(-0.1, _lowest(panels)), 1.0),
        percent_x=False,
    )


def _curve(entry: Mapping[str, Any], test: str, measure: str) -> Curve:
    steps = entry[test]
    x = [step["step"] for step in steps]
    ends = [[step[measure][end] for step in steps] for end in ("value", "low", "high")]
    if test == "cascade":  # nothing is randomized yet, so the map is itself
        x, ends = [0, *x], [[1.0, *values] for values in ends]
    return Curve(entry["map"], x, *ends)


def _control(entries: Sequence[Mapping[str, Any]], measure: str, count: int) -> Curve:
    """The mean of the random orders, and the widest band of any map's."""
    mean = sum(e["random"][0][measure]["value"] for e in entries) / len(entries)
    low = min(e["lines"][measure]["lowest"] for e in entries)
    high = max(e["lines"][measure]["floor"] for e in entries)
    x = range(count + 1) if count == 1 else range(1, count + 1)
    return Curve("random", x, [mean] * len(x), [low] * len(x), [high] * len(x))


def _lowest(panels: Sequence[CurvePanel]) -> float:
    return min(min(curve.low or curve.y) for panel in panels for curve in panel.curves)


def _verdicts(summary: Mapping[str, Any], method: str) -> Mapping[str, Any]:
    names = [layer["name"] for layer in summary["layers"]]
    rows = []
    for entry in _entries(summary, method):
        said = entry["verdict"]
        cells = [
            (said[question]["words"], _MARKS.get((question, said[question]["level"]), ""))
            for question in _QUESTIONS
        ]
        over = [names[step - 1] for step in said["overlooked"]]
        few = f": {', '.join(over)}" if 0 < len(over) <= _NAMED else ""
        count = f"{len(over)} of {len(names)}{few}"
        rows.append((entry["map"], cells, ", ".join(over), count))
    return {"method": method, "note": _METHODS.get(method, ""), "rows": rows}


def _lines(summary: Mapping[str, Any]) -> str:
    """The two lines of the verdicts in words, with the range that they have over the maps."""
    parts = []
    for measure, title in _MEASURES.items():
        floors, middles = (
            [entry["lines"][measure][line] for entry in summary["maps"]]
            for line in ("floor", "middle")
        )
        parts.append(f"{title}: {_range(floors)} and {_range(middles)}")
    return "; ".join(parts)


def _range(values: Sequence[float]) -> str:
    low, high = (f"{end:.3f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _numbers(summary: Mapping[str, Any], method: str) -> Mapping[str, Any]:
    """The cascade, the classes, the noise and the control of each map, in figures."""
    columns = (("cascade_mean", 0), ("cascade", -1), ("class", 0), ("noise", 0), ("random", 0))
    return {
        "method": method,
        "rows": [
            (
                entry["map"],
                [
                    interval_text(entry[test][place][measure])
                    for measure in _MEASURES
                    for test, place in columns
                ],
                f"{100 * entry['cascade'][-1]['constant']:.0f} %",
            )
            for entry in _entries(summary, method)
        ],
    }


def _details(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What it takes to make this again, as rows."""
    model = summary["model"]
    rows = [
        ("model", model["name"]),
        ("model sha256", model["sha256"]),
        *((key.replace("_", " "), value) for key, value in summary["choices"].items()),
        ("versions", ", ".join(f"{name} {found}" for name, found in summary["versions"].items())),
    ]
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in rows
        if value is not None
    ]
