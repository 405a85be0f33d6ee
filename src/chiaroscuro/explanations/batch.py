"""Many photos into one folder of explanations; a bad photo never stops the others."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chiaroscuro.choices import SCALES, Scale, check_names, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChiaroscuroError, ResultError
from chiaroscuro.explanations.explanation import Explanation
from chiaroscuro.explanations.sheet import Limits, shared_limits
from chiaroscuro.explanations.single import explain
from chiaroscuro.explanations.storage import MARKER, read_description
from chiaroscuro.report import GalleryEntry, gallery_page
from chiaroscuro.staging import check_free
from chiaroscuro.stopwatch import timed

_GALLERY = "index.html"
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
    are drawn again when all limits are known, each map on the largest, and outcomes come then. The
    `ChiaroscuroError` of one photo becomes its outcome; a class that the classifier does not know
    raises before any photo is read. Two photos with one stem get STEM and STEM-2.
    """
    check_names("scale", [scale], SCALES)
    jobs = [(path, _with_indices(classifier, options)) for path, options in jobs]
    out = Path(out)
    done: list[Outcome] = []
    limits: list[Limits] = []
    for index, (path, name) in enumerate(_folder_names(path for path, _ in jobs)):
        if on_image is not None:
            on_image(index, len(jobs), path)
        try:
            check_free(out / name, MARKER, overwrite=overwrite)
            found = explain(classifier, path, progress=on_class, **jobs[index][1])
            with timed("drawing"):
                found.save(out / name, overwrite=overwrite)
        except ChiaroscuroError as error:
            yield Outcome(path, error=error)
            continue
        limits.append(found.color_limits())
        done.append(_outcome(path, out / name))
        if scale == "image":
            yield done[-1]
    if scale == "shared":
        yield from _redraw(done, shared_limits(limits))
    if done:
        _write_gallery(out)


def _with_indices(classifier: Classifier, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `explain` with class names as indices; raises for what is unknown."""
    resolved = dict(options)
    if resolved.get("target") is not None:
        resolved["target"] = classifier.class_index(resolved["target"])
    rivals = parse_rivals(resolved.get("rivals", "all"))
    resolved["rivals"] = rivals.resolve(classifier.class_index)
    return resolved


def _folder_names(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Every photo's stem, with -2, -3, ... where another photo or the gallery has that name."""
    used = {_GALLERY}
    for path in paths:
        name, count = path.stem, 1
        while name in used:
            count += 1
            name = f"{path.stem}-{count}"
        used.add(name)
        yield path, name


def _redraw(done: Sequence[Outcome], limits: Limits) -> Iterator[Outcome]:
    """Draw every explanation again on the shared limits."""
    for outcome in done:
        assert outcome.folder is not None
        with timed("drawing"):
            Explanation.load(outcome.folder).save(outcome.folder, overwrite=True, limits=limits)
        yield _outcome(outcome.source, outcome.folder)


def _write_gallery(out: Path) -> None:
    """The page over all explanations in `out`; folders of other programs are passed over."""
    folders = sorted(file.parent for file in out.glob(f"*/{MARKER}"))
    described = [(folder.name, read_description(folder)) for folder in folders]
    entries = [GalleryEntry(name, about) for name, about in described if about is not None]
    page = out / f".{_GALLERY}.part"
    try:
        page.write_text(gallery_page(entries), encoding="utf-8")
        page.replace(out / _GALLERY)
    except OSError as error:
        page.unlink(missing_ok=True)
        raise ResultError(f"{out}: {_GALLERY} cannot be written ({error.strerror})") from error


def _outcome(source: Path, folder: Path) -> Outcome:
    return Outcome(source, folder, read_description(folder) or {})
