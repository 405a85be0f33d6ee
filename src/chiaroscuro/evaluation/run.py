"""An evaluation: a classifier's maps over an image set, as a pass that can be resumed."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from chiaroscuro.choices import parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.data.images import Batch, ImageSet
from chiaroscuro.data.loading import load_images
from chiaroscuro.errors import InputError, ResultError
from chiaroscuro.evaluation.deletion import match_classes
from chiaroscuro.evaluation.examples import example_files, example_places
from chiaroscuro.evaluation.metrics import METRICS, WHAT_IF, Metric
from chiaroscuro.evaluation.rows import Sums, in_image_order
from chiaroscuro.evaluation.stacks import measure
from chiaroscuro.explanations.single import make_method
from chiaroscuro.passes.runner import Parts, Progress, data_facts, part_of, run_pass, silent
from chiaroscuro.results import KINDS, PAGE, load
from chiaroscuro.results.facts import DataFacts, LeftOut
from chiaroscuro.results.measurements import Evaluation, Figures, SanityCheck
from chiaroscuro.results.runs import Part, RunConfig
from chiaroscuro.settings import EvaluationSettings, settings_from, takes

S = TypeVar("S", bound=Sums)


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
    engine: str = "local",
    strict: bool = False,
    shard: str | None = None,
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
    processes that share the images; `engine`: "ray" for actors of a Ray cluster in their place,
    "ray:ADDRESS" of that one. `strict`: the first image that cannot be used ends the run, instead
    of being left out and counted. `shard`: "i/n" is batches i, i + n, i + 2n, ... alone, with i
    from 0, into a folder of their own; `merge_runs` joins such folders. `data_root`: see
    `load_images`. `check`: the folder of a sanity check of the same network, which the page shows.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` holds something
    else or a run of another configuration.
    """
    chosen = settings_from(EvaluationSettings, settings, {"data": data, **options})
    task = _EvaluationTask(chosen)
    if check is not None:
        found: SanityCheck = load(check, KINDS["check"])
        if found.model.sha256 != classifier.describe(digest=True).sha256:
            raise ResultError(
                f"{check} is a check of {found.model.name} with other weights than those of "
                f"{classifier.name}: check this network, or leave the check out"
            )
        page = Path(os.path.relpath(Path(check) / PAGE, out)).as_posix()
        task = replace(task, check=found, check_page=page)
    images = load_images(**chosen.source, root=data_root)

    def is_current(old: Evaluation) -> bool:
        return (old.check, old.check_page) == (task.check, task.check_page)

    return run_pass(
        task,
        classifier,
        images,
        out,
        resume,
        overwrite,
        workers,
        progress,
        engine,
        strict,
        shard,
        is_current,
    )


@dataclass(frozen=True)
class _EvaluationTask:
    """See `Task`. `method` and `names` are set by `set_up`, `examples` are places of images."""

    settings: EvaluationSettings
    check: SanityCheck | None = None
    check_page: str = ""
    method: Any = None
    names: Any = None
    examples: frozenset[int] = frozenset()
    kind: ClassVar = KINDS["evaluation"]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        extra = () if self.settings.what_if is None else (WHAT_IF,)
        chosen = (*self.settings.metrics, *extra)
        return tuple(METRICS[one] if isinstance(one, str) else one for one in chosen)

    def set_up(self, classifier: Classifier, images: ImageSet) -> "_EvaluationTask":
        parse_rivals(self.settings.rivals).resolve(classifier.class_index)  # for its errors
        return replace(
            self,
            method=make_method(self.settings.method_options, classifier),
            names=match_classes(classifier, images.labels),
            examples=example_places(images),
        )

    def facts(self) -> Mapping[str, Any]:
        return {"method": describe_method(self.method)}

    def process(self, classifier: Classifier, batch: Batch) -> Part:
        stacks = list(measure(classifier, batch, self.settings, self.method))
        tables = {}
        for metric in self.metrics:
            rows = [(stack.places, metric.rows(stack)) for stack in stacks]
            tables[metric.name] = in_image_order(rows, metric.schema)
        first, labels = batch.number * (self.settings.batch or 0), self.names.names
        return part_of(batch, tables, example_files(stacks, self.examples, first, labels))

    def summarize(self, parts: Parts, run: RunConfig, images: ImageSet) -> Evaluation:
        names, settings = self.names, self.settings
        begin = {metric.name: metric.sums for metric in self.metrics}
        sums, data = add_up(parts(), begin, images, settings, names)
        found = [sums[name].figures() for name in begin]
        rows = {
            field.name: tuple(row for one in found for row in getattr(one, field.name))
            for field in fields(Figures)
            if field.name != "accuracy"
        }
        return Evaluation(
            settings=settings,
            data=data,
            model=run.model,
            accuracy=next((one.accuracy for one in found if one.accuracy is not None), None),
            **rows,
            accuracy_note=names.note,
            versions=run.versions,
            check=self.check,
            check_page=self.check_page,
        )


def add_up(
    parts: Iterable[Part],
    begin: Mapping[str, Callable[..., S]],
    images: ImageSet,
    settings: Any,
    *about: Any,
    fault: str = "can be used",
) -> tuple[dict[str, S], DataFacts]:
    """Sums of each table's rows, each begun with its first rows, and which images were measured.

    Raises `InputError` with the `fault` where no image was.
    """
    sums: dict[str, S] = {}
    left_out: list[LeftOut] = []
    listed = 0
    for part in parts:
        listed += part.images
        left_out += part.left_out
        for name, table in part.tables.items():
            if len(table):
                if name not in sums:
                    sums[name] = begin[name](table, settings, *about)
                sums[name].add(table)
    if not sums:
        first = f"; the first because: {left_out[0].id}: {left_out[0].reason}" if left_out else ""
        raise InputError(
            f"{images.source}: no image of {images.split} {fault} ({len(left_out)} left out{first})"
        )
    return sums, data_facts(images, listed - len(left_out), left_out, settings.seed)


def describe_method(method: Any) -> Mapping[str, Any]:
    """A method with its settings and the hash of its background, by which runs are compared."""
    found: Mapping[str, Any]
    found = getattr(method, "describe", lambda: {"name": type(method).__name__})()
    return found
