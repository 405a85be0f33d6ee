"""What the commands over an image set share once their words are parsed; imports torch."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from chiaroscuro.choices.settings import MachineSettings
from chiaroscuro.cli.endings import interruptible, print_result
from chiaroscuro.cli.preparation import load, prepare
from chiaroscuro.cli.progress import progress_bars

Summary = Mapping[str, Any]


def run_set(
    measure: Callable[..., Summary],
    settings: MachineSettings,
    model: str,
    device: str,
    out: Path,
    lines: Callable[[Summary], Iterable[str]],
    *,
    interrupted: str,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure a set of images into a folder, show progress, print the summary.

    `measure` is called with the classifier, the settings, the folder and `options`. `lines` makes
    the summary's lines for a terminal; `interrupted` says what is left after an interruption.
    """
    prepare(settings.threads, quiet=quiet)
    with interruptible(interrupted), progress_bars(quiet=quiet) as bars:
        classifier = load(model, device)
        summary = measure(
            classifier, settings, out, on_images=lambda *told: bars.show("images", *told), **options
        )
    print_result(summary, lines(summary), out, as_json=as_json, quiet=quiet)
