"""Tables of written cells as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Table:
    """A titled table; every cell is text, the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, with its title and note."""
    lines = [
        f"**{table.title}**",
        "",
        _line(table.columns),
        "|".join(["", *["---"] * len(table.columns), ""]),
    ]
    lines += [_line(row) for row in table.rows]
    if table.note:
        lines += ["", table.note]
    return "\n".join(lines) + "\n"


def csv_text(table: Table) -> str:
    """The columns' names and the rows as CSV."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return target.getvalue()


def latex(table: Table) -> str:
    """The table as a LaTeX `table` that needs no package."""
    shape = "l" * len(table.columns)
    body = [_latex_line(table.columns), r"\hline", *(_latex_line(row) for row in table.rows)]
    note = f"\n{_escaped(table.note)}" if table.note else ""
    lines = [
        r"\begin{table}", r"\centering", f"\\caption{{{_escaped(table.title)}}}",
        f"\\begin{{tabular}}{{{shape}}}", *body, f"\\end{{tabular}}{note}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    written = [cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(written)} |"


def _latex_line(cells: Sequence[str]) -> str:
    return f"{' & '.join(map(_escaped, cells))} \\\\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
