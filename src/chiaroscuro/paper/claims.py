"""The paper's six claims, each with the figures that answer it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from chiaroscuro.choices import PAPER_MAPS
from chiaroscuro.paper.cells import COLUMNS
from chiaroscuro.paper.pairs import SPLIT_WORDS, find_pair, pair_table, tally
from chiaroscuro.paper.tables import find_curve
from chiaroscuro.paper.work import SPLITS, CellResult
from chiaroscuro.report import Table
from chiaroscuro.report.paper import Answer

_FLAT = 0.01
Sharpness = Mapping[str, Mapping[str, tuple[float, float, float]]]


def answer_claims(
    results: Sequence[CellResult], sharpness: Mapping[str, Sharpness]
) -> list[Answer]:
    """Every claim against the runs at hand; `sharpness` is by cell name."""
    signs = [(fill, name, "original") for fill, maps in COLUMNS.items() for name in maps[1:]]
    crossed = [
        ("black", "positive", "negative"), ("black", "active", "inactive"),
        ("white", "negative", "positive"), ("white", "inactive", "active"),
    ]  # fmt: skip
    return [
        _compared(
            "1. Positive and active (negative and inactive) lose allegiance faster than original "
            "under black- (white-) deletion.",
            results, signs, ("paper", "matched"),
        ),
        _compared(
            "Control to 1. Original is better than a random order at all.",
            results, [(fill, "original", "random") for fill in COLUMNS], ("matched",),
        ),
        _flattening(results),
        _noise(results, sharpness),
        _compared(
            "4. The sign tells what occluding will do: black hurts where brightness helps, white "
            "where darkness helps.",
            results, crossed, ("matched",),
        ),
        _compared(
            "5. Positive and negative sometimes do better than active and inactive.",
            results, [("black", "positive", "active"), ("white", "negative", "inactive")],
            ("paper", "matched"),
        ),
        _techniques(results, signs),
    ]  # fmt: skip


def _compared(
    claim: str,
    results: Sequence[CellResult],
    wanted: Iterable[tuple[str, str, str]],
    protocols: Sequence[str],
) -> Answer:
    """Pairs of maps in every cell and split, with a count of what they say."""
    wanted = list(wanted)
    pairs = [
        find_pair(result.cell.title, SPLIT_WORDS[split], result.summaries[split], protocol, *names)
        for result in results
        for split in SPLITS
        for protocol in protocols
        for names in wanted
    ]
    found = [
        f"{words}, {protocol}: "
        + tally([p for p in pairs if (p.images, p.protocol) == (words, protocol)])
        for words in SPLIT_WORDS.values()
        for protocol in protocols
    ]
    return Answer(claim, found, pair_table(pairs))


def _techniques(results: Sequence[CellResult], wanted: Iterable[tuple[str, str, str]]) -> Answer:
    """Claim 6: the same comparison with maps made by other gradient methods."""
    claim = "6. The split could improve any local technique based on gradients."
    wanted = list(wanted)
    pairs = [
        find_pair(f"{result.cell.title}, {method}", "test images", summary, "matched", *names)
        for result in results
        for method, summary in result.by_method.items()
        for names in wanted
    ]
    if not pairs:
        return Answer(claim, ["Not measured by these runs, which know the plain gradient only."])
    methods = dict.fromkeys(method for result in results for method in result.by_method)
    found = [
        f"{method}, the split against the method's own original: "
        + tally([p for p in pairs if p.network.endswith(f", {method}")])
        for method in methods
    ]
    return Answer(claim, found, pair_table(pairs))


def _flattening(results: Sequence[CellResult]) -> Answer:
    """Claim 2: where the published curves stop changing, which is where supports end."""
    rows = []
    ends: dict[str, list[float]] = {}
    for result in results:
        for fill, maps in COLUMNS.items():
            for name in maps:
                curve = find_curve(result.summaries["test"], "paper", name, fill)
                fractions = result.summaries["test"]["choices"]["fractions"]
                changed, kept = curve["changed"], curve["allegiance"]["mean"]
                flat = _flat_from(fractions, kept)
                ends.setdefault(name, []).append(changed[-1])
                rows.append(
                    [
                        result.cell.title, fill, name, f"{100 * changed[-1]:.0f} %",
                        f"{100 * flat:.0f} %", f"{kept[-1]:.3f}",
                    ]
                )  # fmt: skip
    found = [
        f"{name}: at most {_range(shares)} % of the pixels change."
        for name, shares in ends.items()
        if name != "original"
    ]
    columns = ["network", "fill", "map", "changed at 90 %", "flat from", "kept at the end"]
    note = (
        "Published protocol, test images. 'Changed': pixels really changed at the last fraction; "
        f"'flat from': first fraction after which the curve stays within {_FLAT} of its end."
    )
    return Answer(
        "2. Active and inactive flatten after about half of the pixels, positive and negative "
        "after about 80 %: their supports end there.",
        found,
        Table("Where curves flatten", columns, rows, note),
    )


def _range(shares: Sequence[float]) -> str:
    """Shares as percent: 36, or 36 to 41."""
    low, high = (f"{100 * share:.0f}" for share in (min(shares), max(shares)))
    return low if low == high else f"{low} to {high}"


def _flat_from(fractions: Sequence[float], kept: Sequence[float]) -> float:
    """The first fraction from which the curve stays within `_FLAT` of its last value."""
    first = len(kept) - 1
    while first and abs(kept[first - 1] - kept[-1]) <= _FLAT:
        first -= 1
    return fractions[first]


def _noise(results: Sequence[CellResult], sharpness: Mapping[str, Sharpness]) -> Answer:
    """Claim 3: how unequal, and how smooth, the maps are."""
    rows = []
    beats: dict[str, Callable[[str], int]] = {}
    for measure in ("gini", "neighbors"):
        beats[measure] = _counter(results, sharpness, measure)
    for result in results:
        found = sharpness[result.cell.name]
        for name in PAPER_MAPS:
            cells = [
                "{:.3f} [{:.3f}, {:.3f}]".format(*found[measure][name])
                for measure in ("gini", "neighbors")
            ]
            rows.append([result.cell.title, name, *cells])
    said = [
        f"{name}: more concentrated than original in {beats['gini'](name)}, smoother between "
        f"neighbors in {beats['neighbors'](name)} of {len(results)} networks."
        for name in PAPER_MAPS
        if name != "original"
    ]
    note = (
        "Means over test images with bootstrap intervals. Gini: 0 when the map lies evenly on all "
        "pixels, near 1 when on one. Neighbors: correlation of a map with itself one pixel on; "
        "white noise has 0. Zeros alone raise the first, so only both together would mean sharper."
    )
    columns = ["network", "map", "Gini [95 %]", "neighbors [95 %]"]
    return Answer(
        "3. The maps are sharper (less noise) than the original.",
        said,
        Table("Concentration and noise", columns, rows, note),
    )


def _counter(
    results: Sequence[CellResult], sharpness: Mapping[str, Sharpness], measure: str
) -> Callable[[str], int]:
    def count(name: str) -> int:
        return sum(
            sharpness[r.cell.name][measure][name][0]
            > sharpness[r.cell.name][measure]["original"][0]
            for r in results
        )

    return count


def as_plain(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers as JSON keeps them."""
    return [
        {
            "claim": answer.claim,
            "found": list(answer.found),
            "rows": [] if answer.table is None else [list(row) for row in answer.table.rows],
        }
        for answer in answers
    ]
