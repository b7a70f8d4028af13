"""What lines and frames have in common, wherever the stream comes from that they are in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

from pydantic import Field, model_validator

from adapters.binary_frames import BinaryFrames
from adapters.serial.device import Take, take_frames
from adapters.text_lines import TextLines
from gateway import Device, Value


class Stream(TextLines):
    """Says one reading with each line, or with each binary frame. A subclass says where the stream comes from."""

    frame: BinaryFrames | None = Field(
        default=None, description="Binary frames of this shape, instead of lines: the keys of serial-binary."
    )

    @model_validator(mode="after")
    def _lines_or_frames(self) -> Self:
        if self.frame is not None and (keys := self.model_fields_set & TextLines.model_fields.keys()):
            raise ValueError(f"frame and {min(keys)} do not go together: frames are no lines")
        return self

    def taking(self, device: Device) -> Callable[[], Take]:
        """Return what makes, for each stream of the device, a function that takes in what it says, however it is cut.

        An empty chunk is the end of the stream, and of its last line.
        """
        decode: Callable[[bytes], dict[str, Value]] = self.frame.decoder() if self.frame else self.decoder()
        timed = self.frame is None and self.time is not None

        def readings(values: dict[str, Value], device: Device) -> tuple[tuple[dict[str, Value], float | None]]:
            return ((values, self.time_of(values, device) if timed else None),)

        def begin() -> Take:
            if self.frame is None:
                lines = take_frames(device, self.framer(), decode, readings)
                return lambda chunk: lines(chunk or b"\n")
            framer = self.frame.framer()
            frames = take_frames(device, framer, decode, readings)

            def take(chunk: bytes) -> Awaitable[None] | None:
                if not chunk:
                    framer.finish()
                return frames(chunk)

            return take

        return begin
