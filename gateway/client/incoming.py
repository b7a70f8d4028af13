"""What comes in: subscriptions, their subscribers, and the brake for those that are slow."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from gateway.client.errors import ClientClosed, SubscriptionRefused
from gateway.client.routing import Routes, Take
from gateway.mqtt import Message
from gateway.mqtt.packets import Subscription
from gateway.uplink import Uplink

REFUSED = 0x80
LAST = 1.0
"""Seconds that callbacks have at the end."""


class Brake:
    """Whether messages may come: not while anybody has too many waiting."""

    def __init__(self, limit: int, on_release: Callable[[], None]) -> None:
        self.limit = limit
        self.low = limit // 2
        self.held: set[object] = set()
        self._on_release = on_release

    def hold(self, who: object) -> None:
        """`who` has as many waiting as may be."""
        self.held.add(who)

    def release(self, who: object) -> None:
        """`who` has taken half of them, or wants no more."""
        if who in self.held:
            self.held.remove(who)
            if not self.held:
                self._on_release()


class Inbox:
    """Messages that wait for one consumer in the client's loop."""

    def __init__(self, brake: Brake) -> None:
        self._messages: deque[Message] = deque()
        self._brake = brake
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    def put(self, message: Message) -> None:
        """Take a message in."""
        self._messages.append(message)
        if self._waiting is not None:
            self._wake()
        if len(self._messages) >= self._brake.limit:
            self._brake.hold(self)

    def take(self) -> Message | None:
        """Return the next message if there is one."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        if len(self._messages) == self._brake.low:
            self._brake.release(self)
        return message

    async def get(self) -> Message | None:
        """Return the next message, and None after the last when it is closed. For one consumer at a time."""
        while (message := self.take()) is None and not self._closed:
            waiting = self._waiting = asyncio.get_running_loop().create_future()
            try:
                await waiting
            finally:
                self._waiting = None
        return message

    def close(self) -> None:
        """Take no more; what is here can still be had."""
        self._closed = True
        self._brake.release(self)
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Box(Protocol):
    """Where messages wait for a consumer."""

    def put(self, message: Message) -> None:
        """Take a message in. Called from the client's loop."""

    def close(self) -> None:
        """Take no more. Called from the client's loop."""


AnyBox = TypeVar("AnyBox", bound=Box)


class Incoming:
    """The subscriptions of one client, and who gets what they bring."""

    def __init__(self, limit: int, on_message: Callable[[Message], object] | None, logger: Any) -> None:
        self.brake = Brake(limit, self._resume)
        self.unclaimed = 0  # messages that nobody wanted
        self._leaving = 0  # filters that the broker has not yet let go: what still comes for them is no surprise
        self._logger = logger
        self._routes = Routes()
        self._otherwise = None if on_message is None else self._guarded(on_message, "on_message")
        self._callbacks: dict[str, dict[Any, Take]] = {}  # filter -> callback as it was given -> what takes for it
        self._boxes: set[Box] = set()
        self._questions: set[asyncio.Future[list[int]]] = set()  # to the broker, without an answer so far
        self._tasks: set[asyncio.Task[Any]] = set()
        self._uplink: Uplink | None = None

    def open(self, uplink: Uplink) -> None:
        """Subscribe through this uplink from now on."""
        self._loop = asyncio.get_running_loop()
        self._uplink = uplink

    async def close(self) -> None:
        """End all iterations, each after what has come for it, and what is done beside."""
        self._uplink = None
        for box in self._boxes:
            box.close()
        self._boxes.clear()
        for question in self._questions:
            question.cancel()
        # What is under way ends by itself now; callbacks that are coroutines have this long to deal with what has come.
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def is_open(self) -> bool:
        """Whether messages may come."""
        return self._uplink is not None

    def hold(self, until: asyncio.Future[Any]) -> None:
        """Have nothing more read until this is done."""
        if not until.done():
            self.brake.hold(until)
            until.add_done_callback(self.brake.release)

    def received(self, message: Message) -> None:
        """Give a message to everybody whom it is for."""
        takes = self._routes.find(message.topic, message.properties)
        if takes:
            for take in takes:
                take(message)
        else:
            self._fallback(message)

    # ---- callbacks

    async def call(self, wanted: Subscription, callback: Callable[[Message], object] | None) -> int:
        """Subscribe, and have `callback` called with each message; return the QoS granted."""
        callbacks = self._callbacks.setdefault(wanted.filter, {})
        if callback not in callbacks:
            callbacks[callback] = self._taking(callback)
        return await self.subscribe(wanted, callbacks[callback])

    async def hang_up(self, filter: str) -> None:  # noqa: A002 - MQTT's own word
        """Call nobody any more for a filter."""
        for take in self._callbacks.pop(filter, {}).values():
            self._routes.remove(filter, take)
            if isinstance(inbox := getattr(take, "__self__", None), Inbox):
                self.forget(inbox)
        if filter not in self._routes:
            await self._unsubscribe(filter)

    def _taking(self, callback: Callable[[Message], object] | None) -> Take:
        if callback is None:
            return self._fallback
        if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None)):  # noqa: B004
            inbox = self.box()
            self.background(self._carry(inbox, callback))
            return inbox.put
        return self._guarded(callback, "a callback")

    def _fallback(self, message: Message) -> None:
        if self._otherwise is not None:
            self._otherwise(message)
        elif not self._leaving:
            self.unclaimed += 1

    async def _carry(self, inbox: Inbox, callback: Callable[[Message], Any]) -> None:
        while (message := await inbox.get()) is not None:
            try:
                await callback(message)
            except Exception:  # noqa: BLE001 - the boundary: whatever the program's function does wrong
                self._failed("a callback", message)

    def _guarded(self, callback: Callable[[Message], object], what: str) -> Take:
        def take(message: Message) -> None:
            try:
                callback(message)
            except Exception:  # noqa: BLE001 - the boundary: whatever the program's function does wrong
                self._failed(what, message)

        return take

    def _failed(self, what: str, message: Message) -> None:
        self._logger.exception(f"client: {what} has failed; the message counts as received", topic=message.topic)

    # ---- iterations

    def box(self) -> Inbox:
        """Return a place where messages wait for a consumer."""
        return self.adopt(Inbox(self.brake))

    def adopt(self, box: AnyBox) -> AnyBox:
        """Close this place together with the client."""
        self._boxes.add(box)
        return box

    def forget(self, box: Box) -> None:
        """Close this place now: nobody looks into it any more."""
        self._boxes.discard(box)
        box.close()

    # ---- the broker's side

    async def subscribe(self, wanted: Subscription, take: Take) -> int:
        """Subscribe; return the QoS granted. Waits for a link. Raises SubscriptionRefused, ClientClosed, ValueError."""
        uplink = self._uplink
        if uplink is None:
            raise ClientClosed("the client is not open")
        route = self._routes.add(wanted, take)
        question = asyncio.ensure_future(uplink.subscribe([route.subscription], route.identifier))
        self._questions.add(question)
        try:
            (answer,) = await question
        except BaseException:
            if self._routes.remove(wanted.filter, take) and self.is_open:
                self.background(self._unsubscribe(wanted.filter))
            if question.cancelled() and not self.is_open:
                raise ClientClosed("the client was closed before the broker has answered") from None
            raise
        finally:
            self._questions.discard(question)
        if answer >= REFUSED:
            self._routes.remove(wanted.filter, take)
            raise SubscriptionRefused(wanted.filter, answer)
        return answer

    async def leave(self, filter: str, take: Take) -> None:  # noqa: A002
        """Give no more to `take`, and unsubscribe if it was the last."""
        if self._routes.remove(filter, take):
            await self._unsubscribe(filter)

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have something done that ends with the client at the latest."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it is told; it is no mistake when nobody does

    async def _unsubscribe(self, filter: str) -> None:  # noqa: A002
        if self._uplink is not None:
            self._leaving += 1
            try:
                await self._uplink.unsubscribe([filter])
            finally:
                self._leaving -= 1

    def _resume(self) -> None:
        if self._uplink is not None:
            self._uplink.resume()


class Messages:
    """The messages of one filter: `async for`, or `async with` before it to be subscribed from a known moment on.

    Subscribes when it is entered or first asked; then and only then may it raise SubscriptionRefused. Unsubscribes when
    it is closed, left or forgotten. Ends with the client. For one consumer at a time.
    """

    def __init__(self, incoming: Incoming, wanted: Subscription) -> None:
        self.granted: int | None = None
        """The QoS that the broker has granted, once it has."""
        self._loop = asyncio.get_running_loop()
        self._incoming = incoming
        self._wanted = wanted
        self._inbox = incoming.box()
        self._starting: asyncio.Task[int] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._subscribed()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self.granted is None and not self._closed:
            try:
                await self._subscribed()
            except ClientClosed:
                raise StopAsyncIteration from None
        message = self._inbox.take() or await self._inbox.get()
        if message is None:
            raise StopAsyncIteration
        return message

    async def aclose(self) -> None:
        """Unsubscribe, unless somebody else wants the same. Messages that are here can still be had."""
        if not self._closed:
            self._closed = True
            await self._leave(self._starting, self._incoming, self._wanted.filter, self._inbox)

    def __del__(self) -> None:
        if self._closed or not self._incoming.is_open:
            return
        # Not from here: this may be any thread, at any time.
        leave = partial(self._leave, self._starting, self._incoming, self._wanted.filter, self._inbox)
        incoming = self._incoming
        with suppress(RuntimeError):  # the loop is closed, and with it everything
            self._loop.call_soon_threadsafe(lambda: incoming.background(leave()))

    async def _subscribed(self) -> None:
        if self._starting is None:
            self._starting = self._incoming.background(self._incoming.subscribe(self._wanted, self._inbox.put))
        # To be cancelled while waiting for the broker's answer must not lose the answer.
        self.granted = await asyncio.shield(self._starting)

    @staticmethod
    async def _leave(
        starting: asyncio.Task[int] | None,
        incoming: Incoming,
        filter: str,  # noqa: A002
        inbox: Inbox,
    ) -> None:
        incoming.forget(inbox)
        if starting is not None and not starting.done():
            starting.cancel()
        await incoming.leave(filter, inbox.put)
