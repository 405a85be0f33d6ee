"""What `chiaroscuro check` does once its words are parsed; imports torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chiaroscuro.checks import CheckSettings, check
from chiaroscuro.cli.set_run import run_set


def run(
    settings: CheckSettings,
    model: str,
    device: str,
    out: Path,
    data_root: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check, show progress, print the verdicts and the page's path."""
    run_set(
        check, settings, model, device, out, _lines,
        overwrite=overwrite, data_root=data_root,
        interrupted="nothing was kept", as_json=as_json, quiet=quiet,
    )  # fmt: skip


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What a terminal shows: images, layers, and the verdicts of every map."""
    data = summary["data"]
    yield (
        f"{data['images']} images of {data['source']} {data['split']}, "
        f"{len(summary['layers'])} steps from the output to the input"
    )
    for entry in summary["maps"]:
        said = entry["verdict"]
        words = "; ".join(said[question]["words"] for question in ("weights", "class", "noise"))
        yield f"{entry['method']}, {entry['map']}: {words}"
