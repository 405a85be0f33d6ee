"""Rows of results as pandas tables, and single rows by their fields."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from chiaroscuro.errors import ChoiceError, missing_extra, unknown
from chiaroscuro.results.facts import Interval

if TYPE_CHECKING:
    import pandas as pd

Row = TypeVar("Row")
Rows = Iterable[Any]
"""Dataclasses or mappings of one shape."""


def frame_of(table: str, tables: Mapping[str, Rows | Callable[[], Rows]]) -> "pd.DataFrame":
    """The rows of one of several tables, intervals as three columns: `area`, `area_low`, `_high`.

    Raises `ChoiceError` for an unknown table, `MissingExtraError` without pandas.
    """
    if table not in tables:
        raise unknown("table", table, tables)
    try:
        import pandas as pd
    except ImportError as error:
        raise missing_extra("to_frame", "pandas", "data") from error
    rows = tables[table]
    return pd.DataFrame([_flat(row) for row in (rows() if callable(rows) else rows)])


def _flat(row: Any) -> dict[str, Any]:
    values = row if isinstance(row, Mapping) else _fields(row)
    return dict(_columns(values))


def _fields(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}


def _columns(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Interval):
            yield from (
                (name, value.value),
                (f"{name}_low", value.low),
                (f"{name}_high", value.high),
            )
        else:
            yield name, value


def pick(rows: Sequence[Row], **fields: object) -> Row:
    """The row whose fields have these values; raises `ChoiceError` where there is none."""
    for row in rows:
        if all(getattr(row, name) == value for name, value in fields.items()):
            return row
    wanted = ", ".join(f"{name} {value}" for name, value in fields.items())
    raise ChoiceError(f"nothing was measured of {wanted}")
