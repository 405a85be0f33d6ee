"""How names and numbers that users give are checked."""

import operator
from collections.abc import Iterable
from typing import SupportsFloat, SupportsIndex, cast

from chiaroscuro.errors import ChoiceError, unknown


def check_names(kind: str, names: str | Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """One name or several as a tuple without repeats; raises `ChoiceError` for an unknown one."""
    table = tuple(known)
    chosen = tuple(dict.fromkeys([names] if isinstance(names, str) else names))
    for name in chosen:
        if name not in table:
            raise unknown(kind, name, table)
    return chosen


def as_float(name: str, value: object) -> float:
    """A number of any library (NumPy scalar, array or tensor of no axes) as a Python float.

    Raises `ChoiceError` for text, truth values, complex numbers and anything with axes.
    """
    try:
        truth = isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))
        if truth or isinstance(value, str | bytes) or getattr(value, "ndim", None):
            raise TypeError
        return float(cast(SupportsFloat, value))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ChoiceError(f"{name} is {value!r}: expected a number") from None


def as_int(name: str, value: object) -> int:
    """`as_float` for whole numbers; 224.0 is one."""
    number = as_float(name, value)
    if not number.is_integer():
        raise ChoiceError(f"{name} is {value!r}: expected a whole number")
    try:
        return operator.index(cast(SupportsIndex, value))
    except TypeError:
        return int(number)
