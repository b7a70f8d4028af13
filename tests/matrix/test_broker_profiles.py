"""Broker profiles: what a broker cannot say is known, and nothing is sent to it on which it would hang up."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import Broker, Credentials, Delivery, NotConnected, Outcome, Will
from gateway.uplink.credentials import sas_token
from tests.matrix.quick import Told, numbers, payloads, publish, quick, until
from tests.scripted_broker import ScriptedBroker

KIB = 1 << 10
# What clouds insist on, for tests of something else.
WELCOME: dict[str, dict[str, Any]] = {
    "azure-iot-hub": {"username": "hub/ours", "client_id": "ours"},
    "alibaba-iot": {"username": "ours&product", "client_id": "1|securemode=2,signmethod=hmacsha256|"},
}


def at(profile: str, broker: ScriptedBroker, **options: Any) -> Any:
    """Return a client of a broker of this kind, which on 3.1.1 cannot say what it takes."""
    broker.levels, broker.unsupported = (4,), None
    return quick(broker, profile=profile, **{**WELCOME.get(profile, {}), "protocol": "3.1.1", **options})


async def outcomes(deliveries: Iterable[Delivery]) -> list[Outcome]:
    """Wait for all of these."""
    async with asyncio.timeout(8):
        return [await delivery for delivery in deliveries]


@pytest.mark.parametrize(
    ("profile", "good", "bad", "size", "words"),
    [
        ("aws-iot", "a", "a", 128 * KIB + 1, "payload has 131073 bytes; aws-iot takes at most 131072"),
        ("aws-iot", "1/2/3/4/5/6/7/8", "1/2/3/4/5/6/7/8/9", 1, "topic has 9 levels; aws-iot takes at most 8"),
        ("aws-iot", "a" * 256, "a" * 257, 1, "topic has 257 bytes; aws-iot takes at most 256"),
        (
            "azure-iot-hub",
            "devices/ours/messages/events/",
            "elsewhere",
            1,
            'topic "elsewhere" is not what azure-iot-hub takes: devices/DEVICE/messages/events/...',
        ),
        (
            "azure-iot-hub",
            "devices/ours/messages/events/",
            "devices/ours/messages/events/",
            256 * KIB,
            "bytes; azure-iot-hub takes at most 262144",
        ),
        ("azure-event-grid", "a", "a", 512 * KIB, "bytes; azure-event-grid takes at most 524288"),
        ("alibaba-iot", "/product/ours/user/x", "x", 1, "alibaba-iot takes: topics begin with /"),
        ("nats", "a.b", "a b", 1, "nats takes: topics without spaces and control characters"),
        ("nats", "a", "a", 1 << 20, "bytes; nats takes at most 1047552"),
        ("rabbitmq", "a", "a", 16 << 20, "bytes; rabbitmq takes at most 16777216"),
    ],
)
async def test_what_a_broker_never_takes(
    scripted: ScriptedBroker, profile: str, good: str, bad: str, size: int, words: str
) -> None:
    """It is set aside before a byte of it is sent, with the limit named; what is behind it flows on the same link."""
    async with at(profile, scripted) as client:
        deliveries = [await client.publish(good, b"1"), await client.publish(bad, bytes(size))]
        deliveries.append(await client.publish(good, b"2"))
        assert await outcomes(deliveries) == [Outcome.ACKNOWLEDGED, Outcome.REJECTED, Outcome.ACKNOWLEDGED]
        assert words in (deliveries[1].reason or "")
        (aside,) = await client.quarantined()
        assert aside.reason == deliveries[1].reason
        assert client.status.quarantined == 1
    assert payloads(scripted, topic=good) == [b"1", b"2"]
    assert len(scripted.publishes) == 2
    assert len(scripted.connects) == 1


@pytest.mark.parametrize(
    ("profile", "qos", "retain"),
    [("aws-iot", 1, True), ("azure-event-grid", 1, False), ("rabbitmq", 1, True), ("nats", 2, True)],
)
async def test_what_is_sent_with_less_is_said_once_and_counted(
    scripted: ScriptedBroker, profile: str, qos: int, retain: bool
) -> None:
    """QoS 2 and retain become what the broker has: one line in the log, and a count of the messages."""
    less = (qos, retain) != (2, True)
    with capture_logs() as logs:
        async with at(profile, scripted) as client:
            for round_ in range(2):
                found = [await client.publish("t", b"x", 2, retain=True) for _ in range(5)]
                assert set(await outcomes(found)) == {Outcome.ACKNOWLEDGED}
                assert client.status.downgraded == (5 * (round_ + 1) if less else 0)
                scripted.drop()
                await until(lambda round_=round_: len(scripted.connects) == round_ + 2 and client.status.broker)
    assert {(one.qos, one.retain) for one in scripted.publishes} == {(qos, retain)}
    said = [entry["event"] for entry in logs if "sent as" in entry["event"]]
    assert len(said) == (1 if less else 0)
    assert all(profile in one for one in said)


async def test_a_will_that_a_broker_does_not_take(scripted: ScriptedBroker) -> None:
    """It is left out, which is said once; the link is made all the same."""
    with capture_logs() as logs:
        async with at("alibaba-iot", scripted, will=Will("/product/ours/user/will", b"gone")) as client:
            for connects in (1, 2, 3):
                await until(lambda n=connects: len(scripted.connects) == n and client.status.broker)
                scripted.drop()
    assert [packet.will for packet in scripted.connects[:3]] == [None] * 3
    assert [entry["event"] for entry in logs if "will" in entry["event"]] == [
        "client: no will armed: alibaba-iot takes none"
    ]


@pytest.mark.parametrize(
    ("profile", "asked", "used"),
    [("aws-iot", 5, 30), ("aws-iot", 0, 1200), ("azure-iot-hub", 3600, 1177), ("alibaba-iot", 1, 30), ("nats", 7, 7)],
)
async def test_keep_alive_is_brought_within_bounds(
    scripted: ScriptedBroker, profile: str, asked: int, used: int
) -> None:
    """CONNECT says the nearest value that the broker takes."""
    async with at(profile, scripted, keep_alive=asked) as client:
        await client.connected(5)
    assert scripted.connects[0].keep_alive == used


@pytest.mark.parametrize(
    ("profile", "window", "patience"), [("azure-iot-hub", 16, 0.4), ("alibaba-iot", 10, 1.5), ("hivemq", 10, 0.2)]
)
async def test_the_window_is_brought_within_bounds(
    scripted: ScriptedBroker, profile: str, window: int, patience: float
) -> None:
    """No more messages are in flight than the broker bears, which it cannot say on 3.1.1."""
    topics = {"azure-iot-hub": "devices/ours/messages/events/", "alibaba-iot": "/t"}
    sent: list[int] = []
    scripted.stop_acks = True

    def lost(_event: object) -> None:
        sent.append(len(scripted.publishes))

    async with at(profile, scripted, window=500, ack_timeout=patience, on_lost=lost) as client:
        for number in range(40):
            await client.publish(topics.get(profile, "t"), b"%d" % number)
        await until(lambda: sent)
        await client.close(0)
    assert sent[0] == window


async def test_the_rate_is_kept(scripted: ScriptedBroker) -> None:
    """In no second go more messages than the broker takes, and not many fewer."""
    loop = asyncio.get_running_loop()
    came: list[float] = []
    scripted.hang_up_on = lambda packet: came.append(loop.time()) or False
    async with at("alibaba-iot", scripted) as client:
        deliveries = [await client.publish("/t", b"%d" % number) for number in range(25)]
        assert set(await outcomes(deliveries)) == {Outcome.ACKNOWLEDGED}
    assert max(sum(at <= other < at + 0.99 for other in came) for at in came) <= 10
    assert came[-1] - came[0] < 4
    assert numbers(scripted, topic="/t") == list(range(25))


@pytest.mark.parametrize(
    ("profile", "options", "words"),
    [
        ("azure-iot-hub", {"username": None}, "username is missing: azure-iot-hub takes nobody without"),
        ("azure-iot-hub", {"protocol": "5"}, r"protocol 5 is not what azure-iot-hub speaks: 3\.1\.1"),
        ("azure-iot-hub", {"client_id": "a/b/c"}, r'client_id "a/b/c" is not what azure-iot-hub takes: the id'),
        ("alibaba-iot", {"client_id": "ours"}, 'client_id "ours" is not what alibaba-iot takes: 1 to 64 characters'),
        ("aws-iot", {"client_id": "$ours"}, "1 to 128 bytes, and no \\$ at the start"),
    ],
)
async def test_options_that_a_broker_refuses(
    scripted: ScriptedBroker, profile: str, options: dict[str, Any], words: str
) -> None:
    """They are told in words, with what the broker takes, instead of being refused without any."""
    async with at(profile, scripted, **options) as client:
        with pytest.raises(NotConnected, match=words):
            await client.connected(0.2)
    assert scripted.connects == []


async def test_each_broker_has_its_own_profile(scripted: ScriptedBroker) -> None:
    """After a failover the next broker's limits hold, and no longer those of the first."""
    async with ScriptedBroker() as second:
        brokers = [Broker(scripted.url, profile="aws-iot"), Broker(second.url, profile="generic")]
        async with quick(*brokers, failback=None) as client:
            assert (await outcomes([await client.publish("1/2/3/4/5/6/7/8/9")])) == [Outcome.REJECTED]
            await scripted.stop()
            await until(lambda: client.status.broker == second.url)
            assert (await outcomes([await client.publish("1/2/3/4/5/6/7/8/9", b"", 2)])) == [Outcome.ACKNOWLEDGED]
        assert second.published == [("1/2/3/4/5/6/7/8/9", b"", 2, False)]


# ---- fresh credentials


@pytest.mark.parametrize("patient", [False, True], ids=["function", "coroutine"])
async def test_every_connect_has_a_fresh_token(scripted: ScriptedBroker, patient: bool) -> None:
    """The hook is asked before each connect, so that an expired SAS token is never used again."""
    key = base64.b64encode(b"secret").decode()
    made: list[bytes] = []

    def fresh() -> Credentials:
        token = sas_token("hub.azure-devices.net/devices/ours", key, 3600, 1_800_000_000 + 60 * len(made))
        made.append(token.encode())
        return Credentials("hub.azure-devices.net/ours", made[-1])

    async def fresh_later() -> Credentials:
        await asyncio.sleep(0)
        return fresh()

    hook = fresh_later if patient else fresh
    async with at("azure-iot-hub", scripted, username=None, credentials=hook) as client:
        for connects in (1, 2, 3):
            await until(lambda n=connects: len(scripted.connects) == n and client.status.broker)
            scripted.drop()
    assert [packet.password for packet in scripted.connects] == made[: len(scripted.connects)]
    assert len(set(made)) == len(made) >= 3
    assert {packet.username for packet in scripted.connects} == {"hub.azure-devices.net/ours"}


async def test_a_hook_that_fails_is_a_failed_attempt(scripted: ScriptedBroker) -> None:
    """What it raises is told, and it is asked again after a pause; one that does not return is not waited for."""
    asked: list[int] = []

    async def moody() -> Credentials:
        asked.append(len(asked))
        if len(asked) == 1:
            raise PermissionError("the vault is sealed")
        if len(asked) == 2:
            await asyncio.Event().wait()
        return Credentials("us", b"secret")

    told = Told()
    async with quick(scripted, credentials=moody, connect_timeout=0.2, **told.calls) as client:
        await client.connected(5)
    assert [event.reason for event in told.reconnecting] == [
        "no credentials: the vault is sealed",
        "no credentials: TimeoutError",
    ]
    (hello,) = scripted.connects
    assert (hello.username, hello.password) == ("us", b"secret")


async def test_each_broker_gets_its_own_credentials(scripted: ScriptedBroker) -> None:
    """What one broker is told is never told to another."""
    async with ScriptedBroker() as second, ScriptedBroker() as third:
        brokers = [
            Broker(scripted.url, credentials=lambda: Credentials("one", b"1")),
            Broker(second.url, username="two", password="2"),
            third.url,
        ]
        async with quick(*brokers, username="all", password="0", failback=None) as client:
            for broker in (scripted, second, third):
                await until(lambda broker=broker: client.status.broker == broker.url)
                await outcomes(await publish(client, [1]))
                await broker.stop()
        said = [(one.connects[0].username, one.connects[0].password) for one in (scripted, second, third)]
        assert said == [("one", b"1"), ("two", b"2"), ("all", b"0")]
