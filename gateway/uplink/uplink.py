"""An uplink: carries the outbox to one of its brokers, fails over to the next, and back to a better one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Self

import structlog

from gateway.mqtt import ConnectError, ConnectionLost, MqttError, Subscription, in_words
from gateway.outbox import Account, Feed
from gateway.reading import Publication
from gateway.uplink.attempts import Attempts
from gateway.uplink.broker import Broker, BrokerState, State
from gateway.uplink.fight import Fight
from gateway.uplink.hunt import Hunt, Mode
from gateway.uplink.link import Link
from gateway.uplink.manner import Manner
from gateway.uplink.observer import Nobody, Observer
from gateway.uplink.pace import Pace
from gateway.uplink.route import Route
from gateway.uplink.subscriptions import Subscriptions
from gateway.uplink.suspicion import ELSEWHERE, Suspicion

PROBE = 5.0
"""Seconds between signs of life asked of a better broker before it is trusted."""


class Uplink:
    """One destination. Use as `async with`; it hunts from then on until it is left.

    `failback` is for how many seconds a better broker must have been good; None to stay. In mode `equal` no broker is
    better. `persistent`: the broker keeps the session, and what is in flight goes on when it is linked to again, which
    QoS 2 needs in order to be exactly once; what is published then has to be on the card before it is sent.
    `live_first`, `batch` and `pace` are as in `Manner`; the first two do not go with `persistent`.
    """

    def __init__(
        self,
        name: str,
        brokers: Sequence[Broker],
        route: Route,
        feed: Feed,
        *,
        mode: Mode = "hunt",
        persistent: bool = False,
        live_first: bool = False,
        batch: int | None = None,
        pace: Pace | None = None,
        reconnect_min: float = 0.5,
        reconnect_max: float = 10.0,
        failback: float | None = 30.0,
        observer: Observer | None = None,
        logger: Any = None,
    ) -> None:
        self.name = name
        self._brokers = list(brokers)
        self._route = route
        self._feed = feed
        self._manner = Manner(live_first and not persistent, None if persistent else batch, pace or Pace())
        self._persistent = persistent
        self._hunt = Hunt(len(self._brokers), reconnect_min, reconnect_max, mode=mode)
        self._attempts = Attempts(self._brokers, feed, persistent=persistent, shared=mode == "equal", say=self._say)
        self._failback = failback if mode == "hunt" else None
        self._observer = observer or Nobody()
        self._logger = logger or structlog.get_logger()
        self._suspicion = Suspicion()
        self._fights = [Fight() for _ in self._brokers]
        self._subscriptions = Subscriptions()
        self._said: dict[int, str] = {}  # why a broker cannot be used, as it was last logged
        self._remarks: set[str] = set()  # what is said once
        self._away: dict[int, str] = {}  # why a broker is away
        self._retained: dict[str, Publication] = {}
        self._farewell: dict[str, Publication] = {}
        self._active: Link | None = None
        self._candidate: Link | None = None  # a better broker's session, on probation
        self._leaving: set[Link] = set()  # links that are being left in order
        self._tasks: set[asyncio.Task[None]] = set()
        self._since = 0.0
        self.downgraded = 0
        """Messages that were sent with less than was asked, because their broker has no more."""
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
        self._subscriptions.gone()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def broker(self) -> str | None:
        """The broker over which messages go now."""
        return str(self._active.broker) if self._active is not None and not self._active.gone.is_set() else None

    @property
    def link(self) -> Link | None:
        """The link over which messages go now."""
        return self._active if self.broker is not None else None

    @property
    def account(self) -> Account:
        """What became of this uplink's readings."""
        return self._feed.account

    def states(self) -> list[BrokerState]:
        """Return what is known of each broker, in order of preference."""
        return [self._state(index, broker) for index, broker in enumerate(self._brokers)]

    def retain(self, topic: str, payload: bytes, farewell: bytes = b"offline") -> None:
        """Keep a retained message on every broker that becomes active, and leave `farewell` there at the end."""
        self.announce(Publication(topic, payload, 1, True), Publication(topic, farewell, 1, True))

    def announce(self, birth: Publication, farewell: Publication | None = None) -> None:
        """Publish `birth` on every link before anything else, and `farewell` on one that is left in order."""
        self._retained[birth.topic] = birth
        if farewell is not None:
            self._farewell[farewell.topic] = farewell
        if self._active is not None:
            self._active.announce({birth.topic: birth})

    def say(self, message: Publication) -> bool:
        """Publish a message that no outbox holds, once, before anything else; return False if there is no link for it.

        It is not sent again when the link is lost before the broker has acknowledged it.
        """
        return self.link is not None and self.link.say(message)

    def listen(self, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe on every link from the next one on, without waiting; a broker that refuses is said each time."""
        self._subscriptions.want(subscriptions)

    async def subscribe(self, subscriptions: Sequence[Subscription], identifier: int | None = None) -> list[int]:
        """Subscribe, on every link from now on; wait for a link and its answer.

        `identifier` (1 to 268,435,455) comes back with the messages, from MQTT 5 brokers that know such identifiers.

        Returns, for each, the QoS granted, or why not (0x80 and above), and then it is not asked for again. Raises
        ValueError for what MQTT or this broker cannot do.
        """
        return await self._subscriptions.add(subscriptions, identifier)

    async def unsubscribe(self, filters: Sequence[str]) -> list[int]:
        """Unsubscribe; return the broker's reasons, 0 for each where there is no link to ask."""
        return await self._subscriptions.remove(filters)

    def resume(self) -> None:
        """Read on, after the observer had no room for messages."""
        if self.link is not None:
            self.link.connection.hold(False)

    async def drained(self, timeout: float) -> bool:
        """Wait until nothing is waiting any more, as long as there is a link; return whether nothing is."""
        deadline = self._loop.time() + timeout
        # Once, at the end: nothing wakes it both for an acknowledgement and for a page from the card.
        while self.account.waiting and self.broker is not None and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return self.account.waiting == 0

    # ---- one link after the other

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
        link = Link(
            index,
            self._brokers[index],
            self._route,
            self._feed,
            self._manner,
            persistent=self._persistent,
            suspicion=self._suspicion,
            observer=self._observer,
            on_proven=self._proven,
            on_downgraded=self._count_downgraded,
            say=self._say,
        )
        try:
            await self._attempts.open(link)
        except ConnectError as error:
            self._failed(index, str(error))
            self._hint(getattr(error, "server_reference", None))
            return None
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
                self._lost(link, better)
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
        self._away.pop(link.index, None)
        connection = link.connection
        away = self._loop.time() - self._since
        self._logger.info(
            f"{self.name}: linked to {link.broker}",
            protocol=connection.protocol,
            waiting=self.account.waiting,
            after=f"{away:.1f} s",
        )
        known = connection.session_present and self._persistent
        if self._persistent:
            self._feed.remember(self._attempts.session(link))
        if not known and not self._leaving:
            self._feed.unrelease()
        link.activate()
        self._feed.on_ready(link.pump)
        if link.active:
            self._background(self._renew(link, known))
            self._observer.connected(str(link.broker), connection.protocol, known)
        link.announce(self._retained)
        link.pump()

    async def _renew(self, link: Link, known: bool) -> None:
        try:
            refused = await self._subscriptions.renew(link.connection, known)
        except ConnectionLost:
            return  # the link tells it as well
        except ValueError as error:
            self._logger.error(f"{self.name}: {link.broker} cannot be subscribed at: {error}")
            return
        for name, reason in refused.items():
            self._logger.error(f"{self.name}: {link.broker} refuses the subscription {name}: {in_words(reason)}")

    def _lost(self, link: Link, better: Link | None) -> None:
        self._active = None
        self._subscriptions.gone()
        self._since = now = self._loop.time()
        self._hunt.failed(link.index, now)
        error = link.error
        why = link.why
        by_broker = error is not None and error.by_broker
        poison = self._suspect(link, now - link.since)
        repeated = poison is not None or self._suspicion.hardened  # it may be a message, and need not be a rival
        reason = error.reason if error else None
        if self._fights[link.index].lost(now - link.since, reason, by_broker and not repeated):
            identity = link.connection.limits.client_id
            why = f'{why}; another client uses the client id "{identity}": give each its own'
        self._away[link.index] = why
        self._logger.warning(f"{self.name}: lost {link.broker}: {why}", waiting=self.account.waiting)
        self._observer.lost(str(link.broker), why)
        if poison is not None:
            self._logger.error(f"{self.name}: brokers hang up on one message; it is set aside", id=poison)
            self._feed.quarantine([poison], "poison")
        if error is not None:
            self._hint(error.server_reference)
        if better is None:
            self._tell_reconnecting(why)

    def _suspect(self, link: Link, lived: float) -> int | None:
        """Return the message on which brokers hang up, once it is certain."""
        error = link.error
        if error is None or not error.by_broker or error.reason in ELSEWHERE:
            self._suspicion.acquit()
            return None
        return self._suspicion.lost(link.in_flight, lived, link.index)

    def _failed(self, index: int, why: str) -> None:
        self._hunt.failed(index, self._loop.time())
        self._suspicion.unreachable(index)
        self._away[index] = why
        if self._said.get(index) != why:
            self._said[index] = why
            self._logger.warning(f"{self.name}: cannot use {self._brokers[index]}: {why}")
        if self._active is None:
            self._tell_reconnecting(why)

    def _tell_reconnecting(self, why: str) -> None:
        index, delay = self._hunt.next(self._loop.time())
        self._observer.reconnecting(str(self._brokers[index]), delay, why)

    def _hint(self, reference: str | None) -> None:
        """Follow a broker that names another one, if that is in the list: nobody else gets the password."""
        if not reference:
            return
        for index, broker in enumerate(self._brokers):
            if reference in (f"{broker.address.host}:{broker.address.port}", broker.address.host):
                self._hunt.hinted(index)
                return
        self._say(f"the broker names another one, which is not in the list: {reference}")

    def _retire(self, old: Link, better: Link) -> None:
        """Leave a working link for a better one: what is in flight is waited for, and sent again only if it must."""
        self._logger.info(f"{self.name}: back to {better.broker}")
        self._since = self._loop.time()
        old.rest()
        self._active = better  # `old` may be gone before `better` is activated
        timeout = old.broker.options.ack_timeout
        self._leaving.add(old)

        async def leave() -> None:
            await old.leave(self._farewell, timeout)
            self._leaving.discard(old)
            self._feed.unrelease()
            self._pump()

        self._background(leave())

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _pump(self) -> None:
        if self._active is not None:
            self._active.pump()

    def _proven(self, index: int) -> None:
        self._hunt.proven(index)
        if self._active is not None and self._loop.time() - self._active.since > PROBE:
            self._fights[index].kept()

    def _count_downgraded(self) -> None:
        self.downgraded += 1

    def _say(self, remark: str) -> None:
        if remark not in self._remarks:
            self._remarks.add(remark)
            self._logger.warning(f"{self.name}: {remark}")

    def _state(self, index: int, broker: Broker) -> BrokerState:
        state: State = "untried"
        wait: float | None = None
        if self.link is not None and self.link.index == index:
            state = "active"
        elif self._candidate is not None and self._candidate.index == index:
            state = "probation"
        elif index in self._away:
            state, wait = "away", self._hunt.wait(index, self._loop.time())
        reason = self._away.get(index) if state == "away" else None
        return BrokerState(str(broker.address), state, reason, self._attempts.agreed.get(index), broker.insecure, wait)
