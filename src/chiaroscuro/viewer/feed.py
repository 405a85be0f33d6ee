"""What the viewer shows, as JSON: the photo, the classes, and the maps in a compact code."""

import base64
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chiaroscuro.choices import MAPS, SMOOTHING, Helps, Kind
from chiaroscuro.errors import printable
from chiaroscuro.files import read_regular
from chiaroscuro.images import decode_photo
from chiaroscuro.images.framing import LUMA
from chiaroscuro.images.regions import axes_on_photo
from chiaroscuro.render import percent, pictures
from chiaroscuro.render.evidence import agreement, region_peak, says, sentence
from chiaroscuro.render.pictures import Color
from chiaroscuro.render.shown import pictured
from chiaroscuro.results.explanations import Explanation
from chiaroscuro.results.facts import CropBox

SIDE = 1600
"""Largest side of the photo in a feed, in pixels; larger photos are scaled down."""
TIE, OTHER = 65535, 65534
"""Codes of a class map for a tie, and for a class that has no color of its own."""
_LEVELS = 4095
_SMALL = 128 * 128
"""Photos up to this many pixels are kept without loss: their single pixels are looked at."""


@dataclass(frozen=True, slots=True)
class FeedPhoto:
    """The upright photo as a data URI; `width` and `height` are its own, whatever the picture's."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class FeedClass:
    """A class with a color of its own in a class map; code n of the map is entry n."""

    index: int
    label: str
    color: Color


@dataclass(frozen=True, slots=True)
class FeedRegion:
    """A region of a map of regions; code n of the map is entry n."""

    value: float
    says: str


@dataclass(frozen=True, slots=True)
class FeedMap:
    """One map: `data` is base64 of zlib of little-endian 16-bit numbers, row by row.

    `limits` are color limits that several photos share: without and with the usual smoothing.
    A class map holds codes of `classes`, `OTHER` and `TIE`, a map of regions the numbers of
    `regions`, or `OTHER`. Any other map holds signed codes q of the values
    peak * sign(q) * (q / 4095) ** 2: zero is exact, and small values keep their order.
    `says`: what to conclude of the map.
    """

    name: str
    reads: str
    kind: Kind | Literal["regions"]
    helps: Helps
    width: int
    height: int
    peak: float
    data: str
    classes: tuple[FeedClass, ...] = ()
    limits: tuple[float, float] | None = None
    regions: tuple[FeedRegion, ...] = ()
    says: str = ""


@dataclass(frozen=True, slots=True)
class FeedPrediction:
    """One class of the network's answer."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class FeedTarget:
    """The maps for one class; `crop` is where they lie on the photo.

    `outline`: around the region of the photo whose scores they are for, as the path of an SVG.
    `name` is what the choice of classes says; it tells two models apart where there are two.
    """

    name: str
    label: str
    rivals: int
    crop: CropBox
    smoothing: float
    predictions: tuple[FeedPrediction, ...]
    maps: tuple[FeedMap, ...]
    outline: str = ""


@dataclass(frozen=True, slots=True)
class FeedColors:
    """The colors that all pictures use: ramps from zero to the limit, hues to lay over the photo.

    Over the photo, gray value g in [0, 1] is `gray[0] + gray[1] * g`, with `luma` as its weights.
    """

    ramps: dict[Helps, tuple[Color, ...]]
    hues: dict[Helps, Color]
    zero: Color
    other: Color
    gray: tuple[float, float]
    luma: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Feed:
    """Everything that the viewer shows; `clip` is the quantile of sizes that limits the colors."""

    title: str
    photo: FeedPhoto
    targets: tuple[FeedTarget, ...]
    colors: FeedColors
    clip: float

    def json(self) -> str:
        """The feed as JSON that may stand inside a script element."""
        return msgspec.json.encode(self).decode("utf-8").replace("<", "\\u003c")


def make_feed(
    explanations: Explanation | Sequence[Explanation],
    photo: Image.Image | None = None,
    names: Sequence[str] = (),
) -> Feed:
    """The feed of one explanation, or of several for the same photo (classes, models).

    `photo` is the upright photo at its own resolution. Without it the explained file is read again
    where it is unchanged; otherwise the smaller photo in the explanation is used. `names` replace
    the class labels where two explanations have the same.
    """
    several = [explanations] if isinstance(explanations, Explanation) else [*explanations]
    several = [pictured(explanation) for explanation in several]
    first = several[0]
    labels = names or _names(several)
    return Feed(
        printable(PurePath(first.image.source).name),
        _photo(photo or original_photo(first), first.crop),
        tuple(_target(e, name) for e, name in zip(several, labels, strict=True)),
        FeedColors(
            pictures.RAMPS,
            pictures.HUES,
            pictures.ZERO,
            pictures.OTHER_CLASS,
            pictures.GRAY,
            LUMA,
        ),
        pictures.CLIP,
    )


def _names(explanations: Sequence[Explanation]) -> list[str]:
    """Each target class by the first of its names, or by all where two have the same."""
    targets = [explanation.target for explanation in explanations]
    first = [target.label.split(",")[0] for target in targets]
    return [
        f"{name if first.count(name) == 1 else target.label} · {percent(target.probability)}"
        for name, target in zip(first, targets, strict=True)
    ]


def original_photo(explanation: Explanation) -> Image.Image:
    """The explained file, where it is still the same, or the photo that the explanation keeps."""
    image = explanation.image
    with suppress(OSError, ValueError):  # a null byte
        if image.is_file:
            data = read_regular(Path(image.source))
            if hashlib.sha256(data).hexdigest() == image.sha256:
                return decode_photo(data, image.source).image
    return Image.fromarray(explanation.photo)


def _photo(image: Image.Image, crop: CropBox) -> FeedPhoto:
    if image.mode == "F":
        image = Image.fromarray(np.rint(np.asarray(image) * 255).astype(np.uint8))
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    kind = "png" if image.width * image.height <= _SMALL else "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=88)  # WebP is a fifth smaller and takes 15 times as long
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return FeedPhoto(f"data:image/{kind};base64,{data}", crop.photo_width, crop.photo_height)


def _target(explanation: Explanation, name: str) -> FeedTarget:
    return FeedTarget(
        printable(name),
        printable(explanation.target.label),
        len(explanation.rivals),
        explanation.crop,
        SMOOTHING * min(explanation.pixels.shape[1:]),
        tuple(
            FeedPrediction(p.index, printable(p.label), p.probability)
            for p in explanation.predictions
        ),
        (*_regions(explanation), *(_map(explanation, *one) for one in explanation.maps.items())),
        photo_outline(explanation),
    )


def photo_outline(explanation: Explanation, scale: float = 1.0) -> str:
    """The outline of the region on the photo, scaled; "" for the whole image."""
    if explanation.region is None or explanation.region.mask is None:
        return ""
    mask = explanation.region.mask
    axes = axes_on_photo(explanation.crop, (mask.shape[0], mask.shape[1]))
    return pictures.outline(mask, *((first * scale, step * scale) for first, step in axes))


def _map(explanation: Explanation, name: str, values: NDArray[Any]) -> FeedMap:
    facts = explanation.facts[name]
    height, width = values.shape
    codes: NDArray[np.integer[Any]]
    peak, classes = 0.0, tuple[FeedClass, ...]()
    if facts.kind == "class":
        codes, classes = _class_codes(explanation, values)
    else:
        codes, peak = value_codes(values)
    kind, helps = MAPS[name].kind, MAPS[name].helps
    limits, said = (explanation.color_limits or {}).get(name), sentence(explanation, name)
    size, data = (width, height, peak), _packed(codes)
    return FeedMap(name, facts.reads, kind, helps, *size, data, classes, limits, says=said)


def _regions(explanation: Explanation) -> Iterator[FeedMap]:
    """What changing each region costs, where that was tried."""
    if (evidence := explanation.evidence) is None:
        return
    units = evidence.units
    codes = np.where(units < 0, OTHER, units).astype("<u2")
    listed = sorted(evidence.regions, key=lambda region: region.unit)
    entries = tuple(FeedRegion(-one.change, says(explanation, one)) for one in listed)
    reads = f"what each region costs the class when it alone is changed ({evidence.change})"
    height, width = units.shape
    said, data = f"{agreement(evidence)}.", _packed(codes)
    form = (width, height, region_peak(explanation), data)
    yield FeedMap("regions", reads, "regions", "supports", *form, regions=entries, says=said)


def _packed(codes: NDArray[np.integer[Any]]) -> str:
    return base64.b64encode(zlib.compress(codes.tobytes(), 4)).decode("ascii")


def value_codes(values: NDArray[Any]) -> tuple[NDArray[np.int16], float]:
    """Signed 16-bit codes of a map, and its largest magnitude; values that are not finite are 0."""
    finite = np.where(np.isfinite(values), values, 0).astype(np.float64)
    peak = float(np.abs(finite).max(initial=0.0))
    shares = np.sqrt(np.abs(finite) / peak) if peak else finite
    return (np.sign(finite) * np.rint(_LEVELS * shares)).astype("<i2"), peak


def _class_codes(
    explanation: Explanation, values: NDArray[Any]
) -> tuple[NDArray[np.uint16], tuple[FeedClass, ...]]:
    _, colors = pictures.class_colors(values)
    codes = np.where(values < 0, TIE, OTHER).astype("<u2")
    for code, index in enumerate(colors):
        codes[values == index] = code
    names = {k: printable(explanation.labels[k]) for k in colors}
    return codes, tuple(FeedClass(k, names[k], color) for k, color in colors.items())
