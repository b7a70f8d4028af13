"""From the start of the service to its orderly stop: what is opened in which order, and the signals."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

from gateway import logs
from gateway.announce import Announcer
from gateway.clock import Clock
from gateway.config import Config
from gateway.control import Control, place
from gateway.devices import Spent, place_of_spent
from gateway.outbox import Outbox, OutboxError, OutboxInUse
from gateway.service import building
from gateway.service.crew import Crew, end
from gateway.service.parts import Parts, stranger
from gateway.service.reloading import Reloading
from gateway.systemd import Notifier
from gateway.timesync import Sources
from gateway.uplink import Uplink
from gateway.watch import Watch

EX_SOFTWARE = 70  # sysexits.h: a bug
EX_IOERR = 74  # the outbox cannot be opened, or could not be written at the end
EX_TEMPFAIL = 75  # another process has it open
GRACE = 1.5
"""Seconds that the uplinks have, on an orderly stop, to deliver what is in memory before it goes to the card."""


def run(
    config: Config,
    *,
    file: Path | None = None,
    log_format: str = "auto",
    log_level: str = "info",
    clock: Clock | None = None,
    forget: Sequence[str] = (),
) -> int:
    """Run until SIGTERM or SIGINT, and return the exit status.

    `file`: where the config came from, and is read again from on SIGHUP. `clock`: this one instead of the machine's.
    `forget`: the uplinks to let go of first.
    """
    logs.configure(log_format, log_level)
    logger = structlog.get_logger()
    try:
        return asyncio.run(_serve(config, file, logger, clock or Clock(evidence=Sources()), forget))
    except OutboxError as error:
        print(f"sensor-gateway: {error}", file=sys.stderr)  # noqa: T201 (the last word to whoever started it)
        return EX_TEMPFAIL if isinstance(error, OutboxInUse) else EX_IOERR
    except Exception:
        logger.exception("sensor-gateway has a bug; please report it with these lines")
        return EX_SOFTWARE


async def _serve(config: Config, file: Path | None, logger: Any, clock: Clock, forget: Sequence[str]) -> int:
    notifier = Notifier()
    stop = _on_signals(logger)
    crew = Crew()
    try:
        # Left in the reverse order: the uplinks first, the outbox last.
        async with (
            building.outbox(config, logger, clock) as outbox,
            Announcer(outbox) as announcer,
            Spent(place_of_spent(config.outbox.path), logger) as spent,
        ):
            await _forget(outbox, forget, logger)
            async with Parts(config, outbox, announcer, spent, clock, crew, logger) as parts, AsyncExitStack() as ears:
                bounds = {"max_size": config.outbox.max_size, "keep_free": config.outbox.keep_free}
                uplinks, devices = parts.uplinks.values(), parts.devices.values()
                watch = Watch(notifier, outbox, announcer, uplinks, devices, bounds)
                reloading = Reloading(file, parts, crew, notifier, watch, logger)
                parts.start_devices({**watch.commands(), "reload": reloading.command})
                requests = {**watch.requests(), "reload": reloading.request}
                await _listen(ears, Control(place(config.outbox.path), requests, logger), logger)
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloading.on_signal)
                _keep_what_is_there()
                notifier.send(READY="1", STATUS=watch.status())
                logger.info(
                    "sensor-gateway is running",
                    id=config.gateway.id,
                    epoch=outbox.epoch,
                    devices=len(devices),
                    uplinks=len(uplinks),
                )
                await _until(stop, crew, watch, reloading, parts)
                notifier.send(STOPPING="1", STATUS="stopping: the devices are closed, what is in memory goes out")
                announcer.flush()
                await asyncio.gather(*(uplink.drained(GRACE) for uplink in uplinks))
                await outbox.flush()
        lost = sum(outbox.unwritten.values())
        if lost:
            logger.error("sensor-gateway has stopped, and readings are lost", taken_in=outbox.taken_in, readings=lost)
        else:
            logger.info("sensor-gateway has stopped in order", taken_in=outbox.taken_in, **_accounts(uplinks))
        said = f"stopped; {lost} readings are lost, because the card takes nothing" if lost else "stopped in order"
        notifier.send(STATUS=said, X_FIGURES=watch.figures())
        return EX_IOERR if lost else 0
    finally:
        notifier.close()


def _keep_what_is_there() -> None:
    """Have the garbage collector pass over all that a service is made of.

    It would look through that again and again, for 30 ms of CPU on a fast machine, in which no device is read.
    """
    gc.collect()
    gc.freeze()


def _accounts(uplinks: Collection[Uplink]) -> dict[str, dict[str, int]]:
    return {
        uplink.name: {
            "delivered": uplink.account.delivered,
            "waiting": uplink.account.waiting,
            "lost": uplink.account.lost,
        }
        for uplink in uplinks
    }


async def _forget(outbox: Outbox, names: Sequence[str], logger: Any) -> None:
    """Let go of these uplinks, and say of each other one that is not in the config how to let go of it."""
    for name in names:
        try:
            count = await outbox.forget(name)
        except (ValueError, OSError) as error:  # perhaps it was forgotten at an earlier start
            logger.warning("nothing to forget", uplink=name, error=str(error))
        else:
            logger.warning(f'uplink "{name}" is forgotten', **{"readings given up": count})
    for name, waiting in outbox.strangers.items():
        logger.warning(stranger(name), waiting=waiting)


async def _listen(stack: AsyncExitStack, control: Control, logger: Any) -> None:
    """Listen to the command line, where there can be a socket."""
    try:
        await stack.enter_async_context(control)
    except OSError as error:
        logger.warning("the command line cannot reach the service: no socket beside the outbox", error=str(error))


async def _until(stop: asyncio.Event, crew: Crew, watch: Watch, reloading: Reloading, parts: Parts) -> None:
    """Let everything run until `stop`, then close the devices. Raises what a part raises that should not."""
    works = {"report": watch.report(), "guard": watch.guard(), "measure": watch.measure()}
    own = [crew.start(work, name) for name, work in works.items()]
    try:
        await crew.until(stop)
    finally:
        await end(*own)
        await reloading.finish()
        await parts.close_devices()


def _on_signals(logger: Any) -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        logger.info("stopping", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the config has only just been read
    return stop
