"""Numbers and text that users give, in whatever type they come."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chiaroscuro.choices import as_float, as_int
from chiaroscuro.errors import ChoiceError, printable

WHOLE = [3, 3.0, np.int64(3), np.float32(3), np.uint8(3), np.array(3), torch.tensor(3), Fraction(3)]


@pytest.mark.parametrize("value", [*WHOLE, torch.tensor(3.0)], ids=lambda v: type(v).__name__)
def test_a_whole_number_of_any_library(value):
    for number, kind in ((as_int("size", value), int), (as_float("size", value), float)):
        assert (number, type(number)) == (3, kind)


def test_numbers_keep_every_digit():
    assert as_int("n", 2**63 - 1) == as_int("n", np.int64(2**63 - 1)) == 2**63 - 1
    assert as_float("mean", np.float32(0.485)) == float(np.float32(0.485))


@pytest.mark.parametrize(
    "value",
    ["3", b"3", None, True, np.bool_(True), torch.tensor(True), 3j, [3], np.array([3]),
     torch.zeros(1)],
    ids=repr,
)  # fmt: skip
def test_what_is_no_number(value):
    for call in (as_int, as_float):
        with pytest.raises(ChoiceError, match=r"^size is .*: expected a (whole )?number"):
            call("size", value)


@pytest.mark.parametrize("value", [3.5, float("nan"), float("inf"), np.float32(0.1)])
def test_what_is_no_whole_number(value):
    with pytest.raises(ChoiceError, match="size is .*: expected a whole number"):
        as_int("size", value)


def test_text_that_steers_a_terminal_is_escaped():
    assert printable("\x1b]0;title\x07 \x9b2J") == "\\x1b]0;title\\x07 \\x9b2J"
    assert printable("a\nb\r\tc\x7f\u2028\u202egnp.") == "a\\nb\\r\\tc\\x7f\\u2028\\u202egnp."
    assert printable("bad\udcff.png") == "bad\\udcff.png"


def test_ordinary_text_of_any_language_stays():
    for text in ("naïve café", "狗和猫.png", "می‌خواهم", "👩‍👧", "C:\\photos\\1.png", "a\u3000b"):
        assert printable(text) == text


@given(st.text(st.characters(exclude_categories=[])))
def test_printable_text_is_utf8_on_one_line_and_stays(text):
    shown = printable(text)
    assert shown.encode().decode() == printable(shown) == shown
    assert len(shown.splitlines()) <= 1
