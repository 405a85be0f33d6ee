"""All cells asked for, then one report over everything that lies in the folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chiaroscuro.catalog import versions
from chiaroscuro.choices import check_names
from chiaroscuro.data import load_images
from chiaroscuro.errors import ChiaroscuroError, InputError
from chiaroscuro.paper.cells import CELLS, Cell
from chiaroscuro.paper.claims import Sharpness, answer_claims, as_plain
from chiaroscuro.paper.figures import choose_examples, draw_cell_curves, draw_examples
from chiaroscuro.paper.sharpness import measure_sharpness
from chiaroscuro.paper.tables import accuracy_table, area_table, cell_notes, matched_table
from chiaroscuro.paper.work import (
    TEST_SPLIT,
    CellResult,
    Extent,
    OnImages,
    read_cell,
    work_cell,
)
from chiaroscuro.report import Table, csv_text, latex, markdown
from chiaroscuro.report.paper import Answer, Figure, paper_page
from chiaroscuro.training.run import SILENT, Watcher

PAGE, TEXT = "index.html", "paper.md"
_SHARPNESS_IMAGES = 200
_QUICK = Extent(
    epochs=4, images=2000, test_limit=60, train_limit=30, method_limit=20, resamples=200, flips=999
)


@dataclass(frozen=True, slots=True)
class PaperSettings:
    """What of the paper is made anew.

    `cells`: names of `CELLS`, () for all. `quick`: few epochs on few images, to see it work; its
    numbers mean nothing. `epochs` and `test_limit`: None for the paper's own. `train_limit`:
    training images for their curves, None for all; the paper does not say how many.
    `data_root`: a folder that holds the data sets' folders, None for the hub.
    """

    cells: tuple[str, ...] = ()
    data_root: Path | None = None
    quick: bool = False
    epochs: int | None = None
    test_limit: int | None = None
    train_limit: int | None = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        chosen = check_names("cell", self.cells or tuple(CELLS), CELLS)
        object.__setattr__(self, "cells", chosen)  # frozen, and its values in one form

    @property
    def extent(self) -> Extent:
        """How far each cell goes."""
        if self.quick:
            return _QUICK
        return Extent(self.epochs, None, self.test_limit, self.train_limit)


@dataclass(frozen=True)
class PaperWatcher:
    """What is told while the paper is made anew."""

    training: Watcher = SILENT
    on_cell: Callable[[Cell], object] = lambda cell: None
    on_images: OnImages = lambda what, done, total, before: None
    on_missing: Callable[[Cell, str], object] = lambda cell, reason: None


_QUIET = PaperWatcher()


def reproduce(
    settings: PaperSettings, out: str | Path, watcher: PaperWatcher = _QUIET
) -> Mapping[str, str]:
    """Train and evaluate the cells, then write tables, figures and claims over all that is there.

    OUT/models holds trained networks and OUT/runs evaluations; both are kept, gone on with and
    reused. `paper.md`, `index.html`, `tables/` (CSV, LaTeX) and `figures/` are written anew from
    them. A cell that cannot be run (its weights or data cannot be had) is left out and said so;
    returns the reasons by cell name.

    Raises `InputError` when no cell could be run, `ChoiceError` for an unknown one.
    Source: arXiv:2309.12913, tables 1 to 3 and figures.
    """
    folder = Path(out)
    reasons: dict[str, str] = {}
    for name in settings.cells:
        watcher.on_cell(CELLS[name])
        try:
            work_cell(
                CELLS[name], folder, settings.extent, data_root=settings.data_root,
                seed=settings.seed, watcher=watcher.training, on_images=watcher.on_images,
            )  # fmt: skip
        except ChiaroscuroError as error:
            reasons[name] = str(error)
            watcher.on_missing(CELLS[name], str(error))
    results = [found for cell in CELLS.values() if (found := read_cell(cell, folder)) is not None]
    if not results:
        raise InputError(f"no cell could be run: {next(iter(reasons.values()))}")
    missing = {
        cell.title: reasons.get(cell.name, "not asked for")
        for cell in CELLS.values()
        if cell.name not in [result.cell.name for result in results]
    }
    _write_report(folder, settings, results, missing)
    return reasons


def _write_report(
    out: Path, settings: PaperSettings, results: Sequence[CellResult], missing: Mapping[str, str]
) -> None:
    tables = {
        "accuracy": accuracy_table(results, missing),
        "black": area_table(2, "black", results),
        "white": area_table(3, "white", results),
        "matched-black": matched_table("black", results),
        "matched-white": matched_table("white", results),
    }
    sharpness = {result.cell.name: _sharpness(result, out, settings) for result in results}
    answers = answer_claims(results, sharpness)
    for number, answer in enumerate(answers, 1):
        if answer.table is not None:
            tables[f"claim-{number}"] = answer.table
    (out / "tables").mkdir(exist_ok=True)
    for name, table in tables.items():
        (out / "tables" / f"{name}.csv").write_text(csv_text(table), encoding="utf-8")
        (out / "tables" / f"{name}.tex").write_text(latex(table), encoding="utf-8")
    figures = _draw(out, settings, results)
    shown = [table for name, table in tables.items() if not name.startswith("claim")]
    facts = _facts(settings, results)
    (out / TEXT).write_text(_text(shown, figures, answers, facts), encoding="utf-8")
    (out / PAGE).write_text(
        paper_page(shown, [_embedded(out, f) for f in figures], answers, facts), encoding="utf-8"
    )
    plain = {"versions": versions(), "claims": as_plain(answers), "sharpness": sharpness}
    (out / "claims.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def _sharpness(result: CellResult, out: Path, settings: PaperSettings) -> Sharpness:
    cell = result.cell
    count = result.summaries["test"]["data"]["images"]
    images = load_images(
        cell.data, TEST_SPLIT[cell.data], min(count, _SHARPNESS_IMAGES), settings.seed,
        settings.data_root,
    )  # fmt: skip
    return measure_sharpness(
        result.classifier, images, rgb_only=cell.training.rgb_only,
        resamples=settings.extent.resamples, seed=settings.seed,
    )  # fmt: skip


def _draw(out: Path, settings: PaperSettings, results: Sequence[CellResult]) -> list[Figure]:
    """Every cell's three figures; the pictures lie in OUT/figures."""
    place = out / "figures"
    place.mkdir(exist_ok=True)
    figures = []
    for result in results:
        name, title = result.cell.name, result.cell.title
        ids = choose_examples(result, out, settings.seed)
        draw_examples(result, ids, settings.data_root, place / f"examples-{name}.png")
        figures.append(
            Figure(
                f"figures/examples-{name}.png",
                f"{title}: one random correctly classified test image a class, drawn once for all "
                "networks of its data set, with the five maps in 'hot' colors.",
            )
        )
        for protocol in ("paper", "matched"):
            file = f"curves-{name}-{protocol}.png"
            draw_cell_curves(result, protocol, place / file)
            figures.append(
                Figure(
                    f"figures/{file}",
                    f"{title}: share of predictions kept, {protocol} protocol, test images above, "
                    "training images below.",
                )
            )
    return figures


def _embedded(out: Path, figure: Figure) -> Figure:
    return Figure.embedded(out / figure.source, figure.caption)


def _facts(settings: PaperSettings, results: Sequence[CellResult]) -> list[str]:
    """What readers must know before they compare."""
    found = [f"{cell.title}: {note}." for cell, note in cell_notes(results)]
    for result in results:
        rows = result.training
        split = {name: result.summaries[name]["data"]["images"] for name in ("test", "train")}
        found.append(
            f"{result.cell.title}: {rows['epochs']} epochs, seed {rows['seed']}, batch "
            f"{rows['batch']}, {rows['images']:,} training images; curves from {split['test']:,} "
            f"test and {split['train']:,} training images (seed {settings.seed})."
        )
    if settings.quick:
        found.insert(0, "A quick run: few epochs on few images. Its numbers mean nothing.")
    found.append(", ".join(f"{name} {version}" for name, version in versions().items()) + ".")
    return found


def _text(
    tables: Sequence[Table],
    figures: Sequence[Figure],
    answers: Sequence[Answer],
    facts: Sequence[str],
) -> str:
    parts = [
        "# The paper's tables and figures, made anew\n",
        *(f"- {fact}" for fact in facts),
        "",
    ]
    parts += [markdown(table) for table in tables]
    parts += ["## The six claims\n"]
    for answer in answers:
        parts += [f"### {answer.claim}\n", *(f"- {line}" for line in answer.found), ""]
        if answer.table is not None:
            parts.append(markdown(answer.table))
    parts += ["## Figures\n"]
    parts += [f"![{figure.caption}]({figure.source})\n\n{figure.caption}\n" for figure in figures]
    return "\n".join(parts)
