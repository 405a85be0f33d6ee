"""What is known after one image was explained by several classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.explanations import Explanation


@dataclass(frozen=True, eq=False)
class MapPair:
    """One map of two classifiers: `difference` (H, W), second minus first, in the maps' own sizes.

    Each map is divided by its root mean square first, since gradients of two networks have no
    common unit. `correlation` is Spearman's, `overlap` the share of the highest tenth in common.
    """

    difference: NDArray[np.floating[Any]]
    correlation: float
    overlap: float


@dataclass(frozen=True, eq=False)
class Pair:
    """The first explanation against the one at place `other`.

    `maps` is empty, and `note` says why, where the two networks saw different pixels.
    """

    other: int
    maps: Mapping[str, MapPair]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Beside:
    """What else is told of one classifier: a title, sentences, and a picture (H, W, 3) or None."""

    title: str
    lines: tuple[str, ...]
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """One image explained by M classifiers for one class.

    `names` tell the classifiers apart; `pairs` set the first against each other one. `beside` has
    one entry a classifier, or none: a what-if of each, or whatever `compare(beside=...)` gave.
    """

    names: tuple[str, ...]
    explanations: tuple[Explanation, ...]
    pairs: tuple[Pair, ...]
    beside: tuple[Beside, ...] = ()

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write figure.png, differences.npz, index.html, comparison.json, and each explanation.

        The explanations lie in folders 1, 2, ... of it, which `Explanation.load` reads. All of
        them or nothing. Raises `ResultError` for an existing folder.
        """
        from chiaroscuro.comparisons.storage import save

        return save(self, Path(folder), overwrite=overwrite)
