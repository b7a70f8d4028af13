"""Follow the outbox, render, publish, acknowledge; fail over and back."""

from gateway.uplink.broker import Broker, BrokerState, Credentials
from gateway.uplink.observer import Observer
from gateway.uplink.pace import Pace
from gateway.uplink.route import Publications, Readings
from gateway.uplink.uplink import Uplink

__all__ = ["Broker", "BrokerState", "Credentials", "Observer", "Pace", "Publications", "Readings", "Uplink"]
