"""For tests of adapters, ours and yours: one suite that every adapter passes, and stand-ins for what it reads."""

from gateway.testing.conformance import AdapterConformance
from gateway.testing.stand_in import NoDevice, SerialStandIn, StandIn

__all__ = ["AdapterConformance", "NoDevice", "SerialStandIn", "StandIn"]
