"""Read the config again while the service runs, and have what differs applied: all of it, or nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.config import Config, ConfigError, load
from gateway.mqtt.aside import aside
from gateway.service.crew import Crew
from gateway.service.parts import Parts
from gateway.service.plan import Plan, plan
from gateway.systemd import Notifier
from gateway.watch import Watch

PROBLEMS = 20
"""Lines about what is wrong in a config, in an answer and in the log."""
COMMAND = "command"
"""Who has asked, where that can be anybody who may publish."""


class WrongConfig(ValueError):
    """The config is wrong: the lines of the message say where and how."""


class Reloading:
    """Reloads, one at a time. `file` is where the config came from; None: nobody knows.

    `watch` says in the status what came of the newest reload, if it did not apply everything. `read` is called on a
    thread.
    """

    def __init__(
        self,
        file: Path | None,
        parts: Parts,
        crew: Crew,
        notifier: Notifier,
        watch: Watch,
        logger: Any,
        *,
        read: Callable[[Path], Config] = load,
    ) -> None:
        self._load = read
        self._watch = watch
        self._file = None if file is None else file.absolute()
        self._parts = parts
        self._crew = crew
        self._notifier = notifier
        self._logger = logger
        self._task: asyncio.Task[None] | None = None
        self._applying = False
        self._again = False
        self._over = False

    def on_signal(self) -> None:
        """Reload, and once more afterwards if that is asked for while one is under way: the file may be newer."""
        if self._over:
            return
        if self._task is None:
            self._begin("SIGHUP").add_done_callback(_heard)
        else:
            self._again = True

    def command(self, _: Mapping[str, Any]) -> Awaitable[Mapping[str, Any]]:
        """Reload, and answer before uplinks are changed: one of them carries the answer. Raises ValueError."""
        return self._told(self._asked(COMMAND))

    async def request(self, file: str, dry: bool = False) -> dict[str, Any]:
        """Reload, and answer when it is done; `dry`: only say what would be. What is wrong in the config is `problems`.

        `file` is the config that is meant. Raises ValueError.
        """
        if self._file is not None and not (self._file.exists() and self._file.samefile(file)):
            raise ValueError(f"the service that runs was started with {self._file}, and would read that")
        try:
            if dry:
                return plan(self._parts.config, await self._read()).told()
            told = await self._told(self._asked("sensor-gateway reload"))
        except WrongConfig as error:
            return {"problems": str(error).splitlines()}
        if self._task is not None:
            await asyncio.wait([self._task])
        return told

    async def finish(self) -> None:
        """Begin none any more, and return when none is under way: what is half changed cannot be stopped in order."""
        self._over, self._again = True, False
        if self._task is not None:
            if not self._applying:
                self._task.cancel()
            await asyncio.wait([self._task])

    def _asked(self, who: str) -> asyncio.Future[Plan]:
        if self._over:
            raise ValueError("the service is stopping")
        if self._task is not None:
            raise ValueError("a reload is under way already")
        return self._begin(who)

    async def _told(self, plan: asyncio.Future[Plan]) -> dict[str, Any]:
        return (await plan).told()

    def _begin(self, who: str) -> asyncio.Future[Plan]:
        told: asyncio.Future[Plan] = asyncio.get_running_loop().create_future()
        self._task = self._crew.start(self._reload(who, told), "reload")
        return told

    async def _reload(self, who: str, told: asyncio.Future[Plan]) -> None:
        self._notifier.send(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))
        try:
            try:
                config = await self._read()
            except ValueError as error:
                self._refuse(who, error)
                if not told.done():
                    told.set_exception(error)
                return
            self._applying = True
            found = await self._parts.change_devices(config, plan(self._parts.config, config))
            self._watch.remark = f"restart to apply {', '.join(found.restart)}" if found.restart else ""
            log = self._logger.warning if found.restart else self._logger.info
            log(f"reloaded: {found}", by=who)
            if not told.done():
                told.set_result(found)
            await self._parts.change_uplinks(found)
        finally:
            told.cancel()  # unless it is done
            self._task, self._applying = None, False
            self._notifier.send(READY="1")
            if self._again:
                self._again = False
                self.on_signal()

    async def _read(self) -> Config:
        """Return what the files say now. Raises ValueError, which has to be said to whoever has asked."""
        file = self._file
        if file is None:
            raise ValueError("this service was not started from a file")
        try:
            return await aside(object(), lambda: self._load(file))
        except ConfigError as error:
            lines = [str(problem) for problem in error.problems[:PROBLEMS]]
            lines += [f"and {len(error.problems) - PROBLEMS} more"] if len(error.problems) > PROBLEMS else []
            raise WrongConfig("\n".join(lines)) from None
        except Exception as error:  # a boundary: it may be of an adapter, and others run
            self._logger.exception("a bug while the config was read; please report it with these lines")
            raise ValueError(f"{type(error).__name__} while the config was read; the log says more") from None

    def _refuse(self, who: str, error: ValueError) -> None:
        """Say it in status and log; there not again, if anybody sends one command after the other."""
        lines = str(error).splitlines()
        remark = f"the config is wrong, the one before goes on ({lines[0]})"
        is_news, self._watch.remark = remark != self._watch.remark, remark
        if not is_news and who == COMMAND:
            return
        for line in lines:
            self._logger.error(line)
        self._logger.error(
            "not reloaded: nothing has changed, and the config as it was goes on. To look at all of it, type: "
            f"sensor-gateway check -c {self._file}",
            by=who,
        )


def _heard(told: asyncio.Future[Plan]) -> None:
    """Take note that it may have failed: that is in the log."""
    if not told.cancelled():
        told.exception()
