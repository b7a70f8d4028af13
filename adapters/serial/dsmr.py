"""Smart meters with a P1 port (DSMR): the Netherlands, Belgium, Luxembourg, Hungary and others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from adapters.frames import dsmr
from adapters.frames.ciphered import CipheredFramer
from adapters.frames.framer import Framer
from adapters.frames.telegrams import TelegramFramer
from adapters.serial.device import FramedDevice
from gateway import Device, Secret, Value

_LUXEMBOURG = "3000112233445566778899AABBCCDDEEFF"
_AUTHENTICATION = r"^(30)?[0-9A-Fa-f]{32}$"


class Dsmr(FramedDevice):
    """Reads the telegrams that a smart meter writes to its P1 port, with the meters that are read through it."""

    detectable: ClassVar[int] = 20
    speaks_at: ClassVar[tuple[str, ...]] = ("9600 7E1", "115200 7E1")

    baudrate: int = Field(default=115200, gt=0, le=20_000_000, description="Bits per second; 9600 for DSMR 2.2.")
    utc_offset: int = Field(
        default=1,
        ge=-12,
        le=14,
        description="Hours that the meter's winter time is ahead of UTC: 1 in Central Europe, 2 in Eastern.",
    )
    key: Secret | None = Field(
        default=None,
        description="Key of a meter that ciphers its telegrams, as in Luxembourg: 32 hexadecimal digits, from the "
        "network's operator.",
    )
    authentication: str = Field(
        default=_LUXEMBOURG,
        json_schema_extra={"pattern": _AUTHENTICATION},
        description="With key: the key of authentication, 32 hexadecimal digits, with or without the 30 before them.",
    )

    @field_validator("key")
    @classmethod
    def _key(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None and not re.fullmatch(r"[0-9A-Fa-f]{32}", given.get_secret_value()):
            raise ValueError("the key must be 32 hexadecimal digits")
        return given

    @field_validator("authentication")
    @classmethod
    def _authentication(cls, given: str) -> str:
        if not re.fullmatch(_AUTHENTICATION, given):
            raise ValueError("must be 32 hexadecimal digits, with or without 30 before them")
        return given if len(given) == len(_LUXEMBOURG) else f"30{given}"

    def framer(self) -> Framer:
        """Return what cuts telegrams, and deciphers them if there is a key. See `CipheredFramer` for what it raises."""
        if self.key is None:
            return TelegramFramer()
        return CipheredFramer(bytes.fromhex(self.key.get_secret_value()), bytes.fromhex(self.authentication))

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads a telegram, without what another meter has said before."""
        last: dict[str, tuple[Value, Value]] = {}

        def decode(frame: bytes) -> dict[str, Value]:
            values = dsmr.decode(frame, self.utc_offset)
            for name in [key.removesuffix("_time") for key in values if key.endswith("_time")]:
                said = (values[name], values[f"{name}_time"])
                if last.get(name) == said:
                    del values[name], values[f"{name}_time"]
                last[name] = said
            return values

        return decode

    def readings(self, values: dict[str, Value], device: Device) -> Iterator[tuple[dict[str, Value], float | None]]:
        """Part the meter's own values from those of other meters, which were measured at another time."""
        time = values.pop("time", None)
        for key in [key for key in values if key.endswith("_time")]:
            name = key.removesuffix("_time")
            yield {name: values.pop(name)}, float(values.pop(key))
        if values:
            yield values, None if time is None else float(time)
