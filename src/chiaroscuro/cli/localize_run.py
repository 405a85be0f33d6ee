"""What `chiaroscuro localize` does once its words are parsed; imports torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chiaroscuro.checks import LocalizationSettings, localize
from chiaroscuro.cli.set_run import run_set
from chiaroscuro.report.evaluation import interval_text
from chiaroscuro.report.localization import against_chance


def run(
    settings: LocalizationSettings,
    model: str,
    device: str,
    out: Path,
    data_root: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Localize, show progress, print the figures and the page's path."""
    run_set(
        localize, settings, model, device, out, _lines,
        overwrite=overwrite, data_root=data_root,
        interrupted="nothing was kept", as_json=as_json, quiet=quiet,
    )  # fmt: skip


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What a terminal shows: images, and both measures of every map beside a random order."""
    data = summary["data"]
    left_out = f", {data['left_out_count']} left out" if data["left_out_count"] else ""
    yield f"{data['images']} images of {data['source']} {data['split']}{left_out}"
    for entry in summary["maps"]:
        found = (
            f"{word} {interval_text(entry[measure])} ({against_chance(entry, measure)})"
            for measure, word in (("hit", "hit"), ("energy", "energy"))
        )
        yield f"{entry['map']}: {', '.join(found)}"
    chance, energy, center = (
        interval_text(summary["maps"][0][name])
        for name in ("chance_hit", "chance_energy", "center_hit")
    )
    yield f"random order: hit {chance}, energy {energy}; middle pixel: hit {center}"
