"""A run's figures and its page, from the summary and the kept examples alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chiaroscuro.render import draw_curves, svg_text
from chiaroscuro.report import evaluation_charts, evaluation_page
from chiaroscuro.runs.examples import load_examples

PAGE = "index.html"


def write_page(folder: Path, summary: Mapping[str, Any]) -> None:
    """Draw every chart as PNG and SVG, and lay out `index.html`, which needs no other file."""
    charts = []
    for name, caption, sheet in evaluation_charts(summary):
        vectors = svg_text(sheet)
        draw_curves(sheet, folder / f"curves-{name}.png")
        (folder / f"curves-{name}.svg").write_text(vectors, encoding="utf-8")
        charts.append((caption, vectors))
    page = evaluation_page(summary, charts, load_examples(folder))
    (folder / PAGE).write_text(page, encoding="utf-8")
