"""What an evaluation is: everything that decides its rows."""

from dataclasses import dataclass

from chiaroscuro.choices import (
    EDIT_MAPS,
    MEASURED_MAPS,
    PAPER_FRACTIONS,
    PAPER_MAPS,
    PROTOCOLS,
    SCORES,
    MethodOptions,
    Score,
    check_names,
    is_rival_word,
    parse_fill,
    parse_method,
    parse_rivals,
)
from chiaroscuro.errors import ChoiceError


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """The defaults are the paper's maps, fills and fractions, in both protocols.

    `data`, `split`, `limit`, `seed`: see `load_images`; the seed also breaks ties and draws noise.
    `rgb_only`: files that are not RGB are left out. `rivals`: "all", "top:N" or classes by
    index or name, separated by ";"; "mean", "softmax", "runner-up" as in `parse_rivals`. `method`
    with `points`, `sigma`, `baseline`, `background`: as `parse_method` takes them, None for the
    method's own. `batch`: images at a time, None for as many as suit their size.
    `what_if`: the share of pixels whose change is foretold and made by every map, None for none.
    `threads`: None for PyTorch's own; whatever it is then stays through every `resume`.
    `resamples` and `flips`: random sets behind each interval, and sign choices behind each p-value.
    """

    data: str
    model: str
    split: str | None = None
    limit: int | None = None
    seed: int = 0
    maps: tuple[str, ...] = PAPER_MAPS
    fills: tuple[str, ...] = ("black", "white")
    protocols: tuple[str, ...] = PROTOCOLS
    fractions: tuple[float, ...] = PAPER_FRACTIONS
    what_if: float | None = None
    rivals: str = "all"
    score: Score = "logit"
    method: str = "gradient"
    points: int | None = None
    sigma: float | None = None
    baseline: str | None = None
    background: str | None = None
    rgb_only: bool = False
    batch: int | None = None
    threads: int | None = None
    device: str = "cpu"
    resamples: int = 1000
    flips: int = 9999
    confidence: float = 0.95

    def __post_init__(self) -> None:
        put = object.__setattr__  # frozen, and its values in one form
        put(self, "maps", check_names("map", self.maps, MEASURED_MAPS))
        put(self, "fills", tuple(dict.fromkeys(str(parse_fill(fill)) for fill in self.fills)))
        put(self, "protocols", check_names("protocol", self.protocols, PROTOCOLS))
        put(self, "fractions", tuple(map(float, self.fractions)))
        check_names("score", [self.score], SCORES)
        for name in ("maps", "fills", "protocols"):
            if not getattr(self, name):
                raise ChoiceError(f"no {name} are given: give at least one")
        for name in ("batch", "threads", "limit", "resamples", "flips"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ChoiceError(f"{name} is {value}: expected at least 1")
        if self.what_if is not None and not 0 < self.what_if < 1:
            raise ChoiceError(f"what_if is {self.what_if}: expected a share of pixels in (0, 1)")
        if is_rival_word(self.rivals):
            parse_rivals(self.rivals)
        for name in ("points", "sigma", "baseline"):
            put(self, name, getattr(self.method_options, name))

    @property
    def method_options(self) -> MethodOptions:
        """The method with its settings; noise is drawn from the run's seed."""
        return parse_method(
            self.method, self.points, self.sigma, self.baseline, self.background, self.seed
        )

    @property
    def saliency_maps(self) -> tuple[str, ...]:
        """The maps that are the same for every fill."""
        return tuple(name for name in self.maps if name not in EDIT_MAPS)

    @property
    def edit_maps(self) -> tuple[str, ...]:
        """The maps that are made for each fill anew."""
        return tuple(name for name in self.maps if name in EDIT_MAPS)
