"""A run's figures and its page, from the summary and the kept examples alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chiaroscuro.render import CurveSheet, draw_curves, svg_text
from chiaroscuro.report import evaluation_charts, evaluation_page, promise_charts
from chiaroscuro.runs.examples import load_examples

PAGE = "index.html"


def write_page(folder: Path, summary: Mapping[str, Any]) -> None:
    """Draw every chart as PNG and SVG, and lay out `index.html`, which needs no other file."""
    charts = _draw(folder, evaluation_charts(summary))
    promises = _draw(folder, promise_charts(summary))
    page = evaluation_page(summary, charts, load_examples(folder), promises)
    (folder / PAGE).write_text(page, encoding="utf-8")


def _draw(folder: Path, charts: Sequence[tuple[str, str, CurveSheet]]) -> list[tuple[str, str]]:
    """Each chart's caption with its SVG text, which is written beside its PNG."""
    drawn = []
    for name, caption, sheet in charts:
        vectors = svg_text(sheet)
        draw_curves(sheet, folder / f"curves-{name}.png")
        (folder / f"curves-{name}.svg").write_text(vectors, encoding="utf-8")
        drawn.append((caption, vectors))
    return drawn
