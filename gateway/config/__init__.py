"""The TOML config: models, diagnostics with file, line and column, JSON Schema. Only service and cli know it."""

from gateway.config.load import load, load_devices, load_outbox
from gateway.config.models import (
    BrokerSection,
    Config,
    Device,
    GatewaySection,
    OutboxSection,
    TlsSection,
    UplinkSection,
)
from gateway.config.problems import ConfigError, Problem

__all__ = [
    "BrokerSection",
    "Config",
    "ConfigError",
    "Device",
    "GatewaySection",
    "OutboxSection",
    "Problem",
    "TlsSection",
    "UplinkSection",
    "load",
    "load_devices",
    "load_outbox",
]
