"""Every packet that MQTT 3.1, 3.1.1 and 5.0 can say, as hypothesis strategies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gateway.mqtt import packets, properties
from gateway.mqtt.packets import Packet
from gateway.mqtt.properties import TABLE

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TOPIC = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=12)
FILTER = TEXT.filter(bool)
BYTES = st.binary(max_size=12)
IDENTIFIER = st.integers(1, 0xFFFF)
REASON = st.integers(0, 0xFF)

FORMS: dict[int, st.SearchStrategy[Any]] = {
    id(properties.FLAG): st.integers(0, 1),
    id(properties.U16): st.integers(0, 0xFFFF),
    id(properties.U16_NOT_0): st.integers(1, 0xFFFF),
    id(properties.U32): st.integers(0, 0xFFFF_FFFF),
    id(properties.U32_NOT_0): st.integers(1, 0xFFFF_FFFF),
    id(properties.VARINTS): st.lists(st.integers(1, 268_435_455), min_size=1, max_size=3),
    id(properties.BINARY): BYTES,
    id(properties.TEXT): TEXT,
    id(properties.PAIRS): st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3),
}


def _properties(place: int, level: int) -> st.SearchStrategy[Any]:
    """Every set of properties that may stand in a packet of this type; none before MQTT 5."""
    if level < 5:
        return st.just({})
    optional = {row.name: FORMS[id(row.form)] for row in TABLE if place in row.places}
    if place == properties.SUBSCRIBE:
        optional["subscription_identifiers"] = st.lists(st.integers(1, 268_435_455), min_size=1, max_size=1)
    found: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional=optional)
    return found.filter(lambda said: "authentication_method" in said or "authentication_data" not in said)


def _connects(level: int) -> st.SearchStrategy[Packet]:
    wills = st.builds(packets.Will, TOPIC, BYTES, st.integers(0, 2), st.booleans(), _properties(properties.WILL, level))
    logins = st.one_of(
        st.just((None, None)),
        st.tuples(TEXT, st.none() | BYTES),
        st.tuples(st.none() if level == 5 else TEXT, BYTES),
    )
    return st.builds(
        lambda login, **rest: packets.Connect(level=level, username=login[0], password=login[1], **rest),
        logins,
        client_id=TEXT,
        clean=st.booleans(),
        keep_alive=st.integers(0, 0xFFFF),
        will=st.none() | wills,
        properties=_properties(properties.CONNECT, level),
    )


def every_message(level: int) -> st.SearchStrategy[Packet]:
    """Every message of this protocol level."""
    said = _properties(properties.PUBLISH, level)
    return st.one_of(
        st.builds(packets.Publish, TOPIC, BYTES, st.just(0), st.booleans(), st.just(False), st.just(0), said),
        st.builds(packets.Publish, TOPIC, BYTES, st.integers(1, 2), st.booleans(), st.booleans(), IDENTIFIER, said),
    )


def _subscribes(level: int) -> st.SearchStrategy[Packet]:
    modern = (st.booleans(), st.booleans(), st.integers(0, 2)) if level == 5 else ()
    one = st.builds(packets.Subscription, FILTER, st.integers(0, 2), *modern)
    many = st.lists(one, min_size=1, max_size=3).map(tuple)
    return st.builds(packets.Subscribe, IDENTIFIER, many, _properties(properties.SUBSCRIBE, level))


def every_packet(level: int) -> st.SearchStrategy[Packet]:
    """Every packet of this protocol level, in either direction."""
    reason = REASON if level == 5 else st.just(0)
    codes = REASON if level == 5 else st.sampled_from([0, 1, 2, 0x80])
    some = st.lists(codes, min_size=1, max_size=3).map(tuple)

    def said(kind: int) -> st.SearchStrategy[Any]:
        return _properties(kind, level)

    answers = [
        st.builds(packet, IDENTIFIER, reason, said(kind))
        for packet, kind in (
            (packets.Puback, properties.PUBACK),
            (packets.Pubrec, properties.PUBREC),
            (packets.Pubrel, properties.PUBREL),
            (packets.Pubcomp, properties.PUBCOMP),
        )
    ]
    present = st.builds(packets.Connack, st.just(level > 3), st.just(0), said(properties.CONNACK))
    filters = st.lists(FILTER, min_size=1, max_size=3).map(tuple)
    modern = [st.builds(packets.Auth, REASON, said(properties.AUTH))] if level == 5 else []
    return st.one_of(
        _connects(level),
        present,
        st.builds(packets.Connack, st.just(False), REASON, said(properties.CONNACK)),
        every_message(level),
        *answers,
        _subscribes(level),
        st.builds(packets.Suback, IDENTIFIER, some, said(properties.SUBACK)),
        st.builds(packets.Unsubscribe, IDENTIFIER, filters, said(properties.UNSUBSCRIBE)),
        st.builds(packets.Unsuback, IDENTIFIER, some if level == 5 else st.just(()), said(properties.UNSUBACK)),
        st.just(packets.Pingreq()),
        st.just(packets.Pingresp()),
        st.builds(packets.Disconnect, reason, said(properties.DISCONNECT)),
        *modern,
    )
