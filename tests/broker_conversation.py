"""One connection with a scripted broker: what the client says, and what it is answered."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.mqtt.codec import decode, encode
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from gateway.mqtt.properties import Properties
from gateway.mqtt.topics import SHARED, matches
from tests.broker_session import BrokerSession

if TYPE_CHECKING:
    from tests.scripted_broker import ScriptedBroker


class Conversation(asyncio.Protocol):
    """One connection, from the broker's side: it answers as the knobs of its broker say."""

    def __init__(self, broker: ScriptedBroker) -> None:
        self.broker = broker
        self.level = 5
        self.hello = Connect(5, "")
        self.client_id: str | None = None  # once it is welcome
        self.will: Will | None = None
        self.session = BrokerSession()
        self.durable = False  # the session outlives the connection
        self.challenges: list[bytes] = []
        self.aliases: dict[int, str] = {}
        self.framer = Framer(1 << 24)
        self.transport: asyncio.Transport
        self._said: list[bytes] = []

    def say(self, data: bytes) -> None:
        """Answer, together with what else this read is answered."""
        self._said.append(data)

    def deliver(self, message: Publish) -> None:
        """Send a message of a subscription, at once if it is nobody's answer."""
        self.say(encode(self.session.outbound(message), self.level))
        self.loop.call_soon(self._flush)

    def resolved(self, packet: Publish, most: int) -> Publish:
        """Return a message with its topic. Raises ProtocolError."""
        alias = packet.properties.get("topic_alias")
        if alias is None:
            return packet
        if alias > most or (not packet.topic and alias not in self.aliases):
            raise ProtocolError(f"topic alias {alias}", reason=0x94)
        topic = self.aliases[alias] = packet.topic or self.aliases[alias]
        return replace(packet, topic=topic)

    def close(self) -> None:
        """Close when everything said so far is written."""
        self._flush()
        self.transport.close()

    def _flush(self) -> None:
        if self._said:
            self.transport.write(b"".join(self._said))
            self._said.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.broker.came(self)

    def data_received(self, data: bytes) -> None:
        try:
            for first, body in self.framer.feed(data):
                if not self.transport.is_closing():
                    self._take(decode(first, body, self.level))
        except ProtocolError as error:
            self.broker.errors.append(error)
            self.transport.abort()
            return
        self._flush()
        self.broker.happened()

    def connection_lost(self, exc: Exception | None) -> None:
        self.broker.went(self)

    # -- what the client says

    def _take(self, packet: Packet) -> None:
        match packet:
            case Connect():
                self._greet(packet)
            case Auth():
                self.broker.auths.append(packet)
                self._challenge()
            case Publish():
                self._publish(packet)
            case Pubrel():
                self.broker.releases.append(packet)
                known = packet.packet_id in self.session.recorded
                self.session.recorded.discard(packet.packet_id)
                reason = 0 if known or self.level < 5 else 0x92
                self._answer(Pubcomp(packet.packet_id, reason))
            case Puback() | Pubrec() | Pubcomp():
                self.broker.answers.append(packet)
                self._answered(packet)
            case Subscribe():
                self._subscribe(packet)
            case Unsubscribe():
                self.broker.unsubscribes.append(packet)
                known_ones = [self.session.subscriptions.pop(one, None) for one in packet.filters]
                reasons = tuple(0 if one else 0x11 for one in known_ones) if self.level >= 5 else ()
                self.say(encode(Unsuback(packet.packet_id, reasons), self.level))
            case Pingreq():
                self.broker.pings += 1
                if not self.broker.mute_pings:
                    self.say(encode(Pingresp(), self.level))
            case Disconnect():
                self.broker.disconnects.append(packet)
                self.durable = self.durable and packet.properties.get("session_expiry_interval", 1) > 0
                if packet.reason != 0x04:
                    self.will = None
                self.close()

    def _greet(self, packet: Connect) -> None:
        self.broker.connects.append(packet)
        self.level = packet.level
        self.hello = packet
        self.challenges = list(self.broker.challenges)
        if self.broker.mute_after == "connect":
            return
        if self.broker.close_on_connect or (packet.level not in self.broker.levels and self.broker.unsupported is None):
            self.close()
        elif packet.level not in self.broker.levels:
            self.say(self.broker.unsupported or b"")
        elif self.broker.refuse is not None:
            said = self.broker.refusal if packet.level >= 5 else Properties()
            self.say(encode(Connack(reason=self.broker.refuse, properties=said), packet.level))
        elif "authentication_method" in packet.properties:
            self._challenge()
        else:
            self._welcome(packet, Properties())

    def _challenge(self) -> None:
        said = Properties(authentication_method=self.hello.properties["authentication_method"])
        if self.challenges:
            said["authentication_data"] = self.challenges.pop(0)
            self.say(encode(Auth(0x18, said), self.level))
            return
        if self.broker.last_word is not None:
            said["authentication_data"] = self.broker.last_word
        if self.client_id is None:
            self._welcome(self.hello, said)
        else:
            self.say(encode(Auth(0, said), self.level))
        self.challenges = list(self.broker.challenges)

    def _welcome(self, packet: Connect, more: Properties) -> None:
        client_id = packet.client_id
        if self.broker.take_over:
            for older in self.broker.conversations:
                if older is not self and older.client_id == client_id:
                    if older.level >= 5:
                        older.transport.write(encode(Disconnect(0x8E), 5))
                    older.transport.close()
        if packet.level >= 5:
            self.durable = packet.properties.get("session_expiry_interval", 0) > 0
        else:
            self.durable = not packet.clean
        self.durable = self.durable and self.broker.keep_sessions
        present = not packet.clean and self.durable and client_id in self.broker.sessions
        if present:
            self.session = self.broker.sessions[client_id]
        self.broker.sessions[client_id] = self.session
        self.client_id, self.will = client_id, packet.will
        properties = Properties(**{**self.broker.connack, **more}) if packet.level >= 5 else Properties()
        # MQTT 3.1 has no flag for it.
        self.say(encode(Connack(present and packet.level > 3, properties=properties), packet.level))
        self.say(self.broker.after_connack)
        for one in self.session.unfinished():
            self._offer(one)

    def _subscribe(self, packet: Subscribe) -> None:
        self.broker.subscribes.append(packet)
        if self.broker.mute_subscribes:
            return
        granted = tuple(self.broker.granted(one.filter, one.qos) for one in packet.subscriptions)
        self.say(encode(Suback(packet.packet_id, granted, self.broker.suback_properties), self.level))
        for one, qos in zip(packet.subscriptions, granted, strict=True):
            if qos >= 0x80:
                continue
            again = one.filter in self.session.subscriptions
            self.session.subscriptions[one.filter] = replace(one, qos=qos)
            for identifier in packet.properties.get("subscription_identifiers", []):
                self.session.identifiers[one.filter] = identifier
            if one.retain_handling == 2 or (one.retain_handling == 1 and again) or one.filter.startswith(SHARED):
                continue
            for message in self.broker.retained.values():
                if self.broker.deliver and matches(one.filter, message.topic):
                    properties = message.properties if self.level >= 5 else Properties()
                    self.deliver(replace(message, qos=min(message.qos, qos), properties=properties))

    def _publish(self, packet: Publish) -> None:
        packet = self.resolved(packet, self.broker.connack.get("topic_alias_maximum", 0))
        self.broker.publishes.append(packet)
        if self.broker.hang_up_on(packet):
            self.close()
            return
        reason = self.broker.puback_reason(packet) if self.level >= 5 else 0
        if packet.qos == 2 and self.broker.puback_for_qos2:
            packet = replace(packet, qos=1)
        if reason < 0x80 and self.session.takes(packet):
            self.broker.published.append((packet.topic, packet.payload, packet.qos, packet.retain))
            if self.broker.deliver:
                self._pass_on(packet)
        if packet.qos:
            said = self.broker.puback_properties if reason else Properties()
            self._answer((Puback if packet.qos == 1 else Pubrec)(packet.packet_id, reason, said))

    def _pass_on(self, packet: Publish) -> None:
        if packet.retain:
            self.broker.retained[packet.topic] = replace(packet, dup=False, packet_id=0)
            if not packet.payload:
                del self.broker.retained[packet.topic]
        self.broker.publish(packet, self)

    def _answer(self, packet: Puback | Pubrec | Pubcomp) -> None:
        if not self.broker.stop_acks:
            self._offer(packet)

    def _answered(self, packet: Puback | Pubrec | Pubcomp) -> None:
        outgoing = self.session.outgoing
        if isinstance(packet, Pubrec) and packet.reason < 0x80:
            if packet.packet_id in outgoing:
                outgoing[packet.packet_id] = None
            self._offer(Pubrel(packet.packet_id))
        else:
            outgoing.pop(packet.packet_id, None)

    def _offer(self, packet: Packet) -> None:
        """Say this, or withhold it."""
        data = encode(packet, self.level)
        if type(packet) in self.broker.withhold or (self.broker.hold_acks and isinstance(packet, Puback | Pubrec)):
            self.broker.held_back.append((self, data))
        else:
            self.say(data)
