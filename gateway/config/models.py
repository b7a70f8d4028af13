"""The config as models: one declaration gives key, type, default, description, JSON Schema and message."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, SerializeAsAny, ValidationInfo, model_validator

from gateway.adapter import Adapter, Metric
from gateway.config.files import header
from gateway.config.metrics import conflicts
from gateway.config.names import DeviceName, MetricName, Name, TopicBase
from gateway.config.problems import Conflict, did_you_mean, refuse_together
from gateway.config.reach import TlsSection
from gateway.config.secret import surroundings
from gateway.config.section import FilePath, Section
from gateway.config.uplinks import BrokerSection, UplinkSection
from gateway.metric import Formula
from gateway.mqtt import Address
from gateway.units import Duration, Size


class GatewaySection(Section):
    """Who this gateway is."""

    id: Name = Field(
        default_factory=socket.gethostname,
        validate_default=True,
        description="Name of this gateway in topics. Default: the host name.",
    )
    base: TopicBase = Field(default="sensors", description="First level, or levels, of every topic.")


def state_path(environ: Mapping[str, str]) -> Path:
    """Return where the outbox is kept by default: under systemd in its state directory, else in the user's."""
    if directories := environ.get("STATE_DIRECTORY"):
        return Path(directories.split(":")[0], "outbox.db")
    if state := environ.get("XDG_STATE_HOME"):
        return Path(state, "sensor-gateway", "outbox.db")
    home = environ.get("HOME")
    return Path(home or Path.home(), ".local", "state", "sensor-gateway", "outbox.db")


class OutboxSection(Section):
    """The durable queue between devices and uplinks."""

    path: FilePath = Field(
        default_factory=lambda: state_path(os.environ),
        description="The file. Default: outbox.db in $STATE_DIRECTORY, else in ~/.local/state/sensor-gateway.",
    )
    commit_interval: Duration = Field(
        default=1.0,
        ge=0,
        description="The longest that a reading exists only in memory, and so the price of a power cut. "
        '"0s": on the card before it is sent.',
    )
    max_size: Size = Field(default=10**9, ge=10**6, description="The largest that the outbox may become.")
    keep_free: Size = Field(
        default=500 * 10**6, ge=0, description="What is left free on the card, whatever max_size says."
    )
    memory_limit: Size = Field(
        default=64 * 10**6,
        ge=10**6,
        description="The most that readings take in memory while the card fails; beyond it the oldest are dropped.",
    )
    max_age: Duration | None = Field(
        default=None,
        ge=1,
        description="Readings older than this are dropped into the ledger. Default: kept until sent.",
    )
    hold_unsynced: Duration = Field(
        default=30.0,
        ge=0,
        description="The longest that readings wait, after a start, for a clock that is not set yet. "
        "After that they go out, marked as unsynced.",
    )
    when_full: Literal["drop-oldest", "drop-newest", "thin"] = Field(
        default="drop-oldest",
        description="What goes when the outbox is full; the ledger says what went. "
        '"thin": every second reading of each device, of the oldest first, and again when all are thinned.',
    )

    @model_validator(mode="before")
    @classmethod
    def _place(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, dict) and "path" not in data:
            return {"path": str(state_path(surroundings(info).environ).absolute()), **data}
        return data


class CommandsSection(Section):
    """What is asked of devices from outside, over uplinks with commands = true."""

    max_age: Duration = Field(
        default=30.0, gt=0, description="An older command, by what it says itself, is refused: never carried out late."
    )
    timeout: Duration = Field(
        default=10.0, gt=0, description="The longest that a device may take to carry out a command."
    )


Priority: TypeAlias = Literal["normal", "high"]


class DeviceKeys(Section):
    """The keys that every device has; all others are the adapter's own."""

    model_config = ConfigDict(extra="allow")

    adapter: str = Field(description="The kind of code that reads this device: `sensor-gateway adapters` lists them.")
    enabled: bool = Field(default=True, description="false: leave this device alone.")
    priority: Priority = Field(
        default="normal",
        description="high, for alarms: its readings are sent first, are on the card at once, and are kept the longest.",
    )
    metrics: dict[MetricName, Metric] = Field(
        default={}, description="What is known about single metrics of this device."
    )
    computed: dict[MetricName, Formula] = Field(
        default={}, description="Metrics that are computed from others of the same reading, in this order."
    )

    @model_validator(mode="after")
    def _agreed(self) -> DeviceKeys:
        if found := conflicts(self.metrics, self.computed):
            raise refuse_together(found)
        return self


class Device(Section):
    """One device, with its adapter ready to run."""

    name: str
    kind: str  # what the config calls the adapter
    adapter: SerializeAsAny[Adapter]
    enabled: bool = True
    priority: Priority = "normal"
    metrics: dict[str, Metric] = Field(default={})
    computed: dict[str, str] = Field(default={})


class Config(Section):
    """Everything that a config file and its conf.d say."""

    gateway: GatewaySection = Field(default_factory=GatewaySection, description="Who this gateway is.")
    outbox: OutboxSection = Field(
        default_factory=OutboxSection, description="The durable queue between devices and uplinks."
    )
    commands: CommandsSection = Field(
        default_factory=CommandsSection, description="What is asked of devices from outside."
    )
    uplinks: dict[Name, UplinkSection] = Field(min_length=1, description="Destinations. Each gets every reading.")
    devices: dict[DeviceName, Device] = Field(default={}, description="What is read.")

    @model_validator(mode="after")
    def _together(self) -> Config:
        found = []
        seen: dict[tuple[Address, str], str] = {}
        for name, uplink in self.uplinks.items():
            for endpoint in uplink.endpoints:
                if endpoint.client_id is None:
                    continue
                first = seen.setdefault((endpoint.address, endpoint.client_id), name)
                if first != name:
                    where = f"{endpoint.address} already, in {header(('uplinks', first))}"
                    words = f'client_id "{endpoint.client_id}" is at {where}; a broker hangs up on one of two of a name'
                    found.append(Conflict(("uplinks", name, "client_id"), ("uplinks",), words))
            for index, device in enumerate(uplink.devices or ()):
                if device not in self.devices:
                    words = f'devices: there is no device "{device}"{did_you_mean(device, self.devices)}'
                    found.append(Conflict(("uplinks", name, "devices", index), ("uplinks", "devices"), words))
        found += self._circles()
        if found:
            raise refuse_together(found)
        return self

    def _circles(self) -> list[Conflict]:
        """Return the devices that would take in what the gateway publishes itself, for ever."""
        found = []
        own = f"{self.gateway.base}/{self.gateway.id}"
        for name, device in self.devices.items():
            for uplink, section in self.uplinks.items() if device.enabled else ():
                known = {"base": self.gateway.base, "gateway": self.gateway.id, "uplink": uplink}
                topics = [section.topic.format(**known, device=other) for other in self.devices]
                topics += [f"{own}/status", f"{own}/ledger", *(f"{own}/{other}/status" for other in self.devices)]
                heard = (
                    (endpoint.url, topic)
                    for endpoint in section.endpoints
                    for topic in topics
                    if device.adapter.hears(str(endpoint.address), topic)
                )
                if (first := next(heard, None)) is not None:
                    words = (
                        f"{name}: would take in what this gateway publishes itself, such as {first[1]} at {first[0]}"
                    )
                    found.append(Conflict(("devices", name), ("devices", "uplinks", "gateway"), words))
                    break
        return found


__all__ = [
    "BrokerSection",
    "CommandsSection",
    "Config",
    "Device",
    "DeviceKeys",
    "GatewaySection",
    "OutboxSection",
    "TlsSection",
    "UplinkSection",
    "state_path",
]
