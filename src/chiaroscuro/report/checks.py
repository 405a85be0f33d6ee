"""The pages of a sanity check and of a localization, and what a terminal shows of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from markupsafe import Markup

from chiaroscuro.choices import RANDOM, SURE
from chiaroscuro.render.sheets import Chart, Curve
from chiaroscuro.report.pages import (
    Charts,
    draw,
    environment,
    images_line,
    interval_text,
    load_examples,
    run_rows,
    too_few,
    write_page,
)
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import (
    CheckedMap,
    Level,
    Limits,
    Localization,
    LocatedMap,
    SanityCheck,
)

MEASURES = {"correlation": "rank correlation", "overlap": "overlap of the highest pixels"}
_TESTS = {"cascade": "layers randomized from the output on", "alone": "each layer alone"}
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
_GRADES: Mapping[Level, str] = {"none": "good", "some": "half", "much": "bad"}
_STABLE: Mapping[Level, Level] = {"none": "much", "some": "some", "much": "none"}
_OUTCOMES: Mapping[Level, str] = {
    "none": "no similarity to the trained network's maps stays for",
    "some": "some similarity stays for",
    "much": "hardly anything changes for",
}


def write(result: SanityCheck, folder: Path) -> None:
    """Draw every chart as PNG and SVG, and the page, which needs no other file."""
    write_page(
        folder,
        "check",
        title=f"Sanity check: {result.model.name} on {result.data.name}",
        asked="Do the maps depend on what they explain? A map of a network must change when the "
        "weights become random and when the target is another class, and must not change when the "
        "image hardly does.",
        found=outcome(result),
        docs="how-to/check-maps",
        warnings=too_few(result.data.images, 0),
        result=result,
        section=check_section(result),
        charts={method: draw(check_charts(result, method), folder) for method in result.methods},
        measures=MEASURES,
        maps=_maps,
        rows=run_rows(result),
    )


def check_section(result: SanityCheck, link: str = "") -> Markup:
    """The verdicts of a check as a part of a page; `link` leads to the check's own page."""
    template = environment().get_template("verdicts.html.j2")
    said = template.render(
        result=result,
        outcome=outcome(result) if link else [],
        questions=list(QUESTIONS.values()),
        notes=_METHODS,
        maps=_maps,
        cells=verdict_cells,
        limits=_limits_text(result),
        link=link,
    )
    return Markup(said)


def outcome(result: SanityCheck) -> list[str]:
    """Which maps pass with random weights, and which do not, in sentences."""
    sentences = []
    for method in result.methods:
        levels: dict[Level, list[str]] = {}
        for checked in _maps(result, method):
            levels.setdefault(checked.verdict.weights, []).append(checked.map)
        said = [f"{words} {', '.join(levels[k])}" for k, words in _OUTCOMES.items() if k in levels]
        sentences.append(f"{method}, with random weights: {'; '.join(said)}.")
    return sentences


def verdict_cells(checked: CheckedMap) -> list[tuple[str, str, str, float]]:
    """A map's grade, verdict in words, and the similarity that decides it, by question."""
    steps = {
        "weights": (checked.cascade_mean, checked.cascade[-1]),
        "other_class": (checked.other_class,),
        "noise": (checked.noise,),
    }
    cells = []
    for question, several in steps.items():
        level: Level = getattr(checked.verdict, question)
        found = []
        for measure, title in MEASURES.items():
            floor = _limits(checked, measure).floor
            value = max(getattr(step.similarity, measure).value for step in several)
            found.append(((value - floor) / (1 - floor), title, value))
        grade, (_, title, value) = _GRADES[level], max(found)
        if question == "noise":  # the one change that must leave a map as it is
            grade, (_, title, value) = _GRADES[_STABLE[level]], min(found)
        cells.append((grade, WORDS[question][level], title, value))
    return cells


def _maps(result: SanityCheck, method: str) -> list[CheckedMap]:
    return [checked for checked in result.maps if checked.method == method]


def check_charts(result: SanityCheck, method: str) -> Charts:
    """Every chart of a method: a test and a measure each, against the depth."""
    maps, charts = _maps(result, method), []
    for test, words in _TESTS.items():
        for measure, title in MEASURES.items():
            curves = [_curve(checked, test, measure) for checked in maps]
            curves.append(_control(maps, measure, len(result.layers)))
            label = words if test == "cascade" else "the layer, counted from the output"
            lowest = min(min(curve.low or curve.y) for curve in curves)
            chart = Chart(title, curves, label, "similarity", (min(-0.1, lowest), 1.03), False)
            charts.append((f"{test}-{method}-{measure}", chart))
    return charts


def _curve(checked: CheckedMap, test: str, measure: str) -> Curve:
    steps = checked.cascade if test == "cascade" else checked.alone
    x = [step.step for step in steps]
    intervals = [getattr(step.similarity, measure) for step in steps]
    if test == "cascade":  # nothing is randomized yet, so the map is itself
        x, intervals = [0, *x], [Interval(1.0, 1.0, 1.0), *intervals]
    ends = ([getattr(one, end) for one in intervals] for end in ("value", "low", "high"))
    return Curve(checked.map, x, *ends)


def _control(maps: list[CheckedMap], measure: str, count: int) -> Curve:
    """The mean of the random orders, and the widest band of any map's."""
    mean = sum(getattr(checked.random.similarity, measure).value for checked in maps) / len(maps)
    low = min(_limits(checked, measure).lowest for checked in maps)
    high = max(_limits(checked, measure).floor for checked in maps)
    x = range(count + 1) if count == 1 else range(1, count + 1)
    return Curve(RANDOM, x, *([value] * len(x) for value in (mean, low, high)))


def _limits(checked: CheckedMap, measure: str) -> Limits:
    return checked.correlation_limits if measure == "correlation" else checked.overlap_limits


def _limits_text(result: SanityCheck) -> str:
    """The two limits of the verdicts in words, with the range that they have over the maps."""
    parts = []
    for measure, title in MEASURES.items():
        limits = [_limits(checked, measure) for checked in result.maps]
        floors, middles = [one.floor for one in limits], [one.middle for one in limits]
        parts.append(f"{title}: {_range(floors)} and {_range(middles)}")
    return "; ".join(parts)


def _range(values: list[float]) -> str:
    low, high = (f"{end:.3f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


# Localization


def write_localization(result: Localization, folder: Path) -> None:
    """Write the page, which needs no other file."""
    best = max(result.maps, key=lambda located: located.hit.value)
    chance, words = result.maps[0], against_chance(best, "hit")
    write_page(
        folder,
        "localization",
        docs="reference/cli",
        title=f"Where the maps point: {result.model.name} on {result.data.name}",
        asked=f"Do the maps point at the object? {images_line(result)}, with the regions of "
        f"{result.settings.regions}.",
        found=[
            f"The highest pixel of {best.map} lies in the region most often, in a share of "
            f"{interval_text(best.hit)} of the images: {words}. A random pixel lies there in "
            f"{interval_text(chance.chance_hit)}, the middle pixel of the picture in "
            f"{interval_text(chance.center_hit)}."
        ],
        warnings=too_few(result.data.images, 2 * len(result.maps)),
        result=result,
        against_chance=against_chance,
        examples=load_examples(folder),
        rows=run_rows(result),
    )


def lines(result: SanityCheck | Localization) -> Iterator[str]:
    """What a terminal shows: images, and the verdicts of every map or where it points."""
    if isinstance(result, SanityCheck):
        yield f"{images_line(result)}, {len(result.layers)} steps from the output to the input"
        for checked in result.maps:
            words = "; ".join(words for _, words, _, _ in verdict_cells(checked))
            yield f"{checked.method}, {checked.map}: {words}"
        return
    yield images_line(result)
    for located in result.maps:
        hit, energy = interval_text(located.hit), interval_text(located.energy)
        yield (
            f"{located.map}: hit {hit} ({against_chance(located, 'hit')}), energy {energy} "
            f"({against_chance(located, 'energy')})"
        )
    chance = result.maps[0]
    hit, energy = interval_text(chance.chance_hit), interval_text(chance.chance_energy)
    center = interval_text(chance.center_hit)
    yield f"random order: hit {hit}, energy {energy}; middle pixel: hit {center}"


def against_chance(located: LocatedMap, measure: str) -> str:
    """Whether a map's highest pixel ("hit"), or its "energy", does better than a random order."""
    mean, chance, p = (
        (located.hit, located.chance_hit, located.hit_p)
        if measure == "hit"
        else (located.energy, located.chance_energy, located.energy_p)
    )
    if p >= SURE:
        return "not significantly different from a random order"
    return f"{'better' if mean.value > chance.value else 'worse'} than a random order"
