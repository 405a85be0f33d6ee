"""A task over an image set, batch by batch, into a folder that can be resumed."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from chiaroscuro.catalog import versions
from chiaroscuro.choices import ENGINES, check_names
from chiaroscuro.classifier import Classifier
from chiaroscuro.data.images import Batch, ImageSet, read_batches
from chiaroscuro.device import DeviceProfile, device_profile, profile_in_use
from chiaroscuro.errors import ChoiceError, InputError, NotFiniteError, ResultError
from chiaroscuro.passes.cluster import compute_on_ray
from chiaroscuro.passes.executor import compute, gpus_of
from chiaroscuro.results.facts import DataFacts, LeftOut, reasons_of
from chiaroscuro.results.folders import Receipt, forget_replaced, kind_in, read_marker
from chiaroscuro.results.kinds import Kind
from chiaroscuro.results.runs import (
    Part,
    RunConfig,
    RunFolder,
    check_config,
    fitting,
    missing_parts,
    open_run,
    read_config,
    share_of,
)
from chiaroscuro.results.store import load, verify

Progress = Callable[[int, int | None, int], object]
"""Called with (images done, images in all or None, of those done before this session)."""
Parts = Callable[[], Iterable[Part]]
"""Reads all parts of a run, as often as it is called."""
Result = TypeVar("Result")
_LOG = logging.getLogger("chiaroscuro.passes")
LISTED = 50
"""So many images that were left out are listed; all are counted."""


def silent(done: int, total: int | None, before: int) -> None:
    """Report no progress."""


class Task(Protocol[Result]):
    """What a pass measures: a frozen, picklable dataclass, of which every process gets a copy."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def kind(self) -> Kind:
        """How the result is saved."""

    @property
    def settings(self) -> Any:
        """What decides the result, `batch` and `threads` as fixed at the beginning."""

    def set_up(self, classifier: Classifier, images: ImageSet) -> "Task[Result]":
        """The task with what all batches share; raises for what cannot be measured."""

    def facts(self) -> Mapping[str, Any]:
        """What decides the parts besides settings, images and network, as JSON keeps it."""

    def process(self, classifier: Classifier, batch: Batch) -> Part:
        """The part of one batch, always the same; `NotFiniteError` where an image is unusable."""

    def summarize(self, parts: Parts, run: RunConfig, images: ImageSet) -> Result:
        """The result of all `parts()`, which come in the order of their batches."""


def images_at_a_time(classifier: Classifier) -> int:
    """Images at a time: few enough that little is lost with one, enough to keep cores busy."""
    height, width = classifier.size or (224, 224)
    return max(1, min(256, round(1_200_000 / (classifier.channels * height * width))))


def data_facts(
    images: ImageSet, measured: int, left_out: Iterable[LeftOut], seed: int
) -> DataFacts:
    """How many images of a set were measured, and which could not be."""
    out, limit = tuple(left_out), images.limit
    shown, reasons = out[:LISTED], reasons_of(out)
    return DataFacts(images.source, images.split, measured, limit, seed, len(out), shown, reasons)


def part_of(
    batch: Batch,
    tables: Mapping[str, Any],
    files: Mapping[str, bytes] = {},
    left_out: Iterable[LeftOut] = (),
) -> Part:
    """A batch's part; `left_out`: images that reading let pass and the task could not use."""
    images = len(batch.ids) + len(batch.left_out)
    return Part(batch.number, images, tables, (*batch.left_out, *left_out), files)


def run_pass(
    task: Task[Result],
    classifier: Classifier,
    images: ImageSet,
    out: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
    engine: str = "local",
    strict: bool = False,
    shard: str | None = None,
    is_current: Callable[[Result], bool] = lambda result: True,
) -> Result:
    """Process every batch that has no whole part yet, then summarize all into the folder `out`.

    Batches follow the rows of the set; batch size, threads and the device's profile stay those of
    the beginning, so that any number of `workers` of any `engine` ("local": processes; "ray" or
    "ray:ADDRESS": actors, which write their parts themselves) writes the same bytes. A finished run
    is summarized once more unless its result `is_current`. `shard`, as "0/3", are the batches 0, 3,
    6 and so on: their summary is returned, and the run stays open for `merge_runs`. `strict` ends
    the pass at the first image that would be left out; what is done by then is kept.
    """
    if workers < 1:
        raise ChoiceError(f"workers is {workers}: expected at least 1")
    check_names("engine", [engine.partition(":")[0]], ENGINES)
    share = _share(shard, images)
    task = task.set_up(classifier, images)
    config = _configure(task, classifier, images, workers, Path(out) if resume else None)
    _check_share(share, shard, -(-(images.count or 0) // config.batch))
    with open_run(out, task.kind, config, resume=resume, overwrite=overwrite) as run:
        run.note_shard(shard)
        done = run.finished_parts()
        missing, expected = missing_parts(done, images.count, config.batch), images.count
        if expected is not None:
            mine = [n for n in range(-(-expected // config.batch)) if share(n)]
            missing = [n for n in missing if share(n)]
            expected = sum(min(config.batch, expected - n * config.batch) for n in mine)
        is_finished = read_marker(run.folder, task.kind).result is not None
        if is_finished and missing == [] and not verify(run.folder):
            with suppress(ResultError):  # what an older program summarized is done once more
                result: Result = load(run.folder, task.kind)
                if is_current(result):
                    return result
        done = {number: covered for number, covered in done.items() if share(number)}
        before = sum(done.values())
        _log("run resumed" if before else "run begun", out=out, images=expected, before=before)
        progress(before, expected, before)
        settings = replace(task.settings, batch=config.batch, threads=config.threads)
        task = replace(task, settings=settings)
        profile = DeviceProfile(**config.profile)
        parts = partial(_parts, task, classifier, images, config.batch, profile)
        amount = {"workers": workers, "threads": config.threads}
        for part in _made(run, config, parts, missing, classifier.device, engine, amount):
            _log("part written", logging.DEBUG, number=part.number, images=part.images)
            for one in part.left_out:
                _log("image left out", logging.WARNING, id=one.id, reason=one.reason)
            if strict and part.left_out:
                first = part.left_out[0]
                raise InputError(f"{first.id}: {first.reason} (strict: no image is left out)")
            done[part.number] = part.images
            progress(sum(done.values()), expected, before)
        covered = sum(done.values())
        if expected is not None and covered != expected:
            raise InputError(
                f"{images.source}: {expected} images are listed, {covered} were read: the data "
                "changed meanwhile; begin once more (overwrite=True, --force)"
            )
        made = partial(run.read_parts, sorted(done), tables_alone=True)
        with fitting(run.folder, "rows", OSError, MemoryError, RuntimeError):
            result = _summary(task, made, config, images, shard)
        if shard is None:
            run.finish(result)
        else:
            forget_replaced(run.folder)
        _log("run finished", out=out, images=covered)
    return result


def _summary(
    task: Task[Result], parts: Parts, config: RunConfig, images: ImageSet, shard: str | None
) -> Result:
    try:
        return task.summarize(parts, config, images)
    except InputError as error:
        if shard is None:
            raise
        raise InputError(f"shard {shard}: {error}; its parts are kept, to be joined") from error


def _share(shard: str | None, images: ImageSet) -> Callable[[int], bool]:
    """Which numbers of batches a shard has."""
    if shard is None:
        return lambda number: True
    first, step = share_of(shard)
    if images.count is None:
        raise ChoiceError(f"{images.source}: shards need data whose number of images is known")
    return lambda number: number % step == first


def _check_share(share: Callable[[int], bool], shard: str | None, count: int) -> None:
    if shard is not None and not any(map(share, range(count))):
        raise ChoiceError(f"shard is {shard}, of {count} batches: give no more shards than that")


def _log(event: str, level: int = logging.INFO, **facts: Any) -> None:
    """What happened, with its facts for a log that is read by programs."""
    _LOG.log(level, event, extra={"facts": facts})


PartJob = Callable[[Iterable[int]], Iterator[Part]]


def _made(
    run: RunFolder,
    config: RunConfig,
    parts: PartJob,
    missing: Iterable[int],
    device: torch.device,
    engine: str,
    amount: Any,
) -> Iterator[Receipt]:
    """Make parts with an engine; each is in its place when its receipt comes."""
    name, _, address = engine.partition(":")
    if name == "local":  # written here alone: a worker that outlives this process writes nothing
        for part in compute(parts, missing, gpus=gpus_of(device), **amount):
            yield run.write_part(part)
        return
    job = partial(_written, run, config, parts)
    for number in compute_on_ray(job, missing, device=str(device), address=address, **amount):
        if (receipt := run.receipt(number)) is None:
            raise ResultError(
                f"{run.folder}: a worker wrote part {number}, and it is not there: all nodes of "
                "a cluster must share the folder"
            )
        yield receipt


def _written(
    run: RunFolder, config: RunConfig, parts: PartJob, numbers: Iterable[int]
) -> Iterator[int]:
    """Make parts and write them where they are made, unless another run has the folder by then."""
    for part in parts(numbers):
        check_config(run.folder, run.kind, config)
        run.write_part(part)
        yield part.number


def _parts(
    task: Task[Any],
    classifier: Classifier,
    images: ImageSet,
    size: int,
    profile: DeviceProfile,
    numbers: Iterable[int],
) -> Iterator[Part]:
    channels, rgb_only = classifier.channels, task.settings.rgb_only
    for batch in read_batches(
        images, classifier.framing, size, channels=channels, numbers=numbers, rgb_only=rgb_only
    ):
        with profile_in_use(profile):
            part = _process(task, classifier, batch)
        yield part


def _process(task: Task[Any], classifier: Classifier, batch: Batch) -> Part:
    """The part of a batch; images with logits or gradients that are no numbers are left out."""
    with suppress(NotFiniteError):
        return task.process(classifier, batch)
    faults, places = dict[int, str](), range(len(batch.ids))
    for place in places:
        try:
            task.process(classifier, batch.without({n: "" for n in places if n != place}))
        except NotFiniteError as error:
            faults[place] = str(error)
    return task.process(classifier, batch.without(faults))


def _configure(
    task: Task[Any], classifier: Classifier, images: ImageSet, workers: int, kept: Path | None
) -> RunConfig:
    """Everything that decides the parts; what the settings leave open is as in a run `kept`."""
    settings, profile = task.settings, device_profile(classifier.device)
    if kept is not None and kind_in(kept) == task.kind:
        before = read_config(kept, task.kind, RunConfig)
        batch, threads = before.batch, before.threads
        if before.profile.keys() == profile.describe().keys():  # a GPU has other memory free now
            profile = device_profile(kept=DeviceProfile(**before.profile))
    else:
        batch, threads = images_at_a_time(classifier), _threads(workers)
    return RunConfig(
        settings={**settings.plain(), "batch": None, "threads": None},
        batch=settings.batch or batch,
        threads=settings.threads or threads,
        split=images.split,
        rows=images.count,
        labels=images.labels,
        files=images.fingerprint(),
        facts=dict(task.facts()),
        profile=profile.describe(),
        model=classifier.describe(digest=True),
        versions=versions("datasets", "pyarrow"),  # which read images, where installed
    )


def _threads(workers: int) -> int:
    """The CPU threads of one worker: PyTorch's own, or its share of the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return torch.get_num_threads() if workers == 1 else max(1, (cores or 1) // workers)
