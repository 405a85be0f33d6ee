"""An evaluation: a classifier's maps over an image set, as a pass that can be resumed."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from chiaroscuro.classifier import Classifier
from chiaroscuro.data import Batch, ImageSet, load_images
from chiaroscuro.errors import InputError, ResultError
from chiaroscuro.evaluation.classes import ClassNames, match_classes
from chiaroscuro.evaluation.columns import in_image_order
from chiaroscuro.evaluation.examples import example_files, example_places
from chiaroscuro.evaluation.metrics import Metric, Sums, chosen_metrics
from chiaroscuro.evaluation.stacks import measure, rival_rule
from chiaroscuro.explanations.reading import make_method
from chiaroscuro.passes import Progress, data_facts, part_of, run_pass, silent
from chiaroscuro.results import KINDS, PAGE, Kind, load
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.measurements import Evaluation, Figures, SanityCheck
from chiaroscuro.results.runs import Part, RunConfig
from chiaroscuro.settings import EvaluationSettings, settings_from, takes


@takes(EvaluationSettings)
def evaluate(
    classifier: Classifier,
    data: str | Path,
    out: str | Path,
    *,
    check: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    data_root: str | Path | None = None,
    progress: Progress = silent,
    settings: EvaluationSettings | None = None,
    **options: Any,
) -> Evaluation:
    """Measure a classifier's maps over an image set, by deletion unless other metrics are chosen.

    `data`: a folder of class folders or photos, a Parquet file, `cifar10`, `imagenette` or
    OWNER/NAME of the hub; `settings`: an `EvaluationSettings`, which options replace in part.
    The folder `out` gets the rows of every metric as Parquet (one file per batch), curves as PNG
    and SVG, and index.html. Interrupted at any moment, a run is resumed by `resume`. `workers`:
    processes that share the images. `data_root`: see `load_images`. `check`: the folder of a
    sanity check of the same network, which the page then shows.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` holds something
    else or a run of another configuration.
    """
    chosen = settings_from(EvaluationSettings, settings, {"data": data, **options})
    shown = None if check is None else _read_check(Path(check), classifier)
    link = "" if check is None else Path(os.path.relpath(Path(check) / PAGE, out)).as_posix()
    images = load_images(**chosen.source, root=data_root)
    task = EvaluationTask(chosen, check=shown, check_page=link)
    return run_pass(
        task,
        classifier,
        images,
        out,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        progress=progress,
        is_current=lambda old: (old.check, old.check_page) == (shown, link),
    )


def _read_check(folder: Path, classifier: Classifier) -> SanityCheck:
    """A sanity check; raises `ResultError` for another network's."""
    check: SanityCheck = load(folder, KINDS["check"])
    if check.model.sha256 != classifier.describe(digest=True).sha256:
        raise ResultError(
            f"{folder} is a check of {check.model.name} with other weights than those of "
            f"{classifier.name}: check this network, or leave the check out"
        )
    return check


@dataclass(frozen=True)
class EvaluationTask:
    """See `Task`. `method` and `names` are set by `set_up`, `examples` are places of images."""

    settings: EvaluationSettings
    check: SanityCheck | None = None
    check_page: str = ""
    method: Any = None
    names: ClassNames | None = None
    labels: tuple[str, ...] | None = None
    examples: frozenset[int] = frozenset()
    kind: ClassVar[Kind] = KINDS["evaluation"]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured."""
        return chosen_metrics(self.settings)

    def set_up(self, classifier: Classifier, images: ImageSet) -> "EvaluationTask":
        """See `Task`."""
        rival_rule(classifier, self.settings.rivals)
        return replace(
            self,
            method=make_method(self.settings.method_options, classifier),
            names=match_classes(classifier, images.labels),
            labels=images.labels,
            examples=example_places(images),
        )

    def facts(self) -> Mapping[str, Any]:
        """See `Task`."""
        return {"method": describe_method(self.method)}

    def process(self, classifier: Classifier, batch: Batch) -> Part:
        """See `Task`."""
        stacks = list(measure(classifier, batch, self.settings, self.method))
        places = [stack.places for stack in stacks]
        tables = {
            metric.name: in_image_order(
                [metric.rows(stack) for stack in stacks], places, metric.schema
            )
            for metric in self.metrics
        }
        first = batch.number * (self.settings.batch or 0)
        return part_of(batch, tables, example_files(stacks, self.examples, first, self.labels))

    def summarize(self, parts: Iterable[Part], run: RunConfig, images: ImageSet) -> Evaluation:
        """See `Task`."""
        assert self.names is not None
        sums: dict[str, Sums] = {}
        left_out: list[LeftOut] = []
        listed = 0
        for part in parts:
            listed += part.images
            left_out += part.left_out
            for metric in self.metrics:
                table = part.tables[metric.name]
                if len(table):
                    if metric.name not in sums:
                        sums[metric.name] = metric.sums(table, self.settings, self.names)
                    sums[metric.name].add(table)
        if listed == len(left_out):
            raise no_image(images, left_out)
        return Evaluation(
            settings=self.settings,
            data=data_facts(images, listed - len(left_out), left_out, self.settings.seed),
            model=run.model,
            **vars(_together([one.figures() for one in sums.values()])),
            accuracy_note=self.names.note,
            versions=run.versions,
            check=self.check,
            check_page=self.check_page,
        )


def no_image(images: ImageSet, left_out: list[LeftOut]) -> InputError:
    """The error of a run that has nothing to measure."""
    first = f"; the first because: {left_out[0].id}: {left_out[0].reason}" if left_out else ""
    return InputError(
        f"{images.source}: no image of {images.split} can be used ({len(left_out)} left out{first})"
    )


def _together(figures: list[Figures]) -> Figures:
    """The figures of several metrics as one."""
    return Figures(
        accuracy=next((one.accuracy for one in figures if one.accuracy is not None), None),
        curves=tuple(row for one in figures for row in one.curves),
        differences=tuple(row for one in figures for row in one.differences),
        classes=tuple(row for one in figures for row in one.classes),
        what_if=tuple(row for one in figures for row in one.what_if),
        metrics=tuple(row for one in figures for row in one.metrics),
    )


def describe_method(method: Any) -> Mapping[str, Any]:
    """A method with its settings and the hash of its background, by which runs are compared."""
    describe = getattr(method, "describe", None)
    return describe() if callable(describe) else {"name": type(method).__name__}
