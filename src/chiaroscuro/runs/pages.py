"""A run's figures and its page, from the summary and the kept examples alone."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chiaroscuro.errors import ResultError
from chiaroscuro.render import CurveSpec, save_curves
from chiaroscuro.report import check_section, evaluation_charts, evaluation_page, promise_charts
from chiaroscuro.runs.examples import load_examples
from chiaroscuro.runs.store import RunStore

PAGE = "index.html"
CHECK = "check.json"
"""A sanity check's figures: in its own folder, and in that of a run whose page shows them."""
_CHECK_SCHEMA = "chiaroscuro-check/1"


def read_check(folder: Path, run: Path) -> dict[str, Any]:
    """The figures of a sanity check, with the way from a run's page to the check's.

    Raises `ResultError` for a folder without one.
    """
    found = RunStore(folder).read_json(CHECK)
    if found.get("schema") != _CHECK_SCHEMA:
        raise ResultError(f"{folder / CHECK}: expected the {CHECK} that `chiaroscuro check` writes")
    return {**found, "link": Path(os.path.relpath(folder / PAGE, run)).as_posix()}


def write_page(folder: Path, summary: Mapping[str, Any]) -> None:
    """Draw every chart as PNG and SVG, and lay out `index.html`, which needs no other file."""
    charts = _draw(folder, evaluation_charts(summary))
    promises = _draw(folder, promise_charts(summary))
    page = evaluation_page(summary, charts, load_examples(folder), promises, _sanity(folder))
    (folder / PAGE).write_text(page, encoding="utf-8")


def _sanity(folder: Path) -> str:
    """The verdicts of the check that the run was given, or nothing."""
    if not (folder / CHECK).is_file():
        return ""
    found = json.loads((folder / CHECK).read_text(encoding="utf-8"))
    return check_section(found, found["link"])


def _draw(folder: Path, charts: Sequence[tuple[str, str, CurveSpec]]) -> list[tuple[str, str]]:
    """Each chart's caption with its SVG text, which is written beside its PNG."""
    return [
        (caption, save_curves(sheet, folder, f"curves-{name}")) for name, caption, sheet in charts
    ]
