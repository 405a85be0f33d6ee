"""What `chiaroscuro what-if` does once its words are parsed; imports torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chiaroscuro.changes import what_if
from chiaroscuro.changes.storage import describe
from chiaroscuro.choices import WHAT_IF_FILE
from chiaroscuro.cli.endings import print_result
from chiaroscuro.cli.preparation import load, prepare
from chiaroscuro.cli.progress import progress_bars
from chiaroscuro.report.what_if import sentences
from chiaroscuro.staging import check_free


def run(
    image: str,
    model: str,
    out: Path,
    device: str,
    threads: int | None,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **choices: Any,
) -> None:
    """Change the photo, save what came, and print it in a few lines."""
    prepare(threads, quiet=quiet)
    path = Path(image)
    folder = out / _name(path, choices)
    check_free(folder, WHAT_IF_FILE, overwrite=overwrite)
    with progress_bars(quiet=quiet) as bars:
        classifier = load(model, device)
        found = what_if(
            classifier, path, progress=lambda *told: bars.show("class gradients", *told), **choices
        )
        found.save(folder, overwrite=overwrite)
    about = describe(found)
    told = {**about, "folder": str(folder)}
    print_result(told, _lines(path, about), folder, as_json=as_json, quiet=quiet)


def _name(path: Path, choices: Mapping[str, Any]) -> str:
    change = str(choices["change"]).replace(":", "-")
    method = choices["method"].name
    by = choices["map"] if method == "gradient" else f"{method}-{choices['map']}"
    return f"{path.stem}-{by}-{choices['fraction']:g}-{change}"


def _lines(path: Path, about: Mapping[str, Any]) -> Iterator[str]:
    pixels = about["pixels"]
    yield f"{path.name}: {pixels['changed']:,} of {pixels['all']:,} pixels changed"
    yield from sentences(about)
    for when in ("before", "after"):
        best = ", ".join(f"{p['label']} {100 * p['probability']:.1f} %" for p in about[when])
        yield f"{when}: {best}"
