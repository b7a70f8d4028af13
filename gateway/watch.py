"""What goes on in a running service, as a supervisor and the command line are told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import orjson

from gateway.announce import Announcer
from gateway.commands import Own
from gateway.control import Command
from gateway.devices import RunningDevice
from gateway.outbox import Outbox
from gateway.rate import STEP, Rate
from gateway.requests import changes
from gateway.systemd import Notifier
from gateway.uplink import Uplink

AWAY = 3
"""Devices that are not online in the line of status; the others are counted."""


class Watch:
    """Tells the supervisor what is going on, and that it goes on at all."""

    def __init__(
        self,
        notifier: Notifier,
        outbox: Outbox,
        announcer: Announcer,
        uplinks: Collection[Uplink],
        devices: Collection[RunningDevice],
        bounds: Mapping[str, int],
    ) -> None:
        """`uplinks` and `devices` are looked at each time, and may come and go.

        `bounds`: what the config allows the outbox, max_size and keep_free, in bytes.
        """
        self.remark = ""
        """What the status says beside, if anything."""
        self._notifier = notifier
        self._outbox = outbox
        self._announcer = announcer
        self._uplinks = uplinks
        self._devices = devices
        self._bounds = bounds
        self._rate = Rate()

    def requests(self) -> dict[str, Command]:
        """Return what the command line may ask for."""
        return {"status": self.answer, **changes(self._outbox)}

    def commands(self) -> dict[str, Own]:
        """Return what the gateway itself can be asked for from outside."""
        return {"ping": self._ping, "status": self._tell, "restart-device": self._restart}

    def _ping(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"epoch": self._outbox.epoch}

    def _tell(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"status": orjson.loads(self.figures())}

    def _restart(self, says: Mapping[str, Any]) -> Mapping[str, Any]:
        for device in self._devices:
            if device.name == says.get("device"):
                device.restart()
                return {"device": device.name}
        raise ValueError('its "device" is none that runs')

    async def answer(self) -> dict[str, Any]:
        """Return the account, the readings a second, and how many bytes there may be."""
        rate = self._rate.per_second(asyncio.get_running_loop().time(), self._outbox.taken_in)
        return {**orjson.loads(self.figures()), "rate": rate, **self._bounds}

    async def measure(self) -> None:
        """Take note of how fast readings come."""
        while True:
            self._rate.note(asyncio.get_running_loop().time(), self._outbox.taken_in)
            await asyncio.sleep(STEP)

    def status(self) -> str:
        """Return one line for `systemctl status`."""
        parts = []
        for uplink in self._uplinks:
            where = f"over {uplink.broker}" if uplink.broker else "no broker"
            parts.append(f"{uplink.name}: {where}, {uplink.account.waiting} waiting")
        away = [device for device in self._devices if device.state not in ("online", "finished")]
        for device in away[:AWAY]:
            parts.append(f"{device.name}: {device.state}" + (f" ({device.reason})" if device.reason else ""))
        if len(away) > AWAY:
            parts.append(f"{len(away) - AWAY} more devices are not online")
        clock, held = self._outbox.clock
        if held is not None:
            parts.append(f"readings wait for the clock, for {held:.0f} s at most")
        elif clock == "unset":
            parts.append("the clock is not set")
        if self._outbox.hidden:
            parts.append("what earlier runs have left is looked through")
        if self._outbox.fault is not None:
            parts.append(f"the card takes nothing ({self._outbox.fault})")
        if self.remark:
            parts.append(self.remark)
        return f"{self._outbox.taken_in} readings taken in; " + "; ".join(parts)

    def figures(self) -> str:
        """Return the account as JSON: what was taken in, and what became of it."""
        clock, held = self._outbox.clock
        return orjson.dumps(
            {
                "epoch": self._outbox.epoch,
                "taken_in": self._outbox.taken_in,
                "clock": {"state": clock, "held": held},
                "devices": {
                    device.name: {
                        "state": device.state,
                        "reason": device.reason,
                        "taken_in": device.taken_in,
                        "skipped": sum(device.skipped.values()),
                        "flagged": device.flagged,
                    }
                    for device in self._devices
                },
                "uplinks": {
                    uplink.name: {
                        "broker": uplink.broker,
                        "delivered": uplink.account.delivered,
                        "waiting": uplink.account.waiting,
                        "lost": uplink.account.lost,
                    }
                    for uplink in self._uplinks
                },
                "outbox": {
                    "commits": self._outbox.commits,
                    "tail": self._outbox.tail,
                    "bytes": self._outbox.used,
                    "fault": self._outbox.fault,
                    "complete": not self._outbox.hidden,  # it is known of all that earlier runs have left
                    "wear": self._wear(),
                },
                "ledger": {"announced": self._announcer.announced},
            }
        ).decode()

    def _wear(self) -> dict[str, Any] | None:
        """Return what this run has written to the card, in bytes: by cause, for each reading that went there, a day."""
        wear = self._outbox.wear
        if wear is None:
            return None
        return {
            "seconds": round(wear.seconds),
            "readings": wear.readings,
            "bytes": wear.bytes,
            "per_reading": None if wear.per_reading is None else round(wear.per_reading, 1),
            "per_day": None if wear.per_day is None else round(wear.per_day),
        }

    async def report(self) -> None:
        """Send the status once a second, if anybody listens."""
        while self._notifier.listening:
            self._notifier.send(STATUS=self.status(), X_FIGURES=self.figures())
            await asyncio.sleep(1.0)
        await asyncio.Event().wait()

    async def guard(self) -> None:
        """Feed the watchdog only as long as the loop turns and the writer gets its work done."""
        while self._notifier.watchdog:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._notifier.watchdog):
                    await self._outbox.alive()
                self._notifier.send(WATCHDOG="1")
            await asyncio.sleep(self._notifier.watchdog / 3)
        await asyncio.Event().wait()
