"""Datagrams that are sent to this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from pydantic import Field

from adapters.lines.stream import Stream
from adapters.ports.address import Here, endpoint
from gateway import Device, DeviceError


class Udp(Stream):
    """Reads the lines or frames in UDP datagrams that are sent to this machine."""

    exclusive: ClassVar[tuple[str, ...]] = ("listen",)

    listen: Here = Field(
        default="127.0.0.1:5005",
        description="Address and port; 0.0.0.0:5005 hears every machine, and believes every one.",
    )

    def claim(self, key: str) -> tuple[str, str]:
        """Return the address, which is another one than that of TCP."""
        return "udp", self.listen

    async def run(self, device: Device) -> None:
        """Listen, and take in what comes. Raises DeviceError when the address cannot be had."""
        taking = self.taking(device)

        def take(data: bytes) -> None:
            one = taking()  # each is whole: half a line or frame in one is not completed by the next
            if data:
                one(data)
            one(b"")

        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(take, lost), local_addr=endpoint(self.listen)
            )
        except OSError as error:
            raise DeviceError(f"cannot listen at {self.listen}: {error.strerror or error}") from error
        try:
            device.online()
            await lost
        finally:
            transport.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes], None], lost: asyncio.Future[None]) -> None:
        self._take = take
        self._lost = lost

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            self._take(data)
        except Exception as error:  # noqa: BLE001 - a bug, carried to whoever waits
            self.connection_lost(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self._lost.done():
            self._lost.set_exception(DeviceError(str(exc)) if isinstance(exc, OSError) else exc)
