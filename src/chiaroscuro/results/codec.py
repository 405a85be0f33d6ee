"""Frozen dataclasses to plain JSON values and arrays, and back."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar, get_origin

import msgspec
import numpy as np

from chiaroscuro.choices.options import Settings, unchecked
from chiaroscuro.errors import encodable

Result = TypeVar("Result")
_ARRAY, _NUMBER = "array", "number"


def to_plain(result: Any) -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    """A result as values that JSON keeps, and its arrays by where they stand in it.

    An array's place among the values holds {"array": NAME}, that of a number which JSON does not
    have {"number": "nan"}, "inf" or "-inf". Results are dataclasses of numbers, strings, None,
    arrays, and of tuples, mappings and dataclasses of those; anything else is kept as its text.

    >>> from chiaroscuro.results.facts import Interval
    >>> to_plain((Interval(1.0, 0.5, 2.0), np.zeros(3)))[0]
    [{'value': 1.0, 'low': 0.5, 'high': 2.0}, {'array': '1'}]
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    return _plain(result, "", arrays), arrays


def facts_of(result: Any) -> Any:
    """A result as values that JSON keeps, without its arrays.

    >>> facts_of({"a": np.zeros(3), "b": (1, 2)})
    {'b': [1, 2]}
    """

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            if [*value] == [_NUMBER]:
                return value[_NUMBER]
            return {key: kept(held) for key, held in value.items() if not _is_array(held)}
        return [kept(held) for held in value] if isinstance(value, list) else value

    return kept(to_plain(result)[0])


def _is_array(plain: Any) -> bool:
    return isinstance(plain, dict) and [*plain] == [_ARRAY]


def _plain(value: Any, name: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        return _plain(value.item(), name, arrays)
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: repr(value)}
    if isinstance(value, Settings):
        return _plain(value.plain(), name, arrays)
    if dataclasses.is_dataclass(value):
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        items = [(encodable(key), held) for key, held in value.items()]
    elif isinstance(value, list | tuple):
        inner = f"{name}." if name else ""
        return [_plain(held, f"{inner}{i}", arrays) for i, held in enumerate(value)]
    else:
        return value if isinstance(value, bool | int | float | None) else encodable(value)
    inner = f"{name}." if name else ""
    return {key: _plain(held, f"{inner}{key}", arrays) for key, held in items}


def from_plain(
    plain: Any, arrays: Mapping[str, np.ndarray[Any, Any]], kind: type[Result]
) -> Result:
    """The result that `to_plain` took apart; raises `ValueError` where its values do not fit."""

    def array(wanted: type, held: Any) -> Any:
        if get_origin(wanted) is not np.ndarray:
            raise TypeError(f"no way to read a {wanted}")
        return arrays[held[_ARRAY]]

    def numbers(value: Any) -> Any:
        if isinstance(value, dict):
            if [*value] == [_NUMBER]:
                return float(value[_NUMBER])
            return {key: numbers(inner) for key, inner in value.items()}
        return [numbers(inner) for inner in value] if isinstance(value, list) else value

    with unchecked():  # settings may name methods that are objects
        return msgspec.convert(numbers(plain), kind, dec_hook=array, str_keys=True)
