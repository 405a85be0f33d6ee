"""What a shortcut took, seen from outside."""

import pytest

from chiaroscuro.shortcuts import functions


@pytest.fixture
def products(monkeypatch):
    """The shapes of the matrices that were multiplied with."""
    seen = []
    plain = functions.times

    def times(rows, matrix, bias):
        seen.append(tuple(matrix.shape))
        return plain(rows, matrix, bias)

    monkeypatch.setattr(functions, "times", times)
    return seen


@pytest.fixture
def maxima(monkeypatch):
    """Whether each maximum over windows was taken axis by axis."""
    seen = []
    plain = functions.window_maximum

    def window_maximum(*given):
        seen.append((found := plain(*given)) is not None)
        return found

    monkeypatch.setattr(functions, "window_maximum", window_maximum)
    return seen
