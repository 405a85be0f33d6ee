"""Many photos into one folder of explanations; a bad photo never stops the others."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chiaroscuro.choices import Scale
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChiaroscuroError
from chiaroscuro.explanations.explain import explain
from chiaroscuro.explanations.explanation import Explanation
from chiaroscuro.explanations.sheet import Limits, shared_limits
from chiaroscuro.explanations.storage import MARKER
from chiaroscuro.report import GalleryEntry, gallery_page
from chiaroscuro.staging import check_free

OnImage = Callable[[int, int, Path], object]
"""Called with (images done, images in all, the one that starts)."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """One photo: the folder of its explanation and what `describe` says, or the error."""

    source: Path
    folder: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    error: ChiaroscuroError | None = None


def explain_files(
    classifier: Classifier,
    jobs: Iterable[tuple[Path, Mapping[str, Any]]],
    out: str | Path,
    *,
    overwrite: bool = False,
    scale: Scale = "image",
    on_image: OnImage | None = None,
    on_class: Callable[[int, int], object] | None = None,
) -> Iterator[Outcome]:
    """Explain photos one by one into `out`/STEM, and lay `out`/index.html over them at the end.

    `jobs` are paths with the keyword arguments of `explain`. With `scale="shared"` the pictures
    are drawn again when all limits are known, each map on the largest. A `ChiaroscuroError` of one
    photo becomes its outcome; a class that the classifier does not know raises before any photo is
    read. Two photos with one stem get STEM and STEM-2.
    """
    jobs, out = [(path, _with_indices(classifier, options)) for path, options in jobs], Path(out)
    done: list[Outcome] = []
    limits: list[Limits] = []
    for index, (path, options) in enumerate(jobs):
        if on_image is not None:
            on_image(index, len(jobs), path)
        folder = out / _free_name(path, jobs[:index])
        try:
            check_free(folder, MARKER, overwrite=overwrite)
            found = explain(classifier, path, progress=on_class, **options)
            found.save(folder, overwrite=overwrite)
        except ChiaroscuroError as error:
            yield Outcome(path, error=error)
            continue
        limits.append(found.color_limits())
        done.append(Outcome(path, folder, _saved(folder)))
        yield done[-1]
    if done:
        _finish(done, out, shared_limits(limits) if scale == "shared" else None)


def _with_indices(classifier: Classifier, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `explain` with class names as indices."""
    resolved = dict(options)
    if resolved.get("target") is not None:
        resolved["target"] = classifier.class_index(resolved["target"])
    if isinstance(resolved.get("rivals"), list | tuple):
        resolved["rivals"] = [classifier.class_index(rival) for rival in resolved["rivals"]]
    return resolved


def _free_name(path: Path, before: list[tuple[Path, Mapping[str, Any]]]) -> str:
    same = sum(other.stem == path.stem for other, _ in before)
    return f"{path.stem}-{same + 1}" if same else path.stem


def _finish(done: list[Outcome], out: Path, limits: Limits | None) -> None:
    """Draw on a shared scale where asked, and write the page over all explanations in `out`."""
    for outcome in done:
        if limits is not None and outcome.folder is not None:
            Explanation.load(outcome.folder).save(outcome.folder, overwrite=True, limits=limits)
    folders = sorted(file.parent for file in out.glob(f"*/{MARKER}"))
    entries = [GalleryEntry(folder.name, _saved(folder)) for folder in folders]
    page = out / ".index.html.part"
    page.write_text(gallery_page(entries), encoding="utf-8")
    page.replace(out / "index.html")


def _saved(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / MARKER).read_text(encoding="utf-8")))
