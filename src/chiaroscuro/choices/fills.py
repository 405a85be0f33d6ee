"""Fills by name: what a changed pixel becomes."""

import math
from dataclasses import dataclass

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
    """What edited pixels become: a name of `FILLS`, with its amount where it has one."""

    name: str
    amount: float | None = None

    def __str__(self) -> str:
        if self.amount is None or self.amount == FILLS[self.name].default:
            return self.name
        return f"{self.name}:{self.amount:g}"


def parse_fill(fill: "str | Fill") -> Fill:
    """Read `"black"`, `"blur:0.1"`, `"brighter:0.1"` or in short `"+0.1"`, `"-0.1"`.

    Raises `ChoiceError` for an unknown name, or an amount that is missing, needless or outside
    (0, 1].

    >>> str(parse_fill("-0.1")), parse_fill("black")
    ('darker:0.1', Fill(name='black', amount=None))
    """
    if isinstance(fill, Fill):
        return fill
    word = fill.strip()
    if word[:1] in ("+", "-"):
        word = f"{'brighter' if word[0] == '+' else 'darker'}:{word[1:]}"
    name, colon, number = word.partition(":")
    if name not in FILLS:
        raise unknown("fill", fill, FILLS)
    choice = FILLS[name]
    if not colon and (choice.default is not None or not choice.amount):
        return Fill(name, choice.default)
    if not choice.amount:
        raise ChoiceError(f"fill {fill!r}: {name} takes no amount")
    try:
        amount = float(number)
    except ValueError:
        amount = math.nan
    if not 0 < amount <= 1:
        raise ChoiceError(f"fill {fill!r}: give {name} an amount in (0, 1], such as {name}:0.1")
    return Fill(name, amount)
