"""The committer: a keeper that decides when the card is written, and what is given up when it is full."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.outbox.bounds import Bounds
from gateway.outbox.card.opening import is_damage
from gateway.outbox.card.place import Gone
from gateway.outbox.card.room import Written
from gateway.outbox.card.store import Store
from gateway.outbox.card.writer import Writer
from gateway.outbox.commit import Commit
from gateway.outbox.ledger import Loss
from gateway.outbox.log import Log
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.recall import Recall
from gateway.outbox.renewal import on_card, recovered
from gateway.outbox.shedding import Shedding
from gateway.outbox.shelf import Bad, Page
from gateway.outbox.times import Times
from gateway.outbox.trouble import Trouble

MARGIN = 0.02
"""Seconds that the writer's thread may have to wait for its turn on a busy machine."""
LEAD = 0.25
"""Part of the interval by which a transaction begins earlier, at most, so that it is over in time."""
SLOW = 2.0
"""Seconds after which a transaction that is not over counts as a fault of the card."""
TRIES = 12
"""How often the card is asked for a block that it does not give, over half a minute, before that counts as lost."""
SPARE = 2048
"""Unused pages from which on space is given back; a quarter of them stays, to be used again."""
STEP = 512
"""Pages that are given back at once."""
BETWEEN = 0.02
"""Seconds between two such steps."""
AGING = 1.0
"""Seconds between two looks for what is too old, at least, while nothing else is written."""


class Committer:
    """One transaction at a time, begun so early that no reading is only in memory for longer than `interval` seconds.

    `on_change` is called after every transaction, done or failed, and `on_news` when more is known of what earlier runs
    have left. See `Keeper`.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        writer: Writer,
        times: Times,
        bounds: Bounds,
        *,
        interval: float,
        on_change: Callable[[], None],
        on_news: Callable[[], None],
        logger: Any,
    ) -> None:
        self.commits = 0
        self.used = 0  # bytes on the card
        self.unwritten: Mapping[str, int] = {}
        self._log = log
        self._store = store
        self._writer = writer
        self._times = times
        self._bounds = bounds
        self._interval = interval
        self._on_change = on_change
        self._logger = logger
        self._loop = asyncio.get_running_loop()
        self._writing = Trouble("written", "readings stay in memory", logger)
        self._reading = Trouble("read", "what is on the card waits, and new readings go", logger)
        self._unread: dict[int, int] = {}  # id -> how often the card was asked in vain for what begins there
        self._broken = False  # the file is to be set up anew before anything else
        self._cost = 0.0  # seconds that a transaction takes, lately
        self._last = times.now()  # when the last one began
        self._retry_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._tidying = False  # the timer is only for what may wait
        self._busy: asyncio.Task[None] | None = None
        self._wanted = 0  # somebody waits for every id below
        self._upto = 0  # every id below is in the transaction that is under way, or was in an earlier one
        self._over, self._next_over = asyncio.Event(), asyncio.Event()  # that transaction, and the one after it
        self._shedding = Shedding(log, store, writer, times, bounds)
        self._why = ""  # it is broken
        self._giving: asyncio.Task[None] | None = None
        self._closed = False
        self._aging: asyncio.TimerHandle | None = None
        self._recall = Recall(
            log,
            store,
            writer,
            times,
            on_news=on_news,
            on_damage=self._break,
            secure=self.secure,
            logger=logger,
        )
        self._recall.open()
        if bounds.max_age is not None:
            self._look_for_age(0.0)  # at what an earlier run has left

    def schedule(self) -> None:
        """Arrange for the next transaction, after something was put in or has met its end. Once for many readings."""
        if self._timer is not None:
            if not self._tidying and not self._pressed:  # then it is for an older reading than what was put in just now
                return
            self._timer.cancel()
            self._timer = None
        if self._busy is not None or self._closed:
            return
        if (due := self._due()) is not None:
            delay = due - self._times.now()
            if delay <= 0.0:
                self.begin()
            else:
                self._tidying = self._log.oldest() is None
                self._timer = self._loop.call_later(delay, self._on_timer)

    def begin(self) -> None:
        """Start a transaction now, unless one is under way or there is nothing to write."""
        if self._busy is None and not self._closed and self._due() is not None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._busy = self._loop.create_task(self._commit())

    def secure(self, then: Callable[[], None]) -> None:
        """Call `then` once all that the log knows now is on the card; what is asked for meanwhile shares the next."""
        self._log.urgent.append(then)
        self.schedule()

    async def stored(self, one: int) -> None:
        """Return once this id is on the card, or needs not be. Many that wait cost little."""
        while not self._log.is_stored(one) and not self._closed:
            self._wanted = max(self._wanted, one + 1)
            self.schedule()
            # One that is set is of a transaction that has failed: the next has not begun, and will have it.
            under_way = one < self._upto and not self._over.is_set()
            await (self._over if under_way else self._next_over).wait()

    @property
    def fault(self) -> str | None:
        """Why the card takes nothing now, in the ledger's words; None if it does."""
        return self._writing.reason

    async def read(self, start: int, upto: int, limit: int) -> tuple[Page, list[Bad]]:
        """Read back, after a while if the card cannot be read now. See `Keeper`."""
        if (kept := self._log.kept) and upto > kept[0].id:
            if start >= kept[0].id:
                return Page(start, upto, [one for one in kept if start <= one.id < upto]), []
            upto = kept[0].id
        try:
            found = await self._writer.submit(partial(self._store.read, start, upto, limit))
            while self._shedding.is_stale(found[0]):
                found = await self._writer.submit(partial(self._store.read, start, upto, limit))
        except sqlite3.Error as error:
            if is_damage(error):
                self._break()
            await asyncio.sleep(self._reading.met(error))
            return await self._unreadable(start, upto)
        self._unread.pop(start, None)
        self._reading.over()
        return found

    async def _unreadable(self, start: int, upto: int) -> tuple[Page, list[Bad]]:
        """Return nothing, for now; or what has been asked for too often as damaged."""
        self._unread[start] = self._unread.get(start, 0) + 1
        if self._unread[start] < TRIES:
            return Page(start, start, []), []
        del self._unread[start]
        try:
            blocks = await self._writer.submit(partial(self._store.pass_over, start, upto))
        except sqlite3.Error:
            self._break()
            return Page(start, start, []), []
        return Page(start, blocks[0][1] + 1 if blocks else upto, []), blocks

    async def ledger(self) -> list[Loss]:
        """Return the ledger: what is on the card, and what will be with the next transaction."""
        pending = list(self._log.ledger.losses)
        return await self._writer.submit(self._store.ledger) + pending

    async def quarantined(self) -> list[Quarantined]:
        """Return what is set aside: what is on the card, and what will be with the next transaction."""
        pending = self._log.quarantine.copy()
        return pending.view(await self._writer.submit(self._store.quarantined))

    async def flush(self) -> None:
        """Write all that is not on the card and not delivered, now. Gives up after three failures."""
        log = self._log
        for _ in range(3):
            while self._busy is not None:
                await asyncio.wait([self._busy])
            if log.oldest() is None and not log.restless and not log.urgent:
                return
            self.begin()
        if self._busy is not None:
            await asyncio.wait([self._busy])

    async def alive(self) -> None:
        """Return when the thread has got through all that it had to do."""
        await self._writer.submit(lambda: None)

    async def close(self) -> None:
        """Begin no further transaction, and close the file."""
        self._closed = True
        self._recall.close()
        for waiting in (self._timer, self._aging, self._giving):
            if waiting is not None:
                waiting.cancel()
        self._over.set()
        self._next_over.set()
        self.unwritten = self._log.unwritten()
        if self.unwritten:
            self._logger.error(
                "the card takes nothing: readings that are only in memory are lost", readings=dict(self.unwritten)
            )
        elif not self._is_settled:
            self._logger.error("the card takes nothing: what was lost or set aside lately will not be known")
        self._writer.submit(partial(self._store.close, clean=not self.unwritten and self._is_settled))
        if not await self._writer.stop(3.0):
            self._logger.error("the card does not answer; left without closing the outbox")

    @property
    def _is_settled(self) -> bool:
        """Whether the card knows all that was lost or set aside."""
        return not self._log.ledger.losses and not self._log.quarantine

    @property
    def _pressed(self) -> bool:
        """Whether somebody waits for the next transaction, or it is to set the file up anew."""
        log = self._log
        return (
            self._broken
            or bool(log.urgent)
            or self._wanted > log.flushed
            or (log.durable_first and log.oldest() is not None)
        )

    def _due(self) -> float | None:
        """Return the time since boot at which the next transaction must begin; None if there is nothing to write."""
        lead = min(self._interval * LEAD, 2 * self._cost + MARGIN)
        due = self._log.due(self._interval, lead, self._last)
        if self._broken or (due is not None and self._pressed):
            due = 0.0
        return None if due is None else max(due, self._retry_at)

    def _on_timer(self) -> None:
        self._timer = None
        due = self._due()
        if due is not None and due <= self._times.now() + 0.001:
            self.begin()
        else:
            self.schedule()

    async def _commit(self) -> None:
        try:
            if self._broken:
                await self._recover()
            await self._transact()
        except (sqlite3.Error, OSError) as error:
            if not self._broken and (isinstance(error, Gone) or is_damage(error)):
                self._broken, self._why = True, str(error)  # at once
            else:
                self._retry_at = self._times.now() + self._writing.met(error)
                self._bounds.on_fault(self._writing.reason)
        finally:
            self._busy = None
            self._over.set()
            self._on_change()
            self.schedule()

    async def _transact(self) -> None:
        log = self._log
        commit, correction = self._shedding.begin(), self._times.correction()
        self._upto = commit.upto
        self._over, self._next_over = self._next_over, asyncio.Event()
        began = self._last = self._times.now()
        if commit.void and correction is None:
            log.finish(commit, log.blocks)
            return
        slow = self._loop.call_later(SLOW, self._on_slow)
        try:
            written = await self._writer.submit(partial(self._store.commit, commit, correction))
        except BaseException:
            log.failed(commit)
            self._shedding.failed()
            raise
        finally:
            slow.cancel()
        self._cost += (self._times.now() - began - self._cost) / 4
        self._times.stored(correction)
        self._done(commit, written)
        await self._bound(commit, written)

    async def _recover(self) -> None:
        """Set the file up anew; what it has lost and memory does not have goes into the ledger."""
        log = self._log
        claims = {name: follower.claim for name, follower in log.followers.items()}
        before = on_card(log)
        present = await self._writer.submit(partial(self._store.recover, claims, log.tail.start))
        left = await self._writer.submit(partial(self._store.waiting, claims))
        self._broken = False
        lost = recovered(log, present, {name: before[name] - left[name] for name in before})
        self._logger.error(
            "the outbox was set up anew, with what is in memory, and with as much of what it held as could be had",
            why=self._why,
            **{"readings lost": lost},
        )
        self._bounds.tell()

    def _break(self) -> None:
        """Have the file set up anew with the next transaction."""
        if not self._broken:
            self._broken, self._why = True, "it is damaged"
            self.schedule()

    def _on_slow(self) -> None:
        self._writing.met(TimeoutError(f"the card has not taken a transaction for {SLOW:g} s"))
        self._bounds.on_fault(self._writing.reason)
        self._on_change()

    def _done(self, commit: Commit, written: Written) -> None:
        self.commits += 1
        self._shedding.done(commit, written)
        self.take_note(written)
        self._log.finish(commit, written.blocks)
        self._retry_at = 0.0
        self._writing.over()
        self._bounds.on_fault(None)
        if written.is_long:
            self._writer.submit(self._store.checkpoint)
        if written.spare > SPARE and self._giving is None:
            self._giving = self._loop.create_task(self._give_back())
        for then in commit.then:
            self._loop.call_soon(then)

    async def _give_back(self) -> None:
        """Return space that a drained backlog has left, in steps that hold up no transaction."""
        with suppress(sqlite3.Error):  # the next transaction will meet it, and say so
            while await self._writer.submit(partial(self._store.give_back, STEP, SPARE // 4)):  # noqa: ASYNC110
                await asyncio.sleep(BETWEEN)
            self.take_note(self._store.written())
        self._giving = None

    def take_note(self, written: Written) -> None:
        """Take note of how full the card is."""
        self.used = written.used
        self._shedding.take_note(written)

    async def _bound(self, commit: Commit, written: Written) -> None:
        """Give up what is too much or too old; the next transaction deletes it."""
        with suppress(sqlite3.Error):  # the next transaction will meet it, and say so
            if await self._shedding.bound(commit, written):
                self._log.noted = True
                self._last = float("-inf")  # it is due now
            if self._bounds.max_age is not None and written.blocks:
                self._look_for_age(max(AGING, self._shedding.too_old_in))

    def _look_for_age(self, wait: float) -> None:
        """See to it that there is a transaction in `wait` seconds, after which what is too old is given up."""
        if self._aging is not None:
            self._aging.cancel()
        self._aging = None if self._closed else self._loop.call_later(wait, self._on_age)

    def _on_age(self) -> None:
        self._aging = None
        self._log.noted = True
        self._last = float("-inf")  # it is due now
        self.schedule()
