"""Numbers as devices write them, scaled."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import scaled


@given(st.integers(-(10**9), 10**9), st.integers(1, 6))
def test_decimal_places_come_out_as_a_person_writes_them(number: int, places: int) -> None:
    """Dividing by ten, a hundred and so on leaves no noise behind the last place."""
    assert scaled(number, float(f"1e-{places}")) == float(Decimal(number).scaleb(-places))


@given(st.integers(-(10**9), 10**9), st.integers(-(10**6), 10**6), st.integers(0, 6))
def test_an_offset_adds_no_noise(number: int, offset: int, places: int) -> None:
    """61.7 - 40 is 21.7, as on paper."""
    given_number, given_offset = float(Decimal(number).scaleb(-places)), float(Decimal(offset).scaleb(-places))
    assert scaled(given_number, 1.0, given_offset) == float(Decimal(number + offset).scaleb(-places))


@pytest.mark.parametrize(
    ("number", "scale", "offset", "expected"),
    [(217, 1.0, 0.0, 217), (217, 0.1, -1.5, 20.2), (3, 2.5, 0.0, 7.5), (10, -0.1, 0.0, -1.0), (1, 5e-324, 0.0, 5e-324)],
)
def test_other_scales_multiply(number: float, scale: float, offset: float, expected: float) -> None:
    """A whole number that nothing changes stays one, and no scale is too small."""
    assert scaled(number, scale, offset) == expected
    assert type(scaled(number, scale, offset)) is type(expected)
