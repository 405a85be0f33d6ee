"""File or array to float32 pixels in [0, 1], and where on the photo they lie."""

from chiaroscuro.choices import MAX_PIXELS, Framing
from chiaroscuro.images.arrays import check_array, gray, to_uint8
from chiaroscuro.images.finding import Search, find_photos, search_folder
from chiaroscuro.images.framing import frame, on_photo
from chiaroscuro.images.naming import photo_folders, safe_name
from chiaroscuro.images.photos import (
    FORMATS,
    SUFFIXES,
    Photo,
    decode_photo,
    image_errors,
    open_image,
    open_photo,
    packaged_photo,
    photo_from_image,
    read_file,
)
from chiaroscuro.results import CropBox

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "CropBox",
    "Framing",
    "Photo",
    "Search",
    "check_array",
    "decode_photo",
    "find_photos",
    "frame",
    "gray",
    "image_errors",
    "on_photo",
    "open_image",
    "open_photo",
    "packaged_photo",
    "photo_folders",
    "photo_from_image",
    "read_file",
    "safe_name",
    "search_folder",
    "to_uint8",
]
