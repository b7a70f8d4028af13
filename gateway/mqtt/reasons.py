"""Reason codes in words: MQTT 5.0 section 2.4, and the CONNACK return codes of MQTT 3.1.1 section 3.2.2.3."""

from __future__ import annotations

UNSPECIFIED = 0x80
MALFORMED = 0x81
PROTOCOL_ERROR = 0x82
UNSUPPORTED_VERSION = 0x84
NOT_AUTHORISED = 0x87
TOPIC_INVALID = 0x90
NOT_FOUND = 0x92
RECEIVE_MAXIMUM_EXCEEDED = 0x93
ALIAS_INVALID = 0x94
TOO_LARGE = 0x95

_WORDS = {
    0x00: "success",
    0x01: "granted QoS 1",
    0x02: "granted QoS 2",
    0x04: "disconnect with will message",
    0x10: "no matching subscribers",
    0x11: "no subscription existed",
    0x18: "continue authentication",
    0x19: "re-authenticate",
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "unsupported protocol version",
    0x85: "client identifier not valid",
    0x86: "bad user name or password",
    0x87: "not authorised",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8B: "server shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep-alive timeout",
    0x8E: "session taken over by another client with the same client id",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x92: "packet identifier not found",
    0x93: "receive maximum exceeded",
    0x94: "topic alias invalid",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x99: "payload format invalid",
    0x9A: "retain not supported",
    0x9B: "QoS not supported",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9E: "shared subscriptions not supported",
    0x9F: "connection rate exceeded",
    0xA0: "maximum connect time exceeded",
    0xA1: "subscription identifiers not supported",
    0xA2: "wildcard subscriptions not supported",
}

_CONNACK_3 = {
    1: "unsupported protocol version",
    2: "client identifier not valid",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorised",
}


class Reason(int):
    """A reason code that came with the broker's own words."""

    said: str

    @classmethod
    def with_words(cls, code: int, said: str) -> Reason:
        """Return the code with these words, which must fit for one line."""
        reason = cls(code)
        reason.said = said
        return reason


def in_words(reason: int) -> str:
    """Return an MQTT 5 reason code in words, with the code, and what the broker said: `not authorised (0x87): no`."""
    said = f": {reason.said}" if isinstance(reason, Reason) else ""
    return f"{_WORDS.get(reason, 'unknown reason')} (0x{int(reason):02X}){said}"


def connack_in_words(reason: int, level: int) -> str:
    """Return the code of a CONNACK in words; `level` is the protocol level that was asked for (3, 4 or 5)."""
    # A broker that does not know MQTT 5 answers in the codes of its own version.
    if level < 5 or reason in _CONNACK_3:
        return f"{_CONNACK_3.get(reason, 'unknown reason')} (code {reason})"
    return in_words(reason)
