"""Modbus registers: what their words say, what is written to set them, and which requests fetch them."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.frames.registers import LONGEST, Register, plan


def test_the_published_frame_of_a_meter() -> None:
    """SDM120, answer 01 04 04 43 66 33 34 1b 38: 230.2 V."""
    register = Register(table="input", address=0, type="f32")
    assert register.decode([0x4366, 0x3334]) == pytest.approx(230.2)


@given(
    kind=st.sampled_from(["i16", "u16", "i32", "u32", "i64", "u64", "f32", "f64"]),
    word_order=st.sampled_from(["big", "little"]),
    byte_order=st.sampled_from(["big", "little"]),
    data=st.data(),
)
def test_every_type_in_every_order(kind: Any, word_order: Any, byte_order: Any, data: st.DataObject) -> None:
    """decode(encode(x)) == x."""
    letter = {"i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q", "f32": "f", "f64": "d"}[kind]
    width = 8 * struct.calcsize(">" + letter)
    if kind[0] == "f":
        value = data.draw(st.floats(width=width, allow_nan=False, allow_infinity=False))
    else:
        low = -(1 << width - 1) if kind[0] == "i" else 0
        value = data.draw(st.integers(low, low + (1 << width) - 1))
    packed = struct.pack(">" + letter, value)
    words = [int.from_bytes(packed[at : at + 2], byte_order) for at in range(0, len(packed), 2)]
    register = Register(address=0, type=kind, word_order=word_order, byte_order=byte_order)
    found = register.decode(words if word_order == "big" else words[::-1])
    assert struct.pack(">" + letter, found) == packed, "of f32 in fewer digits, and the same number"


@given(
    kind=st.sampled_from(["i16", "u16", "i32", "u32", "f64"]),
    word_order=st.sampled_from(["big", "little"]),
    byte_order=st.sampled_from(["big", "little"]),
    scale=st.sampled_from([1.0, 0.1, 0.01, 0.001, -0.1, 0.5, 2.0, 10.0, 1 / 3, 1e-6]),
    offset=st.sampled_from([0.0, -40.0, 0.05, 273.15]),
    data=st.data(),
)
def test_what_a_register_says_can_be_written(
    kind: Any, word_order: Any, byte_order: Any, scale: float, offset: float, data: st.DataObject
) -> None:
    """encode(decode(words)) == words: the scale is inverted exactly."""
    register = Register(address=0, type=kind, word_order=word_order, byte_order=byte_order, scale=scale, offset=offset)
    words = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=register.count, max_size=register.count))
    value = register.decode(words)
    if kind == "f64":
        assume(math.isfinite(value) and 1e-200 < abs(value) < 1e200)
        assert register.decode(register.encode(value)) == pytest.approx(value, rel=1e-12)
    else:
        assert register.encode(value) == words


@given(word=st.integers(0, 0xFFFF), bit=st.integers(0, 15), level=st.booleans())
def test_a_bit_is_set_in_what_the_register_has(word: int, bit: int, level: bool) -> None:
    """The bit is as it should be, and all others are as they were."""
    register = Register(address=0, bit=bit)
    (written,) = register.encode(level, word)
    assert register.decode([written]) is level
    assert written ^ word in (0, 1 << bit)


@given(
    kind=st.sampled_from(["i16", "u64", "f32", "f64", "text"]),
    scale=st.sampled_from([0.0, 1.0, 0.1, 1e-300, 1e300]),
    value=st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.text(), st.booleans()),
)
def test_what_cannot_be_written_is_a_value_error(kind: Any, scale: float, value: Any) -> None:
    """Whatever somebody wants to set: it fits, or is refused in words."""
    register = Register(address=0, type=kind, words=4 if kind == "text" else 1, scale=scale)
    try:
        words = register.encode(value)
    except ValueError as error:
        said = str(error)
        assert 0 < len(said) < 100
    else:
        assert len(words) == register.count
        assert all(0 <= word <= 0xFFFF for word in words)


@given(
    places=st.lists(
        st.tuples(st.sampled_from(["holding", "input", "coil"]), st.integers(0, 400), st.sampled_from(["u16", "f64"])),
        min_size=1,
        max_size=40,
    ),
    gap=st.integers(0, 40),
)
def test_a_plan_asks_for_everything_once_and_for_no_more_than_it_may(
    places: list[tuple[Any, int, Any]], gap: int
) -> None:
    """Each metric is in one request, whole; no request is longer than the protocol allows, or has a longer gap."""
    registers = {
        f"m{number}": Register(table=table, address=address, **({} if table == "coil" else {"type": kind}))
        for number, (table, address, kind) in enumerate(places)
    }
    found = plan(registers, max_gap=gap)
    assert sorted(name for request in found.requests for name in request.names) == sorted(registers)
    for request in found.requests:
        assert request.length <= LONGEST[request.table]
        covered = set()
        for name in request.names:
            register = registers[name]
            assert register.table == request.table
            span = set(range(register.address, register.address + register.count))
            assert span <= set(range(request.address, request.address + request.length))
            covered |= span
        missing = sorted(set(range(request.address, request.address + request.length)) - covered)
        longest = run = 0
        for at, address in enumerate(missing):
            run = run + 1 if at and address == missing[at - 1] + 1 else 1
            longest = max(longest, run)
        assert longest <= gap
        assert set(found.decode(request, [1] * request.length)) == set(request.names)


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": 0, "bit": 3, "type": "i16"},
        {"address": 0, "words": 3},
        {"address": 65535, "type": "u32"},
        {"address": -1},
        {"table": "coil", "address": 0, "bit": 1},
        {"address": 0, "typ": "u16"},
        {"address": 0, "table": "input", "write": "single"},
        {"address": 0, "type": "u32", "write": "single"},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    """A map with a mistake in it is an error in the config."""
    with pytest.raises(ValidationError):
        Register(**wrong)
