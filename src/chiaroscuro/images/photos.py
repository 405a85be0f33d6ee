"""A photo file, upright and in RGB, with what had to be done to read it."""

import glob
import hashlib
import io
import struct
import threading
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from chiaroscuro.choices import EXPLANATION_FILE, WHAT_IF_FILE
from chiaroscuro.errors import ImageError, MissingImageError

MAX_PIXELS = 89_478_485
"""Larger files are refused as decompression bombs (Pillow's own warning level)."""
MIN_SIDE = 2
SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp", ".avif"}
)
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)
"""What Pillow raises for files that begin well and do not go on so."""
_OPENING = threading.Lock()
_TURNED = range(2, 9)
"""The EXIF orientations that turn or mirror; other values, such as 0, mean nothing."""
_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo.

    `image` is upright: mode "RGB" (8 bit), or "F" with gray values in [0, 1] for 16-bit files.
    `notes` say in words what reading changed, such as "first of 12 frames". `is_file`: `source` is
    a path that can be opened again. `mode`: the file's own mode, as Pillow names it.
    """

    image: Image.Image
    source: str
    sha256: str
    notes: tuple[str, ...] = ()
    is_file: bool = False
    mode: str = "RGB"


def open_photo(path: str | Path) -> Photo:
    """Read a photo file: upright by its EXIF mark, alpha on white, the first frame of several.

    Raises `ImageError` for a file that is missing, empty, not a picture, truncated, under 2 px a
    side, or over `MAX_PIXELS`.
    """
    path = Path(path)
    if path.is_dir():
        raise ImageError(
            f"{path}: a folder without photos (looked for {', '.join(sorted(SUFFIXES))})"
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
    return replace(decode_photo(data, str(path)), is_file=True)


def decode_photo(data: bytes, source: str) -> Photo:
    """`open_photo` for bytes already read; `source` names them in errors and results."""
    if not data:
        raise ImageError(f"{source}: the file is empty (0 bytes)")
    try:
        image = _open(data)
        _check_size(image, source)
        mode = image.mode
        upright, notes = _normalize(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            f"{source}: over {MAX_PIXELS:,} pixels, refused as a decompression bomb; scale it down"
        ) from None
    except UnidentifiedImageError:
        raise ImageError(f"{source}: not a picture in a format that Pillow reads") from None
    except _BROKEN as error:
        raise ImageError(f"{source}: broken or truncated picture ({error})") from error
    return Photo(upright, source, hashlib.sha256(data).hexdigest(), notes, mode=mode)


def photo_from_image(image: Image.Image, source: str = "image") -> Photo:
    """A Pillow image as a `Photo`: a copy, so the caller's image stays as it is."""
    _check_size(image, source)
    try:
        upright, notes = _normalize(image.copy())
    except _BROKEN as error:
        raise ImageError(f"{source}: broken or truncated picture ({error})") from error
    return Photo(upright, source, hashlib.sha256(upright.tobytes()).hexdigest(), notes)


def packaged_photo(name: str) -> Path:
    """Path of a photo that ships with the package: "cat" or "coffee"."""
    return Path(str(resources.files("chiaroscuro") / "photos" / f"{name}.png"))


def find_photos(sources: Iterable[str | Path]) -> list[Path]:
    """Files, folders (searched whole, by suffix) and globs as a list of files, each in order.

    Pictures of saved explanations inside a folder are passed over.

    A source without any photo is kept as it is, so that opening it says what is wrong.
    """
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            matches = [file for file in path.rglob("*") if _is_photo(file)]
        elif not path.exists() and glob.has_magic(str(source)):
            matches = [Path(p) for p in glob.glob(str(source), recursive=True) if Path(p).is_file()]
        else:
            matches = [path]
        found += sorted(matches) or [path]
    return list(dict.fromkeys(found))


def _is_photo(file: Path) -> bool:
    """Whether a file in a searched folder is a photo, and not a figure that we drew."""
    ours = any((file.parent / marker).is_file() for marker in (EXPLANATION_FILE, WHAT_IF_FILE))
    return file.suffix.lower() in SUFFIXES and file.is_file() and not ours


def _open(data: bytes) -> Image.Image:
    """The image's header. Warning filters are the whole process's, so threads take turns here."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data))


def _check_size(image: Image.Image, source: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{source}: over {MAX_PIXELS:,} pixels, refused as a decompression bomb; scale it down"
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{source}: {width}x{height} pixels, too small to explain; "
            f"expected at least {MIN_SIDE} a side"
        )


def _normalize(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    deep_color = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    image.load()
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"first of {frames} frames")
    if image.getexif().get(0x0112) in _TURNED:
        notes.append("turned upright by its EXIF mark")
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _DEEP_MODES:
        gray, note = _deep_gray(upright)
        return gray, (*notes, note)
    if deep_color:
        notes.append("16 bits a channel, read as 8")
    if upright.has_transparency_data:
        notes.append("alpha laid on white")
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    elif upright.mode not in ("RGB", "L", "1", "P"):
        notes.append(f"converted from {upright.mode}")
    return upright.convert("RGB"), tuple(notes)


def _deep_gray(image: Image.Image) -> tuple[Image.Image, str]:
    """16-bit and 32-bit gray values scaled to [0, 1], floats taken as they are; what was done."""
    values = np.asarray(image, dtype=np.float64)
    top = 1 if image.mode == "F" else 65535
    scaled = np.clip(np.nan_to_num(values / top), 0, 1)
    note = "more than 8 bits, read as gray"
    if not np.array_equal(scaled, values / top):
        note += f", values outside 0..{top} clipped"
    return Image.fromarray(scaled.astype(np.float32), mode="F"), note
