"""The composition root: from a config to running parts, and their orderly stop."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from shlex import quote
from typing import Any

import structlog

from gateway import logs
from gateway.announce import Again, Announcer, WithLedger
from gateway.clock import Clock
from gateway.commands import Commands, Listening, Target
from gateway.config import Config
from gateway.config.models import BrokerSection, UplinkSection
from gateway.control import Control, place
from gateway.devices import RunningDevice, place_of_memory
from gateway.formats import FORMATS, Format
from gateway.formats.choosing import choosing
from gateway.formats.packing import Packing
from gateway.mqtt import Options, Will
from gateway.outbox import Outbox, OutboxError, OutboxInUse
from gateway.reading import LEDGER, Publication
from gateway.systemd import Notifier
from gateway.timesync import Sources
from gateway.uplink import Broker, Pace, Readings, Uplink
from gateway.watch import Watch

EX_SOFTWARE = 70  # sysexits.h: a bug
EX_IOERR = 74  # the outbox cannot be opened
EX_TEMPFAIL = 75  # another process has it open
ACK_LAG = 0.05
"""Seconds that an acknowledgement may wait to be read: saves a quarter of the CPU at a calm rate, and is what a broker
that dies can make arrive twice."""
GRACE = 1.5
"""Seconds that the uplinks have, on an orderly stop, to deliver what is in memory before it goes to the card."""


def run(
    config: Config,
    *,
    log_format: str = "auto",
    log_level: str = "info",
    clock: Clock | None = None,
    forget: Sequence[str] = (),
) -> int:
    """Run until SIGTERM or SIGINT, and return the exit status.

    `clock`: this one instead of the machine's. `forget`: the uplinks to let go of first.
    """
    logs.configure(log_format, log_level)
    logger = structlog.get_logger()
    try:
        asyncio.run(_serve(config, logger, clock or Clock(evidence=Sources()), forget))
    except OutboxError as error:
        print(f"sensor-gateway: {error}", file=sys.stderr)  # noqa: T201 (the last word to whoever started it)
        return EX_TEMPFAIL if isinstance(error, OutboxInUse) else EX_IOERR
    except Exception:
        logger.exception("sensor-gateway has a bug; please report it with these lines")
        return EX_SOFTWARE
    return 0


async def _serve(config: Config, logger: Any, clock: Clock, forget: Sequence[str]) -> None:
    notifier = Notifier()
    stop = _on_signals(logger)
    try:
        # Left in the reverse order: the uplinks first, the outbox last.
        async with _outbox(config, logger, clock) as outbox, Announcer(outbox) as announcer, AsyncExitStack() as links:
            await _forget(outbox, forget, logger)
            commands = _commands(config, outbox, clock, lambda name, message: by_name[name].say(message), logger)
            uplinks = [
                _uplink(config, name, section, outbox, announcer, commands, logger)
                for name, section in config.uplinks.items()
            ]
            by_name = {uplink.name: uplink for uplink in uplinks}
            for uplink in uplinks:
                await links.enter_async_context(uplink)
                uplink.retain(_status_topic(config), b"online")
                if config.uplinks[uplink.name].commands:
                    uplink.listen(commands.subscriptions)
            devices = _devices(config, outbox, uplinks, logger)
            bounds = {"max_size": config.outbox.max_size, "keep_free": config.outbox.keep_free}
            watch = Watch(notifier, outbox, announcer, uplinks, devices, bounds)
            commands.serve(
                {device.name: Target(device, config.devices[device.name].metrics) for device in devices},
                watch.commands(),
            )
            await _listen(links, Control(place(config.outbox.path), watch.requests(), logger), logger)
            notifier.send(READY="1", STATUS=watch.status())
            logger.info(
                "sensor-gateway is running",
                id=config.gateway.id,
                epoch=outbox.epoch,
                devices=len(devices),
                uplinks=len(uplinks),
            )
            await _until(stop, [device.run() for device in devices], [uplink.task for uplink in uplinks], watch)
            notifier.send(STOPPING="1", STATUS="stopping: the devices are closed, what is in memory goes out")
            announcer.flush()
            await asyncio.gather(*(uplink.drained(GRACE) for uplink in uplinks))
            await outbox.flush()
        logger.info("sensor-gateway has stopped in order", taken_in=outbox.taken_in, **_accounts(uplinks))
        notifier.send(STATUS="stopped in order", X_FIGURES=watch.figures())
    finally:
        notifier.close()


def _accounts(uplinks: Sequence[Uplink]) -> dict[str, dict[str, int]]:
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
        logger.warning(
            f'uplink "{name}" is no longer in the config; the outbox keeps what it has not delivered. To give that up, '
            f"type: sensor-gateway outbox forget {quote(name)}",
            waiting=waiting,
        )


async def _listen(stack: AsyncExitStack, control: Control, logger: Any) -> None:
    """Listen to the command line, where there can be a socket."""
    try:
        await stack.enter_async_context(control)
    except OSError as error:
        logger.warning("the command line cannot reach the service: no socket beside the outbox", error=str(error))


async def _until(
    stop: asyncio.Event, devices: Sequence[Any], others: Sequence[asyncio.Task[None]], watch: Watch
) -> None:
    """Run the devices until `stop`, then close them. Raises what a part raises that should not."""
    loop = asyncio.get_running_loop()
    running = [loop.create_task(device) for device in devices]
    own = [*running, *(loop.create_task(work) for work in (watch.report(), watch.guard(), watch.measure()))]
    stopping = loop.create_task(stop.wait())
    try:
        pending: set[asyncio.Task[Any]] = {stopping, *own, *others}
        while not stopping.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in (stopping, *own):
            task.cancel()
        await asyncio.wait([stopping, *own], timeout=3.0)


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
    loop.add_signal_handler(
        signal.SIGHUP, lambda: logger.warning("SIGHUP: the config is read at start; restart to apply it")
    )
    return stop


def _outbox(config: Config, logger: Any, clock: Clock) -> Outbox:
    section = config.outbox
    return Outbox(
        section.path,
        list(config.uplinks),
        # At QoS 2 a broker remembers what it was sent, so a restart has to know it as well.
        commit_interval=0.0 if any(uplink.qos == 2 for uplink in config.uplinks.values()) else section.commit_interval,
        max_size=section.max_size,
        keep_free=section.keep_free,
        memory_limit=section.memory_limit,
        max_age=section.max_age,
        when_full=section.when_full,
        streams=list(config.devices),
        high=[name for name, device in config.devices.items() if device.priority == "high"],
        devices={name: uplink.devices for name, uplink in config.uplinks.items() if uplink.devices is not None},
        clock=clock,
        hold_unsynced=section.hold_unsynced,
        logger=logger,
    )


def _status_topic(config: Config, device: str | None = None) -> str:
    levels = [config.gateway.base, config.gateway.id, *([device] if device else []), "status"]
    return "/".join(levels)


def _uplink(
    config: Config,
    name: str,
    section: UplinkSection,
    outbox: Outbox,
    announcer: Announcer,
    commands: Commands,
    logger: Any,
) -> Uplink:
    will = Will(_status_topic(config), b"offline", qos=1, retain=True)
    identity = _client_id(config, name)
    brokers = [_broker(section, endpoint, identity, will) for endpoint in section.endpoints]
    template = section.topic
    known = {"base": config.gateway.base, "gateway": config.gateway.id, "uplink": name}

    def topic(stream: str) -> str:
        return template.format(**known, device=stream)

    return Uplink(
        name,
        brokers,
        WithLedger(
            Readings(topic, _format(section), section.qos, _packing(section)),
            name,
            f"{config.gateway.base}/{config.gateway.id}/{LEDGER}",
        ),
        outbox.follow(name),
        mode=section.mode,
        persistent=section.qos == 2,
        live_first=section.live_first,
        batch=section.batch,
        pace=Pace(*section.rate_limit) if section.rate_limit is not None else None,
        reconnect_min=section.reconnect_min,
        reconnect_max=section.reconnect_max,
        failback=section.failback,
        observer=Listening(announcer, name, commands, section.devices) if section.commands else Again(announcer, name),
        logger=logger,
    )


def _commands(
    config: Config, outbox: Outbox, clock: Clock, say: Callable[[str, Publication], bool], logger: Any
) -> Commands:
    began = clock.boot()

    def times() -> tuple[float | None, float]:
        boot, offset = clock.read()
        return None if outbox.clock[0] == "unset" else boot + offset, began + offset

    prefix = f"{config.gateway.base}/{config.gateway.id}"
    return Commands(prefix, say, times, max_age=config.commands.max_age, logger=logger)


def _format(section: UplinkSection) -> Format:
    render = FORMATS[section.format]
    return render if section.metrics is None else choosing(section.metrics, render)


def _packing(section: UplinkSection) -> Packing | None:
    shape = section.batch_format if section.batch is not None else None
    compression = None if section.compress == "none" else section.compress
    return Packing(shape, compression) if shape or compression else None


def _broker(section: UplinkSection, endpoint: BrokerSection, identity: str, will: Will) -> Broker:
    options = Options(
        client_id=endpoint.client_id or identity,
        username=endpoint.username,
        password=endpoint.password.get_secret_value().encode() if endpoint.password else None,
        keep_alive=section.keep_alive,
        protocol=endpoint.protocol or "auto",
        will=will,
        window=section.window,
        connect_timeout=section.connect_timeout,
        ack_timeout=section.ack_timeout,
        ack_lag=min(ACK_LAG, section.ack_timeout / 10),
        tls=endpoint.tls.options if endpoint.tls else None,
        network=endpoint.network,
    )
    return Broker(endpoint.address, options, endpoint.profile or "generic")


def _devices(config: Config, outbox: Outbox, uplinks: Sequence[Uplink], logger: Any) -> list[RunningDevice]:
    def state_of(name: str) -> Callable[[str, bool], None]:
        topic = _status_topic(config, name)

        def changed(_: str, online: bool) -> None:
            for uplink in uplinks:
                uplink.retain(topic, b"online" if online else b"offline")

        return changed

    running = []
    for name, device in config.devices.items():
        if device.enabled:
            tell = state_of(name)
            tell(name, False)
            memory = place_of_memory(config.outbox.path, name)
            running.append(
                RunningDevice(
                    name,
                    device.adapter,
                    device.metrics,
                    outbox.put,
                    on_state=tell,
                    log=logger,
                    memory=memory,
                    computed=device.computed,
                    command_timeout=config.commands.timeout,
                )
            )
    return running


def _client_id(config: Config, uplink: str) -> str:
    """Return an identifier that is the same after every restart, and another one on every machine and for every outbox.

    23 characters at most, of letters and digits: what every broker has to accept (MQTT 3.1.1, section 3.1.3.1).
    """
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    parts = (machine, config.gateway.id, str(config.outbox.path), uplink)
    return "sg" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:18]
