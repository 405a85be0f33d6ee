"""What the commands compute and print; torch is imported once all that was typed is checked."""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

import chiaroscuro
from chiaroscuro import results
from chiaroscuro import settings as known
from chiaroscuro.allocator import tune_allocator
from chiaroscuro.choices import DEFAULT_MODEL, MAPS, REPLAY_TOLERANCE, Scale
from chiaroscuro.cli import commands
from chiaroscuro.cli.terminal import LEFT_OUT, say, show
from chiaroscuro.cli.watch import Told, Watch, watching
from chiaroscuro.data.loading import check_named_again, locate
from chiaroscuro.errors import (
    ChoiceError,
    MissingImageError,
    OtherConfigurationError,
    ResultError,
    first_line,
    missing_extra,
    printable,
)
from chiaroscuro.images import links_out, open_photo, packaged_photo, photo_folders, safe_name
from chiaroscuro.results.changes import SmallestEdit, WhatIf
from chiaroscuro.results.explanations import Comparison, Explanation
from chiaroscuro.results.facts import ModelFacts
from chiaroscuro.results.runs import (
    RunConfig,
    check_startable,
    kind_of_shard,
    read_config,
    restore_marker,
)
from chiaroscuro.stopwatch import Stopwatch, timed

if TYPE_CHECKING:
    from chiaroscuro.explanations import Outcome
    from chiaroscuro.training.files import EpochRow, Watcher


_PICTURED = 3
"""So many photos are shown in the terminal, none of more."""


def _told(run: commands.OutputOptions | commands.StoredOptions) -> Told:
    """What of a command is told where."""
    told = Told(command=type(run).__name__.removesuffix("Options").lower(), quiet=run.quiet)
    if isinstance(run, commands.LoggedOptions):
        told = replace(told, log=run.log, level=run.log_level, metrics=run.counts)
    if isinstance(run, commands.WatchedOptions) and run.max_time is not None:
        told = replace(told, max_time=commands.seconds(run.max_time))
    return told


@contextmanager
def _working(run: commands.OutputOptions, threads: int | None) -> Iterator[Watch]:
    """What is told meanwhile, in a process that is the command's own: as fast as it can be."""
    with watching(_told(run)) as bars:
        _wait_as_asked(run)
        with timed("import"):
            import torch
        tune_allocator()
        if run.quiet:
            from huggingface_hub.utils.tqdm import disable_progress_bars

            disable_progress_bars()
            os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
        if threads is not None:
            torch.set_num_threads(threads)
        before = torch.are_deterministic_algorithms_enabled()
        try:
            torch.use_deterministic_algorithms(run.deterministic or before)
            yield bars
        finally:
            torch.use_deterministic_algorithms(before)


def _wait_as_asked(run: commands.OutputOptions | commands.ServeOptions) -> None:
    """What libraries read as they load: OpenMP's threads sleep while they wait, CUDA's products
    give the same bits.
    """
    if run.passive:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if isinstance(run, commands.OutputOptions) and run.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _device(name: str) -> str:
    """A device by name, "auto" for the best one; raises `ChoiceError` for one that is not here."""
    import torch

    if name == "auto":
        gpu = torch.accelerator.is_available() and torch.accelerator.current_accelerator()
        return str(gpu or "cpu")
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        why = first_line(error).partition(". ")[0]  # PyTorch goes on to list all its backends
        raise ChoiceError(
            f"device {name!r} cannot be used here: {why}; give auto or cpu"
        ) from error
    return name


def _load(
    model: Any,
    run: commands.ExplainOptions | commands.PhotoOptions | commands.RunOptions,
    load: "Callable[[Any], chiaroscuro.Classifier] | None" = None,
) -> "chiaroscuro.Classifier":
    device = _device(run.device)
    if load is None:
        load = partial(chiaroscuro.load_classifier, classes=run.texts(model))
    classifier = load(model)
    return classifier if device == "cpu" else classifier.to(device)


def _print(
    run: commands.OutputOptions | commands.StoredOptions,
    facts: Any,
    lines: Iterable[str],
    folder: Path | None = None,
) -> None:
    """Print a result as one JSON object, or its lines and the page of its folder."""
    if run.as_json:
        typer.echo(json.dumps(facts))
    elif not run.quiet:
        for line in lines:
            say(line)
        if folder is not None:
            page = folder / results.PAGE
            say(f"page: {page.resolve()}" if page.exists() else f"folder: {folder.resolve()}")


def _question(settings: known.PhotoSettings, *more: str) -> dict[str, Any]:
    """What every verb about one photo takes, and what more this one does."""
    names = ("target", "rivals", "fit", *more)
    own = {"method": settings.method_options, "region": settings.part}
    return {n: getattr(settings, n) for n in names} | own


def explain(settings: known.ExplainSettings, run: commands.ExplainOptions) -> None:
    """Explain every photo, print a line or an object for each; exit status 1 if one failed."""
    if run.replay is not None:
        _replay(run.replay, settings, run)
        return
    jobs = _photo_jobs(settings, run)
    watch, failed, pictured = Stopwatch(), 0, list[Explanation]()
    with watch.running(), _working(run, run.threads) as bars:
        with timed("import"):
            import torch

            from chiaroscuro.explanations import PhotoJob, explain_files
        with timed("loading"):
            classifier = _load(run.model, run)
        if run.profile and classifier.device.type != "cpu":
            watch.settle = torch.accelerator.synchronize
        outcomes = explain_files(
            classifier,
            [PhotoJob(*job) for job in jobs],
            run.out,
            overwrite=run.force,
            resume=run.resume,
            workers=run.workers,
            threads=run.threads,
            scale=cast(Scale, run.scale),
            figure=run.figure,
            on_image=lambda at, total, path: bars.show("images", at, total),
            on_class=partial(bars.show, "class gradients"),
        )
        for outcome in outcomes:
            failed += outcome.error is not None
            _report(outcome, run)
            if outcome.explanation is not None and len(jobs) <= _PICTURED:
                pictured.append(outcome.explanation)
    if not (run.quiet or run.as_json):
        show(pictured)
    if failed < len(jobs) and not run.as_json:
        _print(run, None, (), run.out)
    if run.profile:
        total = sum(watch.seconds.values())
        for name, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
            say(f"  {name:<9} {seconds:7.2f} s  {100 * seconds / total:3.0f} %", err=True)
    if failed:
        raise typer.Exit(1)


def _photo_jobs(
    settings: known.ExplainSettings, run: commands.ExplainOptions
) -> list[tuple[Path, Path, dict[str, Any]]]:
    """Photo, folder and options of each explanation; without a photo, of two packaged ones."""
    options = _question(settings, "maps", "score")
    if settings.evidence != "none":
        options |= {"evidence": settings.evidence, "seed": settings.seed}
    if run.images:
        folders = photo_folders(run.images)
        _check_photos(folders)
        for link in links_out(run.images):
            say(f"chiaroscuro: {link}: leads out of its folder, name it to read it", err=True)
        part = settings.part
        if part is not None and part.is_of_one_photo and len(folders) > 1:
            raise ChoiceError(
                f"region {part} is of one photo, and {len(folders)} are given: give --mask FOLDER "
                "(a PNG file for each), or --region predicted"
            )
        return [(path, folder, options) for path, folder in folders.items()]
    demo = settings.rivals == "all"
    words = ", cat.png against all classes, coffee.png against its top 10" if demo else ""
    if not run.quiet:
        say(f"no image given: two packaged photos{words}", err=True)
    return [
        (packaged_photo(name), Path(name), options | ({"rivals": rivals} if demo else {}))
        for name, rivals in (("cat", "all"), ("coffee", "top:10"))
    ]


def _check_photos(paths: Collection[Path]) -> None:
    """Raise where no photo exists at all, before torch is loaded."""
    if paths and not any(path.exists() for path in paths):
        raise MissingImageError("; ".join(f"{path}: no such file" for path in paths))


def _place(run: Any, kind: str, named: Iterable[object] = (), *words: str) -> Path:
    """The folder of a photo's result, named by photo, model, what is `named`, and words.

    Raises, before torch is loaded, where photo or folder is of no use.
    """
    folder: Path = run.out
    if words:
        asked = (str(o)[:40] for o in named if o is not None)
        parts = [part for part in (Path(run.model).name, *asked, *words) if part]
        slugs = (re.sub(r"[^\w.+]+", "-", part).strip("-") for part in parts)
        folder /= safe_name(run.image.stem, "".join(f"-{slug}" for slug in slugs))
    results.check_free(folder, results.KINDS[kind], overwrite=run.force)
    if run.image.suffix.lower() != ".npy":
        open_photo(run.image)
    return folder


def _report(outcome: "Outcome", run: commands.ExplainOptions) -> None:
    if (explanation := outcome.explanation) is None:
        if run.as_json:
            failure = {"source": printable(outcome.source), "error": str(outcome.error)}
            typer.echo(json.dumps(failure))
        say(f"chiaroscuro: {outcome.error}", err=True)
        return
    support = ", ".join(
        f"{name} {100 * facts.support_pixels:.1f} %"
        for name, facts in explanation.facts.items()
        if MAPS[name].helps != "either"
    )
    notes = "; ".join((*explanation.image.notes, *explanation.notes))
    target = f"{outcome.source.name}: {explanation.target}"
    parts = filter(None, (target, f"pixels in {support}" if support else "", notes))
    line = f"{' | '.join(parts)} -> {outcome.folder}"
    _print(run, results.facts_of(explanation) | {"folder": str(outcome.folder)}, [line])


def _replay(folder: Path, settings: known.ExplainSettings, run: commands.ExplainOptions) -> None:
    """Recompute a saved explanation and print how it differs; exit status 1 when it does."""
    saved = Explanation.load(folder)
    with _working(run, run.threads) as bars:
        from chiaroscuro.explanations import replay
        from chiaroscuro.explanations.comparison import load_named

        named = run.model == DEFAULT_MODEL
        model, load = (saved.model, load_named) if named else (run.model, None)
        _, differences = replay(
            folder,
            _load(model, run, load),
            background=settings.background,
            tolerance=REPLAY_TOLERANCE if run.tolerance is None else run.tolerance,
            progress=partial(bars.show, "class gradients"),
        )
    sizes, allowed = {"logits": differences.logits, **differences.maps}, differences.tolerance
    within = f" within {allowed:g}" if any(sizes.values()) else ""
    lines = [f"{folder}: {f'the same{within}' if differences.same else 'different'}"]
    for name, size in sizes.items():
        said = "cannot be compared" if size is None else f"relative difference {size:.3g}"
        beyond = size is not None and size > allowed
        lines.append(f"  {name}: {said}{f', more than {allowed:g} (--tolerance)' * beyond}")
    lines += [f"  {line}" for line in differences.changes]
    why = "possible reason: " if any(sizes.values()) else ""
    lines += [f"  {why}{line}" for line in differences.why]
    _print(run, asdict(differences) | {"same": differences.same}, lines)
    if not differences.same:
        raise typer.Exit(1)


def what_if(settings: known.WhatIfSettings, run: commands.WhatIfOptions) -> None:
    """Change the photo, save the result, and print it in a few lines."""
    method = "" if settings.method == "gradient" else settings.method
    words = method, settings.map, f"{settings.fraction:g}", settings.fill
    folder = _place(run, "what-if", (settings.target, settings.part), *words)
    with _working(run, run.threads) as bars:
        from chiaroscuro.report.what_if import sentences

        result = chiaroscuro.what_if(
            _load(run.model, run),
            run.image,
            **_question(settings, "map", "fraction", "fill", "tolerance", "seed"),
            progress=partial(bars.show, "class gradients"),
        )
        result.save(folder, overwrite=run.force)
    changed = int(result.changed.sum())
    more = {"predicted": result.predicted, "actual": result.actual, "changed_pixels": changed}
    said = f"{changed:,} of {result.changed.size:,} pixels changed", *sentences(result)
    _print_change(run, result, more, said, folder)


def _print_change(
    run: commands.PhotoOptions,
    result: WhatIf | SmallestEdit,
    more: dict[str, Any],
    said: Sequence[str],
    folder: Path,
) -> None:
    lines = [
        f"{run.image.name}: {said[0]}",
        *said[1:],
        f"before: {', '.join(map(str, result.before))}",
        f"after: {', '.join(map(str, result.after))}",
        *(f"note: {note}" for note in result.notes),
    ]
    _print(run, results.facts_of(result) | more | {"folder": str(folder)}, lines, folder)


def flip(settings: known.SmallestEditSettings, run: commands.FlipOptions) -> None:
    """Search the smallest edit, save the result, and print it in a few lines."""
    cells = "" if settings.cells == "pixels" else settings.cells
    words = "keep" * settings.keep, settings.change, cells
    folder = _place(run, "smallest-edit", (settings.to, settings.part), *words)
    with _working(run, run.threads) as bars:
        from chiaroscuro.report.smallest import sentences

        names = ("change", "to", "keep", "cells", "edits", "budget", "fit", "seed")
        result = chiaroscuro.smallest_edit(
            _load(run.model, run),
            run.image,
            **{name: getattr(settings, name) for name in names},
            region=settings.part,
            progress=partial(bars.show, "gradient passes"),
        )
        result.save(folder, overwrite=run.force)
    more = {"reached": result.reached, "flipped": result.flipped, "passes": result.passes}
    _print_change(run, result, more, sentences(result), folder)


def compare(settings: known.CompareSettings, run: commands.CompareOptions) -> None:
    """Compare, show progress, print what each model says, and the page's path."""
    _place(run, "comparison")
    with _working(run, run.threads) as bars:
        comparison = chiaroscuro.compare(
            [_load(model, run) for model in run.models],
            run.image,
            **_question(settings, "maps", "score", "fill", "fraction", "by"),
            progress=lambda place, *counts: bars.show(f"classes of model {place + 1}", *counts),
        )
        comparison.save(run.out, overwrite=run.force)
    _print(run, results.facts_of(comparison), _comparison_lines(comparison), run.out)


def _comparison_lines(comparison: Comparison) -> Iterator[str]:
    """What a terminal shows: each model's prediction, and how similar the maps of each pair are."""
    names = comparison.names
    for name, explanation in zip(names, comparison.explanations, strict=True):
        yield f"{name}: {explanation.predictions[0]}; target class: {explanation.target}"
    for name, detail in zip(names, comparison.details, strict=False):
        yield f"{name}: {detail.title} {' '.join(detail.lines)}"
    for pair in comparison.pairs:
        maps = ", ".join(f"{name} {one.correlation:.2f}" for name, one in pair.maps.items())
        yield f"{names[pair.other]} against {names[0]}: {maps or pair.note}"


_VERBS = {
    known.EvaluationSettings: ("evaluate", "evaluation"),
    known.CheckSettings: ("check", "check"),
    known.LocalizationSettings: ("localize", "localization"),
    known.ConfusionSettings: ("confusions", "confusions"),
    known.MapExportSettings: ("export_maps", "map-export"),
}
"""The function that takes settings over an image set, and the kind of its result."""


def measure(
    settings: known.PassSettings, run: commands.RunOptions, saved: ModelFacts | None = None
) -> None:
    """Measure a set of images into a folder, show progress, print the result.

    `saved`: what a saved run says of its network, in place of `run.model`.
    """
    verb, name = _VERBS[type(settings)]
    kind = results.KINDS[name]
    if isinstance(settings, known.MapExportSettings) and find_spec("zarr") is None:
        raise missing_extra("keeping maps", "zarr", "maps")
    kept = None
    if isinstance(settings, known.ConfusionSettings):  # which also read stored maps
        from chiaroscuro.data.stored import StoredMaps

        kept = StoredMaps.find_in(settings.data)
    if kept is not None and run.model == DEFAULT_MODEL:
        saved = saved or kept.export.model
    locate(settings.data if kept is None else kept.export.settings.data, run.data_root)
    check_startable(run.out, kind, resume=run.resume, overwrite=run.force)
    own = ("out", "resume", "workers", "data_root", "check", "strict", "shard")
    options = vars(settings) | {n: value for n, value in vars(run).items() if n in own}
    options["engine"] = run.engine if run.ray_address is None else f"ray:{run.ray_address}"
    with _working(run, settings.threads) as bars:
        classifier = _load(run.model, run) if saved is None else _load(saved, run, _load_named)
        result = getattr(chiaroscuro, verb)(
            classifier,
            **options,
            overwrite=run.force,
            progress=partial(bars.show, "images"),
        )
    lines = [*import_module(kind.view.partition(":")[0]).lines(result)]
    if run.shard is not None:
        lines.append(f"shard {run.shard} alone: join all with chiaroscuro merge")
    _print_run(run, result, lines, run.out)


def _print_run(
    run: commands.OutputOptions | commands.StoredOptions, result: Any, lines: list[str], out: Path
) -> None:
    """Print what was measured and why images were left out, of which the exit status tells too."""
    lines += [f"left out, {one.count:,}: {one.text}" for one in result.data.reasons]
    _print(run, results.facts_of(result), lines, out)
    if result.data.left_out_count:
        raise typer.Exit(LEFT_OUT)


def merge(run: commands.MergeOptions) -> None:
    """Join shards, print what the whole is."""
    kind = kind_of_shard(run.shards[0])
    if run.check is not None and kind != results.KINDS["evaluation"]:
        raise ChoiceError(f"--check is for shards of evaluate: these are of {kind.name}")
    _, options = _settings_of(kind, run.shards[0])
    out = run.out or options.__dataclass_fields__["out"].default
    if kind == results.KINDS["map-export"]:  # which need neither network nor data
        for name in ("model", "data_root", "device"):
            if getattr(run, name) is not None:
                flag = f"--{name.replace('_', '-')}"
                raise ChoiceError(f"stored maps are joined without network and data: no {flag}")
        from chiaroscuro.results import maps

        result = chiaroscuro.merge_maps(run.shards, out, overwrite=run.force)
        _print_run(run, result, [*maps.lines(result)], out)
        return
    chiaroscuro.merge_runs(run.shards, out, overwrite=run.force)
    given = {} if run.check is None else {"check": run.check}
    try:
        _resume(run, kind, out, quiet=run.quiet, as_json=run.as_json, **given)
    except OtherConfigurationError as error:
        advice = "give the network and the data that they were computed with"
        raise ResultError(
            f"the shards are of another configuration ({error.said}): {advice}, and merge once more"
        ) from error


def convert(run: commands.ConvertOptions) -> None:
    """Write kept maps in another form, show progress, print the folder."""
    with watching(_told(run)) as bars:
        chiaroscuro.convert_maps(
            run.maps,
            run.out,
            run.to,
            data_root=run.data_root,
            progress=partial(bars.show, "images"),
        )
    _print(run, {"folder": str(run.out)}, [f"{run.to} -> {run.out.resolve()}"])


def copy(run: commands.CopyOptions) -> None:
    """Copy a result, show progress, print where it is."""
    with watching(_told(run)) as bars:
        target = chiaroscuro.copy_result(
            run.source, run.target, overwrite=run.force, progress=partial(bars.show, "parts")
        )
    _print(run, {"target": target}, [f"{run.source} -> {target}"])


def _load_named(model: ModelFacts) -> "chiaroscuro.Classifier":
    from chiaroscuro.explanations.comparison import load_named

    return load_named(model)


def verify(run: commands.VerifyOptions) -> None:
    """Check a result, repair it if asked, print what is wrong; exit status 1 where anything is."""
    found = results.verification(run.folder)
    if run.repair and not found.whole:
        with suppress(typer.Exit):  # that images were left out is no damage
            _repair(run, results.KINDS[found.kind], found)
        found = results.verification(run.folder)
    if run.as_json:
        typer.echo(json.dumps(results.facts_of(found) | {"whole": found.whole}))
    elif not run.quiet:
        for line in found.lines():
            say(line)
    if not found.whole:
        raise typer.Exit(1)


def _repair(run: commands.VerifyOptions, kind: results.Kind, found: results.Verification) -> None:
    """Resume a run as it was begun; what is whole is kept, also a page's link to its check."""
    _settings_of(kind, run.folder)  # for its error
    if kind.marker in found.damaged:
        restore_marker(run.folder)
    names = ("workers", "engine", "ray_address")
    watched = [f.name for f in fields(commands.WatchedOptions)]
    given = {name: getattr(run, name) for name in (*names, *watched)}
    if kind.name == "evaluation":
        result = results.folders.read_marker(run.folder, kind).result or {}
        page = result.get("check_page")
        given["check"] = (run.folder / page).parent if page else None
    _resume(run, kind, run.folder, quiet=True, shard=found.shard or None, **given)


def _settings_of(kind: results.Kind, folder: Path) -> tuple[Any, Any]:
    """The settings and the options of the command that makes a run of some kind."""
    made_by = {name: settings for settings, (_, name) in _VERBS.items()}
    if kind.name not in made_by:
        said = f"this is for runs over image sets, {', '.join(made_by)}; compute it once more"
        raise ResultError(f"{folder} is of kind {kind.name}: {said}")
    made = made_by[kind.name]
    return made, next(row.groups[1] for row in commands.COMMANDS if made in row.groups)


def _resume(run: commands.ResumeOptions, kind: results.Kind, out: Path, **given: Any) -> None:
    """Resume a run in `out` as it was begun, with the network and data that it names or `run`."""
    config, (made, options) = read_config(out, kind, RunConfig), _settings_of(kind, out)
    try:
        settings = made(**config.settings)
    except (ChoiceError, TypeError) as error:
        advice = "resume it from Python (resume=True)"
        raise ResultError(
            f"{out}: its settings have no names to repeat them by ({error}): {advice}"
        ) from error
    check_named_again(settings.data, run.data_root)
    given |= {} if run.model is None else {"model": run.model}
    device = run.device or config.model.device
    asked = options(out=out, resume=True, device=device, data_root=run.data_root, **given)
    measure(settings, asked, None if run.model else config.model)


def train(settings: known.TrainingSettings, run: commands.TrainOptions) -> None:
    """Train, show progress, print the last epoch's figures and the folder."""
    locate(settings.data, run.data_root)
    results.check_free(run.out, results.KINDS["model"], overwrite=run.force)
    with _working(run, run.threads) as bars:
        from chiaroscuro.training import train as train_network
        from chiaroscuro.training.files import LOG, read_log

        train_network(
            settings.data,
            run.out,
            settings=settings,
            resume=run.resume,
            overwrite=run.force,
            device=_device(run.device),
            data_root=run.data_root,
            watcher=training_watcher(bars, quiet=run.quiet),
        )
    last = read_log(run.out / LOG)[-1]
    _print(run, {**asdict(last), "folder": str(run.out)}, [f"{_epoch_line(last)} -> {run.out}"])


def training_watcher(bars: Watch, *, quiet: bool) -> "Watcher":
    """Bars for images read and steps learned, and a line for every epoch."""
    from chiaroscuro.training.files import Watcher

    def on_batch(epoch: int, epochs: int, batch: int, batches: int) -> None:
        bars.show(f"steps of {epochs} epochs", (epoch - 1) * batches + batch, epochs * batches)

    return Watcher(bars.show, on_batch, lambda row: quiet or bars.say(_epoch_line(row)))


def _epoch_line(row: "EpochRow") -> str:
    tested = "" if row.test_accuracy is None else f", test accuracy {row.test_accuracy:.4f}"
    learned = f"epoch {row.epoch}: loss {row.loss:.4f}, train accuracy {row.train_accuracy:.4f}"
    return f"{learned}{tested} ({row.seconds:.1f} s)"


def reproduce(run: commands.ReproduceOptions) -> None:
    """Reproduce, show progress, print the page's path; exit status 1 if an experiment failed."""
    folder = run.out or Path("chiaroscuro-paper-quick" if run.quick else "chiaroscuro-paper")
    failed: dict[str, str] = {}
    with _working(run, run.threads) as bars:
        from chiaroscuro import reproduction

        def on_missing(experiment: reproduction.Experiment, reason: str) -> None:
            failed[experiment.name] = reason
            say(f"chiaroscuro: {experiment.name}: {reason}", err=True)

        options = {f.name: getattr(run, f.name) for f in fields(reproduction.ReproductionSettings)}
        reproduction.reproduce(
            reproduction.ReproductionSettings(**options | {"experiments": run.experiments or ()}),
            folder,
            workers=run.workers,
            device=_device(run.device),
            watcher=reproduction.ReproductionWatcher(
                training_watcher(bars, quiet=run.quiet),
                lambda experiment: None if run.quiet else say(experiment.title, err=True),
                bars.show,
                on_missing,
            ),
        )
    _print(run, {"folder": str(folder), "missing": failed}, (), folder)
    if failed:
        raise typer.Exit(1)


def serve(run: commands.ServeOptions) -> None:
    """Load the first network, print the page's address, and serve until interrupted."""
    _check_photos(run.photos or ())
    _wait_as_asked(run)
    import torch

    from chiaroscuro import web

    tune_allocator()
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    settings = web.ServerSettings(
        models=run.models,
        host=run.host,
        port=run.port,
        device=_device(run.device),
        photos=run.photos or (),
        texts=next(filter(None, map(run.texts, run.models)), None),
        seconds=run.time_limit,
        stored=run.stored or (),
    )
    web.serve(settings, browse=run.browse, say=lambda address: say(f"{address} (Ctrl+C ends)"))
