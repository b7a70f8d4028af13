"""Messages on their way out: properties, aliases, QoS 2, numbered identifiers, and the broker's limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt import Options, ProtocolError
from gateway.mqtt.codec import decode, encode
from gateway.mqtt.events import Acknowledged, Recorded, Refused
from gateway.mqtt.framing import Framer
from gateway.mqtt.inflight import APART, SPAN
from gateway.mqtt.packets import Connack, Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from gateway.mqtt.properties import Properties
from gateway.mqtt.session import Session

LEVELS = pytest.mark.parametrize("level", [4, 5])
SAID = Properties(content_type="text", user_properties=[("a", "b"), ("a", "c")], correlation_data=b"\0\xff")


def session(level: int = 5, said: Properties | None = None, **options: object) -> Session:
    """Return a session that the broker has welcomed with these properties."""
    made = Session(Options("me", **options), level)  # type: ignore[arg-type]
    made.receive(encode(Connack(properties=said or Properties()), level))
    return made


def read(data: bytes, level: int = 5) -> list[Packet]:
    """Read what the session sends."""
    return [decode(first, body, level) for first, body in Framer(1 << 24, level).feed(data)]


def publishes(data: bytes, level: int = 5) -> list[Publish]:
    """Read what the session sends, of which all must be messages."""
    found = [packet for packet in read(data, level) if isinstance(packet, Publish)]
    assert len(found) == len(read(data, level))
    return found


@LEVELS
@given(qos=st.integers(0, 2), dup=st.booleans(), count=st.integers(0, 4), said=st.sampled_from([None, {}, SAID]))
def test_a_batch_carries_its_properties(level: int, qos: int, dup: bool, count: int, said: Properties | None) -> None:
    """Each message of a batch has the batch's properties, where MQTT has any; dup is said where it can be."""
    made = session(level)
    batch = [(b"t/%d" % n, b"%d" % n, n) for n in range(count)]
    data = made.publish(batch, qos, False, 0.0, said, dup)
    expected = said if said and level == 5 else Properties()
    assert publishes(data, level) == [
        Publish(f"t/{n}", b"%d" % n, qos, dup=dup and qos > 0, packet_id=n + 1 if qos else 0, properties=expected)
        for n in range(count)
    ]
    assert made.in_flight.tokens == (list(range(count)) if qos else [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic_alias": 1},
        {"subscription_identifiers": [1]},
        {"receive_maximum": 1},
        {"nonsense": 1},
        {"message_expiry_interval": -1},
    ],
)
def test_properties_that_a_message_cannot_have(wrong: Properties) -> None:
    """Properties that are none, or not the owner's to say, are refused before anything is sent."""
    made = session()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        made.publish([(b"t", b"", 1)], 1, False, 0.0, wrong)
    assert made.in_flight.tokens == []


@pytest.mark.parametrize(
    ("said", "qos", "retain", "words"),
    [
        (Properties(maximum_qos=1), 2, False, "QoS 2 is more than the broker's 1"),
        (Properties(maximum_qos=0), 1, False, "QoS 1 is more than the broker's 0"),
        (Properties(retain_available=0), 1, True, "retains no messages"),
    ],
)
def test_what_the_broker_has_not_is_not_sent(said: Properties, qos: int, retain: bool, words: str) -> None:
    """A broker that says what it cannot do is believed."""
    made = session(said=said)
    with pytest.raises(ValueError, match=words):
        made.publish([(b"t", b"", 1)], qos, retain, 0.0)
    assert made.in_flight.tokens == []
    made.publish([(b"t", b"", 1)], min(qos, 0), False, 0.0)


@pytest.mark.parametrize("topic", [b"a/+", b"#", b"a\0b", b"\xff"])
def test_a_topic_that_is_none_is_not_sent(topic: bytes) -> None:
    """What would make the broker hang up is found before, and costs nothing once a topic is known."""
    with pytest.raises(ValueError, match="topic"):
        session().publish([(topic, b"", 1)], 1, False, 0.0)


def test_fits_counts_the_properties() -> None:
    """`fits` says yes up to the very byte that the broker allows, whatever the properties."""
    for said in (None, SAID, Properties(content_type="x" * 130)):
        for size in (0, 100, 16_200, 16_300):
            written = len(session().publish([(b"top", bytes(size), 1)], 1, False, 0.0, said))
            for largest, expected in ((written, True), (written - 1, False)):
                made = session(said=Properties(maximum_packet_size=largest))
                assert made.fits(b"top", bytes(size), said) is expected


# -- topic aliases


def aliased(most: int = 2, **more: int) -> Session:
    return session(said=Properties(topic_alias_maximum=most, **more), topic_aliases=10)  # type: ignore[typeddict-item]


def sent(made: Session, *topics: str, said: Properties | None = None, qos: int = 0) -> list[tuple[str, int | None]]:
    data = made.publish([(one.encode(), b"x", 1) for one in topics], qos, False, 0.0, said)
    return [(packet.topic, packet.properties.get("topic_alias")) for packet in publishes(data)]


def test_a_topic_is_sent_once_and_then_its_alias() -> None:
    """The first message of a topic sets its alias up, later ones leave the topic out."""
    made = aliased()
    assert sent(made, "a", "a", "b") == [("a", 1), ("", 1), ("b", 2)]
    assert sent(made, "b", "a", qos=1) == [("", 2), ("", 1)]


def test_the_topics_used_last_keep_their_aliases() -> None:
    """Where there are more topics than aliases, the one not used for longest gives its alias away."""
    made = aliased()
    assert sent(made, "a", "b", "a", "c", "a", "b") == [("a", 1), ("b", 2), ("", 1), ("c", 2), ("", 1), ("b", 2)]


def test_no_alias_without_the_brokers_word() -> None:
    """A broker that says nothing of aliases gets none, and none more than it allows."""
    assert sent(session(topic_aliases=10), "a", "a") == [("a", None), ("a", None)]
    assert sent(session(said=Properties(topic_alias_maximum=5)), "a", "a") == [("a", None), ("a", None)]


def test_a_batch_that_is_not_sent_sets_up_no_alias() -> None:
    """After a ValueError the broker knows nothing of the aliases of that batch, and is not taken to."""
    made = aliased()
    assert sent(made, "a") == [("a", 1)]
    with pytest.raises(ValueError, match="topic"):
        made.publish([(b"b", b"", 1), (b"+", b"", 2)], 1, False, 0.0)
    assert sent(made, "b", "a") == [("b", 1), ("a", 2)]


def test_an_alias_never_makes_a_message_too_large() -> None:
    """A message that only fits without an alias goes without, and leaves the aliases as they were."""
    topic, payload = b"topic", bytes(50)
    exactly = len(session().publish([(topic, payload, 1)], 1, False, 0.0))
    made = aliased(maximum_packet_size=exactly)
    assert made.fits(topic, payload)
    for _ in range(2):
        (packet,) = publishes(made.publish([(topic, payload, 1)], 1, False, 0.0))
        assert (packet.topic, packet.properties) == ("topic", {})
    assert sent(made, "topic", "topic") == [("topic", 1), ("", 1)]
    (packet,) = publishes(made.publish([(topic, payload, 1)], 1, False, 0.0))
    assert (packet.topic, packet.properties) == ("", {"topic_alias": 1})


@given(st.lists(st.sampled_from("abcdef"), max_size=60), st.integers(1, 4), st.booleans())
def test_aliases_always_mean_the_topic(topics: list[str], most: int, with_properties: bool) -> None:
    """Whoever keeps the table as the specification says gets every topic back."""
    said, table = SAID if with_properties else None, dict[int, str]()
    data = aliased(most).publish([(one.encode(), b"x", 1) for one in topics], 0, False, 0.0, said)
    found = []
    for packet in publishes(data):
        alias = packet.properties.pop("topic_alias")
        assert 1 <= alias <= most
        assert packet.properties == (said or {})
        table[alias] = packet.topic or table[alias]
        found.append(table[alias])
    assert found == topics


# -- QoS 2


@LEVELS
def test_qos_2_has_two_steps(level: int) -> None:
    """A message is recorded, released by its owner, and acknowledged, and its identifier is taken until then."""
    made = session(level)
    identifiers = [
        one.packet_id for one in publishes(made.publish([(b"t", b"", n) for n in (7, 8)], 2, False, 0.0), level)
    ]
    assert made.receive(b"".join(encode(Pubrec(one), level) for one in identifiers)) == [Recorded([7, 8])]
    assert made.replies() == b""  # nothing goes on by itself
    assert (made.in_flight.tokens, made.in_flight.completing.tokens) == ([7, 8], [])
    assert read(made.sending.release([8, 99], 0.0), level) == [Pubrel(identifiers[1])]
    assert (sorted(made.in_flight.tokens), made.in_flight.completing.tokens) == ([7, 8], [8])
    assert not set(identifiers) & set(made.in_flight.identifiers(65_533))
    assert made.receive(encode(Pubcomp(identifiers[1]), level)) == [Acknowledged([8])]
    assert made.receive(encode(Pubcomp(identifiers[0]), level)) == []  # it was not released
    assert made.in_flight.tokens == [7]
    assert made.sending.release([8], 0.0) == b""


def test_a_refusal_of_qos_2_is_one() -> None:
    """PUBREC of 0x80 or above ends a message, and no PUBREL follows."""
    made = session()
    (packet,) = publishes(made.publish([(b"t", b"", 7)], 2, False, 0.0))
    assert made.receive(encode(Pubrec(packet.packet_id, 0x97), 5)) == [Refused(7, 0x97)]
    assert (made.replies(), len(made.in_flight)) == (b"", 0)
    assert made.sending.release([7], 0.0) == b""


def test_a_broker_that_has_completed_it_before_has_completed_it() -> None:
    """PUBCOMP with 0x92, not found, is an end: it was complete, and the broker has forgotten it."""
    made = session()
    (packet,) = publishes(made.publish([(b"t", b"", 7)], 2, False, 0.0))
    made.receive(encode(Pubrec(packet.packet_id, 0x10), 5))
    made.sending.release([7], 0.0)
    assert made.receive(encode(Pubcomp(packet.packet_id, 0x92), 5)) == [Acknowledged([7])]
    assert len(made.in_flight) == 0


@LEVELS
def test_a_broker_that_acknowledges_qos_2_as_qos_1(level: int) -> None:
    """PUBACK for a message of QoS 2, as RabbitMQ sends it, is its end, and is remembered as what it is."""
    made = session(level)
    data = made.publish([(b"t", b"", n) for n in range(5)], 2, False, 0.0)
    assert not made.in_flight.downgraded
    answers = b"".join(encode(Puback(one.packet_id), level) for one in publishes(data, level))
    assert made.receive(answers) == [Acknowledged([0, 1, 2, 3, 4])]
    assert made.in_flight.downgraded
    assert len(made.in_flight) == 0


@LEVELS
def test_qos_1_and_2_side_by_side(level: int) -> None:
    """Each answer is for its own kind, and one window holds all of them."""
    made = session(level)
    once = publishes(made.publish([(b"t", b"", 1)], 1, False, 0.0), level)[0].packet_id
    twice = publishes(made.publish([(b"t", b"", 2)], 2, False, 0.0), level)[0].packet_id
    assert (len(made.in_flight), sorted(made.in_flight.tokens)) == (2, [1, 2])
    assert made.receive(encode(Pubrec(twice), level) + encode(Puback(once), level)) == [
        Recorded([2]),
        Acknowledged([1]),
    ]
    assert not made.in_flight.downgraded


def test_a_message_that_nobody_asks_for_goes_on_by_itself() -> None:
    """A token of -1 is released at once, because nobody would do it."""
    made = session()
    (packet,) = publishes(made.publish([(b"t", b"", -1)], 2, False, 0.0))
    assert made.receive(encode(Pubrec(packet.packet_id), 5)) == []
    assert read(made.replies()) == [Pubrel(packet.packet_id)]
    assert len(made.in_flight) == 1
    assert made.receive(encode(Pubcomp(packet.packet_id), 5)) == []
    assert len(made.in_flight) == 0


@LEVELS
def test_an_answer_that_comes_twice(level: int) -> None:
    """A second PUBREC is answered if the message was released, and passed over while its owner has it."""
    made = session(level)
    (packet,) = publishes(made.publish([(b"t", b"", 7)], 2, False, 0.0), level)
    record = encode(Pubrec(packet.packet_id), level)
    assert made.receive(record * 2) == [Recorded([7])]
    assert made.replies() == b""
    made.sending.release([7], 0.0)
    assert made.receive(record) == []
    assert read(made.replies(), level) == [Pubrel(packet.packet_id)]


@LEVELS
def test_a_record_of_nothing_is_answered(level: int) -> None:
    """PUBREC for an identifier that is not known gets a PUBREL that says so, or at least ends it."""
    made = session(level)
    assert made.receive(encode(Pubrec(9), level)) == []
    assert read(made.replies(), level) == [Pubrel(9, 0x92 if level == 5 else 0)]
    assert made.receive(encode(Pubcomp(9), level)) == []


@LEVELS
def test_a_released_message_is_resumed_on_the_next_connection(level: int) -> None:
    """Its identifier follows from its token, so that the broker knows what is meant; it may be asked for twice."""
    made = session(level, numbered=True)
    token = 5 * SPAN + 41
    assert read(made.sending.resume([token, 3], 0.0), level) == [Pubrel(42), Pubrel(4)]
    assert made.sending.resume([3], 0.0) == b""
    assert made.in_flight.completing.tokens == [token, 3]
    assert made.in_flight.fitting([41]) == 0
    assert made.receive(encode(Pubcomp(42), level)) == [Acknowledged([token])]
    assert made.in_flight.fitting([41]) == 1
    with pytest.raises(ValueError, match="in flight"):
        made.sending.resume([3 + SPAN], 0.0)
    with pytest.raises(ValueError, match="numbered"):
        session(level).sending.resume([1], 0.0)


# -- numbered


@given(
    st.lists(st.integers(0, 3 * SPAN) | st.integers(APART, APART + 2000) | st.just(-1), max_size=40), st.integers(1, 2)
)
def test_numbered_messages_have_their_own_identifier(tokens: list[int], qos: int) -> None:
    """The identifier is a function of the token; what has no such token takes one that no token has."""
    made = session(numbered=True, window=65_535)
    assert made.window == SPAN
    fit = made.in_flight.fitting(tokens)
    own = [1 + token % SPAN for token in tokens if 0 <= token < APART]
    assert (fit == len(tokens)) is (len(set(own)) == len(own))
    packets = publishes(made.publish([(b"t", b"", token) for token in tokens[:fit]], qos, False, 0.0))
    for packet, token in zip(packets, tokens, strict=False):
        if 0 <= token < APART:
            assert packet.packet_id == 1 + token % SPAN
        else:
            assert SPAN < packet.packet_id <= 65_535
    assert len({packet.packet_id for packet in packets}) == fit
    if fit < len(tokens):
        with pytest.raises(ValueError, match="still in flight"):
            made.publish([(b"t", b"", tokens[fit])], qos, False, 0.0)
    identifier, _ = made.subscribe([("a", 0)])
    assert identifier > SPAN


def test_no_identifier_is_used_twice_while_it_is_in_flight() -> None:
    """A window that wraps waits for the old message, and says how much of a batch can go."""
    made = session(numbered=True, window=65_000)
    made.publish([(b"t", b"", n) for n in range(10)], 1, False, 0.0)
    later = list(range(SPAN - 3, SPAN + 5))
    assert made.in_flight.fitting(later) == 3
    made.receive(encode(Puback(1), 5))
    assert made.in_flight.fitting(later) == 4
    special = [APART + n for n in range(600)]
    assert made.in_flight.fitting(special) == 535


def test_the_age_counts_in_every_phase() -> None:
    """The broker owes PUBREC and PUBCOMP as it owes PUBACK; while the owner has a message, it owes nothing."""
    made = session()
    (packet,) = publishes(made.publish([(b"t", b"", 7)], 2, False, 10.0))
    assert made.in_flight.oldest() == 10.0
    made.receive(encode(Pubrec(packet.packet_id), 5))
    assert made.in_flight.oldest() is None
    made.sending.release([7], 20.0)
    assert made.in_flight.oldest() == 20.0
    made.publish([(b"t", b"", 8)], 1, False, 30.0)
    assert made.in_flight.oldest() == 20.0


@pytest.mark.parametrize("kind", ["40", "50", "70"])
@pytest.mark.parametrize("among", [0, 5])
def test_an_answer_with_identifier_0_is_a_breach(kind: str, among: int) -> None:
    """No packet has the identifier 0, whichever kind of answer it is in, and whichever way it is read."""
    made = session()
    *_, error = made.receive(bytes.fromhex(f"{kind} 02 0001") * among + bytes.fromhex(f"{kind} 02 0000"))
    assert isinstance(error, ProtocolError)
