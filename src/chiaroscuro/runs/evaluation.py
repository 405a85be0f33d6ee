"""A classifier over an image set, batch by batch, into a folder that can be gone on with."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from chiaroscuro.choices import EvaluationSettings
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet, load_images, read_batches
from chiaroscuro.errors import InputError, ResultError, unwritable
from chiaroscuro.runs.accuracy import match_classes
from chiaroscuro.runs.config import check_same, describe_run
from chiaroscuro.runs.examples import example_rows, save_examples
from chiaroscuro.runs.pages import CHECK, read_check, write_page
from chiaroscuro.runs.rows import batch_rows, measure, rival_rule, what_if_rows
from chiaroscuro.runs.store import CONFIG, RunStore
from chiaroscuro.runs.summary import summarize

SUMMARY = "summary.json"

OnImages = Callable[[int, int | None, int], object]
"""Called with (images done, images in all or None, of those done before this session)."""


@dataclass(frozen=True)
class _Job:
    """A run under way: what is asked, where it lies, and what it was begun with."""

    classifier: Classifier
    images: ImageSet
    settings: EvaluationSettings
    store: RunStore
    config: dict[str, Any]

    @property
    def batch(self) -> int:
        """Images at a time, as fixed at the beginning."""
        return int(self.config["settings"]["batch"])

    @property
    def threads(self) -> int:
        """CPU threads, as fixed at the beginning."""
        return int(self.config["settings"]["threads"])


def evaluate(
    classifier: Classifier,
    settings: EvaluationSettings,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    data_root: str | Path | None = None,
    check: str | Path | None = None,
    on_images: OnImages = lambda done, total, before: None,
) -> dict[str, Any]:
    """Explain and delete every image of a set; returns what `summary.json` holds.

    `out` gets `config.json` first, then `rows/` with one Parquet file a batch, and at the end
    `summary.json`, the curves as PNG and SVG, `index.html`, and last `manifest.json`. Interrupted
    at any moment, it goes on with `resume` after the last whole batch; batches follow the rows of
    the set, and threads and batch size stay those of the beginning, so the rows are the same bytes.
    `data_root`: see `load_images`. `check`: the folder of a sanity check, whose verdicts the page
    then shows.

    Raises `ChoiceError`, `InputError`, `ModelError`, or `ResultError` when `out` holds something
    else or a run of another configuration.
    """
    rival_rule(classifier, settings.rivals)
    sanity = None if check is None else read_check(Path(check), Path(out))
    images = load_images(**settings.source, root=data_root)
    config = describe_run(settings, classifier, images)
    store = RunStore(Path(out), what_if=settings.what_if is not None)
    config = _open(store, config, settings, resume=resume, overwrite=overwrite)
    if store.is_finished:
        return store.read_json(SUMMARY)
    job = _Job(classifier, images, settings, store, config)
    try:
        with _threads(job.threads):
            started = time.perf_counter()
            fresh = _write_rows(job, on_images)
            seconds = time.perf_counter() - started
        if sanity is not None:
            store.write_json(CHECK, sanity)
        return _conclude(job, {"images": fresh, "seconds": round(seconds, 2)})
    except OSError as error:
        raise unwritable(out, error) from error


def _open(
    store: RunStore,
    config: dict[str, Any],
    settings: EvaluationSettings,
    *,
    resume: bool,
    overwrite: bool,
) -> dict[str, Any]:
    """The configuration of the run in the folder: begun now, or found there and the same."""
    folder = store.folder
    ours = (folder / CONFIG).is_file()
    if folder.exists() and not ours and not _is_bare(folder):
        raise ResultError(f"{folder} holds no {CONFIG}: not one of ours, choose another place")
    if ours and not resume:
        if not overwrite:
            raise ResultError(f"{folder} holds a run: go on with it (--resume), or --force")
        shutil.rmtree(folder)
    if (folder / CONFIG).is_file():
        found = store.read_json(CONFIG)
        check_same(found, config, settings)
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store.write_json(CONFIG, config)
    except OSError as error:
        raise unwritable(folder, error) from error
    return config


def _is_bare(folder: Path) -> bool:
    """Whether a folder holds nothing, or no more than a first file that never came to its end."""
    return folder.is_dir() and all(file.suffix == ".new" for file in folder.iterdir())


def _write_rows(job: _Job, on_images: OnImages) -> int:
    """Every batch that has no rows yet; returns how many images that were."""
    start = len(job.store.parts())
    size = job.batch
    before = start * size if job.images.count is None else min(start * size, job.images.count)
    on_images(before, job.images.count, before)
    wanted = example_rows(job.images)
    done = before
    batches = read_batches(
        job.images, job.classifier.framing, size, channels=job.classifier.channels, start=start,
        rgb_only=job.settings.rgb_only,
    )  # fmt: skip
    for batch in batches:
        measured = list(measure(job.classifier, batch, job.settings))
        save_examples(
            job.store.folder, wanted, job.classifier, batch, batch.number * size, measured,
            job.settings, job.images.labels,
        )  # fmt: skip
        told = what_if_rows(batch, measured) if job.store.what_if else None
        job.store.write_part(batch.number, batch_rows(batch, measured), batch.left_out, told)
        done += len(batch.ids) + len(batch.left_out)
        on_images(done, job.images.count, before)
    return done - before


def _conclude(job: _Job, session: dict[str, Any]) -> dict[str, Any]:
    """Summary, figures, page, and last the manifest."""
    names = match_classes(job.classifier, job.images.labels)
    summary = summarize(job.store.parts(), job.settings, job.config, names)
    if not summary["data"]["images"]:
        raise InputError(
            f"{job.settings.data}: no image of {job.images.split} can be used "
            f"({summary['data']['broken_count']} left out)"
        )
    job.store.write_json(SUMMARY, summary)
    write_page(job.store.folder, summary)
    job.store.finish({"last_session": session})
    return summary


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
