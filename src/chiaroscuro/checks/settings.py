"""What a sanity check and a localization are: everything that decides their rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chiaroscuro.choices import (
    METHODS,
    RANKING_MAPS,
    SCORES,
    Score,
    check_names,
    parse_rivals,
)
from chiaroscuro.errors import ChoiceError

TARGETS = ("predicted", "label", "index")
"""The class that a localization explains."""


def method_name(method: Any) -> str:
    """What a method is called in rows and figures: its name, or its type's."""
    return (
        method if isinstance(method, str) else str(getattr(method, "name", type(method).__name__))
    )


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """The defaults check every map that orders pixels, by the plain gradient.

    `data`, `split`, `limit`, `seed`: see `load_images`; the seed also draws weights, noise and
    orders. `methods`: names, or whatever else `class_gradients(method=...)` takes. `rivals`:
    "top:N", "all" or classes separated by ";", chosen anew by each network that is asked.
    `depths`: steps from the output to the input, neighboring layers together; None for one a
    layer. `draws`: independent random weights of each step. `noise`: standard deviation of the
    input noise. `orders`: random orders an image is compared with. `share`: pixels that count as a
    map's highest. `reference`: also check a method that is known to fail.
    """

    data: str
    model: str
    split: str | None = None
    limit: int | None = 64
    seed: int = 0
    maps: tuple[str, ...] = RANKING_MAPS
    methods: tuple[Any, ...] = ("gradient",)
    rivals: str = "top:10"
    score: Score = "logit"
    depths: int | None = 12
    draws: int = 2
    noise: float = 0.02
    orders: int = 20
    share: float = 0.1
    reference: bool = True
    rgb_only: bool = False
    batch: int | None = None
    threads: int | None = None
    device: str = "cpu"
    resamples: int = 1000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        put = object.__setattr__  # frozen, and its values in one form
        put(self, "maps", check_names("map", self.maps, RANKING_MAPS))
        put(self, "methods", _checked_methods(self.methods))
        check_names("score", [self.score], SCORES)
        for name in ("maps", "methods"):
            if not getattr(self, name):
                raise ChoiceError(f"no {name} are given: give at least one")
        for name in ("limit", "depths", "draws", "orders", "batch", "threads", "resamples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ChoiceError(f"{name} is {value}: expected at least 1")
        for name in ("noise", "share"):
            if not 0 < getattr(self, name) < 1:
                raise ChoiceError(f"{name} is {getattr(self, name)}: expected a number in (0, 1)")
        if self.rivals == "all" or self.rivals.startswith("top:"):
            parse_rivals(self.rivals)


def _checked_methods(methods: Iterable[Any]) -> tuple[Any, ...]:
    """Methods that are told apart by their names, those given by name known."""
    chosen = tuple(methods)
    check_names("method", [method for method in chosen if isinstance(method, str)], METHODS)
    names = [method_name(method) for method in chosen]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ChoiceError(f"two methods are called {twice!r}: check them one after the other")
    return chosen


@dataclass(frozen=True, slots=True)
class LocalizationSettings:
    """What decides the rows of a localization.

    `regions`: see `load_regions`. `target`: the "predicted" class, the "label" of the data by its
    name, or by its "index", where the data's class numbers are the model's.
    `tolerance`: pixels of the network that a hit may be beside the region. `smoothing`: standard
    deviation of a Gaussian over each map, as a share of the shorter side; 0 for none.
    """

    data: str
    regions: str
    model: str
    split: str | None = None
    limit: int | None = None
    seed: int = 0
    maps: tuple[str, ...] = RANKING_MAPS
    method: Any = "gradient"
    rivals: str = "top:10"
    score: Score = "logit"
    target: str = "predicted"
    tolerance: int = 0
    smoothing: float = 0.0
    batch: int | None = None
    threads: int | None = None
    device: str = "cpu"
    resamples: int = 1000
    flips: int = 9999
    confidence: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "maps", check_names("map", self.maps, RANKING_MAPS))
        check_names("method", [self.method] if isinstance(self.method, str) else [], METHODS)
        check_names("score", [self.score], SCORES)
        check_names("target", [self.target], TARGETS)
        if not self.maps or self.tolerance < 0 or not 0 <= self.smoothing < 1:
            raise ChoiceError(
                f"maps {list(self.maps)}, tolerance {self.tolerance}, smoothing {self.smoothing}: "
                "expected at least one map, a tolerance of 0 or more, a smoothing in [0, 1)"
            )
        if self.rivals == "all" or self.rivals.startswith("top:"):
            parse_rivals(self.rivals)
