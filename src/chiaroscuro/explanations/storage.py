"""An explanation as a folder: figure.png, maps.npz, explanation.json, index.html."""

import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from chiaroscuro.choices import EXPLANATION_FILE
from chiaroscuro.errors import MissingResultError, ResultError
from chiaroscuro.explanations.explanation import Explanation, ImageFacts, MapFacts, Prediction
from chiaroscuro.explanations.sheet import Limits, color_limits, make_sheet
from chiaroscuro.images import CropBox
from chiaroscuro.render import draw_figure
from chiaroscuro.report import explanation_page
from chiaroscuro.staging import check_free, staged_folder

SCHEMA = "chiaroscuro-explanation/1"
MARKER = EXPLANATION_FILE
_PIXELS, _PHOTO, _LOGITS, _MAP = "pixels", "photo", "logits", "map_"


def save(
    explanation: Explanation,
    folder: Path,
    *,
    overwrite: bool,
    limits: Limits | None,
) -> Path:
    """Write the four files: all of them, or nothing."""
    check_free(folder, MARKER, overwrite=overwrite)
    sheet = make_sheet(explanation, limits)
    about = describe(explanation)
    about["display"] = {
        "scale": "image" if limits is None else "shared",
        "limits": dict(color_limits(explanation) if limits is None else limits),
        "smoothing": sheet.smoothing,
    }
    with staged_folder(folder, MARKER, overwrite=overwrite) as stage:
        _write_arrays(explanation, stage / "maps.npz")
        draw_figure(sheet, stage / "figure.png")
        (stage / "index.html").write_text(explanation_page(sheet, about), encoding="utf-8")
        (stage / MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return folder


def describe(explanation: Explanation) -> dict[str, Any]:
    """Everything but the arrays, as plain JSON values."""
    return {
        "schema": SCHEMA,
        "image": asdict(explanation.image),
        "crop": asdict(explanation.crop),
        "target": asdict(explanation.target),
        "predictions": [asdict(prediction) for prediction in explanation.predictions],
        "rivals": list(explanation.rivals),
        "maps": {name: asdict(facts) for name, facts in explanation.facts.items()},
        "labels": {str(index): label for index, label in explanation.labels.items()},
        "choices": dict(explanation.choices),
        "model": dict(explanation.model),
        "versions": dict(explanation.versions),
    }


_UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""What broken JSON, a broken archive or another program's files raise."""


def load(folder: Path) -> Explanation:
    """The explanation that `save` wrote."""
    try:
        about = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        with (folder / "maps.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            stored = {name: arrays[name] for name in arrays.files}
        return _rebuild(about, stored)
    except FileNotFoundError as error:
        raise MissingResultError(f"{folder}: no explanation there (no {error.filename})") from None
    except _UNREADABLE as error:
        raise ResultError(f"{folder}: not a readable explanation ({error!r})") from error


def _write_arrays(explanation: Explanation, path: Path) -> None:
    arrays: dict[str, Any] = {
        _PIXELS: explanation.pixels,
        _PHOTO: explanation.photo,
        _LOGITS: explanation.logits,
        **{_MAP + name: values for name, values in explanation.maps.items()},
    }
    np.savez_compressed(path, **arrays)


def read_description(folder: Path) -> dict[str, Any] | None:
    """A folder's explanation.json as `describe` made it, or None when it is something else."""
    try:
        about = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and about.get("schema") == SCHEMA else None


def _rebuild(about: dict[str, Any], stored: dict[str, Any]) -> Explanation:
    if about.get("schema") != SCHEMA:
        raise ValueError(f"schema {about.get('schema')!r}, expected {SCHEMA!r}")
    image = about["image"]
    return Explanation(
        image=ImageFacts(**{**image, "notes": tuple(image["notes"])}),
        crop=CropBox(**about["crop"]),
        photo=stored[_PHOTO],
        pixels=stored[_PIXELS],
        logits=stored[_LOGITS],
        target=Prediction(**about["target"]),
        predictions=tuple(Prediction(**row) for row in about["predictions"]),
        rivals=tuple(about["rivals"]),
        maps={name: stored[_MAP + name] for name in about["maps"]},
        facts={name: MapFacts(**facts) for name, facts in about["maps"].items()},
        labels={int(index): label for index, label in about["labels"].items()},
        choices=about["choices"],
        model=about["model"],
        versions=about["versions"],
    )
