"""The report of the paper's tables, claims and figures: as a page, Markdown, CSV and LaTeX."""

import base64
from pathlib import Path

from chiaroscuro.report.pages import write_page
from chiaroscuro.report.tables import csv_text, latex, markdown
from chiaroscuro.results import PAGE
from chiaroscuro.results.measurements import Figure, Reproduction

TEXT = "paper.md"


def write(result: Reproduction, folder: Path) -> list[str]:
    """Write page, text and tables; the figures lie in the folder already. Returns their names."""
    (folder / "tables").mkdir(exist_ok=True)
    claims = {
        f"claim-{number}": answer.table
        for number, answer in enumerate(result.answers, 1)
        if answer.table is not None
    }
    texts = {TEXT: _document(result)}
    for name, table in {**result.tables, **claims}.items():
        texts |= {f"tables/{name}.csv": csv_text(table), f"tables/{name}.tex": latex(table)}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    figures = [(_embedded(folder, figure), figure.caption) for figure in result.figures]
    write_page(folder, "paper.html.j2", result=result, figures=figures)
    return [PAGE, *texts, *(figure.file for figure in result.figures)]


def _embedded(folder: Path, figure: Figure) -> str:
    text = base64.b64encode((folder / figure.file).read_bytes()).decode("ascii")
    return f"data:image/png;base64,{text}"


def _document(result: Reproduction) -> str:
    parts = ["# The paper's tables and figures, reproduced\n"]
    parts += [*(f"- {fact}" for fact in result.facts), ""]
    parts += [markdown(table) for table in result.tables.values()]
    parts += ["## The six claims\n"]
    for answer in result.answers:
        parts += [f"### {answer.claim}\n", *(f"- {line}" for line in answer.sentences), ""]
        if answer.table is not None:
            parts.append(markdown(answer.table))
    parts += ["## Figures\n"]
    parts += [f"![{one.caption}]({one.file})\n\n{one.caption}\n" for one in result.figures]
    return "\n".join(parts)
