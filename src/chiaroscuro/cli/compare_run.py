"""What `chiaroscuro compare` does once its words are parsed; imports torch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chiaroscuro.cli.endings import print_result
from chiaroscuro.cli.preparation import load, prepare
from chiaroscuro.cli.progress import progress_bars
from chiaroscuro.comparisons import beside_change, compare
from chiaroscuro.comparisons.storage import MARKER, describe
from chiaroscuro.staging import check_free


def run(
    image: Path,
    models: Sequence[str],
    options: Mapping[str, Any],
    taken: tuple[str | None, float, str],
    out: Path,
    device: str,
    threads: int | None,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare, show progress, print what each model says, and the page's path."""
    change, fraction, by = taken
    fit = options["fit"]
    prepare(threads, quiet=quiet)
    check_free(out, MARKER, overwrite=overwrite)
    with progress_bars(quiet=quiet) as bars:
        classifiers = [load(model, device) for model in models]
        found = compare(
            classifiers,
            image,
            **options,
            beside=None if change is None else beside_change(image, change, fraction, by, fit),
            progress=lambda at, *told: bars.show(f"classes of model {at + 1}", *told),
        )
        found.save(out, overwrite=overwrite)
    about = describe(found)
    print_result(about, _lines(about), out, as_json=as_json, quiet=quiet)


def _lines(about: Mapping[str, Any]) -> Iterator[str]:
    """What a terminal shows: each model's word, and how alike the maps of each pair are."""
    for model in about["models"]:
        best, share = model["predictions"][0]
        yield (
            f"{model['name']}: {best} {100 * share:.1f} %; explained: {model['target']} "
            f"{100 * model['probability']:.1f} %"
        )
    for model, beside in zip(about["models"], about["beside"], strict=False):
        yield f"{model['name']}: {beside['title']} {'; '.join(beside['lines'])}"
    for pair in about["pairs"]:
        found = ", ".join(f"{name} {one['correlation']:.2f}" for name, one in pair["maps"].items())
        yield f"{pair['other']} against {pair['first']}: {found or pair['note']}"
