"""Who is told what an uplink does, beside the log."""

from __future__ import annotations

from typing import Protocol

from gateway.mqtt import Message


class Observer(Protocol):
    """Who is told. Every method is called from the loop, never from within a call to the uplink, and must not raise."""

    def connected(self, broker: str, protocol: str, session_present: bool) -> None:
        """A link is active now."""

    def lost(self, broker: str, reason: str) -> None:
        """The active link is gone."""

    def reconnecting(self, broker: str, delay: float, reason: str) -> None:
        """An attempt has failed, or the link was lost; the next attempt at any broker comes in `delay` seconds."""

    def received(self, message: Message) -> None:
        """A message has come for a subscription. At QoS 1 and 2 it is acknowledged once this has returned."""

    def roomy(self) -> bool:
        """Say whether more messages can be taken; after False, nothing is read until `Uplink.resume`."""


class Nobody:
    """An observer that nothing matters to."""

    def connected(self, broker: str, protocol: str, session_present: bool) -> None:
        """Do nothing."""

    def lost(self, broker: str, reason: str) -> None:
        """Do nothing."""

    def reconnecting(self, broker: str, delay: float, reason: str) -> None:
        """Do nothing."""

    def received(self, message: Message) -> None:
        """Do nothing."""

    def roomy(self) -> bool:
        """Take everything."""
        return True
