"""Many photos into one folder of explanations; a photo that fails never stops the others."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chiaroscuro.choices import SCALES, Scale, check_names, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChiaroscuroError, first_line, printable
from chiaroscuro.explanations.reading import class_index
from chiaroscuro.explanations.single import explain
from chiaroscuro.images import photo_folders
from chiaroscuro.report.explanation import color_limits, shared_limits
from chiaroscuro.results import (
    KINDS,
    ColorLimits,
    Explanation,
    Gallery,
    GalleryEntry,
    check_free,
)
from chiaroscuro.results.folders import kind_in
from chiaroscuro.results.store import check_page_free, save_page
from chiaroscuro.stopwatch import timed

_LOG = logging.getLogger(__name__)
OnImage = Callable[[int, int, Path], object]
"""Called with (images done, images in all, the one that starts)."""


@dataclass(frozen=True, slots=True)
class PhotoJob:
    """One photo to explain: its path, its folder below the output, and options of `explain`."""

    path: Path
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One photo: the folder of its explanation and the explanation, or the error."""

    source: Path
    folder: Path | None = None
    explanation: Explanation | None = None
    error: ChiaroscuroError | None = None


def plan_photos(
    sources: Iterable[str | Path], options: Mapping[str, Any] | None = None
) -> list[PhotoJob]:
    """One job a photo of files, folders and globs, with the folder that `photo_folders` names."""
    return [PhotoJob(path, f, dict(options or {})) for path, f in photo_folders(sources).items()]


def explain_files(
    classifier: Classifier,
    jobs: Sequence[PhotoJob],
    out: str | Path,
    *,
    overwrite: bool = False,
    scale: Scale = "image",
    on_image: OnImage | None = None,
    on_class: Callable[[int, int], object] | None = None,
) -> Iterator[Outcome]:
    """Explain photos one by one into their folders below `out`, with a gallery page over them.

    With `scale="shared"` pictures are drawn once more when all limits are known, each map on the
    largest, and outcomes come then. Any error of one photo becomes its outcome, and its trace goes
    to the log `chiaroscuro` (level INFO). A class that the classifier does not know, and a page in
    `out` that is no gallery of ours, raise before any photo is read.
    """
    check_names("scale", [scale], SCALES)
    jobs = [dataclasses.replace(job, options=_resolved(classifier, job.options)) for job in jobs]
    out, shared = Path(out), scale == "shared"
    check_page_free(out, KINDS["gallery"])
    done: list[PhotoJob] = []
    limits: list[ColorLimits] = []
    entries: dict[str, GalleryEntry] = {}
    for index, job in enumerate(jobs):
        if on_image is not None:
            on_image(index, len(jobs), job.path)
        outcome = _explain_one(classifier, job, out, on_class, overwrite=overwrite)
        if outcome.explanation is not None:
            done.append(job)
            limits += [color_limits(outcome.explanation)] if shared else []
            entries[job.folder.as_posix()] = _entry(job, outcome.explanation, shared=shared)
        if outcome.error is not None or not shared:
            yield outcome
    for job in done if shared else ():
        yield _redrawn(job, out / job.folder, shared_limits(limits))
    if entries:
        save_page(out, KINDS["gallery"], lambda older: _gallery(out, older, entries))


def _resolved(classifier: Classifier, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `explain` with class names as indices; raises for what is unknown."""
    rivals = parse_rivals(options.get("rivals", "all")).resolve(classifier.class_index)
    target = class_index(classifier, options.get("target"))
    return {**options, "rivals": rivals, "target": target}


def _explain_one(
    classifier: Classifier,
    job: PhotoJob,
    out: Path,
    on_class: Callable[[int, int], object] | None,
    *,
    overwrite: bool,
) -> Outcome:
    folder = out / job.folder
    try:
        check_free(folder, KINDS["explanation"], overwrite=overwrite)
        explanation = explain(classifier, job.path, progress=on_class, **job.options)
        with timed("drawing"):
            explanation.save(folder, overwrite=overwrite)
        return Outcome(job.path, folder, explanation)
    except Exception as error:  # whatever one photo does, the others go on
        _LOG.info("%s failed", printable(job.path), exc_info=True)
        if not isinstance(error, ChiaroscuroError):
            text = f"{job.path}: {type(error).__name__}: {first_line(error)}"
            error = ChiaroscuroError(text)
        return Outcome(job.path, error=error)


def _redrawn(job: PhotoJob, folder: Path, limits: ColorLimits) -> Outcome:
    """An explanation drawn once more, on limits that several share."""
    explanation = dataclasses.replace(Explanation.load(folder), color_limits=limits)
    with timed("drawing"):
        explanation.save(folder, overwrite=True)
    return Outcome(job.path, folder, explanation)


def _entry(job: PhotoJob, explanation: Explanation, *, shared: bool) -> GalleryEntry:
    return GalleryEntry(
        job.folder.as_posix(),
        explanation.image.source,
        explanation.target,
        explanation.model.name,
        explanation.choices.rivals,
        shared,
    )


def _gallery(out: Path, older: Gallery | None, entries: Mapping[str, GalleryEntry]) -> Gallery:
    """The new entries, and those of the older gallery whose explanations are still there."""
    known = {entry.folder: entry for entry in older.entries} if older else {}
    kept = {f: e for f, e in known.items() if kind_in(out / f) == KINDS["explanation"]}
    listed = {**kept, **entries}
    return Gallery(tuple(listed[folder] for folder in sorted(listed)))
