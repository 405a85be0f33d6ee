"""The paper's three tables next to ours, the matched protocol's, and pairs of maps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from chiaroscuro.choices import RANDOM
from chiaroscuro.errors import ChoiceError
from chiaroscuro.metrics.intervals import share_interval
from chiaroscuro.report.runs import SURE, interval_text
from chiaroscuro.reproduction.experiments import COLUMNS, EPOCHS
from chiaroscuro.reproduction.work import ExperimentResult
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Evaluation, Table
from chiaroscuro.results.models import TrainingRecord

SPLIT_WORDS = {"test": "test images", "train": "training images"}
_NONE = "-"


def accuracy_table(results: Sequence[ExperimentResult], missing: Mapping[str, str]) -> Table:
    """Table 1: test accuracy after the last epoch, on all test images."""
    rows = [_accuracy_row(result) for result in results]
    rows += [(title, f"not run: {why}", *[_NONE] * 6) for title, why in missing.items()]
    columns = (
        "network",
        "ours [95 %]",
        "paper",
        "difference",
        "epochs",
        "trained on",
        "tested on",
        "training time",
    )
    note = "Last epoch, never chosen by test accuracy; Wilson's interval over test images."
    return Table("Table 1. Test accuracy", columns, tuple(rows), note)


def _accuracy_row(result: ExperimentResult) -> tuple[str, ...]:
    record, published = result.training, result.experiment.published
    tested, accuracy = record.test_images, record.test_accuracy
    if not tested or accuracy is None:
        return (result.experiment.title, "not tested", *[_NONE] * 6)
    low, high = share_interval(round(accuracy * tested), tested)
    return (
        result.experiment.title,
        f"{accuracy:.4f} [{low:.4f}, {high:.4f}]",
        f"{published.accuracy:.4f}" if published else _NONE,
        f"{accuracy - published.accuracy:+.4f}" if published else _NONE,
        _epochs(record),
        f"{record.images:,}",
        f"{tested:,}",
        _duration(record.seconds),
    )


def area_table(number: int, fill: str, results: Sequence[ExperimentResult]) -> Table:
    """Tables 2 and 3: area under the test curve as published, next to the paper's."""
    rows = []
    for result in results:
        evaluation, published = result.evaluations["test"], result.experiment.published
        for name in COLUMNS[fill]:
            ours = evaluation.curve("paper", name, fill).area
            theirs = published.areas[name, fill] if published else None
            rows.append(
                (
                    result.experiment.title,
                    name,
                    interval_text(ours),
                    _NONE if theirs is None else f"{theirs:.2f}",
                    _NONE if theirs is None else interval_text(_less(ours, theirs), sign="+"),
                    f"{evaluation.data.images:,}",
                )
            )
    return Table(
        f"Table {number}. Area under the allegiance curve, {fill}-deletion, test images",
        ("network", "map", "ours [95 %]", "paper", "difference [95 %]", "images"),
        tuple(rows),
        "The published protocol; trapezoids over 0 to 0.9, not divided by 0.9; lower is better. "
        "Bootstrap intervals over images.",
    )


def _less(interval: Interval, by: float) -> Interval:
    return Interval(interval.value - by, interval.low - by, interval.high - by)


def matched_table(fill: str, results: Sequence[ExperimentResult]) -> Table:
    """The same areas when every map loses the same number of pixels, with the random control."""
    rows = [
        (
            result.experiment.title,
            name,
            *(
                interval_text(result.evaluations[split].curve("matched", name, fill).area)
                for split in SPLIT_WORDS
            ),
        )
        for result in results
        for name in (*COLUMNS[fill], RANDOM)
    ]
    return Table(
        f"Matched protocol, {fill}-deletion",
        ("network", "map", "test [95 %]", "training [95 %]"),
        tuple(rows),
        "Exactly round(p H W) pixels for every map, ties in random order; no counterpart in the "
        "paper.",
    )


def _epochs(record: TrainingRecord) -> str:
    epochs = record.settings.epochs
    return f"{epochs}" if epochs == EPOCHS else f"{epochs}, cut short (paper {EPOCHS})"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


@dataclass(frozen=True)
class Pair:
    """One comparison of a run: the area of the first map minus the second's."""

    network: str
    images: str
    protocol: str
    fill: str
    first: str
    second: str
    difference: Interval
    p: float

    @property
    def verdict(self) -> str:
        """Whether the first is lower."""
        if self.p >= SURE:
            return "open"
        return "yes" if self.difference.value < 0 else "no"


def find_pair(
    network: str,
    images: str,
    evaluation: Evaluation,
    protocol: str,
    fill: str,
    first: str,
    second: str,
) -> Pair:
    """The pair among an evaluation's differences, whichever way round; raises `ChoiceError`."""
    place = (network, images, protocol, fill, first, second)
    for row in evaluation.differences:
        if (row.protocol, row.fill) != (protocol, fill):
            continue
        interval = row.difference
        if (row.map, row.against) == (first, second):
            return Pair(*place, interval, row.p_holm)
        if (row.map, row.against) == (second, first):
            turned = Interval(0 - interval.value, 0 - interval.high, 0 - interval.low)
            return Pair(*place, turned, row.p_holm)
    raise ChoiceError(f"{first} and {second} were not compared by {protocol}, {fill}")


def tally(pairs: Sequence[Pair]) -> str:
    """How often the first map is lower, in words."""
    count = {word: sum(p.verdict == word for p in pairs) for word in ("yes", "no", "open")}
    return (
        f"lower in {count['yes']} of {len(pairs)} comparisons, higher in {count['no']}, not "
        f"significantly different in {count['open']}."
    )


def pair_table(pairs: Sequence[Pair]) -> Table:
    """One row per pair."""
    return Table(
        "Paired differences",
        ("network", "images", "protocol", "fill", "areas of", "difference [95 %]", "p", "lower?"),
        tuple(_pair_rows(pairs)),
        "Difference of areas on the same images with its bootstrap interval; p by sign flips, "
        "Holm-corrected over all pairs of its run; 'yes' and 'no' below 0.05.",
    )


def _pair_rows(pairs: Sequence[Pair]) -> Iterator[tuple[str, ...]]:
    for p in pairs:
        difference = interval_text(p.difference, sign="+")
        areas = f"{p.first} - {p.second}"
        where = (p.network, p.images, p.protocol, p.fill)
        yield (*where, areas, difference, f"{p.p:.4f}", p.verdict)
