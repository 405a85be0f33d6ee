"""Tables of written cells: what is written is what a reader of the format gets back."""

import csv
import io
import re

import pytest

from chiaroscuro.report.paper import csv_text, latex, markdown
from chiaroscuro.results.measurements import Table

NASTY = ["a|b", 'say "x", y', "50 % & more_of #1", "$5 ~ {x}^2", "C:\\dir", "<b>*bold*</b> `c`", ""]
NUMBERS = ["0.123 [0.110, 0.136]", "-0.5", "+1", "90 %", "—"]


def table(*rows, columns=("name", "value"), **words):
    return Table(**({"title": "Areas", "columns": columns, "rows": rows} | words))


def read_markdown(text):
    """Cells of the rows of a Markdown table, with their escapes undone."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)(?:\\\\)*\|", row)[1:-1] for row in rows]
    return [[re.sub(r"\\([^A-Za-z0-9\s])", r"\1", cell.strip()) for cell in row] for row in cells]


def test_markdown_is_a_table_with_title_and_note():
    found = markdown(table(["original", "0.3"], ["active", "0.1"], note="lower is better"))
    assert found == (
        "**Areas**\n\n| name | value |\n|---|---|\n| original | 0.3 |\n| active | 0.1 |\n\n"
        "lower is better\n"
    )


@pytest.mark.parametrize("cell", NASTY)
def test_markdown_keeps_a_cell_one_cell(cell):
    found = read_markdown(markdown(table([cell, "1"], columns=[cell, "v"])))
    assert found[0] == [cell, "v"]
    assert found[2:] == [[cell, "1"]]


def test_markdown_shows_no_markup_that_a_name_brings():
    found = markdown(table(["<b>x</b> &amp; [a](http://b) ~~c~~ `d` *e*", "1"], title="*t*"))
    assert "<b>" not in re.sub(r"\\<", "", found)
    for mark in (r"\<b\>", r"\&amp;", r"]\(http", r"\~\~c\~\~", r"\`d\`", r"\*e\*", r"**\*t\***"):
        assert mark in found


def test_lines_in_a_cell_become_one():
    broken = table(["two\nlines", "a\r\nb"], title="over\nlines", note="n\no")
    assert "| two lines | a b |" in markdown(broken)
    assert "two lines & a b" in latex(broken)
    assert "over lines" in markdown(broken) and "over lines" in latex(broken)


def test_csv_is_read_back_as_it_was():
    rows = [[cell, "two\nlines"] for cell in NASTY]
    found = csv_text(table(*rows, note="not in the file"))
    assert list(csv.reader(io.StringIO(found, newline=""))) == [["name", "value"], *rows]
    assert "\r" not in found
    assert "not in the file" not in found


def test_latex_escapes_every_special_letter():
    found = latex(table([r"\&%$#_{}~^<>|", "1"]))
    row = next(line for line in found.splitlines() if line.endswith(r" & 1 \\"))
    assert row == (
        r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}"
        r"\textless{}\textgreater{}\textbar{} & 1 \\"
    )


def test_latex_is_balanced_and_needs_no_package():
    found = latex(table(NUMBERS[:2], columns=["a_b", "50 %"], title="T & 1", note="n % m"))
    assert found.startswith("\\begin{table}\n") and found.endswith("\\end{table}\n")
    assert found.count(r"\begin{") == found.count(r"\end{") == 2
    assert r"\caption{T \& 1}" in found
    assert r"\begin{tabular}{ll}" in found
    assert "a\\_b & 50 \\% \\\\\n\\hline" in found
    assert r"n \% m" in found
    assert not re.search(r"\\(toprule|midrule|usepackage)", found)


@pytest.mark.parametrize("first", ["[0.1, 0.2]", "*"])
def test_a_row_of_latex_cannot_be_taken_for_the_line_breaks_argument(first):
    found = latex(table(["a", "1"], [first, "2"]))
    assert f"{{}}{first} & 2" in found


@pytest.mark.parametrize("write", [markdown, csv_text, latex])
def test_numbers_stay_as_they_are_written(write):
    text = write(table(NUMBERS, columns=["a"] * 5)).replace("\\", "")
    for number in NUMBERS:
        assert number in text


@pytest.mark.parametrize("write", [markdown, csv_text, latex])
def test_a_table_without_rows_has_its_head(write):
    assert "name" in write(table())
