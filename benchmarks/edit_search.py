"""The schedules that were tried for partial-edit maps, the kept one among them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.choices import OwnScore
from chiaroscuro.edits import apply_edit, pixel_order, pixel_rank
from chiaroscuro.maps import Question


@dataclass(frozen=True)
class Trial:
    """One way to choose points; the defaults are the library's.

    `random` points first, shares from `random_share`, then guided ones, shares from `guided_share`:
    exactly so many pixels of lowest rank / N + jitter * u, or with `threshold` those of which that
    sum is below the share. `anti`: every second random point takes the pixels with the highest
    random numbers. `spread`: guided shares fall evenly. `steps`: a guided share grows by this
    factor after a point that kept the class, else it shrinks by it. `decay`: the map so far is
    multiplied by it before a point is added. `unit`: every point's effect has length 1. `cell`:
    random numbers are drawn for cells of so many pixels a side, `guide_cell`: ranks and random
    numbers of guided points too; `finer`: that side is halved step by step to 1 over the guided
    points.
    """

    points: int = 16
    random: int = 4
    random_share: tuple[float, float] = (0.0, 0.3)
    guided_share: tuple[float, float] = (0.0, 0.2)
    jitter: float = 0.1
    score: OwnScore = "log-odds"
    threshold: bool = False
    anti: bool = False
    spread: bool = False
    steps: float = 0.0
    decay: float = 1.0
    unit: bool = False
    cell: int = 1
    guide_cell: int = 1
    finer: bool = False

    def side(self, point: int) -> int:
        """Pixels a side of the cells of one point."""
        if point < self.random:
            return self.cell
        if not self.finer:
            return self.guide_cell
        steps = self.guide_cell.bit_length()
        return self.guide_cell >> ((point - self.random) * steps // (self.points - self.random))


TO_BEAT = {
    "16 random points, log p": Trial(random=16, score="log-probability"),
    "64 random points, log p": Trial(points=64, random=64, score="log-probability"),
    "4 random, 12 guided, log p": Trial(
        guided_share=(0.0, 0.3), jitter=0.6, score="log-probability", threshold=True
    ),
}
"""The maps to beat."""

KEPT = Trial()
TRIALS: dict[str, Trial] = {
    **TO_BEAT,
    "kept": KEPT,
    "16 random points, log-odds": replace(KEPT, random=16),
    "log p": replace(KEPT, score="log-probability"),
    "logit": replace(KEPT, score="logit"),
    "threshold, jitter 0.6": replace(KEPT, jitter=0.6, threshold=True),
    **{f"jitter {j}": replace(KEPT, jitter=j) for j in (0.0, 0.05, 0.2, 0.4)},
    **{f"random {n}": replace(KEPT, random=n) for n in (0, 1, 2, 6)},
    "random share to 0.6": replace(KEPT, random_share=(0.0, 0.6)),
    **{f"guided share to {h}": replace(KEPT, guided_share=(0.0, h)) for h in (0.1, 0.3, 0.4)},
    "guided shares spread": replace(KEPT, spread=True),
    "guided share adapts by 1.2": replace(KEPT, steps=1.2),
    "antithetic pairs": replace(KEPT, anti=True),
    "decay 0.9": replace(KEPT, decay=0.9),
    "points of length 1": replace(KEPT, unit=True),
    "random cells of 8": replace(KEPT, cell=8),
    "all cells of 8": replace(KEPT, cell=8, guide_cell=8),
    "guided cells of 4": replace(KEPT, guide_cell=4),
    "coarse to fine from 8": replace(KEPT, guide_cell=8, finer=True),
    "coarse to fine from 32": replace(KEPT, guide_cell=32, finer=True),
}


def run_trial(question: Question, trial: Trial) -> Tensor:
    """The map (B, H, W) of one trial."""
    pixels, count = question.pixels, question.pixels[0, 0].numel()
    shares, keys = _draw(question, trial)
    total = torch.zeros_like(pixels[:, 0])
    share = torch.full((len(pixels),), 0.05)
    for p in range(trial.points):
        guided = p >= trial.random
        if not (guided and trial.steps):
            share = shares[:, p]
        key = keys[:, p]
        if guided:
            guide = _cells(total, trial.side(p)) if trial.side(p) > 1 else total
            key = pixel_rank(pixel_order(guide)) / count + trial.jitter * key
        taken = (share * count).round().long()
        if guided and trial.threshold:
            taken = (key < share[:, None]).sum(dim=1)
        rank = pixel_rank(key.argsort(dim=1, stable=True))
        point = apply_edit(pixels, question.changed, rank, taken)
        effect = question.effect(point[None], trial.score)
        if trial.unit:
            effect = effect / effect.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
        total = trial.decay * total + effect
        if guided and trial.steps:
            with torch.no_grad():
                predicted = question.classifier(point).argmax(dim=1)
            lost = predicted.ne(torch.as_tensor(question.target))
            factor = lost.float() * (1 / trial.steps - trial.steps) + trial.steps
            share = (share * factor).clamp(0.004, 0.5)
    return total


def _draw(question: Question, trial: Trial) -> tuple[Tensor, Tensor]:
    """Shares (B, P) and random keys (B, P, N), drawn as the library draws them."""
    height, width = question.pixels.shape[2:]
    shares, keys = [], []
    for seed in question.seeds:
        source = np.random.default_rng(seed)
        drawn = source.random(trial.points)
        guided = np.arange(trial.points) >= trial.random
        if trial.spread:
            drawn[guided] = np.linspace(1, 0, guided.sum())
        bounds = np.where(guided[:, None], trial.guided_share, trial.random_share)
        key = source.random((trial.points, height * width), np.float32)
        key = key.reshape(-1, height, width)
        for p in range(trial.points):
            side = trial.side(p)
            if side > 1:
                small = key[p, : -(-height // side), : -(-width // side)]
                # Within a cell the order is random, between cells it is the cell's own number.
                whole = small.repeat(side, 0).repeat(side, 1)[:height, :width]
                key[p] = whole + 1e-3 * key[p]
            if trial.anti and not guided[p] and p % 2:
                key[p], drawn[p] = 1 - key[p - 1], drawn[p - 1]
        shares.append(bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * drawn)
        keys.append(key.reshape(trial.points, -1))
    return torch.from_numpy(np.stack(shares)).float(), torch.from_numpy(np.stack(keys))


def _cells(values: Tensor, side: int) -> Tensor:
    """The mean of every cell, at each of its pixels."""
    pooled = torch.nn.functional.avg_pool2d(values[:, None], side, ceil_mode=True)
    grown = torch.nn.functional.interpolate(pooled, scale_factor=side)
    return grown[:, 0, : values.shape[1], : values.shape[2]]
