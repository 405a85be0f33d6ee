"""What `chiaroscuro evaluate` does once its words are parsed; imports torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chiaroscuro.cli.set_run import run_set
from chiaroscuro.report.promises import promise_sentences
from chiaroscuro.runs import EvaluationSettings, evaluate


def run(
    settings: EvaluationSettings,
    model: str,
    device: str,
    out: Path,
    data_root: Path | None,
    check: Path | None,
    *,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Evaluate, show progress, print the areas and the page's path."""
    run_set(
        evaluate, settings, model, device, out, _lines,
        resume=resume, overwrite=overwrite, data_root=data_root, check=check,
        interrupted="go on with the same command and --resume", as_json=as_json, quiet=quiet,
    )  # fmt: skip


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What a terminal shows: images, accuracy, the area of every map, and what what-ifs found."""
    data, accuracy = summary["data"], summary["accuracy"]
    right = (
        f"accuracy {accuracy['value']:.4f} [{accuracy['low']:.4f}, {accuracy['high']:.4f}]"
        if accuracy
        else f"no accuracy: {summary['accuracy_note']}"
    )
    left_out = f", {data['broken_count']} left out" if data["broken_count"] else ""
    yield f"{data['images']} images of {data['source']} {data['split']}{left_out}; {right}"
    for protocol in summary["choices"]["protocols"]:
        for fill in summary["choices"]["fills"]:
            found = ", ".join(
                f"{row['map']} {row['area']['value']:.3f}"
                for row in summary["curves"]
                if (row["protocol"], row["fill"]) == (protocol, fill)
                and not row["map"].startswith("inverted:")
            )
            yield f"area, {protocol}, {fill}: {found}"
    yield from promise_sentences(summary)
