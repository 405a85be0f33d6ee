"""Photos and arrays as pixels: what is read, what reading changes, and what is refused.

Every file is made here with Pillow, or by hand where Pillow would not write it.
"""

import hashlib
import io
import logging
import os
import struct
import time
import unicodedata
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from chiaroscuro import ImageError
from chiaroscuro.errors import quiet_libraries
from chiaroscuro.images import (
    Framing,
    check_array,
    find_photos,
    frame,
    gray,
    links_out,
    open_photo,
    packaged_photo,
    photo_folders,
    photos,
    to_uint8,
)
from chiaroscuro.images.photos import FORMATS, SUFFIXES, decode_photo, photo_from_image

RED, LIME, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def noise(height, width, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, data):
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, rows):
    """A PNG by hand: its claimed size, bits a channel, color type and rows as they are."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_header(width, height):
    """A gray PNG that claims a size, with the data of one empty row."""
    return png(width, height, 8, 0, b"\0")


def saved(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def pixel(photo, x=0, y=0):
    return photo.image.getpixel((x, y))


# Files that cannot be read


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.jpg: no such file$"):
        open_photo(tmp_path / "nowhere.jpg")


def test_text_named_jpg_is_not_a_picture(tmp_path):
    path = saved(tmp_path, "letter.jpg", b"Dear reader, this is no photo.\n" * 20)
    with pytest.raises(ImageError, match=r"letter\.jpg: not a picture in a format"):
        open_photo(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_a_truncated_picture_is_refused(tmp_path, kind):
    data = encoded(noise(60, 60), kind)
    path = saved(tmp_path, "cut", data[: len(data) // 2])
    with pytest.raises(ImageError, match="cut: broken or truncated picture"):
        open_photo(path)


@pytest.mark.parametrize("data", [b"P", b"B", b"\xff", b"RIFF", b"\0", b"GIF8", b"P6", b"II*\0"])
def test_the_beginning_of_a_picture_alone_is_none(data):
    with pytest.raises(ImageError, match="x: "):
        decode_photo(data, "x")


def test_an_empty_file_is_refused(tmp_path):
    path = saved(tmp_path, "empty.png", b"")
    with pytest.raises(ImageError, match=r"empty\.png: the file is empty \(0 bytes\)"):
        open_photo(path)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_a_side_of_one_pixel_is_too_small(tmp_path, size):
    path = saved(tmp_path, "dot.png", encoded(Image.new("RGB", size), "PNG"))
    message = rf"dot\.png: {size[0]}x{size[1]} pixels, too small to explain; expected at least 2"
    with pytest.raises(ImageError, match=message):
        open_photo(path)


def test_two_pixels_a_side_are_enough():
    assert decode_photo(encoded(noise(2, 2), "PNG"), "tiny").image.size == (2, 2)


@pytest.mark.parametrize("side", [50_000, 10_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    path = saved(tmp_path, "bomb.png", png_header(side, side))
    with pytest.raises(ImageError, match=r"bomb\.png: over 89,478,485 pixels, refused as a decomp"):
        open_photo(path)


def test_a_decompression_bomb_as_bmp_is_refused():
    info = struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info
    with pytest.raises(ImageError, match="x: over 89,478,485 pixels"):
        decode_photo(data, "x")


def test_opening_leaves_warning_filters_and_a_lower_limit_of_pillow_alone(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    filters, data = warnings.filters[:], encoded(noise(60, 60), "PNG")
    with ThreadPoolExecutor(8) as pool:
        photos = list(pool.map(lambda n: decode_photo(data, str(n)), range(200)))
    assert {photo.image.size for photo in photos} == {(60, 60)}
    assert warnings.filters == filters
    assert Image.MAX_IMAGE_PIXELS == 10


def test_the_pixel_limit_does_not_depend_on_pillows_own(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="x: over 89,478,485 pixels, refused"):
        decode_photo(png_header(9_460, 9_460), "x")


def test_a_folder_without_photos_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        ImageError, match=r"a folder without photos \(looked for \.apng, \.avif, \.bmp"
    ):
        open_photo(tmp_path)


def test_a_file_that_cannot_be_opened_gives_the_systems_reason(tmp_path, monkeypatch):
    def refuse(self, mode):
        raise PermissionError(13, "Permission denied")

    path = saved(tmp_path, "locked.png", b"x")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"locked\.png: cannot be read \(Permission denied\)"):
        open_photo(path)


@pytest.mark.parametrize("kind", ["EPS", "DDS", "ICO", "TGA", "PDF", "XBM"])
def test_formats_outside_of_the_list_are_not_opened(tmp_path, kind, monkeypatch):
    image = Image.new("1" if kind == "XBM" else "RGB", (8, 8))
    path = saved(tmp_path, "photo.png", encoded(image, kind))
    with pytest.raises(ImageError, match=r"photo\.png: not a picture in a format that is"):
        open_photo(path)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".mpo", ".j2k"}))
def test_every_suffix_that_is_listed_is_read(tmp_path, suffix):
    (kind,) = (kind for kind, suffixes in FORMATS.items() if suffix in suffixes.split())
    path = saved(tmp_path, f"photo{suffix}", encoded(Image.new("RGB", (8, 6), RED), kind))
    assert find_photos([tmp_path]) == [path]
    assert np.abs(np.subtract(pixel(open_photo(path), 4, 3), RED)).max() <= 3


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no memory for planes"), TypeError("x"), NotImplementedError("y"),
     MemoryError(), RecursionError("deep"), KeyError(3), ZeroDivisionError("z")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_decoder_raises_is_one_line_and_the_log_has_the_trace(
    error, monkeypatch, caplog
):
    def fail(self):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with (
        caplog.at_level(logging.DEBUG, "chiaroscuro"),
        pytest.raises(ImageError, match="odd: broken or truncated picture") as caught,
    ):
        decode_photo(encoded(noise(4, 4), "JPEG"), "odd")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    (record,) = caplog.records
    assert (record.levelname, record.exc_info[1]) == ("DEBUG", error)


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "TIFF", "JPEG2000", "PPM", "PNG", "GIF", "BMP"])
def test_damage_anywhere_is_read_or_refused(kind):
    data = bytearray(encoded(noise(24, 20), kind))
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 80).tolist():
        damaged = data.copy()
        damaged[place] ^= int(rng.integers(1, 256))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                decode_photo(bytes(damaged), "damaged")
            except ImageError as error:
                assert str(error).startswith("damaged: ")  # noqa: PT017


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    reasons = {}
    for path in [*find_photos([tmp_path]), tmp_path / "zero.png"]:
        with pytest.raises(ImageError) as caught:
            open_photo(path)
        reasons[path.name] = str(caught.value).partition(".png: ")[2]
    assert reasons == {
        "gone.png": "no such file",
        "pipe.png": "not a regular file",
        "round.png": "cannot be read (Too many levels of symbolic links)",
        "zero.png": "not a regular file",
    }
    with pytest.raises(ImageError, match=r"cannot be read \(.*embedded null"):
        open_photo("a\0b.png")


def test_a_file_too_large_to_be_a_photo_is_not_read(tmp_path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(ImageError, match="huge.png: 1,073,741,825 bytes, expected at most 1,073"):
        open_photo(tmp_path / "huge.png")


def test_a_name_that_is_no_utf8_is_carried_as_text(tmp_path):
    name = os.fsdecode(b"bad\xff\x1b.png")
    path = saved(tmp_path, name, encoded(noise(4, 4), "PNG"))
    assert find_photos([tmp_path]) == [path]
    photo = open_photo(path)
    assert photo.source == f"{tmp_path}/bad\\udcff\\x1b.png"
    assert not photo.is_file  # that text opens no file
    path.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        open_photo(path)
    assert str(caught.value).encode().isascii()


# Metadata


def with_chunks(*chunks, exif=None):
    data = encoded(noise(4, 6), "PNG", **({"exif": exif} if exif else {}))
    return data[:33] + b"".join(chunk(kind, body) for kind, body in chunks) + data[33:]


@pytest.mark.parametrize(
    "extra",
    [
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 1_500_000)),
        (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 1_500_000)),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_200_000))),
        (b"iCCP", b"profile\0\7" + zlib.compress(b"x")),
        (b"pHYs", b"\0"),
        (b"tEXt", b"x" * 1_500_000),
    ],
    ids=["zTXt", "iTXt", "iCCP", "method", "pHYs", "tEXt"],
)
@pytest.mark.parametrize("last", [False, True])
def test_metadata_does_not_decide_whether_a_png_is_read(extra, last):
    before = PngImagePlugin.MAX_TEXT_CHUNK, ImageFile.LOAD_TRUNCATED_IMAGES
    exif = Image.Exif()
    exif[0x0112] = 6
    data = with_chunks(extra, exif=exif)
    if last:
        data = encoded(noise(4, 6), "PNG", exif=exif)
        data = data[:-12] + chunk(*extra) + data[-12:]
    photo = decode_photo(data, "x")
    assert np.array_equal(np.asarray(photo.image), np.rot90(np.asarray(noise(4, 6)), -1))
    assert photo.notes == ("turned upright by its EXIF mark",)
    assert photo.sha256 == hashlib.sha256(data).hexdigest()
    assert before == (PngImagePlugin.MAX_TEXT_CHUNK, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_a_chunk_with_a_wrong_checksum_decides_only_where_it_holds_pixels():
    data = with_chunks((b"tEXt", b"Comment\0hello"))
    assert decode_photo(data.replace(b"hello", b"HELLO"), "x").image.size == (6, 4)
    place = data.index(b"IDAT") + 8
    with pytest.raises(ImageError, match="x: "):
        decode_photo(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :], "x")


def test_transparency_and_frames_outlive_the_metadata():
    frames = [Image.new("RGB", (20, 20), color) for color in (RED, BLUE)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 1_500_000))
    assert decode_photo(data[:33] + text + data[33:], "x").notes == ("first of 2 frames",)
    image = Image.new("P", (4, 4), 0)
    image.putpalette([*RED, *LIME])
    data = encoded(image, "PNG", transparency=0)
    assert pixel(decode_photo(data[:33] + text + data[33:], "x")) == (255, 255, 255)


def test_a_damaged_orientation_leaves_a_photo_as_it_lies(monkeypatch):
    def fail(self):
        raise struct.error("unpack requires 8 bytes")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    photo = photo_from_image(noise(4, 6))
    assert (photo.image.size, photo.notes) == ((6, 4), ())


# What reading changes


def test_an_rgb_png_is_read_as_it_is_with_its_checksum():
    image = noise(7, 5)
    data = encoded(image, "PNG")
    photo = decode_photo(data, "made here")
    assert np.array_equal(np.asarray(photo.image), np.asarray(image))
    assert (photo.source, photo.notes) == ("made here", ())
    assert photo.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_an_animation_the_first_frame_is_used(kind):
    frames = [Image.new("RGB", (20, 20), color) for color in (RED, BLUE, LIME)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    photo = decode_photo(data, "moving")
    assert photo.notes == ("first of 3 frames",)
    assert pixel(photo, 10, 10) == RED


def test_an_animation_cut_anywhere_is_read_or_refused():
    frames = [Image.new("RGB", (20, 20), color) for color in (RED, BLUE, LIME)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    colors, refusals = [], []
    for end in range(10, len(data)):
        try:
            colors.append(pixel(decode_photo(data[:end], "cut"), 10, 10))
        except ImageError as error:
            refusals.append(str(error))
    assert set(colors) == {RED}
    assert refusals
    assert all(message.startswith("cut: ") for message in refusals)


def test_a_broken_exif_block_does_not_stop_a_photo():
    broken = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        photo = decode_photo(encoded(noise(6, 8), "JPEG", exif=broken), "x")
    assert photo.image.size == (8, 6)


def test_cmyk_jpeg_becomes_rgb_and_says_so():
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    photo = decode_photo(encoded(inks, "JPEG", quality=100), "print")
    assert photo.image.mode == "RGB"
    assert photo.notes == ("converted from CMYK",)
    assert np.abs(np.subtract(pixel(photo, 8, 8), RED)).max() <= 3


def test_sixteen_bit_gray_keeps_values_finer_than_eight_bits():
    values = np.array([[0, 1, 300], [30_001, 65_534, 65_535]], np.uint16)
    photo = decode_photo(encoded(Image.fromarray(values), "PNG"), "deep")
    assert photo.image.mode == "F"
    assert photo.notes == ("more than 8 bits, read as gray",)
    assert np.array_equal(np.asarray(photo.image), (values / 65535).astype(np.float32))
    pixels, _ = frame(photo, Framing())
    assert np.array_equal(pixels, np.repeat((values / 65535).astype(np.float32)[None], 3, axis=0))


@pytest.mark.parametrize(
    ("values", "top", "said"),
    [
        ([0, 4095, 1000], 4095, ", values up to 4095 scaled by 4095"),
        ([0, 256, 3000], 4095, ", values up to 3000 scaled by 4095"),
        ([0, 255, 7], 255, ", values up to 255 scaled by 255"),
        ([0, 4096, 7], 65535, ", values up to 4096 of 65535"),
        ([0, 16383, 7], 65535, ", values up to 16383 of 65535"),
        ([0, 40000, 7], 65535, ""),
        ([0, 0, 0], 65535, ""),
    ],
)
def test_gray_of_12_or_8_bits_in_a_16_bit_file_is_scaled_by_its_range(values, top, said):
    array = np.array([values] * 2, np.uint16)
    for kind in ("PNG", "TIFF"):
        photo = decode_photo(encoded(Image.fromarray(array), kind), "deep")
        assert np.array_equal(np.asarray(photo.image), (array / top).astype(np.float32))
        assert photo.notes == (f"more than 8 bits, read as gray{said}",)


def test_float_gray_is_taken_as_it_is_and_clipped():
    values = np.array([[0.25, -1.0], [2.0, 0.5]], np.float32)
    photo = decode_photo(encoded(Image.fromarray(values), "TIFF"), "deep")
    assert np.asarray(photo.image).tolist() == [[0.25, 0.0], [1.0, 0.5]]
    assert photo.notes == ("more than 8 bits, read as gray, values outside 0..1 clipped",)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_file_with_pixels_that_are_no_numbers_is_refused(value):
    values = np.array([[0.25, value], [2.0, 0.5]], np.float32)
    with pytest.raises(
        ImageError, match=r"^deep: holds NaN or infinite pixels \(expected floats in"
    ):
        decode_photo(encoded(Image.fromarray(values), "TIFF"), "deep")


@pytest.mark.parametrize(
    ("top", "said"), [(65_535, ""), (65_536, ", values outside 0..65535 clipped")]
)
def test_32_bit_gray_is_scaled_like_16_bit_and_says_what_it_clips(top, said):
    values = np.array([[0, top]], np.int32).repeat(2, axis=0)
    photo = decode_photo(encoded(Image.fromarray(values), "TIFF"), "deep")
    assert np.asarray(photo.image)[0].tolist() == [0.0, 1.0]
    assert photo.notes == (f"more than 8 bits, read as gray{said}",)


def test_sixteen_bit_color_is_read_at_eight_bits_and_says_so():
    row = b"\0" + struct.pack(">3H", 65_535, 257 * 128, 0) * 2
    photo = decode_photo(png(2, 2, 16, 2, row * 2), "deep")
    assert pixel(photo, 1, 1) == (255, 128, 0)
    assert photo.notes == ("16 bits a channel, read as 8",)


def test_a_palette_is_looked_up():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*RED, *LIME])
    image.putpixel((0, 0), 0)
    photo = decode_photo(encoded(image, "PNG"), "p")
    assert (photo.image.mode, photo.notes) == ("RGB", ())
    assert (pixel(photo, 0, 0), pixel(photo, 1, 0)) == (RED, LIME)


def test_a_transparent_palette_entry_becomes_white():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*RED, *LIME])
    image.putpixel((0, 0), 0)
    photo = decode_photo(encoded(image, "PNG", transparency=1), "p")
    assert photo.notes == ("alpha laid on white",)
    assert (pixel(photo, 0, 0), pixel(photo, 1, 0)) == (RED, (255, 255, 255))


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGBA", (0, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("LA", (0, 0), (255, 255, 255)),
        ("LA", (0, 51), (204, 204, 204)),
        ("LA", (90, 255), (90, 90, 90)),
    ],
)
def test_alpha_is_laid_on_white(mode, color, expected):
    photo = decode_photo(encoded(Image.new(mode, (4, 4), color), "PNG"), "a")
    assert (photo.image.mode, photo.notes) == ("RGB", ("alpha laid on white",))
    assert pixel(photo, 2, 2) == expected


@pytest.mark.parametrize(("mode", "white"), [("L", 255), ("1", 1)])
def test_gray_and_bilevel_files_become_rgb(mode, white):
    image = Image.new(mode, (4, 4))
    image.putpixel((1, 0), white)
    photo = decode_photo(encoded(image, "PNG"), "g")
    assert (photo.image.mode, photo.notes) == ("RGB", ())
    assert (pixel(photo, 0, 0), pixel(photo, 1, 0)) == ((0, 0, 0), (255, 255, 255))


UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}
"""By the EXIF standard: where the stored rows and columns belong on the upright photo."""


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_exif_orientation_is_shown_upright(orientation):
    stored = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode_photo(encoded(stored, "PNG", exif=exif), "turned")
    expected = UPRIGHT[orientation](np.asarray(stored))
    assert np.array_equal(np.asarray(photo.image), expected)
    assert photo.notes == (() if orientation == 1 else ("turned upright by its EXIF mark",))


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_means_nothing_turns_nothing_and_says_nothing(orientation):
    stored = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode_photo(encoded(stored, "PNG", exif=exif), "kept")
    assert np.array_equal(np.asarray(photo.image), np.asarray(stored))
    assert photo.notes == ()


# Pillow images in memory


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_an_opened_image_is_read_like_its_file_and_stays_as_it_was(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise(6, 8), kind, exif=exif)
    from_file = decode_photo(data, "file")
    image, untouched = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
    photo = photo_from_image(image, "mine")
    assert photo.image.size == from_file.image.size == (6, 8)
    assert photo.image.tobytes() == from_file.image.tobytes()
    photo.image.putpixel((0, 0), LIME)
    assert (image.mode, image.size) == (untouched.mode, untouched.size)
    assert image.tobytes() == untouched.tobytes()
    assert dict(image.getexif()) == dict(untouched.getexif())


def test_an_image_with_alpha_is_left_with_its_alpha():
    image = Image.new("RGBA", (8, 6), (255, 0, 0, 51))
    photo = photo_from_image(image)
    assert photo.image.getpixel((0, 0)) == (255, 204, 204)
    assert photo.notes == ("alpha laid on white",)
    assert (image.mode, image.getpixel((0, 0))) == ("RGBA", (255, 0, 0, 51))


def test_an_upright_rgb_image_is_copied_too():
    image = noise(6, 8)
    photo = photo_from_image(image)
    photo.image.putpixel((0, 0), LIME)
    assert image.getpixel((0, 0)) != LIME
    assert photo.source == "image"


def test_images_of_the_same_pixels_have_the_same_checksum():
    same, other = photo_from_image(noise(6, 8)), photo_from_image(noise(6, 8, seed=1))
    assert photo_from_image(noise(6, 8)).sha256 == same.sha256 != other.sha256


def test_a_small_image_is_refused():
    with pytest.raises(ImageError, match="image: 1x5 pixels, too small to explain"):
        photo_from_image(Image.new("RGB", (1, 5)))


def test_an_image_whose_file_turns_out_truncated_is_refused():
    data = encoded(noise(60, 60), "JPEG")
    lazy = Image.open(io.BytesIO(data[: len(data) // 2]))
    with pytest.raises(ImageError, match="mine: broken or truncated picture"):
        photo_from_image(lazy, "mine")


# Finding files


def test_folders_are_searched_whole_by_suffix_in_sorted_order(tmp_path):
    for name in ("b.png", "a.JPG", "deep/er/c.webp", "notes.txt", "deep/model.json"):
        saved(tmp_path, name, b"x")
    (tmp_path / "folder.png").mkdir()
    names = ["a.JPG", "b.png", "deep/er/c.webp"]
    assert find_photos([tmp_path]) == [tmp_path / name for name in names]


def test_globs_are_expanded_and_repeats_dropped(tmp_path):
    for name in ("b.png", "a.png", "sub/c.png"):
        saved(tmp_path, name, b"x")
    a, b, c = (tmp_path / name for name in ("a.png", "b.png", "sub/c.png"))
    assert find_photos([f"{tmp_path}/*.png"]) == [a, b]
    assert find_photos([f"{tmp_path}/**/*.png"]) == [a, b, c]
    assert find_photos([b, tmp_path, a]) == [b, a, c]


def test_a_file_with_glob_characters_in_its_name_is_that_file(tmp_path):
    path = saved(tmp_path, "photo[1].png", b"x")
    saved(tmp_path, "photo1.png", b"x")
    assert find_photos([str(path)]) == [path]


def test_a_source_without_photos_is_kept_so_that_opening_it_complains(tmp_path):
    sources = [tmp_path / "nowhere.png", f"{tmp_path}/*.nothing", tmp_path]
    found = find_photos(sources)
    assert found == [Path(source) for source in sources]
    for path in found:
        with pytest.raises(ImageError, match=r"no such file|a folder without photos"):
            open_photo(path)


@pytest.mark.parametrize("name", ["cat", "coffee"])
def test_the_packaged_photos_can_be_read(name):
    photo = open_photo(packaged_photo(name))
    assert photo.image.mode == "RGB"
    assert min(photo.image.size) >= 224
    assert photo.notes == ()


# Arrays


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 6), (1, 4, 6)), ((4, 6, 1), (1, 4, 6)), ((4, 6, 3), (3, 4, 6)), ((3, 3, 3), (3, 3, 3))],
)
def test_arrays_become_float32_channels_first(shape, expected):
    array = np.random.default_rng(0).random(shape)
    pixels = check_array(array)
    assert (pixels.shape, pixels.dtype) == (expected, np.float32)
    channels_last = array.reshape(*shape[:2], -1).astype(np.float32)
    assert np.array_equal(pixels, channels_last.transpose(2, 0, 1))
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type_is_taken_and_copied(dtype):
    array = np.linspace(0, 1, 12, dtype=dtype).reshape(3, 4)
    before = array.copy()
    pixels = check_array(array)
    pixels[:] = 0
    assert np.array_equal(array, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    array = np.zeros((4, 6, 3))
    array[1, 2, 0] = value
    with pytest.raises(ImageError, match=r"photo holds NaN or infinite values: expected floats in"):
        check_array(array, "photo")


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "complex128"])
def test_types_other_than_float_are_refused(dtype):
    message = rf"image holds {dtype}: expected floats in \[0, 1\]; divide 8-bit values by 255"
    with pytest.raises(ImageError, match=message):
        check_array(np.zeros((4, 6, 3), dtype))


@pytest.mark.parametrize(("low", "high"), [(-0.5, 1.0), (0.0, 255.0), (-2.118, 2.64), (0.0, 1.001)])
def test_values_outside_the_range_are_refused_with_that_range(low, high):
    array = np.full((4, 6, 3), 0.5)
    array[0, 0, 0], array[3, 5, 2] = low, high
    message = rf"image has values from {low:.4g} to {high:.4g}: expected floats in \[0, 1\]; hand"
    with pytest.raises(ImageError, match=message):
        check_array(array)


@pytest.mark.parametrize("shape", [(4,), (), (1, 4, 6, 3), (4, 6, 0)])
def test_other_shapes_are_refused(shape):
    message = r"image has shape .*: expected an array \(H, W\) or \(H, W, C\)"
    with pytest.raises(ImageError, match=message):
        check_array(np.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 6, 3), (4, 0, 3), (0, 0)])
def test_empty_arrays_are_refused(shape):
    with pytest.raises(ImageError, match=r"image has shape \(.*\): expected"):
        check_array(np.zeros(shape))


def test_to_uint8_is_the_way_back_of_every_byte():
    bytes_ = np.arange(256 * 3, dtype=np.uint32).reshape(16, 16, 3).astype(np.uint8)
    pixels = check_array(bytes_.astype(np.float32) / 255)
    back = to_uint8(pixels)
    assert back.dtype == np.uint8
    assert np.array_equal(back, bytes_)


def test_to_uint8_makes_three_writable_channels_of_gray_and_clips():
    picture = to_uint8(np.array([[[0.0, 1.0], [2.0, -1.0]]], np.float32))
    assert picture[:, :, 0].tolist() == [[0, 255], [255, 0]]
    assert (picture[:, :, :1] == picture).all()
    picture[0, 0, 0] = 9
    assert picture[0, 0].tolist() == [9, 0, 0]


def test_gray_is_the_luma_of_three_channels_and_the_one_channel_itself():
    three = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    expected = 0.299 * three[0] + 0.587 * three[1] + 0.114 * three[2]
    assert gray(three).dtype == np.float32
    np.testing.assert_allclose(gray(three), expected, rtol=1e-6)
    assert np.array_equal(gray(three[:1]), three[0])
    eight_bit = np.asarray(Image.fromarray(to_uint8(three)).convert("L"), np.float32) / 255
    np.testing.assert_allclose(gray(three), eight_bit, atol=1 / 255)


def test_figures_of_saved_explanations_are_no_photos(tmp_path):
    for name in ("photo.png", "out/photo/figure.png", "other/figure.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    saved(tmp_path, "out/photo/chiaroscuro-model.json", b'{"schema": "chiaroscuro-model/1"}')
    assert find_photos([tmp_path]) == [tmp_path / "other/figure.png", tmp_path / "photo.png"]


def test_folders_of_results_are_passed_over_with_all_below(tmp_path):
    figure = "out/run/rows/deep/figure.png"
    for name in ("photo.png", figure, ".hidden/a.png", ".b.png", "album/c.jfif"):
        saved(tmp_path, name, encoded(noise(4, 4), "PNG"))
    listed = [tmp_path / "album/c.jfif", tmp_path / "photo.png"]
    assert find_photos([tmp_path]) == [listed[0], tmp_path / figure, listed[1]]
    saved(tmp_path, "out/run/chiaroscuro-model.json", b'{"schema": "chiaroscuro-model/1"}')
    assert find_photos([tmp_path]) == find_photos([f"{tmp_path}/**/*"]) == listed
    assert find_photos([tmp_path / figure, f"{tmp_path}/out/run/rows/*/*.png"]) == [
        tmp_path / figure
    ]


def test_the_order_is_the_same_from_everywhere(tmp_path, monkeypatch):
    for name in ("b/2.png", "b/10.png", "a.png", "b.png", "c/1.png"):
        saved(tmp_path, name, b"x")
    names = [Path(name) for name in ("a.png", "b/10.png", "b/2.png", "b.png", "c/1.png")]
    assert find_photos([tmp_path]) == [tmp_path / name for name in names]
    monkeypatch.chdir(tmp_path)
    assert find_photos(["."]) == find_photos(["**/*.png"]) == names
    assert find_photos(["*"]) == names  # folders among the matches are searched too


def test_links_inside_are_searched_and_loops_end(tmp_path):
    saved(tmp_path, "real/a.png", b"x")
    (tmp_path / "album").mkdir()
    (tmp_path / "album/link").symlink_to(tmp_path / "real")
    (tmp_path / "real/up").symlink_to(tmp_path)
    assert find_photos([tmp_path / "album"]) == [tmp_path / "album"]
    assert links_out([tmp_path / "album", tmp_path]) == [tmp_path / "album/link"]
    assert find_photos([tmp_path / "album/link"])[0] == tmp_path / "album/link/a.png"
    found = [path.resolve() for path in find_photos([tmp_path])]
    assert set(found) == {(tmp_path / "real/a.png").resolve()}


def test_an_unreadable_folder_is_listed_and_opening_it_says_why(tmp_path, monkeypatch):
    for name in ("a/1.png", "locked/2.png"):
        saved(tmp_path, name, b"x")
    plain = os.scandir

    def refuse(place):
        if Path(place).name == "locked":
            raise PermissionError(13, "Permission denied", place)
        return plain(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_photos([tmp_path]) == [tmp_path / "a/1.png", tmp_path / "locked"]
    with pytest.raises(ImageError, match=r"locked: cannot be read \(Permission denied\)"):
        open_photo(tmp_path / "locked")


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG"])
def test_later_frames_may_be_damaged(kind):
    """Where the first frame is whole, it is read, wherever the file ends."""
    frames = [noise(20, 20, seed) for seed in range(4)]
    frames = [frame.quantize() if kind == "GIF" else frame for frame in frames]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    one = len(encoded(frames[0], kind))
    whole = decode_photo(data, "moving").image.tobytes()
    for end in range(one + 100, len(data), 37):
        assert decode_photo(data[:end], "cut").image.tobytes() == whole


def test_folders_of_photos_differ_on_any_file_system(tmp_path):
    """Some take capitals, or a letter with its accent apart, for the same name."""
    names = ["Cat.png", "cat.jpg", "caf\u00e9.png", "cafe\u0301.jpg", "index.html.png",
             "chiaroscuro-gallery.json.png"]  # fmt: skip
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    found = [str(place) for place in photo_folders([tmp_path]).values()]
    same = {unicodedata.normalize("NFC", name).casefold() for name in found}
    assert len(same) == len(names)
    assert not {"index.html", "chiaroscuro-gallery.json"} & same


def test_every_flipped_bit_of_a_png_s_pixels_is_refused():
    """Pillow checks no checksum of pixels: of a few bits only the pixels change, without a word."""
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    data = bytearray(encoded(Image.fromarray(values), "PNG"))
    first = data.index(b"IDAT") + 4
    silent = 0
    for bit in range(8 * first, 8 * (len(data) - 12)):  # but IEND
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ImageError, match="^png: broken or truncated picture"):
            decode_photo(bytes(data), "png")
        with suppress(Exception):
            Image.open(io.BytesIO(data)).load()
            silent += 1
        data[bit // 8] ^= 1 << bit % 8
    assert silent > 20
    assert np.array_equal(np.asarray(decode_photo(bytes(data), "png").image), values)


def test_decoders_are_quiet_in_processes_of_ours():
    """A broken picture is said by us, once: Pillow's warnings are not shown there."""
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression="tiff_lzw")
    half = file.getvalue()[: len(file.getvalue()) // 2]
    for quiet in (False, True):
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            if quiet:
                quiet_libraries()
            with pytest.raises(ImageError, match="not a picture|broken or truncated"):
                decode_photo(half, "half")
        assert bool(shown) is not quiet


@pytest.mark.parametrize("kind", [b"IDAT", b"abCd"])
def test_a_png_of_endless_parts_is_given_up(kind, monkeypatch):
    """Whatever follows its end is not looked at; what comes before takes no more than its time."""
    monkeypatch.setattr(photos, "MAX_SECONDS", 0.2)
    whole = encoded(Image.fromarray(np.zeros((8, 8, 3), np.uint8)), "PNG")
    empty = bytes(4) + kind + struct.pack(">I", zlib.crc32(kind))
    many = empty * 1_000_000
    start = time.thread_time()
    assert decode_photo(whole + many, "after").image.size == (8, 8)
    assert time.thread_time() - start < 0.2
    with pytest.raises(ImageError, match=r"^before: takes more than 0\.2 s to read"):
        decode_photo(whole[:-12] + many + whole[-12:], "before")
    assert time.thread_time() - start < 2
