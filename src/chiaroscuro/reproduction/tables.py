"""The paper's three tables and six claims next to our figures."""

from collections.abc import Iterable, Mapping, Sequence

from chiaroscuro.choices import CURVES, PAPER_MAPS, RANDOM, SURE
from chiaroscuro.metrics.intervals import share_interval
from chiaroscuro.report.pages import interval_text
from chiaroscuro.reproduction.experiments import COLUMNS, EPOCHS, METHODS, SPLITS, ExperimentResult
from chiaroscuro.results.facts import Interval, pick
from chiaroscuro.results.measurements import Answer, Evaluation, Table

_NONE = "-"
_CLAIMS = {
    0: "Control to 1. Original is better than a random order at all.",
    1: "1. Positive and active (negative and inactive) lose allegiance faster than original under "
    "black- (white-) deletion.",
    2: "2. Active and inactive flatten after about half of the pixels, positive and negative after "
    "about 80 %: their supports end there.",
    3: "3. The maps are sharper (less noise) than the original.",
    4: "4. The sign tells what occluding will do: black hurts where brightness helps, white where "
    "darkness helps.",
    5: "5. Positive and negative sometimes do better than active and inactive.",
    6: "6. The split could improve any local technique based on gradients.",
}
_FLAT = 0.01
"""A curve is flat where it stays this close to its end."""
Results = Sequence[ExperimentResult]
Names = tuple[str, str, str]
"""Fill, and two maps."""
Run = tuple[str, str, Evaluation]
"""Network, images, and what was measured on them."""


def make_tables(results: Results, missing: Mapping[str, str]) -> dict[str, Table]:
    """The paper's tables and those of the matched protocol, by file name."""
    return {
        "accuracy": _accuracy_table(results, missing),
        "black": _area_table(2, "black", results),
        "white": _area_table(3, "white", results),
        "matched-black": _matched_table("black", results),
        "matched-white": _matched_table("white", results),
        "gain": _gain_table(results),
    }


def _accuracy_table(results: Results, missing: Mapping[str, str]) -> Table:
    """Table 1: test accuracy after the last epoch, on all test images."""
    words = "network, ours [95 %], paper, difference, epochs, trained on, tested on, training time"
    rows: list[tuple[str, ...]] = []
    for result in results:
        record, theirs = result.training, result.experiment.accuracy
        tested, accuracy = record.test_images or 0, record.test_accuracy or 0.0
        low, high = share_interval(round(accuracy * tested), tested)
        epochs, seconds, precision = record.settings.epochs, record.seconds, ""
        if record.settings.precision != result.experiment.training.precision:
            precision = f", {record.settings.precision} mixed"
        cut = "" if epochs == EPOCHS else f", cut short (paper {EPOCHS})"
        rows.append(
            (
                result.experiment.title,
                f"{accuracy:.4f} [{low:.4f}, {high:.4f}]",
                f"{theirs:.4f}" if theirs else _NONE,
                f"{accuracy - theirs:+.4f}" if theirs else _NONE,
                f"{epochs}{cut}{precision}",
                f"{record.images:,}",
                f"{tested:,}",
                f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s",
            )
        )
    rows += [(title, f"not run: {why}", *[_NONE] * 6) for title, why in missing.items()]
    note = "Last epoch, never chosen by test accuracy; Wilson's interval over test images."
    return Table("Table 1. Test accuracy", tuple(words.split(", ")), tuple(rows), note)


def _area_table(number: int, fill: str, results: Results) -> Table:
    """Tables 2 and 3: area under the test curve as published, next to the paper's."""
    rows = []
    for result in results:
        for name in COLUMNS[fill]:
            ours = result.runs["test"].curve("paper", name, fill).area
            paper = difference = _NONE
            if by := result.experiment.areas.get((name, fill)):
                less = Interval(ours.value - by, ours.low - by, ours.high - by)
                paper, difference = f"{by:.2f}", interval_text(less, sign="+")
            count = f"{result.runs['test'].data.images:,}"
            title = result.experiment.title
            rows.append((title, name, interval_text(ours), paper, difference, count))
    return Table(
        f"Table {number}. Area under the allegiance curve, {fill}-deletion, test images",
        ("network", "map", "ours [95 %]", "paper", "difference [95 %]", "images"),
        tuple(rows),
        "The published protocol; trapezoids over 0 to 0.9, not divided by 0.9; lower is better. "
        "Bootstrap intervals over images.",
    )


def _matched_table(fill: str, results: Results) -> Table:
    """The same areas when every map loses the same number of pixels, with chance."""
    rows = []
    for result in results:
        for name in (*COLUMNS[fill], RANDOM):
            runs = (result.runs[split] for split in SPLITS)
            texts = [interval_text(run.curve("matched", name, fill).area) for run in runs]
            rows.append((result.experiment.title, name, *texts))
    return Table(
        f"Matched protocol, {fill}-deletion",
        ("network", "map", "test [95 %]", "training [95 %]"),
        tuple(rows),
        "Area under the allegiance curve, lower is better: exactly round(p H W) pixels for every "
        "map, ties in random order; no counterpart in the paper.",
    )


def _gain_table(results: Results) -> Table:
    """Relevance gains, and their differences from the original's."""
    rows = []
    for result in results:
        runs = [result.runs[split] for split in SPLITS]
        for fill, name in ((fill, name) for fill, maps in COLUMNS.items() for name in maps):
            gains = (pick(run.gains, of=CURVES[0], fill=fill, map=name).gain for run in runs)
            texts = [*map(interval_text, gains)]
            for run in runs if name != "original" else ():
                ends, p = _difference(run, "gain", "matched", fill, name, "original")
                texts.append(f"{interval_text(ends, sign='+')}, p {p:.4f}")
            rows.append((result.experiment.title, fill, name, *texts, *[_NONE] * (4 - len(texts))))
    words = "network, fill, map, test [95 %], training [95 %], test - original, training - original"
    return Table(
        "Symmetric relevance gain, matched protocol",
        tuple(words.split(", ")),
        tuple(rows),
        "The area of the inverted order minus the area of the map's own, under allegiance "
        "(arXiv:2401.06654); higher is better, 0 is an order that does not matter. Differences are "
        "paired on the same images; p by sign flips, Holm-corrected over all pairs of the run.",
    )


def answer_claims(results: Results) -> tuple[Answer, ...]:
    """Every claim against the runs at hand."""
    signs = [(fill, name, "original") for fill, maps in COLUMNS.items() for name in maps[1:]]
    random = [(fill, "original", RANDOM) for fill in COLUMNS]
    halves = [(fill, maps[1], maps[2]) for fill, maps in COLUMNS.items()]
    pairs = list(zip(COLUMNS["black"][1:], COLUMNS["white"][1:], strict=True))
    crossed = [("black", *pair) for pair in pairs] + [("white", *pair[::-1]) for pair in pairs]
    both, matched = ("paper", "matched"), ("matched",)
    runs = [
        (result.experiment.title, words, result.runs[split])
        for result in results
        for split, words in SPLITS.items()
    ]
    techniques = [
        (result.experiment.title, f"test images, {method}", result.runs[f"test-{method}"])
        for result in results
        for method in METHODS
        if f"test-{method}" in result.runs
    ]
    return (
        _compared(_CLAIMS[1], runs, signs, both),
        _compared(_CLAIMS[0], runs, random, matched),
        _flattening(results),
        _noise(results),
        _compared(_CLAIMS[4], runs, crossed, matched),
        _compared(_CLAIMS[5], runs, halves, both),
        _compared(_CLAIMS[6], techniques, signs, matched),
    )


def _compared(
    claim: str, runs: Iterable[Run], wanted: Sequence[Names], protocols: Sequence[str]
) -> Answer:
    """Pairs of maps in every run, with a count of what they say by images and protocol."""
    rows = [
        _pair(run, protocol, *names) for run in runs for protocol in protocols for names in wanted
    ]
    groups: dict[str, list[str]] = {}
    for _, images, protocol, *_, verdict in rows:
        groups.setdefault(f"{images}, {protocol}", []).append(verdict)
    sentences = (
        f"{words}: lower in {said.count('yes')} of {len(said)} comparisons, higher in "
        f"{said.count('no')}, not significantly different in {said.count('open')}."
        for words, said in groups.items()
    )
    table = Table(
        "Paired differences",
        ("network", "images", "protocol", "fill", "areas of", "difference [95 %]", "p", "lower?"),
        tuple(rows),
        "Difference of areas on the same images with its bootstrap interval; p by sign flips, "
        "Holm-corrected over all pairs of its run; 'yes' and 'no' below 0.05.",
    )
    return Answer(claim, tuple(sentences), table)


def _pair(run: Run, protocol: str, fill: str, first: str, second: str) -> tuple[str, ...]:
    """The area of the first map minus the second's, whichever way round it was measured."""
    network, images, evaluation = run
    ends, p = _difference(evaluation, "area", protocol, fill, first, second)
    verdict = "open" if p >= SURE else "yes" if ends.value < 0 else "no"
    place = (network, images, protocol, fill)
    return (*place, f"{first} - {second}", interval_text(ends, sign="+"), f"{p:.4f}", verdict)


def _difference(
    evaluation: Evaluation, score: str, protocol: str, fill: str, first: str, second: str
) -> tuple[Interval, float]:
    """The score of one map minus another's, under allegiance, and its corrected p-value."""
    row = next(
        row
        for row in evaluation.differences
        if (row.score, row.of, row.protocol, row.fill) == (score, CURVES[0], protocol, fill)
        and {row.map, row.against} == {first, second}
    )
    ends = row.difference
    if row.map != first:
        ends = Interval(0 - ends.value, 0 - ends.high, 0 - ends.low)
    return ends, row.p_holm


def _flattening(results: Results) -> Answer:
    """Claim 2: where the published curves stop changing, which is where supports end."""
    rows = []
    ends: dict[str, list[float]] = {}
    for result in results:
        for fill, name in ((fill, name) for fill, maps in COLUMNS.items() for name in maps):
            curve = result.runs["test"].curve("paper", name, fill)
            kept, changed = curve.allegiance.mean, curve.changed[-1]
            flat = len(kept) - 1
            while flat and abs(kept[flat - 1] - kept[-1]) <= _FLAT:
                flat -= 1
            share = result.runs["test"].settings.fractions[flat]
            ends.setdefault(name, []).append(changed)
            texts = (f"{100 * changed:.0f} %", f"{100 * share:.0f} %", f"{kept[-1]:.3f}")
            rows.append((result.experiment.title, fill, name, *texts))
    del ends["original"]
    ranges = {
        name: dict.fromkeys(f"{100 * share:.0f}" for share in (min(shares), max(shares)))
        for name, shares in ends.items()
    }
    return Answer(
        _CLAIMS[2],
        tuple(f"{n}: at most {' to '.join(r)} % of the pixels change." for n, r in ranges.items()),
        Table(
            "Where curves flatten",
            ("network", "fill", "map", "changed at 90 %", "flat from", "kept at the end"),
            tuple(rows),
            "Published protocol, test images. 'Changed': pixels whose value differs at the last "
            "fraction; 'flat from': first fraction after which the curve stays within "
            f"{_FLAT} of its end.",
        ),
    )


def _noise(results: Results) -> Answer:
    """Claim 3: how unequal, and how smooth, the maps are."""

    def sharp(result: ExperimentResult, measure: str, name: str) -> Interval:
        return pick(result.runs["sharpness"].metrics, measure=measure, map=name).mean

    def more(measure: str, name: str) -> int:
        """In how many networks a map has more of a measure than `original`."""
        pairs = ((sharp(r, measure, name), sharp(r, measure, "original")) for r in results)
        return sum(ours.value > theirs.value for ours, theirs in pairs)

    rows = []
    for result in results:
        for name in PAPER_MAPS:
            texts = (interval_text(sharp(result, m, name)) for m in ("gini", "neighbors"))
            rows.append((result.experiment.title, name, *texts))
    sentences = (
        f"{name}: more concentrated than original in {more('gini', name)}, smoother between "
        f"neighbors in {more('neighbors', name)} of {len(results)} networks."
        for name in PAPER_MAPS
        if name != "original"
    )
    return Answer(
        _CLAIMS[3],
        tuple(sentences),
        Table(
            "Concentration and noise",
            ("network", "map", "Gini [95 %]", "neighbors [95 %]"),
            tuple(rows),
            "Means over test images with bootstrap intervals. Gini: 0 when the map lies evenly on "
            "all pixels, near 1 when on one. Neighbors: correlation of a map with itself one pixel "
            "on; white noise has 0. Zeros alone raise the first, so only both together would mean "
            "sharper.",
        ),
    )
