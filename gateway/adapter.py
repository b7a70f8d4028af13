"""The contract for adapters: the face that third parties write against."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field

from gateway.reading import Value, Values


class DeviceError(OSError):
    """The device is absent, silent or talking nonsense: try again later."""


class Metric(BaseModel):
    """What is declared once about one named quantity of a device: `[devices.<name>.metrics.<metric>]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    unit: str | None = Field(
        default=None, description="Unit of the published value, as the field writes it: °C, kWh, µg/m³."
    )
    scale: float = Field(default=1.0, description="Multiply the device's number by this.")
    deadband: float = Field(
        default=0.0,
        ge=0,
        description="Leave the metric out while it differs by less than this from the value last taken in.",
    )


class Memory(Protocol):
    """What a device remembers across restarts, such as the total of a counter; 256 KiB at most, as JSON."""

    def load(self) -> dict[str, Any]:
        """Return what was saved last, also by a run that was killed; empty, if nothing was."""
        ...

    def save(self, contents: Mapping[str, Any]) -> None:
        """Remember `contents` instead of what was remembered before, within a few seconds.

        They are read when they are written: a mapping that goes on changing may be saved at each change.
        """
        ...

    async def flush(self) -> None:
        """Return when what is saved is on the card, or could not be written there. Never raises."""
        ...


class Device(Protocol):
    """One configured device, as its adapter sees it. The gateway passes it to `Adapter.run`."""

    @property
    def name(self) -> str:
        """The device's name in the config."""
        ...

    @property
    def memory(self) -> Memory:
        """What the device remembers across restarts."""
        ...

    def online(self) -> None:
        """Say that the port is open and the device is there, before its first reading.

        Called by the adapter once per `run`, after a successful open. Emitting a reading says it too.
        """
        ...

    async def emit(self, values: Values, time: float | None = None) -> None:
        """Take a reading in: it will arrive, or the ledger will say why not.

        `time` is the device's own UTC time in seconds, if it has one. Waits when the gateway is behind, which slows
        the device down. Numbers that are not finite are left out and counted.
        """
        ...

    def take_in(self, values: Values, time: float | None = None) -> Awaitable[None] | None:
        """Do the same as `emit` where nothing can be awaited, such as in a callback of the loop.

        Returns None, or, when the gateway is behind, something to wait for before the next reading.
        """
        ...

    def skip(self, reason: str, sample: bytes = b"") -> None:
        """Count input that was thrown away, such as a line that does not decode. Never raises."""
        ...


class Adapter(BaseModel):
    """The kind of code that reads a device. Its fields are the keys of its `[devices.<name>]` table."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)

    # Names of fields that no two devices may share, such as a serial port.
    exclusive: ClassVar[tuple[str, ...]] = ()

    async def run(self, device: Device) -> None:
        """Open the device, emit readings as they come, and raise when it fails.

        Called again, from the start, after every failure, by the gateway, which alone owns back-off and logging.
        `DeviceError` and `OSError` mean: absent, silent, talking nonsense, try later. Any other exception is a bug in
        the adapter: logged with its traceback, and tried again after the longest delay. Returning means that the device
        has nothing more to say. On cancellation, close what was opened and let the cancellation pass.
        """
        raise NotImplementedError


__all__ = ["Adapter", "Device", "DeviceError", "Memory", "Metric", "Value", "Values"]
