"""Messages for a thread: they wait in a queue that the client's loop fills and a thread empties."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Self

from gateway.client.errors import ClientClosed
from gateway.client.incoming import Brake, Incoming
from gateway.mqtt import Message
from gateway.mqtt.packets import Subscription


class ThreadInbox:
    """Messages that wait for one thread."""

    def __init__(self, brake: Brake, loop: asyncio.AbstractEventLoop) -> None:
        self._queue: SimpleQueue[Message | None] = SimpleQueue()
        self._brake = brake
        self._loop = loop

    def put(self, message: Message) -> None:
        """Take a message in. Called from the client's loop."""
        self._queue.put(message)
        if self._queue.qsize() >= self._brake.limit:
            self._brake.hold(self)
            if self._queue.qsize() <= self._brake.low:  # the thread has emptied it before it could see the brake
                self._brake.release(self)

    def close(self) -> None:
        """Take no more. Called from the client's loop."""
        self._queue.put(None)
        self._brake.release(self)

    def get(self, timeout: float | None) -> Message | None:
        """Return the next message, None at the end. Called from the thread. Raises queue.Empty after `timeout`."""
        message = self._queue.get(timeout=timeout)
        if self in self._brake.held and self._queue.qsize() <= self._brake.low:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._brake.release, self)
        if message is None:
            self._queue.put(None)  # for whoever asks again
        return message


class BlockingMessages:
    """The messages of one filter for one thread: iterate over it, or use `with` to be subscribed from then on.

    The iteration ends with the client, or when no message has come for `timeout` seconds; it can then be taken up
    again. Subscribes when it is entered or first asked, and may then raise SubscriptionRefused; unsubscribes when it
    is closed, left or forgotten.
    """

    def __init__(
        self,
        incoming: Incoming,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any],
        wanted: Subscription,
        timeout: float | None,
    ) -> None:
        """`call` has a coroutine done in `loop`, the client's, and waits for it."""
        self.granted: int | None = None
        """The QoS that the broker has granted, once it has."""
        self.ended = False
        """Whether nothing more will come: this was closed, or the client was."""
        self._incoming = incoming
        self._loop = loop
        self._call = call
        self._wanted = wanted
        self._timeout = timeout
        self._inbox = ThreadInbox(incoming.brake, loop)

    def __enter__(self) -> Self:
        self._subscribe()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        message = self.get(self._timeout)
        if message is None:
            raise StopIteration
        return message

    def get(self, timeout: float | None = None) -> Message | None:
        """Return the next message; None when none has come for `timeout` seconds, or when nothing more will."""
        if self.granted is None and not self.ended:
            self._subscribe()
        try:
            message = self._inbox.get(timeout)
        except Empty:
            return None
        self.ended = message is None
        return message

    def close(self) -> None:
        """Unsubscribe, unless somebody else wants the same."""
        if not self.ended:
            self.ended = True
            with suppress(ClientClosed):
                self._call(partial(_leave, self._incoming, self._wanted.filter, self._inbox))

    def __del__(self) -> None:
        if self.ended or not self._incoming.is_open:
            return
        incoming, leave = self._incoming, partial(_leave, self._incoming, self._wanted.filter, self._inbox)
        with suppress(RuntimeError):  # the loop is closed, and with it everything
            self._loop.call_soon_threadsafe(lambda: incoming.background(leave()))

    def _subscribe(self) -> None:
        try:
            self.granted = self._call(partial(_enter, self._incoming, self._wanted, self._inbox))
        except BaseException:
            self.ended = True
            raise


async def _enter(incoming: Incoming, wanted: Subscription, inbox: ThreadInbox) -> int:
    incoming.adopt(inbox)
    try:
        return await incoming.subscribe(wanted, inbox.put)
    except BaseException:
        incoming.forget(inbox)
        raise


async def _leave(incoming: Incoming, filter: str, inbox: ThreadInbox) -> None:  # noqa: A002 - MQTT's own word
    incoming.forget(inbox)
    await incoming.leave(filter, inbox.put)
