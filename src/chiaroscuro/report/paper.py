"""The page of the paper's tables and figures."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chiaroscuro.report.pages import environment
from chiaroscuro.report.tables import Table


@dataclass(frozen=True)
class Figure:
    """A picture with its caption; `source` is a path beside the text, or a data address."""

    source: str
    caption: str

    @classmethod
    def embedded(cls, file: Path, caption: str) -> "Figure":
        """The figure with its PNG inside."""
        text = base64.b64encode(file.read_bytes()).decode("ascii")
        return cls(f"data:image/png;base64,{text}", caption)


@dataclass(frozen=True, eq=False)
class Answer:
    """One claim, what was found in a sentence or two, and the table behind it."""

    claim: str
    found: Sequence[str]
    table: Table | None = None


def paper_page(
    tables: Sequence[Table],
    figures: Sequence[Figure],
    answers: Sequence[Answer],
    facts: Sequence[str],
) -> str:
    """Tables, figures and claims as a page that needs no other file and no network."""
    template = environment().get_template("paper.html.j2")
    return template.render(tables=tables, figures=figures, answers=answers, facts=facts)
