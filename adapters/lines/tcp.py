"""Connections over TCP: made to a device, or by devices to this machine."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from adapters.lines.stream import Stream
from adapters.ports.address import Here, There
from adapters.ports.listener import listening
from adapters.ports.network import SocketPort
from adapters.ports.port import Line
from adapters.serial.device import hear
from gateway import Device, Duration

_IDLE = 600.0  # seconds without a byte after which a connection that somebody has made is closed


class Tcp(Stream):
    """Reads lines or frames from a TCP connection to a device, or from those that devices make to this machine."""

    exclusive: ClassVar[tuple[str, ...]] = ("listen",)

    connect: There | None = Field(
        default=None, description='Host and port to connect to, as "192.168.1.5:4001". Either this, or listen.'
    )
    listen: Here | None = Field(
        default=None,
        description='Address and port to listen at, as "127.0.0.1:5006"; 0.0.0.0:5006 hears every machine, and '
        "believes every one.",
    )
    max_connections: int = Field(default=16, ge=1, le=1000, description="With listen: more at once are refused.")
    silent_after: Duration | None = Field(
        default=None,
        gt=0,
        description="A connection without a byte for so long is closed; with connect, the device is silent then. "
        "Default: never with connect, 10 minutes with listen.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.connect and self.listen:
            raise ValueError("connect and listen do not go together: leave one of them out")
        if not self.connect and not self.listen:
            raise ValueError('connect = "HOST:PORT" is missing (or listen)')
        return self

    async def run(self, device: Device) -> None:
        """Connect or listen, and take in what comes. Raises DeviceError, also when the other side hangs up."""
        taking = self.taking(device)
        if self.connect is not None:
            async with _Connection(self.connect) as port:
                await hear(device, port, taking(), self.silent_after)
        elif self.listen is not None:
            idle = _IDLE if self.silent_after is None else self.silent_after
            most = self.max_connections
            async with listening(self.listen, lambda _: taking(), device.skip, most=most, idle=idle) as broken:
                device.online()
                await broken


class _Connection(SocketPort):
    lost = "the device hung up"

    def __init__(self, there: str) -> None:
        super().__init__(f"socket://{there}", Line())
