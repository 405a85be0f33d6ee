"""Maps as functions of class gradients, and edit maps, which choose where gradients are taken."""

from chiaroscuro.maps.edit_maps import EDIT_MAPS, Question, edit_map
from chiaroscuro.maps.saliency import (
    MAPS,
    SaliencyMap,
    SaliencyMaps,
    Support,
    active_mask,
    channel_largest,
    channel_max,
    inactive_mask,
    needs_classes,
    saliency_maps,
    scale,
)

__all__ = [
    "EDIT_MAPS",
    "MAPS",
    "Question",
    "SaliencyMap",
    "SaliencyMaps",
    "Support",
    "active_mask",
    "channel_largest",
    "channel_max",
    "edit_map",
    "inactive_mask",
    "needs_classes",
    "saliency_maps",
    "scale",
]
