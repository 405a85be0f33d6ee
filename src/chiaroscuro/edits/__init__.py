"""Edits of images: fills, pixel orders, and the images with the first pixels of an order filled."""

from chiaroscuro.edits.fills import FILLS, filled, image_seeds
from chiaroscuro.edits.order import (
    apply_edit,
    check_fractions,
    check_map,
    matched_counts,
    pixel_order,
    pixel_rank,
    tie_priority,
    top_edit,
)

__all__ = [
    "FILLS",
    "apply_edit",
    "check_fractions",
    "check_map",
    "filled",
    "image_seeds",
    "matched_counts",
    "pixel_order",
    "pixel_rank",
    "tie_priority",
    "top_edit",
]
