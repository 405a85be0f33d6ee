"""An explanation as pictures and rows, ready to be drawn or laid out."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import MAPS, SMOOTHING
from chiaroscuro.explanations.explanation import Explanation, MapFacts
from chiaroscuro.images import grey, to_uint8
from chiaroscuro.render import (
    Bar,
    FigureSheet,
    Frame,
    Panel,
    class_colours,
    one_sided,
    overlay,
    smooth,
)

CLIP = 0.995
"""Colour limits lie at this quantile of a map's pixels, so that one pixel cannot darken the rest."""


def smoothing_sigma(explanation: Explanation) -> float:
    """Standard deviation of the smoothed view in pixels."""
    return SMOOTHING * min(explanation.pixels.shape[1:])


def color_limits(explanation: Explanation) -> tuple[float, float]:
    """Limits of the pixel view and the smoothed view: the largest over maps of the clip quantile.

    Maps of gradients share one unit, so one limit lets the maps of an image be compared.
    """
    sigma = smoothing_sigma(explanation)
    sizes = [np.abs(values) for name, values in explanation.maps.items() if _is_gradient(name)]
    pixel = max((float(np.quantile(size, CLIP)) for size in sizes), default=0.0)
    soft = max((float(np.quantile(smooth(size, sigma), CLIP)) for size in sizes), default=0.0)
    return pixel, soft


def make_sheet(explanation: Explanation, limits: tuple[float, float] | None = None) -> FigureSheet:
    """The figure's contents, with colours at the given limits or the image's own."""
    limits = limits or color_limits(explanation)
    sigma = smoothing_sigma(explanation)
    target = explanation.target
    crop, photo = explanation.crop, explanation.photo
    scale = photo.shape[1] / crop.photo_width
    bars = [Bar(p.label, p.probability, p.index == target.index) for p in explanation.predictions]
    if not any(bar.explained for bar in bars):
        bars.append(Bar(target.label, target.probability, True))
    return FigureSheet(
        title=f"{Path(explanation.image.source).name}: why {target.label}?",
        subtitle=_subtitle(explanation),
        frame=Frame(
            photo, crop.left * scale, crop.top * scale, crop.right * scale, crop.bottom * scale
        ),
        seen=to_uint8(explanation.pixels),
        bars=bars,
        panels=[_panel(explanation, name, limits, sigma) for name in explanation.maps],
        smoothing=f"smoothed (Gaussian, {sigma:.1f} px wide)",
        footer=_footer(explanation, limits),
    )


def _subtitle(explanation: Explanation) -> str:
    target, count = explanation.target, len(explanation.rivals)
    rule = explanation.choices["rivals"]
    rivals = f"all {count} other classes" if rule == "all" else f"{count} rivals ({rule})"
    return (
        f"{explanation.model['name']} · class {target.index} at {100 * target.probability:.1f} % · "
        f"compared with {rivals} · {explanation.choices['method']} of the "
        f"{explanation.choices['score']}"
    )


def _footer(explanation: Explanation, limits: tuple[float, float]) -> str:
    notes = "".join(f" · {note}" for note in explanation.image.notes)
    return (
        f"colours clip at {limits[0]:.3g} (pixel view) and {limits[1]:.3g} (smoothed), in "
        f"{explanation.choices['score']} per unit of pixel value; support = share of pixels in the "
        f"map's mask{notes}"
    )


def _panel(
    explanation: Explanation, name: str, limits: tuple[float, float], sigma: float
) -> Panel:
    values, facts = explanation.maps[name], explanation.facts[name]
    note = f"{facts.reads}; support {100 * facts.support_pixels:.1f} %"
    if facts.kind == "class":
        picture, colours = class_colours(values)
        return Panel(name, facts.reads, _winners(explanation, values, colours), picture, None)
    soft = smooth(values, sigma)
    return Panel(
        name,
        facts.reads,
        note,
        _colour(explanation, name, facts, values, limits[0]),
        _colour(explanation, name, facts, soft, limits[1]),
    )


def _colour(
    explanation: Explanation,
    name: str,
    facts: MapFacts,
    values: NDArray[np.floating[Any]],
    limit: float,
) -> NDArray[np.uint8]:
    if facts.kind == "magnitude":
        return one_sided(values, limit, MAPS[name].helps)
    return overlay(values, limit, grey(explanation.pixels))


def _winners(
    explanation: Explanation, values: NDArray[Any], colours: dict[int, tuple[int, int, int]]
) -> str:
    shares = [(float((values == k).mean()), explanation.labels[k]) for k in colours]
    listed = ", ".join(f"{label.split(',')[0]} {100 * share:.0f} %" for share, label in shares)
    return f"wins most pixels: {listed}"


def _is_gradient(name: str) -> bool:
    return MAPS[name].kind in ("magnitude", "signed")
