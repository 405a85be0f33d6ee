"""The chosen experiments, then one report over everything that lies in the folder."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pyarrow import parquet

from chiaroscuro.catalog import versions
from chiaroscuro.choices import PAPER_MAPS, RANDOM
from chiaroscuro.data.images import read_row
from chiaroscuro.data.loading import load_images
from chiaroscuro.errors import ChiaroscuroError, InputError
from chiaroscuro.gradients import class_gradients
from chiaroscuro.images import to_uint8
from chiaroscuro.maps import saliency_maps
from chiaroscuro.render.sheets import Chart, Curve, Picture, Row, Sheet, hot, save_sheet
from chiaroscuro.reproduction import experiments
from chiaroscuro.reproduction.experiments import ReproductionSettings, ReproductionWatcher
from chiaroscuro.reproduction.tables import answer_claims, make_tables
from chiaroscuro.results.measurements import Figure, Reproduction
from chiaroscuro.results.store import write

_QUIET = ReproductionWatcher()


def reproduce(
    settings: ReproductionSettings,
    out: str | Path,
    *,
    workers: int = 1,
    device: str = "cpu",
    watcher: ReproductionWatcher = _QUIET,
) -> Reproduction:
    """Train and evaluate the experiments, then write tables, figures and claims over all of them.

    OUT/models holds trained networks and OUT/runs evaluations; both are kept, resumed and reused.
    `paper.md`, `index.html`, `tables/` (CSV, LaTeX) and `figures/` are written from them. An
    experiment that cannot be run (its weights or data cannot be had) is left out, with its reason.

    Raises `InputError` when no experiment could be run, `ChoiceError` for an unknown one.
    Source: arXiv:2309.12913, tables 1 to 3 and figures.
    """
    folder = Path(out)
    reasons: dict[str, str] = {}
    for name in settings.experiments:
        experiment = experiments.EXPERIMENTS[name]
        watcher.on_experiment(experiment)
        try:
            experiments.work(experiment, folder, settings, watcher, workers=workers, device=device)
        except ChiaroscuroError as error:
            reasons[name] = str(error)
            watcher.on_missing(experiment, str(error))
    known = experiments.EXPERIMENTS
    finished = {name: experiments.read(one, folder) for name, one in known.items()}
    results = [result for result in finished.values() if result is not None]
    if not results:
        raise InputError(f"no experiment could be run: {next(iter(reasons.values()))}")
    missing = {
        known[name].title: reasons.get(name, "not chosen")
        for name, result in finished.items()
        if result is None
    }
    reproduction = Reproduction(
        facts=tuple(_facts(settings, results)),
        tables=make_tables(results, missing),
        answers=answer_claims(results),
        figures=tuple(figure for result in results for figure in _draw(folder, settings, result)),
        missing=missing,
        versions=versions(),
    )
    write(reproduction, folder)
    return reproduction


def _facts(
    settings: ReproductionSettings, results: list[experiments.ExperimentResult]
) -> Iterator[str]:
    """What readers must know before they compare."""
    if settings.quick:
        yield "A quick run: few epochs on few images. Its numbers mean nothing."
    for result in results:
        if result.experiment.note:
            yield f"{result.experiment.title}: {result.experiment.note}."
        record, chosen = result.training, result.training.settings
        test, train = (f"{result.runs[split].data.images:,}" for split in ("test", "train"))
        yield (
            f"{result.experiment.title}: {chosen.epochs} epochs, seed {chosen.seed}, batch "
            f"{chosen.batch}, {record.images:,} training images; curves from {test} test and "
            f"{train} training images (seed {settings.seed})."
        )
    yield ", ".join(f"{name} {version}" for name, version in versions().items()) + "."


def _draw(
    out: Path, settings: ReproductionSettings, result: experiments.ExperimentResult
) -> Iterator[Figure]:
    """An experiment's three figures; the pictures lie in OUT/figures."""
    (out / "figures").mkdir(exist_ok=True)
    name, title = result.experiment.name, result.experiment.title
    file = f"figures/examples-{name}.png"
    _draw_examples(result, out, settings, out / file)
    yield Figure(
        file,
        f"{title}: one random correctly classified test image per class, drawn once for all "
        "networks of its data set, with the five maps in 'hot' colors.",
    )
    for protocol in ("paper", "matched"):
        file = f"figures/curves-{name}-{protocol}.png"
        _draw_curves(result, protocol, out / file)
        yield Figure(
            file,
            f"{title}: share of predictions kept, {protocol} protocol, test images above, "
            "training images below.",
        )


def _draw_curves(result: experiments.ExperimentResult, protocol: str, path: Path) -> None:
    """Black- and white-deletion, test and training images: allegiance against percent deleted."""
    rows = []
    for split, words in (("test", "test"), ("train", "training")):
        run, charts = result.runs[split], []
        for fill, maps in experiments.COLUMNS.items():
            names = (*maps, RANDOM) if protocol == "matched" else maps
            kept = {name: run.curve(protocol, name, fill).allegiance for name in names}
            curves = [
                Curve(name, run.settings.fractions, line.mean, line.low, line.high)
                for name, line in kept.items()
            ]
            title = f"{fill}-deletion, {words} ({run.data.images:,} images)"
            charts.append(Chart(title, curves, "pixels deleted (%)", "allegiance"))
        rows.append(Row(charts, 3.4))
    words = f"{protocol} protocol; bands: 95 % bootstrap intervals over images"
    save_sheet(Sheet(rows, result.experiment.title, words, width=12), path)


def _choose_examples(result: experiments.ExperimentResult, out: Path, seed: int) -> list[str]:
    """Ids of one random correctly classified test image per class, drawn once for a data set."""
    file = out / f"examples-{result.experiment.training.data}.json"
    if file.is_file():
        kept: list[str] = json.loads(file.read_text(encoding="utf-8"))
        return kept
    table = parquet.read_table(
        experiments.run_folder(result.experiment, out, "test") / "deletion",
        columns=["id", "label", "predicted"],
    )
    right: dict[int, dict[str, None]] = {}
    for row in table.to_pylist():
        if row["label"] == row["predicted"]:  # the network was trained on the same classes
            right.setdefault(row["label"], {})[row["id"]] = None
    drawn = np.random.default_rng(seed)
    chosen = [str(drawn.choice([*right[label]])) for label in sorted(right)]
    file.write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    return chosen


def _draw_examples(
    result: experiments.ExperimentResult, out: Path, settings: ReproductionSettings, path: Path
) -> None:
    """Image and five maps, one row per image, each map scaled by its extremes."""
    data, classifier = result.experiment.training.data, result.classifier
    ids = _choose_examples(result, out, settings.seed)
    images = load_images(data, experiments.TEST_SPLIT[data], root=settings.data_root)
    rows = {}
    for row in (row for row in images if row.id in ids):
        _, pixels, _ = read_row(row, classifier.framing, classifier.channels)
        gradients = class_gradients(classifier, torch.from_numpy(pixels)[None])
        maps = saliency_maps(gradients, PAPER_MAPS)
        cells = [Picture(hot(maps[name][0].cpu().numpy()), name) for name in PAPER_MAPS]
        label = classifier.label(int(gradients.target[0])).split(",")[0]
        rows[row.id] = Row([label, Picture(to_uint8(pixels), "image"), *cells], 1.75)
        if len(rows) == len(ids):
            break
    footer = "one random correctly classified test image per class; each map scaled by its extremes"
    shown = [rows[id_] for id_ in ids if id_ in rows]
    save_sheet(Sheet(shown, result.experiment.title, footer=footer, width=9.5), path)
