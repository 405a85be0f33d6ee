"""The report of the paper's tables, claims and figures: as a page, Markdown, CSV and LaTeX."""

import base64
import json
from pathlib import Path

from chiaroscuro.report.pages import write_page
from chiaroscuro.report.tables import csv_text, latex, markdown
from chiaroscuro.results import Figure, Reproduction
from chiaroscuro.results.codec import to_plain

TEXT, CLAIMS = "paper.md", "claims.json"


def write_report(result: Reproduction, folder: Path) -> None:
    """Write page, text, claims and tables; the figures lie in the folder already."""
    (folder / "tables").mkdir(exist_ok=True)
    claims = {
        f"claim-{number}": answer.table
        for number, answer in enumerate(result.answers, 1)
        if answer.table is not None
    }
    for name, table in {**result.tables, **claims}.items():
        (folder / "tables" / f"{name}.csv").write_text(csv_text(table), encoding="utf-8")
        (folder / "tables" / f"{name}.tex").write_text(latex(table), encoding="utf-8")
    (folder / TEXT).write_text(_text(result), encoding="utf-8")
    plain = json.dumps(to_plain(result)[0], indent=2, ensure_ascii=False)
    (folder / CLAIMS).write_text(f"{plain}\n", encoding="utf-8")
    figures = [(_embedded(folder, figure), figure.caption) for figure in result.figures]
    write_page(folder, "paper.html.j2", result=result, figures=figures)


def _embedded(folder: Path, figure: Figure) -> str:
    text = base64.b64encode((folder / figure.file).read_bytes()).decode("ascii")
    return f"data:image/png;base64,{text}"


def _text(result: Reproduction) -> str:
    parts = ["# The paper's tables and figures, reproduced\n"]
    parts += [*(f"- {fact}" for fact in result.facts), ""]
    parts += [markdown(table) for table in result.tables.values()]
    parts += ["## The six claims\n"]
    for answer in result.answers:
        parts += [f"### {answer.claim}\n", *(f"- {line}" for line in answer.found), ""]
        if answer.table is not None:
            parts.append(markdown(answer.table))
    parts += ["## Figures\n"]
    parts += [f"![{one.caption}]({one.file})\n\n{one.caption}\n" for one in result.figures]
    return "\n".join(parts)
