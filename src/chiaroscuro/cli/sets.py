"""What the commands over an image set compute and print."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from chiaroscuro.choices import (
    CheckSettings,
    EvaluationSettings,
    LocalizationSettings,
    TrainingSettings,
)
from chiaroscuro.cli.terminal import Bars, print_page, print_result, progress_bars, say
from chiaroscuro.data import locate

if TYPE_CHECKING:
    from chiaroscuro.cli.commands import (
        CheckOptions,
        EvaluateOptions,
        LocalizeOptions,
        ReproduceOptions,
        TrainOptions,
    )
    from chiaroscuro.training.log import EpochRow
    from chiaroscuro.training.run import Watcher

Summary = Mapping[str, Any]


def _run_set(
    measure: Callable[..., Summary],
    settings: Any,
    run: "EvaluateOptions | CheckOptions | LocalizeOptions",
    lines: Callable[[Summary], Iterable[str]],
    **options: Any,
) -> None:
    """Measure a set of images into a folder, show progress, print the summary."""
    from chiaroscuro.cli.preparation import load, prepare

    prepare(settings.threads, quiet=run.quiet)
    with progress_bars(quiet=run.quiet) as bars:
        summary = measure(
            load(run.model, run.device),
            settings,
            run.out,
            overwrite=run.force,
            data_root=run.data_root,
            on_images=lambda *counts: bars.show("images", *counts),
            **options,
        )
    print_result(summary, lines(summary), run.out, as_json=run.as_json, quiet=run.quiet)


def evaluate(settings: EvaluationSettings, run: "EvaluateOptions") -> None:
    """Evaluate, show progress, print the areas and the page's path."""
    locate(settings.data, run.data_root)
    from chiaroscuro.runs import evaluate as measure

    _run_set(measure, settings, run, _evaluation_lines, resume=run.resume, check=run.check)


def _evaluation_lines(summary: Summary) -> Iterator[str]:
    """What a terminal shows: images, accuracy, the area of every map, and the what-ifs."""
    from chiaroscuro.report.promises import promise_sentences

    data, accuracy = summary["data"], summary["accuracy"]
    right = (
        f"accuracy {accuracy['value']:.4f} [{accuracy['low']:.4f}, {accuracy['high']:.4f}]"
        if accuracy
        else f"no accuracy: {summary['accuracy_note']}"
    )
    left_out = f", {data['broken_count']} left out" if data["broken_count"] else ""
    yield f"{data['images']} images of {data['source']} {data['split']}{left_out}; {right}"
    for protocol in summary["choices"]["protocols"]:
        for fill in summary["choices"]["fills"]:
            found = ", ".join(
                f"{row['map']} {row['area']['value']:.3f}"
                for row in summary["curves"]
                if (row["protocol"], row["fill"]) == (protocol, fill)
                and not row["map"].startswith("inverted:")
            )
            yield f"area, {protocol}, {fill}: {found}"
    yield from promise_sentences(summary)


def check(settings: CheckSettings, run: "CheckOptions") -> None:
    """Check, show progress, print the verdicts and the page's path."""
    locate(settings.data, run.data_root)
    from chiaroscuro.checks import check as measure

    _run_set(measure, settings, run, _check_lines)


def _check_lines(summary: Summary) -> Iterator[str]:
    """What a terminal shows: images, layers, and the verdicts of every map."""
    data = summary["data"]
    yield (
        f"{data['images']} images of {data['source']} {data['split']}, "
        f"{len(summary['layers'])} steps from the output to the input"
    )
    for entry in summary["maps"]:
        said = entry["verdict"]
        words = "; ".join(said[question]["words"] for question in ("weights", "class", "noise"))
        yield f"{entry['method']}, {entry['map']}: {words}"


def localize(settings: LocalizationSettings, run: "LocalizeOptions") -> None:
    """Localize, show progress, print the figures and the page's path."""
    locate(settings.data, run.data_root)
    from chiaroscuro.checks import localize as measure

    _run_set(measure, settings, run, _localization_lines)


def _localization_lines(summary: Summary) -> Iterator[str]:
    """What a terminal shows: images, and both measures of every map with a random order's."""
    from chiaroscuro.report.evaluation import interval_text
    from chiaroscuro.report.localization import against_chance

    data = summary["data"]
    left_out = f", {data['left_out_count']} left out" if data["left_out_count"] else ""
    yield f"{data['images']} images of {data['source']} {data['split']}{left_out}"
    for entry in summary["maps"]:
        found = (
            f"{word} {interval_text(entry[measure])} ({against_chance(entry, measure)})"
            for measure, word in (("hit", "hit"), ("energy", "energy"))
        )
        yield f"{entry['map']}: {', '.join(found)}"
    chance, energy, center = (
        interval_text(summary["maps"][0][name])
        for name in ("chance_hit", "chance_energy", "center_hit")
    )
    yield f"random order: hit {chance}, energy {energy}; middle pixel: hit {center}"


def train(settings: TrainingSettings, run: "TrainOptions") -> None:
    """Train, show progress, print the last epoch's figures and the folder."""
    locate(settings.data, run.data_root)
    from chiaroscuro.cli.preparation import prepare, usable_device
    from chiaroscuro.training import train as train_network
    from chiaroscuro.training.log import LOG, read_log

    prepare(run.threads, quiet=run.quiet)
    with progress_bars(quiet=run.quiet) as bars:
        train_network(
            settings,
            run.out,
            resume=run.resume,
            overwrite=run.force,
            device=usable_device(run.device),
            data_root=run.data_root,
            watcher=training_watcher(bars, quiet=run.quiet),
        )
    last = read_log(run.out / LOG)[-1]
    print_result(
        {**asdict(last), "folder": str(run.out)},
        [f"{epoch_line(last)} -> {run.out}"],
        None,
        as_json=run.as_json,
        quiet=run.quiet,
    )


def training_watcher(bars: Bars, *, quiet: bool) -> "Watcher":
    """Bars for images read and steps learned, and a line for every epoch."""
    from chiaroscuro.training.run import Watcher

    def on_batch(epoch: int, epochs: int, batch: int, batches: int) -> None:
        bars.show(f"steps of {epochs} epochs", (epoch - 1) * batches + batch, epochs * batches)

    def on_epoch(row: "EpochRow") -> None:
        if not quiet:
            bars.progress.console.print(epoch_line(row), highlight=False)

    return Watcher(bars.show, on_batch, on_epoch)


def epoch_line(row: "EpochRow") -> str:
    """One epoch in a line."""
    tested = "" if row.test_accuracy is None else f", test accuracy {row.test_accuracy:.4f}"
    return (
        f"epoch {row.epoch}: loss {row.loss:.4f}, train accuracy {row.train_accuracy:.4f}{tested}"
        f" ({row.seconds:.1f} s)"
    )


def reproduce(run: "ReproduceOptions") -> None:
    """Reproduce, show progress, print the page's path; exit status 1 if a cell could not be run."""
    from chiaroscuro.cli.preparation import prepare
    from chiaroscuro.paper import Cell, PaperSettings
    from chiaroscuro.paper import reproduce as recompute
    from chiaroscuro.paper.reproduction import PaperWatcher

    settings = PaperSettings(
        cells=run.experiments or (),
        data_root=run.data_root,
        quick=run.quick,
        epochs=run.epochs,
        test_limit=run.limit,
        train_limit=run.train_limit,
        seed=run.seed,
    )
    folder = run.out or Path("chiaroscuro-paper-quick" if run.quick else "chiaroscuro-paper")
    prepare(run.threads, quiet=run.quiet)

    def on_cell(cell: Cell) -> None:
        if not run.quiet:
            say(cell.title, err=True)

    def on_missing(cell: Cell, reason: str) -> None:
        say(f"chiaroscuro: {cell.name}: {reason}", err=True)

    with progress_bars(quiet=run.quiet) as bars:
        training = training_watcher(bars, quiet=run.quiet)
        missing = recompute(
            settings, folder, PaperWatcher(training, on_cell, bars.show, on_missing)
        )
    if run.as_json:
        print_result(
            {"folder": str(folder), "missing": dict(missing)}, (), None, as_json=True, quiet=False
        )
    elif not run.quiet:
        print_page(folder)
    if missing:
        raise typer.Exit(1)
