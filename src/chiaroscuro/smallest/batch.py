"""Smallest edits of a batch of images: every search's questions go through the network together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro import edits
from chiaroscuro.choices import Fill, as_int
from chiaroscuro.classifier import Classifier
from chiaroscuro.classifier.reading import to_numpy
from chiaroscuro.device import device_profile
from chiaroscuro.errors import ChoiceError, ImageError, InputError, brief
from chiaroscuro.gradients import Points, target_gradients
from chiaroscuro.gradients.classes import Target, resolve_target, target_indices
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.guard import as_found
from chiaroscuro.smallest.search import Answer, Ask, Search, Steps
from chiaroscuro.units import units


@dataclass(frozen=True, eq=False)
class SmallestEdits:
    """An edit for each of B images.

    `order` (B, H, W): 0 where nothing changes, and 1, 2, ... at the units of the edit, the most
    needed first. `before` and `after` (B,): the predicted classes. `reached` (B,): whether the edit
    does what it is for; without that it is empty. `minimal` (B,): each unit was restored alone, and
    the edit did it no longer. Both are what was predicted: scores that differ by rounding alone may
    decide otherwise in another batch. `units` (B,): their number. `gradients` and `predictions`
    (B,): the passes, with and without a backward pass.
    """

    order: Tensor
    before: Tensor
    after: Tensor
    reached: Tensor
    minimal: Tensor
    units: Tensor
    gradients: Tensor
    predictions: Tensor
    __repr__ = brief

    @property
    def masks(self) -> Tensor:
        """The pixels of the edits (B, H, W)."""
        return self.order > 0

    @property
    def passes(self) -> Tensor:
        """Images that went through the network, with or without a backward pass (B,)."""
        return self.gradients + self.predictions


def smallest_edits(
    classifier: Classifier,
    pixels: Tensor,
    change: str | Fill | Tensor,
    to: Target = None,
    *,
    keep: bool = False,
    cells: int | str = "pixels",
    budget: int = 64,
    untouched: Tensor | None = None,
    seed: int = 0,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> SmallestEdits:
    """The fewest units whose change turns the prediction of each image (B, C, H, W) in [0, 1].

    `change`: a fill, or the changed pixels (B, C, H, W). `to`: the class that must be predicted
    after it, by index or name, or one an image; None: any other class. `keep`: the fewest units
    that alone keep the prediction when all others change. `cells`: units are "pixels", cells of so
    many pixels a side, or "superpixels". `untouched` (B, H, W): pixels that must not be part of an
    edit. `budget`: gradient passes of an image at most; predictions may be 64 times as many.
    `seed`: noise, ties.

    Only trying all edits finds the smallest one. This is a search: an edit grows along gradients
    that are computed again as it grows, loses the units that it does not need, and exchanges some
    for fewer others; real predictions decide each step.

    Raises `ImageError`, `InputError`, `ChoiceError` or `ModelError`. Source: this project's.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[0.0, 0, 0, 0], [-2, 1, 2, 0]]))
    >>> found = smallest_edits(Classifier(net, channels=1), torch.ones(1, 1, 2, 2), "black")
    >>> found.masks.int().tolist(), found.before.tolist(), found.after.tolist()
    ([[[0, 0], [1, 0]]], [1], [0])
    """
    classifier.check_pixels(pixels)
    kept = pixels.detach()
    if (budget := as_int("budget", budget)) < 1:
        raise ChoiceError(f"budget is {budget}: expected at least 1 gradient pass")
    if untouched is not None and untouched.shape != kept[:, 0].shape:
        shape, expected = tuple(untouched.shape), tuple(kept[:, 0].shape)
        raise InputError(f"untouched has shape {shape}: expected (B, H, W) = {expected}")
    changed = _changed(kept, change, seed)
    ids = units(kept, cells)
    labels, world = to_numpy(ids), World(classifier, kept, changed, ids, memory_budget)
    logits = world.logits(kept)
    before = logits.argmax(dim=1)
    world.goal = resolve_target(target_indices(to, classifier), logits, name="to")
    world.away = to is None
    if keep:
        world.start, world.end, world.away = changed, kept, False
    moves = to_numpy((changed != kept).any(dim=1))
    closed = np.zeros_like(moves) if untouched is None else to_numpy(untouched.bool())
    searches = []
    for n, seeded in enumerate(edits.image_seeds(kept, seed)):
        count = int(labels[n].max()) + 1
        allowed = np.bincount(labels[n][moves[n]], minlength=count) > 0
        allowed &= np.bincount(labels[n][closed[n]], minlength=count) == 0
        searches.append(Search(allowed, np.random.default_rng(seeded).permutation(count), budget))
    world.run(searches, progress)
    ranks = [_ranked(own, one.units) for own, one in zip(labels, searches, strict=True)]
    order = torch.from_numpy(np.stack(ranks)).to(kept.device)
    after = world.logits(torch.where((order > 0)[:, None], world.end, world.start)).argmax(dim=1)
    counts = torch.tensor([len(one.units) for one in searches], device=kept.device)
    reached, minimal, gradients, predictions = (
        torch.tensor([getattr(one, name) for one in searches], device=kept.device)
        for name in ("reached", "minimal", "gradients", "predictions")
    )
    return SmallestEdits(order, before, after, reached, minimal, counts, gradients, predictions)


def _changed(pixels: Tensor, change: str | Fill | Tensor, seed: int) -> Tensor:
    if not isinstance(change, Tensor):
        return edits.filled(pixels, change, seed)
    if change.shape != pixels.shape:
        shape, expected = tuple(change.shape), tuple(pixels.shape)
        raise ImageError(f"change has shape {shape}: expected the pixels' {expected}")
    edits.check_images(change, "change")
    return change.detach().to(pixels)


def _ranked(labels: NDArray[np.int64], units: Sequence[int]) -> NDArray[np.int32]:
    """1, 2, ... at the pixels of the first, second, ... unit, and 0 elsewhere."""
    rank = np.zeros(int(labels.max()) + 1, np.int32)
    rank[list(units)] = np.arange(1, len(units) + 1)
    return rank[labels]


class World:
    """The network as searches see it: masks of units in, leads and gains out.

    Units, numbered by `labels` (B, H, W), change from `start` to `end`, until class `goal` (B,) is
    predicted, or `away`: is not.
    """

    def __init__(
        self,
        classifier: Classifier,
        start: Tensor,
        end: Tensor,
        labels: Tensor,
        memory_budget: int | None = None,
    ) -> None:
        if memory_budget is not None and memory_budget <= 0:
            raise ChoiceError(f"memory_budget is {memory_budget}: expected bytes above 0, or None")
        self.classifier, self.memory_budget = classifier, memory_budget
        self.start, self.end, self.labels = start, end, labels
        self.goal, self.away = torch.zeros(len(start), dtype=torch.long), True
        profile = device_profile(start.device)
        share = min(1.0, (memory_budget or profile.budget_bytes) / profile.budget_bytes)
        self.rows = max(1, int(share * profile.forward_bytes) // start[0].nbytes)

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits (B, K), of as many images at a time as memory allows."""
        with torch.no_grad(), as_found(self.classifier.module):
            parts = torch.split(pixels, self.rows)
            return torch.cat([self.classifier.logits(part) for part in parts])

    def run(self, searches: Sequence[Search], progress: Progress | None = None) -> None:
        """Answer what searches ask, one an image, until all are done."""
        with as_found(self.classifier.module):
            self._run(searches, progress)

    def _run(self, searches: Sequence[Search], progress: Progress | None) -> None:
        runs: dict[int, Steps] = {n: search.run() for n, search in enumerate(searches)}
        asked = {n: next(run) for n, run in runs.items()}
        while asked:
            answers = self._gains({n: ask for n, ask in asked.items() if ask.gains})
            answers |= self._leads({n: ask for n, ask in asked.items() if not ask.gains})
            for n, answer in answers.items():
                try:
                    asked[n] = runs[n].send(answer)
                except StopIteration:
                    del asked[n]
            if progress is not None:
                used = sum(search.gradients for search in searches)
                progress(used, sum(search.budget for search in searches))

    def edited(self, n: int, mask: NDArray[np.bool_]) -> Tensor:
        """Image n with the units of a mask (U,) changed: (C, H, W)."""
        changed = torch.from_numpy(mask).to(self.start.device)[self.labels[n]]
        return torch.where(changed, self.end[n], self.start[n])

    def _gains(self, asked: dict[int, Ask]) -> dict[int, Answer]:
        """To first order, what the change of each unit adds to the log-odds of the goal."""
        if not asked:
            return {}
        numbers = list(asked)
        images = torch.stack([self.edited(n, asked[n].masks[0]) for n in numbers])
        points = Points(images[None], images.new_ones(1, len(images)))
        classes, budget = self.goal[numbers], self.memory_budget
        slopes = target_gradients(self.classifier, points, classes, "log-odds", budget)
        change = self.end[numbers] - self.start[numbers]
        effects = to_numpy((slopes * change).sum(dim=1).double()) * (-1 if self.away else 1)
        found = {}
        for n, effect in zip(numbers, effects, strict=True):
            own, count = to_numpy(self.labels[n]).ravel(), asked[n].masks.shape[1]
            found[n] = Answer(gains=np.bincount(own, effect.ravel(), count).astype(np.float64))
        return found

    def _leads(self, asked: dict[int, Ask]) -> dict[int, Answer]:
        """By real predictions, how far each mask is from the goal."""
        rows = [(n, mask) for n, ask in asked.items() for mask in ask.masks]
        leads = []
        for first in range(0, len(rows), self.rows):
            part = rows[first : first + self.rows]
            logits = self.logits(torch.stack([self.edited(n, mask) for n, mask in part]))
            goal = self.goal[[n for n, _ in part]]
            rest = logits.scatter(1, goal[:, None], -torch.inf).amax(dim=1)
            lead = logits.gather(1, goal[:, None])[:, 0] - rest
            is_goal = resolve_target(None, logits) == goal
            if self.away:
                lead, is_goal = -lead, ~is_goal
            leads.append(np.stack([to_numpy(lead.double()), to_numpy(is_goal)]))
        joined, found, at = np.concatenate(leads, axis=1) if leads else np.zeros((2, 0)), {}, 0
        for n, ask in asked.items():
            lead, reached = joined[:, at : at + len(ask.masks)]
            found[n] = Answer(lead, reached > 0)
            at += len(ask.masks)
        return found
