"""Pictures that mark pixels with an outline."""

import numpy as np

from chiaroscuro.render.pictures import OUTLINE, enlarged, outlined


def test_an_outline_lies_inside_its_region_and_leaves_its_middle():
    picture = np.full((4, 4, 3), 90, np.uint8)
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True  # one region of four pixels
    mask[0, 3] = True
    marked = outlined(picture, mask, side=64)
    line = (marked == OUTLINE).all(axis=2)
    assert marked.shape == (64, 64, 3)
    expected = np.zeros((64, 64), bool)
    expected[16:48, 16:48] = True
    expected[18:46, 18:46] = False  # no line between pixels that touch
    expected[0:16, 48:64] = True
    expected[2:14, 50:62] = False
    assert np.array_equal(line, expected)
    assert (marked[~line] == 90).all()


def test_large_pictures_stay_as_they_are_in_size():
    picture = np.zeros((900, 1200, 3), np.uint8)
    assert enlarged(picture).shape == picture.shape
    mask = np.zeros((900, 1200), bool)
    mask[5, 7] = True
    assert np.argwhere((outlined(picture, mask) == OUTLINE).all(axis=2)).tolist() == [[5, 7]]
