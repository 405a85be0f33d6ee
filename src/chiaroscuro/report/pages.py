"""Pages: one explanation, and the list over many."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from chiaroscuro.render import FigureSheet
from chiaroscuro.render.colors import Rgb

_LEVEL = 3
"""Of the pictures' compression: the highest takes 2 to 13 times as long to save a tenth at most."""


@dataclass(frozen=True, slots=True)
class GalleryEntry:
    """One explanation of a gallery: its folder beside the page, and its explanation.json."""

    folder: str
    about: Mapping[str, Any]


def explanation_page(sheet: FigureSheet, about: Mapping[str, Any]) -> str:
    """One explanation as a page that needs no other file and no network."""
    height, width = sheet.frame.photo.shape[:2]
    return (
        environment()
        .get_template("explanation.html.j2")
        .render(
            sheet=sheet,
            about=about,
            photo=data_uri(sheet.frame.photo),
            seen=data_uri(sheet.seen),
            panels=[
                (
                    panel,
                    data_uri(panel.pixels),
                    _optional(panel.smoothed),
                    about["maps"][panel.name],
                )
                for panel in sheet.panels
            ],
            frame={
                "left": 100 * sheet.frame.left / width,
                "top": 100 * sheet.frame.top / height,
                "width": 100 * (sheet.frame.right - sheet.frame.left) / width,
                "height": 100 * (sheet.frame.bottom - sheet.frame.top) / height,
            },
            details=list(detail_rows(about, about["display"])),
        )
    )


def gallery_page(entries: Sequence[GalleryEntry]) -> str:
    """A page of links to the explanations in the folders beside it."""
    return (
        environment()
        .get_template("gallery.html.j2")
        .render(
            entries=[
                (entry, Path(entry.about["image"]["source"]).name, entry.about["target"])
                for entry in entries
            ]
        )
    )


def data_uri(picture: Rgb) -> str:
    """A picture (H, W, 3) as a PNG inside a data address."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=_LEVEL)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _optional(picture: Rgb | None) -> str | None:
    return None if picture is None else data_uri(picture)


def detail_rows(
    about: Mapping[str, Any], display: Mapping[str, Any] | None = None
) -> Sequence[tuple[str, str]]:
    """What it takes to make one image's result again, as rows; `display` holds its colors."""
    image, crop, model = about["image"], about["crop"], about["model"]
    rows = [
        ("photo", f"{image['source']} ({crop['photo_width']} x {crop['photo_height']} px)"),
        ("sha256", image["sha256"]),
        ("reading", "; ".join(image["notes"]) or "as it is"),
        (
            "frame",
            f"left {crop['left']:.1f}, top {crop['top']:.1f}, right {crop['right']:.1f}, "
            f"bottom {crop['bottom']:.1f} px of the upright photo",
        ),
        ("model", model["name"]),
        *_origin_rows(model["origin"]),
        ("normalization", f"mean {model['mean']}, std {model['std']}, inside the model"),
        *((key.replace("_", " "), _plain(value)) for key, value in about["choices"].items()),
        *(_display_rows(display) if display is not None else ()),
        ("versions", _plain(about["versions"])),
    ]
    return [(name, value) for name, value in rows if value not in ("None", "")]


def _display_rows(display: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    limits = display["limits"].items()
    yield (
        "color limits",
        ", ".join(f"{name} {fine:.3g} (smoothed {soft:.3g})" for name, (fine, soft) in limits),
    )
    yield "color scale", f"per {display['scale']}"


def _origin_rows(origin: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where a model's weights are from; a training's figures and settings are a row each."""
    for key, value in origin.items():
        if key == "training" and isinstance(value, Mapping):
            yield from (
                (f"training {name.replace('_', ' ')}", _plain(found))
                for name, found in value.items()
            )
        else:
            yield f"model {key}", _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {found}" for name, found in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@cache
def environment() -> Environment:
    """The templates, with everything escaped."""
    return Environment(
        loader=PackageLoader("chiaroscuro.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
