"""What the pages of results over image sets share: texts, charts in the page, and the details."""

import base64
from collections.abc import Iterable
from pathlib import Path

from chiaroscuro.render import CurveSpec, save_curves
from chiaroscuro.report.pages import filled, model_rows, plain
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Evaluation, Localization, SanityCheck

SURE = 0.05
"""p-values below this count as a difference."""

RunResult = Evaluation | SanityCheck | Localization
Chart = tuple[str, str, CurveSpec]
"""File name, caption and figure."""


def images_text(count: int) -> str:
    """A number of images in words: 1 image, 1,000 images."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def interval_text(interval: Interval, digits: int = 3, sign: str = "") -> str:
    """A value with its interval: 0.123 [0.110, 0.136]."""
    value, low, high = (
        f"{end:{sign}.{digits}f}" for end in (interval.value, interval.low, interval.high)
    )
    return f"{value} [{low}, {high}]"


def confidence_text(result: RunResult) -> str:
    """The coverage of the result's intervals: 95 %."""
    return f"{100 * result.settings.confidence:.0f} %"


def draw(charts: Iterable[Chart], folder: Path) -> list[tuple[str, str]]:
    """Each chart's caption and its SVG as a data address; the files are written as PNG and SVG."""
    return [
        (caption, _svg_uri(save_curves(sheet, folder, name))) for name, caption, sheet in charts
    ]


def _svg_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')}"


def details(result: RunResult) -> list[tuple[str, str]]:
    """What it takes to compute a result again, as rows."""
    return filled(
        [
            *model_rows(result.model, result.settings.threads or 0),
            ("model sha256", str(result.model.sha256)),
            *((key.replace("_", " "), plain(v)) for key, v in result.settings.plain().items()),
            ("versions", plain(result.versions)),
        ]
    )
