"""Tables of written cells as Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Sequence

from chiaroscuro.results.measurements import Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip
_MARKDOWN = re.compile(r"[\\`*<>|~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)|(?<=\])\(")
"""Letters that Markdown reads as more than themselves where they stand."""


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, with its title and note."""
    lines = [
        f"**{_plain(table.title)}**",
        "",
        _line(table.columns),
        "|".join(["", *["---"] * len(table.columns), ""]),
    ]
    lines += [_line(row) for row in table.rows]
    if table.note:
        lines += ["", _plain(table.note)]
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
    note = f"\n\n{_escaped(table.note)}" if table.note else ""
    lines = [
        r"\begin{table}", r"\centering", f"\\caption{{{_escaped(table.title)}}}",
        f"\\begin{{tabular}}{{{shape}}}", *body, f"\\end{{tabular}}{note}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\g<0>", _one_line(text))


def _latex_line(cells: Sequence[str]) -> str:
    line = f"{' & '.join(map(_escaped, cells))} \\\\"
    # The line break before this row would take a leading bracket or star as its own argument.
    return f"{{}}{line}" if line.startswith(("[", "*")) else line


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
