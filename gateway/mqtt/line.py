"""The transport of a link: what goes over it, when it is read, and by when the broker must have answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from gateway.mqtt.doze import Doze
from gateway.mqtt.errors import ConnectionLost
from gateway.mqtt.gate import Gate
from gateway.mqtt.options import Options
from gateway.mqtt.session import PINGREQ
from gateway.mqtt.trace import Trace
from gateway.mqtt.watch import Watch

# So much may wait in this process for the broker to read before the link counts as paused; well above a usual window.
_MOST_BUFFERED = 256 * 1024
_RESUME_BELOW = 192 * 1024


class Line:
    """Owns the transport and the one timer. `oldest` tells since when a message is owed an answer, else None.

    `lose` is called when an answer is overdue. Deadlines begin with `open` and end with `shut`.
    """

    def __init__(
        self,
        options: Options,
        level: int,
        grain: float,
        oldest: Callable[[], float | None],
        lose: Callable[[ConnectionLost], None],
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.gate = Gate()
        self.doze = Doze(options.ack_lag, self.gate)
        self._loop = asyncio.get_running_loop()
        self._watch = Watch(options, grain, self._loop.time())
        self._trace = Trace(options.trace, level) if options.trace is not None else None
        self._patience = options.ack_timeout
        self._grain = grain
        self._oldest = oldest
        self._lose = lose
        self._open = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf  # when the timer goes off

    def attach(self, transport: asyncio.Transport) -> None:
        """Take charge of the transport."""
        self.transport = transport
        self.gate.attach(transport)
        transport.set_write_buffer_limits(high=_MOST_BUFFERED, low=_RESUME_BELOW)

    def open(self, window: int, keep_alive: float) -> None:
        """Watch the deadlines from now on."""
        self._open = True
        # The broker may allow a longer silence than ours, but what lies between may not (see `Address`): never longer.
        self._watch.keep_alive = min(filter(None, (keep_alive, self._watch.keep_alive)), default=0.0)
        self.doze.open(window)
        self._look()

    def shut(self) -> None:
        """Watch them no more, and read whatever still comes."""
        self._open = False
        self.doze.close()
        self.gate.open_wide()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send(self, data: bytes) -> float:
        """Write, and return the loop time of it."""
        now = self._loop.time()
        if self.transport is not None:
            if self._trace is not None:
                self._trace.sent(data)
            self.transport.write(data)
            self._watch.sent = now
        return now

    def came(self, data: bytes) -> None:
        """Take note of what has come."""
        self._watch.heard = True
        if self._trace is not None:
            self._trace.came(data)

    def hold(self, on: bool) -> None:
        """Read nothing while `on`; deadlines wait."""
        if on == self.gate.is_shut("hold"):
            return
        if on:
            self._watch.deaf()
            self.gate.shut("hold")
        else:
            self._watch.listen(self._loop.time())
            self.gate.open("hold")
        self._look()

    def pause(self) -> None:
        """Take note that the broker reads more slowly than we write."""
        now = self._watch.paused = self._loop.time()
        self._arm(now + self._patience)

    def resume(self) -> None:
        """Take note that it reads again."""
        self._watch.paused = None
        self.gate.open("replies")

    @property
    def paused(self) -> bool:
        """Whether the broker does not read."""
        return self._watch.paused is not None

    # -- what is owed

    def owed(self, now: float) -> None:
        """Take note that messages sent at `now` are owed an answer."""
        # An earlier look arms the timer again, so that sending mostly does not have to.
        if now + self._patience + self._grain < self._due:
            self._arm(now + self._patience + self._grain)

    def asked(self, question: int, what: str) -> None:
        """Take note that a question with this number, such as a SUBSCRIBE, is owed an answer."""
        now = self._loop.time()
        self._watch.asked[question] = what, now
        self._arm(now + self._patience)

    def answered(self, question: int) -> None:
        """Take note of its answer."""
        self._watch.asked.pop(question, None)

    def ping(self, again: bool = False) -> None:
        """Send PINGREQ, unless an answer is owed already."""
        if self._watch.pinged is None or again:
            self._watch.pinged = self.send(PINGREQ)
            self._arm(self._watch.pinged + self._patience)

    def ponged(self) -> None:
        """Take note of the answer."""
        self._watch.pinged = None
        if self._watch.keep_alive:
            self._arm(self._watch.sent + self._watch.keep_alive)

    def _arm(self, when: float) -> None:
        """Have a look at `when`, or before."""
        if self._open and when < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due = when
            self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, inf
        verdict = self._watch.look(self._loop.time(), self._oldest())
        if verdict.lost:
            self._lose(ConnectionLost(verdict.lost))
            return
        if verdict.ping:
            self.ping(again=True)
        if verdict.due < inf:
            self._arm(verdict.due)
