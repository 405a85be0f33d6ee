"""What the commands over an image set compute and print."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from chiaroscuro.choices import (
    CheckSettings,
    EvaluationSettings,
    LocalizationSettings,
    TrainingSettings,
)
from chiaroscuro.choices.settings import ImageSetSettings
from chiaroscuro.cli.terminal import Bars, print_result, progress_bars, say
from chiaroscuro.data import locate
from chiaroscuro.results import KINDS, check_free, check_startable, facts_of

if TYPE_CHECKING:
    from chiaroscuro.cli.commands import (
        CheckOptions,
        EvaluateOptions,
        LocalizeOptions,
        ReproduceOptions,
        RunOptions,
        TrainOptions,
    )
    from chiaroscuro.training.log import EpochRow
    from chiaroscuro.training.run import Watcher

Result = TypeVar("Result")


def _run_set(
    measure: Callable[..., Result],
    settings: Any,
    run: "RunOptions",
    lines: Callable[[Result], Iterable[str]],
    **options: Any,
) -> None:
    """Measure a set of images into a folder, show progress, print the result."""
    from chiaroscuro.cli.preparation import load, prepare

    prepare(settings.threads, quiet=run.quiet)
    options |= {field.name: getattr(settings, field.name) for field in fields(settings)}
    with progress_bars(quiet=run.quiet) as bars:
        result = measure(
            load(run.model, run.device),
            out=run.out,
            resume=run.resume,
            overwrite=run.force,
            workers=run.workers,
            data_root=run.data_root,
            progress=lambda *counts: bars.show("images", *counts),
            **options,
        )
    print_result(facts_of(result), lines(result), run.out, as_json=run.as_json, quiet=run.quiet)


def _check_places(kind: str, settings: ImageSetSettings, run: "RunOptions") -> None:
    """Raise for data that does not exist or a folder that is taken, before torch is loaded."""
    locate(settings.data, run.data_root)
    check_startable(run.out, KINDS[kind], resume=run.resume, overwrite=run.force)


def evaluate(settings: EvaluationSettings, run: "EvaluateOptions") -> None:
    """Evaluate, show progress, print the areas and the page's path."""
    _check_places("evaluation", settings, run)
    from chiaroscuro.evaluation import evaluate as measure
    from chiaroscuro.report.evaluation import lines

    _run_set(measure, settings, run, lines, check=run.check)


def check(settings: CheckSettings, run: "CheckOptions") -> None:
    """Check, show progress, print the verdicts and the page's path."""
    _check_places("check", settings, run)
    from chiaroscuro.checks import check as measure
    from chiaroscuro.report.sanity import lines

    _run_set(measure, settings, run, lines)


def localize(settings: LocalizationSettings, run: "LocalizeOptions") -> None:
    """Localize, show progress, print the figures and the page's path."""
    _check_places("localization", settings, run)
    from chiaroscuro.checks import localize as measure
    from chiaroscuro.report.localization import lines

    _run_set(measure, settings, run, lines)


def train(settings: TrainingSettings, run: "TrainOptions") -> None:
    """Train, show progress, print the last epoch's figures and the folder."""
    locate(settings.data, run.data_root)
    check_free(run.out, KINDS["model"], overwrite=run.force)
    from chiaroscuro.cli.preparation import prepare, usable_device
    from chiaroscuro.training import train as train_network
    from chiaroscuro.training.log import LOG, read_log

    prepare(run.threads, quiet=run.quiet)
    with progress_bars(quiet=run.quiet) as bars:
        train_network(
            settings.data,
            run.out,
            settings=settings,
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
    """Reproduce, show progress, print the page's path; exit status 1 if an experiment failed."""
    from chiaroscuro.cli.preparation import prepare, usable_device
    from chiaroscuro.reproduction import Experiment, ReproductionSettings, ReproductionWatcher
    from chiaroscuro.reproduction import reproduce as recompute

    options = {field.name: getattr(run, field.name) for field in fields(ReproductionSettings)}
    settings = ReproductionSettings(**{**options, "experiments": run.experiments or ()})
    folder = run.out or Path("chiaroscuro-paper-quick" if run.quick else "chiaroscuro-paper")
    prepare(run.threads, quiet=run.quiet)

    failed = {}

    def on_experiment(experiment: Experiment) -> None:
        if not run.quiet:
            say(experiment.title, err=True)

    def on_missing(experiment: Experiment, reason: str) -> None:
        failed[experiment.name] = reason
        say(f"chiaroscuro: {experiment.name}: {reason}", err=True)

    with progress_bars(quiet=run.quiet) as bars:
        training = training_watcher(bars, quiet=run.quiet)
        recompute(
            settings,
            folder,
            workers=run.workers,
            device=usable_device(run.device),
            watcher=ReproductionWatcher(training, on_experiment, bars.show, on_missing),
        )
    facts = {"folder": str(folder), "missing": failed}
    print_result(facts, (), folder, as_json=run.as_json, quiet=run.quiet)
    if failed:
        raise typer.Exit(1)
