"""Edits of images: fills, pixel orders, and the images with the first pixels of an order filled."""

from chiaroscuro.edits.fills import FILLS as FILLS
from chiaroscuro.edits.fills import filled as filled
from chiaroscuro.edits.fills import image_seeds as image_seeds
from chiaroscuro.edits.order import apply_edit as apply_edit
from chiaroscuro.edits.order import check_fractions as check_fractions
from chiaroscuro.edits.order import check_map as check_map
from chiaroscuro.edits.order import matched_counts as matched_counts
from chiaroscuro.edits.order import pixel_order as pixel_order
from chiaroscuro.edits.order import pixel_rank as pixel_rank
from chiaroscuro.edits.order import rising_numbers as rising_numbers
from chiaroscuro.edits.order import tie_priority as tie_priority
from chiaroscuro.edits.order import top_edit as top_edit
