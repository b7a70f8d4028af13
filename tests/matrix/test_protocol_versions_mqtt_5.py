"""All that MQTT 5.0 lets a message carry, a broker say and a client be told, and the limits that are obeyed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import Authentication, NotConnected, Outcome, SubscriptionRefused, Will
from gateway.mqtt.packets import Publish
from gateway.mqtt.properties import Properties
from tests.interop.peer import Peer
from tests.interop.ways import Way
from tests.matrix.quick import Told, numbers, payloads, publish, quick, until
from tests.scripted_broker import ScriptedBroker
from tests.system.harness import Mosquitto

# ---- what a message can carry

PROPERTIES: dict[str, Any] = {
    "payload_format_indicator": 1,
    "message_expiry_interval": 300,
    "content_type": "text/plain; charset=utf-8",
    "response_topic": "answers/ü",
    "correlation_data": b"\x00\x01\xff",
    "user_properties": [("colour", "blue"), ("colour", "green"), ("ü", "")],
}


@pytest.mark.system
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_all_properties_arrive_with_paho_at_the_other_end(mosquitto: Mosquitto, qos: int) -> None:
    """What a message carries beside its payload goes out and comes in as it was given, over a real scripted."""
    async with Peer(Way("mqtt", mosquitto.port)) as peer, quick(mosquitto.url, protocol="5") as client:
        await peer.subscribe("there", qos)
        assert await (await client.publish("there", "hello", qos, properties=PROPERTIES)) is Outcome.ACKNOWLEDGED
        assert await peer.next() == ("there", b"hello", qos, False, PROPERTIES)
        async with client.messages("back", qos) as messages:
            await peer.publish("back", b"hello", qos, PROPERTIES)
            came = await asyncio.wait_for(anext(messages), 5)
        heard = dict(came.properties)
        heard.pop("subscription_identifiers")  # mosquitto's answer to ours
        assert (came.topic, came.payload, came.qos, heard) == ("back", b"hello", qos, PROPERTIES)


@pytest.mark.system
async def test_the_will_carries_properties_and_a_delay(mosquitto: Mosquitto) -> None:
    """The broker publishes the will of a client that vanished after its delay, with all that it carries."""
    said = Properties(**PROPERTIES, will_delay_interval=1)
    will = Will("will", b"gone", 1, False, said)
    async with Peer(Way("mqtt", mosquitto.port)) as peer:
        await peer.subscribe("will", 1)
        async with quick(mosquitto.url, protocol="5", will=will, session_expiry=60) as client:
            await client.connected(5)
            began = asyncio.get_running_loop().time()
            client._uplink.link.connection.abort()  # as a power cut; of what it does itself, the client is not told
            assert await peer.next() == ("will", b"gone", 1, False, PROPERTIES)
            assert asyncio.get_running_loop().time() - began > 0.5


async def test_older_versions_leave_properties_out(scripted: ScriptedBroker) -> None:
    """A message with properties goes to an old broker without them, and arrives."""
    async with quick(scripted, protocol="3.1.1") as client:
        assert await (await client.publish("t", b"1", properties=PROPERTIES)) is Outcome.ACKNOWLEDGED
    assert (payloads(scripted), scripted.publishes[0].properties) == ([b"1"], {})


async def test_topics_are_sent_as_numbers_where_both_sides_want_it(scripted: ScriptedBroker) -> None:
    """No more aliases than asked for, and than the broker takes; on a new link they are set up anew."""
    scripted.connack["topic_alias_maximum"] = 2
    async with quick(scripted, topic_aliases=10) as client:
        for _ in range(2):
            for _ in range(3):
                for topic in ("a", "b"):
                    await (await client.publish(topic, b"x"))
            before = len(scripted.connects)
            scripted.drop()
            await scripted.until(lambda before=before: len(scripted.connects) > before)
    assert [one.topic for one in scripted.publishes] == ["a", "b"] * 6
    assert [one.properties.get("topic_alias") for one in scripted.publishes] == [1, 2] * 6
    assert scripted.errors == []


async def test_the_brokers_aliases_are_understood(scripted: ScriptedBroker) -> None:
    """What comes with an alias and no topic is told with its topic."""
    scripted.granted = lambda name, qos: qos
    async with quick(scripted, topic_alias_maximum=5) as client, client.messages("#", 0) as messages:
        assert scripted.connects[0].properties["topic_alias_maximum"] == 5
        scripted.send(Publish("long/topic", b"1", properties=Properties(topic_alias=5)))
        scripted.send(Publish("", b"2", properties=Properties(topic_alias=5)))
        heard = [await asyncio.wait_for(anext(messages), 5) for _ in range(2)]
    assert [(one.topic, one.payload) for one in heard] == [("long/topic", b"1"), ("long/topic", b"2")]


async def test_what_connect_says_and_asks(scripted: ScriptedBroker) -> None:
    """Session expiry, receive maximum, largest packet, user properties and request for response information."""
    scripted.connack["response_information"] = "answers/ours"
    async with quick(
        scripted,
        clean_start=False,
        session_expiry=3600,
        receive_maximum=7,
        maximum_packet_size=5000,
        user_properties=[("who", "ours")],
        request_response_information=True,
    ) as client:
        await client.connected(5)
        limits = client.status.limits
        assert limits is not None
        assert limits.response_information == "answers/ours"
        assert limits.session_expiry == 3600
    (hello,) = scripted.connects
    assert not hello.clean
    assert hello.properties == {
        "session_expiry_interval": 3600,
        "receive_maximum": 7,
        "maximum_packet_size": 5000,
        "user_properties": [("who", "ours")],
        "request_response_information": 1,
    }


# ---- reasons


async def test_the_reason_of_a_refused_connect(scripted: ScriptedBroker) -> None:
    """CONNACK's code is told in words, with the broker's own."""
    scripted.refuse, scripted.refusal = 0x8A, Properties(reason_string="three strikes")
    async with quick(scripted, protocol="5") as client:
        with pytest.raises(NotConnected, match=r"banned \(0x8A\): three strikes"):
            await client.connected(0.2)
        assert "three strikes" in (client.status.brokers[0].reason or "")


async def test_the_reason_of_a_server_disconnect(scripted: ScriptedBroker) -> None:
    """The broker's DISCONNECT is told in words, and followed by a new connect."""
    told = Told()
    async with quick(scripted, protocol="5", **told.calls) as client:
        await client.connected(5)
        scripted.disconnect(0x98, Properties(reason_string="maintenance"))
        await until(lambda: len(told.connected) == 2)
    (lost,) = told.lost
    assert lost.reason == "the broker ended the session: administrative action (0x98): maintenance"


@pytest.mark.parametrize("qos", [1, 2])
async def test_the_reason_of_a_refused_message(scripted: ScriptedBroker, qos: int) -> None:
    """A message that the broker will never take is rejected with its code and words; what is behind it flows."""
    scripted.puback_reason = lambda packet: 0x99 if packet.payload == b"1" else 0
    scripted.puback_properties = Properties(reason_string="not JSON")
    async with quick(scripted, protocol="5") as client:
        outcomes = await asyncio.gather(*(deliveries := await publish(client, range(3), qos)))
        assert outcomes == [Outcome.ACKNOWLEDGED, Outcome.REJECTED, Outcome.ACKNOWLEDGED]
        assert deliveries[1].reason == "payload format invalid (0x99): not JSON"
        assert client.status.quarantined == 1


async def test_the_reason_of_a_message_refused_for_now(scripted: ScriptedBroker) -> None:
    """A refusal that concerns the client and not the message costs the link, with the words, and no message."""
    refusing = [True]
    scripted.puback_reason = lambda packet: 0x97 if refusing else 0
    scripted.puback_properties = Properties(reason_string="try later")
    told = Told()
    async with quick(scripted, protocol="5", **told.calls) as client:
        delivery = await client.publish("t", b"1")
        await until(lambda: told.lost)
        assert told.lost[0].reason == "publish refused: quota exceeded (0x97): try later"
        refusing.clear()
        assert await delivery is Outcome.ACKNOWLEDGED


async def test_the_reason_of_a_refused_subscription(scripted: ScriptedBroker) -> None:
    """SUBACK's code is told in words, for the filter that it concerns."""
    scripted.granted = lambda name, qos: 0x87 if name == "secret" else qos
    async with quick(scripted, protocol="5") as client:
        assert await client.subscribe("open", qos=2) == 2
        with pytest.raises(SubscriptionRefused, match=r"secret: not authorised \(0x87\)") as caught:
            await client.subscribe("secret")
        assert (caught.value.filter, caught.value.reason) == ("secret", 0x87)


# ---- enhanced authentication


class Riddle:
    """Answers each riddle with its reverse."""

    method = "RIDDLE"

    def __init__(self) -> None:
        self.heard: list[bytes | None] = []

    def start(self) -> bytes | None:
        return b"hello"

    def answer(self, data: bytes | None) -> bytes | None:
        self.heard.append(data)
        if data == b"liar":
            raise ValueError("that is not the broker")
        return (data or b"")[::-1]


async def test_enhanced_authentication(scripted: ScriptedBroker) -> None:
    """Every challenge is answered by the hook, on every link anew; the last word is heard as well."""
    hook: Authentication = Riddle()
    scripted.challenges, scripted.last_word = [b"one", b"two"], b"welcome"
    async with quick(scripted, authentication=hook) as client:
        await client.connected(5)
        scripted.drop()
        await until(lambda: len(scripted.connects) == 2 and client.status.broker)
    said = scripted.connects[0].properties
    assert (said["authentication_method"], said["authentication_data"]) == ("RIDDLE", b"hello")
    assert [packet.properties["authentication_data"] for packet in scripted.auths] == [b"eno", b"owt"] * 2
    assert isinstance(hook, Riddle)
    assert hook.heard == [b"one", b"two", b"welcome"] * 2


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"challenges": [b"liar"]}, "that is not the broker"),
        ({"refuse": 0x8C}, "bad authentication method"),
        ({"levels": (4,)}, "unsupported protocol version"),
    ],
)
async def test_authentication_that_fails(scripted: ScriptedBroker, knobs: dict[str, Any], words: str) -> None:
    """A side that does not trust the other says why; an old broker is no way round it."""
    for name, value in knobs.items():
        setattr(scripted, name, value)
    async with quick(scripted, authentication=Riddle()) as client:
        with pytest.raises(NotConnected, match=words):
            await client.connected(0.2)
    assert {packet.level for packet in scripted.connects} == {5}


# ---- what the broker allows


async def test_the_assigned_client_id(scripted: ScriptedBroker) -> None:
    """An empty client id is the broker's to choose, and the one in force is shown."""
    scripted.connack["assigned_client_identifier"] = "visitor-17"
    async with quick(scripted, client_id="", protocol="5") as client:
        await client.connected(5)
        assert client.status.limits is not None
        assert client.status.limits.client_id == "visitor-17"
    assert scripted.connects[0].client_id == ""


async def test_the_servers_keep_alive(scripted: ScriptedBroker) -> None:
    """The broker's keep-alive is kept, instead of ours."""
    scripted.connack["server_keep_alive"] = 1
    async with quick(scripted, keep_alive=600) as client:
        await client.connected(5)
        await scripted.until(lambda: scripted.pings > 0, 3)
        assert client.status.limits is not None
        assert client.status.limits.keep_alive == 1.0


@pytest.mark.parametrize("qos", [1, 2])
async def test_the_receive_maximum(scripted: ScriptedBroker, qos: int) -> None:
    """Never more unacknowledged messages than the broker takes, also right after a reconnect."""
    scripted.receive_maximum = 3
    scripted.hold_acks = True
    most = 0
    async with quick(scripted, ack_timeout=5) as client:
        deliveries = await publish(client, range(30), qos)
        await scripted.until(lambda: scripted.held == 3)
        scripted.drop()
        scripted.hold_acks = True
        await scripted.until(lambda: scripted.held >= 1)
        while not all(delivery.done for delivery in deliveries):
            most = max(most, scripted.held)
            scripted.release()
            scripted.hold_acks = True
            await asyncio.sleep(0)
    assert 1 <= most <= 3
    assert sorted(set(numbers(scripted))) == list(range(30))


async def test_the_largest_packet(scripted: ScriptedBroker) -> None:
    """What is larger than the broker takes is rejected with both sizes, and not a byte of it is sent."""
    scripted.maximum_packet_size = 200
    async with quick(scripted) as client:
        small = await client.publish("t", b"1")
        large = await client.publish("t", b"2" * 300)
        again = await client.publish("t", b"3")
        outcomes = [await one for one in (small, large, again)]
        assert outcomes == [Outcome.ACKNOWLEDGED, Outcome.REJECTED, Outcome.ACKNOWLEDGED]
        assert large.reason is not None
        assert "packet has 30" in large.reason
        assert "at most 200" in large.reason
    assert payloads(scripted) == [b"1", b"3"]


async def test_the_maximum_qos_and_no_retain(scripted: ScriptedBroker) -> None:
    """What the broker has not is sent with what it has; that is said once, not for each message."""
    scripted.connack["maximum_qos"] = 1
    scripted.connack["retain_available"] = 0
    with capture_logs() as logs:
        async with quick(scripted) as client:
            for number in range(5):
                assert await (await client.publish("t", b"%d" % number, 2, retain=True)) is Outcome.ACKNOWLEDGED
    assert [(qos, retain) for _, _, qos, retain in scripted.published] == [(1, False)] * 5
    said = [entry["event"] for entry in logs if "QoS 2 sent as QoS 1" in entry["event"]]
    assert len(said) == 1
    assert "retained message sent as any other" in said[0]


@pytest.mark.parametrize(
    ("property_name", "topic_filter", "words"),
    [
        ("wildcard_subscription_available", "a/+", "wildcard"),
        ("wildcard_subscription_available", "#", "wildcard"),
        ("shared_subscription_available", "$share/group/a", "shared"),
    ],
)
async def test_subscriptions_that_the_broker_has_not(
    scripted: ScriptedBroker, property_name: str, topic_filter: str, words: str
) -> None:
    """They are refused here, in words; the broker, which would have to hang up, is not asked."""
    scripted.connack[property_name] = 0
    async with quick(scripted) as client:
        await client.connected(5)
        with pytest.raises(ValueError, match=rf"the broker has no {words} subscriptions"):
            await client.subscribe(topic_filter)
        assert await client.subscribe("plain") == 1
    assert len(scripted.subscribes) == 1


@pytest.mark.parametrize("available", [0, 1])
async def test_subscription_identifiers(scripted: ScriptedBroker, available: int) -> None:
    """They are used where the broker knows them, and overlapping filters work with and without."""
    scripted.connack["subscription_identifier_available"] = available
    scripted.deliver = True
    async with (
        quick(scripted) as client,
        client.messages("a/+") as some,
        client.messages("a/b") as one,
    ):
        await client.publish("a/b", b"x")
        for messages in (some, one):
            assert (await asyncio.wait_for(anext(messages), 5)).payload == b"x"
    known = ["subscription_identifiers" in packet.properties for packet in scripted.subscribes]
    assert known == [bool(available)] * 2
