"""The page of a training's probe: maps of a few images, and their scores, epoch by epoch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chiaroscuro.images import gray, to_uint8
from chiaroscuro.render.sheets import Chart, Curve
from chiaroscuro.render.shown import flat, shown_pixels
from chiaroscuro.report.pages import (
    Examples,
    draw,
    filled,
    images_text,
    map_picture,
    plain,
    write_page,
)
from chiaroscuro.results.models import PROBE_SCORES, ProbedTraining

SETTLED = 0.5
"""A map has settled where its rank correlation with that of the last epoch is at least this."""
_LEAST = 0.01
"""A lower relevance gain is no sign that a class is learned."""
_SHOWN = 8
"""So many epochs are shown as pictures."""
_CHARTS = {
    "gain": "relevance gain (probability)",
    "share": "share of pixels in the map",
    "last": "rank correlation with the last epoch",
    "previous": "rank correlation with the epoch before",
}


def write(result: ProbedTraining, folder: Path) -> None:
    """Draw the charts as PNG and SVG, and the page."""
    settings = result.settings.plain().items()
    write_page(
        folder,
        "probe",
        title=f"{result.network}: maps during the training",
        docs="how-to/follow-a-training",
        asked="When does a network learn where to look, and when do its maps settle? Maps of "
        f"{images_text(len(result.ids))} after {len(result.epochs)} epochs of one training.",
        found=[*probe_words(result)],
        result=result,
        charts=draw([*_charts(result)], folder),
        lead=leading_map(result),
        classes=[*class_gains(result)],
        means={score: getattr(result, score).mean(axis=1) for score in PROBE_SCORES},
        settled=SETTLED,
        examples=_pictures(result),
        rows=[
            *filled([(key.replace("_", " "), plain(value)) for key, value in settings]),
            ("epochs looked at", plain(result.epochs)),
            ("versions", plain(result.versions)),
        ],
    )


def probe_words(result: ProbedTraining) -> Iterator[str]:
    """What is predicted, when each class learns where to look, and when maps settle."""
    first, last = result.right[[0, -1]].sum(axis=1)
    yield (
        f"After epoch {result.epochs[-1]} the network predicts the class of {last} of "
        f"{images_text(len(result.ids))}, after epoch {result.epochs[0]} of {first}."
    )
    when = [(epoch, label) for label, _, epoch, _ in class_gains(result) if epoch is not None]
    if when:
        (early, soon), (late, slow) = min(when), max(when)
        yield (
            "Classes learn where to look (half of the highest relevance gain of "
            f"{leading_map(result)}) after epoch {early} ({soon}) to {late} ({slow})."
        )
    for m, name in enumerate(result.settings.maps):
        unlike = np.flatnonzero(result.last[..., m].mean(axis=1) < SETTLED)
        settled = unlike[-1] + 1 if len(unlike) else 0
        if settled < len(result.epochs) - 1:
            yield f"{name} settles after epoch {result.epochs[settled]}."
        else:
            similar = f"{result.previous[-1, :, m].mean():.2f}"
            yield f"{name} does not settle: its last two maps have a rank correlation of {similar}."


def leading_map(result: ProbedTraining) -> str:
    """The map with the highest mean gain at the end."""
    return result.settings.maps[int(result.gain[-1].mean(axis=0).argmax())]


def class_gains(result: ProbedTraining) -> Iterator[tuple[str, int, int | None, list[float]]]:
    """Each class, its images, the first epoch with half of its highest gain, and all gains."""
    lead = result.gain[..., result.settings.maps.index(leading_map(result))]
    for label in dict.fromkeys(result.labels):
        of = [b for b, other in enumerate(result.labels) if other == label]
        gains = lead[:, of].mean(axis=1)
        enough = np.flatnonzero((2 * gains >= gains.max()) & (gains >= _LEAST))
        epoch = result.epochs[enough[0]] if len(enough) else None
        yield label, len(of), epoch, gains.tolist()


def _charts(result: ProbedTraining) -> Iterator[tuple[str, Chart]]:
    """One chart a score, a line a map: means over the images."""
    for score, label in _CHARTS.items():
        means, start = getattr(result, score).mean(axis=1), int(score == "previous")
        curves = [
            Curve(name, result.epochs[start:], means[start:, m].tolist())
            for m, name in enumerate(result.settings.maps)
        ]
        limits = (None, None) if score == "gain" else (None, 1.03)
        if len(result.epochs) > start:
            yield f"curves-{score}", Chart(label, curves, "epochs", "", limits, percent_x=False)


def _pictures(result: ProbedTraining) -> Examples:
    """Every image with its maps, epoch by epoch; each map to its own limit."""
    count = min(_SHOWN, len(result.epochs))
    places = np.linspace(0, len(result.epochs) - 1, count).round().astype(int).tolist()
    examples: Examples = []
    for b, (image, label) in enumerate(zip(result.ids, result.labels, strict=True)):
        pixels, rows = shown_pixels(result.pixels[b], result.shown), []
        for m, name in enumerate(result.settings.maps):
            maps = [map_picture(name, flat(result.maps[e, b, m]), gray(pixels)) for e in places]
            titles = [f"{name}, epoch {result.epochs[e]}" for e in places]
            rows.append([("image", to_uint8(pixels)), *zip(titles, maps, strict=True)])
        examples.append((f"{image}: {label}", rows))
    return examples
