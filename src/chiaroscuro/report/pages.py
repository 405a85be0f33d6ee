"""What every page has: templates, pictures inside the page, and rows that say how it was made."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from chiaroscuro.render import percent
from chiaroscuro.render.pictures import Rgb
from chiaroscuro.results import FIGURE, PAGE
from chiaroscuro.results.explanations import MethodFacts
from chiaroscuro.results.facts import CropBox, ImageFacts, ModelFacts

_LEVEL = 3
"""Of the pictures' compression: the highest takes 2 to 13 times as long to save a tenth at most."""

Rows = list[tuple[str, str]]


@cache
def environment() -> Environment:
    """The templates, with everything escaped."""
    templates = Environment(
        loader=PackageLoader("chiaroscuro.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(PAGE=PAGE, FIGURE=FIGURE)
    templates.filters["percent"] = percent
    return templates


def data_uri(picture: Rgb) -> str:
    """A picture (H, W, 3) as a PNG inside a data address."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=_LEVEL)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def write_page(folder: Path, template: str, **values: Any) -> None:
    """Write a template with its values as the page of a folder."""
    text = environment().get_template(template).render(**values)
    (folder / PAGE).write_text(text, encoding="utf-8", errors="backslashreplace")


def image_rows(image: ImageFacts, crop: CropBox) -> Rows:
    """Where pixels come from."""
    return [
        ("photo", f"{image.source} ({crop.photo_width} x {crop.photo_height} px)"),
        ("sha256", image.sha256),
        ("reading", "; ".join(image.notes) or "as it is"),
        (
            "frame",
            f"left {crop.left:.1f}, top {crop.top:.1f}, right {crop.right:.1f}, "
            f"bottom {crop.bottom:.1f} px of the upright photo",
        ),
    ]


def model_rows(model: ModelFacts, threads: int) -> Rows:
    """The classifier, and where it computes."""
    normalized = model.mean is not None or model.std is not None
    return [
        ("model", model.name),
        *_origin_rows(model.origin),
        (
            "normalization",
            f"mean {_numbers(model.mean)}, std {_numbers(model.std)}, inside the model"
            if normalized
            else "none",
        ),
        ("computed on", f"{model.device}, {model.dtype}, CPU threads: {threads}"),
    ]


def _origin_rows(origin: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where a model's weights are from; the figures and settings of a training are a row each."""
    for key, value in origin.items():
        if key == "training" and isinstance(value, Mapping):
            for name, inner in value.items():
                yield f"training {name.replace('_', ' ')}", plain(inner)
        else:
            yield f"model {key}", plain(value)


def _numbers(values: Iterable[float] | None) -> str:
    return "none" if values is None else ", ".join(f"{value:.4g}" for value in values)


def method_text(method: MethodFacts) -> str:
    """The method with its settings: smoothgrad (32 points, sigma 0.15)."""
    settings = [] if method.points is None else [f"{method.points} points"]
    settings += [] if method.sigma is None else [f"sigma {method.sigma:g}"]
    settings += [] if method.baseline is None else [f"from {method.baseline}"]
    if method.background_images is not None:
        settings.append(f"from {method.background_images} background images")
    return f"{method.name} ({', '.join(settings)})" if settings else method.name


def plain(value: Any) -> str:
    """A value in words, without brackets and quotes."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def filled(rows: Rows) -> Rows:
    """The rows that say something."""
    return [(name, value) for name, value in rows if value not in ("", "None")]
