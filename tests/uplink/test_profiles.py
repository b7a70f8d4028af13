"""Broker profiles: what becomes of messages and options at brokers that cannot say what they take."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt import Limits, Will
from gateway.mqtt.codec import encode
from gateway.mqtt.packets import Publish
from gateway.uplink.profiles import PROFILES, Profile, check_options, clamp, effective, fitted_will, judge, profile

names = st.sampled_from(sorted(PROFILES))
profiles = names.map(profile)
levels = st.lists(st.text("ab$ .é", max_size=40), min_size=1, max_size=12)
starts = st.sampled_from(["", "/", "$SYS/", "$aws/rules/pump/", "devices/pump/messages/events/", "$iothub/"])
topics = st.builds(lambda start, rest: start + "/".join(rest), starts, levels).filter(bool)
sizes = st.one_of(st.integers(0, 400), st.integers(1 << 10, 1 << 21))
qualities = st.integers(0, 2)
wills = st.builds(Will, topics, st.binary(max_size=300), qualities, st.booleans())
limits = st.builds(
    Limits,
    receive_maximum=st.integers(1, 0xFFFF),
    maximum_packet_size=st.none() | st.integers(20, 1 << 22),
    maximum_qos=qualities,
    retain_available=st.booleans(),
)

INTACT = ("generic", "hivemq", "nats")  # with QoS 2 and retained messages


def test_a_config_may_name_these() -> None:
    """A name in a config stays a name."""
    clouds = {"aws-iot", "azure-iot-hub", "azure-event-grid", "alibaba-iot"}
    assert set(PROFILES) == clouds | {"hivemq", "rabbitmq", "nats", "generic"}
    assert all(known.name == name for name, known in PROFILES.items())


@pytest.mark.parametrize(("wrong", "meant"), [("aws", "aws-iot"), ("AWS-IoT", "aws-iot"), ("rabitmq", "rabbitmq")])
def test_a_misspelt_profile_is_answered_with_the_one_meant(wrong: str, meant: str) -> None:
    """Whoever mistypes a profile is told which there is, and does not run without its limits."""
    with pytest.raises(ValueError, match=f'unknown profile "{wrong}"; did you mean "{meant}"\\?'):
        profile(wrong)
    with pytest.raises(ValueError, match=r'^unknown profile "xyzzy" \(there is: generic, aws-iot, '):
        profile("xyzzy")


@given(topics, sizes, qualities, st.booleans())
def test_generic_takes_everything_as_it_is(topic: str, size: int, qos: int, retain: bool) -> None:
    """Who names no profile is held to none."""
    assert judge(profile("generic"), topic.encode(), size, qos, retain) == (qos, retain, None, None)


@given(profiles, st.none() | limits, topics, sizes, qualities, st.booleans())
def test_nothing_is_let_through_beyond_a_bound(
    known: Profile, said: Limits | None, topic: str, size: int, qos: int, retain: bool
) -> None:
    """What is not refused fits every bound, and is sent with no more than the broker has."""
    bounds = effective(known, said)
    verdict = judge(bounds, topic.encode(), size, qos, retain)
    assert verdict.qos <= bounds.maximum_qos
    assert not (verdict.retain and not bounds.retain)
    if verdict.refused is not None:
        return
    assert (verdict.downgraded is None) == ((verdict.qos, verdict.retain) == (qos, retain))
    counted = topic.encode()
    if bounds.uncounted and (start := bounds.uncounted.match(counted)):
        counted = counted[start.end() :]
    assert bounds.topic_size is None or len(counted) <= bounds.topic_size
    assert bounds.topic_levels is None or len(counted.split(b"/")) <= bounds.topic_levels
    assert bounds.payload_size is None or size <= bounds.payload_size
    assert bounds.topic_form is None or bounds.topic_form.fullmatch(topic.encode())
    if bounds.packet_size is not None:
        packet = Publish(topic, bytes(size), verdict.qos, packet_id=1 if verdict.qos else 0)
        assert len(encode(packet, 5)) <= bounds.packet_size


@given(limits, st.integers(0, 300), qualities)
def test_the_largest_packet_that_a_broker_takes_is_not_refused(said: Limits, size: int, qos: int) -> None:
    """The packet is measured as MQTT 5 writes it, to the byte."""
    bounds = effective(profile("generic"), replace(said, maximum_qos=2, maximum_packet_size=None))
    length = len(encode(Publish("a/b", bytes(size), qos, packet_id=1 if qos else 0), 5))
    assert judge(replace(bounds, packet_size=length), b"a/b", size, qos, False).refused is None
    refused = judge(replace(bounds, packet_size=length - 1), b"a/b", size, qos, False).refused
    assert refused == f"packet has {length} bytes; this broker takes at most {length - 1}"


@given(profiles, limits)
def test_what_connack_says_only_narrows(known: Profile, said: Limits) -> None:
    """Of two bounds the smaller holds, whoever named it; what CONNACK does not speak of stays."""
    both = effective(known, said)
    assert both.maximum_qos == min(known.maximum_qos, said.maximum_qos)
    assert both.retain == (known.retain and said.retain_available)
    for bound, of_profile, of_broker in (
        (both.packet_size, known.packet_size, said.maximum_packet_size),
        (both.window or 0xFFFF, known.window or 0xFFFF, said.receive_maximum),
    ):
        told = [each for each in (of_profile, of_broker) if each is not None]
        assert bound == (min(told) if told else None)
    spoken_of = {"maximum_qos", "retain", "packet_size", "window", "unlimited"}
    assert all(
        getattr(both, each.name) == getattr(known, each.name) for each in fields(known) if each.name not in spoken_of
    )


@given(profiles)
def test_a_broker_that_says_nothing_changes_nothing(known: Profile) -> None:
    """The profile alone holds before CONNACK, and after one without limits, as on 3.1.1."""
    assert effective(known, None) is known
    assert effective(known, Limits()) is known


@pytest.mark.parametrize(
    ("name", "topic", "size", "words"),
    [
        ("aws-iot", "1/2/3/4/5/6/7/8", 128 << 10, None),
        ("aws-iot", "1/2/3/4/5/6/7/8/9", 1, "topic has 9 levels; aws-iot takes at most 8"),
        ("aws-iot", "é" * 129, 1, "topic has 258 bytes; aws-iot takes at most 256"),
        ("aws-iot", "a", (128 << 10) + 1, "payload has 131073 bytes; aws-iot takes at most 131072"),
        ("aws-iot", "$SYS", 1, 'topic "$SYS" is not what aws-iot takes: a topic that begins with $ is one of $aws/...'),
        ("aws-iot", "$aws/things/pump/shadow/update", 1, None),
        ("aws-iot", "$aws/rules/pump/1/2/3/4/5/6/7/8", 1, None),
        ("aws-iot", "$aws/rules/pump/1/2/3/4/5/6/7/8/9", 1, "topic has 9 levels; aws-iot takes at most 8"),
        ("azure-iot-hub", "devices/pump/messages/events/", 1, None),
        ("azure-iot-hub", "devices/pump/messages/events/device=boiler&$.ct=application%2Fjson", 1, None),
        ("azure-iot-hub", "devices/pump/modules/m/messages/events/", 1, None),
        ("azure-iot-hub", "$iothub/a", 256 << 10, "packet has 262162 bytes; azure-iot-hub takes at most 262144"),
        ("azure-event-grid", "1/2/3/4/5/6/7/8/9", 1, "topic has 9 levels; azure-event-grid takes at most 8"),
        ("azure-event-grid", "a", 512 << 10, "packet has 524298 bytes; azure-event-grid takes at most 524288"),
        ("alibaba-iot", "/pk/pump/user/update", 1, None),
        ("rabbitmq", "a" * 5000, 1, None),
        ("rabbitmq", "a/b", 16 << 20, "packet has 16777229 bytes; rabbitmq takes at most 16777216"),
        ("nats", "a/b.c", 1, None),
        ("nats", "a b", 1, 'topic "a b" is not what nats takes: topics without spaces and control characters'),
        ("hivemq", "/a b/" * 300, 1 << 20, None),
    ],
)  # fmt: skip
def test_refusals_name_the_limit(name: str, topic: str, size: int, words: str | None) -> None:
    """Who reads why a message was set aside knows which limit it passed, and by how much; what fits is not refused."""
    assert judge(profile(name), topic.encode(), size, 1, False).refused == words


@pytest.mark.parametrize("topic", ["sensors/pump/status", "devices/pump/status", "devices//messages/events/", "$SYS/a"])
def test_iot_hub_gets_its_own_topics_only(topic: str) -> None:
    """Azure IoT Hub hangs up on any other topic, so it is not sent one."""
    assert "is not what azure-iot-hub takes: devices/DEVICE/messages/events/..." in str(
        judge(profile("azure-iot-hub"), topic.encode(), 1, 1, False).refused
    )


TOPICS = {"azure-iot-hub": b"devices/pump/messages/events/", "alibaba-iot": b"/pk/pump/user/update"}


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_downgrades_are_said_in_words(name: str) -> None:
    """A message that a broker takes only with less is sent with less, and what is missing is named."""
    known = profile(name)
    topic = TOPICS.get(name, b"a/b")
    said = []
    if name not in INTACT:
        said.append(f"QoS 2 sent as QoS 1: {name} has no QoS 2")
    if not known.retain:
        said.append(f"retained message sent as any other: {name} retains none")
    qos = 2 if name in INTACT else 1
    assert judge(known, topic, 10, 2, True) == (qos, known.retain, None, "; ".join(said) or None)
    assert judge(known, topic, 10, 1, False) == (1, False, None, None)


def test_a_broker_that_names_itself_only_in_connack_is_this_broker() -> None:
    """Nobody is told about a broker called "generic"."""
    bounds = effective(profile("generic"), Limits(maximum_qos=0, retain_available=False))
    words = (
        "QoS 1 sent as QoS 0: this broker has no QoS 1; retained message sent as any other: this broker retains none"
    )
    assert judge(bounds, b"a", 1, 1, True) == (0, False, None, words)


@given(profiles, wills, st.floats(0, 65535), st.integers(1, 0xFFFF))
def test_what_is_fitted_is_never_at_fault(known: Profile, will: Will, keep_alive: float, window: int) -> None:
    """Whoever uses what is offered instead has no fault left, and it is offered only where there was one."""
    fitted, words = fitted_will(known, will)
    seconds, messages = clamp(known, keep_alive=keep_alive, window=window)
    assert check_options(known, will=fitted, keep_alive=seconds, window=messages, username="x") == []
    assert (fitted == will) == (words is None)
    assert seconds == keep_alive or check_options(known, keep_alive=keep_alive, username="x")
    assert messages == window or check_options(known, window=window, username="x")
    assert messages <= window
    if fitted is not None:
        assert judge(known, fitted.topic.encode(), len(fitted.payload), fitted.qos, fitted.retain)[2:] == (None, None)


def test_faults_name_option_and_bound() -> None:
    """A config that a broker will refuse is refused before it, with every fault at once."""
    will = Will("a/b", b"offline")
    assert check_options(
        profile("alibaba-iot"), client_id="pump", keep_alive=5, will=will, window=11, protocol="4", username=None
    ) == [
        'client_id "pump" is not what alibaba-iot takes: 1 to 64 characters and "|securemode=2,signmethod=hmacsha256|"',
        "keep_alive 5s is out of bounds: alibaba-iot takes 30s to 1200s",
        "will: alibaba-iot takes none",
        "window 11 is too large: alibaba-iot takes at most 10 unacknowledged messages",
        "protocol 4 is not what alibaba-iot speaks: 3.1 or 3.1.1 or 5",
        "username is missing: alibaba-iot takes nobody without",
    ]
    assert check_options(profile("azure-iot-hub"), keep_alive=0, will=will, protocol="5", username="x") == [
        "keep_alive 0s is out of bounds: azure-iot-hub takes up to 1177s",
        'will: topic "a/b" is not what azure-iot-hub takes: devices/DEVICE/messages/events/..., '
        "devices/DEVICE/modules/MODULE/messages/events/... or $iothub/...",
        "protocol 5 is not what azure-iot-hub speaks: 3.1.1",
    ]


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_options_that_nobody_chose_are_no_fault(name: str) -> None:
    """The gateway's own defaults are fitted without a complaint."""
    assert check_options(profile(name), username="x") == []


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("aws-iot", ["a", "x" * 128, "é" * 64], ["", "$a", "x" * 129, "é" * 65]),
        ("azure-iot-hub", ["pump-1", "pump/module"], ["", "a b", "a/b/c", "x" * 129, "é"]),
        ("azure-event-grid", ["pump"], [""]),
        ("alibaba-iot", ["1|securemode=2|"], ["1", "|securemode=2|", "x" * 65 + "|a=1|"]),
        ("generic", ["", "x" * 1000], []),
    ],
)
def test_client_identifiers(name: str, good: list[str], bad: list[str]) -> None:
    """A client identifier that a broker will refuse is found before the broker is asked."""
    known = profile(name)
    assert [each for each in (*good, *bad) if check_options(known, client_id=each, username="x")] == bad


@pytest.mark.parametrize(("asked", "used"), [(0, 1200), (5, 30), (60, 60), (9999, 1200)])
def test_keep_alive_is_brought_within_bounds(asked: float, used: float) -> None:
    """No keep-alive is the longest one at a broker that wants a sign of life."""
    assert clamp(profile("aws-iot"), keep_alive=asked, window=1000) == (used, 100)
    assert clamp(profile("generic"), keep_alive=asked, window=1000) == (asked, 1000)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_auto_finds_what_any_broker_speaks(name: str) -> None:
    """With "auto" there is nothing to get wrong, nor with anything that the broker speaks."""
    for protocol in ("auto", *profile(name).protocols):
        assert check_options(profile(name), protocol=protocol, username="x") == []
