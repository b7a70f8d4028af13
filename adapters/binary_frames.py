"""Binary frames of a fixed shape, wherever they come from: the keys that describe the shape, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from adapters.frames import struct_frame as shape
from adapters.frames.framer import BinaryFramer
from gateway import Value

_HEX = r"^[0-9A-Fa-f]{2}( ?[0-9A-Fa-f]{2}){0,15}$"


def _hex(given: str) -> str:
    if re.fullmatch(_HEX, given) is None:
        raise ValueError('must be 1 to 16 bytes in hexadecimal, as "42 4d"')
    return given


_Hex = Annotated[str, AfterValidator(_hex), WithJsonSchema({"type": "string", "pattern": _HEX})]
_Place = Annotated[int, Field(ge=-shape.LONGEST, lt=shape.LONGEST)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FrameLength(_Part):
    """Where a frame tells its length."""

    at: int = Field(ge=0, le=255, description="Its place: bytes from the start of the frame.")
    type: Literal["u8", "u16"] = Field(default="u8", description="Of one byte or of two.")
    order: shape.Order = Field(default="be", description="Of two bytes: high byte first (be) or low byte first (le).")
    plus: int = Field(
        default=0, ge=-shape.LONGEST, le=shape.LONGEST, description="Added to it makes the bytes of the whole frame."
    )


class FrameChecksum(_Part):
    """Where a frame has its checksum, and which one."""

    kind: shape.Kind = Field(description="How it is computed; see the reference.")
    at: _Place = Field(default=-1, description="Its place: bytes from the start of the frame, or below 0 from the end.")
    start: _Place = Field(default=0, description="Place of the first byte that it is computed over.")
    end: _Place | None = Field(
        default=None, description="Place after the last byte that it is computed over; where it is itself if not given."
    )
    order: shape.Order | None = Field(
        default=None, description="High byte first (be), as sums are if not given; or low byte first (le), as CRCs are."
    )


class FrameField(_Part):
    """A number in a frame."""

    name: str = Field(min_length=1, max_length=64, description="The metric that it is.")
    type: shape.Type = Field(description="Unsigned (u), signed (i) or floating point (f), and how many bits.")
    at: _Place | None = Field(
        default=None,
        description="Its place: bytes from the start of the frame, or below 0 from the end; after the field before it "
        "if not given, and after the header for the first.",
    )
    order: shape.Order = Field(default="be", description="High byte first (be) or low byte first (le).")
    scale: float = Field(default=1.0, description="The number is multiplied by this.")
    offset: float = Field(default=0.0, description="This is added then.")


def _kind_of_length(given: object) -> str:
    """Say which of the two a length is meant to be, so that only its mistakes are told."""
    return "table" if isinstance(given, dict | FrameLength) else "bytes"


class BinaryFrames(_Part):
    """The shape of a binary frame, and the numbers in it."""

    header: _Hex = Field(description="The bytes with which every frame begins, in hexadecimal: 1 to 16.")
    length: Annotated[
        Annotated[int, Tag("bytes")] | Annotated[FrameLength, Tag("table")], Discriminator(_kind_of_length)
    ] = Field(
        description="The length of a whole frame in bytes, or a table that says where it stands.",
    )
    trailer: _Hex | None = Field(default=None, description="The bytes with which every frame ends.")
    checksum: FrameChecksum | None = Field(
        default=None, description="The checksum; without one, noise can pass for a frame."
    )
    fields: list[FrameField] = Field(min_length=1, description="The numbers in a frame.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for before, one in pairwise(self.fields):
            if one.at is None and before.at is not None and before.at < 0:
                raise ValueError(f'field "{one.name}" needs its place (at): "{before.name}" is counted from the end')
        names = [one.name for one in self.fields]
        if len(names) != len(set(names)):
            raise ValueError("fields has a name twice")
        if isinstance(self.length, FrameLength):
            return self
        if not len(bytes.fromhex(self.header)) <= self.length <= shape.LONGEST:
            raise ValueError(f"length is not between that of the header and {shape.LONGEST}")
        for number in self._numbers():
            if not _inside(number.at, shape.size_of(number.type), self.length):
                raise ValueError(f'field "{number.name}" is not inside of {self.length} bytes')
        check = self.checksum
        if check and not _inside(check.at, shape.width_of(check.kind), self.length):
            raise ValueError(f"checksum is not inside of {self.length} bytes")
        return self

    def framer(self) -> BinaryFramer:
        """Return what cuts its frames."""
        length, check = self.length, self.checksum
        return shape.framer(
            bytes.fromhex(self.header),
            length if isinstance(length, int) else shape.Length(**length.model_dump()),
            shape.Check(**check.model_dump()) if check else None,
            bytes.fromhex(self.trailer or ""),
        )

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads one."""
        return shape.decoder(self._numbers())

    def _numbers(self) -> list[shape.Number]:
        """Return the fields, each with its place."""
        numbers, after = [], len(bytes.fromhex(self.header))
        for one in self.fields:
            at = after if one.at is None else one.at
            numbers.append(shape.Number(**{**one.model_dump(), "at": at}))
            after = at + shape.size_of(one.type)
        return numbers


def _inside(at: int, size: int, length: int) -> bool:
    return 0 <= (at if at >= 0 else length + at) <= length - size
