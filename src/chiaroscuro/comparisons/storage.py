"""A comparison as a folder: figure.png, index.html, differences.npz, and every explanation."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from chiaroscuro.comparisons.comparison import Comparison
from chiaroscuro.comparisons.sheet import make_sheet
from chiaroscuro.render.sides import draw_sides
from chiaroscuro.report import comparison_page
from chiaroscuro.staging import staged_folder

SCHEMA = "chiaroscuro-comparison/1"
MARKER = "comparison.json"
"""The file that marks a folder as a saved comparison; written last."""


def save(comparison: Comparison, folder: Path, *, overwrite: bool) -> Path:
    """Write everything, or nothing."""
    sheet = make_sheet(comparison)
    about = describe(comparison)
    pictures = [beside.picture for beside in comparison.beside]
    with staged_folder(folder, MARKER, overwrite=overwrite) as stage:
        for place, explanation in enumerate(comparison.explanations, 1):
            explanation.save(stage / str(place))
        arrays: dict[str, Any] = {
            f"{pair.other + 1}_{name}": found.difference
            for pair in comparison.pairs
            for name, found in pair.maps.items()
        }
        np.savez_compressed(stage / "differences.npz", **arrays)
        draw_sides(sheet, stage / "figure.png")
        page = comparison_page(sheet, about, pictures)
        (stage / "index.html").write_text(page, encoding="utf-8")
        (stage / MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return folder


def describe(comparison: Comparison) -> dict[str, Any]:
    """What comparison.json holds: names, predictions, likenesses, and what stands beside."""
    first = comparison.explanations[0]
    return {
        "schema": SCHEMA,
        "image": first.image.source,
        "sha256": first.image.sha256,
        "choices": dict(first.choices),
        "models": [
            {
                "name": name,
                "spec": made.model["name"],
                "folder": str(place),
                "target": made.target.label,
                "probability": made.target.probability,
                "predictions": [[p.label, p.probability] for p in made.predictions],
            }
            for place, (name, made) in enumerate(
                zip(comparison.names, comparison.explanations, strict=True), 1
            )
        ],
        "pairs": [
            {
                "first": comparison.names[0],
                "other": comparison.names[pair.other],
                "note": pair.note,
                "maps": {
                    name: {"correlation": found.correlation, "overlap": found.overlap}
                    for name, found in pair.maps.items()
                },
            }
            for pair in comparison.pairs
        ],
        "beside": [{"title": one.title, "lines": list(one.lines)} for one in comparison.beside],
        "versions": dict(first.versions),
    }
