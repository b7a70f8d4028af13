"""Follow the outbox, render, publish, acknowledge; fail over and back."""

from gateway.uplink.link import Route
from gateway.uplink.uplink import Broker, Uplink

__all__ = ["Broker", "Route", "Uplink"]
