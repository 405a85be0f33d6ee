"""A kind of result for tests of the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.results import Kind
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.kinds import KINDS

TOY = Kind("toy", f"{__name__}:Toy", f"{__name__}:draw")
OTHER = Kind("other")


@dataclass(frozen=True)
class Inner:
    name: str
    values: NDArray[Any]


@dataclass(frozen=True)
class Toy:
    number: float
    interval: Interval | None
    maps: Mapping[str, NDArray[np.float32]]
    labels: Mapping[int, str]
    inner: tuple[Inner, ...] = ()
    choices: Mapping[str, Any] | None = None


def toy(number: float = 1.5) -> Toy:
    rng = np.random.default_rng(0)
    return Toy(
        number, Interval(1.0, 0.25, 2.0),
        {"active": rng.random((3, 4)).astype(np.float32)}, {3: "dog", 0: "cat"},
        (Inner("a", np.arange(5)), Inner("b", np.ones((2, 2)))), {"maps": ["active"], "seed": None},
    )  # fmt: skip


def draw(result: Toy, folder: Path) -> None:
    (folder / "index.html").write_text(f"<p>{result.number}</p>")


def register(monkeypatch) -> None:
    for kind in (TOY, OTHER):
        monkeypatch.setitem(KINDS, kind.name, kind)
