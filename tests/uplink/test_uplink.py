"""The uplink against scripted brokers: every way in which a broker can fail, and nothing missing afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from gateway.formats import FORMATS
from gateway.mqtt import Address, Options, Will
from gateway.mqtt.packets import Publish
from gateway.outbox import Outbox
from gateway.uplink import Broker, Readings, Uplink
from tests.scripted_broker import ScriptedBroker


def endpoint(broker: ScriptedBroker | str, **options: Any) -> Broker:
    url = broker if isinstance(broker, str) else broker.url
    known: dict[str, Any] = {"client_id": "test", "connect_timeout": 2.0, "ack_timeout": 1.0, "window": 50}
    will = Will("base/gw/status", b"offline")
    return Broker(Address.parse(url), Options(**{**known, "will": will, **options}))


class Rig:
    """An outbox with one uplink, numbered readings, and what arrived."""

    def __init__(self, outbox: Outbox, uplink: Uplink) -> None:
        self.outbox, self.uplink = outbox, uplink

    def put(self, count: int) -> None:
        for _ in range(count):
            self.outbox.put("boiler", {"n": self.outbox.taken_in + 1})

    async def until(self, condition: Callable[[], bool], timeout: float = 8.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0)

    async def empty(self) -> None:
        await self.until(lambda: self.uplink.account.waiting == 0)


@asynccontextmanager
async def rig(folder: Path, *brokers: Broker, qos: int = 1, failback: float | None = None) -> AsyncIterator[Rig]:
    async with Outbox(folder / "o.db", ["cloud"], commit_interval=0.2) as outbox:
        uplink = Uplink(
            "cloud",
            brokers,
            Readings(lambda stream: f"base/gw/{stream}", FORMATS["json"], qos),
            outbox.follow("cloud"),
            reconnect_min=0.02,
            reconnect_max=0.2,
            failback=failback,
        )
        async with uplink:
            uplink.retain("base/gw/status", b"online")
            yield Rig(outbox, uplink)


def readings(*brokers: ScriptedBroker) -> list[int]:
    """The numbers of the readings that these brokers got, in order of arrival at each."""
    return [
        orjson.loads(payload)["n"]
        for broker in brokers
        for topic, payload, _, _ in broker.published
        if topic == "base/gw/boiler"
    ]


def statuses(broker: ScriptedBroker) -> list[bytes]:
    return [payload for topic, payload, _, retain in broker.published if topic == "base/gw/status" and retain]


async def test_readings_arrive_in_order_after_the_birth_message(tmp_path: Path) -> None:
    """One healthy broker: online first, retained, then every reading once, and offline at the orderly end."""
    async with ScriptedBroker() as broker:
        async with rig(tmp_path, endpoint(broker)) as it:
            it.put(500)
            await it.empty()
            assert readings(broker) == list(range(1, 501))
            assert it.uplink.broker == broker.url
        assert broker.published[0][:2] == ("base/gw/status", b"online")
        assert statuses(broker) == [b"online", b"offline"]
        assert not broker.wills
        assert len(broker.disconnects) == 1


async def test_the_payload_is_the_contract(tmp_path: Path) -> None:
    """{"ts", "seq", "epoch"} and the metrics, nothing else, on {base}/{gateway}/{device} at QoS 1."""
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker)) as it:
        it.put(1)
        await it.empty()
        (message,) = [one for one in broker.published if one[0] == "base/gw/boiler"]
        payload = orjson.loads(message[1])
        assert list(payload) == ["ts", "seq", "epoch", "n"]
        assert (payload["seq"], payload["epoch"], payload["n"]) == (1, 1, 1)
        assert isinstance(payload["ts"], int)
        assert payload["ts"] > 1_700_000_000_000
        assert message[2:] == (1, False)


@pytest.mark.parametrize(
    "failure",
    ["refused", "unreachable", "unknown name", "tls", "connack", "mute after accept", "mute after CONNECT", "closed"],
)
async def test_failover_when_the_primary_cannot_be_used(tmp_path: Path, failure: str) -> None:
    """Whatever is wrong with the primary, readings go over the next broker, and the log says why in words, once."""
    async with ScriptedBroker() as primary, ScriptedBroker() as backup:
        first: ScriptedBroker | str = primary
        says = ""
        match failure:
            case "refused":
                await primary.stop()
                says = "refused"
            case "unreachable":
                first, says = "mqtt://127.0.0.1:1", "refused"
            case "unknown name":
                first, says = "mqtt://no-such-broker.invalid:1883", "name"
            case "tls":
                first, says = primary.url.replace("mqtt:", "mqtts:"), ""
            case "connack":
                primary.refuse, says = 0x87, "not authori"
            case "mute after accept":
                primary.mute_after, says = "accept", ""
            case "mute after CONNECT":
                primary.mute_after, says = "connect", ""
            case "closed":
                primary.close_on_connect = True
        with capture_logs() as logs:
            async with rig(tmp_path, endpoint(first), endpoint(backup)) as it:
                it.put(100)
                await it.empty()
                assert it.uplink.broker == backup.url
        assert readings(backup) == list(range(1, 101))
        said = [entry["event"] for entry in logs if "cannot use" in entry["event"]]
        assert len(said) == 1
        assert says in said[0]


async def test_failover_when_the_link_is_lost_in_the_middle(tmp_path: Path) -> None:
    """What was in flight on the dead link is sent again, before anything newer; duplicates are at most the window."""
    async with ScriptedBroker() as primary, ScriptedBroker() as backup:
        async with rig(tmp_path, endpoint(primary), endpoint(backup)) as it:
            it.put(100)
            await it.empty()
            primary.hold_acks = True
            it.put(200)
            await primary.until(lambda: len(readings(primary)) == 150)
            await primary.stop()
            await it.empty()
        assert readings(primary) == list(range(1, 151))
        assert readings(backup) == list(range(101, 301))


async def test_a_frozen_broker_is_left_after_the_acknowledgement_timeout(tmp_path: Path) -> None:
    """Half-open: the connection stands, and nothing is acknowledged."""
    async with ScriptedBroker() as primary, ScriptedBroker() as backup:
        with capture_logs() as logs:
            async with rig(tmp_path, endpoint(primary), endpoint(backup)) as it:
                it.put(10)
                await it.empty()
                primary.freeze()
                loop = asyncio.get_running_loop()
                began = loop.time()
                it.put(10)
                await it.empty()
                assert 0.3 <= loop.time() - began <= 0.3 + 3.0  # the default is 5
        assert any("lost" in entry["event"] and "acknowledge" in entry["event"] for entry in logs)
        assert readings(backup) == list(range(11, 21))


async def test_acknowledgements_that_stop_while_pings_are_answered(tmp_path: Path) -> None:
    """A broker that only answers PINGREQ carries nothing: it is left like a dead one."""
    async with ScriptedBroker() as primary, ScriptedBroker() as backup:
        primary.hold_acks = True
        async with rig(tmp_path, endpoint(primary), endpoint(backup)) as it:
            it.put(10)
            await it.empty()
        assert readings(backup) == list(range(1, 11))


async def test_failback_waits_until_the_better_broker_has_been_good(tmp_path: Path) -> None:
    """The working link is kept until the better one has proven itself, then left in order; nothing is missing."""
    async with ScriptedBroker() as primary, ScriptedBroker() as backup:
        await primary.stop()
        async with rig(tmp_path, endpoint(primary), endpoint(backup), failback=0.4) as it:
            it.put(10)
            await it.empty()
            loop = asyncio.get_running_loop()
            await primary.start()
            await primary.until(lambda: len(primary.connects) > 0)
            connected = loop.time()
            while it.uplink.broker != primary.url:
                it.put(1)
                await it.empty()
                assert loop.time() < connected + 5
            assert loop.time() - connected >= 0.35
            it.put(20)
            await it.empty()
            total = it.outbox.taken_in
            await it.until(lambda: len(backup.disconnects) == 1)
        assert sorted(readings(primary, backup)) == list(range(1, total + 1)), "each exactly once"
        assert statuses(backup) == [b"online", b"offline"]
        assert not backup.wills
        assert primary.pings >= 1


async def test_no_failback_to_a_broker_that_does_not_stay_good(tmp_path: Path) -> None:
    """A flapping primary does no harm: the working link carries on."""
    async with ScriptedBroker() as primary, ScriptedBroker() as backup:
        await primary.stop()
        async with rig(tmp_path, endpoint(primary), endpoint(backup), failback=0.2) as it:
            it.put(10)
            await it.empty()
            await primary.start()
            for _ in range(3):
                seen = len(primary.connects)
                await primary.until(lambda before=seen: len(primary.connects) > before)
                primary.drop()
                it.put(10)
                await it.empty()
            primary.refuse = 0x88
            assert it.uplink.broker == backup.url
            assert len(backup.connects) == 1
        assert readings(backup) == list(range(1, 41))
        assert readings(primary) == []


async def test_never_failback(tmp_path: Path) -> None:
    """failback = "never": the primary is not even asked."""
    async with ScriptedBroker() as primary, ScriptedBroker() as backup:
        await primary.stop()
        async with rig(tmp_path, endpoint(primary), endpoint(backup), failback=None) as it:
            it.put(10)
            await it.empty()
            await primary.start()
            for _ in range(20):
                it.put(1)
                await it.empty()
        assert primary.connects == []


async def test_a_lost_working_link_takes_the_better_one_on_probation(tmp_path: Path) -> None:
    """When the backup dies while the primary is on probation, the session with the primary is used at once."""
    async with ScriptedBroker() as primary, ScriptedBroker() as backup:
        await primary.stop()
        async with rig(tmp_path, endpoint(primary), endpoint(backup), failback=60.0) as it:
            it.put(10)
            await it.empty()
            await primary.start()
            await primary.until(lambda: len(primary.connects) == 1)
            await asyncio.sleep(0)
            await backup.stop()
            it.put(10)
            await it.empty()
            assert it.uplink.broker == primary.url
            assert len(primary.connects) == 1
        assert readings(primary) == list(range(11, 21))


async def test_flapping_brokers_lose_nothing(tmp_path: Path) -> None:
    """Primary and backup drop their links in turn, thirty times: every reading arrives, in order on each link."""
    async with ScriptedBroker() as primary, ScriptedBroker() as backup:
        async with rig(tmp_path, endpoint(primary), endpoint(backup), failback=0.05) as it:
            for turn in range(30):
                it.put(40)
                await it.until(lambda: it.uplink.broker is not None)
                (primary if turn % 2 else backup).drop()
            await it.empty()
        assert set(readings(primary, backup)) == set(range(1, 1201))


async def test_the_receive_maximum_is_obeyed_even_for_announcements(tmp_path: Path) -> None:
    """A broker that takes one message at a time gets one at a time."""
    async with ScriptedBroker() as broker:
        broker.receive_maximum = 1
        broker.hold_acks = True
        async with rig(tmp_path, endpoint(broker, ack_timeout=5.0)) as it:
            for device in range(3):
                it.uplink.retain(f"base/gw/d{device}/status", b"online")
            it.put(3)
            for count in range(1, 8):
                await broker.until(lambda n=count: len(broker.published) == n)
                assert broker.held == 1
                broker.release()
                broker.hold_acks = True
            broker.hold_acks = False
            broker.release()
            await it.empty()
        assert readings(broker) == [1, 2, 3]


async def test_what_is_too_big_for_the_broker_is_set_aside(tmp_path: Path) -> None:
    """One reading that no packet can carry must not stop the others; it can be looked at, with the limit named."""
    async with ScriptedBroker() as broker:
        broker.maximum_packet_size = 200
        async with rig(tmp_path, endpoint(broker)) as it:
            it.put(1)
            it.outbox.put("boiler", {"n": 2, "text": "x" * 300})
            it.put(1)
            await it.empty()
            account = it.uplink.account
            assert (account.delivered, account.lost, account.quarantined) == (2, 1, 1)
            (aside,) = await it.outbox.quarantined()
            assert (aside.uplink, aside.reading.seq) == ("cloud", 2)
            assert aside.reason.endswith("bytes; this broker takes at most 200")
            await it.outbox.flush()
            (loss,) = await it.outbox.ledger()
            assert (loss.first_seq, loss.count, loss.reason) == (2, 1, "too-big")
        assert readings(broker) == [1, 3]


async def test_what_a_broker_refuses_for_ever_is_set_aside(tmp_path: Path) -> None:
    """PUBACK 0x99, payload format invalid, concerns that reading alone."""

    def reason(packet: Publish) -> int:
        return 0x99 if b'"n":5' in packet.payload else 0

    async with ScriptedBroker() as broker:
        broker.puback_reason = reason
        async with rig(tmp_path, endpoint(broker)) as it:
            it.put(9)
            await it.empty()
            assert (it.uplink.account.delivered, it.uplink.account.quarantined) == (8, 1)


async def test_not_authorised_is_no_reason_to_throw_readings_away(tmp_path: Path) -> None:
    """An access rule can be mended: the readings are kept, and the next broker is tried."""
    async with ScriptedBroker() as primary, ScriptedBroker() as backup:
        primary.puback_reason = lambda packet: 0x87 if "boiler" in packet.topic else 0
        with capture_logs() as logs:
            async with rig(tmp_path, endpoint(primary), endpoint(backup)) as it:
                it.put(20)
                await it.empty()
                assert it.uplink.account.lost == 0
        assert set(readings(backup)) == set(range(1, 21))
        assert any("not authori" in entry["event"] for entry in logs)


async def test_qos_0_readings_flow_and_are_counted(tmp_path: Path) -> None:
    """QoS 0: delivered when it is written to the socket."""
    async with ScriptedBroker() as broker:
        async with rig(tmp_path, endpoint(broker), qos=0) as it:
            it.put(300)
            await broker.until(lambda: len(readings(broker)) == 300)
            await it.empty()
        assert {qos for topic, _, qos, _ in broker.published if topic == "base/gw/boiler"} == {0}


async def test_the_protocol_that_was_agreed_is_remembered(tmp_path: Path) -> None:
    """auto asks a 3.1.1 broker for MQTT 5 once, and not at every reconnect."""
    async with ScriptedBroker() as broker:
        broker.levels = (4,)
        async with rig(tmp_path, endpoint(broker)) as it:
            it.put(1)
            await it.empty()
            broker.drop()
            it.put(1)
            await it.empty()
        assert [packet.level for packet in broker.connects] == [5, 4, 4]


async def test_a_broker_that_is_mute_to_mqtt_5_is_asked_for_3_1_1_next(tmp_path: Path) -> None:
    """Some old brokers do not answer an MQTT 5 CONNECT at all; they are not tried with it for ever."""
    async with ScriptedBroker() as broker:
        broker.mute_after = "connect"
        async with rig(tmp_path, endpoint(broker, connect_timeout=0.2)) as it:
            it.put(5)
            await broker.until(lambda: len(broker.connects) == 1)
            broker.mute_after = None
            await it.empty()
            assert [packet.level for packet in broker.connects] == [5, 4]
            broker.drop()
            it.put(5)
            await it.empty()
            assert broker.connects[2].level == 5, "it may only have been slow"
        assert set(readings(broker)) == set(range(1, 11))


async def test_no_broker_at_all(tmp_path: Path) -> None:
    """Readings are taken in and stored with no broker; leaving takes no longer than it must."""
    async with ScriptedBroker() as broker:
        await broker.stop()
        async with rig(tmp_path, endpoint(broker)) as it:
            it.put(1000)
            await it.until(lambda: it.outbox.commits > 0)
            assert it.uplink.broker is None
        await broker.start()
        async with rig(tmp_path, endpoint(broker)) as it:
            await it.empty()
        assert readings(broker) == list(range(1, 1001))
        epochs = {orjson.loads(one[1])["epoch"] for one in broker.published if one[0] == "base/gw/boiler"}
        assert epochs == {1}
        assert all(b'"historical":true' in one[1] for one in broker.published if one[0] == "base/gw/boiler")


async def test_a_frozen_broker_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """Leaving an uplink whose broker is frozen is bounded; what was in flight stays in the outbox."""
    async with ScriptedBroker() as broker:
        loop = asyncio.get_running_loop()
        async with rig(tmp_path, endpoint(broker, ack_timeout=30.0)) as it:
            it.put(10)
            await it.empty()
            broker.freeze()
            it.put(10)
            await it.until(lambda: it.uplink.account.waiting == 10)
            began = loop.time()
        assert loop.time() - began < 5.0
        broker.thaw()
        async with rig(tmp_path, endpoint(broker)) as it:
            assert it.uplink.account.waiting == 10
            await it.empty()
    assert set(readings(broker)) == set(range(1, 21))
