"""The commands of one device: how many may wait, how long each may take, and the one answer that each gets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple, Self, TypeAlias

from gateway.reading import Value

QUEUE = 16
"""Commands of one device that wait or are being carried out, at most."""
TIMEOUT = 10.0
"""Seconds that a device has to carry out a command."""

# refused: it was not carried out. timed-out, failed: nobody knows whether it was.
Result: TypeAlias = Literal["done", "refused", "timed-out", "failed"]


class Outcome(NamedTuple):
    """What became of a command."""

    result: Result
    reason: str | None = None  # why it is not done
    read_back: Value | None = None  # what the device then said


class Order:
    """One command on its way through its device: the `Command` that the adapter sees. Its first answer counts."""

    def __init__(self, metric: str, value: Value, id: str | None, answer: Callable[[Outcome], None]) -> None:  # noqa: A002 - the word of the payload
        self.metric = metric
        self.value = value
        self.id = id
        self.answered = False
        self._answer = answer
        self._timer: asyncio.TimerHandle | None = None

    def done(self, read_back: Value | None = None) -> None:
        """Say that it was carried out. See `gateway.Command.done`."""
        self.end(Outcome("done", read_back=read_back))

    def refuse(self, reason: str) -> None:
        """Say that it was not carried out, and never will be. See `gateway.Command.refuse`."""
        self.end(Outcome("refused", " ".join(reason.split()) or "the device refuses it"))

    def fail(self, reason: str) -> None:
        """Say that nobody knows whether it was carried out. See `gateway.Command.fail`."""
        self.end(Outcome("failed", f"{' '.join(reason.split())}; nobody knows whether it was carried out"))

    def end(self, outcome: Outcome) -> None:
        """Give the answer, unless there was one."""
        if self.answered:
            return
        self.answered = True
        if self._timer is not None:
            self._timer.cancel()
        self._answer(outcome)

    def within(self, seconds: float, otherwise: Outcome) -> None:
        """Have it end with `otherwise` if nothing else has ended it after so many seconds from now."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end, otherwise)


class Orders:
    """What waits for one device, in the order in which it came: an iterator for its adapter, which never ends."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self.timeout = timeout
        self._served = False  # somebody iterates, or soon will
        self._waiting: deque[Order] = deque()
        self._taken: list[Order] = []
        self._news = asyncio.Event()

    def serve(self) -> Self:
        """Take orders from now on."""
        self._served = True
        return self

    def put(self, order: Order, patience: float) -> None:
        """Have it carried out if that can begin within `patience` seconds; a device that cannot answers at once."""
        if not self._served:
            order.refuse("the device takes no commands")
            return
        self._taken = [taken for taken in self._taken if not taken.answered]
        self._waiting = deque(waiting for waiting in self._waiting if not waiting.answered)
        if len(self._taken) + len(self._waiting) >= QUEUE:
            order.refuse(f"{QUEUE} commands wait for the device already")
            return
        order.within(patience, Outcome("refused", "expired while it waited for others"))
        self._waiting.append(order)
        self._news.set()

    def close(self, reason: str) -> None:
        """Answer all that there is: the device is gone."""
        self._served = False
        waiting, taken = self._waiting, self._taken
        self._waiting, self._taken = deque(), []
        self._news.clear()
        for order in waiting:
            order.refuse(reason)
        for order in taken:
            order.fail(reason)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Order:
        """Return the next one; it has to be answered within the timeout."""
        while True:
            while self._waiting:
                order = self._waiting.popleft()
                if not order.answered:
                    late = f"no answer from the device for {self.timeout:g} s; nobody knows whether it was carried out"
                    order.within(self.timeout, Outcome("timed-out", late))
                    self._taken.append(order)
                    return order
            self._news.clear()
            await self._news.wait()
