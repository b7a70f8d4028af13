"""Smart meters with a P1 port (DSMR): the Netherlands, Belgium, Luxembourg, Hungary and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

from pydantic import Field

from adapters.frames import dsmr
from adapters.frames.telegrams import TelegramFramer
from adapters.serial.device import FramedDevice
from gateway import Device, Value


class Dsmr(FramedDevice):
    """Reads the telegrams that a smart meter writes to its P1 port, with the meters that are read through it."""

    detectable: ClassVar[int] = 20
    speaks_at: ClassVar[tuple[str, ...]] = ("9600 7E1", "115200 7E1")

    baudrate: int = Field(default=115200, gt=0, le=20_000_000, description="Bits per second; 9600 for DSMR 2.2.")

    def framer(self) -> TelegramFramer:
        """Return what cuts telegrams."""
        return TelegramFramer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads a telegram, without what another meter has said before."""
        last: dict[str, tuple[Value, Value]] = {}

        def decode(frame: bytes) -> dict[str, Value]:
            values = dsmr.decode(frame)
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
