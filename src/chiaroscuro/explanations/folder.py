"""Many photos into one folder of explanations; a photo that fails never stops the others."""

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chiaroscuro.choices import SCALES, MethodOptions, Scale, check_names, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChiaroscuroError, ResultError, first_line, printable
from chiaroscuro.explanations.methods import make_method
from chiaroscuro.explanations.reading import class_index
from chiaroscuro.explanations.single import explain
from chiaroscuro.images import photo_folders
from chiaroscuro.passes import compute
from chiaroscuro.report.explanation import color_limits, shared_limits
from chiaroscuro.results import (
    KINDS,
    ColorLimits,
    Explanation,
    Gallery,
    GalleryEntry,
    ModelFacts,
    check_free,
    read_config,
    save,
    verify,
)
from chiaroscuro.results.folders import digest, kind_in
from chiaroscuro.results.store import check_page_free, save_page
from chiaroscuro.stopwatch import timed

_LOG = logging.getLogger(__name__)
OnImage = Callable[[int, int, Path], object]
"""Called with (images done, images in all, the one that starts, or ended in a worker)."""


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
    resume: bool = False,
    workers: int = 1,
    threads: int | None = None,
    scale: Scale = "image",
    on_image: OnImage | None = None,
    on_class: Callable[[int, int], object] | None = None,
) -> Iterator[Outcome]:
    """Explain photos into their folders below `out`, with a gallery page over them.

    `resume` keeps explanations that lie there whole, of the same photo, network and options.
    `workers` processes share the photos, each with `threads` CPU threads; outcomes come as they are
    done. With `scale="shared"` pictures are drawn once more when all limits are known, each map on
    the largest, and outcomes come then. Any error of one photo becomes its outcome, and its trace
    goes to the log `chiaroscuro` (level INFO). A class that the classifier does not know, and a
    page in `out` that is no gallery of ours, raise before any photo is read.
    """
    check_names("scale", [scale], SCALES)
    jobs = [dataclasses.replace(job, options=_resolved(classifier, job.options)) for job in jobs]
    out, shared = Path(out), scale == "shared"
    check_page_free(out, KINDS["gallery"])
    work = _Photos(classifier, jobs, out, overwrite, resume, classifier.facts(digest=True))
    if workers == 1:
        work = dataclasses.replace(work, on_image=on_image, on_class=on_class)
    limits: dict[int, ColorLimits] = {}
    entries: dict[str, GalleryEntry] = {}
    for done, (number, outcome) in enumerate(
        compute(work, range(len(jobs)), workers=workers, threads=threads), 1
    ):
        if on_image is not None and workers > 1:
            on_image(done, len(jobs), jobs[number].path)
        if outcome.explanation is not None:
            limits |= {number: color_limits(outcome.explanation)} if shared else {}
            entries[jobs[number].folder.as_posix()] = _entry(
                jobs[number], outcome.explanation, shared=shared
            )
        if outcome.error is not None or not shared:
            yield outcome
    for number in sorted(limits):
        job = jobs[number]
        yield _redrawn(job, out / job.folder, shared_limits(list(limits.values())))
    if entries:
        save_page(out, KINDS["gallery"], lambda older: _gallery(out, older, entries))


def _resolved(classifier: Classifier, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `explain` with class names as indices; raises for what is unknown."""
    rivals = parse_rivals(options.get("rivals", "all")).resolve(classifier.class_index)
    target = class_index(classifier, options.get("target"))
    return {**options, "rivals": rivals, "target": target}


@dataclass(frozen=True)
class _Photos:
    """Photos by number to outcomes; callbacks stay in this process."""

    classifier: Classifier
    jobs: Sequence[PhotoJob]
    out: Path
    overwrite: bool
    resume: bool
    model: ModelFacts
    on_image: OnImage | None = None
    on_class: Callable[[int, int], object] | None = None

    def set_up(self) -> Callable[[Iterable[int]], Iterator[tuple[int, Outcome]]]:
        """See `passes.Job`."""
        return self._outcomes

    def _outcomes(self, numbers: Iterable[int]) -> Iterator[tuple[int, Outcome]]:
        for number in numbers:
            job = self.jobs[number]
            if self.on_image is not None:
                self.on_image(number, len(self.jobs), job.path)
            yield number, self._explain(job)

    def _explain(self, job: PhotoJob) -> Outcome:
        folder = self.out / job.folder
        try:
            config = self._config(job) if job.path.is_file() else None
            if self.resume and (kept := _kept(folder, config)) is not None:
                return Outcome(job.path, folder, kept)
            check_free(folder, KINDS["explanation"], overwrite=self.overwrite)
            options = {**job.options, "progress": self.on_class}
            explanation = explain(self.classifier, job.path, **options)
            explanation = dataclasses.replace(explanation, model=self.model)
            with timed("drawing"):
                save(explanation, folder, overwrite=self.overwrite, config=config)
            return Outcome(job.path, folder, explanation)
        except Exception as error:  # whatever one photo does, the others go on
            _LOG.info("%s failed", printable(job.path), exc_info=True)
            if not isinstance(error, ChiaroscuroError):
                text = f"{job.path}: {type(error).__name__}: {first_line(error)}"
                error = ChiaroscuroError(text)
            return Outcome(job.path, error=error)

    def _config(self, job: PhotoJob) -> str:
        """What decides the explanation of a photo, as a hash: file, options and network."""
        method = job.options.get("method")
        if isinstance(method, MethodOptions):
            method = make_method(method, self.classifier).describe()
        known = (digest(job.path), {**job.options, "method": method}, self.model)
        return hashlib.sha256(repr(known).encode()).hexdigest()


def _kept(folder: Path, config: str | None) -> Explanation | None:
    """The explanation that lies in a folder whole, where it was made so."""
    try:
        if read_config(folder, KINDS["explanation"], str) == config and not verify(folder):
            return Explanation.load(folder)
    except ResultError:
        pass
    return None


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
