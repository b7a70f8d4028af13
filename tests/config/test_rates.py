"""Rates: what they are in Python, and how they are written."""

from __future__ import annotations

import pytest

from gateway.config.rates import Rates, parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50/s", Rates(messages=50.0)),
        ("0.5/s", Rates(messages=0.5)),
        ("30/m", Rates(messages=0.5)),
        ("360/h", Rates(messages=0.1)),
        ("10KB/s", Rates(bytes=10_000.0)),
        ("1.5KiB/m", Rates(bytes=25.6)),
        ("9MB/h", Rates(bytes=2500.0)),
    ],
)
def test_a_rate_is_so_much_a_second(text: str, rate: Rates) -> None:
    """Of messages or of bytes, whatever the unit of time."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "50", "/s", "50/d", "50 /s", "-1/s", "1e3/s", "10K/s", "50/s\n", "50s"])
def test_anything_else_is_no_rate(text: str) -> None:
    """What is not written as a rate is refused, and the message shows how one is written."""
    with pytest.raises(ValueError, match='write "50/s", "10/m" or "10KB/s"'):
        parse_rate(text)


@pytest.mark.parametrize("text", ["0/s", "0.0/h", "0KB/s"])
def test_a_rate_of_nothing_is_refused(text: str) -> None:
    """With it, nothing would ever be sent."""
    with pytest.raises(ValueError, match="more than 0"):
        parse_rate(text)
