"""The contract for adapters: the face that third parties write against."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Hashable, Mapping
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from gateway.metric import Metric
from gateway.reading import Value, Values


class DeviceError(OSError):
    """The device is absent, silent or talking nonsense: try again later."""


class Silent(DeviceError):
    """The way to the device is open, and the device says nothing."""


class Command(Protocol):
    """What the outside asks of a device: to set one metric. Whoever carries it out answers it, once."""

    @property
    def metric(self) -> str:
        """Which one: it is settable, by the config and by `Adapter.can_set`."""
        ...

    @property
    def value(self) -> Value:
        """The new value, as the device has it: before `scale`, and within the metric's limits."""
        ...

    @property
    def id(self) -> str | None:
        """What the sender calls it, if anything."""
        ...

    def done(self, read_back: Value | None = None) -> None:
        """Say that it was carried out; `read_back` is what the device itself says that the value now is."""
        ...

    def refuse(self, reason: str) -> None:
        """Say that it was not carried out and will not be, and why, in words for whoever has sent it."""
        ...

    def fail(self, reason: str) -> None:
        """Say that nobody knows whether it was carried out, and why: the device does not answer, or nonsense."""
        ...


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

    async def emit(self, values: Values, time: float | None = None, *, age: float = 0.0) -> None:
        """Take a reading in: it will arrive, or the ledger will say why not.

        `time` is the device's own UTC time in seconds, if it has one. `age` is how many seconds ago it was measured, by
        this machine's clocks that never jump, such as by a time stamp of the kernel; an hour at most. Waits when the
        gateway is behind, which slows the device down. Numbers that are not finite are left out and counted.
        """
        ...

    def take_in(self, values: Values, time: float | None = None, *, age: float = 0.0) -> Awaitable[None] | None:
        """Do the same as `emit` where nothing can be awaited, such as in a callback of the loop.

        Returns None, or, when the gateway is behind, something to wait for before the next reading.
        """
        ...

    def skip(self, reason: str, sample: bytes = b"") -> None:
        """Count input that was thrown away, such as a line that does not decode. Never raises."""
        ...

    def commands(self) -> AsyncIterator[Command]:
        """Return what the outside asks for, as it comes, for `async for`; there is no last one.

        Called before `online`, in each `run`: without it, commands are refused at once. Each has to be answered within
        the gateway's time for commands. Those of an absent device never come, and what is not answered when `run` ends
        is answered by the gateway.
        """
        ...


class Adapter(BaseModel):
    """The kind of code that reads a device. Its fields are the keys of its `[devices.<name>]` table."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)

    # Names of fields that no two devices may share, such as a serial port.
    exclusive: ClassVar[tuple[str, ...]] = ()
    # Those of them that devices may share after all, when the adapters of both say so here, ...
    shared: ClassVar[tuple[str, ...]] = ()
    # ... and have the same in these fields, such as the speed of the line.
    alike: ClassVar[tuple[str, ...]] = ()

    def claim(self, key: str) -> Hashable | None:
        """Return what it has for itself alone by one of its `exclusive` keys: the key's value. None: nothing."""
        value: Hashable | None = getattr(self, key)
        return value

    def can_set(self, metric: str) -> bool:
        """Say whether commands can set this metric; a config that wants to set any other is refused."""
        return False

    def hears(self, broker: str, topic: str) -> bool:
        """Say whether it takes in what is published to this topic at this broker, which is given by its URL.

        A config in which the gateway would take in what it publishes itself is refused.
        """
        return False

    async def run(self, device: Device) -> None:
        """Open the device, emit readings as they come, and raise when it fails.

        Called again, from the start, after every failure, by the gateway, which alone owns back-off and logging.
        `DeviceError` and `OSError` mean: absent, silent, talking nonsense, try later. Any other exception is a bug in
        the adapter: logged with its traceback, and tried again after the longest delay. Returning means that the device
        has nothing more to say. On cancellation, close what was opened and let the cancellation pass.
        """
        raise NotImplementedError


__all__ = ["Adapter", "Command", "Device", "DeviceError", "Memory", "Metric", "Silent", "Value", "Values"]
