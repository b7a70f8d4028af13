"""Modbus registers: what is where, which requests fetch it, what the words say, and what is written to set it. Pure.

Source: MODBUS Application Protocol Specification V1.1b3, sections 4.3 (data model) and 6.1 to 6.4 (how much one request
may ask for). How values of more than one register are put together is each maker's own affair.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.frames.levels import as_level
from adapters.frames.single import shortest
from gateway import Value, scaled

LONGEST = {"holding": 125, "input": 125, "coil": 2000, "discrete": 2000}
"""Registers, or bits, that one request may ask for."""
_NOISE = 1e-7  # of a step, which binary fractions put in: 21.7 / 0.1 is 216.99999999999997
_FORMATS = {"i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q", "f32": "f", "f64": "d"}
_WORDS = {"i16": 1, "u16": 1, "i32": 2, "u32": 2, "i64": 4, "u64": 4, "f32": 2, "f64": 4}
_OF_REGISTERS = ("type", "word_order", "byte_order", "scale", "offset")
"""Keys that say nothing about a single bit."""


class Register(BaseModel):
    """Where one metric is, and how it is written there."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    table: Literal["holding", "input", "coil", "discrete"] = Field(
        default="holding", description="The table: registers (holding, input) or single bits (coil, discrete)."
    )
    address: int = Field(ge=0, le=65535, description="Address in the request, from 0; 40001 in a data sheet is 0 here.")
    type: Literal["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "text"] = Field(
        default="u16", description="How the value is written in the registers."
    )
    words: int = Field(default=1, ge=1, le=64, description='How many registers a "text" has.')
    word_order: Literal["big", "little"] = Field(
        default="big", description="big: the register with the lowest address is the most significant."
    )
    byte_order: Literal["big", "little"] = Field(default="big", description="Order of the two bytes of a register.")
    bit: int | None = Field(default=None, ge=0, le=15, description="Only this bit of a register, 0 is the lowest.")
    scale: float = Field(default=1.0, description="Multiply the number by this.")
    offset: float = Field(default=0.0, description="Add this afterwards.")
    write: Literal["auto", "single", "multiple"] = Field(
        default="auto",
        description="How a command sets it: with the functions 5 and 6 (single), or 15 and 16 (multiple); auto: the "
        "first for one register or coil, the second for more.",
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.bit is not None and (self.type != "u16" or not self.is_register):
            raise ValueError('bit goes with a register of type "u16"')
        given = [key for key in _OF_REGISTERS if key in self.model_fields_set]
        if given and not self.is_register:
            raise ValueError(f'{given[0]} goes with registers; what is in "{self.table}" is true or false')
        if self.words != 1 and self.type != "text":
            raise ValueError('words goes with type = "text"')
        if self.address + self.count > 65536:
            raise ValueError("the value ends behind the last address, 65535")
        if self.write != "auto" and not self.is_writable:
            raise ValueError(f'write goes with "holding" and "coil"; nothing can be written to "{self.table}"')
        if self.write == "single" and self.count > 1:
            raise ValueError(f'write = "single" is for one register, and this has {self.count}')
        return self

    @property
    def is_register(self) -> bool:
        """Whether it is in registers, and no single bit."""
        return self.table in ("holding", "input")

    @property
    def is_writable(self) -> bool:
        """Whether the protocol has a function that writes it."""
        return self.table in ("holding", "coil")

    @property
    def count(self) -> int:
        """How many registers, or bits, it takes."""
        if not self.is_register:
            return 1
        return self.words if self.type == "text" else _WORDS[self.type]

    def decode(self, words: Sequence[int]) -> Value:
        """Return what its registers say, 16 bits each; of a bit, true or false."""
        if not self.is_register:
            return bool(words[0])
        if self.bit is not None:
            return bool(words[0] >> self.bit & 1)
        ordered = words if self.word_order == "big" else reversed(words)
        data = b"".join(word.to_bytes(2, self.byte_order) for word in ordered)
        if self.type == "text":
            return data.rstrip(b"\0 ").decode("latin-1")
        number: float = struct.unpack(">" + _FORMATS[self.type], data)[0]
        return scaled(shortest(number) if self.type == "f32" else number, self.scale, self.offset)

    def encode(self, value: Value, now: int = 0) -> list[int]:
        """Return what has to be written so that `decode` says `value`; a bit goes into `now`, what the register has.

        Raises ValueError, in words for whoever wants to set it.
        """
        if not self.is_register or self.bit is not None:
            level = as_level(value)
            if level is None:
                raise ValueError("a bit is set to true or false, on or off, 1 or 0")
            if self.bit is None:
                return [int(level)]
            return [now & ~(1 << self.bit) | level << self.bit]
        data = self._text(value) if self.type == "text" else self._packed(value)
        words = [int.from_bytes(data[at : at + 2], self.byte_order) for at in range(0, len(data), 2)]
        return words if self.word_order == "big" else words[::-1]

    def _text(self, value: Value) -> bytes:
        try:
            data = str(value).encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError("text with characters that are not in Latin-1") from None
        if len(data) > 2 * self.words:
            raise ValueError(f"text longer than the {2 * self.words} characters that there is room for")
        return data.ljust(2 * self.words, b"\0")

    def _packed(self, value: Value) -> bytes:
        if isinstance(value, str):
            raise ValueError("not a number")
        letter = _FORMATS[self.type]
        number = self._unscaled(value)
        if self.type[0] == "f":
            try:
                return struct.pack(">" + letter, number)
            except OverflowError:
                raise ValueError(f"too large for {self.type}") from None
        whole = round(number)
        if abs(whole - number) > _NOISE + _NOISE**2 * abs(number):
            raise ValueError(f"the device has steps of {abs(self.scale):g}")
        try:
            return struct.pack(">" + letter, whole)
        except struct.error:
            bits = 8 * struct.calcsize(letter)
            lowest, highest = (-1 << bits - 1, (1 << bits - 1) - 1) if self.type[0] == "i" else (0, (1 << bits) - 1)
            ends = sorted(scaled(end, self.scale, self.offset) for end in (lowest, highest))
            raise ValueError(f"{self.type} goes from {ends[0]:g} to {ends[1]:g}") from None

    def _unscaled(self, value: float) -> float:
        """Return the number of which `decode` makes `value`; a whole number stays one where nothing changes it."""
        if not self.scale:
            raise ValueError("the config multiplies it by 0")
        number = value - self.offset if self.offset else value
        if self.scale != 1.0:
            number /= self.scale
        if not isfinite(number):
            raise ValueError("too large")
        return number


class Request(NamedTuple):
    """One request, and the metrics that are in its answer."""

    table: str
    address: int
    length: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which requests fetch all of a map's metrics."""

    registers: Mapping[str, Register]
    requests: tuple[Request, ...]

    def decode(self, request: Request, answer: Sequence[int]) -> dict[str, Value]:
        """Return the metrics that are in the answer to a request, which has all that was asked for."""
        found = {}
        for name in request.names:
            register = self.registers[name]
            start = register.address - request.address
            found[name] = register.decode(answer[start : start + register.count])
        return found

    def parts(self, request: Request) -> tuple[Request, ...]:
        """Return the requests that ask for the same and for nothing in between, where some devices refuse to answer."""
        return plan({name: self.registers[name] for name in request.names}, max_gap=0).requests

    def with_parts(self, request: Request, parts: Sequence[Request]) -> Plan:
        """Return a plan with these in place of one request."""
        at = self.requests.index(request)
        return Plan(self.registers, (*self.requests[:at], *parts, *self.requests[at + 1 :]))


def plan(registers: Mapping[str, Register], *, max_gap: int) -> Plan:
    """Put neighbours into one request, also with up to `max_gap` registers in between that nobody has asked for."""
    requests: list[Request] = []
    for name, register in sorted(registers.items(), key=lambda item: (item[1].table, item[1].address, item[0])):
        start, end = register.address, register.address + register.count
        if requests:
            last = requests[-1]
            reach = max(end, last.address + last.length) - last.address
            near = start - (last.address + last.length) <= max_gap
            if last.table == register.table and near and reach <= LONGEST[register.table]:
                requests[-1] = Request(last.table, last.address, reach, (*last.names, name))
                continue
        requests.append(Request(register.table, start, register.count, (name,)))
    return Plan(registers, tuple(requests))
