"""File or array to float32 pixels in [0, 1], and where on the photo they lie."""

from chiaroscuro.choices import Framing
from chiaroscuro.images.arrays import check_array, gray, to_uint8
from chiaroscuro.images.framing import frame
from chiaroscuro.images.photos import (
    MAX_PIXELS,
    Photo,
    decode_photo,
    find_photos,
    open_photo,
    packaged_photo,
)
from chiaroscuro.results.facts import CropBox

__all__ = [
    "MAX_PIXELS",
    "CropBox",
    "Framing",
    "Photo",
    "check_array",
    "decode_photo",
    "find_photos",
    "frame",
    "gray",
    "open_photo",
    "packaged_photo",
    "to_uint8",
]
