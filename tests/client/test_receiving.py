"""Receiving in an event loop: iterators, callbacks, and the brake for those that are slow."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import Client, ClientClosed, Message, SubscriptionRefused
from gateway.mqtt.packets import Publish
from tests.client.conftest import NOWHERE, Make
from tests.scripted_broker import ScriptedBroker


def filters(broker: ScriptedBroker) -> list[str]:
    return [one.filter for packet in broker.subscribes for one in packet.subscriptions]


def left(broker: ScriptedBroker) -> list[str]:
    return [name for packet in broker.unsubscribes for name in packet.filters]


async def take(messages: Any, count: int) -> list[str]:
    async with asyncio.timeout(5):
        return [
            f"{message.topic}={message.payload.decode()}" for message in [await anext(messages) for _ in range(count)]
        ]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
async def test_messages_arrive_as_they_were_sent(make: Make, qos: int, protocol: str) -> None:
    """Topic, payload, QoS and order are those of the sender, at every QoS and in every version."""
    async with make(protocol=protocol) as client, client.messages("a/+/b", qos=qos) as messages:
        assert messages.granted == qos
        for n in range(20):
            await client.publish("a/x/b", str(n), qos=2)
        await client.publish("a/x/c", b"not this one")
        assert await take(messages, 20) == [f"a/x/b={n}" for n in range(20)]


async def test_properties_arrive(make: Make) -> None:
    """What MQTT 5 carries beside a message can be read from it."""
    properties = {
        "content_type": "text/plain",
        "response_topic": "answers/1",
        "correlation_data": b"\0\xff",
        "user_properties": [("a", "1"), ("a", "2")],
    }
    async with make(protocol="5") as client, client.messages("a") as messages:
        await client.publish("a", b"x", properties=properties)
        async with asyncio.timeout(5):
            message = await anext(messages)
        assert {name: message.properties.get(name) for name in properties} == properties


async def test_an_iterator_subscribes_when_it_starts_and_unsubscribes_at_its_end(
    make: Make, broker: ScriptedBroker
) -> None:
    """A plain `async for` needs nothing else."""
    async with make() as client:
        messages = client.messages("a")
        await client.connected(5)
        assert not broker.subscribes
        first = asyncio.ensure_future(anext(messages))
        await broker.until(lambda: bool(broker.subscribes))
        await client.publish("a", b"1")
        async with asyncio.timeout(5):
            assert (await first).payload == b"1"
        await messages.aclose()
        assert (filters(broker), left(broker)) == (["a"], ["a"])


async def test_an_iterator_that_is_forgotten_unsubscribes(make: Make, broker: ScriptedBroker) -> None:
    """`break` out of a loop is an end as well: nothing goes on coming for nobody."""
    async with make() as client:
        async with asyncio.timeout(5):
            await client.publish("a", b"1", retain=True)
            async for _ in client.messages("a"):
                break
        gc.collect()
        await broker.until(lambda: left(broker) == ["a"])


async def test_overlapping_iterators_get_each_message_once(make: Make, broker: ScriptedBroker) -> None:
    """However the filters of a program overlap, each iterator gets what its own filter says."""
    async with (
        make() as client,
        client.messages("a/#") as everything,
        client.messages("a/+") as one_level,
        client.messages("a/b") as exact,
        client.messages("a/b") as again,
    ):
        for topic in ("a/b", "a/c", "a/b/c"):
            await client.publish(topic, b"x")
        assert await take(everything, 3) == ["a/b=x", "a/c=x", "a/b/c=x"]
        assert await take(one_level, 2) == ["a/b=x", "a/c=x"]
        assert await take(exact, 1) == ["a/b=x"]
        assert await take(again, 1) == ["a/b=x"]
        await exact.aclose()
        assert "a/b" not in left(broker)  # somebody else wants it
        await client.publish("a/b", b"last")
        assert await take(again, 1) == await take(one_level, 1) == await take(everything, 1) == ["a/b=last"]
    assert not broker.errors


async def test_a_refused_subscription_is_an_error_with_words(make: Make, broker: ScriptedBroker) -> None:
    """Whoever subscribes is told why not; others are not harmed."""
    broker.granted = lambda name, qos: 0x87 if name == "secret" else qos
    async with make(protocol="5") as client:
        with pytest.raises(SubscriptionRefused, match=r"secret: not authorised \(0x87\)") as told:
            await client.subscribe("secret", print)
        assert told.value.reason == 0x87
        async with client.messages("open") as messages:
            with pytest.raises(SubscriptionRefused):
                await anext(client.messages("secret"))
            await client.publish("open", b"1")
            assert await take(messages, 1) == ["open=1"]


async def test_the_granted_quality_is_told(make: Make, broker: ScriptedBroker) -> None:
    """A broker may grant less than was asked for, and the program can see it."""
    broker.granted = lambda name, qos: 0
    async with make() as client:
        assert await client.subscribe("a", print, qos=2) == 0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"filter": "a/#/b"}, ValueError, "#"),
        ({"filter": ""}, ValueError, "empty"),
        ({"filter": "$share/group"}, ValueError, r"\$share/group/filter"),
        ({"filter": 5}, TypeError, "filter must be text, not int"),
        ({"qos": 3}, ValueError, "qos must be a whole number from 0 to 2, not 3"),
        ({"no_local": 1}, TypeError, "no_local must be True or False"),
        ({"retain_handling": 3}, ValueError, "retain_handling must be a whole number from 0 to 2, not 3"),
    ],
)
async def test_what_cannot_be_subscribed_to_is_refused(
    make: Make, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    """A wrong filter or option is told before anything is sent."""
    async with make(NOWHERE) as client:
        with pytest.raises(error, match=words):
            client.messages(**{"filter": "a", **arguments})
        with pytest.raises(error, match=words):
            await client.subscribe(**{"filter": "a", **arguments})


async def test_options_of_a_subscription_are_passed_on(make: Make, broker: ScriptedBroker) -> None:
    """No-local, retain-as-published and retain handling are the broker's to obey."""
    async with make(protocol="5") as client:
        await client.subscribe("a", print, qos=2, no_local=True, retain_as_published=True, retain_handling=2)
    ((wanted,),) = [packet.subscriptions for packet in broker.subscribes]
    assert (wanted.qos, wanted.no_local, wanted.retain_as_published, wanted.retain_handling) == (2, True, True, 2)


async def test_callbacks_get_what_their_filter_says(make: Make, broker: ScriptedBroker) -> None:
    """A function is called in order, a coroutine function is awaited in order, and `on_message` gets the rest."""
    called: list[bytes] = []
    awaited: list[bytes] = []
    rest: list[bytes] = []

    async def slow(message: Message) -> None:
        await asyncio.sleep(0)
        awaited.append(message.payload)

    async with make(on_message=lambda message: rest.append(message.payload)) as client:
        assert await client.subscribe("a/#", lambda message: called.append(message.payload)) == 1
        assert await client.subscribe("a/slow", slow) == 1
        assert await client.subscribe("rest") == 1
        for n in range(30):
            await client.publish("a/slow", str(n))
        await client.publish("rest", b"rest")
        await client.flush(5)
        await broker.until(lambda: len(broker.answers) >= 31)
        assert called == [str(n).encode() for n in range(30)]
        assert rest == [b"rest"]
        await client.close()
    assert awaited == called


async def test_a_callback_that_fails_harms_nothing(make: Make, broker: ScriptedBroker) -> None:
    """What a program's function raises is logged, and the next message is given to it as before."""
    called: list[bytes] = []

    def fails(message: Message) -> None:
        called.append(message.payload)
        raise KeyError("of the program")

    async def fails_too(message: Message) -> None:
        fails(message)

    with capture_logs() as logs:
        async with make() as client:
            await client.subscribe("a", fails)
            await client.subscribe("b", fails_too)
            for topic in ("a", "b", "a", "b"):
                await client.publish(topic, topic)
            assert await client.flush(5)
            await broker.until(lambda: len(broker.answers) >= 4)
    assert sorted(called) == [b"a", b"a", b"b", b"b"]
    assert len([one for one in logs if "a callback has failed" in one["event"] and one["log_level"] == "error"]) == 4


async def test_the_same_callback_twice_is_called_once(make: Make, broker: ScriptedBroker) -> None:
    """To subscribe again, as on each connect, does not double the messages."""
    called: list[Message] = []
    async with make() as client:
        await client.subscribe("a", called.append)
        await client.subscribe("a", called.append, qos=2)
        await client.publish("a", b"1", qos=2)
        await client.flush(5)
        await broker.until(lambda: bool(broker.answers))
    assert len(called) == 1


async def test_unsubscribe_ends_the_callbacks_and_no_iterator(make: Make, broker: ScriptedBroker) -> None:
    """The broker is told when nobody wants the filter any more."""
    called: list[Message] = []
    async with make() as client:
        await client.subscribe("a", called.append)
        async with client.messages("a") as messages:
            await client.unsubscribe("a")
            assert not broker.unsubscribes
            await client.publish("a", b"1")
            assert await take(messages, 1) == ["a=1"]
        assert left(broker) == ["a"]
        await client.unsubscribe("other")  # of an earlier run, maybe
        assert left(broker) == ["a", "other"]
    assert called == []


async def test_subscriptions_come_back_after_a_lost_link(make: Make, broker: ScriptedBroker) -> None:
    """A broker that has forgotten the session is asked again, without the program."""
    async with make() as client, client.messages("a", qos=2) as messages:
        broker.drop()
        await broker.until(lambda: len(broker.subscribes) == 2)
        await client.publish("a", b"1")
        assert await take(messages, 1) == ["a=1"]
        first, second = broker.subscribes
        assert first.subscriptions == second.subscriptions
        assert first.properties == second.properties


async def test_a_subscription_waits_for_the_first_link(make: Make, broker: ScriptedBroker) -> None:
    """Subscribing before there is a broker is no error; it is done when there is one."""
    await broker.stop()
    async with make() as client:
        subscribing = asyncio.ensure_future(client.subscribe("a", print))
        await asyncio.sleep(0)
        await broker.start()
        async with asyncio.timeout(5):
            assert await subscribing == 1


async def test_a_slow_consumer_stops_the_flood_and_loses_nothing(make: Make, broker: ScriptedBroker) -> None:
    """Beyond `max_incoming` nothing more is read from the socket until the consumer has taken half; then it goes on."""
    count, limit = 20_000, 100
    async with make(max_incoming=limit) as client, client.messages("a") as messages:
        sender = make(max_count=None)
        async with sender:
            for n in range(count):
                await sender.publish("a", b"%d" % n + b"x" * 1000)
            await sender.flush(10)
        waiting = len(messages._inbox._messages)
        assert limit <= waiting < count / 2  # what was read already, and not all that came
        seen = 0
        async with asyncio.timeout(30):
            async for message in messages:
                assert int(message.payload.rstrip(b"x")) == seen
                seen += 1
                if seen == count:
                    break
        assert not client._incoming.brake.held


async def test_a_cancelled_wait_loses_no_message(make: Make) -> None:
    """A timeout around `anext` is about the program's patience: the message goes to the next one who asks."""
    async with make() as client, client.messages("a") as messages:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(messages)
        await client.publish("a", b"1")
        assert await take(messages, 1) == ["a=1"]


async def test_a_cancelled_start_does_not_lose_the_subscription(make: Make, broker: ScriptedBroker) -> None:
    """An iterator whose first wait was cancelled is still subscribed, and says so later."""
    broker.mute_subscribes = False
    async with make() as client:
        messages = client.messages("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(messages)
        await broker.until(lambda: bool(broker.subscribes))
        await client.publish("a", b"1")
        assert await take(messages, 1) == ["a=1"]
        await messages.aclose()


async def test_iterations_end_with_the_client(make: Make, broker: ScriptedBroker) -> None:
    """What has come can still be had; then it is over, also for one that never got a link."""
    client = make()
    async with client:
        messages = client.messages("a")
        async with messages:
            await client.publish("a", b"1")
            await client.flush(5)
            await broker.until(lambda: bool(broker.answers))
            await client.close()
            assert [message.payload async for message in messages] == [b"1"]
    lonely = make(NOWHERE)
    async with lonely:
        waiting = asyncio.ensure_future(_all(lonely, "a"))
        subscribing = asyncio.ensure_future(lonely.subscribe("b", print))
        await asyncio.sleep(0)
        await lonely.close(0)
        async with asyncio.timeout(5):
            assert await waiting == []
            with pytest.raises(ClientClosed, match="before the broker has answered"):
                await subscribing


async def test_retained_messages_come_to_whoever_subscribes(make: Make) -> None:
    """A retained message is there for each new subscription, and says that it is one."""
    async with make() as client:
        await (await client.publish("a", b"kept", retain=True))
        for _ in range(2):
            async with client.messages("a") as messages, asyncio.timeout(5):
                message = await anext(messages)
                assert (message.payload, message.retain) == (b"kept", True)


async def test_messages_that_nobody_wants_are_counted(make: Make, broker: ScriptedBroker) -> None:
    """A session that was kept may bring what this program has not asked for: it is visible, and harms nothing."""
    async with make() as client:
        await client.subscribe("a")
        await client.publish("a", b"1")
        await client.flush(5)
        await broker.until(lambda: bool(broker.answers))
        assert client.status.unclaimed == 1


async def _all(client: Client, name: str) -> list[Message]:
    return [message async for message in client.messages(name)]


async def test_nothing_more_is_read_until_it_may_be(make: Make, broker: ScriptedBroker) -> None:
    """A callback that cannot keep up says so; the broker keeps what is beyond that, and nothing is lost."""
    room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    came = 0

    async with make() as client:

        def take(message: Message) -> None:
            nonlocal came
            came += 1
            client.hold(room)

        await client.subscribe("a", take, qos=0)
        (conversation,) = broker.conversations
        sent = 0
        async with asyncio.timeout(20):
            while conversation.transport.get_write_buffer_size() < 1 << 16:  # until the socket takes no more
                for _ in range(100):
                    broker.publish(Publish("a", b"x" * 1000))
                sent += 100
                await asyncio.sleep(0)
            before = came
            room.set_result(None)
            while came < sent:
                await asyncio.sleep(0)
        client.hold(room)  # it is over: this changes nothing
    client.hold(asyncio.get_running_loop().create_future())  # nor does this, for one that is closed
    assert 0 < before < sent / 2
