"""What runs: uplinks and devices, of which each can come and go while the outbox is open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from shlex import quote
from typing import Any, Self

from gateway.announce import Announcer
from gateway.clock import Clock
from gateway.commands import Own, Target
from gateway.config import Config
from gateway.devices import RunningDevice, Spent
from gateway.outbox import Outbox
from gateway.reading import Publication
from gateway.service import building
from gateway.service.crew import Crew, end
from gateway.service.plan import Plan, applied, without
from gateway.uplink import Uplink

CLOSING = 3.0
"""Seconds that devices have to close."""


class Parts:
    """Uplinks and devices as a config wants them. Use as `async with`, inside the outbox and the announcer.

    Entering starts the uplinks, leaving closes all; `devices` and `uplinks` are what there is now, by name.
    """

    def __init__(
        self,
        config: Config,
        outbox: Outbox,
        announcer: Announcer,
        spent: Spent,
        clock: Clock,
        crew: Crew,
        logger: Any,
        *,
        closing: float = CLOSING,
    ) -> None:
        self._closing = closing
        self.config = config
        self.devices: dict[str, RunningDevice] = {}
        self.uplinks: dict[str, Uplink] = {}
        self.commands = building.commands(config, outbox, spent, clock, self._say, logger)
        self._outbox = outbox
        self._announcer = announcer
        self._crew = crew
        self._logger = logger
        self._own: Mapping[str, Own] = {}
        self._links: dict[str, AsyncExitStack] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._hanging: dict[str, asyncio.Task[None]] = {}  # of devices that did not close in time
        self._told: dict[str, bytes] = {}  # the newest state of each device that there was, by topic

    async def __aenter__(self) -> Self:
        for name in self.config.uplinks:
            await self._link(name)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_devices()
        await self.commands.close()
        await self._unlink(list(self._links))

    def start_devices(self, own: Mapping[str, Own]) -> None:
        """Open the devices; from now on commands are carried out, also the gateway's `own`."""
        self._own = own
        self._open(name for name, device in self.config.devices.items() if device.enabled)

    async def close_devices(self) -> None:
        """Close all devices, as far as they let themselves be closed in time."""
        await end(*self._tasks.values(), timeout=self._closing)

    async def change_devices(self, config: Config, plan: Plan) -> Plan:
        """Apply what a plan says of devices and commands, and have uplinks join the outbox; return the plan as it is.

        A device that does not close in time is opened once it has. The uplinks themselves are `change_uplinks`.
        """
        plan = without(plan, self._join(config, plan))
        self.config = config = applied(self.config, config, plan)
        self._outbox.expect(list(config.devices), building.urgent(config))
        changes = plan.devices
        await self._close([*changes.removed, *changes.restarted])
        for name in changes.removed:
            del self.devices[name]
        for name in changes.adjusted:
            self.devices[name].declare(config.devices[name].metrics, config.devices[name].computed)
        self.commands.max_age = config.commands.max_age
        for device in self.devices.values():
            device.command_timeout = config.commands.timeout
        self._open([*changes.restarted, *changes.added])
        return plan

    async def change_uplinks(self, plan: Plan) -> None:
        """Apply what a plan says of uplinks: what one has not delivered waits until it is back."""
        changes = plan.uplinks
        await self._unlink([*changes.removed, *changes.restarted])
        for name in changes.removed:
            del self.uplinks[name]
            waiting = self._outbox.leave(name)
            self._logger.warning(stranger(name), waiting=waiting)
        for name in (*changes.restarted, *changes.added):
            await self._link(name)
        _sort(self.uplinks, self.config.uplinks)

    # ---- devices

    def _open(self, names: Iterable[str]) -> None:
        for name in names:
            self._tell(name, False)
            device = building.device(self.config, name, self._outbox, self._tell, self._logger)
            self.devices[name] = device
            self._tasks[name] = self._crew.start(_after(self._hanging.get(name), device), f"device {name}")
        _sort(self.devices, self.config.devices)
        targets = {name: Target(device, self.config.devices[name].metrics) for name, device in self.devices.items()}
        self.commands.serve(targets, self._own)

    async def _close(self, names: Iterable[str]) -> None:
        tasks = {name: self._tasks[name] for name in names}
        hanging = await end(*tasks.values(), timeout=self._closing)
        for name, task in tasks.items():
            del self._tasks[name]
            if task in hanging:  # its successors wait for it
                self._logger.error(f"{name}: does not close; it is opened anew once it has")
                self._hanging[name] = task

    def _tell(self, name: str, online: bool) -> None:
        """Keep the state of a device on every broker."""
        topic = building.status_topic(self.config, name)
        self._told[topic] = b"online" if online else b"offline"
        for uplink in self.uplinks.values():
            uplink.retain(topic, self._told[topic])

    # ---- uplinks

    def _join(self, config: Config, plan: Plan) -> list[str]:
        """Have new uplinks join the outbox, so that they get what comes from now on; return those that cannot."""
        refused = []
        for name in plan.uplinks.added:
            try:
                self._outbox.join(name, config.uplinks[name].devices)
            except ValueError:
                refused.append(name)
        return refused

    def _say(self, name: str, message: Publication) -> bool:
        return name in self.uplinks and self.uplinks[name].say(message)

    async def _link(self, name: str) -> None:
        uplink = building.uplink(
            self.config, name, self._outbox.follow(name), self._announcer, self.commands, self._logger
        )
        uplink.retain(building.status_topic(self.config), b"online")
        for topic, state in self._told.items():
            uplink.retain(topic, state)
        if self.config.uplinks[name].commands:
            uplink.listen(self.commands.subscriptions)
        self._links[name] = stack = AsyncExitStack()
        await stack.enter_async_context(uplink)
        self._crew.watch(uplink.task)
        self.uplinks[name] = uplink

    async def _unlink(self, names: Iterable[str]) -> None:
        """Take leave of brokers, of all at once: each may take its time."""
        await asyncio.gather(*[self._links.pop(name).aclose() for name in names])


def stranger(name: str) -> str:
    """Return what is said of an uplink that is not in the config any more."""
    return (
        f'uplink "{name}" is no longer in the config; the outbox keeps what it has not delivered. To give that up, '
        f"type: sensor-gateway outbox forget {quote(name)}"
    )


async def _after(before: asyncio.Task[None] | None, device: RunningDevice) -> None:
    """Run a device, once the one of its name that was there before is closed."""
    if before is not None:
        await asyncio.wait([before])
    await device.run()


def _sort(parts: dict[str, Any], order: Mapping[str, Any]) -> None:
    """Put parts into the order of the config, in place."""
    for name in order:
        if name in parts:
            parts[name] = parts.pop(name)
