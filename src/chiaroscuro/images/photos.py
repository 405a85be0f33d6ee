"""A photo file, upright and in RGB, with what had to be done to read it."""

import hashlib
import io
import logging
import os
import stat
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from chiaroscuro.choices import MAX_PIXELS
from chiaroscuro.errors import ImageError, MissingImageError, first_line, printable
from chiaroscuro.files import MAX_BYTES, read_regular

MAX_SECONDS = 60.0
"""Of a processor's time, after which reading a photo is given up."""
_MOST_REREAD, _FRAME_READS = 8, 20_000
FORMATS = {
    "JPEG": ".jpg .jpeg .jpe .jfif .mpo", "PNG": ".png .apng", "BMP": ".bmp", "GIF": ".gif",
    "PPM": ".ppm .pgm .pbm .pnm", "WEBP": ".webp", "TIFF": ".tif .tiff", "AVIF": ".avif",
    "JPEG2000": ".jp2 .j2k",
}  # fmt: skip
"""Formats that are opened, by Pillow's name, and the suffixes of their files."""
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes.split())
_LOG = logging.getLogger("chiaroscuro")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""By EXIF orientation; 1 is upright, and other values mean nothing."""
_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_DEEP_RANGES = (2**8 - 1, 2**12 - 1, 2**16 - 1)  # of what files of 16 bits hold


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo, upright: in mode "RGB", or "F" with gray values in [0, 1] for 16-bit files.

    `notes`: what reading changed. `is_file`: `source` is a path. `mode`: the file's own. `white`:
    the value of the file that is 1 here, where it has more than 8 bits.
    """

    image: Image.Image
    source: str
    sha256: str
    notes: tuple[str, ...] = ()
    is_file: bool = False
    mode: str = "RGB"
    white: float | None = None


def open_photo(path: str | Path) -> Photo:
    """Read a photo file: upright by its EXIF mark, alpha on white, the first frame of several."""
    source = printable(path)
    photo = decode_photo(read_file(Path(path), source), source)
    return replace(photo, is_file=source == str(path))


def read_file(path: Path, source: str) -> bytes:
    """The bytes of a regular file; `source` names it in the `ImageError` of any other."""
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            os.scandir(path).close()  # an unreadable folder says so
            reason = f"a folder without photos (looked for {', '.join(sorted(SUFFIXES))})"
        elif not stat.S_ISREG(about.st_mode):
            reason = "not a regular file"
        elif about.st_size > MAX_BYTES:
            reason = f"{about.st_size:,} bytes, expected at most {MAX_BYTES:,}"
        else:
            return read_regular(path)
    except FileNotFoundError:
        raise MissingImageError(f"{source}: no such file") from None
    except (OSError, ValueError, MemoryError) as error:
        reason = f"cannot be read ({getattr(error, 'strerror', None) or first_line(error)})"
    raise ImageError(f"{source}: {reason}")


def decode_photo(data: bytes, source: str) -> Photo:
    """`open_photo` for bytes already read; `source` names them in errors and results."""
    if not data:
        raise ImageError(f"{source}: the file is empty (0 bytes)")
    with image_errors(source):
        try:
            photo = _normalize(open_image(data, source), source)
        except ImageError:
            raise
        except Exception:
            lean = _without_metadata(data)
            if len(lean) == len(data):
                raise
            photo = _normalize(open_image(lean, source), source)
    return replace(photo, sha256=hashlib.sha256(data).hexdigest())


def photo_from_image(image: Image.Image, source: str = "image") -> Photo:
    """A Pillow image as a `Photo`: a copy, so the caller's image stays as it is."""
    _check_size(image, source)
    with image_errors(source):
        photo = _normalize(image.copy(), source)
    sha256 = hashlib.sha256(photo.image.tobytes()).hexdigest()
    return replace(photo, sha256=sha256, mode="RGB")


def packaged_photo(name: str) -> Path:
    """Path of a photo that ships with the package: "cat" or "coffee"."""
    return Path(str(resources.files("chiaroscuro") / "photos" / f"{name}.png"))


@contextmanager
def image_errors(source: str) -> Iterator[None]:
    """Inside, whatever goes wrong with an image becomes one `ImageError`; the log has the trace."""
    try:
        yield
    except ImageError as error:
        if str(error).startswith(source):
            raise
        raise ImageError(f"{source}: {error}") from error
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise ImageError(f"{source}: not a picture in a format that is read ({known})") from None
    except Exception as error:  # decoders raise anything
        _LOG.debug("%s", source, exc_info=True)
        reason = printable(first_line(error))
        raise ImageError(f"{source}: broken or truncated picture ({reason})") from error


class _Source(io.BytesIO):
    """What a decoder reads: the data a few times over at most, until its time is over."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.end, self.bytes = (
            time.thread_time() + MAX_SECONDS,
            _MOST_REREAD * len(data) + (1 << 20),
        )
        self.reads = float("inf")

    def read(self, size: int | None = -1, /) -> bytes:
        """See `io.BytesIO`; raises `ImageError` over a limit."""
        data = super().read(size)
        self.bytes -= len(data)
        self.reads -= 1
        if time.thread_time() > self.end:
            raise ImageError(f"takes more than {MAX_SECONDS:g} s to read")
        if min(self.bytes, self.reads) < 0:
            raise ImageError("its parts are read too often")
        return data


def open_image(data: bytes, source: str) -> Image.Image:
    """The header of one of `FORMATS`, its size checked without the warnings of `Image.open`."""
    Image.preinit()
    for kind in FORMATS:
        if kind not in Image.OPEN:
            Image.init()  # the rarer formats
        with suppress(SyntaxError, LookupError, TypeError, struct.error):  # no such picture
            factory, accept = Image.OPEN[kind]
            if accept is None or accept(data[:16]) is True:
                image = factory(_Source(data), "")
                _check_size(image, source)
                _check_sums(data)
                return image
    raise UnidentifiedImageError


_PNG = b"\x89PNG\r\n\x1a\n"


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The parts of a PNG up to its end, each with its kind: length, kind, content, checksum.

    Of other data none. A file may have millions of them: raises `ImageError` when its time is over.
    """
    place, kind, view = len(_PNG), b"", memoryview(data)
    until = time.thread_time() + MAX_SECONDS
    while data.startswith(_PNG) and place < len(data) and kind != b"IEND":
        end = place + 12 + int.from_bytes(view[place : place + 4], "big")
        kind = bytes(view[place + 4 : place + 8])
        if time.thread_time() > until:
            raise ImageError(f"takes more than {MAX_SECONDS:g} s to read")
        yield kind, view[place:end]
        place = end


def _check_sums(data: bytes) -> None:
    """Raise for pixels of a PNG that are not as they were written, which Pillow lets pass."""
    for kind, chunk in _chunks(data):
        if kind == b"IDAT" and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise ValueError("a wrong checksum of its pixels")


def _without_metadata(data: bytes) -> bytes:
    """A PNG without text, profiles and the like, which may be damaged or larger than is read."""
    # Optional chunks that decide pixels, orientation or the number of frames stay.
    more = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
    kept = [chunk for kind, chunk in _chunks(data) if kind[:1].isupper() or kind in more]
    return b"".join([_PNG, *kept]) if data.startswith(_PNG) else data


def _check_size(image: Image.Image, source: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{source}: over {MAX_PIXELS:,} pixels, refused as a decompression bomb")
    if min(width, height) < 2:
        small = f"{width}x{height} pixels, too small to explain"
        raise ImageError(f"{source}: {small}; expected at least 2 a side")


def _normalize(image: Image.Image, source: str) -> Photo:
    """The image upright in mode "RGB" or "F", and what was changed, without a hash."""
    mode, turn, white = image.mode, None, None
    notes: list[str] = []
    deep_color = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    image.load()
    with suppress(Exception):  # a damaged EXIF block says nothing
        turn = _TURNS.get(image.getexif().get(0x0112, 1))
    upright = image if turn is None else image.transpose(turn)
    notes += [] if turn is None else ["turned upright by its EXIF mark"]
    if image.mode in _DEEP_MODES:
        upright, white = _deep_gray(upright, source, notes)
    else:
        if deep_color:
            notes.append("16 bits a channel, read as 8")
            white = _DEEP_RANGES[-1]
        if upright.has_transparency_data:
            notes.append("alpha laid on white")
            layer = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        elif image.mode not in ("RGB", "L", "1", "P"):
            notes.append(f"converted from {image.mode}")
        upright = upright.convert("RGB")
    with suppress(Exception):  # last: a damaged later frame spoils the image, but does not matter
        if (frames := _frames(image)) != "1":
            notes.insert(0, f"first of {frames} frames")
    return Photo(upright, source, "", tuple(notes), mode=mode, white=white)


def _frames(image: Image.Image) -> str:
    """How many frames there are, in words, where that is soon known."""
    source = getattr(image, "_fp", None)
    if isinstance(source, _Source):
        source.reads = _FRAME_READS
    try:
        return str(int(getattr(image, "n_frames", 1)))
    except ImageError:
        return "many"


def deep_range(highest: float) -> tuple[int, str]:
    """The value of integers of more than 8 bits that becomes 1, and what to say of that.

    The smallest full range of 8, 12 or 16 bits that holds the highest value.
    """
    top = next((top for top in _DEEP_RANGES if 0 < highest <= top), _DEEP_RANGES[-1])
    if top < _DEEP_RANGES[-1]:
        return top, f", values up to {highest:.0f} scaled by {top}"
    return top, f", values up to {highest:.0f} of {top}" if 0 < highest <= top // 2 else ""


def _deep_gray(image: Image.Image, source: str, notes: list[str]) -> tuple[Image.Image, int]:
    """Gray values of 8, 12 or 16 bits scaled to [0, 1], floats as they are, with a note."""
    values, top, said = np.array(image, np.float32), 1, ""
    if image.mode != "F":
        top, said = deep_range(float(values.max()))
    note = f"more than 8 bits, read as gray{said}"
    values /= top  # in place, as all that follows: large photos are a gigabyte
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(f"{source}: holds NaN or infinite pixels (expected floats in [0, 1])")
    if low < 0 or high > 1:
        note += f", values outside 0..{top} clipped"
        np.clip(values, 0, 1, out=values)
    notes.append(note)
    return Image.fromarray(values), top
