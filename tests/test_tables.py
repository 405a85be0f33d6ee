"""Tables as Markdown, CSV and LaTeX, with awkward cells."""

import csv
import io

from chiaroscuro.report.paper import csv_text, latex, markdown
from chiaroscuro.results.measurements import Table

AWKWARD = ['a|b "c", d', "50 % & $x_1$ #2 {y} ~z ^w \\", "plain"]
TABLE = Table("Areas_1 & more", ["name", "value [95 %]", "x"], [AWKWARD, ["b", "1", "2"]], "a note")


def test_markdown_keeps_its_columns():
    lines = markdown(TABLE).splitlines()
    assert lines[0] == "**Areas_1 & more**"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4
    unescaped = [line.replace("\\\\", "").replace("\\|", "").count("|") for line in table]
    assert unescaped == [4, 4, 4, 4]
    assert lines[-1] == "a note"


def test_csv_reads_back_as_written():
    assert list(csv.reader(io.StringIO(csv_text(TABLE)))) == [
        list(TABLE.columns),
        *map(list, TABLE.rows),
    ]


def test_latex_escapes_what_it_must():
    text = latex(TABLE)
    assert r"\caption{Areas\_1 \& more}" in text
    assert (
        r"50 \% \& \$x\_1\$ \#2 \{y\} \textasciitilde{}z \textasciicircum{}w \textbackslash{}"
        in text
    )
    assert text.count(r"\\") == 3
    assert text.count("&") - text.count(r"\&") == 6
    assert text.startswith("\\begin{table}") and text.endswith("\\end{table}\n")
