"""What a network sees of a photo: the same pixels as torchvision's transforms, and where they lie.

The photos are noise, so that one pixel off or another resampling would show.
"""

import resource

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from chiaroscuro import ChoiceError, ImageError
from chiaroscuro.images import CropBox, Framing, Photo, frame
from chiaroscuro.images.photos import photo_from_image

MODES = transforms.InterpolationMode
PHOTO_SIZES = [(97, 61), (61, 97), (60, 60), (33, 40), (40, 33), (17, 90), (12, 9), (40, 300)]
"""Height and width: portrait, landscape, square, about the target's size, narrow, small, wide."""


def noise(height, width, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return photo_from_image(Image.fromarray(values.astype(np.uint8)))


def ramp(height, width):
    """A photo of mode F whose value is (column + 1/2) / width, with rows all the same."""
    values = np.broadcast_to((np.arange(width, dtype=np.float32) + 0.5) / width, (height, width))
    return Photo(Image.fromarray(values.copy()), "ramp", "")


def seen(photo, *steps):
    return transforms.Compose([*steps, transforms.ToTensor()])(photo.image)


def equal(pixels, expected):
    return torch.equal(torch.from_numpy(pixels), expected)


# The same as torchvision


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("height_width", PHOTO_SIZES)
@pytest.mark.parametrize(("resize", "crop"), [(40, 32), (33, 32), (32, 32), (37, 20)])
def test_crop_is_torchvisions_resize_and_center_crop(height_width, resize, crop, interpolation):
    photo = noise(*height_width)
    framing = Framing((crop, crop), (resize, resize), "crop", interpolation)
    pixels, _ = frame(photo, framing)
    steps = transforms.Resize(resize, MODES(interpolation)), transforms.CenterCrop(crop)
    assert equal(pixels, seen(photo, *steps))


@pytest.mark.parametrize("height_width", PHOTO_SIZES)
def test_without_a_canvas_the_photo_just_covers_the_size(height_width):
    photo = noise(*height_width)
    pixels, _ = frame(photo, Framing((32, 32)))
    assert equal(pixels, seen(photo, transforms.Resize(32), transforms.CenterCrop(32)))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
@pytest.mark.parametrize("height_width", PHOTO_SIZES)
def test_stretch_is_torchvisions_resize_of_both_sides(height_width, interpolation):
    photo = noise(*height_width)
    framing = Framing((20, 31), fit="stretch", interpolation=interpolation)
    pixels, box = frame(photo, framing)
    assert equal(pixels, seen(photo, transforms.Resize((20, 31), MODES(interpolation))))
    height, width = height_width
    assert box == CropBox(0, 0, width, height, width, height)


def test_a_photo_of_the_asked_size_is_not_touched():
    photo = noise(32, 24)
    for fit in ("crop", "pad", "stretch"):
        pixels, box = frame(photo, Framing((32, 24), fit=fit))
        assert equal(pixels, seen(photo))
        assert box == CropBox(0, 0, 24, 32, 24, 32)


def test_without_a_size_the_photo_is_taken_as_it_is():
    photo = noise(13, 29)
    pixels, box = frame(photo, Framing())
    assert equal(pixels, seen(photo))
    assert (pixels.dtype, pixels.shape) == (np.float32, (3, 13, 29))
    assert box == CropBox(0, 0, 29, 13, 29, 13)


def test_one_channel_is_pillows_gray_of_the_framed_photo():
    photo = noise(50, 37)
    pixels, _ = frame(photo, Framing((16, 16), (20, 20)), channels=1)
    steps = transforms.Resize(20), transforms.CenterCrop(16), transforms.Grayscale()
    assert equal(pixels, seen(photo, *steps))
    whole, _ = frame(photo, Framing(), channels=1)
    assert equal(whole, seen(photo, transforms.Grayscale()))


@pytest.mark.parametrize("channels", [1, 3])
def test_deep_gray_is_framed_at_its_own_depth_in_every_channel(channels):
    photo = ramp(40, 80)
    pixels, _ = frame(photo, Framing((20, 20)), channels)
    expected = np.asarray(photo.image.resize((40, 20), Image.Resampling.BILINEAR))[:, 10:30]
    assert pixels.shape == (channels, 20, 20)
    assert all(np.array_equal(channel, expected) for channel in pixels)
    assert np.abs(np.round(pixels * 255) - pixels * 255).max() > 0.1


def test_overshoot_of_deep_gray_is_clipped():
    values = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((8, 8))).astype(np.float32)
    photo = Photo(Image.fromarray(values), "checkers", "")
    raw = np.asarray(photo.image.resize((50, 50), Image.Resampling.BICUBIC))
    assert raw.min() < -0.01
    assert raw.max() > 1.01
    pixels, _ = frame(photo, Framing((50, 50), interpolation="bicubic"))
    assert np.array_equal(pixels[0], np.clip(raw, 0, 1))


# Where the pixels lie on the photo


@pytest.mark.parametrize(
    ("height_width", "framing"),
    [
        ((120, 400), Framing((30, 30))),
        ((120, 400), Framing((30, 30), (40, 40))),
        ((120, 400), Framing((40, 20), (60, 40))),
        ((400, 120), Framing((30, 30), (40, 40))),
        ((400, 120), Framing((40, 20))),
        ((120, 400), Framing((24, 50), fit="stretch")),
        ((20, 50), Framing((60, 60), (80, 80))),
    ],
)
def test_the_box_says_which_part_of_the_photo_a_pixel_shows(height_width, framing):
    height, width = height_width
    upright = Photo(ramp(width, height).image.transpose(Image.Transpose.ROTATE_270), "down", "")
    for photo, axis in ((ramp(height, width), 1), (upright, 0)):
        pixels, box = frame(photo, framing)
        first, last, side = (box.left, box.right, width) if axis else (box.top, box.bottom, height)
        assert (box.photo_width, box.photo_height) == (width, height)
        assert 0 <= first < last <= side
        count = pixels.shape[2 if axis else 1]
        centers = first + (np.arange(count) + 0.5) * (last - first) / count
        shown = (pixels[0].mean(axis=1 - axis)) * side
        inner = slice(2, -2)  # at the photo's very edge resampling sees one side only
        np.testing.assert_allclose(shown[inner], centers[inner], atol=0.01)


def test_the_box_of_a_crop_in_numbers():
    _, box = frame(noise(200, 400), Framing((50, 50), (100, 100)))
    assert box == CropBox(150, 50, 250, 150, 400, 200)


# Padding


def test_pad_shows_the_whole_photo_on_mid_gray():
    photo = noise(20, 40)
    pixels, box = frame(photo, Framing((32, 32), fit="pad"))
    assert (pixels[:, :8] == 0.5).all()
    assert (pixels[:, 24:] == 0.5).all()
    assert equal(pixels[:, 8:24].copy(), seen(photo, transforms.Resize((16, 32))))
    assert box == CropBox(0, -10, 40, 30, 40, 20)


def test_pad_of_a_portrait_reaches_beyond_its_sides():
    photo = noise(40, 20)
    pixels, box = frame(photo, Framing((32, 32), fit="pad"))
    assert (pixels[:, :, :8] == 0.5).all()
    assert (pixels[:, :, 24:] == 0.5).all()
    assert equal(pixels[:, :, 8:24].copy(), seen(photo, transforms.Resize((32, 16))))
    assert box == CropBox(-10, 0, 30, 40, 20, 40)


def test_pad_with_an_odd_rest_covers_every_pixel_once():
    photo = Photo(Image.new("RGB", (30, 11), "white"), "white", "")
    pixels, box = frame(photo, Framing((30, 30), fit="pad"))
    assert sorted(np.unique(pixels)) == [0.5, 1.0]
    assert (pixels[0] == 1).sum() == 30 * 11
    assert box.bottom - box.top == 30


def test_pad_ignores_the_canvas_and_fills_one_channel_and_deep_gray_too():
    for channels in (1, 3):
        pixels, _ = frame(ramp(10, 40), Framing((20, 20), (30, 30), "pad"), channels)
        assert pixels.shape == (channels, 20, 20)
        assert (pixels[:, :7] == 0.5).all()
        assert pixels[0, 10, 0] < 0.1 < 0.9 < pixels[0, 10, -1]


def test_a_needle_keeps_at_least_one_row():
    pixels, _ = frame(noise(2, 60), Framing((8, 8), fit="pad"))
    assert (pixels != 0.5).any(axis=(0, 2)).sum() == 1


# Every size


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    st.integers(2, 60),
    st.integers(2, 60),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(0, 9),
    st.sampled_from(["crop", "pad", "stretch"]),
    st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]),
    st.sampled_from([1, 3]),
    st.booleans(),
)
def test_any_photo_gets_the_asked_shape_in_range(
    height, width, rows, columns, margin, fit, interpolation, channels, deep
):
    photo = ramp(height, width) if deep else noise(height, width, seed=height * width)
    canvas = (rows + margin, columns + margin)
    pixels, box = frame(photo, Framing((rows, columns), canvas, fit, interpolation), channels)
    assert (pixels.shape, pixels.dtype) == ((channels, rows, columns), np.float32)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert box.left < box.right
    assert box.top < box.bottom
    middle = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    assert abs(middle[0] - width / 2) <= (box.right - box.left) / columns / 2 + 1e-9
    assert abs(middle[1] - height / 2) <= (box.bottom - box.top) / rows / 2 + 1e-9
    inside = min(box.left, box.top, width - box.right, height - box.bottom) >= -1e-9
    assert inside or fit == "pad"


# Pages wider than their data


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("height_width", [(20, 200), (200, 20), (7, 90)])
def test_a_photo_that_scales_too_large_is_scaled_where_it_is_seen(
    height_width, interpolation, monkeypatch
):
    photo, framing = noise(*height_width), Framing((32, 32), (40, 40), "crop", interpolation)
    expected, box = frame(photo, framing)
    monkeypatch.setattr("chiaroscuro.images.framing.MAX_PIXELS", 32 * 32)
    pixels, same = frame(photo, framing)
    assert (pixels.shape, same) == (expected.shape, box)
    # Pillow may scale rows before columns; overshoots of the first are cut off at 0 and 255.
    tolerance = {"nearest": 0, "bilinear": 1.01 / 255, "bicubic": 0.06}[interpolation]
    assert np.abs(pixels - expected).max() <= tolerance


@pytest.mark.parametrize("size", [(100_000, 2), (2, 100_000)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_needle_of_a_photo_takes_little_memory(size, fit):
    photo = photo_from_image(Image.new("RGB", size, (255, 0, 0)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels, _ = frame(photo, Framing((224, 224), (256, 256), fit))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    assert pixels.shape == (3, 224, 224)
    assert pixels[0, 112, 112] == 1 and pixels[1, 112, 112] == 0


@pytest.mark.parametrize("name", ["size", "canvas"])
def test_a_framing_of_too_many_pixels_is_refused(name):
    sides = {"size": (8, 8), name: (10_000, 10_000)}
    with pytest.raises(ChoiceError, match=f"{name} is 10000 x 10000: expected at most 89,478,485"):
        Framing(**sides)


def test_a_failure_while_scaling_is_one_line(monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    photo = noise(20, 30)
    monkeypatch.setattr(Image.Image, "resize", fail)
    with pytest.raises(ImageError, match="image: broken or truncated picture \\(MemoryError\\)"):
        frame(photo, Framing((8, 8)))


# Choices that make no framing


@pytest.mark.parametrize(
    "size", [(np.int64(8), 9.0), [8, 9], np.array([8, 9]), torch.tensor([8, 9])], ids=repr
)
def test_sides_are_numbers_of_any_library(size):
    framing = Framing(size, canvas=size)
    assert framing == Framing((8, 9), (8, 9))
    assert all(type(side) is int for side in (*framing.size, *framing.canvas))


def test_an_unknown_fit_lists_the_known_ones():
    with pytest.raises(ChoiceError, match=r"unknown fit 'cropp': did you mean crop\? known are"):
        Framing((8, 8), fit="cropp")


def test_an_unknown_interpolation_lists_the_known_ones():
    message = r"unknown interpolation 'cubic': did you mean bicubic\? known are nearest, bilinear"
    with pytest.raises(ChoiceError, match=message):
        Framing((8, 8), interpolation="cubic")


@pytest.mark.parametrize(
    "size", [(0, 8), (8, -1), (8,), (3, 8, 8), (), 8, "88", (8.5, 9)], ids=repr
)
def test_a_size_that_is_not_two_sides_is_refused(size):
    with pytest.raises(ChoiceError, match=r"size is .*: expected (\(height, width\) in pixels|a )"):
        Framing(size)


def test_a_canvas_of_no_pixels_is_refused():
    message = r"canvas is \(0, 8\): expected \(height, width\) in pixels"
    with pytest.raises(ChoiceError, match=message):
        Framing((8, 8), (0, 8))


@pytest.mark.parametrize("canvas", [(7, 9), (9, 7), (7, 7)])
def test_a_canvas_smaller_than_the_size_is_refused(canvas):
    message = rf"canvas \({canvas[0]}, {canvas[1]}\) is smaller than size \(8, 8\)"
    with pytest.raises(ChoiceError, match=message):
        Framing((8, 8), canvas)


def test_another_fit_keeps_everything_else():
    framing = Framing((8, 9), (10, 11), "crop", "bicubic")
    assert framing.with_fit("pad") == Framing((8, 9), (10, 11), "pad", "bicubic")
    assert framing.with_fit(None) is framing
    with pytest.raises(ChoiceError, match="unknown fit 'fill'"):
        framing.with_fit("fill")
