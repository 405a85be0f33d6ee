"""The paper's figures: examples in 'hot' colors, and curves for test and training images."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chiaroscuro.choices import PAPER_MAPS, RANDOM
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageRow, load_images, read_row
from chiaroscuro.evaluation.classes import match_classes
from chiaroscuro.gradients import class_gradients
from chiaroscuro.images import to_uint8
from chiaroscuro.maps import saliency_maps
from chiaroscuro.render import Curve, CurvePanel, CurveSpec, draw_curves
from chiaroscuro.render.rows import GridSpec, draw_grid, hot
from chiaroscuro.reproduction.experiments import COLUMNS
from chiaroscuro.reproduction.work import SPLITS, TEST_SPLIT, ExperimentResult
from chiaroscuro.results import KINDS
from chiaroscuro.results.measurements import Evaluation
from chiaroscuro.results.runs import RunConfig, RunFolder, read_config

_SPLIT = {"test": "test", "train": "training"}


def draw_experiment_curves(result: ExperimentResult, protocol: str, path: Path) -> None:
    """Black- and white-deletion, test and training images: allegiance against percent deleted."""
    panels = []
    for split in SPLITS:
        evaluation = result.evaluations[split]
        for fill, maps in COLUMNS.items():
            names = (*maps, RANDOM) if protocol == "matched" else maps
            curves = [_curve(evaluation, protocol, name, fill) for name in names]
            count = f"{evaluation.data.images:,}"
            panels.append(CurvePanel(f"{fill}-deletion, {_SPLIT[split]} ({count} images)", curves))
    sheet = CurveSpec(
        title=result.experiment.title,
        subtitle=f"{protocol} protocol; bands: 95 % bootstrap intervals over images",
        panels=panels,
        x_label="pixels deleted (%)",
        y_label="allegiance",
    )
    draw_curves(sheet, path)


def _curve(evaluation: Evaluation, protocol: str, name: str, fill: str) -> Curve:
    kept = evaluation.curve(protocol, name, fill).allegiance
    return Curve(name, evaluation.settings.fractions, kept.mean, kept.low, kept.high)


def choose_examples(result: ExperimentResult, out: Path, seed: int) -> list[str]:
    """Ids of one random correctly classified test image per class, drawn once for a data set."""
    file = out / f"examples-{result.experiment.data}.json"
    if file.is_file():
        kept: list[str] = json.loads(file.read_text(encoding="utf-8"))
        return kept
    kind = KINDS["evaluation"]
    run = RunFolder(result.test_run, kind)
    names = read_config(result.test_run, kind, RunConfig).labels
    labels = match_classes(result.classifier, names).target
    assert labels is not None, "a network trained on these classes has their names"
    right: dict[int, list[str]] = {}
    for part in run.read_parts(sorted(run.finished_parts())):
        table = part.tables["deletion"].select(["id", "label", "predicted"]).to_pylist()
        for row in {row["id"]: row for row in table}.values():
            if row["label"] is not None and labels[row["label"]] == row["predicted"]:
                right.setdefault(row["label"], []).append(row["id"])
    drawn = np.random.default_rng(seed)
    chosen = [str(drawn.choice(right[label])) for label in sorted(right)]
    file.write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    return chosen


def draw_examples(
    result: ExperimentResult, ids: Sequence[str], data_root: Path | None, path: Path
) -> None:
    """Image and five maps, one row per image, each map scaled by its extremes."""
    data = result.experiment.data
    rows: dict[str, ImageRow] = {}
    for row in load_images(data, TEST_SPLIT[data], root=data_root):
        if row.id in ids:
            rows[row.id] = row
        if len(rows) == len(ids):
            break
    pictures = [_example(result.classifier, rows[id_]) for id_ in ids if id_ in rows]
    footer = "one random correctly classified test image per class; each map scaled by its extremes"
    draw_grid(GridSpec(result.experiment.title, ["image", *PAPER_MAPS], pictures, footer), path)


def _example(classifier: Classifier, row: ImageRow) -> tuple[str, list[NDArray[np.uint8]]]:
    _, pixels, _ = read_row(row, classifier.framing, classifier.channels)
    gradients = class_gradients(classifier, torch.from_numpy(pixels)[None])
    maps = saliency_maps(gradients, PAPER_MAPS)
    pictures = [to_uint8(pixels), *(hot(maps[name][0].cpu().numpy()) for name in PAPER_MAPS)]
    return classifier.label(int(gradients.target[0])).split(",")[0], pictures
