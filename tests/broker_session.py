"""What a scripted broker remembers of one client id: subscriptions, and both directions of QoS 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.mqtt.packets import Packet, Publish, Pubrel, Subscription


class BrokerSession:
    """The broker's side of a session. It survives a connection if the broker keeps sessions."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.identifiers: dict[str, int] = {}  # subscription identifiers, by filter
        self.recorded: set[int] = set()  # QoS 2 identifiers of the client that it has not released
        self.outgoing: dict[int, Publish | None] = {}  # without an end; None: released, PUBCOMP comes next
        self._next = 0

    def takes(self, packet: Publish) -> bool:
        """Return whether a message is new."""
        if packet.qos < 2:
            return True
        new = packet.packet_id not in self.recorded
        self.recorded.add(packet.packet_id)
        return new

    def outbound(self, message: Publish) -> Publish:
        """Return a message for the client, with an identifier if it needs one."""
        if not message.qos:
            return message
        while True:
            self._next = self._next % 0xFFFF + 1
            if self._next not in self.outgoing:
                break
        made = replace(message, packet_id=self._next)
        self.outgoing[self._next] = made
        return made

    def unfinished(self) -> Iterator[Packet]:
        """Give what must be sent again on a new connection, in order."""
        for packet_id, message in self.outgoing.items():
            yield Pubrel(packet_id) if message is None else replace(message, dup=True)
