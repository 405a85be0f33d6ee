"""What every page has: its frame, numbers as text, pictures inside the page, how it was made."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from chiaroscuro import viewer
from chiaroscuro.choices import EDIT_MAPS, MAPS, SURE
from chiaroscuro.errors import printable
from chiaroscuro.images import gray
from chiaroscuro.render import percent
from chiaroscuro.render.pictures import CLIP, Rgb, one_sided, outlined, overlay
from chiaroscuro.render.sheets import Chart, Row, Sheet, draw_sheet
from chiaroscuro.results import FIGURE, PAGE
from chiaroscuro.results.changes import SmallestEdit, WhatIf
from chiaroscuro.results.confusions import Confusions
from chiaroscuro.results.explanations import Explanation, MethodFacts
from chiaroscuro.results.facts import Interval, ModelFacts
from chiaroscuro.results.measurements import EXAMPLES, Evaluation, Localization, SanityCheck
from chiaroscuro.viewer.page import page_script

FEW = 30
"""Intervals of fewer images are not to be relied on."""
_SMALL = 128 * 128
"""Pictures up to this many pixels lose nothing as WebP: their single pixels are seen."""

Rows = list[tuple[str, str]]
Charts = Sequence[tuple[str, Chart]]
"""Charts by file name."""
Examples = list[tuple[str, list[list[tuple[str, Rgb]]]]]
"""Images by heading, each with rows of pictures by caption."""
RunResult = Evaluation | SanityCheck | Localization | Confusions


@cache
def environment() -> Environment:
    """The templates, with everything escaped."""
    templates = Environment(
        loader=PackageLoader("chiaroscuro.report"),
        autoescape=True,
        finalize=lambda value: _lines(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(PAGE=PAGE, FIGURE=FIGURE, DOCS=_docs(), SURE=SURE, uri=data_uri)
    templates.filters.update(percent=percent, interval=interval_text, images=images_text, zip=zip)
    return templates


def _lines(text: str) -> str:
    """Lines of text without what would steer their direction or a terminal."""
    return "\n".join(map(printable, text.split("\n")))


def _docs() -> str:
    """The documentation's address, if the package declares one; without it pages name its files."""
    urls = metadata("chiaroscuro").get_all("Project-URL") or []
    address = dict(url.split(", ", 1) for url in urls).get("Documentation", "")
    return address and f"{address.rstrip('/')}/"


def write_page(
    folder: Path,
    template: str,
    *,
    title: str,
    asked: str,
    found: Sequence[str],
    docs: str,
    warnings: Sequence[str] = (),
    feed: viewer.Feed | None = None,
    **values: Any,
) -> None:
    """Write a template with its values as the page of a folder.

    It begins with what was `asked` and what is `found`, and ends with the words that it uses;
    `docs` names a page of the documentation. A viewer shows the `feed`.
    """
    headings: list[str] = []

    def heading(text: str) -> Markup:
        headings.append(text)
        return Markup('<h2 id="s{}">{}</h2>').format(len(headings), text)

    styles, scripts = [_asset("page.css")], [_asset("page.js")]
    if feed is not None:
        styles.append(viewer.style())
        scripts.append(page_script())
        values["viewer"] = Markup(viewer.viewer_html(feed))
    source = environment().get_template(f"{template}.html.j2")
    body = Markup(source.render(heading=heading, **values))
    # Arrays in the viewer's feed are megabytes without words.
    written = Markup(re.sub(r"[\w+/=]{200,}", "", body)).striptags()
    text = f"{asked} {' '.join(found)} {written}".casefold()
    words = [pair for pair in glossary() if re.search(rf"\b{re.escape(pair[0])}\b", text)]
    end = heading("Words on this page") if words else ""
    hashes = [" ".join(map(_hash, texts)) for texts in (styles, scripts)]
    policy = "default-src 'none'; img-src data: 'self'; style-src {}; script-src {}".format(*hashes)
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            words=words,
            end=end,
            title=title,
            asked=asked,
            found=found,
            warnings=warnings,
            docs=docs,
            body=body,
            headings=headings,
            policy=policy,
            styles=map(Markup, styles),
            scripts=map(Markup, scripts),
        )
    )
    (folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")


@cache
def glossary() -> list[tuple[str, str]]:
    """Terms with their meanings, without Markdown's marks and links."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", _asset("glossary.md"), re.MULTILINE)
    marks = r"[`*]| ?\[.+?\]\(.+?\)"
    return [(term, re.sub(marks, "", meaning)) for term, meaning in rows[1:]]


def _asset(name: str) -> str:
    loader = environment().loader
    assert loader is not None
    return loader.get_source(environment(), name)[0]


def _hash(text: str) -> str:
    """What a Content-Security-Policy knows an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data_uri(picture: Rgb | bytes, kind: str = "png") -> str:
    """A picture (H, W, 3), or the bytes of a file, as a data address; "webp" is small."""
    if not isinstance(picture, bytes):
        buffer = io.BytesIO()
        exact = picture.shape[0] * picture.shape[1] <= _SMALL
        # PNG's highest level takes 2 to 13 times as long to save a tenth at most.
        look = {"compress_level": 3, "quality": 85, "method": 2, "lossless": exact}
        Image.fromarray(picture).save(buffer, kind, **look)
        picture = buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def draw(charts: Charts, folder: Path) -> list[tuple[str, str]]:
    """Each chart's title and its SVG as a data address; the files are written as PNG and SVG."""
    shown = []
    for name, chart in charts:
        svg, png = draw_sheet(Sheet([Row([chart], 2.9)], width=5.4), "svg", "png")
        file = folder / re.sub(r"[^\w.+-]", "-", name)
        file.with_name(f"{file.name}.svg").write_bytes(svg)
        file.with_name(f"{file.name}.png").write_bytes(png)
        shown.append((chart.title, data_uri(svg, "svg+xml")))
    return shown


# Numbers and sentences


def images_text(count: int) -> str:
    """A number of images in words: 1 image, 1,000 images."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def interval_text(interval: Interval, digits: int = 3, sign: str = "") -> str:
    """A value with its interval: 0.123 [0.110, 0.136]."""
    ends = (interval.value, interval.low, interval.high)
    return "{} [{}, {}]".format(*(f"{end:{sign}.{digits}f}" for end in ends))


def images_line(result: RunResult) -> str:
    """The images of a result, and how many were left out."""
    data = result.data
    left_out = f", {data.left_out_count} left out" if data.left_out_count else ""
    return f"{images_text(data.images)} of {data.name}{left_out}"


def too_few(images: int, tests: int) -> list[str]:
    """The warning of a result over too few images, of which `tests` differences were tested.

    Sign flips of n images have no p-value below 2 / 2^n, and Holm multiplies it by the tests.
    """
    if images >= FEW:
        return []
    hopeless = tests * 2.0 ** (1 - images) >= SURE and tests > 0
    never = " No difference can be significant with so few." if hopeless else ""
    return [
        f"{images_text(images).capitalize()} {'is' if images == 1 else 'are'} too few to rank "
        f"maps: intervals over fewer than {FEW} images are not reliable.{never}"
    ]


def load_examples(folder: Path) -> Examples:
    """The images that a run kept, with their maps, and with what was changed or marked of them."""
    examples: Examples = []
    for file in sorted((folder / EXAMPLES).glob("*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            about, pixels = json.loads(str(arrays["about"])), arrays["pixels"]
            shade = gray(np.moveaxis(pixels, -1, 0).astype(np.float32) / 255)
            names = [name for name in arrays.files if name.startswith("map_")]
            shown = {name.removeprefix("map_"): arrays[name] for name in names}
            region = arrays["region"] if "region" in arrays.files else None
            captions = about.get("captions", ())
            edits = [(caption, arrays[f"edit_{n}"]) for n, caption in enumerate(captions)]
        pictures = [("image", pixels)]
        pictures += [(name, map_picture(name, values, shade)) for name, values in shown.items()]
        if region is not None:
            pictures = [(name, outlined(picture, region, 320)) for name, picture in pictures]
        label = f": {about['label']}" if about["label"] else ""
        heading = f"{about['id']}{label}, predicted {about['predicted']}"
        examples.append((heading, [row for row in (pictures, edits) if row]))
    return examples


def clip(values: NDArray[Any]) -> float:
    """The limit of a map's colors: one pixel cannot darken the rest."""
    sizes = np.abs(values[values != 0])
    return float(np.quantile(sizes, CLIP)) if sizes.size else 0.0


def map_picture(name: str, values: NDArray[Any], shade: NDArray[Any], limit: float = 0.0) -> Rgb:
    """A map (H, W) in its colors, to its own limit; one with a sign lies over the gray photo."""
    choice = {**MAPS, **EDIT_MAPS}.get(name.partition(",")[0])
    limit = limit or clip(values)
    if choice is not None and choice.kind != "magnitude":
        return overlay(values, limit, shade)
    return one_sided(values, limit, "either" if choice is None else choice.helps)


# How a result was made


def photo_rows(result: Explanation | WhatIf | SmallestEdit, **more: str) -> Rows:
    """Everything about a result of one image: where pixels come from, the model, the choices."""
    image, crop, choices = result.image, result.crop, result.choices
    ends = (crop.left, crop.top, crop.right, crop.bottom)
    sides = "left {:.1f}, top {:.1f}, right {:.1f}, bottom {:.1f} px of the upright photo"
    size = f"{crop.photo_width} x {crop.photo_height} px"
    if result.pixels.ndim == 4:
        size, sides = sides_text(result.pixels), ""
    return filled(
        [
            ("photo", f"{image.source} ({size})"),
            ("sha256", image.sha256),
            ("reading", "; ".join(image.notes) or "as it is"),
            ("value range", "" if image.white is None else f"0 to {image.white:g}"),
            ("frame", sides.format(*ends)),
            ("region", "" if result.region is None else result.region.asked),
            *model_rows(result.model, result.threads),
            *((field.name, plain(getattr(choices, field.name))) for field in fields(choices)),
            *((name.replace("_", " "), text) for name, text in more.items()),
            ("versions", plain(result.versions)),
        ]
    )


def sides_text(pixels: NDArray[Any]) -> str:
    """The size of an image or a volume (C, ...) in words."""
    shape = pixels.shape[1:] if pixels.ndim == 4 else pixels.shape[:0:-1]
    return f"{' x '.join(map(str, shape))} {'voxels' if pixels.ndim == 4 else 'pixels'}"


def model_rows(model: ModelFacts, threads: int) -> Rows:
    """The classifier, and where it computes."""
    mean, std = (_numbers(values) for values in (model.mean, model.std))
    normalized = model.mean is not None or model.std is not None
    return [
        ("model", model.name),
        *_origin_rows(model.origin),
        ("normalization", f"mean {mean}, std {std}, inside the model" if normalized else "none"),
        ("channels", f"{model.channels}, shown: {plain(model.shown)}" if model.shown else ""),
        ("computed on", f"{model.device}, {number_format(model)}, CPU threads: {threads}"),
    ]


def number_format(model: ModelFacts) -> str:
    """The number format of the network, and what its GPU computes in fewer bits."""
    rounded = f" ({' and '.join(model.tf32)} in TF32)" if model.tf32 else ""
    return model.dtype + rounded


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


def run_rows(result: RunResult) -> Rows:
    """What it takes to compute a result over an image set again."""
    settings = [(key.replace("_", " "), plain(v)) for key, v in result.settings.plain().items()]
    return filled(
        [
            *model_rows(result.model, result.settings.threads or 0),
            ("model sha256", str(result.model.sha256)),
            *settings,
            ("versions", plain(result.versions)),
        ]
    )


def method_text(method: MethodFacts) -> str:
    """The method with its settings: smoothgrad (32 points, sigma 0.15)."""
    parts = {
        "{} points": method.points, "sigma {:g}": method.sigma, "from {}": method.baseline,
        "from {} background images": method.background_images,
        "products in {}": method.precision, "which is {:.2%} off": method.rounding,
    }  # fmt: skip
    settings = ", ".join(text.format(value) for text, value in parts.items() if value is not None)
    return f"{method.name} ({settings})" if settings else method.name


def plain(value: Any) -> str:
    """A value in words, without brackets and quotes."""
    if isinstance(value, MethodFacts):
        return method_text(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def filled(rows: Rows) -> Rows:
    """The rows that say something."""
    return [(name, value) for name, value in rows if value not in ("", "None")]
