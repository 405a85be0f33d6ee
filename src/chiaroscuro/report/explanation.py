"""An explanation as a figure and a page, and the gallery over many."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import MAPS, SMOOTHING, parse_rivals
from chiaroscuro.images import gray, to_uint8
from chiaroscuro.render import (
    Bar,
    FigureSpec,
    Frame,
    Panel,
    class_colors,
    draw_figure,
    one_sided,
    overlay,
    smooth,
)
from chiaroscuro.render.pictures import CLIP, OTHER_CLASS, ZERO, Rgb
from chiaroscuro.report.pages import (
    Rows,
    data_uri,
    filled,
    image_rows,
    method_text,
    model_rows,
    plain,
    write_page,
)
from chiaroscuro.results import FIGURE
from chiaroscuro.results.explanations import MOST_NAMED, ColorLimits, Explanation, Gallery


def write(explanation: Explanation, folder: Path) -> None:
    """Write the figure and the page into a folder."""
    spec = figure_spec(explanation)
    draw_figure(spec, folder / FIGURE)
    height, width = spec.frame.photo.shape[:2]
    write_page(
        folder,
        "explanation.html.j2",
        spec=spec,
        photo=data_uri(spec.frame.photo),
        seen=data_uri(spec.seen),
        panels=[
            (
                panel,
                data_uri(panel.pixels),
                None if panel.smoothed is None else data_uri(panel.smoothed),
                explanation.facts[panel.name].form == "printed",
            )
            for panel in spec.panels
        ],
        frame={
            "left": 100 * spec.frame.left / width,
            "top": 100 * spec.frame.top / height,
            "width": 100 * (spec.frame.right - spec.frame.left) / width,
            "height": 100 * (spec.frame.bottom - spec.frame.top) / height,
        },
        notes=explanation.notes,
        rows=_rows(explanation),
    )


def write_gallery(gallery: Gallery, folder: Path) -> None:
    """Write the page of links to the explanations of a gallery."""
    write_page(folder, "gallery.html.j2", entries=gallery.entries)


def _rows(explanation: Explanation) -> Rows:
    choices, limits = explanation.choices, _limits(explanation)
    shown = ", ".join(
        f"{name} {fine:.3g} (smoothed {soft:.3g})" for name, (fine, soft) in limits.items()
    )
    return filled(
        [
            *image_rows(explanation.image, explanation.crop),
            *model_rows(explanation.model, explanation.threads),
            ("target", str(choices.target)),
            ("rivals", rivals_text(explanation)),
            ("score", choices.score),
            ("method", method_text(choices.method)),
            ("seed", str(choices.method.seed)),
            ("background", str(choices.method.background)),
            ("maps", plain(choices.maps)),
            ("fit", choices.fit),
            ("color limits", shown),
            ("color scale", "per image" if explanation.color_limits is None else "shared"),
            ("versions", plain(explanation.versions)),
        ]
    )


# Colors


def smoothing_sigma(explanation: Explanation) -> float:
    """Standard deviation of the smoothed view in pixels."""
    height, width = explanation.pixels.shape[1:]
    return SMOOTHING * float(min(height, width))


def color_limits(explanation: Explanation) -> ColorLimits:
    """The clip quantile of each map's sizes, pixel by pixel and smoothed; class maps have none."""
    sigma = smoothing_sigma(explanation)
    return {
        name: (_clip(values), _clip(smooth(values, sigma)))
        for name, values in explanation.maps.items()
        if explanation.facts[name].kind != "class"
    }


def shared_limits(several: Sequence[ColorLimits]) -> ColorLimits:
    """The largest limits of several images, map by map."""
    names = {name for limits in several for name in limits}
    largest = {}
    for name in sorted(names):
        fine, soft = zip(*(limits[name] for limits in several if name in limits), strict=True)
        largest[name] = (max(fine), max(soft))
    return largest


def _limits(explanation: Explanation) -> ColorLimits:
    shared = explanation.color_limits
    return color_limits(explanation) if shared is None else shared


def _clip(values: NDArray[np.floating[Any]]) -> float:
    sizes = np.abs(values[values != 0])
    return float(np.quantile(sizes, CLIP)) if sizes.size else 0.0


def picture(name: str, values: NDArray[Any], limit: float, photo: NDArray[Any]) -> Rgb:
    """A map (H, W) in its colors: one with a sign lies over the gray photo (H, W)."""
    if MAPS[name].kind == "magnitude":
        return one_sided(values, limit, MAPS[name].helps)
    return overlay(values, limit, photo)


# The figure


def figure_spec(explanation: Explanation) -> FigureSpec:
    """The figure's contents, with the explanation's color limits or each map's own."""
    limits, sigma = _limits(explanation), smoothing_sigma(explanation)
    crop, photo = explanation.crop, explanation.photo
    scale = photo.shape[1] / crop.photo_width
    source, target = Path(explanation.image.source).name, explanation.target.label
    return FigureSpec(
        title=f"{source}: why {target}{_contrast(explanation)}?",
        subtitle=_subtitle(explanation),
        frame=Frame(
            photo, crop.left * scale, crop.top * scale, crop.right * scale, crop.bottom * scale
        ),
        seen=to_uint8(explanation.pixels),
        bars=bars(explanation),
        panels=[_panel(explanation, name, limits, sigma) for name in explanation.maps],
        smoothing=f"smoothed (Gaussian \N{GREEK SMALL LETTER SIGMA} {sigma:.1f} px)",
        footer=_footer(explanation),
    )


def bars(explanation: Explanation) -> list[Bar]:
    """The listed classes, the target class marked."""
    target = explanation.target.index
    return [Bar(p.label, p.probability, p.index == target) for p in explanation.predictions]


def rivals_text(explanation: Explanation) -> str:
    """The classes compared with, in words."""
    rule, rivals = explanation.choices.rivals, explanation.rivals
    if rule == "all":
        return f"all {len(rivals)} other classes"
    chosen = parse_rivals(rule)
    word = f" ({rule})" if chosen.classes is None or chosen.is_weighted else ""
    if len(rivals) <= MOST_NAMED:
        names = [explanation.labels[k].split(",")[0] for k in rivals]
        return f"{' and '.join([', '.join(names[:-1]), names[-1]][len(names) < 2 :])}{word}"
    return f"{len(rivals)} rivals{word}"


def _contrast(explanation: Explanation) -> str:
    """The one class that it is compared with, where there is one."""
    rivals = explanation.rivals
    return f" and not {explanation.labels[rivals[0]]}" if len(rivals) == 1 else ""


def _subtitle(explanation: Explanation) -> str:
    target, choices = explanation.target, explanation.choices
    return (
        f"{explanation.model.name} · class {target.index} at {100 * target.probability:.1f} % · "
        f"compared with {rivals_text(explanation)} · {method_text(choices.method)} of the "
        f"{choices.score}"
    )


def _footer(explanation: Explanation) -> str:
    own = explanation.color_limits is None
    scale = "each map has its own color scale" if own else "one color scale for all images"
    notes = "".join(f" · {note}" for note in (*explanation.image.notes, *explanation.notes))
    return (
        f"{scale}, clipped at its {100 * CLIP:.0f}th percentile · support: share of pixels in the "
        f"map's mask{notes}"
    )


def _panel(explanation: Explanation, name: str, limits: ColorLimits, sigma: float) -> Panel:
    values, facts = explanation.maps[name], explanation.facts[name]
    share = f"{100 * facts.support_pixels:.1f}"
    note = f"{facts.reads}; support\N{NO-BREAK SPACE}{share}\N{NO-BREAK SPACE}%"
    if facts.kind == "class":
        pixels, colors = class_colors(values)
        return Panel(name, note, pixels, None, _winners(explanation.labels, values, colors))
    photo, (fine, soft) = gray(explanation.pixels), limits[name]
    return Panel(
        name,
        note,
        picture(name, values, fine, photo),
        picture(name, smooth(values, sigma), soft, photo),
    )


def _winners(
    labels: Mapping[int, str], values: NDArray[Any], colors: dict[int, tuple[int, int, int]]
) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """Names and shares of the most frequent classes, of all others and of ties: what is shown."""
    rest = (values >= 0) & ~np.isin(values, [*colors])
    shown = [(labels[k], values == k, color) for k, color in colors.items()]
    shown += [("other classes", rest, OTHER_CLASS), ("a tie", values < 0, ZERO)]
    return tuple(
        (f"{label} {100 * float(where.mean()):.0f} %", color)
        for label, where, color in shown
        if where.any()
    )
