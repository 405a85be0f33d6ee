"""File or array to float32 pixels in [0, 1], and where on the photo they lie."""

from chiaroscuro.choices import Framing as Framing
from chiaroscuro.images.finding import find_photos as find_photos
from chiaroscuro.images.finding import links_out as links_out
from chiaroscuro.images.finding import photo_folders as photo_folders
from chiaroscuro.images.finding import safe_name as safe_name
from chiaroscuro.images.framing import check_array as check_array
from chiaroscuro.images.framing import frame as frame
from chiaroscuro.images.framing import gray as gray
from chiaroscuro.images.framing import on_photo as on_photo
from chiaroscuro.images.framing import to_uint8 as to_uint8
from chiaroscuro.images.photos import Photo as Photo
from chiaroscuro.images.photos import decode_photo as decode_photo
from chiaroscuro.images.photos import deep_range as deep_range
from chiaroscuro.images.photos import open_photo as open_photo
from chiaroscuro.images.photos import packaged_photo as packaged_photo
from chiaroscuro.images.photos import photo_from_image as photo_from_image
from chiaroscuro.images.photos import read_file as read_file
from chiaroscuro.results.facts import CropBox as CropBox
