"""Durations and sizes: what they are in Python, and how they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from gateway import Duration, Size
from gateway.units import duration_text, parse_duration, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("250ms", 0.25), ("1s", 1), ("1.5s", 1.5), ("5m", 300), ("2h", 7200), ("30d", 2_592_000)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    """A duration is a float of seconds, exactly the one that is meant."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("500MB", 500_000_000),
        ("1GB", 10**9),
        ("64KiB", 65536),
        ("1.5kB", 1500),
        ("1KB", 1000),
        ("2GiB", 2**31),
    ],
)
def test_a_size_is_bytes(text: str, size: int) -> None:
    """A size is an int of bytes; MB is decimal and MiB is binary."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "1", "s", "1 s", "-1s", "1sec", "1S", "1e3s", "1s ", "1h30m", "9" * 10 + "s", "١s", "1s\n"]
)
def test_anything_else_is_no_duration(text: str) -> None:
    """What is not written as a duration is refused, and the message shows how one is written."""
    with pytest.raises(ValueError, match='write "250ms", "1s", "5m", "2h" or "30d"'):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "1", "MB", "1 MB", "-1MB", "1mb", "1M", "1e3B", "1MB\n", "1TBB"])
def test_anything_else_is_no_size(text: str) -> None:
    """What is not written as a size is refused, and the message shows how one is written."""
    with pytest.raises(ValueError, match='write "64KiB", "500MB" or "1GB"'):
        parse_size(text)


@given(st.integers(0, 10**8).map(lambda milliseconds: milliseconds / 1000))
def test_a_duration_survives_writing(seconds: float) -> None:
    """What is written for a default or a bound, means it when it is pasted into a config."""
    assert parse_duration(duration_text(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.integers(0, 10**14))
def test_a_size_survives_writing(size: int) -> None:
    """What is written for a default or a bound, means it when it is pasted into a config."""
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "500ms"), (30.0, "30s"), (90.0, "90s"), (65535, "65535s"), (3600.0, "1h"), (86400, "1d")],
)
def test_a_duration_is_written_in_its_largest_unit(seconds: float, text: str) -> None:
    """A person sees "1h" and not "3600s"."""
    assert duration_text(seconds) == text


class Fields(BaseModel):
    wait: Duration = 1.0
    room: Size = 4096


def test_code_may_give_numbers() -> None:
    """In Python a duration is seconds and a size is bytes, as everywhere in the project."""
    assert Fields(wait=0.25, room=10) == Fields.model_validate({"wait": "250ms", "room": "10B"})


@pytest.mark.parametrize("value", [5, 0.25, 0, True, None, [], {}, float("inf")])
def test_a_config_must_write_the_unit(value: object) -> None:
    """A number in a config says nothing about its unit, and is refused."""
    for key in ("wait", "room"):
        with pytest.raises(ValidationError):
            Fields.model_validate({key: value}, context={})
