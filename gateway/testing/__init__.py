"""For tests of adapters, ours and yours: one suite that every adapter passes, stand-ins, and golden cases."""

from gateway.testing.cases import Case, CaseFailed, cases_of
from gateway.testing.conformance import AdapterConformance
from gateway.testing.stand_in import NoDevice, SerialStandIn, StandIn
from gateway.testing.suites import suites

__all__ = ["AdapterConformance", "Case", "CaseFailed", "NoDevice", "SerialStandIn", "StandIn", "cases_of", "suites"]
