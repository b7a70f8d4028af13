"""The client: an outbox and one uplink without devices, as a program uses them in its own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gateway.client import logger
from gateway.client.checks import TIMEOUT, Number, as_subscription
from gateway.client.delivery import Delivery
from gateway.client.endpoints import endpoints, persistent
from gateway.client.errors import ClientClosed, NotConnected
from gateway.client.events import Connected, Events
from gateway.client.incoming import Incoming, Messages
from gateway.client.intake import Intake, Payload
from gateway.client.options import ClientOptions
from gateway.client.telling import Telling
from gateway.mqtt import Limits, Message
from gateway.mqtt.topics import check_filter
from gateway.outbox import Feed, Loss, Outbox, Quarantined
from gateway.uplink import BrokerState, Publications, Uplink

NAME = "client"
IN_MEMORY, IN_STORE = 100_000_000, 1_000_000_000
"""Bytes that may wait, unless `max_bytes` says otherwise."""
BURST = 500
"""Messages that one task publishes before it lets the loop send them."""
CLOSING = 5.0
"""Seconds that a client waits at its end, unless told otherwise, for what is on its way."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a client is doing. The law: taken in = delivered + waiting + lost; some of those lost are set aside."""

    broker: str | None  # over which messages go now; an insecure one says so
    protocol: str | None  # "3.1" | "3.1.1" | "5"
    brokers: list[BrokerState]  # in order of preference
    waiting: int  # messages, also of earlier runs with this store
    delivered: int  # in this run
    lost: int  # in this run; the ledger says which
    quarantined: int
    unclaimed: int  # messages that came and nobody wanted
    downgraded: int  # messages that were sent with less QoS, or not retained, because the broker has no more
    limits: Limits | None  # what the broker allows, and the client id and keep-alive in force


class Client(ClientOptions):
    """A durable MQTT client. Use as `async with`; its arguments are those of `ClientOptions`.

    Entering opens the store and waits for no broker: what is published before there is a link waits like what is
    published after one was lost. Belongs to the loop in which it was entered.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._logger = self.logger or logger.default()
        self._brokers = endpoints(self, self._tell_packet if self.trace else None)
        self._incoming = Incoming(self.max_incoming, self.on_message, self._logger)
        self._telling = Telling(self, self._incoming, self._logger)
        self._intake = Intake(late=self.store is not None and self.commit_interval > 0)
        self._intake.deliveries.on_done = self._telling.careful(self.on_delivered, "on_delivered")
        self._wrong = "the client is not open: use it as `async with`"  # why nothing can be done; "" while open
        self._over = False
        self._burst = 0
        self._stack = AsyncExitStack()
        self._outbox: Outbox
        self._feed: Feed
        self._uplink: Uplink
        self._flushing: list[asyncio.Future[None]] = []
        self._closed: asyncio.Future[None] | None = None  # done when `close` is

    async def __aenter__(self) -> Self:
        """Open the store. Raises OutboxError if it cannot be, OutboxInUse if another process has it open."""
        if self._closed is not None or not self._wrong:
            raise ClientClosed("a client can be opened once; make a new one")
        async with AsyncExitStack() as stack:
            self._loop = asyncio.get_running_loop()
            self._outbox = await stack.enter_async_context(self._make_outbox())
            self._intake.open(self._outbox)
            self._feed = self._outbox.follow(NAME)
            self._feed.on_fate = self._fates
            self._uplink = await stack.enter_async_context(self._make_uplink())
            if self.birth is not None:
                self._uplink.announce(self.birth)
            self._incoming.open(self._uplink)
            self._wrong = ""
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Who is cancelled or interrupted wants to be gone; who has failed wants his messages to arrive all the same.
        await self.close(CLOSING if kind is None or issubclass(kind, Exception) else 0.0)

    # ---- publishing

    def publish_nowait(
        self,
        topic: str,
        payload: Payload = b"",
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, Any] | None = None,
    ) -> Delivery:
        """Publish as `publish` does, from a function that is no coroutine.

        A loop that calls this and never awaits leaves no time to send: use `publish` there.
        """
        if self._wrong:
            self._raise_unless_open()
        return self._intake.take(self._intake.check(topic, payload, qos, retain, properties), Delivery())

    async def publish(
        self,
        topic: str,
        payload: Payload = b"",
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, Any] | None = None,
        *,
        stored: bool = False,
    ) -> Delivery:
        """Publish a message; return when it is accepted or, if `stored`, when it survives a power cut.

        Text becomes UTF-8. `properties` are those of MQTT 5 by name (content_type, response_topic, correlation_data,
        message_expiry_interval, payload_format_indicator, user_properties); an older broker does not get them. Await
        the delivery to hear what becomes of it; to cancel that changes nothing for the message.

        Raises OutboxFull, ClientClosed, and TypeError or ValueError for what MQTT cannot carry.
        """
        self._burst += 1
        if self._burst >= BURST:
            self._burst = 0
            await asyncio.sleep(0)  # before it is accepted: who is cancelled here has published nothing
        delivery = self.publish_nowait(topic, payload, qos, retain, properties)
        if stored:
            await self._intake.stored(delivery)
        return delivery

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until nothing waits any more, at most `timeout` seconds; return whether that is so.

        What waits includes messages of earlier runs with this store. Works with and without a link.
        """
        TIMEOUT("timeout", timeout)
        self._raise_unless_open()
        return await self._emptied(timeout)

    # ---- receiving

    def messages(
        self,
        filter: str,  # noqa: A002 - MQTT's own word
        qos: int = 1,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> Messages:
        """Return the messages of a topic filter, for `async for` or `async with`. See `Messages`.

        Iterators whose filters overlap get each message once each. The last three are MQTT 5's: not to get what this
        client publishes itself; to keep the retain flag; and whether retained messages are sent on subscribing (0),
        only for a new subscription (1), or never (2). Raises TypeError and ValueError.
        """
        wanted = as_subscription(filter, qos, no_local, retain_as_published, retain_handling)
        self._raise_unless_open()
        return Messages(self._incoming, wanted)

    async def subscribe(
        self,
        filter: str,  # noqa: A002
        callback: Callable[[Message], object] | None = None,
        qos: int = 1,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> int:
        """Have `callback` called with each message of a topic filter; return the QoS granted. Waits for a link.

        A callback that is a coroutine function is awaited, one message after the other; any other must not block.
        What it raises is logged. Without one, `on_message` gets the messages. The rest is as for `messages`. Raises
        SubscriptionRefused.
        """
        wanted = as_subscription(filter, qos, no_local, retain_as_published, retain_handling)
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be something that can be called, or None, not {callback!r}")
        self._raise_unless_open()
        return await self._incoming.call(wanted, callback)

    async def unsubscribe(self, filter: str) -> None:  # noqa: A002
        """Call no callback any more for this filter; iterators over it go on. What is on its way is passed over."""
        check_filter(filter)
        self._raise_unless_open()
        await self._incoming.hang_up(filter)

    def hold(self, until: asyncio.Future[Any]) -> None:
        """Read nothing more from the broker until this is done, such as when a callback cannot keep up.

        What has been read already still comes. What `until` waits for must not be a message. Changes nothing for a
        client that is not open.
        """
        if not self._wrong:
            self._incoming.hold(until)

    # ---- life

    async def connected(self, timeout: float | None = None) -> Connected:
        """Wait for a link, at most `timeout` seconds. Raises NotConnected, which says why there is none."""
        TIMEOUT("timeout", timeout)
        self._raise_unless_open()
        try:
            async with asyncio.timeout(timeout):
                while (linked := self._telling.linked) is None:
                    await self._telling.news()
                    self._raise_unless_open()
                return linked
        except TimeoutError:
            raise NotConnected(f"no broker within {timeout:g} s: {self._why_not()}") from None

    def events(self) -> Events:
        """Return an iterator over what happens to the links from now on; begins with the link that there is."""
        self._raise_unless_open()
        return self._telling.events()

    @property
    def status(self) -> Status:
        """What the client is doing, and with whom; of a closed one, how it ended."""
        if self._closed is None:
            self._raise_unless_open()
        account, linked = self._feed.account, self._telling.linked
        return Status(
            self._uplink.broker,
            linked.protocol if linked else None,
            self._uplink.states(),
            account.waiting,
            account.delivered,
            account.lost,
            account.quarantined,
            self._incoming.unclaimed,
            self._uplink.downgraded,
            self._uplink.link.connection.limits if self._uplink.link else None,
        )

    async def ledger(self) -> list[Loss]:
        """Return what was given up and why; with a store, also in earlier runs."""
        self._raise_unless_open()
        return await self._outbox.ledger()

    async def quarantined(self) -> list[Quarantined]:
        """Return what was set aside because no broker takes it, oldest first; with a store, also in earlier runs."""
        self._raise_unless_open()
        return await self._outbox.quarantined()

    async def retry(self, ids: Collection[int] | None = None) -> int:
        """Publish again what was set aside, all of it or these ids, with new ids; return how many that is."""
        self._raise_unless_open()
        return await self._outbox.retry(ids)

    async def discard(self, ids: Collection[int] | None = None) -> int:
        """Give up what was set aside, all of it or these ids; return how many that is."""
        self._raise_unless_open()
        return await self._outbox.discard(ids)

    async def close(self, timeout: float = CLOSING) -> None:
        """Deliver what can be within `timeout` seconds, say goodbye, and close.

        With a store, what still waits is kept for the next run; its deliveries stay pending, and say so. Without one,
        it is dropped ("closed"). Returns within a few seconds more, whatever broker and disk do. A second call waits
        for the first.
        """
        Number(0, unit="seconds")("timeout", timeout)
        if self._closed is not None:
            await asyncio.shield(self._closed)
            return
        if self._wrong:  # it was never open
            return
        self._closed = self._loop.create_future()
        self._wrong = "the client is closed"
        try:
            await self._emptied(timeout)
        finally:
            await self._through(self._leave())

    async def _through(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done to its end, and only then let a cancellation pass."""
        doing = self._loop.create_task(work)
        cancelled: asyncio.CancelledError | None = None
        while not doing.done():
            try:
                await asyncio.wait([doing])
            except asyncio.CancelledError as error:
                cancelled = error
        doing.result()
        if cancelled is not None:
            raise cancelled

    async def _leave(self) -> None:
        try:
            await self._stack.aclose()
        finally:
            await self._end()

    # ----

    def _make_outbox(self) -> Outbox:
        bytes_that_wait = self.max_bytes or (IN_MEMORY if self.store is None else IN_STORE)
        return Outbox(
            None if self.store is None else Path(self.store),
            [NAME],
            commit_interval=self.commit_interval,
            max_count=self.max_count,
            max_size=bytes_that_wait,
            max_age=self.max_age,
            when_full=self.when_full,
            logger=self._logger,
        )

    def _make_uplink(self) -> Uplink:
        return Uplink(
            NAME,
            self._brokers,
            Publications(),
            self._feed,
            mode=self.mode,
            persistent=persistent(self),
            reconnect_min=self.reconnect_min,
            reconnect_max=self.reconnect_max,
            failback=self.failback,
            observer=self._telling,
            logger=self._logger,
        )

    def _raise_unless_open(self) -> None:
        if self._wrong:
            raise ClientClosed(self._wrong)

    def _why_not(self) -> str:
        states = self._uplink.states()
        return "; ".join(f"{state.url}: {state.reason or 'no answer yet'}" for state in states)

    async def _end(self) -> None:
        """Tell everybody who waits for something that it is over."""
        self._over = True
        self._telling.close()
        self._intake.deliveries.close(kept=self.store is not None)
        self._tell_flushing()
        try:
            await self._incoming.close()
        finally:
            assert self._closed is not None  # noqa: S101 - made by `close`
            self._closed.set_result(None)

    def _fates(self, ids: Sequence[int], reason: str | None) -> None:
        self._intake.deliveries.ended(ids, reason)
        if self._flushing:
            self._loop.call_soon(self._tell_flushing)  # the account is told after this

    async def _emptied(self, timeout: float | None) -> bool:
        """Wait until nothing waits any more; return whether that is so."""
        account = self._feed.account
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while account.waiting and not self._over:
                    news = self._loop.create_future()
                    self._flushing.append(news)
                    try:
                        await news
                    finally:
                        self._flushing.remove(news)
        return account.waiting == 0

    def _tell_flushing(self) -> None:
        if not self._feed.account.waiting or self._over:
            for news in self._flushing:
                if not news.done():
                    news.set_result(None)

    def _tell_packet(self, direction: str, packet: str) -> None:
        self._logger.debug(f"client: {direction} {packet}")
