"""Maps compared with each other and with chance, on the same images: areas and relevance gains."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from chiaroscuro.choices import CURVES, RANDOM, SURE
from chiaroscuro.evaluation import rows
from chiaroscuro.evaluation.rows import Floats
from chiaroscuro.evaluation.stacks import Key
from chiaroscuro.metrics.deletion import INVERTED
from chiaroscuro.metrics.intervals import SignFlips, holm, interval
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Difference, Gain, ScoreName

Tested = tuple[Interval, float, float]
"""A mean with its interval, its p-value, and that corrected (Holm)."""


@dataclass(frozen=True, eq=False)
class Areas:
    """The areas under J curves of three kinds (`CURVES`), added over images.

    `mean` (J, 3) and `resampled` (R, J, 3); `flips` of J x 3 columns.
    """

    keys: Sequence[Key]
    mean: Floats
    resampled: Floats
    flips: SignFlips
    confidence: float

    def scores(self) -> dict[ScoreName, dict[int, Floats]]:
        """Every map's scores as weights (J,) of the areas, by the place of the map's curve."""
        weights, places = np.eye(len(self.keys)), {key: j for j, key in enumerate(self.keys)}
        maps = {j: weights[j] for key, j in places.items() if not key[1].startswith(INVERTED)}
        inverted = {
            j: places.get((self.keys[j][0], f"{INVERTED}{self.keys[j][1]}", self.keys[j][2]))
            for j in maps
        }
        gains = {j: weights[i] - weights[j] for j, i in inverted.items() if i is not None}
        return {"area": maps, "gain": gains}

    def differences(self) -> Iterator[Difference]:
        """Every pair of maps, and of a map and a random order, under one protocol and fill."""
        for score, scores in self.scores().items():
            pairs = [
                (a, b) for a, b in combinations(scores, 2) if self.keys[a][::2] == self.keys[b][::2]
            ]
            for of in CURVES:
                found = self._tested(of, [scores[a] - scores[b] for a, b in pairs])
                for (a, b), tested in zip(pairs, found, strict=True):
                    protocol, name, fill = self.keys[a]
                    yield Difference(protocol, fill, name, self.keys[b][1], *tested, score, of)

    def gains(self) -> Iterator[Gain]:
        """The relevance gain of every map under every fill: 0 where its order does not matter."""
        scores = self.scores()["gain"]
        for of in CURVES:
            for j, tested in zip(scores, self._tested(of, [*scores.values()]), strict=True):
                _, name, fill = self.keys[j]
                yield Gain(of, fill, name, *tested)

    def _tested(self, of: str, sums: Sequence[Floats]) -> list[Tested]:
        """Weighted sums of the areas under one kind of curve; p-values corrected over all sums."""
        if not sums:
            return []
        weights, kind = np.stack(sums, axis=1), CURVES.index(of)
        drawn = self.mean[:, kind] @ weights, self.resampled[..., kind] @ weights
        ends = rows.stacked(interval(*drawn, self.confidence), len(sums))
        columns = np.zeros((len(self.keys), len(CURVES), len(sums)))
        columns[:, kind] = weights
        p_values = self.flips.p_values(columns.reshape(-1, len(sums)))
        found = zip(rows.rounded(p_values), rows.rounded(holm(p_values)), strict=True)
        return [(rows.interval_at(ends, i), *pair) for i, pair in enumerate(found)]


def chance_notes(differences: Sequence[Difference], gains: Sequence[Gain]) -> Iterator[str]:
    """Which maps' scores, by allegiance, do not differ significantly from those of chance."""
    random = [
        (row.fill, row.map if row.against == RANDOM else row.against)
        for row in differences
        if RANDOM in (row.map, row.against) and _unsure(row)
    ]
    inverted = [(row.fill, row.map) for row in gains if _unsure(row)]
    for places, other in ((random, "a random order"), (inverted, "their inverted order")):
        by_fill: dict[str, list[str]] = {}
        for fill, name in places:
            by_fill.setdefault(fill, []).append(name)
        for fill, names in by_fill.items():
            yield (
                f"under {fill}, not significantly different from {other}: {', '.join(names)}; "
                "this run does not rank them"
            )


def _unsure(row: Difference | Gain) -> bool:
    return row.of == CURVES[0] and row.p_holm >= SURE
