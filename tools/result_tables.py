"""Tables of the results pages, from the folders that the commands wrote.

python -m tools.result_tables check FOLDER      # of `chiaroscuro check`
python -m tools.result_tables what-if FOLDER    # of `chiaroscuro evaluate --what-if`
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyarrow import dataset

Figures = Mapping[str, Any]
"""A value with the ends of its interval."""

_SHARES = ("direction", "flipped", "flip_foretold", "kept")
_NUMBERS = ("slope", "foretold", "real")
_NEIGHBOURS = (("positive", "active"), ("negative", "inactive"))
"""Maps of one direction, without the competition between classes and with it."""


def main() -> None:
    """Print the tables of one folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["check", "what-if"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    name, lines = {"check": ("check.json", _check), "what-if": ("summary.json", _what_if)}[
        arguments.kind
    ]
    print("\n".join(lines(json.loads((arguments.folder / name).read_text(encoding="utf-8")))))
    if arguments.kind == "what-if":
        print("\n".join(_pairs(arguments.folder)))


def _check(summary: Figures) -> Iterator[str]:
    """A table a method: what each kind of change leaves of every map's rank correlation."""
    yield f"{summary['data']['images']} images, {len(summary['layers'])} steps"
    for method in dict.fromkeys(entry["method"] for entry in summary["maps"]):
        yield f"\n| {method} | weights random | all random | second-best class | noise | verdict |"
        yield f"|{'---|' * 6}"
        for entry in summary["maps"]:
            if entry["method"] != method:
                continue
            cells = (
                entry["cascade_mean"][0]["correlation"],
                entry["cascade"][-1]["correlation"],
                entry["class"][0]["correlation"],
                entry["noise"][0]["correlation"],
            )
            words = entry["verdict"]["weights"]["words"].split(":")[0]
            layers = len(entry["verdict"]["overlooked"])
            passed = f"{words}; overlooks {layers} layers" if layers else words
            yield f"| {entry['map']} | {' | '.join(map(_number, cells))} | {passed} |"


def _what_if(summary: Figures) -> Iterator[str]:
    """One table per quantity: maps by fills at step 1, and the slope at step 0.1."""
    fills = summary["choices"]["fills"]
    rows = {(row["map"], row["fill"], row["step"]): row for row in summary["what_if"]}
    maps = dict.fromkeys(row["map"] for row in summary["what_if"])
    tables = [(name, 1.0, _share) for name in _SHARES]
    tables += [(name, 1.0, _number) for name in _NUMBERS] + [("slope", 0.1, _number)]
    yield f"{summary['data']['images']} images"
    for name, step, text in tables:
        yield f"\n{name.replace('_', ' ')}, step {step:g}\n"
        yield f"| | {' | '.join(fills)} |\n|{'---|' * (len(fills) + 1)}"
        for map_ in maps:
            cells = [text(rows[map_, fill, step][name]) for fill in fills]
            yield f"| {map_} | {' | '.join(cells)} |"


def _pairs(folder: Path) -> Iterator[str]:
    """Images whose prediction one map flips and its neighbor does not, by fill."""
    wanted = ["id", "map", "fill", "flipped"]
    rows = dataset.dataset(folder / "what-if").to_table(columns=wanted).to_pylist()
    flips: dict[tuple[str, str], set[str]] = {(row["map"], row["fill"]): set() for row in rows}
    for row in rows:
        if row["flipped"][-1]:
            flips[row["map"], row["fill"]].add(row["id"])
    yield "\nflips of one map alone, at step 1\n"
    yield f"| fill | pair | first alone | second alone | sign test |\n|{'---|' * 5}"
    for fill in dict.fromkeys(row["fill"] for row in rows):
        for first, second in _NEIGHBOURS:
            alone = len(flips[first, fill] - flips[second, fill])
            other = len(flips[second, fill] - flips[first, fill])
            p = _sign_test(alone, other)
            yield f"| {fill} | {first}, {second} | {alone} | {other} | {p:.1g} |"


def _sign_test(first: int, second: int) -> float:
    """Chance of a split as uneven as this one, or more so, if either side were as likely."""
    count, least = first + second, min(first, second)
    ways = sum(math.comb(count, k) for k in range(least + 1))
    return float(min(1.0, 2 * ways / 2**count))


def _share(figures: Figures | None) -> str:
    if figures is None:
        return "-"
    value, low, high = (100 * figures[name] for name in ("value", "low", "high"))
    return f"{value:.0f} [{low:.0f}, {high:.0f}]"


def _number(figures: Figures | None) -> str:
    if figures is None:
        return "-"
    return f"{figures['value']:.2f} [{figures['low']:.2f}, {figures['high']:.2f}]"


if __name__ == "__main__":
    main()
