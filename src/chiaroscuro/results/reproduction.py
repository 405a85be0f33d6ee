"""What is saved of a training, and of the paper's tables and claims."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from chiaroscuro.choices import TrainingSettings
from chiaroscuro.errors import ResultError, first_line
from chiaroscuro.results.codec import from_plain


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """How a network was trained, as its folder says under "training"; the last epoch's figures."""

    settings: TrainingSettings
    images: int
    test_images: int | None
    left_out: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    seconds: float
    versions: Mapping[str, str]


def read_training(origin: Mapping[str, Any]) -> TrainingRecord:
    """The training behind a model's origin; raises `ResultError` where it tells of none."""
    try:
        return from_plain(origin["training"], {}, TrainingRecord)
    except KeyError:
        raise ResultError("the model does not say how it was trained") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise ResultError(f"its training record cannot be read ({first_line(error)})") from error


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; every cell is text, the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of the report's folder with its caption."""

    file: str
    caption: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One claim of the paper, the answer in a sentence or two, and the table behind it."""

    claim: str
    sentences: tuple[str, ...]
    table: Table | None = None


@dataclass(frozen=True)
class Reproduction:
    """The paper's tables, claims and figures, with our numbers; `tables` by file name.

    `missing`: experiments that could not be run, with the reason, by title.
    """

    facts: tuple[str, ...]
    tables: Mapping[str, Table]
    answers: tuple[Answer, ...]
    figures: tuple[Figure, ...]
    missing: Mapping[str, str]
    versions: Mapping[str, str]
