"""An explanation as pictures and rows, ready to be drawn or laid out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import MAPS, SMOOTHING
from chiaroscuro.explanations.explanation import Explanation, MapFacts
from chiaroscuro.images import gray, to_uint8
from chiaroscuro.render import (
    Bar,
    FigureSheet,
    Frame,
    Panel,
    class_colors,
    one_sided,
    overlay,
    smooth,
)
from chiaroscuro.render.colors import OTHER_CLASS, ZERO

CLIP = 0.99
"""Color limits are this quantile of a map's non-zero sizes: one pixel cannot darken the rest."""

Limits = Mapping[str, tuple[float, float]]
"""Color limits by map: of the pixel view and of the smoothed view, in units of the maps."""


def smoothing_sigma(explanation: Explanation) -> float:
    """Standard deviation of the smoothed view in pixels."""
    height, width = explanation.pixels.shape[1:]
    return SMOOTHING * float(min(height, width))


def color_limits(explanation: Explanation) -> Limits:
    """The clip quantile of each map's sizes, pixel by pixel and smoothed; class maps have none."""
    sigma = smoothing_sigma(explanation)
    return {
        name: (_clip(values), _clip(smooth(values, sigma)))
        for name, values in explanation.maps.items()
        if explanation.facts[name].kind != "class"
    }


def shared_limits(several: Sequence[Limits]) -> Limits:
    """The largest limits of several images, map by map."""
    names = {name for limits in several for name in limits}
    return {
        name: (
            max(limits[name][0] for limits in several if name in limits),
            max(limits[name][1] for limits in several if name in limits),
        )
        for name in names
    }


def _clip(values: NDArray[np.floating[Any]]) -> float:
    sizes = np.abs(values[values != 0])
    return float(np.quantile(sizes, CLIP)) if sizes.size else 0.0


def make_sheet(explanation: Explanation, limits: Limits | None = None) -> FigureSheet:
    """The figure's contents, with colors at the given limits or the image's own."""
    own = limits is None
    limits = color_limits(explanation) if limits is None else limits
    sigma = smoothing_sigma(explanation)
    target = explanation.target
    crop, photo = explanation.crop, explanation.photo
    scale = photo.shape[1] / crop.photo_width
    bars = [Bar(p.label, p.probability, p.index == target.index) for p in explanation.predictions]
    if not any(bar.explained for bar in bars):
        bars.append(Bar(target.label, target.probability, True))
    return FigureSheet(
        title=f"{Path(explanation.image.source).name}: why {target.label}{_not(explanation)}?",
        subtitle=_subtitle(explanation),
        frame=Frame(
            photo, crop.left * scale, crop.top * scale, crop.right * scale, crop.bottom * scale
        ),
        seen=to_uint8(explanation.pixels),
        bars=bars,
        panels=[_panel(explanation, name, limits, sigma) for name in explanation.maps],
        smoothing=f"smoothed (Gaussian \N{GREEK SMALL LETTER SIGMA} {sigma:.1f} px)",
        footer=_footer(explanation, own=own),
    )


def _subtitle(explanation: Explanation) -> str:
    target, count = explanation.target, len(explanation.rivals)
    rule = explanation.choices["rivals"]
    rivals = f"all {count} other classes" if rule == "all" else _count(count, rule)
    return (
        f"{explanation.model['name']} · class {target.index} at {100 * target.probability:.1f} % · "
        f"compared with {rivals} · {method_text(explanation.choices)} of the "
        f"{explanation.choices['score']}"
    )


def _count(count: int, rule: str) -> str:
    return f"{count} rivals ({rule})" if count != 1 else f"1 rival ({rule})"


def method_text(choices: Mapping[str, Any]) -> str:
    """The method with its settings: smoothgrad (32 points, sigma 0.15)."""
    settings = choices.get("method_settings", {})
    told = [f"{settings['points']} points"] if "points" in settings else []
    told += [f"sigma {settings['sigma']:g}"] if "sigma" in settings else []
    told += [f"from {settings['baseline']}"] if "baseline" in settings else []
    if "background_images" in settings:
        told.append(f"from {settings['background_images']} background images")
    return f"{choices['method']} ({', '.join(told)})" if told else str(choices["method"])


def _not(explanation: Explanation) -> str:
    """The one class that it is compared with, where there is one."""
    if len(explanation.rivals) != 1:
        return ""
    return f" and not {explanation.labels.get(explanation.rivals[0], explanation.rivals[0])}"


def _footer(explanation: Explanation, *, own: bool) -> str:
    notes = "".join(f" · {note}" for note in explanation.image.notes)
    scale = "each map has its own color scale" if own else "one color scale for all images"
    return (
        f"{scale}, clipped at its {100 * CLIP:.0f}th percentile · support: share of pixels in the "
        f"map's mask{notes}"
    )


def _panel(explanation: Explanation, name: str, limits: Limits, sigma: float) -> Panel:
    values, facts = explanation.maps[name], explanation.facts[name]
    share = f"{100 * facts.support_pixels:.1f}"
    note = f"{facts.reads}; support\N{NO-BREAK SPACE}{share}\N{NO-BREAK SPACE}%"
    if facts.kind == "class":
        picture, colors = class_colors(values)
        return Panel(name, note, picture, None, _winners(explanation, values, colors))
    soft = smooth(values, sigma)
    fine_limit, soft_limit = limits[name]
    return Panel(
        name,
        note,
        _color(explanation, name, facts, values, fine_limit),
        _color(explanation, name, facts, soft, soft_limit),
    )


def _color(
    explanation: Explanation,
    name: str,
    facts: MapFacts,
    values: NDArray[np.floating[Any]],
    limit: float,
) -> NDArray[np.uint8]:
    if facts.kind == "magnitude":
        return one_sided(values, limit, MAPS[name].helps)
    return overlay(values, limit, gray(explanation.pixels))


def _winners(
    explanation: Explanation, values: NDArray[Any], colors: dict[int, tuple[int, int, int]]
) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """Names and shares of the most frequent classes, of all others and of ties: what is shown."""
    rest = (values >= 0) & ~np.isin(values, [*colors])
    shown = [(explanation.labels[k], values == k, color) for k, color in colors.items()]
    shown += [("other classes", rest, OTHER_CLASS), ("a tie", values < 0, ZERO)]
    return tuple(
        (f"{label} {100 * float(where.mean()):.0f} %", color)
        for label, where, color in shown
        if where.any()
    )
