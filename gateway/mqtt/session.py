"""One MQTT session without any I/O: bytes in, events out; what to send is returned as bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from gateway.mqtt import topics
from gateway.mqtt.answers import FIRST_BYTES, Answers
from gateway.mqtt.codec import decode, encode
from gateway.mqtt.endings import printable
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.events import Acknowledged, Answered, Event, Forgotten, Recorded, Refused
from gateway.mqtt.framing import Framer
from gateway.mqtt.inflight import SPAN, InFlight
from gateway.mqtt.listener import Message
from gateway.mqtt.options import Limits, Options
from gateway.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Pingresp,
    Puback,
    Pubcomp,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from gateway.mqtt.properties import Properties
from gateway.mqtt.reasons import PROTOCOL_ERROR, Reason
from gateway.mqtt.receiving import Receiving
from gateway.mqtt.sending import Batch, Sending

__all__ = ["PINGREQ", "Acknowledged", "Batch", "Event", "Forgotten", "Recorded", "Refused", "Session"]

PINGREQ = b"\xc0\x00"
WITH_WILL = 0x04
CONTINUE, AGAIN = 0x18, 0x19  # reasons of AUTH
_PUBLISH = 3
_FOREVER = 0xFFFF_FFFF

Wanted: TypeAlias = Subscription | tuple[str, int]


class Session:
    """The client's side of one connection at one protocol level, from CONNECT to the end.

    `received` are the QoS 2 identifiers of an earlier connection, kept up to date; they count only if the broker has
    kept the session. `remembers`: with `hold_received`, PUBCOMP waits for the owner as well.
    """

    def __init__(
        self, options: Options, level: int, received: set[int] | None = None, *, remembers: bool = False
    ) -> None:
        self.level = level
        self.limits = Limits(client_id=options.client_id)
        self.window = 0  # until CONNACK
        self.in_flight = InFlight(min(0.1, options.ack_timeout / 10), numbered=options.numbered)
        self.sending = Sending(options, level, self.in_flight)
        self.receiving = Receiving(options, level, received, remembers and options.hold_received)
        self._options = options
        self._answers = Answers(level, self.in_flight)
        self._framer = Framer(options.maximum_packet_size, level)
        self._welcome = False
        self._failed = False
        self._asked: dict[int, tuple[type, int]] = {}  # SUBSCRIBE and UNSUBSCRIBE: which answer, to how many filters

    # -- what to send

    def connect(self) -> bytes:
        """Return CONNECT. Raises ValueError for options that this level of MQTT cannot carry."""
        options = self._options
        if options.will is not None:
            topics.check_topic(options.will.topic)
        packet = Connect(
            level=self.level,
            client_id=options.client_id,
            clean=options.clean,
            keep_alive=min(math.ceil(options.keep_alive), 0xFFFF),
            username=options.username,
            password=options.password,
            will=options.will,
            properties=self._hello() if self.level >= 5 else Properties(),
        )
        return encode(packet, self.level)

    def _hello(self) -> Properties:
        options = self._options
        said = Properties(maximum_packet_size=options.maximum_packet_size, receive_maximum=options.receive_maximum)
        if options.session_expiry:
            said["session_expiry_interval"] = options.session_expiry
        if options.topic_alias_maximum:
            said["topic_alias_maximum"] = options.topic_alias_maximum
        if options.request_response_information:
            said["request_response_information"] = 1
        if not options.request_problem_information:
            said["request_problem_information"] = 0
        if options.user_properties:
            said["user_properties"] = list(options.user_properties)
        if options.authentication is not None:
            said.update(self._said(options.authentication.start()))
        return said

    def reauthenticate(self) -> bytes:
        """Return the AUTH that begins the authentication again."""
        assert self._options.authentication is not None  # noqa: S101 - asked for only where there is one
        return encode(Auth(AGAIN, self._said(self._options.authentication.start())), self.level)

    def authenticated(self, packet: Auth | Connack) -> bytes:
        """Take the broker's step of the authentication, and return ours; empty after its last, or if there is none.

        Raises ValueError when our side refuses the broker.
        """
        method, data = self._options.authentication, packet.properties.get("authentication_data")
        if method is None:
            return b""
        if isinstance(packet, Auth) and packet.reason == CONTINUE:
            return encode(Auth(CONTINUE, self._said(method.answer(data))), self.level)
        if data is not None:
            method.answer(data)
        return b""

    def _said(self, data: bytes | None) -> Properties:
        assert self._options.authentication is not None  # noqa: S101 - said only where there is one
        said = Properties(authentication_method=self._options.authentication.method)
        if data is not None:
            said["authentication_data"] = data
        return said

    def publish(
        self, batch: Batch, qos: int, retain: bool, now: float, properties: Properties | None = None, dup: bool = False
    ) -> bytes:
        """Return the PUBLISH packets of a batch. See `Sending.publish`."""
        return self.sending.publish(batch, qos, retain, now, properties, dup)

    def fits(self, topic: bytes, payload: bytes, properties: Properties | None = None) -> bool:
        """Return whether the broker takes a message of this size at QoS 1 or 2."""
        return self.sending.fits(topic, payload, properties)

    def subscribe(self, wanted: Sequence[Wanted], identifier: int | None = None) -> tuple[int, bytes]:
        """Return the packet identifier and SUBSCRIBE, with a subscription identifier for all of them.

        Raises ValueError for what MQTT cannot carry or the broker says it has not.
        """
        subscriptions = tuple(one if isinstance(one, Subscription) else Subscription(*one) for one in wanted)
        for one in subscriptions:
            self._check(one)
        said = Properties()
        if identifier is not None:
            if self.level < 5 or not self.limits.subscription_identifier_available:
                raise ValueError(f"subscription identifier {identifier}: the broker has no subscription identifiers")
            said["subscription_identifiers"] = [identifier]
        return self._ask(Suback, lambda packet_id: Subscribe(packet_id, subscriptions, said), len(subscriptions))

    def unsubscribe(self, filters: Sequence[str]) -> tuple[int, bytes]:
        """Return the packet identifier and UNSUBSCRIBE. Raises ValueError for what MQTT cannot carry."""
        for one in filters:
            topics.check_filter(one)
        return self._ask(Unsuback, lambda packet_id: Unsubscribe(packet_id, tuple(filters)), len(filters))

    def _check(self, one: Subscription) -> None:
        topics.check_filter(one.filter)
        shared = one.filter.startswith(topics.SHARED)
        if shared and not self.limits.shared_subscription_available:
            raise ValueError(f"{one.filter!r}: the broker has no shared subscriptions")
        if topics.has_wildcard(one.filter) and not self.limits.wildcard_subscription_available:
            raise ValueError(f"{one.filter!r}: the broker has no wildcard subscriptions")
        if shared and one.no_local:
            raise ValueError(f"{one.filter!r}: no_local cannot be asked for with a shared subscription")

    def _ask(
        self, answer: type[Suback | Unsuback], packet: Callable[[int], Subscribe | Unsubscribe], count: int
    ) -> tuple[int, bytes]:
        if not count:
            raise ValueError("no topic filter is given")
        identifier = self.in_flight.reserve()
        try:
            data = encode(packet(identifier), self.level)
            largest = self.limits.maximum_packet_size
            if largest is not None and len(data) > largest:
                raise ValueError(
                    f"{count} topic filters make a packet of {len(data)} bytes; the broker takes {largest}"
                )
        except ValueError:
            self.in_flight.give_back(identifier)
            raise
        self._asked[identifier] = (answer, count)
        return identifier, data

    def disconnect(self, reason: int = 0, session_expiry: int | None = None) -> bytes:
        """Return DISCONNECT, after which no message is taken any more; empty if leaving without a word says the same.

        Reason and session expiry are said in MQTT 5 only. Raises ValueError for a session expiry where there is none.
        """
        said = Properties()
        if session_expiry is not None and self.level >= 5:
            if session_expiry and not self._options.session_expiry:
                raise ValueError("a session that was opened without session_expiry cannot be given one at its end")
            said["session_expiry_interval"] = session_expiry
        self.receiving.leaving = True
        if self.level < 5:
            return b"" if reason == WITH_WILL else encode(Disconnect(), self.level)
        return encode(Disconnect(reason, said), self.level)

    def replies(self) -> bytes:
        """Return what the packets received so far are owed, once."""
        data = self.receiving.replies()
        if self._answers.owed:
            data += b"".join(self._answers.owed)
            self._answers.owed.clear()
        return data

    # -- what has come

    def receive(self, data: bytes, now: float = 0.0) -> list[Event]:
        """Return what the bytes mean, in order.

        Never raises: a ProtocolError is the last event, and nothing is read after it.
        """
        events: list[Event] = []
        if self._failed:
            return events
        answers, take = self._answers, self.receiving.take
        try:
            if len(data) > 7 and data[0] in (0x40, 0x70) and self._welcome and not self._framer.kept:
                data = answers.run(data)
            for first, body in self._framer.feed(data):
                event: Event | None
                if not self._welcome:
                    event = self._greeting(first, body)
                elif first >> 4 == _PUBLISH:
                    event = take(first, body)
                elif first in FIRST_BYTES and answers.take(first, body, now):
                    continue
                else:
                    event = self._event(first, body, now)
                if event is not None:
                    answers.told(events)
                    events.append(event)
        except ProtocolError as error:
            self._failed = True
            answers.told(events)
            events.append(error)
            return events
        answers.told(events)
        return events

    def untold(self, events: Iterable[Event]) -> None:
        """Take note that nobody was told these."""
        for event in events:
            if isinstance(event, Message):
                self.receiving.untold(event)

    def _greeting(self, first: int, body: bytes) -> Event:
        packet = decode(first, body, self.level)
        if isinstance(packet, Auth) and packet.reason == CONTINUE and self._same_method(packet.properties):
            return packet
        if not isinstance(packet, Connack):
            raise ProtocolError(f"{type(packet).__name__.upper()} before CONNACK", reason=PROTOCOL_ERROR)
        if not packet.reason:
            self._welcomed(packet)
        return packet

    def _event(self, first: int, body: bytes, now: float) -> Event | None:
        packet = decode(first, body, self.level)
        match packet:
            case Puback() | Pubrec() | Pubcomp():
                return self._answers.take_packet(packet, now)
            case Pubrel():
                return self.receiving.released(packet)
            case Suback() | Unsuback():
                return self._answered(packet)
            case Pingresp():
                return packet
            case Disconnect() if self.level >= 5:
                return packet
            case Auth() if packet.reason in (0, CONTINUE) and self._same_method(packet.properties):
                return packet
            case _:
                raise ProtocolError(f"{type(packet).__name__.upper()} where it cannot be", reason=PROTOCOL_ERROR)

    def _answered(self, packet: Suback | Unsuback) -> Answered | None:
        answer, count = self._asked.get(packet.packet_id, (None, 0))
        if answer is None:
            return None  # a second answer, which tells nothing
        reasons = list(packet.reasons)
        if said := printable(packet.properties.get("reason_string", "")):
            reasons = [Reason.with_words(reason, said) for reason in reasons]
        if self.level < 5 and answer is Unsuback:
            reasons = [0] * count
        if not isinstance(packet, answer) or len(reasons) != count:
            words = f"{type(packet).__name__.upper()} with {len(reasons)} reasons for {count} topic filters"
            raise ProtocolError(words, reason=PROTOCOL_ERROR)
        del self._asked[packet.packet_id]
        self.in_flight.give_back(packet.packet_id)
        return Answered(packet.packet_id, reasons)

    def _same_method(self, said: Properties) -> bool:
        method = self._options.authentication
        return method is not None and said.get("authentication_method") == method.method

    def _welcomed(self, packet: Connack) -> None:
        said, options = packet.properties, self._options
        if packet.session_present and options.clean:
            raise ProtocolError(
                "the broker goes on with a session, where a new one was asked for", reason=PROTOCOL_ERROR
            )
        if options.authentication is not None and not self._same_method(said):
            raise ProtocolError("CONNACK without the authentication that was asked for", reason=PROTOCOL_ERROR)
        self._welcome = True
        if not packet.session_present:
            self.receiving.received.clear()
        kept = options.session_expiry if self.level >= 5 else 0 if options.clean else _FOREVER
        self.limits = Limits(
            receive_maximum=said.get("receive_maximum", 0xFFFF),
            maximum_packet_size=said.get("maximum_packet_size"),
            maximum_qos=said.get("maximum_qos", 2),
            retain_available=bool(said.get("retain_available", 1)),
            topic_alias_maximum=said.get("topic_alias_maximum", 0),
            keep_alive=float(said.get("server_keep_alive", options.keep_alive)),
            client_id=said.get("assigned_client_identifier", options.client_id),
            session_expiry=said.get("session_expiry_interval", kept),
            wildcard_subscription_available=bool(said.get("wildcard_subscription_available", 1)),
            shared_subscription_available=bool(said.get("shared_subscription_available", 1)),
            subscription_identifier_available=bool(said.get("subscription_identifier_available", 1)),
            response_information=said.get("response_information"),
            server_reference=said.get("server_reference"),
            reason_string=said.get("reason_string"),
        )
        self.window = min(options.window, self.limits.receive_maximum, SPAN if options.numbered else 0xFFFF)
        self.sending.welcome(self.limits)
