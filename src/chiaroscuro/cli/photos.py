"""What `explain`, `what-if` and `compare` compute and print."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from chiaroscuro.choices import (
    DEFAULT_MODEL,
    MAPS,
    CompareSettings,
    ExplainSettings,
    Scale,
    WhatIfSettings,
)
from chiaroscuro.choices.settings import PhotoSettings
from chiaroscuro.cli.terminal import print_page, print_result, progress_bars, say
from chiaroscuro.errors import ImageError, printable
from chiaroscuro.images import open_photo, packaged_photo, photo_folders, safe_name
from chiaroscuro.results import KINDS, Comparison, Explanation, WhatIf, check_free, facts_of
from chiaroscuro.stopwatch import Stopwatch, running, timed

if TYPE_CHECKING:
    from chiaroscuro.cli.commands import CompareOptions, ExplainOptions, WhatIfOptions
    from chiaroscuro.explanations import Outcome

_DEMO_RIVALS = {"cat": "all", "coffee": "top:10"}


def _question(settings: PhotoSettings) -> dict[str, Any]:
    """What every verb about one photo takes."""
    return {
        "target": settings.target,
        "rivals": settings.rivals,
        "method": settings.method_options,
        "fit": settings.fit,
    }


def explain(settings: ExplainSettings, run: "ExplainOptions") -> None:
    """Explain every photo, print a line or an object for each; exit status 1 if one failed."""
    if run.replay is not None:
        _replay(run.replay, settings, run)
        return
    options = {**_question(settings), "maps": settings.maps, "score": settings.score}
    folders, rivals = photo_folders(run.images or ()), {}
    if run.images:
        _check_photos(folders)
    else:
        demo = settings.rivals == "all"
        words = ", cat.png against all classes, coffee.png against its top 10" if demo else ""
        if not run.quiet:
            say(f"no image given: two packaged photos{words}", err=True)
        folders = {packaged_photo(name): Path(name) for name in _DEMO_RIVALS}
        rivals = {Path(name): {"rivals": _DEMO_RIVALS[name]} for name in _DEMO_RIVALS if demo}
    with timed("import"):
        from chiaroscuro.cli.preparation import load, prepare, settled, share_of_threads
        from chiaroscuro.explanations import PhotoJob, explain_files
    jobs = [PhotoJob(p, f, {**options, **rivals.get(f, {})}) for p, f in folders.items()]
    prepare(run.threads, quiet=run.quiet)
    watch = running() if run.profile else None
    if watch is not None:
        watch.settle = settled(run.device)
    failed = done = 0
    with progress_bars(quiet=run.quiet) as bars:
        with timed("loading"):
            classifier = load(run.model, run.device)
        outcomes = explain_files(
            classifier,
            jobs,
            run.out,
            overwrite=run.force,
            resume=run.resume,
            workers=run.workers,
            threads=run.threads or share_of_threads(run.workers),
            scale=cast(Scale, run.scale),
            on_image=lambda at, total, path: bars.show("images", at, total),
            on_class=lambda at, total: bars.show("class gradients", at, total),
        )
        for outcome in outcomes:
            failed += outcome.error is not None
            done += outcome.error is None
            _report(outcome, run)
    if done and not run.as_json and not run.quiet:
        print_page(run.out)
    if watch is not None:
        _print_times(watch)
    if failed:
        raise typer.Exit(1)


def _check_photos(paths: Iterable[Path]) -> None:
    """Say what is wrong and leave where there is no file to explain at all, before torch loads."""
    if any(path.is_file() for path in paths):
        return
    for path in paths:
        try:
            open_photo(path)
        except ImageError as error:
            say(f"chiaroscuro: {error}", err=True)
    raise typer.Exit(1)


def _report(outcome: "Outcome", run: "ExplainOptions") -> None:
    if outcome.explanation is None:
        if run.as_json:
            failure = {"source": printable(outcome.source), "error": str(outcome.error)}
            typer.echo(json.dumps(failure))
        say(f"chiaroscuro: {outcome.error}", err=True)
    elif run.as_json:
        typer.echo(json.dumps({**facts_of(outcome.explanation), "folder": str(outcome.folder)}))
    elif not run.quiet:
        say(_line(outcome, outcome.explanation))


def _line(outcome: "Outcome", explanation: Explanation) -> str:
    target = explanation.target
    support = ", ".join(
        f"{name} {100 * facts.support_pixels:.1f} %"
        for name, facts in explanation.facts.items()
        if MAPS[name].helps != "either"
    )
    notes = "; ".join((*explanation.image.notes, *explanation.notes))
    return (
        f"{outcome.source.name}: {target.label} {100 * target.probability:.1f} %"
        + (f" | pixels in {support}" if support else "")
        + (f" | {notes}" if notes else "")
        + f" -> {outcome.folder}"
    )


def _print_times(watch: Stopwatch) -> None:
    """A line a stage, the slowest first."""
    total = sum(watch.seconds.values())
    for name, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        say(f"  {name:<9} {seconds:7.2f} s  {100 * seconds / total:3.0f} %", err=True)


def _replay(folder: Path, settings: ExplainSettings, run: "ExplainOptions") -> None:
    """Recompute a saved explanation and print how it differs; exit status 1 when it does."""
    saved = Explanation.load(folder)
    from chiaroscuro.cli.preparation import load, on_device, prepare
    from chiaroscuro.explanations import replay
    from chiaroscuro.explanations.recompute import load_named

    prepare(run.threads, quiet=run.quiet)
    with progress_bars(quiet=run.quiet) as bars:
        if run.model == DEFAULT_MODEL:
            classifier = load_named(saved.model.name)
        else:
            classifier = load(run.model, "cpu")
        _, differences = replay(
            folder,
            on_device(classifier, run.device),
            background=settings.background,
            progress=lambda at, total: bars.show("class gradients", at, total),
        )
    sizes = {"logits": differences.logits, **differences.maps}
    print_result(
        {**asdict(differences), "same": differences.same},
        [
            f"{folder}: {'the same' if differences.same else 'different'}",
            *(f"  {name}: {_gap(size)}" for name, size in sizes.items()),
            *(f"  {line}" for line in (*differences.changes, *differences.why)),
        ],
        None,
        as_json=run.as_json,
        quiet=run.quiet,
    )
    if not differences.same:
        raise typer.Exit(1)


def _gap(size: float | None) -> str:
    return "cannot be compared" if size is None else f"relative difference {size:.3g}"


def what_if(settings: WhatIfSettings, run: "WhatIfOptions") -> None:
    """Change the photo, save the result, and print it in a few lines."""
    folder = run.out / what_if_name(settings, run.image, run.model)
    check_free(folder, KINDS["what-if"], overwrite=run.force)
    _check_photos([run.image])
    from chiaroscuro import explanations
    from chiaroscuro.cli.preparation import load, prepare

    prepare(run.threads, quiet=run.quiet)
    with progress_bars(quiet=run.quiet) as bars:
        result = explanations.what_if(
            load(run.model, run.device),
            run.image,
            settings.map,
            settings.fraction,
            settings.fill,
            **_question(settings),
            tolerance=settings.tolerance,
            seed=settings.seed,
            progress=lambda at, total: bars.show("class gradients", at, total),
        )
        result.save(folder, overwrite=run.force)
    facts = {
        **facts_of(result),
        "predicted": result.predicted,
        "actual": result.actual,
        "changed_pixels": int(result.changed.sum()),
        "folder": str(folder),
    }
    lines = _what_if_lines(run.image, result)
    print_result(facts, lines, folder, as_json=run.as_json, quiet=run.quiet)


def what_if_name(settings: WhatIfSettings, image: Path, model: str) -> str:
    """The folder of a what-if: photo, model, target where one is named, and the change."""
    method = "" if settings.method == "gradient" else settings.method
    target = "" if settings.target is None else str(settings.target)[:40]
    change = (settings.map, f"{settings.fraction:g}", settings.fill)
    parts = [part for part in (Path(model).name, target, method, *change) if part]
    words = ["-", *(re.sub(r"[^\w.+]+", "-", part).strip("-") for part in parts)]
    return safe_name(image.stem, "-".join(words)[1:])


def _what_if_lines(path: Path, result: WhatIf) -> Iterator[str]:
    from chiaroscuro.report.what_if import sentences

    changed = result.changed
    yield f"{path.name}: {int(changed.sum()):,} of {changed.size:,} pixels changed"
    yield from sentences(result)
    for when, predictions in (("before", result.before), ("after", result.after)):
        best = ", ".join(f"{p.label} {100 * p.probability:.1f} %" for p in predictions)
        yield f"{when}: {best}"
    yield from (f"note: {note}" for note in result.notes)


def compare(settings: CompareSettings, run: "CompareOptions") -> None:
    """Compare, show progress, print what each model says, and the page's path."""
    _check_photos([run.image])
    check_free(run.out, KINDS["comparison"], overwrite=run.force)
    from chiaroscuro import explanations
    from chiaroscuro.cli.preparation import load, prepare

    prepare(run.threads, quiet=run.quiet)
    details = None
    if settings.fill is not None:
        details = explanations.what_if_detail(
            run.image, settings.fill, settings.fraction, settings.by, settings.fit
        )
    with progress_bars(quiet=run.quiet) as bars:
        comparison = explanations.compare(
            [load(model, run.device) for model in run.models],
            run.image,
            **_question(settings),
            maps=settings.maps,
            score=settings.score,
            details=details,
            progress=lambda place, *counts: bars.show(f"classes of model {place + 1}", *counts),
        )
        comparison.save(run.out, overwrite=run.force)
    facts, lines = facts_of(comparison), _comparison_lines(comparison)
    print_result(facts, lines, run.out, as_json=run.as_json, quiet=run.quiet)


def _comparison_lines(comparison: Comparison) -> Iterator[str]:
    """What a terminal shows: each model's prediction, and how similar the maps of each pair are."""
    names = comparison.names
    for name, explanation in zip(names, comparison.explanations, strict=True):
        best, target = explanation.predictions[0], explanation.target
        yield (
            f"{name}: {best.label} {100 * best.probability:.1f} %; target class: {target.label} "
            f"{100 * target.probability:.1f} %"
        )
    for name, detail in zip(names, comparison.details, strict=False):
        yield f"{name}: {detail.title} {'; '.join(detail.lines)}"
    for pair in comparison.pairs:
        maps = ", ".join(f"{name} {one.correlation:.2f}" for name, one in pair.maps.items())
        yield f"{names[pair.other]} against {names[0]}: {maps or pair.note}"
