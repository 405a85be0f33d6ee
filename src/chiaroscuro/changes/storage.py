"""A what-if as a folder: figure.png, what-if.json, index.html."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chiaroscuro.changes.outcome import WhatIf
from chiaroscuro.changes.sheet import make_sheet
from chiaroscuro.choices import WHAT_IF_FILE
from chiaroscuro.render import draw_change
from chiaroscuro.report import what_if_page
from chiaroscuro.staging import check_free, staged_folder

SCHEMA = "chiaroscuro-what-if/1"


def save(found: WhatIf, folder: Path, *, overwrite: bool) -> Path:
    """Write the three files: all of them, or nothing."""
    check_free(folder, WHAT_IF_FILE, overwrite=overwrite)
    sheet, about = make_sheet(found), describe(found)
    with staged_folder(folder, WHAT_IF_FILE, overwrite=overwrite) as stage:
        draw_change(sheet, stage / "figure.png")
        (stage / "index.html").write_text(what_if_page(sheet, about), encoding="utf-8")
        (stage / WHAT_IF_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return folder


def describe(found: WhatIf) -> dict[str, Any]:
    """Everything but the pictures, as plain JSON values; logits and changes of all K classes."""
    return {
        "schema": SCHEMA,
        "image": asdict(found.image),
        "crop": asdict(found.crop),
        "target": asdict(found.target),
        "foretold": found.promise,
        "real": found.outcome,
        "as_foretold": found.as_foretold,
        "holds": found.holds,
        "flipped": found.flipped,
        "flip_foretold": found.flip_foretold,
        "before": [asdict(prediction) for prediction in found.before],
        "expected": asdict(found.expected),
        "after": [asdict(prediction) for prediction in found.after],
        "pixels": {
            "all": int(found.changed.size),
            "taken": found.taken,
            "changed": int(found.changed.sum()),
        },
        "way": {"steps": list(found.steps), "real": list(found.way)},
        "logits": {
            "before": found.logits.tolist(),
            "foretold": found.predicted.tolist(),
            "real": found.real.tolist(),
        },
        "choices": dict(found.choices),
        "model": dict(found.model),
        "versions": dict(found.versions),
    }
