"""Edit maps: what the target class loses when pixels are changed in a given way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.choices import Fill, OwnScore, as_int
from chiaroscuro.classifier import Classifier
from chiaroscuro.device import device_profile
from chiaroscuro.edits import apply_edit, filled, image_seeds, pixel_order, pixel_rank
from chiaroscuro.errors import ChoiceError, ImageError, brief, unknown
from chiaroscuro.gradients import Points, target_gradients
from chiaroscuro.images.arrays import check_range

POINTS = 16
"""Sample points (gradient passes) of a partial-edit map by default."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where a partial-edit map takes gradients: at images with a share of their pixels changed.

    The first `random` points change random pixels, a share drawn from `random_share`; the others
    change the pixels that are highest in the sum so far, a share drawn from `guided_share`, after
    `jitter` times a random number in [0, 1) is added to each pixel's rank / N. `score` is
    differentiated.
    """

    random: int = 4
    random_share: tuple[float, float] = (0.0, 0.3)
    guided_share: tuple[float, float] = (0.0, 0.2)
    jitter: float = 0.1
    score: OwnScore = "log-odds"


DEFAULT_SCHEDULE = Schedule()
"""Tuned on training images: `python -m benchmarks.edit_maps tune`, docs/design/edit-maps.md."""


@dataclass(frozen=True, eq=False)
class Question:
    """What an edit map is computed from: images, their changed forms, the class, and the points.

    `pixels` and `changed` are (B, C, H, W); `seeds` has one number per image.
    """

    classifier: Classifier
    pixels: Tensor
    changed: Tensor
    target: int | Sequence[int] | Tensor
    points: int
    seeds: Sequence[int]
    __repr__ = brief

    def effect(self, points: Tensor, score: OwnScore) -> Tensor:
        """Minus the gradient times the change, summed over channels and points: (B, H, W).

        `points` (P, B, C, H, W) are the images at which the gradient is taken.
        """
        weights = torch.ones_like(points[:, :, 0, 0, 0])
        gradient = target_gradients(self.classifier, Points(points, weights), self.target, score)
        return -(gradient * (self.changed - self.pixels)).sum(dim=1)


def edit_map(
    classifier: Classifier,
    pixels: Tensor,
    change: str | Fill | Tensor,
    method: str = "expected-effect",
    points: int = POINTS,
    target: int | Sequence[int] | Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """What the target class loses by the change d of each pixel: maps (B, H, W), high = loses most.

    "expected-effect" is -sum_ch (d log p_c / dx) * d, the first-order loss when that pixel alone
    changes, in log-probability. "partial-edit" is -sum_points sum_ch (dS_c / dx) * d, S_c the
    log-odds of the class, at `points` images in which a part of the pixels is changed: first random
    pixels, then those highest in the sum so far.

    `pixels` (B, C, H, W) in [0, 1]; `change` is a fill (noise is drawn as by `filled`), or the
    changed pixels (B, C, H, W). `target`: None for the predicted class, an index, or one per image.
    Points are drawn from `generator` (None is a fixed seed) and each image's own values, so an
    image gets the same map in any batch. Cost: one gradient pass per point; "expected-effect" has
    one. The map is made for an edit of its kind; see docs/results/beyond.md.

    Raises `ImageError`, `ChoiceError` or `ModelError`. Source: this project's.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> edit_map(Classifier(net), torch.rand(2, 3, 2, 2), "black", "partial-edit", 4).shape
    torch.Size([2, 2, 2])
    """
    if method not in EDIT_MAPS:
        raise unknown("edit map", method, EDIT_MAPS)
    points = as_int("points", points)
    if points < 1:
        raise ChoiceError(f"points is {points}: expected at least 1")
    classifier.check_pixels(pixels)
    kept = pixels.detach()
    changed = _changed(kept, change)
    target = _predicted(classifier, kept) if target is None else target
    seeds = image_seeds(kept, _seed(generator))
    return EDIT_MAPS[method](Question(classifier, kept, changed, target, points, seeds))


def expected_effect(question: Question) -> Tensor:
    """The effect at the untouched image, in log-probability."""
    return question.effect(question.pixels[None], "log-probability")


def partial_edit(question: Question, schedule: Schedule = DEFAULT_SCHEDULE) -> Tensor:
    """The effect summed over partly changed images, the later ones guided by the sum so far."""
    keys, counts = _draw(question, schedule)
    first = min(schedule.random, question.points)
    total = torch.zeros_like(question.pixels[:, 0])
    if first:
        images = [_edited(question, keys[:, p], counts[:, p]) for p in range(first)]
        total = question.effect(torch.stack(images), schedule.score)
    for p in range(first, question.points):
        rank = pixel_rank(pixel_order(total)) / keys.shape[2]
        image = _edited(question, rank + schedule.jitter * keys[:, p], counts[:, p])
        total = total + question.effect(image[None], schedule.score)
    return total


EDIT_MAPS: dict[str, Callable[[Question], Tensor]] = {
    "expected-effect": expected_effect,
    "partial-edit": partial_edit,
}
"""Every edit map by name; how each reads is in `chiaroscuro.choices.EDIT_MAPS`."""


def _draw(question: Question, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Random keys in [0, 1) of every pixel (B, P, N), and how many a point changes (B, P)."""
    pixels = question.pixels[0, 0].numel()
    guided = np.arange(question.points) >= schedule.random
    low, high = np.where(guided[:, None], schedule.guided_share, schedule.random_share).T
    keys, counts = [], []
    for seed in question.seeds:
        source = np.random.default_rng(seed)
        share = source.random(question.points)
        counts.append(np.rint((low + (high - low) * share) * pixels).astype(np.int64))
        keys.append(source.random((question.points, pixels), np.float32))
    device = question.pixels.device
    return torch.from_numpy(np.stack(keys)).to(device), torch.from_numpy(np.stack(counts)).to(
        device
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
    low, high = torch.aminmax(change.detach())
    check_range(float(low), float(high), "change")
    return change.detach().to(pixels)


def _predicted(classifier: Classifier, pixels: Tensor) -> Tensor:
    """The predicted class of each image, (B,)."""
    if classifier.multi_label:
        raise ChoiceError("a multi-label classifier has no predicted class: give a target")
    rows = max(1, device_profile().forward_bytes // (pixels[0].numel() * pixels.element_size()))
    with torch.no_grad():
        return torch.cat([classifier(part) for part in torch.split(pixels, rows)]).argmax(dim=1)


def _seed(generator: torch.Generator | None) -> int:
    if generator is None:
        return 0
    return int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
