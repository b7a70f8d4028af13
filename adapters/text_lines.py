"""Text that says readings, as lines or as whole messages: the keys that say how each becomes values."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from adapters.frames import suffix, text
from adapters.frames.lines import LineFramer
from gateway import Adapter, Device, Size, Value

# The device's own time is believed between 2000 and 2100; a clock that was never set says 1970.
EARLIEST, LATEST = 946_684_800.0, 4_102_444_800.0


class Text(Adapter):
    """What says one reading with each piece of text. A subclass says where that comes from."""

    format: Literal["json", "key-value", "csv", "regex", "value"] = Field(
        default="json",
        description="How a piece of text, such as a line, is to be read; value: it is one number, or one word.",
    )
    columns: list[str] = Field(default=[], description='Names of the columns, for "csv"; "-" leaves one out.')
    separator: str = Field(
        default=",", min_length=1, max_length=1, description='Between columns, for "csv"; " " is any white space.'
    )
    pattern: str | None = Field(
        default=None,
        description='For "regex": searched in the line, with a named group for each metric; "^" and "$" are its ends.',
    )
    time: str | None = Field(
        default=None, description="The value that holds the device's own time (UTC), if it has one."
    )
    time_format: Literal["s", "ms"] = Field(default="s", description="Seconds or milliseconds since 1970.")
    encoding: str = Field(default="utf-8", description="How the device spells characters, such as utf-8 or latin-1.")

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, given: str) -> str:
        ascii_signs = "\n,;:=0aZ{}"
        try:
            fits = ascii_signs.encode().decode(given) == ascii_signs
        except (LookupError, ValueError):
            raise ValueError(f'"{given}" is not an encoding of text') from None
        if not fits:
            raise ValueError(f'"{given}" does not contain ASCII, in which lines are found')
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.format == "csv") != bool(self.columns):
            raise ValueError('columns = ["...", ...] goes with format = "csv", and only with it')
        if (self.format == "regex") != (self.pattern is not None):
            raise ValueError("pattern = '...' goes with format = \"regex\", and only with it")
        named = [column for column in self.columns if column != "-"]
        if len(named) != len(set(named)):
            raise ValueError("columns has a name twice")
        if self.columns and not named:
            raise ValueError('columns names nothing but "-"')
        if self.separator in '"\n\r':
            raise ValueError("separator cannot be a quote or an end of line")
        try:
            self.decoder()
        except ValueError as error:
            raise ValueError(f"pattern {error}") from None
        return self

    def decoder(self) -> text.Decoder:
        """Return the function that reads one piece of text."""
        match self.format:
            case "json":
                return text.json_decoder(self.encoding)
            case "key-value":
                return text.key_value_decoder(self.encoding)
            case "csv":
                return text.csv_decoder(self.columns, self.separator, self.encoding)
            case "regex":
                return text.regex_decoder(self.pattern or "", self.encoding)
            case "value":
                return text.value_decoder(self.encoding)

    def time_of(self, values: dict[str, Value], device: Device) -> float | None:
        """Take the device's own time out of `values`; None, and counted, if it cannot be right."""
        if not self.time:
            return None
        given = values.pop(self.time, None)
        if given is None:
            return None
        if isinstance(given, int | float):
            seconds = given / 1000 if self.time_format == "ms" else float(given)
            if EARLIEST <= seconds < LATEST:
                return seconds
        device.skip("device time that cannot be right; the gateway's own is used", str(given).encode(errors="replace"))
        return None


class TextLines(Text):
    """What says one reading with each line. A subclass says where lines come from."""

    checksum: suffix.Kind | None = Field(
        default=None, description="A line ends with a checksum of this kind, in hex behind a mark, as in t=21.5*4C."
    )
    checksum_mark: str = Field(
        default="*", json_schema_extra={"pattern": suffix.MARK}, description="Between a line and its checksum."
    )
    max_line: Size = Field(default=4096, ge=16, le=1_048_576, description="A longer line is thrown away and counted.")
    skip_first: bool = Field(
        default=False, description="Throw away the first line after opening, which may be the second half of one."
    )

    @field_validator("checksum_mark")
    @classmethod
    def _checksum_mark(cls, given: str) -> str:
        if not re.fullmatch(suffix.MARK, given):
            raise ValueError('must be one sign that is no letter, digit or space, such as "*"')
        return given

    def decoder(self) -> text.Decoder:
        """Return the function that reads one line."""
        decode = super().decoder()
        return suffix.checked(decode, self.checksum, self.checksum_mark) if self.checksum else decode

    def framer(self) -> LineFramer:
        """Return what cuts lines."""
        return LineFramer(self.max_line, skip_first=self.skip_first)
