"""Floating point of 32 bits is written as it is meant."""

from __future__ import annotations

import math
import struct

from hypothesis import given
from hypothesis import strategies as st

from adapters.frames.single import shortest


@given(st.floats(width=32))
def test_it_is_the_same_number_in_32_bits(number: float) -> None:
    """No bit of what the device has said is lost, also at the ends of what there is."""
    assert struct.pack(">f", shortest(number)) == struct.pack(">f", number)


@given(st.integers(-999_999, 999_999), st.integers(0, 6))
def test_six_digits_come_out_as_they_went_in(digits: int, places: int) -> None:
    """What a device has in six digits is published in these."""
    meant = digits / 10**places
    assert shortest(struct.unpack(">f", struct.pack(">f", meant))[0]) == meant


def test_what_is_no_number_stays_that() -> None:
    """Infinity and what is no number are somebody else's to judge."""
    assert shortest(math.inf) == math.inf
    assert math.isnan(shortest(math.nan))
