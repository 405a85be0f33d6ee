"""Maps made for a given change of pixels: what the class loses when a pixel is changed so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.choices import EditMethod, Fill, OwnScore
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import apply_edit, filled, image_seeds, pixel_order, pixel_rank
from chiaroscuro.errors import ChoiceError, ImageError, unknown
from chiaroscuro.gradients import Points, target_gradients

POINTS = 16
"""Gradient passes of a partial-edit map by default."""
_PREDICTED_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where a partial-edit map asks for gradients: at images of which a share carries the change.

    The first `random` points change random pixels, a share drawn from `random_share`; the others
    change those that are highest in the map so far, a share drawn from `guided_share`, after
    `jitter` times a random number in [0, 1) was added to each pixel's rank / N. `score` is what
    is differentiated.
    """

    random: int = 4
    random_share: tuple[float, float] = (0.0, 0.3)
    guided_share: tuple[float, float] = (0.0, 0.2)
    jitter: float = 0.1
    score: OwnScore = "log-odds"


DEFAULT_SCHEDULE = Schedule()
"""Found on training images: `python -m benchmarks.edit_maps --tune`, docs/design/edit-maps.md."""


@dataclass(frozen=True, eq=False)
class Question:
    """What an edit map is asked: images, what they become, the class, and how many points.

    `pixels` and `changed` are (B, C, H, W); `seeds` has one number an image.
    """

    classifier: Classifier
    pixels: Tensor
    changed: Tensor
    target: int | Sequence[int] | Tensor
    points: int
    seeds: Sequence[int]

    def effect(self, points: Tensor, score: OwnScore) -> Tensor:
        """Minus the gradient times the change, summed over channels and points: (B, H, W).

        `points` (P, B, C, H, W) are where the gradient is asked.
        """
        weights = torch.ones_like(points[:, :, 0, 0, 0])
        gradient = target_gradients(self.classifier, Points(points, weights), self.target, score)
        return -(gradient * (self.changed - self.pixels)).sum(dim=1)


def edit_map(
    classifier: Classifier,
    pixels: Tensor,
    change: str | Fill | Tensor,
    method: EditMethod = "expected-effect",
    points: int = POINTS,
    target: int | Sequence[int] | Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """What each pixel's change takes from the class, d being the change: maps (B, H, W).

    "expected-effect" is -sum_ch (d log p_c / dx) * d, the first-order loss when that pixel alone is
    changed so. "partial-edit" sums -sum_ch (dS_c / dx) * d over `points` images of which a part
    already carries the change: first of random pixels, then of those highest in the map so far; S_c
    is the log-odds of the class. High values: changing the pixel so lowers the class.

    `pixels` (B, C, H, W) in [0, 1]; `change` is a fill (noise is drawn as by `filled`), or the
    pixels (B, C, H, W) as they become. `target`: None for the predicted class, an index, or one per
    image. Points are drawn from `generator` (None is a fixed seed) and each image's own values, so
    an image gets the same map in any batch. Cost: one gradient pass a point; "expected-effect" has
    one. Such a map is made to make an edit of its kind succeed early; see docs/results/beyond.md.

    Raises `ImageError`, `ChoiceError` or `ModelError`. Source: this project's.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> edit_map(Classifier(net), torch.rand(2, 3, 2, 2), "black", "partial-edit", 4).shape
    torch.Size([2, 2, 2])
    """
    if method not in EDIT_MAPS:
        raise unknown("edit map", method, EDIT_MAPS)
    if points < 1:
        raise ChoiceError(f"points is {points}: expected at least 1")
    classifier.check_pixels(pixels)
    kept = pixels.detach()
    question = Question(
        classifier,
        kept,
        _changed(kept, change),
        _resolved(classifier, kept, target),
        points,
        image_seeds(kept, _seed(generator)),
    )
    return EDIT_MAPS[method](question)


def expected_effect(question: Question) -> Tensor:
    """The effect at the untouched image, in log-probability."""
    return question.effect(question.pixels[None], "log-probability")


def partial_edit(question: Question, schedule: Schedule = DEFAULT_SCHEDULE) -> Tensor:
    """The effect summed over partly changed images, the later ones guided by the sum so far."""
    drawn = _draw(question, schedule)
    first = min(schedule.random, question.points)
    total = torch.zeros_like(question.pixels[:, 0])
    if first:
        places = [_edited(question, drawn.keys[:, p], drawn.counts[:, p]) for p in range(first)]
        total = question.effect(torch.stack(places), schedule.score)
    for p in range(first, question.points):
        rank = pixel_rank(pixel_order(total)) / drawn.keys.shape[2]
        point = _edited(question, rank + schedule.jitter * drawn.keys[:, p], drawn.counts[:, p])
        total = total + question.effect(point[None], schedule.score)
    return total


EDIT_MAPS: Mapping[str, Callable[[Question], Tensor]] = {
    "expected-effect": expected_effect,
    "partial-edit": partial_edit,
}
"""Every edit map by name; how each reads is in `chiaroscuro.choices.EDIT_MAPS`."""


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Random keys in [0, 1) of every pixel (B, P, N), and how many a point changes (B, P)."""

    keys: Tensor
    counts: Tensor


def _draw(question: Question, schedule: Schedule) -> _Drawn:
    count = question.pixels[0, 0].numel()
    keys, counts = [], []
    for seed in question.seeds:
        source = np.random.default_rng(seed)
        share = source.random(question.points)
        guided = np.arange(question.points) >= schedule.random
        low, high = np.where(guided[:, None], schedule.guided_share, schedule.random_share).T
        counts.append(np.rint((low + (high - low) * share) * count).astype(np.int64))
        keys.append(source.random((question.points, count), np.float32))
    home = question.pixels.device
    return _Drawn(
        torch.from_numpy(np.stack(keys)).to(home), torch.from_numpy(np.stack(counts)).to(home)
    )


def _edited(question: Question, keys: Tensor, counts: Tensor) -> Tensor:
    """The images with their `counts` (B,) pixels of lowest keys (B, N) changed."""
    rank = pixel_rank(keys.argsort(dim=1, stable=True))
    return apply_edit(question.pixels, question.changed, rank, counts)


def _changed(pixels: Tensor, change: str | Fill | Tensor) -> Tensor:
    if not isinstance(change, Tensor):
        return filled(pixels, change)
    if change.shape != pixels.shape:
        raise ImageError(
            f"change has shape {tuple(change.shape)}: expected the pixels' {tuple(pixels.shape)}"
        )
    return change.detach().to(pixels)


def _resolved(
    classifier: Classifier, pixels: Tensor, target: int | Sequence[int] | Tensor | None
) -> Tensor | int | Sequence[int]:
    """The target as given, or the predicted class of each image."""
    if target is not None:
        return target
    if classifier.multi_label:
        raise ChoiceError("a multi-label classifier has no predicted class: give a target")
    rows = max(1, _PREDICTED_BYTES // (pixels[0].numel() * pixels.element_size()))
    with torch.no_grad():
        parts = [classifier(part) for part in torch.split(pixels, rows)]
    return torch.cat(parts).argmax(dim=1)


def _seed(generator: torch.Generator | None) -> int:
    if generator is None:
        return 0
    drawn = torch.randint(2**31, (1,), generator=generator, device=generator.device)
    return int(drawn)
