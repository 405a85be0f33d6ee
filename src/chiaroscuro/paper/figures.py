"""The paper's figures: examples in 'hot' colors, and curves for test and training images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chiaroscuro.choices import PAPER_MAPS
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageRow, load_images, read_row
from chiaroscuro.gradients import class_gradients
from chiaroscuro.images import to_uint8
from chiaroscuro.maps import saliency_maps
from chiaroscuro.paper.cells import COLUMNS
from chiaroscuro.paper.tables import find_curve
from chiaroscuro.paper.work import SPLITS, TEST_SPLIT, CellResult, run_store
from chiaroscuro.render import Curve, CurvePanel, CurveSpec, draw_curves
from chiaroscuro.render.rows import GridSpec, draw_grid, hot
from chiaroscuro.runs.accuracy import match_classes

_SPLIT = {"test": "test", "train": "training"}


def draw_cell_curves(result: CellResult, protocol: str, path: Path) -> None:
    """Black- and white-deletion, test and training images: allegiance against percent deleted."""
    panels = []
    for split in SPLITS:
        summary = result.summaries[split]
        for fill, maps in COLUMNS.items():
            names = (*maps, "random") if protocol == "matched" else maps
            curves = [_curve(summary, protocol, name, fill) for name in names]
            count = summary["data"]["images"]
            panels.append(
                CurvePanel(f"{fill}-deletion, {_SPLIT[split]} ({count:,} images)", curves)
            )
    sheet = CurveSpec(
        title=result.cell.title,
        subtitle=f"{protocol} protocol; bands: 95 % bootstrap intervals over images",
        panels=panels,
        x_label="pixels deleted (%)",
        y_label="allegiance",
    )
    draw_curves(sheet, path)


def _curve(summary: Mapping[str, Any], protocol: str, name: str, fill: str) -> Curve:
    found = find_curve(summary, protocol, name, fill)["allegiance"]
    return Curve(
        name, summary["choices"]["fractions"], *(found[end] for end in ("mean", "low", "high"))
    )


def choose_examples(result: CellResult, out: Path, seed: int) -> list[str]:
    """Ids of one random correctly classified test image a class, drawn once a data set and kept."""
    file = out / f"examples-{result.cell.data}.json"
    if file.is_file():
        found: list[str] = json.loads(file.read_text())
        return found
    right: dict[int, list[str]] = {}
    labels = _labels(result)
    for part in run_store(result, "test").parts():
        table = part.read().select(["id", "label", "predicted"]).to_pylist()
        for row in {row["id"]: row for row in table}.values():
            if row["label"] is not None and labels[row["label"]] == row["predicted"]:
                right.setdefault(row["label"], []).append(row["id"])
    drawn = np.random.default_rng(seed)
    chosen = [str(drawn.choice(right[label])) for label in sorted(right)]
    file.write_text(json.dumps(chosen, indent=2) + "\n")
    return chosen


def _labels(result: CellResult) -> NDArray[np.int64]:
    """The model's class for each class of the data."""
    config = run_store(result, "test").read_json("config.json")
    found = match_classes(result.classifier, config["data"]["labels"]).target
    assert found is not None, "a network trained on these classes has their names"
    return found


def draw_examples(
    result: CellResult, ids: Sequence[str], data_root: Path | None, path: Path
) -> None:
    """Image and five maps side by side, one row an image, each map scaled by its extremes."""
    images = load_images(result.cell.data, TEST_SPLIT[result.cell.data], root=data_root)
    found: dict[str, ImageRow] = {}
    for row in images:
        if row.id in ids:
            found[row.id] = row
        if len(found) == len(ids):
            break
    rows = [_example(result.classifier, found[id_]) for id_ in ids if id_ in found]
    footer = "one random correctly classified test image a class; each map scaled by its extremes"
    draw_grid(GridSpec(result.cell.title, ["image", *PAPER_MAPS], rows, footer), path)


def _example(classifier: Classifier, row: ImageRow) -> tuple[str, list[NDArray[np.uint8]]]:
    _, pixels, _ = read_row(row, classifier.framing, classifier.channels)
    gradients = class_gradients(classifier, torch.from_numpy(pixels)[None])
    maps = saliency_maps(gradients, PAPER_MAPS)
    pictures = [to_uint8(pixels), *(hot(maps[name][0].cpu().numpy()) for name in PAPER_MAPS)]
    return classifier.label(int(gradients.target[0])).split(",")[0], pictures
