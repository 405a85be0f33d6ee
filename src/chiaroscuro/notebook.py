"""Results where they are looked at: in a notebook, as Matplotlib axes, laid over the photo."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chiaroscuro.choices import MAPS, check_names
from chiaroscuro.errors import ChoiceError, missing_extra
from chiaroscuro.images import gray, to_uint8
from chiaroscuro.render import evidence
from chiaroscuro.render.pictures import HUES, Rgb, class_colors, outlined, smooth
from chiaroscuro.render.sheets import Chart, Row, Sheet, draw_sheet
from chiaroscuro.render.shown import pictured
from chiaroscuro.report import (
    checks,
    confusions,
    evaluation,
    explanation,
    pages,
    scores,
    smallest,
    what_if,
)
from chiaroscuro.results.changes import SmallestEdit, WhatIf
from chiaroscuro.results.confusions import Confusions
from chiaroscuro.results.explanations import Comparison, Explanation
from chiaroscuro.results.facts import Prediction
from chiaroscuro.results.measurements import Evaluation, Localization, SanityCheck
from chiaroscuro.viewer import make_feed, script, style
from chiaroscuro.viewer.feed import original_photo

_SIDE = 224
"""Largest side of a picture in a notebook's output."""


def overlay(
    explained: Explanation,
    map: str = "signed",
    *,
    opacity: float = 1.0,
    smoothing: float | None = None,
    top: float = 1.0,
    in_gray: bool = True,
) -> Image.Image:
    """A map laid over the photo, at the photo's own size.

    A pixel takes the map's color with weight opacity min(|value| / limit, 1); the limit is the 99th
    percentile of the sizes that are not 0. `smoothing`: standard deviation in pixels of the map, 0
    for none, None for the figure's. `top`: the share of the highest pixels that is shown.
    `in_gray`: the photo below is gray, so that all color is the map's. The photo is read again
    where its file is unchanged; else the smaller copy in the explanation is scaled up.

    Raises `ChoiceError` for a map that the explanation does not hold, or shares outside [0, 1].
    """
    check_names("map", [map], explained.maps)
    for name, share in (("opacity", opacity), ("top", top)):
        if not 0 <= share <= 1:
            raise ChoiceError(f"{name} is {share}: expected a share in [0, 1]")
    crop, explained = explained.crop, pictured(explained)
    size = (crop.photo_width, crop.photo_height)
    photo = original_photo(explained).convert("RGB")
    photo = photo if photo.size == size else photo.resize(size, Image.Resampling.LANCZOS)
    if in_gray:
        photo = photo.convert("L").convert("RGB")
    color, cover = _layer(explained, map, smoothing, top)
    box = [round(end) for end in (crop.left, crop.top, crop.right, crop.bottom)]
    span = (box[2] - box[0], box[3] - box[1])
    hard = explained.facts[map].kind == "class" or smoothing == 0
    resample = Image.Resampling.NEAREST if hard else Image.Resampling.BILINEAR
    layer = Image.fromarray(color).resize(span, Image.Resampling.NEAREST)
    mask = Image.fromarray(np.rint(255 * opacity * cover).astype(np.uint8)).resize(span, resample)
    photo.paste(layer, (box[0], box[1]), mask)
    return photo


def _layer(
    explained: Explanation, name: str, smoothing: float | None, top: float
) -> tuple[Rgb, NDArray[np.float64]]:
    """Colors (H, W, 3) of a map's pixels, and how much (H, W) they cover the photo."""
    values = explained.maps[name]
    if explained.facts[name].kind == "class":
        return class_colors(values)[0], (values >= 0).astype(np.float64)
    sigma = explanation.smoothing_sigma(explained) if smoothing is None else smoothing
    shown = smooth(values, sigma)
    limit = pages.clip(shown)
    cover = np.minimum(np.abs(shown) / limit, 1) if limit else np.zeros(shown.shape)
    if top < 1:
        kept = np.argsort(-np.abs(shown), axis=None, kind="stable")[: round(top * cover.size)]
        mask = np.zeros(cover.size, bool)
        mask[kept] = True
        cover = cover * mask.reshape(cover.shape)
    if MAPS[name].kind == "magnitude":
        hue = np.full((*cover.shape, 3), HUES[MAPS[name].helps], np.uint8)
    else:
        hue = np.where((shown > 0)[..., None], HUES["brighter"], HUES["darker"]).astype(np.uint8)
    return np.ascontiguousarray(hue), cover


def plot_maps(
    explained: Explanation,
    maps: str | Iterable[str] | None = None,
    *,
    over: bool = True,
    smoothing: float | None = None,
    axes: Any = None,
) -> NDArray[Any]:
    """Maps next to each other as Matplotlib axes, to go on with: an array of them, one per map.

    `over`: over the photo, as `overlay`; else the map alone, in the colors of the figures. `axes`:
    one or several of your own. Raises `ChoiceError` for unknown maps, or axes of another number.
    """
    import matplotlib.pyplot as plt

    explained = pictured(explained)
    names = [maps] if isinstance(maps, str) else list(maps or explained.maps)
    check_names("map", names, explained.maps)
    if axes is None:
        _, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3.4), squeeze=False)
    places = np.atleast_1d(np.asarray(axes, object)).ravel()
    if len(places) != len(names):
        raise ChoiceError(f"{len(places)} axes for {len(names)} maps: give one a map")
    for place, name in zip(places, names, strict=True):
        place.imshow(
            overlay(explained, name, smoothing=smoothing)
            if over
            else _alone(explained, name, smoothing)
        )
        place.set_title(name, parse_math=False)
        place.set_axis_off()
    return places


def _alone(explained: Explanation, name: str, smoothing: float | None) -> Rgb:
    if explained.facts[name].kind == "class":
        return class_colors(explained.maps[name])[0]
    sigma = explanation.smoothing_sigma(explained) if smoothing is None else smoothing
    shown = smooth(explained.maps[name], sigma)
    return pages.map_picture(name, shown, gray(explained.pixels))


def widget(explanations: Explanation | Sequence[Explanation]) -> Any:
    """The viewer as a widget (extra `notebook`), of one explanation or several of the same photo.

    `widget.state` is what is shown, a dictionary that can be read and set: the map, the opacity...
    Raises `MissingExtraError`.
    """
    return _widget_class()(feed=json.loads(make_feed(explanations).json()))


@cache
def _widget_class() -> type[Any]:
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise missing_extra("the widget", error.name or "anywidget", "notebook") from error

    class ViewerWidget(anywidget.AnyWidget):
        """The viewer; `feed` is what it shows, `state` how."""

        _esm = script()
        _css = style()
        feed = traitlets.Dict().tag(sync=True)
        state = traitlets.Dict().tag(sync=True)

    return ViewerWidget


# What a notebook shows of a result: HTML without scripts


@dataclass(frozen=True, kw_only=True)
class Output:
    """The parts of a result's output; `groups` are rows of pictures, each with a heading."""

    title: str
    said: Sequence[str]
    groups: Sequence[tuple[str, Sequence[tuple[str, Rgb]]]] = ()
    bars: Sequence[tuple[Prediction, Prediction | None]] = ()
    charts: Sequence[Chart] = ()
    table: Sequence[Sequence[str]] = ()
    rows: pages.Rows = field(default_factory=list)
    rows_title: str = "How this was made"


def html(result: Any) -> str:
    """A result as HTML for the output of a notebook: without a script, and below 300 kB."""
    output = _OUTPUTS[type(result)](result)
    charts = Sheet([Row(output.charts, 2.9)], width=5.4 * len(output.charts))
    figure = draw_sheet(charts, "png")[0] if output.charts else b""
    template = pages.environment().get_template("notebook.html.j2")
    return template.render(output=output, small=_small, figure=figure)


def _small(picture: Rgb) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return pages.data_uri(np.asarray(image), "webp")


def _maps(shown: Explanation) -> list[tuple[str, Rgb]]:
    panels = explanation.map_panels(shown)
    pictures = [(p.name, p.fine if p.soft is None else p.soft) for p in panels]
    return [(name, explanation.marked(shown, picture)) for name, picture in pictures]


def _regions(shown: Explanation) -> list[tuple[str, Rgb]]:
    tested = shown.evidence is not None
    return [("regions the class depends on", evidence.region_picture(shown))] if tested else []


def _explanation(shown: Explanation) -> Output:
    seen = explanation.marked(shown, to_uint8(pictured(shown).pixels))
    return Output(
        title=explanation.title(shown),
        said=[
            *explanation.found(shown),
            *evidence.found(shown),
            *(f"Note: {note}." for note in shown.notes),
        ],
        groups=[("", [("what the network sees", seen), *_regions(shown), *_maps(shown)])],
        bars=[(one, None) for one in shown.predictions],
        rows=pages.photo_rows(shown),
    )


def _what_if(shown: WhatIf) -> Output:
    drawn = pictured(shown)
    edited = outlined(to_uint8(drawn.edited), drawn.changed)
    return Output(
        title=what_if.change_text(shown),
        said=what_if.sentences(shown),
        groups=[("", [("before", to_uint8(drawn.pixels)), ("after, changes outlined", edited)])],
        bars=shown.shown,
        rows=pages.photo_rows(shown),
    )


def _smallest_edit(shown: SmallestEdit) -> Output:
    pictures = [(p.title, p.pixels) for p in smallest.edit_pictures(shown, 0)]
    return Output(
        title=smallest.title(shown),
        said=smallest.sentences(shown),
        groups=[("", pictures)],
        bars=shown.edits[0].shown,
        rows=pages.photo_rows(shown),
    )


def _comparison(shown: Comparison) -> Output:
    return Output(
        title=explanation.comparison_sheet(shown).title,
        said=explanation.found_pairs(shown),
        groups=[(n, _maps(one)) for n, one in zip(shown.names, shown.explanations, strict=True)],
        rows=pages.photo_rows(shown.explanations[0]),
    )


def _evaluation(shown: Evaluation) -> Output:
    charts = evaluation.curve_charts(shown)
    own = charts.get(f"{scores.best_protocol(shown)}-{evaluation.GROUPS[0]}", ())
    areas = [
        (f"{row.protocol}, {row.fill}, {row.map}", pages.interval_text(row.area))
        for row in shown.curves
    ]
    return Output(
        title=pages.images_line(shown),
        said=[scores.best_maps(shown), *evaluation.outcome(shown)],
        charts=[chart for _, chart in own],
        rows=areas,
        rows_title="Areas under all curves",
    )


_MARKS = {"good": "✓", "half": "◐", "bad": "✗"}


def _check(shown: SanityCheck) -> Output:
    table = [["method, map", *checks.QUESTIONS.values()]]
    for one in shown.maps:
        cells = checks.verdict_cells(one)
        marks = [f"{_MARKS[grade]} {value:.2f}" for grade, _, _, value in cells]
        table.append([f"{one.method}, {one.map}", *marks])
    said = [*checks.outcome(shown), "Numbers are the similarity to the untouched map that decides."]
    return Output(title=pages.images_line(shown), said=said, table=table)


def _localization(shown: Localization) -> Output:
    table = [["map", "highest pixel inside", "energy inside"]]
    table += [
        [one.map, pages.interval_text(one.hit), pages.interval_text(one.energy)]
        for one in shown.maps
    ]
    chance = shown.maps[0]
    at_random = [pages.interval_text(chance.chance_hit), pages.interval_text(chance.chance_energy)]
    table.append(["random order", *at_random])
    return Output(title=pages.images_line(shown), said=[], table=table)


def _confusions(shown: Confusions) -> Output:
    said = [*confusions.lines(shown)]
    return Output(title=said[0], said=said[1:])


_OUTPUTS: dict[type, Callable[[Any], Output]] = {
    Explanation: _explanation,
    WhatIf: _what_if,
    SmallestEdit: _smallest_edit,
    Comparison: _comparison,
    Evaluation: _evaluation,
    SanityCheck: _check,
    Localization: _localization,
    Confusions: _confusions,
}
