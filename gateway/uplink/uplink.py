"""An uplink: carries the outbox to one of its brokers, fails over to the next, and back to a better one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import structlog

from gateway.mqtt import Address, ConnectError, MqttError, Options
from gateway.outbox import Account, Feed
from gateway.uplink.hunt import Hunt
from gateway.uplink.link import Link, Route

PROBE = 5.0
"""Seconds between signs of life asked of a better broker before it is trusted."""


@dataclass(frozen=True, slots=True)
class Broker:
    """An endpoint in the config, and how to connect there."""

    address: Address
    options: Options


class Uplink:
    """One destination. Use as `async with`; it hunts from then on until it is left.

    `failback` is for how many seconds a better broker must have been good; None to stay. `offline` are the retained
    messages, topic -> payload, that are left behind on a broker that is left in order.
    """

    def __init__(
        self,
        name: str,
        brokers: Sequence[Broker],
        route: Route,
        feed: Feed,
        *,
        reconnect_min: float = 0.5,
        reconnect_max: float = 10.0,
        failback: float | None = 30.0,
        logger: Any = None,
    ) -> None:
        self.name = name
        self._brokers = list(brokers)
        self._route = route
        self._feed = feed
        self._hunt = Hunt(len(self._brokers), reconnect_min, reconnect_max)
        self._failback = failback
        self._logger = logger or structlog.get_logger()
        self._agreed: dict[int, str] = {}  # the protocol that a broker answered to
        self._mute: set[int] = set()  # brokers that did not answer at all: an old one may not understand MQTT 5
        self._said: dict[int, str] = {}  # why a broker cannot be used, as it was last logged
        self._retained: dict[str, bytes] = {}
        self._farewell: dict[str, bytes] = {}
        self._active: Link | None = None
        self._candidate: Link | None = None  # a better broker's session, on probation
        self._retiring: set[asyncio.Task[None]] = set()
        self._since = 0.0
        self.task: asyncio.Task[None]
        """Runs until the uplink is left; should it end before, that is a bug."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self.task = self._loop.create_task(self._run(), name=f"uplink {self.name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        if self._active is not None:
            await self._active.leave(self._farewell, 1.0)
            self._active = None
        if self._retiring:
            await asyncio.wait(self._retiring)

    @property
    def broker(self) -> str | None:
        """The broker over which readings go now."""
        return str(self._active.address) if self._active is not None and not self._active.gone.is_set() else None

    @property
    def account(self) -> Account:
        """What became of this uplink's readings."""
        return self._feed.account

    def retain(self, topic: str, payload: bytes, farewell: bytes = b"offline") -> None:
        """Keep a retained message on every broker that becomes active, and leave `farewell` there at the end."""
        self._retained[topic] = payload
        self._farewell[topic] = farewell
        if self._active is not None:
            self._active.announce({topic: payload})

    async def drained(self, timeout: float) -> bool:
        """Wait until nothing is waiting any more, as long as there is a link; return whether nothing is."""
        deadline = self._loop.time() + timeout
        # Once, at the end: nothing wakes it both for an acknowledgement and for a page from the card.
        while self.account.waiting and self.broker is not None and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return self.account.waiting == 0

    async def _run(self) -> None:
        link: Link | None = None
        while True:
            if link is None:
                link = await self._next_link()
            link = await self._carry(link)

    async def _next_link(self) -> Link:
        while True:
            index, wait = self._hunt.next(self._loop.time())
            if wait > 0:
                await asyncio.sleep(wait)
            elif (link := await self._open(index)) is not None:
                return link

    async def _open(self, index: int) -> Link | None:
        """Try one broker; on failure say why, once, and return None."""
        broker = self._brokers[index]
        options = broker.options
        automatic = options.protocol == "auto"
        older = automatic and index in self._mute
        self._mute.discard(index)
        if automatic and (protocol := "3.1.1" if older else self._agreed.get(index)):
            options = replace(options, protocol=protocol)
        link = Link(index, broker.address, self._route, self._feed, self._hunt.proven)
        try:
            await link.open(options)
        except ConnectError as error:
            self._agreed.pop(index, None)
            if automatic and not older and error.kind == "silent":
                self._mute.add(index)
            self._failed(index, str(error))
            return None
        if not older:  # it may only have been slow: MQTT 5 is asked for again at the next connect
            self._agreed[index] = link.connection.protocol
        return link

    async def _carry(self, link: Link) -> Link | None:
        """Send over `link` until it is lost or a better one has proven itself; return the better one, if any."""
        self._activate(link)
        gone = self._loop.create_task(link.gone.wait())
        waiting: set[asyncio.Task[Any]] = {gone}
        prober: asyncio.Task[Link] | None = None
        if link.index > 0 and self._failback is not None:
            prober = self._loop.create_task(self._probe(link.index, self._failback))
            waiting.add(prober)
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            better: Link | None = None
            if prober is not None and prober.done() and not prober.result().gone.is_set():
                better = prober.result()
            elif self._candidate is not None and not self._candidate.gone.is_set():
                better = self._candidate  # not proven for long enough, but better than none
            if better is not None:
                self._candidate = None
            if link.gone.is_set():
                self._lost(link)
            elif better is not None:
                self._retire(link, better)
            return better or (None if link.gone.is_set() else link)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            if self._candidate is not None:
                candidate, self._candidate = self._candidate, None
                candidate.abandon("not needed")

    async def _probe(self, active: int, failback: float) -> Link:
        """Return a link to a better broker than `active` that has been good for `failback` seconds."""
        while True:
            index, wait = self._hunt.next(self._loop.time(), below=active)
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            link = await self._open(index)
            if link is None:
                continue
            self._candidate = link
            if await self._good(link, failback):
                return link
            self._candidate = None
            self._failed(index, link.why)

    async def _good(self, link: Link, duration: float) -> bool:
        """Watch a link for `duration` seconds; return whether it stayed good."""
        until = self._loop.time() + duration
        while (left := until - self._loop.time()) > 0:
            with suppress(TimeoutError):
                # Not wait_for, which before Python 3.12 forgets a cancellation that comes together with the event.
                async with asyncio.timeout(min(left, PROBE)):
                    await link.gone.wait()
                    return False
            try:
                await link.connection.ping()
            except MqttError as error:
                link.abandon(str(error))
                return False
        return not link.gone.is_set()

    def _activate(self, link: Link) -> None:
        self._active = link
        self._said.pop(link.index, None)
        away = self._loop.time() - self._since
        self._logger.info(
            f"{self.name}: linked to {link.address}",
            protocol=link.connection.protocol,
            waiting=self.account.waiting,
            after=f"{away:.1f} s",
        )
        link.active = not link.gone.is_set()
        self._feed.on_ready(link.pump)
        link.announce(self._retained)
        link.pump()

    def _lost(self, link: Link) -> None:
        self._active = None
        self._since = self._loop.time()
        self._hunt.failed(link.index, self._since)
        self._logger.warning(f"{self.name}: lost {link.address}: {link.why}", waiting=self.account.waiting)

    def _failed(self, index: int, why: str) -> None:
        self._hunt.failed(index, self._loop.time())
        if self._said.get(index) != why:
            self._said[index] = why
            self._logger.warning(f"{self.name}: cannot use {self._brokers[index].address}: {why}")

    def _retire(self, old: Link, better: Link) -> None:
        """Leave a working link for a better one: what is in flight is waited for, and sent again only if it must."""
        self._logger.info(f"{self.name}: back to {better.address}")
        self._since = self._loop.time()
        old.active = False
        timeout = self._brokers[old.index].options.ack_timeout

        async def leave() -> None:
            await old.leave(self._farewell, timeout)
            self._pump()

        self._background(leave())

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _pump(self) -> None:
        if self._active is not None:
            self._active.pump()
