"""Fills by name: what a changed pixel becomes."""

from dataclasses import dataclass

from chiaroscuro.choices.names import as_float
from chiaroscuro.errors import ChoiceError, unknown


@dataclass(frozen=True, slots=True)
class FillChoice:
    """One way to change a pixel: what it becomes, and what its amount means, if it has one."""

    reads: str
    amount: str = ""
    default: float | None = None


FILLS: dict[str, FillChoice] = {
    "black": FillChoice("0 in every channel"),
    "white": FillChoice("1 in every channel"),
    "mean": FillChoice("the image's mean of each channel"),
    "blur": FillChoice(
        "the image under a Gaussian", "its width as a share of the shorter side", 0.05
    ),
    "noise": FillChoice("uniform noise in [0, 1], seeded"),
    "brighter": FillChoice("the pixel plus the amount, at most 1", "a number in (0, 1]"),
    "darker": FillChoice("the pixel minus the amount, at least 0", "a number in (0, 1]"),
}
"""Every fill by name; the functions are in `chiaroscuro.edits.FILLS`."""


@dataclass(frozen=True, slots=True)
class Fill:
    """What edited pixels become: a name of `FILLS`, with its amount where it has one.

    An amount that has a default may be left out. Raises `ChoiceError` for an unknown name, or an
    amount that is missing, needless or outside (0, 1].
    """

    name: str
    amount: float | None = None

    def __post_init__(self) -> None:
        if self.name not in FILLS:
            raise unknown("fill", self.name, FILLS)
        choice = FILLS[self.name]
        if self.amount is not None and not choice.amount:
            raise ChoiceError(f"fill {self.name!r} takes no amount: it is {self.amount}")
        amount = choice.default if self.amount is None else as_float("amount", self.amount)
        if choice.amount and (amount is None or not 0 < amount <= 1):
            raise ChoiceError(
                f"fill {self.name!r} with amount {amount}: give an amount in (0, 1], such as "
                f"{self.name}:0.1"
            )
        object.__setattr__(self, "amount", amount)

    def __str__(self) -> str:
        if self.amount is None or self.amount == FILLS[self.name].default:
            return self.name
        return f"{self.name}:{self.amount!r}".removesuffix(".0")


def parse_fill(fill: "str | Fill") -> Fill:
    """Read `"black"`, `"blur:0.1"`, `"brighter:0.1"` or in short `"+0.1"`, `"-0.1"`.

    Raises `ChoiceError` as `Fill` does.

    >>> str(parse_fill("-0.1")), parse_fill("black")
    ('darker:0.1', Fill(name='black', amount=None))
    """
    if isinstance(fill, Fill):
        return fill
    word = str(fill).strip()
    if word[:1] in ("+", "-"):
        word = f"{'brighter' if word[0] == '+' else 'darker'}:{word[1:]}"
    name, colon, number = word.partition(":")
    try:
        amount = float(number) if colon else None
    except ValueError:
        raise ChoiceError(f"fill {fill!r}: the amount {number!r} is no number") from None
    return Fill(name, amount)
