"""What `chiaroscuro explain` does once its words are parsed; imports torch."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chiaroscuro.choices import MAPS, Scale
from chiaroscuro.cli.endings import print_page
from chiaroscuro.cli.preparation import load, prepare, settled
from chiaroscuro.explanations import Outcome, explain_again, explain_files
from chiaroscuro.explanations.explanation import Explanation
from chiaroscuro.images import find_photos, packaged_photo
from chiaroscuro.stopwatch import Stopwatch, timed

Job = tuple[Path, Mapping[str, Any]]
_DEMO_RIVALS = {"cat": "all", "coffee": "top:10"}


def plan_jobs(
    sources: Sequence[str], options: Mapping[str, Any], *, default_rivals: bool, quiet: bool
) -> list[Job]:
    """One job a photo; without photos the packaged two, one of them against ten rivals."""
    if sources:
        return [(path, options) for path in find_photos(sources)]
    rivals = ", cat.png against all classes, coffee.png against its top 10"
    if not quiet:
        typer.echo(
            f"no image given: two packaged photos{rivals if default_rivals else ''}", err=True
        )
    return [
        (packaged_photo(name), {**options, "rivals": rivals} if default_rivals else options)
        for name, rivals in _DEMO_RIVALS.items()
    ]


def run(
    jobs: Sequence[Job],
    model: str,
    out: Path,
    device: str,
    threads: int | None,
    *,
    overwrite: bool,
    scale: str,
    as_json: bool,
    quiet: bool,
    watch: Stopwatch | None = None,
) -> None:
    """Explain every job, print a line or an object for each; exit status 1 if one failed.

    With a stopwatch, say at the end where the time went.
    """
    prepare(threads, quiet=quiet)
    if watch is not None:
        watch.settle = settled(device)
    failed = done = 0
    with _progress(len(jobs), quiet=quiet) as bars, watch.running() if watch else nullcontext():
        with timed("loading"):
            classifier = load(model, device)
        outcomes = explain_files(
            classifier,
            jobs,
            out,
            overwrite=overwrite,
            scale=cast(Scale, scale),
            on_image=bars.image,
            on_class=bars.classes,
        )
        for outcome in outcomes:
            failed += outcome.error is not None
            done += outcome.error is None
            _report(outcome, as_json=as_json, quiet=quiet)
    if done and not as_json and not quiet:
        print_page(out)
    if watch is not None:
        _tell(watch)
    if failed:
        raise typer.Exit(1)


def _tell(watch: Stopwatch) -> None:
    """A line a stage, the slowest first."""
    total = sum(watch.seconds.values())
    for name, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        typer.echo(f"  {name:<9} {seconds:7.2f} s  {100 * seconds / total:3.0f} %", err=True)


def repeat(folder: Path, device: str, threads: int | None, *, as_json: bool, quiet: bool) -> None:
    """Repeat a saved explanation and print how it differs; exit status 1 when it does."""
    prepare(threads, quiet=quiet)
    with _progress(1, quiet=quiet) as bars:
        name = Explanation.load(folder).model["name"]
        bars.image(0, 1, folder)
        _, differences = explain_again(folder, load(name, device), bars.classes)
    if as_json:
        typer.echo(json.dumps({**asdict(differences), "same": differences.same}))
    elif not quiet:
        typer.echo(f"{folder}: {'the same' if differences.same else 'different'}")
        sizes = {"logits": differences.logits, **differences.maps}
        for name, size in sizes.items():
            gap = "cannot be compared" if size is None else f"differ by {size:.3g} of their size"
            typer.echo(f"  {name}: {gap}")
        for fact in differences.facts:
            typer.echo(f"  {fact}")
    if not differences.same:
        raise typer.Exit(1)


def _report(outcome: Outcome, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        failure = {"source": str(outcome.source), "error": str(outcome.error)}
        found = {**outcome.about, "folder": str(outcome.folder)}
        typer.echo(json.dumps(failure if outcome.error else found))
    if outcome.error is not None:
        typer.echo(f"chiaroscuro: {outcome.error}", err=True)
    elif not as_json and not quiet:
        typer.echo(_line(outcome))


def _line(outcome: Outcome) -> str:
    target = outcome.about["target"]
    support = ", ".join(
        f"{name} {100 * facts['support_pixels']:.1f} %"
        for name, facts in outcome.about["maps"].items()
        if MAPS[name].helps != "either"
    )
    notes = "; ".join(outcome.about["image"]["notes"])
    return (
        f"{outcome.source.name}: {target['label']} {100 * target['probability']:.1f} %"
        + (f" | pixels in {support}" if support else "")
        + (f" | {notes}" if notes else "")
        + f" -> {outcome.folder}"
    )


@dataclass
class _Bars:
    """Two bars: images, and classes of the present one."""

    progress: Progress
    images_task: Any
    classes_task: Any

    def image(self, done: int, total: int, path: Path) -> None:
        self.progress.update(self.images_task, completed=done, total=total, name=path.name)
        self.progress.reset(self.classes_task, total=None)

    def classes(self, done: int, total: int) -> None:
        self.progress.update(self.classes_task, completed=done, total=total)


@contextmanager
def _progress(images: int, *, quiet: bool) -> Iterator[_Bars]:
    columns = (
        TextColumn("{task.description} {task.fields[name]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(file=sys.stderr)
    disabled = quiet or not console.is_terminal
    with Progress(
        *columns, console=console, transient=True, disable=disabled, redirect_stdout=False
    ) as progress:
        images_task = progress.add_task("images", total=images, name="loading the model")
        yield _Bars(progress, images_task, progress.add_task("classes", total=None, name=""))
