"""Keep each device running: open it, take its readings in, back off when it fails, open it again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from structlog.typing import FilteringBoundLogger

from gateway import registry
from gateway.adapter import Adapter, Metric, Silent
from gateway.backoff import Backoff
from gateway.clock import BOOTTIME
from gateway.devices.aggregating import Aggregating
from gateway.devices.memory import Memory
from gateway.devices.metrics import Last, free, is_plain, plan, shape
from gateway.devices.orders import TIMEOUT, Order, Orders
from gateway.devices.wording import excerpt, span, words
from gateway.reading import Value, Values


class Put(Protocol):
    """Take a reading of a stream in, with the device's own time and, where it is not 0, its age in seconds.

    Answers None, or something to wait for because the gateway is behind.
    """

    def __call__(
        self, stream: str, values: dict[str, Value], time: float | None, age: float = ..., /
    ) -> Awaitable[None] | None: ...


# Absent -> opening -> online -> silent, if it says nothing; failed: by a bug; finished: nothing more to say.
State: TypeAlias = Literal["absent", "opening", "online", "silent", "failed", "finished"]

OLDEST = 3600.0  # seconds: no reading that is taken in is older
PATIENCE = 10.0  # seconds that a device must last to be believed without a reading, or a new reason to be worth a line

_REASONS = 64  # different reasons counted for one device; the rest is "other reasons"
_NAMES = 256  # names remembered as good for one device
_AGAIN = 60.0  # seconds between two lines about one reason to skip


@dataclass(slots=True)
class _Skips:
    """How often one reason to skip came up, and how much of that the log knows."""

    count: int = 0
    said: int = 0
    at: float = -inf


@dataclass(slots=True)
class _Trouble:
    """One time of not being online: since when, how many attempts, and the reasons that the log knows."""

    since: float
    reason: str
    changed: float
    attempts: int = 1
    said: set[str] = field(default_factory=set)


class RunningDevice:
    """One configured device while the gateway runs: the `Device` that its adapter sees, and the owner of its retries.

    A device starts offline; `on_state(name, online)` is called on each change and never otherwise. `put` takes a
    reading into the outbox. `memory` is the file in which the device remembers; None: nowhere. `computed` are formulas
    by the names of the metrics that they make.
    """

    def __init__(
        self,
        name: str,
        adapter: Adapter,
        metrics: Mapping[str, Metric],
        put: Put,
        *,
        on_state: Callable[[str, bool], None],
        log: FilteringBoundLogger,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        bug_delay: float = 60.0,
        patience: float = PATIENCE,
        burst: int = 500,
        command_timeout: float = TIMEOUT,
        memory: Path | None = None,
        computed: Mapping[str, str] | None = None,
        boot: Callable[[], float] = BOOTTIME,
    ) -> None:
        self.name = name
        self.adapter = adapter
        self.memory = Memory(memory, name, log)
        self.state: State = "absent"
        self.reason: str | None = None  # why it is not online, in words; None while it is, or before the first failure
        self.taken_in = 0
        self.unchanged = 0  # readings of which nothing was left on purpose: hardly changed, dropped, in a window
        self.flagged = 0  # values beyond their limits that were taken in all the same
        self.failures = 0
        self._plan = plan(metrics, computed)
        self._unmade = {name for name, _ in self._plan.computed}  # formulas of which nothing has come yet
        self._planned = self._plan.first.keys() | self._plan.then.keys()
        self._last: dict[str, Last] = {}  # of metrics that are left out when they have hardly changed
        self._boot = boot
        self._windows = Aggregating(name, self._plan.spans, self._put_window, memory, log, boot=boot)
        self._names: set[str] = set()  # names that need no further look
        self._renamed: set[str] = set()
        self._put = put
        self._on_state = on_state
        self._log = log
        self._backoff = backoff or Backoff(0.1, 2.0)
        self._clock = clock
        self._bug_delay = bug_delay
        self._patience = patience
        self._burst = burst
        self._unbroken = 0  # readings taken in since the loop could do something else
        self._skips: dict[str, _Skips] = {}
        self._trouble: _Trouble | None = None
        self._opened: float | None = None  # when this attempt said that the device is there
        self._proven = False  # by a reading, in this attempt
        self._doubted = False  # the last attempt opened, and failed soon without a reading
        self._belief: asyncio.TimerHandle | None = None
        self._orders = Orders(command_timeout)
        self._task: asyncio.Task[None] | None = None  # of `run`
        self._restarting = False

    @property
    def skipped(self) -> dict[str, int]:
        """How often input was thrown away, for each reason."""
        return {reason: skips.count for reason, skips in self._skips.items()}

    async def run(self) -> None:
        """Keep the device running until it has nothing more to say. Only cancellation ends it before."""
        self._task = asyncio.current_task()
        async with self.memory, self._windows:
            try:
                delay = await self._attempt()
                while delay is not None:
                    if self._task is not None and self._task.cancelling():
                        raise asyncio.CancelledError  # which the adapter, or a library of its, has swallowed
                    await self._pause(delay)
                    delay = await self._attempt()
            finally:
                self._task = None
                if self.state != "finished":
                    self._become("absent")

    async def _attempt(self) -> float | None:
        """Run the adapter once; return the seconds until the next attempt, or None if there is to be none."""
        self._opened, self._proven = None, False
        if self.state == "absent":  # one that was silent or failed stays so until it is online
            self._become("opening")
        try:
            await self.adapter.run(self)
        except asyncio.CancelledError as error:
            if self._restarted():
                self._log.info(f"{self.name}: restarted")
                self._backoff.reset()
                self._become("absent")
                return 0.0
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return self._broke(error)  # the adapter let a cancellation of its own escape
        except Exception as error:  # noqa: BLE001 - the boundary: whatever an adapter does wrong stays with its device
            return self._failed(error) if _is_only(error, OSError) else self._broke(error)
        finally:
            if self._belief is not None:
                self._belief.cancel()
                self._belief = None
            self._restarted()  # it may have failed on the way out
            self._orders.close("the device was lost")
        self._windows.finish()
        self._become("finished")
        self._log.info(f"{self.name}: finished: it has nothing more to say")
        return None

    async def _pause(self, delay: float) -> None:
        try:
            await asyncio.sleep(delay)
        except asyncio.CancelledError:
            if not self._restarted():
                raise

    @property
    def command_timeout(self) -> float:
        """Seconds that the device has to carry out a command."""
        return self._orders.timeout

    @command_timeout.setter
    def command_timeout(self, seconds: float) -> None:
        self._orders.timeout = seconds

    def declare(self, metrics: Mapping[str, Metric], computed: Mapping[str, str] | None = None) -> None:
        """Have other metrics and formulas from the next reading on, and the windows as they are.

        Raises ValueError for other windows: they need a device that begins anew.
        """
        fresh = plan(metrics, computed)
        if fresh.spans != self._plan.spans:
            raise ValueError(f"{self.name}: other windows")
        self._plan = fresh
        self._planned = fresh.first.keys() | fresh.then.keys()
        self._names.clear()
        self._last.clear()

    def restart(self) -> None:
        """Close the device and open it again at once. Raises ValueError for one that has nothing more to say."""
        if self._task is None:
            raise ValueError("it is not running")
        if not self._restarting:
            self._restarting = True
            self._task.cancel()

    def _restarted(self) -> bool:
        """Take a cancellation by `restart` back; return whether there was one, and no other."""
        restarting, self._restarting = self._restarting, False
        return restarting and self._task is not None and self._task.uncancel() == 0

    def commands(self) -> Orders:
        """Return what the outside asks for. See `gateway.Device.commands`."""
        return self._orders.serve()

    def order(self, order: Order, patience: float) -> None:
        """Have a command carried out that can wait for `patience` seconds; refuse it at once if the device is away."""
        if self.state != "online":
            order.refuse(f"the device is {self.state}" + (f": {self.reason}" if self.reason else ""))
        else:
            self._orders.put(order, patience)

    def online(self) -> None:
        """Take note that the device is there.

        A device that opened and failed again at once, without a reading, is not believed the next time until it gives
        a reading or lasts: a port that opens and breaks in a circle fills neither the log nor the status topic.
        """
        if self._opened is not None:
            return
        self._opened = self._clock()
        if self._doubted:
            self._belief = asyncio.get_running_loop().call_later(self._patience, self._arrive)
        else:
            self._arrive()

    async def emit(self, values: Values, time: float | None = None, *, age: float = 0.0) -> None:
        """Take a reading in. See `gateway.Device.emit`."""
        waiting = self.take_in(values, time, age=age)
        if waiting is not None:
            self._unbroken = 0
            await waiting
            return
        self._unbroken += 1
        if self._unbroken >= self._burst:
            self._unbroken = 0
            await asyncio.sleep(0)  # a flooding device lets the others have their turn

    def take_in(self, values: Values, time: float | None = None, *, age: float = 0.0) -> Awaitable[None] | None:
        """Take a reading in. See `gateway.Device.take_in`."""
        # A copy even of what is plain: what is taken in belongs to the gateway.
        plain = not self._plan.computed and is_plain(values, self._names)
        taken = dict(values) if plain else self._shaped(values)
        if not self._proven:
            self._prove()
        if not taken:
            return None
        if time is not None and not -inf < time < inf:
            self.skip("device time that is not finite")
            time = None
        self.taken_in += 1
        if age:
            if 0 < age <= OLDEST:
                return self._put(self.name, taken, time, age)
            self.skip("an age that cannot be right")
        return self._put(self.name, taken, time)

    def skip(self, reason: str, sample: bytes = b"") -> None:
        """Count input that was thrown away; log the first of each reason, then at most one line a minute."""
        skips = self._skips.get(reason)
        if skips is None:
            reason = reason if len(self._skips) < _REASONS else "other reasons"
            skips = self._skips.setdefault(reason, _Skips())
        skips.count += 1
        now = self._clock()
        if now - skips.at < _AGAIN:
            return
        more = f" {skips.count - skips.said} more" if skips.said else ""
        self._log.warning(f"{self.name}: skipped{more}: {reason}{excerpt(sample)}")
        skips.said, skips.at = skips.count, now

    def _shaped(self, values: Values) -> dict[str, Value]:
        now = self._boot()
        shaped = shape(values, self._plan, self._last, now)
        for reason, name in shaped.faults:
            self.skip(reason, name.encode(errors="replace"))
        if self._unmade:  # one that is never made is misspelt, and one that was is of another kind of reading
            self._unmade.difference_update(shaped.made)
            for name in self._unmade.intersection(shaped.unmet):
                self.skip("a formula of whose metrics no reading has had any", name.encode())
        for name in shaped.renamed:
            if name not in self._renamed:
                self._renamed.add(name)
                self._log.warning(f'{self.name}: "{name}" is a reserved name; published as "{free(name, values)}"')
        if shaped.windowed:
            self._windows.add(shaped.windowed, now)
        self._last.update(shaped.known)
        self.flagged += shaped.flagged
        if shaped.values:
            if not shaped.renamed and len(self._names) + len(shaped.values) <= _NAMES:
                self._names.update(shaped.values.keys() - self._planned)
        elif shaped.withheld:
            self.unchanged += 1
        elif not shaped.faults:
            self.skip("nothing in it")
        return shaped.values

    def _put_window(self, values: dict[str, Value], time: float | None) -> None:
        self.taken_in += 1
        self._put(self.name, values, time)  # once for each window: too seldom to be made to wait

    def _prove(self) -> None:
        self._proven = True
        self._doubted = False
        self._backoff.reset()
        if self._opened is None:
            self._opened = self._clock()
        self._arrive()

    def _arrive(self) -> None:
        if self.state == "online":
            return
        trouble, self._trouble, self.reason = self._trouble, None, None
        if trouble is None:
            self._log.info(f"{self.name}: online")
        else:
            attempts = "1 attempt" if trouble.attempts == 1 else f"{trouble.attempts} attempts"
            self._log.info(f"{self.name}: back after {span(self._clock() - trouble.since)} ({attempts})")
        self._become("online")

    def _become(self, state: State) -> None:
        before, self.state = self.state, state
        if (before == "online") != (state == "online"):
            self._on_state(self.name, state == "online")

    def _failed(self, error: BaseException) -> float:
        """Account for an absence; say it once, and another reason only when it stays."""
        reason = words(error)
        trouble = self._fall("silent" if _is_only(error, Silent) else "absent", reason)
        settled = self._clock() - trouble.changed >= self._patience and not isinstance(error, FileNotFoundError)
        if not trouble.said:
            self._log.warning(f"{self.name}: {reason}")
            trouble.said.add(reason)
        elif reason not in trouble.said and settled and len(trouble.said) < _REASONS:
            self._log.warning(f"{self.name}: still away: {reason}")
            trouble.said.add(reason)
        return self._backoff.next()

    def _broke(self, error: BaseException) -> float:
        """Account for a bug in the adapter; say it with its traceback, once for each time of trouble."""
        reason = f"{type(error).__name__}: {words(error)}"
        trouble = self._fall("failed", reason)
        if reason not in trouble.said and len(trouble.said) < _REASONS:
            whose = registry.described(type(self.adapter))
            self._log.error(f"{self.name}: a bug in {whose}: {reason}", exc_info=error)
            trouble.said.add(reason)
        return self._bug_delay

    def _fall(self, state: State, reason: str) -> _Trouble:
        now = self._clock()
        self.failures += 1
        self.reason = reason
        self._log.debug(f"{self.name}: failure {self.failures}: {reason}")
        if self._opened is not None:
            self._doubted = not self._proven and now - self._opened < self._patience
        self._become(state)
        if self._trouble is None:
            self._trouble = _Trouble(since=now, reason=reason, changed=now)
            return self._trouble
        self._trouble.attempts += 1
        if reason != self._trouble.reason:
            self._trouble.reason, self._trouble.changed = reason, now
        return self._trouble


def _is_only(error: BaseException, kind: type[Exception]) -> bool:
    if isinstance(error, BaseExceptionGroup):  # an adapter may run several tasks
        return error.split(kind)[1] is None
    return isinstance(error, kind)
