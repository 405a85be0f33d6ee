"""Two maps of one run against each other: which area is lower, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chiaroscuro.report import Table

SPLIT_WORDS = {"test": "test images", "train": "training images"}
_SURE = 0.05


@dataclass(frozen=True)
class Pair:
    """One comparison: area of the first map minus the second's."""

    network: str
    images: str
    protocol: str
    fill: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float

    @property
    def verdict(self) -> str:
        """What the pair says of 'the first is lower'."""
        if self.p >= _SURE:
            return "open"
        return "yes" if self.difference < 0 else "no"


def find_pair(
    network: str,
    images: str,
    summary: Mapping[str, Any],
    protocol: str,
    fill: str,
    first: str,
    second: str,
) -> Pair:
    """The pair among a summary's differences, whichever way round they are; raises `KeyError`."""
    for row in summary["differences"]:
        if (row["protocol"], row["fill"]) != (protocol, fill):
            continue
        names = row["map"], row["against"]
        place = (network, images, protocol, fill, first, second)
        if names == (first, second):
            return Pair(*place, row["difference"], row["low"], row["high"], row["p_holm"])
        if names == (second, first):
            turned = 0 - row["difference"], 0 - row["high"], 0 - row["low"]
            return Pair(*place, *turned, row["p_holm"])
    raise KeyError(f"{first} {second}")


def tally(pairs: Sequence[Pair]) -> str:
    """How often the first map is lower, in words."""
    count = {word: sum(p.verdict == word for p in pairs) for word in ("yes", "no", "open")}
    return (
        f"lower in {count['yes']} of {len(pairs)} comparisons, higher in {count['no']}, not told "
        f"apart in {count['open']}."
    )


def pair_table(pairs: Sequence[Pair]) -> Table:
    """One row a pair."""
    rows = [
        [
            p.network, p.images, p.protocol, p.fill, f"{p.first} - {p.second}",
            f"{p.difference:+.3f} [{p.low:+.3f}, {p.high:+.3f}]", f"{p.p:.4f}", p.verdict,
        ]
        for p in pairs
    ]  # fmt: skip
    columns = [
        "network", "images", "protocol", "fill", "areas of", "difference [95 %]", "p", "lower?",
    ]  # fmt: skip
    note = (
        "Difference of areas on the same images with its bootstrap interval; p by sign flips, "
        "Holm-corrected over all pairs of its run; 'yes' and 'no' below 0.05."
    )
    return Table("Paired differences", columns, rows, note)
