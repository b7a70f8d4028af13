"""What an uplink says and hears beside readings: messages that no outbox holds, and subscriptions on every link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.mqtt import Message, Subscription
from gateway.mqtt.packets import Publish
from gateway.outbox import Outbox
from gateway.reading import Publication
from gateway.uplink import Uplink
from gateway.uplink.link import SAYINGS
from gateway.uplink.observer import Nobody
from gateway.uplink.route import Publications
from tests.scripted_broker import ScriptedBroker
from tests.uplink.test_uplink import Rig, endpoint, readings, rig

FILTER = "base/gw/+/+/set"


class Ear(Nobody):
    """Keeps what comes in."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def received(self, message: Message) -> None:
        self.heard.append(message.payload)


def answers(broker: ScriptedBroker) -> list[int]:
    return [int(payload) for topic, payload, *_ in broker.published if topic == "answers"]


async def test_each_saying_goes_once_before_readings(tmp_path: Path) -> None:
    """Of one topic, each counts; with its properties, at MQTT 5."""
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker)) as it:
        assert not it.uplink.say(Publication("answers", b"too early"))
        await it.until(lambda: it.uplink.broker is not None)
        properties: dict[str, Any] = {"correlation_data": b"x"}
        assert it.uplink.say(Publication("answers", b"1", properties=properties))
        assert it.uplink.say(Publication("answers", b"2"))
        it.put(1)
        await it.empty()
        assert answers(broker) == [1, 2]


async def test_an_older_broker_gets_them_without_properties(tmp_path: Path) -> None:
    """MQTT 3.1.1 has none, and that is no reason to say nothing."""
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker, protocol="3.1.1")) as it:
        await it.until(lambda: it.uplink.broker is not None)
        assert it.uplink.say(Publication("answers", b"1", properties={"correlation_data": b"x"}))
        await broker.until(lambda: answers(broker) == [1])


async def test_sayings_are_bounded_and_leave_room_for_readings(tmp_path: Path) -> None:
    """While a broker acknowledges nothing, a quarter of the window is theirs, and so many wait; readings go on."""
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker, window=20, ack_timeout=30)) as it:
        await broker.wait_published(1)
        await it.until(lambda: it.uplink.link is not None and it.uplink.link.connection.room == 20)
        broker.hold_acks = True
        said = [it.uplink.say(Publication("answers", b"%d" % number)) for number in range(SAYINGS + 50)]
        assert sum(said) == SAYINGS + 5
        it.put(40)
        await broker.until(lambda: len(readings(broker)) == 15)
        broker.release()
        await it.empty()
        await broker.until(lambda: len(answers(broker)) == SAYINGS + 5)
        assert answers(broker) == list(range(SAYINGS + 5))
        assert readings(broker) == list(range(1, 41))


async def test_it_listens_on_every_link(tmp_path: Path) -> None:
    """At whichever broker it is, what was subscribed to comes; nobody has to wait for a link to ask for it."""
    ear = Ear()
    async with ScriptedBroker() as one, ScriptedBroker() as two, Outbox(None, ["cloud"]) as outbox:
        uplink = Uplink(
            "cloud",
            [endpoint(one), endpoint(two)],
            Publications(),
            outbox.follow("cloud"),
            reconnect_min=0.02,
            reconnect_max=0.2,
            failback=None,
            observer=ear,
        )
        uplink.listen([Subscription(FILTER, 1)])
        async with uplink:
            it = Rig(outbox, uplink)
            await it.until(lambda: uplink.broker == one.url)
            await arriving(it, one, ear, b"at one")
            await one.stop()
            await it.until(lambda: uplink.broker == two.url)
            await arriving(it, two, ear, b"at two")


async def test_it_asks_also_where_a_session_was_kept(tmp_path: Path) -> None:
    """What is to be heard may be new in the config since the broker last saw this client."""
    async with ScriptedBroker() as broker:
        broker.keep_sessions = True
        await visit(tmp_path, broker, [])
        assert not broker.subscribes
        await visit(tmp_path, broker, [Subscription(FILTER, 1)])
        assert len(broker.subscribes) == 1


async def visit(folder: Path, broker: ScriptedBroker, subscriptions: list[Subscription]) -> None:
    """Be linked once, on a session that the broker keeps."""
    async with Outbox(folder / "o.db", ["cloud"], commit_interval=0.0) as outbox:
        uplink = Uplink("cloud", [endpoint(broker)], Publications(), outbox.follow("cloud"), persistent=True)
        uplink.listen(subscriptions)
        async with uplink:
            await Rig(outbox, uplink).until(lambda: uplink.broker is not None)
            assert uplink.link is not None
            assert uplink.link.connection.session_present == bool(subscriptions)
            await broker.until(lambda: len(broker.subscribes) == len(subscriptions))


async def arriving(it: Rig, broker: ScriptedBroker, ear: Ear, payload: bytes) -> None:
    """Publish until it is heard: the subscription may still be on its way."""

    def heard() -> bool:
        if payload not in ear.heard:
            broker.publish(Publish("base/gw/d/valve/set", payload))
        return payload in ear.heard

    await it.until(heard)
