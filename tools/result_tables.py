"""Tables of the results pages, from the folders that the commands wrote.

python -m tools.result_tables check FOLDER      # of `chiaroscuro check`
python -m tools.result_tables what-if FOLDER    # of `chiaroscuro evaluate --what-if`
python -m tools.result_tables scores FOLDER     # of `chiaroscuro evaluate`
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from pyarrow import dataset

from chiaroscuro.choices import CURVES, RANDOM
from chiaroscuro.report.pages import interval_text
from chiaroscuro.report.scores import best_maps
from chiaroscuro.results import KINDS, load
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Evaluation, SanityCheck, WhatIfRow

_LEVELS = {"none": "passes", "some": "passes in part", "much": "**fails**"}
_NEIGHBORS = (("positive", "active"), ("negative", "inactive"))
"""Maps of one direction, without the competition between classes and with it."""


def main() -> None:
    """Print the tables of one folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["check", "what-if", "scores"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.kind == "check":
        print("\n".join(_check(load(arguments.folder, KINDS["check"]))))
    elif arguments.kind == "scores":
        print("\n".join(_scores(load(arguments.folder, KINDS["evaluation"]))))
    else:
        print("\n".join(_what_if(load(arguments.folder, KINDS["evaluation"]))))
        print("\n".join(_pairs(arguments.folder)))


def _check(result: SanityCheck) -> Iterator[str]:
    """One table per method: every map's rank correlation after each kind of change."""
    yield f"{result.data.images} images, {len(result.layers)} steps"
    for method in result.methods:
        yield f"\n| {method} | weights random | all random | second-best class | noise | verdict |"
        yield f"|{'---|' * 6}"
        for checked in (one for one in result.maps if one.method == method):
            steps = (
                checked.cascade_mean, checked.cascade[-1], checked.other_class, checked.noise,
            )  # fmt: skip
            cells = " | ".join(_number(step.similarity.correlation) for step in steps)
            layers = len(checked.verdict.overlooked)
            verdict = _LEVELS[checked.verdict.weights]
            verdict += f"; overlooks {layers} layers" if layers else ""
            yield f"| {checked.map} | {cells} | {verdict} |"


def _scores(result: Evaluation) -> Iterator[str]:
    """One table per fill: every map's gains and areas, the highest gain first, and who wins."""
    yield f"{result.data.images} images. {best_maps(result)} {'; '.join(result.notes)}"
    for fill in result.settings.fills:
        gains = {(row.map, row.of): row.gain for row in result.gains if row.fill == fill}
        first = [(gain.value, name) for (name, of), gain in gains.items() if of == CURVES[0]]
        yield f"\n| {fill} | gain | gain, probability | gain, logit | area | area, probability |"
        yield f"|{'---|' * 6}"
        for _, name in [*sorted(first, reverse=True), (0, RANDOM)]:
            curve = result.curve("matched", name, fill)
            scores = [*(gains.get((name, of)) for of in CURVES), curve.area, curve.probability_area]
            cells = " | ".join("" if one is None else interval_text(one) for one in scores)
            yield f"| {name} | {cells} |"


def _what_if(result: Evaluation) -> Iterator[str]:
    """One table per quantity: maps by fills at step 1, and the slope at step 0.1."""
    fills = result.settings.fills
    rows = {(row.map, row.fill, row.step): row for row in result.what_if}
    tables: list[tuple[str, float, Callable[[WhatIfRow], str]]] = [
        ("direction", 1.0, lambda row: _share(row.direction)),
        ("flips", 1.0, lambda row: _share(row.flips)),
        ("predicted flips", 1.0, lambda row: _share(row.predicted_flips)),
        ("within tolerance", 1.0, lambda row: _share(row.tolerated)),
        ("slope", 1.0, lambda row: _number(row.slope)),
        ("predicted", 1.0, lambda row: _number(row.predicted)),
        ("actual", 1.0, lambda row: _number(row.actual)),
        ("slope", 0.1, lambda row: _number(row.slope)),
    ]
    yield f"{result.data.images} images"
    for name, step, text in tables:
        yield f"\n{name}, step {step:g}\n"
        yield f"| | {' | '.join(fills)} |\n|{'---|' * (len(fills) + 1)}"
        for map_ in dict.fromkeys(row.map for row in result.what_if):
            yield f"| {map_} | {' | '.join(text(rows[map_, fill, step]) for fill in fills)} |"


def _pairs(folder: Path) -> Iterator[str]:
    """Images whose prediction one map flips and its neighbor does not, by fill."""
    wanted = ["id", "map", "fill", "flips"]
    rows = dataset.dataset(folder / "what-if").to_table(columns=wanted).to_pylist()
    flips: dict[tuple[str, str], set[str]] = {(row["map"], row["fill"]): set() for row in rows}
    for row in rows:
        if row["flips"][-1]:
            flips[row["map"], row["fill"]].add(row["id"])
    yield "\nflips of one map alone, at step 1\n"
    yield f"| fill | pair | first alone | second alone | sign test |\n|{'---|' * 5}"
    for fill in dict.fromkeys(row["fill"] for row in rows):
        for first, second in _NEIGHBORS:
            alone = len(flips[first, fill] - flips[second, fill])
            other = len(flips[second, fill] - flips[first, fill])
            p = _sign_test(alone, other)
            yield f"| {fill} | {first}, {second} | {alone} | {other} | {p:.1g} |"


def _sign_test(first: int, second: int) -> float:
    """Chance of a split as uneven as this one, or more so, if either side were as likely."""
    count, least = first + second, min(first, second)
    ways = sum(math.comb(count, k) for k in range(least + 1))
    return float(min(1.0, 2 * ways / 2**count))


def _share(share: Interval | None) -> str:
    if share is None:
        return "-"
    value, low, high = (100 * end for end in (share.value, share.low, share.high))
    return f"{value:.0f} [{low:.0f}, {high:.0f}]"


def _number(number: Interval | None) -> str:
    if number is None:
        return "-"
    return f"{number.value:.2f} [{number.low:.2f}, {number.high:.2f}]"


if __name__ == "__main__":
    main()
