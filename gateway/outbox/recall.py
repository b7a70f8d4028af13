"""Recall: what earlier runs have left is found out step by step while the gateway runs, where there was no time before.

What is found can be sent at once, but for what a damaged file held: whose that is, is known when all of it was read.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from gateway.outbox.card.opening import Damaged, is_damage
from gateway.outbox.card.salvage import Salvaged
from gateway.outbox.card.store import Store
from gateway.outbox.card.writer import Writer
from gateway.outbox.log import Log
from gateway.outbox.renewal import adopt, reveal
from gateway.outbox.times import Times

STEP = 0.02
"""Seconds of one step: what a transaction that is due has to wait. The pause after it is as long."""
LATER = 1.0
"""Seconds until it is tried again, if the card fails."""


class Recall:
    """Goes on until all is known. `on_news` is called after each step that has found anything.

    `on_damage` is called where the file is not what was written. `secure`: see `Keeper`.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        writer: Writer,
        times: Times,
        *,
        on_news: Callable[[], None],
        on_damage: Callable[[], None],
        secure: Callable[[Callable[[], None]], None],
        logger: Any,
    ) -> None:
        self._log = log
        self._store = store
        self._writer = writer
        self._times = times
        self._on_news = on_news
        self._on_damage = on_damage
        self._secure = secure
        self._logger = logger
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._readings = 0  # that were found

    def open(self) -> None:
        """Begin, if there is anything to find out."""
        if self._log.hidden:
            self._begin(self._go_on())

    def close(self) -> None:
        """Stop; the next start goes on."""
        for task in self._tasks:
            task.cancel()

    async def _go_on(self) -> None:
        while True:
            began = self._loop.time()
            try:
                found = await self._writer.submit(partial(self._store.go_on, STEP))
            except (sqlite3.Error, Damaged, ValueError, OSError) as error:
                if is_damage(error):
                    self._on_damage()
                await asyncio.sleep(LATER)
                continue
            if found is None:
                break
            if isinstance(found, Salvaged):
                self._adopt(found)
            elif found.end > found.start:
                reveal(self._log, found)
                self._readings += max(found.waiting.values(), default=0)
                self._on_news()
            await asyncio.sleep(LATER if self._store.in_standby else self._loop.time() - began)
        self._logger.info("all that the outbox holds is known now", readings=self._readings)

    def _adopt(self, found: Salvaged) -> None:
        adopt(self._log, found)
        self._times.learn([run.epoch for run in found.runs])
        self._secure(lambda: self._begin(self._put_away(found)))

    async def _put_away(self, found: Salvaged) -> None:
        """The card knows all: the damaged file is not needed any more."""
        try:
            kept = await self._writer.submit(partial(self._store.put_away, is_ours=found.found))
        except OSError:  # the next start does it
            return
        self._logger.warning(found.say("", kept or self._store.path))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
