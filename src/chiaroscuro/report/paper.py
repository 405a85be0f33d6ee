"""The report of the paper's tables, claims and figures: as a page, Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from chiaroscuro.files import inside, read_regular
from chiaroscuro.report.pages import data_uri, write_page
from chiaroscuro.results import PAGE
from chiaroscuro.results.measurements import Reproduction, Table

TEXT = "paper.md"
_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip
_MARKDOWN = re.compile(r"[\\`*<>|~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)|(?<=\])\(")
"""Letters that Markdown reads as more than themselves where they stand."""


def write(result: Reproduction, folder: Path) -> list[str]:
    """Write page, text and tables; the figures lie in the folder already. Returns their names."""
    (folder / "tables").mkdir(exist_ok=True)
    tables = dict(result.tables)
    for number, answer in enumerate(result.answers, 1):
        if answer.table is not None:
            tables[f"claim-{number}"] = answer.table
    texts = {TEXT: _document(result)}
    for name, table in tables.items():
        texts |= {f"tables/{name}.csv": csv_text(table), f"tables/{name}.tex": latex(table)}
    for name, text in texts.items():
        inside(folder, name).write_text(text, encoding="utf-8")
    files = [one.file for one in result.figures]
    figures = [data_uri(read_regular(inside(folder, file))) for file in files]
    quick = [fact for fact in result.facts if "mean nothing" in fact]
    write_page(
        folder,
        "paper",
        title="The paper's tables and figures, reproduced",
        asked="Do the paper's numbers come out again, when all of them are computed from images?",
        found=[f"{one.claim} Found: {one.sentences[0]}" for one in result.answers[:2]],
        docs="how-to/reproduce-the-paper",
        warnings=quick,
        result=result,
        figures=figures,
    )
    return [PAGE, *texts, *files]


def _document(result: Reproduction) -> str:
    parts = ["# The paper's tables and figures, reproduced\n"]
    parts += [*(f"- {_plain(fact)}" for fact in result.facts), ""]
    parts += [markdown(table) for table in result.tables.values()]
    parts += ["## The six claims\n"]
    for answer in result.answers:
        parts += [f"### {answer.claim}\n", *(f"- {line}" for line in answer.sentences), ""]
        parts += [markdown(answer.table)] if answer.table is not None else []
    parts += ["## Figures\n"]
    parts += [f"![{one.caption}]({one.file})\n\n{one.caption}\n" for one in result.figures]
    return "\n".join(parts)


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, with its title and note."""
    head, *rows = (
        f"| {' | '.join(map(_plain, cells))} |" for cells in (table.columns, *table.rows)
    )
    lines = [head, "|".join(["", *["---"] * len(table.columns), ""]), *rows]
    note = ["", _plain(table.note)] if table.note else []
    return "\n".join([f"**{_plain(table.title)}**", "", *lines, *note]) + "\n"


def csv_text(table: Table) -> str:
    """The columns' names and the rows as CSV."""
    target = io.StringIO()
    rows = [map(_no_formula, cells) for cells in (table.columns, *table.rows)]
    csv.writer(target, lineterminator="\n").writerows(rows)
    return target.getvalue()


def _no_formula(text: str) -> str:
    """A cell that a spreadsheet takes for text, or for the number that it is."""
    is_number = re.fullmatch(r"[+-][\d.,\s\[\]%eE+-]*", text)
    is_formula = text.startswith(("=", "+", "-", "@", "\t", "\r")) and not is_number
    return f"'{text}" if is_formula else text


def latex(table: Table) -> str:
    """The table as a LaTeX `table` that needs no package."""
    head, *rows = (_latex_line(cells) for cells in (table.columns, *table.rows))
    lines = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{_escaped(table.title)}}}",
        f"\\begin{{tabular}}{{{'l' * len(table.columns)}}}",
        head,
        r"\hline",
        *rows,
        r"\end{tabular}",
        *(["", _escaped(table.note)] if table.note else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(text.splitlines()))


def _latex_line(cells: Sequence[str]) -> str:
    line = f"{' & '.join(map(_escaped, cells))} \\\\"
    # The line break before this row would take a leading bracket or star as its own argument.
    return f"{{}}{line}" if line.startswith(("[", "*")) else line


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.splitlines()))
