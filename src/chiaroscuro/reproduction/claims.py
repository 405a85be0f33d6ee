"""The paper's six claims, each with the figures that answer it."""

from collections.abc import Iterable, Sequence

from chiaroscuro.choices import PAPER_MAPS, RANDOM
from chiaroscuro.report.runs import interval_text
from chiaroscuro.reproduction.experiments import COLUMNS
from chiaroscuro.reproduction.tables import SPLIT_WORDS, find_pair, pair_table, tally
from chiaroscuro.reproduction.work import SPLITS, ExperimentResult
from chiaroscuro.results.facts import Interval, pick
from chiaroscuro.results.measurements import Answer, Table

_FLAT = 0.01
"""A curve is flat where it stays this close to its end."""
Names = tuple[str, str, str]
"""Fill, and two maps."""


def answer_claims(results: Sequence[ExperimentResult]) -> list[Answer]:
    """Every claim against the runs at hand."""
    signs = [(fill, name, "original") for fill, maps in COLUMNS.items() for name in maps[1:]]
    crossed = [
        ("black", "positive", "negative"),
        ("black", "active", "inactive"),
        ("white", "negative", "positive"),
        ("white", "inactive", "active"),
    ]
    return [
        _compared(
            "1. Positive and active (negative and inactive) lose allegiance faster than original "
            "under black- (white-) deletion.",
            results,
            signs,
            ("paper", "matched"),
        ),
        _compared(
            "Control to 1. Original is better than a random order at all.",
            results,
            [(fill, "original", RANDOM) for fill in COLUMNS],
            ("matched",),
        ),
        _flattening(results),
        _noise(results),
        _compared(
            "4. The sign tells what occluding will do: black hurts where brightness helps, white "
            "where darkness helps.",
            results,
            crossed,
            ("matched",),
        ),
        _compared(
            "5. Positive and negative sometimes do better than active and inactive.",
            results,
            [("black", "positive", "active"), ("white", "negative", "inactive")],
            ("paper", "matched"),
        ),
        _techniques(results, signs),
    ]


def _compared(
    claim: str,
    results: Sequence[ExperimentResult],
    wanted: Iterable[Names],
    protocols: Sequence[str],
) -> Answer:
    """Pairs of maps in every experiment and split, with a count of what they say."""
    wanted = list(wanted)
    pairs = [
        find_pair(
            result.experiment.title,
            SPLIT_WORDS[split],
            result.evaluations[split],
            protocol,
            *names,
        )
        for result in results
        for split in SPLITS
        for protocol in protocols
        for names in wanted
    ]
    sentences = [
        f"{words}, {protocol}: "
        + tally([p for p in pairs if (p.images, p.protocol) == (words, protocol)])
        for words in SPLIT_WORDS.values()
        for protocol in protocols
    ]
    return Answer(claim, tuple(sentences), pair_table(pairs))


def _techniques(results: Sequence[ExperimentResult], wanted: Iterable[Names]) -> Answer:
    """Claim 6: the same comparison with maps by other gradient methods."""
    claim = "6. The split could improve any local technique based on gradients."
    wanted = list(wanted)
    pairs = [
        find_pair(
            f"{result.experiment.title}, {method}", "test images", evaluation, "matched", *names
        )
        for result in results
        for method, evaluation in result.by_method.items()
        for names in wanted
    ]
    if not pairs:
        return Answer(claim, ("Not measured by these runs, which use the plain gradient only.",))
    methods = dict.fromkeys(method for result in results for method in result.by_method)
    sentences = [
        f"{method}, the split against the method's own original: "
        + tally([p for p in pairs if p.network.endswith(f", {method}")])
        for method in methods
    ]
    return Answer(claim, tuple(sentences), pair_table(pairs))


def _flattening(results: Sequence[ExperimentResult]) -> Answer:
    """Claim 2: where the published curves stop changing, which is where supports end."""
    rows = []
    ends: dict[str, list[float]] = {}
    for result in results:
        evaluation = result.evaluations["test"]
        for fill, maps in COLUMNS.items():
            for name in maps:
                curve = evaluation.curve("paper", name, fill)
                flat = _flat_from(evaluation.settings.fractions, curve.allegiance.mean)
                ends.setdefault(name, []).append(curve.changed[-1])
                rows.append(
                    (
                        result.experiment.title,
                        fill,
                        name,
                        f"{100 * curve.changed[-1]:.0f} %",
                        f"{100 * flat:.0f} %",
                        f"{curve.allegiance.mean[-1]:.3f}",
                    )
                )
    sentences = [
        f"{name}: at most {_range(shares)} % of the pixels change."
        for name, shares in ends.items()
        if name != "original"
    ]
    columns = ("network", "fill", "map", "changed at 90 %", "flat from", "kept at the end")
    note = (
        "Published protocol, test images. 'Changed': pixels whose value differs at the last "
        f"fraction; 'flat from': first fraction after which the curve stays within {_FLAT} of its "
        "end."
    )
    return Answer(
        "2. Active and inactive flatten after about half of the pixels, positive and negative "
        "after about 80 %: their supports end there.",
        tuple(sentences),
        Table("Where curves flatten", columns, tuple(rows), note),
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


def _noise(results: Sequence[ExperimentResult]) -> Answer:
    """Claim 3: how unequal, and how smooth, the maps are."""
    rows = []
    for result in results:
        for name in PAPER_MAPS:
            texts = (interval_text(_sharp(result, m, name)) for m in ("gini", "neighbors"))
            rows.append((result.experiment.title, name, *texts))
    sentences = [
        f"{name}: more concentrated than original in {_count(results, 'gini', name)}, smoother "
        f"between neighbors in {_count(results, 'neighbors', name)} of {len(results)} networks."
        for name in PAPER_MAPS
        if name != "original"
    ]
    note = (
        "Means over test images with bootstrap intervals. Gini: 0 when the map lies evenly on all "
        "pixels, near 1 when on one. Neighbors: correlation of a map with itself one pixel on; "
        "white noise has 0. Zeros alone raise the first, so only both together would mean sharper."
    )
    columns = ("network", "map", "Gini [95 %]", "neighbors [95 %]")
    return Answer(
        "3. The maps are sharper (less noise) than the original.",
        tuple(sentences),
        Table("Concentration and noise", columns, tuple(rows), note),
    )


def _sharp(result: ExperimentResult, measure: str, name: str) -> Interval:
    return pick(result.sharpness.metrics, measure=measure, map=name).mean


def _count(results: Sequence[ExperimentResult], measure: str, name: str) -> int:
    """In how many networks a map has more of a measure than `original`."""
    return sum(
        _sharp(r, measure, name).value > _sharp(r, measure, "original").value for r in results
    )
