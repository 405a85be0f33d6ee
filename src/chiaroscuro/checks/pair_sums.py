"""Sums of what classes take from each other, in two readings of the rows of an image set."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chiaroscuro.evaluation import rows
from chiaroscuro.metrics.intervals import BootstrapMeans
from chiaroscuro.results.confusions import GRID, ClassPair
from chiaroscuro.settings import ConfusionSettings

Key = tuple[int, int]
"""Target and rival; `(k, k)` is what class k keeps."""
Photo = tuple[str, int]
"""An image by its id, and its batch."""
_SUMMED = ("brighter", "darker", "lead", "inside", "region", "first", "confused", "led", "regions")
"""`led`: the lead in images with a region, and `regions` their number."""


class Ranking(rows.Sums):
    """The first reading: what is taken, and confused, of every pair; images by target."""

    def __init__(self, *first: Any) -> None:
        self.taken, self.confused, self.images = Counter[Key](), Counter[Key](), Counter[int]()

    def add(self, table: pa.Table) -> None:
        """Count a batch in."""
        names = ("target", "rival", "predicted", "brighter", "darker")
        for target, rival, predicted, brighter, darker in zip(
            *(table[name].to_pylist() for name in names), strict=True
        ):
            self.taken[target, rival] += brighter + darker
            if rival == target:
                self.images[target] += 1
            elif rival == predicted:
                self.confused[target, rival] += 1

    def pairs(self, count: int, wrong: int) -> tuple[list[Key], list[Key]]:
        """So many of the strongest pairs, and of those that are confused most often."""

        def strength(key: Key) -> tuple[float, Key]:
            # The share, as if there were one more image without any: few images count for less.
            return -self.taken[key] / (self.images[key[0]] + 1), key

        others = (key for key in self.taken if key[0] != key[1])
        worst = nsmallest(wrong, self.confused, key=lambda k: (-self.confused[k], strength(k)))
        return nsmallest(count, others, key=strength), worst


@dataclass(eq=False)
class _Pair:
    """A pair's column among those of its target; sums of `_SUMMED` and places; its photos."""

    column: int
    sums: rows.Floats
    places: rows.Floats
    photos: list[tuple[float, Photo]] = field(default_factory=list)
    wrong: list[Photo] = field(default_factory=list)


class PairSums(rows.Sums):
    """The second reading: sums of some pairs, and of all that each class takes.

    `takers`: by class its images and the sum of its places, which are a grid, then colors.
    """

    def __init__(self, keys: Collection[Key], table: pa.Table, settings: ConfusionSettings) -> None:
        self.settings, self.found, self.widths = settings, dict[Key, _Pair](), Counter[int]()
        self.takers: dict[int, tuple[int, rows.Floats]] = {}
        self.blank = np.zeros(GRID**2 + len(table["colors"][0]))
        for key in dict.fromkeys(keys):
            sums, places = np.zeros(len(_SUMMED)), self.blank.copy()
            self.found[key] = _Pair(self.widths[key[0]], sums, places)
            self.widths[key[0]] += 1
        self.shares = {
            target: BootstrapMeans(width, settings.resamples, settings.seed)
            for target, width in self.widths.items()
        }

    def add(self, table: pa.Table) -> None:
        """Count a batch in."""
        read = {name: table[name].to_numpy() for name in table.column_names}
        own, share = read["target"] == read["rival"], (read["brighter"] + read["darker"]) / 2
        read["first"] = np.r_[False, own[:-1]] & ~own & (share > 0)  # rows fall by what is taken
        read["confused"] = read["predicted"] == read["rival"]
        read["regions"] = ~np.isnan(read["region"])
        read["led"] = read["lead"] * read["regions"]
        values = np.column_stack([np.nan_to_num(read[name].astype(float)) for name in _SUMMED])
        shares: dict[int, list[rows.Floats]] = {}
        for i, key in enumerate(zip(read["target"].tolist(), read["rival"].tolist(), strict=True)):
            places = np.concatenate([read["grid"][i], read["colors"][i]])
            if own[i]:
                shares.setdefault(key[0], []).append(np.zeros(self.widths[key[0]]))
            else:
                images, taken = self.takers.get(key[1], (0, self.blank))
                self.takers[key[1]] = images + 1, taken + places
            if (pair := self.found.get(key)) is None:
                continue
            shares[key[0]][-1][pair.column] = share[i]
            pair.sums += values[i]
            pair.places += places
            photo = read["id"][i], int(read["batch"][i])
            if read["confused"][i] and not pair.wrong:
                pair.wrong.append(photo)
            best = [*pair.photos, (share[i], photo)]
            pair.photos = sorted(best, key=lambda one: -one[0])[: self.settings.photos]
        for target, listed in shares.items():
            self.shares[target].add(np.stack(listed))

    def leads(self, keys: Collection[Key]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean leads of these pairs by place (P, GRID, GRID) and by color (P, 2, C, 2)."""
        means = [self.found[key].places / self.shares[key[0]].images for key in keys]
        return shaped(np.reshape(means, (len(means), -1) if means else (0, len(self.blank))))

    def pairs(self, keys: Collection[Key], shown: Collection[Photo] = ()) -> Iterator[ClassPair]:
        """These pairs, which name their photos where those are `shown`."""
        confidence = self.settings.confidence
        ends = {k: rows.stacked(one.interval(confidence), -1) for k, one in self.shares.items()}
        for key in keys:
            pair, images = self.found[key], self.shares[key[0]].images
            one = dict(zip(_SUMMED, pair.sums.tolist(), strict=True))
            grid = pair.places[: GRID**2].reshape(GRID, GRID)
            taken, whole = one["brighter"] + one["darker"], grid.sum() or 1
            has_region = one["regions"] > 0 and one["led"] > 0
            figures = {
                "brighter": one["brighter"] / images / 2,
                "darker": one["darker"] / images / 2,
                "lead": one["lead"] / taken if taken else 0,
                "first": one["first"] / images,
                "border": (whole - grid[1:-1, 1:-1].sum()) / whole if grid.any() else 0,
                "center": grid[2:-2, 2:-2].sum() / whole,
            }
            yield ClassPair(
                target=key[0],
                rival=key[1],
                images=images,
                share=rows.interval_at(ends[key[0]], pair.column),
                confused=round(one["confused"]),
                inside=rows.rounded(one["inside"] / one["led"]) if has_region else None,
                region=rows.rounded(one["region"] / one["regions"]) if has_region else None,
                photos=tuple(photo[0] for _, photo in pair.photos if photo in shown),
                **{name: rows.rounded(value) for name, value in figures.items()},
            )


def shaped(places: rows.Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Grids (..., GRID, GRID) and colors (..., 2, C, 2) of places (..., N)."""
    grid, colors = np.split(places.astype(np.float32), [GRID**2], axis=-1)
    lead, channels = places.shape[:-1], colors.shape[-1] // 4
    return grid.reshape(*lead, GRID, GRID), colors.reshape(*lead, 2, channels, 2)
