"""The page of a sanity check, its charts, and the section that other pages show of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from chiaroscuro.choices import RANDOM
from chiaroscuro.render import Curve, CurvePanel, CurveSpec
from chiaroscuro.report.pages import environment, write_page
from chiaroscuro.report.runs import (
    Chart,
    confidence_text,
    details,
    draw,
    images_text,
    interval_text,
)
from chiaroscuro.results.measurements import CheckedMap, Level, Limits, SanityCheck, Step

_MEASURES = {"correlation": "rank correlation", "overlap": "overlap of the highest pixels"}
_TESTS = {"cascade": "layers randomized from the output on", "alone": "each layer alone"}
_NAMED = 4
"""So many overlooked layers are named in the table; more stand in its tooltip."""
_METHODS = {
    "positive-inside": "known to fail, for comparison: only positive gradients at every ReLU "
    "inside the network (guided backpropagation)"
}
QUESTIONS = {
    "weights": "random weights",
    "other_class": "second-best class",
    "noise": "input noise",
}
WORDS: Mapping[str, Mapping[Level, str]] = {
    "weights": {
        "none": "passes: with random weights it is no more similar than a random order",
        "some": "passes in part: random weights change it, but some similarity stays",
        "much": "fails: random weights hardly change it",
    },
    "other_class": {
        "none": "differs between the two best classes as much as a random order would",
        "some": "differs between the two best classes, with some similarity",
        "much": "hardly differs between the two best classes",
    },
    "noise": {
        "none": "unstable: a little noise changes it entirely",
        "some": "half stable: a little noise changes much of it",
        "much": "stable under a little noise",
    },
}
"""What each level means for each question."""
_MARKS = {
    ("weights", "none"): "good",
    ("weights", "much"): "bad",
    ("other_class", "none"): "good",
    ("other_class", "much"): "bad",
    ("noise", "much"): "good",
    ("noise", "none"): "bad",
}
_OUTCOMES: Mapping[Level, str] = {
    "none": "lose all similarity",
    "some": "keep some similarity",
    "much": "hardly change",
}


def write(result: SanityCheck, folder: Path) -> None:
    """Draw every chart as PNG and SVG, and the page, which needs no other file."""
    write_page(
        folder,
        "check.html.j2",
        result=result,
        section=check_section(result),
        images=images_text(result.data.images),
        charts=draw(check_charts(result), folder),
        tables=[(method, _numbers(result, method)) for method in result.methods],
        details=details(result),
    )


def check_charts(result: SanityCheck) -> list[Chart]:
    """Every chart: two per method, against the depth."""
    charts = []
    for method in result.methods:
        for test, words in _TESTS.items():
            caption = (
                f"{method}: similarity of each map to that of the untouched network, {words}; 1 is "
                "the same map. The dotted line and its band are the mean of random orders, and the "
                f"range of nine in ten of them. Other bands are {confidence_text(result)} "
                "intervals over images. Lower is better."
            )
            charts.append((f"{test}-{method}", caption, _sheet(result, method, test, words)))
    return charts


def check_section(result: SanityCheck, link: str = "") -> Markup:
    """The verdicts of a check as a part of a page; `link` leads to the check's own page."""
    template = environment().get_template("verdicts.html.j2")
    return Markup(
        template.render(
            outcome=outcome(result),
            questions=list(QUESTIONS.values()),
            groups=[(m, _METHODS.get(m, ""), _verdicts(result, m)) for m in result.methods],
            limits=_limits_text(result),
            link=link,
        )
    )


def outcome(result: SanityCheck) -> list[str]:
    """Which maps pass with random weights, and which do not, in sentences."""
    sentences = []
    for method in result.methods:
        levels: dict[Level, list[str]] = {}
        for checked in _maps(result, method):
            levels.setdefault(checked.verdict.weights, []).append(checked.map)
        said = [
            f"{', '.join(levels[level])} {words}"
            for level, words in _OUTCOMES.items()
            if level in levels
        ]
        sentences.append(f"{method}, with random weights: {'; '.join(said)}.")
    return sentences


def verdict_words(checked: CheckedMap) -> dict[str, str]:
    """What a map's verdict says, by question."""
    return {question: WORDS[question][_level(checked, question)] for question in QUESTIONS}


def lines(result: SanityCheck) -> Iterator[str]:
    """What a terminal shows: images, layers, and the verdicts of every map."""
    data = result.data
    left_out = f", {data.left_out_count} left out" if data.left_out_count else ""
    yield (
        f"{images_text(data.images)} of {data.name}{left_out}, "
        f"{len(result.layers)} steps from the output to the input"
    )
    for checked in result.maps:
        words = "; ".join(verdict_words(checked).values())
        yield f"{checked.method}, {checked.map}: {words}"


def _level(checked: CheckedMap, question: str) -> Level:
    level: Level = getattr(checked.verdict, question)
    return level


def _maps(result: SanityCheck, method: str) -> list[CheckedMap]:
    return [checked for checked in result.maps if checked.method == method]


def _sheet(result: SanityCheck, method: str, test: str, words: str) -> CurveSpec:
    data, draws = result.data, result.settings.draws
    name = data.name.rpartition("/")[2]
    maps = _maps(result, method)
    panels = [
        CurvePanel(
            title,
            [
                *(_curve(checked, test, measure) for checked in maps),
                _control(maps, measure, len(result.layers)),
            ],
        )
        for measure, title in _MEASURES.items()
    ]
    return CurveSpec(
        title=f"{result.model.name}, {method}: {words}",
        subtitle=(
            f"similarity to the untouched network's map · {images_text(data.images)} of "
            f"{name} · {draws} draw{'' if draws == 1 else 's'} of weights"
        ),
        panels=panels,
        x_label=words if test == "cascade" else "the layer, counted from the output",
        y_label="similarity",
        y_limits=(min(-0.1, _lowest(panels)), 1.0),
        percent_x=False,
    )


def _curve(checked: CheckedMap, test: str, measure: str) -> Curve:
    steps = checked.cascade if test == "cascade" else checked.alone
    x = [step.step for step in steps]
    intervals = [getattr(step.similarity, measure) for step in steps]
    ends = [
        [one.value for one in intervals],
        [one.low for one in intervals],
        [one.high for one in intervals],
    ]
    if test == "cascade":  # nothing is randomized yet, so the map is itself
        x, ends = [0, *x], [[1.0, *values] for values in ends]
    return Curve(checked.map, x, *ends)


def _control(maps: Sequence[CheckedMap], measure: str, count: int) -> Curve:
    """The mean of the random orders, and the widest band of any map's."""
    mean = sum(getattr(checked.random.similarity, measure).value for checked in maps) / len(maps)
    low = min(_limits(checked, measure).lowest for checked in maps)
    high = max(_limits(checked, measure).floor for checked in maps)
    x = range(count + 1) if count == 1 else range(1, count + 1)
    return Curve(RANDOM, x, [mean] * len(x), [low] * len(x), [high] * len(x))


def _lowest(panels: Sequence[CurvePanel]) -> float:
    return min(min(curve.low or curve.y) for panel in panels for curve in panel.curves)


def _limits(checked: CheckedMap, measure: str) -> Limits:
    correlation = measure == "correlation"
    return checked.correlation_limits if correlation else checked.overlap_limits


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One map's verdicts: words with their marks by question, and the layers that it overlooks."""

    map: str
    cells: Sequence[tuple[str, str]]
    layers: str
    count: str


def _verdicts(result: SanityCheck, method: str) -> list[VerdictRow]:
    names = [layer.name for layer in result.layers]
    rows = []
    for checked in _maps(result, method):
        cells = [
            (words, _MARKS.get((question, _level(checked, question)), ""))
            for question, words in verdict_words(checked).items()
        ]
        over = [names[step - 1] for step in checked.verdict.overlooked]
        few = f": {', '.join(over)}" if 0 < len(over) <= _NAMED else ""
        count = f"{len(over)} of {len(names)}{few}"
        rows.append(VerdictRow(checked.map, cells, ", ".join(over), count))
    return rows


def _limits_text(result: SanityCheck) -> str:
    """The two limits of the verdicts in words, with the range that they have over the maps."""
    parts = []
    for measure, title in _MEASURES.items():
        limits = [_limits(checked, measure) for checked in result.maps]
        floors, middles = [one.floor for one in limits], [one.middle for one in limits]
        parts.append(f"{title}: {_range(floors)} and {_range(middles)}")
    return "; ".join(parts)


def _range(values: Sequence[float]) -> str:
    low, high = (f"{end:.3f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _numbers(result: SanityCheck, method: str) -> list[tuple[str, list[str], str]]:
    """The cascade, the class, the noise and the control of each map, as written."""
    return [
        (
            checked.map,
            [
                interval_text(getattr(step.similarity, measure))
                for measure in _MEASURES
                for step in _shown(checked)
            ],
            f"{100 * checked.cascade[-1].constant:.0f} %",
        )
        for checked in _maps(result, method)
    ]


def _shown(checked: CheckedMap) -> tuple[Step, ...]:
    return (
        checked.cascade_mean,
        checked.cascade[-1],
        checked.other_class,
        checked.noise,
        checked.random,
    )
