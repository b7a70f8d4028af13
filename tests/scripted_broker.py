"""A broker that does what a test tells it to: it refuses, stays silent, withholds answers, freezes and goes away."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

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

UNSUPPORTED_IN_5 = encode(Connack(reason=0x84), 5)
UNSUPPORTED_IN_3 = encode(Connack(reason=0x01), 4)


class ScriptedBroker:
    """A broker on 127.0.0.1 or a unix socket. `async with` starts and stops it; every knob may be turned while it runs.

    It takes MQTT 3.1, 3.1.1 and 5 at every QoS. It keeps no session and delivers nothing, unless it is told to.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, unix: Path | None = None) -> None:
        # Knobs.
        self.refuse: int | None = None  # answer CONNECT with this code
        self.mute_after: str | None = None  # "accept": no byte is read; "connect": CONNECT is read, but not answered
        self.close_on_connect = False  # close instead of answering CONNECT
        self.levels: Iterable[int] = (3, 4, 5)  # the protocol levels that it knows
        self.unsupported: bytes | None = UNSUPPORTED_IN_5  # its answer to another level; None: close
        self.hold_acks = False  # withhold PUBACKs and PUBRECs until `release`
        self.withhold: set[type[Packet]] = set()  # withhold these until `release`: Pubrec, Pubrel, Pubcomp, ...
        self.stop_acks = False  # never send another PUBACK, PUBREC or PUBCOMP
        self.puback_for_qos2 = False  # as RabbitMQ does
        self.hang_up_on: Callable[[Publish], bool] = lambda packet: False  # poison: cut instead of answering
        self.keep_sessions = False  # by client id, for clients that ask for it
        self.take_over = False  # end an older connection with the same client id, as every real broker does
        self.deliver = False  # pass published messages on to their subscribers, and retain
        self.challenges: Sequence[bytes] = ()  # of an enhanced authentication, each of which must be answered
        self.last_word: bytes | None = None  # of an enhanced authentication, with the CONNACK
        self.mute_pings = False  # do not answer PINGREQ
        self.mute_subscribes = False  # do not answer SUBSCRIBE
        self.puback_reason: Callable[[Publish], int] = lambda packet: 0  # MQTT 5: asked for each message of QoS 1
        self.granted: Callable[[str, int], int] = lambda name, qos: qos  # asked for each subscription
        self.connack = Properties()  # of the CONNACK in MQTT 5
        self.after_connack = b""  # bytes sent in the same write as CONNACK
        self.receive_buffer: int | None = None  # of the sockets of new connections, in bytes
        # What has happened.
        self.published: list[tuple[str, bytes, int, bool]] = []  # topic, payload, QoS, retain; QoS 2 once for each
        self.publishes: list[Publish] = []  # all of them, as they came, but for the topic of an alias
        self.answers: list[Puback | Pubrec | Pubcomp] = []  # to what the broker has sent
        self.releases: list[Pubrel] = []
        self.auths: list[Auth] = []
        self.unsubscribes: list[Unsubscribe] = []
        self.retained: dict[str, Publish] = {}
        self.sessions: dict[str, BrokerSession] = {}
        self.connects: list[Connect] = []
        self.subscribes: list[Subscribe] = []
        self.pings = 0
        self.disconnects: list[Disconnect] = []  # orderly goodbyes
        self.wills: list[Will] = []  # of clients that went without one
        self.errors: list[ProtocolError] = []  # what a client sent that MQTT does not allow
        self._tls, self._unix = tls, unix
        self._port = 0
        self._frozen = False
        self._server: asyncio.Server | None = None
        self._clients: list[_Client] = []
        self._held: list[tuple[_Client, bytes]] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    @property
    def port(self) -> int:
        """Return the TCP port, the same after `stop` and `start`."""
        return self._port

    @property
    def url(self) -> str:
        """Return where it listens."""
        if self._unix:
            return f"unix://{self._unix}"
        return f"{'mqtts' if self._tls else 'mqtt'}://127.0.0.1:{self._port}"

    @property
    def receive_maximum(self) -> int:
        """Return the receive maximum that CONNACK says."""
        return self.connack.get("receive_maximum", 0xFFFF)

    @receive_maximum.setter
    def receive_maximum(self, value: int) -> None:
        self.connack["receive_maximum"] = value

    @property
    def maximum_packet_size(self) -> int | None:
        """Return the maximum packet size that CONNACK says."""
        return self.connack.get("maximum_packet_size")

    @maximum_packet_size.setter
    def maximum_packet_size(self, value: int) -> None:
        self.connack["maximum_packet_size"] = value

    @property
    def clients(self) -> int:
        """Return how many connections there are."""
        return len(self._clients)

    @property
    def held(self) -> int:
        """Return how many answers are withheld."""
        return len(self._held)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, again on the same port after a `stop`."""
        loop = asyncio.get_running_loop()
        if self._unix:
            self._server = await loop.create_unix_server(lambda: _Client(self), str(self._unix))
        else:
            self._server = await loop.create_server(
                lambda: _Client(self), "127.0.0.1", self._port, ssl=self._tls, reuse_address=True
            )
            self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more and drop every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._unix:
            self._unix.unlink(missing_ok=True)
        self.drop()
        await self.until(lambda: not self._clients, 5.0)

    def drop(self) -> None:
        """Drop every connection now, as a crash does."""
        self._held.clear()
        for client in self._clients:
            client.transport.abort()

    def freeze(self) -> None:
        """Read nothing more, from anybody, as a stopped process; connections are still accepted by the kernel."""
        self._frozen = True
        for client in self._clients:
            client.transport.pause_reading()

    def thaw(self) -> None:
        """Read again."""
        self._frozen = False
        for client in self._clients:
            client.transport.resume_reading()

    def release(self) -> None:
        """Send what was withheld, and withhold no more."""
        self.hold_acks = False
        self.withhold.clear()
        held, self._held = self._held, []
        for client, data in held:
            client.transport.write(data)

    def disconnect(self, reason: int, properties: Properties | None = None) -> None:
        """Say DISCONNECT to every client of MQTT 5, and close."""
        for client in self._clients:
            client.transport.write(encode(Disconnect(reason, properties or Properties()), client.level))
            client.transport.close()

    def send(self, packet: Packet | bytes) -> None:
        """Send a packet, or bytes that are none, to every client."""
        for client in self._clients:
            client.transport.write(packet if isinstance(packet, bytes) else encode(packet, client.level))

    def publish(self, message: Publish, origin: _Client | None = None) -> None:
        """Deliver a message to whoever has subscribed to it, at the smaller QoS of both."""
        served: set[str] = set()  # shared filters
        for client in self._clients:
            mine = client.session
            found = [one for one in mine.subscriptions.values() if matches(one.filter, message.topic)]
            found = [one for one in found if not (one.no_local and origin is client) and one.filter not in served]
            served.update(one.filter for one in found if one.filter.startswith(SHARED))
            if not found:
                continue
            properties = message.properties.copy()
            properties.pop("topic_alias", None)
            if identifiers := [mine.identifiers[one.filter] for one in found if one.filter in mine.identifiers]:
                properties["subscription_identifiers"] = identifiers
            client.deliver(
                replace(
                    message,
                    qos=min(message.qos, max(one.qos for one in found)),
                    retain=message.retain and (origin is None or any(one.retain_as_published for one in found)),
                    properties=properties if client.level >= 5 else Properties(),
                    packet_id=0,
                    dup=False,
                )
            )

    async def wait_published(self, count: int, timeout: float = 5.0) -> None:
        """Wait until that many messages have come in all. Raises TimeoutError."""
        await self.until(lambda: len(self.published) >= count, timeout)

    async def until(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        """Wait until the condition holds; it is looked at whenever something happens here. Raises TimeoutError."""
        if condition():
            return
        holds: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, holds))
        try:
            await asyncio.wait_for(holds, timeout)
        finally:
            self._waiting.remove((condition, holds))

    def _happened(self) -> None:
        for condition, holds in self._waiting:
            if not holds.done() and condition():
                holds.set_result(None)

    def _came(self, client: _Client) -> None:
        self._clients.append(client)
        if self.receive_buffer:
            sock = client.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        if self._frozen or self.mute_after == "accept":
            client.transport.pause_reading()
        self._happened()

    def _went(self, client: _Client) -> None:
        self._clients.remove(client)
        self._held = [held for held in self._held if held[0] is not client]
        if client.client_id and not client.durable and self.sessions.get(client.client_id) is client.session:
            del self.sessions[client.client_id]
        if client.will is not None:
            self.wills.append(client.will)
            if self.deliver:
                will = client.will
                self.publish(Publish(will.topic, will.payload, will.qos, will.retain, properties=will.properties))
        self._happened()

    def _take(self, client: _Client, packet: Packet) -> None:
        match packet:
            case Connect():
                self._greet(client, packet)
            case Auth():
                self.auths.append(packet)
                self._challenge(client)
            case Publish():
                self._publish(client, packet)
            case Pubrel():
                self.releases.append(packet)
                known = packet.packet_id in client.session.recorded
                client.session.recorded.discard(packet.packet_id)
                reason = 0 if known or client.level < 5 else 0x92
                self._answer(client, Pubcomp(packet.packet_id, reason))
            case Puback() | Pubrec() | Pubcomp():
                self.answers.append(packet)
                self._answered(client, packet)
            case Subscribe():
                self._subscribe(client, packet)
            case Unsubscribe():
                self.unsubscribes.append(packet)
                known_ones = [client.session.subscriptions.pop(one, None) for one in packet.filters]
                reasons = tuple(0 if one else 0x11 for one in known_ones) if client.level >= 5 else ()
                client.say(encode(Unsuback(packet.packet_id, reasons), client.level))
            case Pingreq():
                self.pings += 1
                if not self.mute_pings:
                    client.say(encode(Pingresp(), client.level))
            case Disconnect():
                self.disconnects.append(packet)
                client.durable = client.durable and packet.properties.get("session_expiry_interval", 1) > 0
                if packet.reason != 0x04:
                    client.will = None
                client.close()

    def _greet(self, client: _Client, packet: Connect) -> None:
        self.connects.append(packet)
        client.level = packet.level
        client.hello = packet
        client.challenges = list(self.challenges)
        if self.mute_after == "connect":
            return
        if self.close_on_connect or (packet.level not in self.levels and self.unsupported is None):
            client.close()
        elif packet.level not in self.levels:
            client.say(self.unsupported or b"")
        elif self.refuse is not None:
            client.say(encode(Connack(reason=self.refuse), packet.level))
        elif "authentication_method" in packet.properties:
            self._challenge(client)
        else:
            self._welcome(client, packet, Properties())

    def _challenge(self, client: _Client) -> None:
        said = Properties(authentication_method=client.hello.properties["authentication_method"])
        if client.challenges:
            said["authentication_data"] = client.challenges.pop(0)
            client.say(encode(Auth(0x18, said), client.level))
            return
        if self.last_word is not None:
            said["authentication_data"] = self.last_word
        if client.client_id is None:
            self._welcome(client, client.hello, said)
        else:
            client.say(encode(Auth(0, said), client.level))
        client.challenges = list(self.challenges)

    def _welcome(self, client: _Client, packet: Connect, more: Properties) -> None:
        client_id = packet.client_id
        if self.take_over:
            for older in self._clients:
                if older is not client and older.client_id == client_id:
                    if older.level >= 5:
                        older.transport.write(encode(Disconnect(0x8E), 5))
                    older.transport.close()
        if packet.level >= 5:
            client.durable = packet.properties.get("session_expiry_interval", 0) > 0
        else:
            client.durable = not packet.clean
        client.durable = client.durable and self.keep_sessions
        present = not packet.clean and client.durable and client_id in self.sessions
        if present:
            client.session = self.sessions[client_id]
        self.sessions[client_id] = client.session
        client.client_id, client.will = client_id, packet.will
        properties = Properties(**{**self.connack, **more}) if packet.level >= 5 else Properties()
        # MQTT 3.1 has no flag for it.
        client.say(encode(Connack(present and packet.level > 3, properties=properties), packet.level))
        client.say(self.after_connack)
        for one in client.session.unfinished():
            self._offer(client, one)

    def _subscribe(self, client: _Client, packet: Subscribe) -> None:
        self.subscribes.append(packet)
        if self.mute_subscribes:
            return
        granted = tuple(self.granted(one.filter, one.qos) for one in packet.subscriptions)
        client.say(encode(Suback(packet.packet_id, granted), client.level))
        for one, qos in zip(packet.subscriptions, granted, strict=True):
            if qos >= 0x80:
                continue
            again = one.filter in client.session.subscriptions
            client.session.subscriptions[one.filter] = replace(one, qos=qos)
            for identifier in packet.properties.get("subscription_identifiers", []):
                client.session.identifiers[one.filter] = identifier
            if one.retain_handling == 2 or (one.retain_handling == 1 and again) or one.filter.startswith(SHARED):
                continue
            for message in self.retained.values():
                if self.deliver and matches(one.filter, message.topic):
                    properties = message.properties if client.level >= 5 else Properties()
                    client.deliver(replace(message, qos=min(message.qos, qos), properties=properties))

    def _publish(self, client: _Client, packet: Publish) -> None:
        packet = client.resolved(packet, self.connack.get("topic_alias_maximum", 0))
        self.publishes.append(packet)
        if self.hang_up_on(packet):
            client.transport.abort()
            return
        reason = self.puback_reason(packet) if client.level >= 5 else 0
        if packet.qos == 2 and self.puback_for_qos2:
            packet = replace(packet, qos=1)
        if reason < 0x80 and client.session.takes(packet):
            self.published.append((packet.topic, packet.payload, packet.qos, packet.retain))
            if self.deliver:
                self._pass_on(client, packet)
        if packet.qos:
            self._answer(client, (Puback if packet.qos == 1 else Pubrec)(packet.packet_id, reason))

    def _pass_on(self, client: _Client, packet: Publish) -> None:
        if packet.retain:
            self.retained[packet.topic] = replace(packet, dup=False, packet_id=0)
            if not packet.payload:
                del self.retained[packet.topic]
        self.publish(packet, client)

    def _answer(self, client: _Client, packet: Puback | Pubrec | Pubcomp) -> None:
        if not self.stop_acks:
            self._offer(client, packet)

    def _answered(self, client: _Client, packet: Puback | Pubrec | Pubcomp) -> None:
        outgoing = client.session.outgoing
        if isinstance(packet, Pubrec) and packet.reason < 0x80:
            if packet.packet_id in outgoing:
                outgoing[packet.packet_id] = None
            self._offer(client, Pubrel(packet.packet_id))
        else:
            outgoing.pop(packet.packet_id, None)

    def _offer(self, client: _Client, packet: Packet) -> None:
        """Say this, or withhold it."""
        data = encode(packet, client.level)
        if type(packet) in self.withhold or (self.hold_acks and isinstance(packet, Puback | Pubrec)):
            self._held.append((client, data))
        else:
            client.say(data)


class _Client(asyncio.Protocol):
    """One connection, from the broker's side."""

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
        self.broker._came(self)

    def data_received(self, data: bytes) -> None:
        try:
            for first, body in self.framer.feed(data):
                self.broker._take(self, decode(first, body, self.level))
        except ProtocolError as error:
            self.broker.errors.append(error)
            self.transport.abort()
            return
        self._flush()
        self.broker._happened()

    def connection_lost(self, exc: Exception | None) -> None:
        self.broker._went(self)
