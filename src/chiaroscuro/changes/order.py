"""The order in which a what-if takes an image's pixels."""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.choices import EDIT_MAPS, ORDERS, RANDOM, RivalRule, check_names
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import pixel_order, tie_priority
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.gradients import Method, class_gradients
from chiaroscuro.gradients.classes import resolve_target
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.maps import edit_map, saliency_maps

OwnValues = Tensor | NDArray[Any]
"""Values (H, W) of the caller's own, in place of a map's name."""


@dataclass(frozen=True, eq=False)
class OrderRule:
    """Whose highest pixels come first: a name of `ORDERS` or own values, and how it is made.

    `target`: the target class, None for the predicted one. `rivals` and `method` are for the
    maps of class gradients; `seed` breaks ties and draws what is random.
    """

    map: str | OwnValues
    target: int | None
    rivals: RivalRule
    method: str | Method = "gradient"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.map, str):
            check_names("map", [self.map], ORDERS)
            without = self.map in (*EDIT_MAPS, RANDOM)
        else:
            without = True
        if without and self.method_name != "gradient":
            raise ChoiceError(
                f"method {self.method_name} has no part in map {self.map_name!r}, which is not "
                "made of class gradients: leave the method out"
            )

    @property
    def map_name(self) -> str:
        """What the results call the map."""
        return self.map if isinstance(self.map, str) else "own values"

    @property
    def method_name(self) -> str:
        """What the results call the method."""
        return self.method if isinstance(self.method, str) else self.method.name


def pixels_in_order(
    classifier: Classifier,
    pixels: Tensor,
    changed: Tensor,
    rule: OrderRule,
    progress: Progress | None = None,
) -> tuple[Tensor, int]:
    """One image's pixels in the order they are taken (1, N), and the target class.

    `pixels` and `changed` (1, C, H, W): the image, and what its pixels become.
    """
    priority = tie_priority(pixels, rule.seed)
    if isinstance(rule.map, str) and rule.map not in (*EDIT_MAPS, RANDOM):
        found = class_gradients(
            classifier, pixels, rule.target, rule.rivals, rule.method, progress=progress
        )
        values = saliency_maps(found, rule.map)[rule.map]
        return pixel_order(values, priority), int(found.target[0])
    with torch.no_grad():
        logits = classifier(pixels)
    chosen = resolve_target(rule.target, logits, multi_label=classifier.multi_label)
    target = int(chosen[0])
    if not isinstance(rule.map, str):
        return pixel_order(_own_values(rule.map, pixels), priority), target
    if rule.map == RANDOM:
        return priority, target
    source = torch.Generator().manual_seed(rule.seed)
    values = edit_map(classifier, pixels, changed, rule.map, target=target, generator=source)
    return pixel_order(values, priority), target


def _own_values(map: OwnValues, pixels: Tensor) -> Tensor:
    values = torch.as_tensor(map, device=pixels.device)
    if values.shape != pixels.shape[2:]:
        raise InputError(
            f"map has shape {tuple(values.shape)}: expected (H, W) = {tuple(pixels.shape[2:])} as "
            "the pixels that the network sees"
        )
    return values[None].to(pixels.dtype)
