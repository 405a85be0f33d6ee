"""What `explain`, `what-if` and `compare` compute and print."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from chiaroscuro.choices import (
    MAPS,
    WHAT_IF_FILE,
    CompareSettings,
    ExplainSettings,
    Scale,
    WhatIfSettings,
)
from chiaroscuro.choices.settings import PhotoSettings
from chiaroscuro.cli.terminal import print_page, print_result, progress_bars, say
from chiaroscuro.errors import ImageError
from chiaroscuro.images import find_photos, open_photo, packaged_photo
from chiaroscuro.staging import check_free
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
        _replay(run.replay, run)
        return
    options = {**_question(settings), "maps": settings.maps, "score": settings.score}
    if run.images:
        paths = find_photos(run.images)
        _check_photos(paths)
        jobs = [(path, options) for path in paths]
    else:
        demo = settings.rivals == "all"
        rivals = ", cat.png against all classes, coffee.png against its top 10" if demo else ""
        if not run.quiet:
            say(f"no image given: two packaged photos{rivals}", err=True)
        jobs = [
            (packaged_photo(name), {**options, "rivals": word} if demo else options)
            for name, word in _DEMO_RIVALS.items()
        ]
    with timed("import"):
        from chiaroscuro.cli.preparation import load, prepare, settled
        from chiaroscuro.explanations import explain_files
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


def _check_photos(paths: Sequence[Path]) -> None:
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
    if run.as_json:
        failure = {"source": str(outcome.source), "error": str(outcome.error)}
        found = {**outcome.about, "folder": str(outcome.folder)}
        typer.echo(json.dumps(failure if outcome.error else found))
    if outcome.error is not None:
        say(f"chiaroscuro: {outcome.error}", err=True)
    elif not run.as_json and not run.quiet:
        say(_line(outcome))


def _line(outcome: "Outcome") -> str:
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


def _print_times(watch: Stopwatch) -> None:
    """A line a stage, the slowest first."""
    total = sum(watch.seconds.values())
    for name, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        say(f"  {name:<9} {seconds:7.2f} s  {100 * seconds / total:3.0f} %", err=True)


def _replay(folder: Path, run: "ExplainOptions") -> None:
    """Repeat a saved explanation and print how it differs; exit status 1 when it does."""
    from chiaroscuro.cli.preparation import load, prepare
    from chiaroscuro.explanations import explain_again
    from chiaroscuro.explanations.explanation import Explanation

    prepare(run.threads, quiet=run.quiet)
    with progress_bars(quiet=run.quiet) as bars:
        name = Explanation.load(folder).model["name"]
        _, differences = explain_again(
            folder,
            load(name, run.device),
            lambda at, total: bars.show("class gradients", at, total),
        )
    sizes = {"logits": differences.logits, **differences.maps}
    print_result(
        {**asdict(differences), "same": differences.same},
        [
            f"{folder}: {'the same' if differences.same else 'different'}",
            *(f"  {name}: {_gap(size)}" for name, size in sizes.items()),
            *(f"  {fact}" for fact in differences.facts),
        ],
        None,
        as_json=run.as_json,
        quiet=run.quiet,
    )
    if not differences.same:
        raise typer.Exit(1)


def _gap(size: float | None) -> str:
    return "cannot be compared" if size is None else f"differ by {size:.3g} of their size"


def what_if(settings: WhatIfSettings, run: "WhatIfOptions") -> None:
    """Change the photo, save what it did, and print it in a few lines."""
    folder = run.out / what_if_name(settings, run.image, run.model)
    check_free(folder, WHAT_IF_FILE, overwrite=run.force)
    _check_photos([run.image])
    from chiaroscuro.changes import what_if as change_photo
    from chiaroscuro.changes.storage import describe
    from chiaroscuro.cli.preparation import load, prepare

    prepare(run.threads, quiet=run.quiet)
    with progress_bars(quiet=run.quiet) as bars:
        found = change_photo(
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
        found.save(folder, overwrite=run.force)
    about = describe(found)
    print_result(
        {**about, "folder": str(folder)},
        _what_if_lines(run.image, about),
        folder,
        as_json=run.as_json,
        quiet=run.quiet,
    )


def what_if_name(settings: WhatIfSettings, image: Path, model: str) -> str:
    """The folder of a what-if: photo, model, target where one is named, and the change."""
    method = [] if settings.method == "gradient" else [settings.method]
    target = [] if settings.target is None else [settings.target]
    parts = [
        image.stem, Path(model).name, *target, *method, settings.map, f"{settings.fraction:g}",
        settings.fill,
    ]  # fmt: skip
    return "-".join(re.sub(r"[^\w.+]+", "-", str(part)).strip("-") for part in parts)


def _what_if_lines(path: Path, about: Mapping[str, Any]) -> Iterator[str]:
    from chiaroscuro.report.what_if import sentences

    pixels = about["pixels"]
    yield f"{path.name}: {pixels['changed']:,} of {pixels['all']:,} pixels changed"
    yield from sentences(about)
    for when in ("before", "after"):
        best = ", ".join(f"{p['label']} {100 * p['probability']:.1f} %" for p in about[when])
        yield f"{when}: {best}"


def compare(settings: CompareSettings, run: "CompareOptions") -> None:
    """Compare, show progress, print what each model says, and the page's path."""
    _check_photos([run.image])
    from chiaroscuro.cli.preparation import load, prepare
    from chiaroscuro.comparisons import beside_change
    from chiaroscuro.comparisons import compare as compare_photo
    from chiaroscuro.comparisons.storage import MARKER, describe

    check_free(run.out, MARKER, overwrite=run.force)
    prepare(run.threads, quiet=run.quiet)
    change = None
    if settings.fill is not None:
        change = beside_change(
            run.image, settings.fill, settings.fraction, settings.by, settings.fit
        )
    with progress_bars(quiet=run.quiet) as bars:
        found = compare_photo(
            [load(model, run.device) for model in run.models],
            run.image,
            **_question(settings),
            maps=settings.maps,
            score=settings.score,
            beside=change,
            progress=lambda place, *counts: bars.show(f"classes of model {place + 1}", *counts),
        )
        found.save(run.out, overwrite=run.force)
    about = describe(found)
    print_result(about, _comparison_lines(about), run.out, as_json=run.as_json, quiet=run.quiet)


def _comparison_lines(about: Mapping[str, Any]) -> Iterator[str]:
    """What a terminal shows: each model's word, and how similar the maps of each pair are."""
    for model in about["models"]:
        best, share = model["predictions"][0]
        yield (
            f"{model['name']}: {best} {100 * share:.1f} %; explained: {model['target']} "
            f"{100 * model['probability']:.1f} %"
        )
    for model, beside in zip(about["models"], about["beside"], strict=False):
        yield f"{model['name']}: {beside['title']} {'; '.join(beside['lines'])}"
    for pair in about["pairs"]:
        found = ", ".join(f"{name} {one['correlation']:.2f}" for name, one in pair["maps"].items())
        yield f"{pair['other']} against {pair['first']}: {found or pair['note']}"
