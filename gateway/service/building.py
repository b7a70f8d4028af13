"""From the config to parts: an outbox, uplinks, devices, commands. Nothing is opened here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.announce import Again, Announcer, WithLedger
from gateway.clock import Clock
from gateway.commands import Commands, Listening
from gateway.config import Config
from gateway.config.models import BrokerSection, UplinkSection
from gateway.devices import RunningDevice, Spent, place_of_memory
from gateway.formats import FORMATS, Format
from gateway.formats.choosing import choosing
from gateway.formats.packing import Packing
from gateway.mqtt import Options, Will
from gateway.outbox import Feed, Outbox
from gateway.reading import LEDGER, Publication
from gateway.uplink import Broker, Pace, Readings, Uplink

ACK_LAG = 0.05
"""Seconds that an acknowledgement may wait to be read: saves a quarter of the CPU at a calm rate, and is what a broker
that dies can make arrive twice."""


def outbox(config: Config, logger: Any, clock: Clock) -> Outbox:
    """Make the outbox."""
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
        high=urgent(config),
        devices={name: uplink.devices for name, uplink in config.uplinks.items() if uplink.devices is not None},
        clock=clock,
        hold_unsynced=section.hold_unsynced,
        logger=logger,
    )


def urgent(config: Config) -> list[str]:
    """Return the devices whose readings go before others."""
    return [name for name, device in config.devices.items() if device.priority == "high"]


def status_topic(config: Config, device: str | None = None) -> str:
    """Return where the state of a device, or of the gateway itself, is published."""
    levels = [config.gateway.base, config.gateway.id, *([device] if device else []), "status"]
    return "/".join(levels)


def uplink(
    config: Config,
    name: str,
    feed: Feed,
    announcer: Announcer,
    commands: Commands,
    logger: Any,
) -> Uplink:
    """Make an uplink that delivers what `feed` has."""
    section = config.uplinks[name]
    will = Will(status_topic(config), b"offline", qos=1, retain=True)
    identity = _client_id(config, name)
    brokers = [broker(section, endpoint, identity, will) for endpoint in section.endpoints]
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
        feed,
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


def commands(
    config: Config,
    outbox: Outbox,
    spent: Spent,
    clock: Clock,
    say: Callable[[str, Publication], bool],
    logger: Any,
) -> Commands:
    """Make what takes commands; `say` publishes over an uplink of that name. A run begins here, for their age."""
    began = clock.boot()

    def times() -> tuple[float | None, float]:
        boot, offset = clock.read()
        return None if outbox.clock[0] == "unset" else boot + offset, began + offset

    prefix = f"{config.gateway.base}/{config.gateway.id}"
    return Commands(prefix, say, times, max_age=config.commands.max_age, spent=spent, logger=logger)


def _format(section: UplinkSection) -> Format:
    render = FORMATS[section.format]
    return render if section.metrics is None else choosing(section.metrics, render)


def _packing(section: UplinkSection) -> Packing | None:
    shape = section.batch_format if section.batch is not None else None
    compression = None if section.compress == "none" else section.compress
    return Packing(shape, compression) if shape or compression else None


def broker(section: UplinkSection, endpoint: BrokerSection, identity: str, will: Will) -> Broker:
    """Make a broker of what an uplink says of it."""
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


def device(config: Config, name: str, outbox: Outbox, tell: Callable[[str, bool], None], logger: Any) -> RunningDevice:
    """Make a device; `tell` hears whether it is online."""
    section = config.devices[name]
    return RunningDevice(
        name,
        section.adapter,
        section.metrics,
        outbox.put,
        on_state=tell,
        log=logger,
        memory=place_of_memory(config.outbox.path, name),
        computed=section.computed,
        command_timeout=config.commands.timeout,
    )


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
