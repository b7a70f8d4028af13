"""The client for programs without an event loop: the same client, in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
import weakref
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, Self, TypeVar

from gateway.client import logger
from gateway.client.checks import TIMEOUT, Number, as_subscription
from gateway.client.client import CLOSING, Client, Status
from gateway.client.delivery import Delivery, Outcome
from gateway.client.errors import CalledFromCallback, ClientClosed
from gateway.client.events import Connected
from gateway.client.intake import Payload
from gateway.client.options import ClientOptions
from gateway.client.taking import BlockingMessages
from gateway.mqtt import Message
from gateway.outbox import Loss, OutboxFull, Quarantined
from gateway.reading import Publication

T = TypeVar("T")

QUEUE = 10_000
"""Messages that may be on their way from other threads to the client's; beyond that, `publish` waits for it."""
GRACE = 8.0
"""Seconds that brokers and disk have, beside the timeout of `close`, before the client's thread is left behind."""

_open: weakref.WeakSet[BlockingClient] = weakref.WeakSet()


class BlockingClient(ClientOptions):
    """A durable MQTT client for threads. Use as `with`; its arguments are those of `ClientOptions`.

    Its methods can be called from several threads at once, and from none of its own callbacks: these run on the
    client's thread, and a call that waits would wait for itself. Only `publish_nowait` and `status` are for them too.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        arguments = {one.name: getattr(self, one.name) for one in fields(ClientOptions)}
        self._client = Client(**arguments)
        self._intake, self._incoming = self._client._intake, self._client._incoming  # noqa: SLF001 - two faces of one
        self._logger = self.logger or logger.default()
        self._wrong = "the client is not open: use it as `with`, or call open()"  # why nothing can be done
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Future[float]
        # What other threads have published and the client's has not yet taken in. A signal may interrupt whoever holds
        # the lock, and publish in turn.
        self._lock = threading.RLock()
        self._queue: list[tuple[Publication, Delivery]] = []
        self._queued = 0  # bytes of the queue
        self._room = (0, 0)  # messages and bytes that the queue may hold: so much the outbox will take for sure

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(CLOSING if kind is None or issubclass(kind, Exception) else 0.0)

    def open(self) -> Self:
        """Start the client's thread and open the store. Raises OutboxError if it cannot be. Waits for no broker."""
        if self._thread is not None:
            raise ClientClosed("a client can be opened once; make a new one")
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="gateway client", daemon=True)
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self.close(0.0)
            raise
        # The thread is a daemon, so that it can never hold up the end of the process; a program that forgets to close
        # still gets its messages out.
        atexit.register(self.close)
        return self

    def close(self, timeout: float = CLOSING) -> None:
        """Deliver what can be within `timeout` seconds, and close. See `Client.close`.

        Returns within `timeout` and a few seconds more, whatever broker and disk do. Can be called again.
        """
        Number(0, unit="seconds")("timeout", timeout)
        self._raise_on_own_thread("close")
        atexit.unregister(self.close)
        with self._lock:
            if not self._wrong:
                self._wrong = "the client is closed"
                self._loop.call_soon_threadsafe(self._stop.set_result, timeout)
        if self._thread is not None and self not in _forked:
            self._thread.join(timeout + GRACE)
            if self._thread.is_alive():
                self._logger.error("client: its thread does not end; left behind")

    # ---- publishing

    def publish(
        self,
        topic: str,
        payload: Payload = b"",
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, Any] | None = None,
        *,
        stored: bool = False,
    ) -> Delivery:
        """Publish a message; return when it is accepted or, if `stored`, when it survives the power.

        See `Client.publish`, also for what it raises. `delivery.wait(timeout)` tells what becomes of it.
        """
        self._raise_on_own_thread("publish", "; publish_nowait does not wait")
        if stored:
            publication = self._intake.check(topic, payload, qos, retain, properties)
            return self._call(partial(self._in_turn, publication, stored=True))
        return self.publish_nowait(topic, payload, qos, retain, properties)

    def publish_nowait(
        self,
        topic: str,
        payload: Payload = b"",
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, Any] | None = None,
    ) -> Delivery:
        """Publish as `publish` does, and from callbacks as well."""
        publication = self._intake.check(topic, payload, qos, retain, properties)
        size = len(topic) + len(publication.payload)
        if self._wrong:
            raise ClientClosed(self._wrong)
        with self._lock:
            queue, queued, (count, most) = self._queue, self._queued + size, self._room
            if len(queue) < count and queued <= most and not self._wrong:
                delivery = Delivery()
                queue.append((publication, delivery))
                self._queued = queued
                if len(queue) == 1:
                    self._loop.call_soon_threadsafe(self._take_in)
                return delivery
        if threading.current_thread() is self._thread:
            self._take_in()
            return self._intake.take(publication, Delivery())
        return self._call(partial(self._in_turn, publication))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until nothing waits any more, at most `timeout` seconds; return whether that is so."""
        TIMEOUT("timeout", timeout)
        return self._call(partial(self._flush, timeout))

    # ---- receiving

    def messages(
        self,
        filter: str,  # noqa: A002 - MQTT's own word
        qos: int = 1,
        *,
        timeout: float | None = None,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> BlockingMessages:
        """Return the messages of a topic filter, to iterate over; it ends when none has come for `timeout` seconds.

        See `Client.messages`.
        """
        TIMEOUT("timeout", timeout)
        self._raise_on_own_thread("messages")
        wanted = as_subscription(filter, qos, no_local, retain_as_published, retain_handling)
        if self._wrong:
            raise ClientClosed(self._wrong)
        return BlockingMessages(self._incoming, self._loop, self._call, wanted, timeout)

    def subscribe(
        self,
        filter: str,  # noqa: A002
        callback: Callable[[Message], object] | None = None,
        qos: int = 1,
        *,
        timeout: float | None = None,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> int:
        """Have `callback` called, on the client's thread, with each message; return the QoS granted.

        Waits for a link, `timeout` seconds at most, and then raises TimeoutError. See `Client.subscribe`.
        """
        TIMEOUT("timeout", timeout)

        async def subscribe() -> int:
            async with asyncio.timeout(timeout):
                return await self._client.subscribe(
                    filter,
                    callback,
                    qos,
                    no_local=no_local,
                    retain_as_published=retain_as_published,
                    retain_handling=retain_handling,
                )

        return self._call(subscribe)

    def unsubscribe(self, filter: str) -> None:  # noqa: A002
        """Call no callback any more for this filter; iterators over it go on."""
        self._call(lambda: self._client.unsubscribe(filter))

    # ---- life

    def connected(self, timeout: float | None = None) -> Connected:
        """Wait for a link, at most `timeout` seconds. Raises NotConnected, which says why there is none."""
        return self._call(lambda: self._client.connected(timeout))

    @property
    def status(self) -> Status:
        """What the client is doing, and with whom."""
        if threading.current_thread() is self._thread or (self._thread is not None and not self._thread.is_alive()):
            return self._client.status

        async def status() -> Status:
            self._take_in()
            return self._client.status

        return self._call(status)

    def ledger(self) -> list[Loss]:
        """Return what was given up and why; with a store, also in earlier runs."""
        return self._call(self._client.ledger)

    def quarantined(self) -> list[Quarantined]:
        """Return what was set aside because no broker takes it, oldest first; with a store, also in earlier runs."""
        return self._call(self._client.quarantined)

    def retry(self, ids: Collection[int] | None = None) -> int:
        """Publish again what was set aside, all of it or these ids, with new ids; return how many that is."""
        return self._call(lambda: self._client.retry(ids))

    def discard(self, ids: Collection[int] | None = None) -> int:
        """Give up what was set aside, all of it or these ids; return how many that is."""
        return self._call(lambda: self._client.discard(ids))

    # ---- on the client's thread

    def _run(self, started: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._live(started))
        except BaseException as error:  # the boundary of the thread: whoever opens it is told
            if started.done():
                self._logger.exception("client: its thread has failed")
            else:
                started.set_exception(error)

    async def _live(self, started: concurrent.futures.Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = self._loop.create_future()
        async with self._client:
            self._take_in()
            _open.add(self)
            self._wrong = ""
            started.set_result(None)
            timeout = await self._stop
            self._take_in()
            await self._client.close(timeout)

    def _take_in(self) -> None:
        """Take in what other threads have published."""
        with self._lock:
            taken, self._queue = self._queue, []
            count, most = self._intake.left()
            self._room = min(QUEUE, count - len(taken)), most - self._queued
            self._queued = 0
        take = self._intake.take
        for publication, delivery in taken:
            try:
                take(publication, delivery)
            except OutboxFull:  # only when something else took the room that was promised
                delivery._end(Outcome.DROPPED, "full")  # noqa: SLF001

    async def _in_turn(self, publication: Publication, *, stored: bool = False) -> Delivery:
        self._take_in()
        try:
            delivery = self._intake.take(publication, Delivery())
        finally:
            self._take_in()  # and see how much room there is now
        if stored:
            await self._intake.stored(delivery)
        return delivery

    async def _flush(self, timeout: float | None) -> bool:
        self._take_in()
        return await self._client.flush(timeout)

    # ---- from other threads

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have something done on the client's thread, and wait for it."""
        self._raise_on_own_thread("this")
        if self._wrong:
            raise ClientClosed(self._wrong)
        with self._lock:  # so that nothing is asked of the loop after it was told to stop
            if self._wrong:
                raise ClientClosed(self._wrong)
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClientClosed("the client was closed meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def _raise_on_own_thread(self, what: str, instead: str = "") -> None:
        if threading.current_thread() is self._thread:
            raise CalledFromCallback(f"{what} waits for the client's thread, and was called on it{instead}")


_forked: weakref.WeakSet[BlockingClient] = weakref.WeakSet()


def _after_fork() -> None:
    """A child has neither the thread nor the right to the store: its copies of open clients say so."""
    for client in list(_open):
        client._wrong = "the client belongs to the process that has opened it; open another one after the fork"  # noqa: SLF001
        client._lock = threading.RLock()  # noqa: SLF001 - another thread may have held it
        _forked.add(client)


os.register_at_fork(after_in_child=_after_fork)
