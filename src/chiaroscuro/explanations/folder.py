"""Many photos into one folder of explanations; a photo that fails never stops the others."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from chiaroscuro import results
from chiaroscuro.choices import SCALES, Scale, check_names, method_name, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.classifier.regions import mask_of
from chiaroscuro.errors import ChiaroscuroError, ResultError, first_line, printable
from chiaroscuro.explanations.single import class_index, explain, make_method
from chiaroscuro.files import leads_out
from chiaroscuro.gradients import Method
from chiaroscuro.passes.executor import compute, gpus_of
from chiaroscuro.regions import parse_region
from chiaroscuro.report.explanation import color_limits, shared_limits
from chiaroscuro.results import FIGURE, KINDS
from chiaroscuro.results.explanations import ColorLimits, Explanation, Gallery, GalleryEntry
from chiaroscuro.results.facts import ModelFacts
from chiaroscuro.results.folders import digest, read_marker
from chiaroscuro.results.runs import check_config
from chiaroscuro.results.store import check_page_free, save_page
from chiaroscuro.stopwatch import timed

_LOG = logging.getLogger(__name__)


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


def explain_files(
    classifier: Classifier,
    jobs: Sequence[PhotoJob],
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    threads: int | None = None,
    scale: Scale = "image",
    figure: bool = False,
    on_image: Callable[[int, int, Path], object] | None = None,
    on_class: Callable[[int, int], object] | None = None,
) -> Iterator[Outcome]:
    """Explain photos one by one into their folders below `out`, with a gallery page over them.

    `resume` keeps explanations that are whole and of the same photo, options and weights; others
    are an error, unless `overwrite` replaces them. `threads`: of each process; the same number
    gives the same files with any `workers`. While a photo is drawn and written, the next one is
    computed; an outcome comes once its files are there. `figure`: also every map on one PNG. With
    `scale="shared"` pictures are drawn once more when all limits are known, each map on the
    largest, and outcomes come then. An error of a photo becomes its outcome. `on_image` gets
    (photos done, photos in all, the one that starts).
    """
    check_names("scale", [scale], SCALES)
    jobs = [replace(job, options=_resolved(classifier, job.options)) for job in jobs]
    out, shared = Path(out), scale == "shared"
    check_page_free(out, KINDS["gallery"])
    done: list[PhotoJob] = []
    limits: list[ColorLimits] = []
    entries: dict[str, GalleryEntry] = {}
    watched, facts = on_class if workers == 1 else None, classifier.describe(digest=True)
    work = _Photos(classifier, tuple(jobs), out, resume, overwrite, figure, watched, facts)
    share = threads or max(1, torch.get_num_threads() // workers)
    gpus, numbers = gpus_of(classifier.device), range(len(jobs))
    outcomes = _in_order(compute(work, numbers, workers=workers, threads=share, gpus=gpus))

    def started() -> Iterator[PhotoJob]:
        for number, job in enumerate(jobs):
            if on_image is not None:
                on_image(number, len(jobs), job.path)
            yield job

    for job, outcome in zip(started(), outcomes, strict=True):
        explanation = outcome.explanation
        if explanation is not None:
            done.append(job)
            limits += [color_limits(explanation)] if shared else []
            where, about = job.folder.as_posix(), (explanation.image.source, explanation.target)
            more = explanation.model.name, explanation.choices.rivals
            entries[where] = GalleryEntry(where, *about, *more, shared)
        if not shared and explanation is not None and explanation.color_limits is not None:
            yield _redrawn(job, out / job.folder, None, figure=figure)
        elif outcome.error is not None or not shared:
            yield outcome
    for job in done if shared else ():
        yield _redrawn(job, out / job.folder, shared_limits(limits), figure=figure)
    if entries:
        save_page(out, KINDS["gallery"], lambda older: _gallery(out, older, entries))


def _resolved(classifier: Classifier, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `explain` with class names as indices; raises for what is unknown."""
    rivals = parse_rivals(options.get("rivals", "all")).resolve(classifier.class_index)
    target = class_index(classifier, options.get("target"))
    return {**options, "rivals": rivals, "target": target}


def _in_order(pairs: Iterable[tuple[int, Outcome]]) -> Iterator[Outcome]:
    """Outcomes by number, those held back that come before their turn."""
    waiting: dict[int, Outcome] = {}
    turn = 0
    for number, outcome in pairs:
        waiting[number] = outcome
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1


@dataclass(frozen=True)
class _Photos:
    """Photos by number to outcomes, in this process or another."""

    classifier: Classifier
    jobs: tuple[PhotoJob, ...]
    out: Path
    resume: bool
    overwrite: bool
    figure: bool
    on_class: Callable[[int, int], object] | None
    model: ModelFacts

    def __call__(self, numbers: Iterable[int]) -> Iterator[tuple[int, Outcome]]:
        """Outcomes; a thread draws and writes one photo while the next one is computed."""
        with ThreadPoolExecutor(1, "drawing") as thread:
            before: tuple[int, Future[Outcome]] | None = None
            for number in numbers:
                finish = self._computed(self.jobs[number])
                drawn = _waited(before)  # so that one photo at most is held back
                before = number, thread.submit(self._outcome, self.jobs[number], finish)
                yield from drawn
            yield from _waited(before)

    def _outcome(self, job: PhotoJob, finish: Callable[[], Explanation]) -> Outcome:
        try:
            return Outcome(job.path, self.out / job.folder, finish())
        except Exception as error:  # whatever one photo does, the others go on
            name, text = printable(job.path), str(error)
            _LOG.info("%s failed", name, exc_info=True)
            if not isinstance(error, ChiaroscuroError):
                error = ChiaroscuroError(f"{name}: {type(error).__name__}: {first_line(error)}")
            elif name not in text and not isinstance(error, ResultError):  # of an array, a region
                error = type(error)(f"{name}: {text}")
            return Outcome(job.path, error=error)

    def _computed(self, job: PhotoJob) -> Callable[[], Explanation]:
        """What is left to do for a photo: to write its explanation, or to raise what went wrong."""
        try:
            return self._explained(job)
        except Exception as error:
            return partial(_raise, error)

    def _explained(self, job: PhotoJob) -> Callable[[], Explanation]:
        folder, kind, overwrite = self.out / job.folder, KINDS["explanation"], self.overwrite
        sha256 = digest(job.path).sha256 if job.path.is_file() else ""  # reading tells what it is
        options = _plain(job, self.classifier)
        config = {"photo": sha256, "options": options, "model": self.model}
        if self.resume and results.kind_in(folder) == kind:
            try:
                check_config(folder, kind, config, "an explanation")
                if not results.verify(folder):
                    kept = Explanation.load(folder)
                    if self.figure and not (folder / FIGURE).exists():
                        return partial(self._written, kept, folder, True, config)
                    return lambda: kept
                overwrite = True  # the same one, but damaged
            except ResultError:
                if not overwrite:
                    raise
        results.check_free(folder, kind, overwrite=overwrite)
        explanation = explain(self.classifier, job.path, progress=self.on_class, **job.options)
        explanation = replace(
            explanation, model=replace(self.model, region=explanation.model.region)
        )
        return partial(self._written, explanation, folder, overwrite, config)

    def _written(
        self, explanation: Explanation, folder: Path, overwrite: bool, config: Any
    ) -> Explanation:
        results.save(explanation, folder, overwrite=overwrite, config=config, figure=self.figure)
        return explanation


def _waited(drawn: tuple[int, Future[Outcome]] | None) -> list[tuple[int, Outcome]]:
    """The photo that the thread has, once it is written."""
    with timed("drawing"):
        return [] if drawn is None else [(drawn[0], drawn[1].result())]


def _raise(error: Exception) -> Explanation:
    raise error


def _plain(job: PhotoJob, classifier: Classifier) -> dict[str, Any]:
    """Options as JSON keeps them, a background and a mask by their hashes."""
    options, region = job.options, job.options.get("region")
    method = make_method(options.get("method", "gradient"), classifier)
    facts = method.describe() if isinstance(method, Method) else method_name(method)
    kept = {name: value for name, value in options.items() if name not in ("method", "rivals")}
    if region is not None:
        part = parse_region(region)
        mask = None if part.values is None else mask_of(part.values, job.path.name)
        kept["region"] = str(part) if mask is None else f"{part} {digest(mask.tobytes()).sha256}"
    return {**kept, "rivals": str(options["rivals"]), "method": facts}


def _redrawn(job: PhotoJob, folder: Path, limits: ColorLimits | None, *, figure: bool) -> Outcome:
    """An explanation drawn on limits that several share, or on its own."""
    saved = Explanation.load(folder)
    if saved.color_limits != limits:
        config = read_marker(folder, KINDS["explanation"]).config
        saved, figure = replace(saved, color_limits=limits), figure or (folder / FIGURE).exists()
        with timed("drawing"):
            results.save(saved, folder, overwrite=True, config=config, figure=figure)
    return Outcome(job.path, folder, saved)


def _gallery(out: Path, older: Gallery | None, entries: Mapping[str, GalleryEntry]) -> Gallery:
    """The new entries, and those of the older gallery whose explanations are still there."""
    known = older.entries if older else ()
    own = [e for e in known if not leads_out(out / e.folder, out)]
    kept = [e for e in own if results.kind_in(out / e.folder) == KINDS["explanation"]]
    listed = {**{e.folder: e for e in kept}, **entries}
    return Gallery(tuple(listed[folder] for folder in sorted(listed)))
