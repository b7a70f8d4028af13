"""A live link whose broker does not answer, or does not read: what is overdue is found, and in time."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.mqtt import ConnectionLost
from gateway.mqtt.codec import encode
from gateway.mqtt.packets import Publish
from tests.mqtt.recorder import Recorder, batch, dial
from tests.scripted_broker import ScriptedBroker

QUICK = 0.2  # seconds until something that never comes is overdue
LATE = QUICK + 0.5  # the latest at which that must have been found


async def test_a_subscription_that_is_not_answered_loses_the_link(broker: ScriptedBroker, recorder: Recorder) -> None:
    """SUBSCRIBE is owed an answer within `ack_timeout`, like a message."""
    broker.mute_subscribes = True
    link = await dial(broker, recorder, ack_timeout=QUICK)
    with pytest.raises(ConnectionLost, match="no answer to SUBSCRIBE"):
        await link.subscribe([("a", 0)])
    assert await recorder.loss() == "no answer to SUBSCRIBE for 0.2 s"
    await link.close()


async def test_an_idle_link_is_kept_alive(broker: ScriptedBroker, recorder: Recorder) -> None:
    """PINGREQ goes out when nothing was sent for `keep_alive` seconds, again and again."""
    link = await dial(broker, recorder, keep_alive=0.05)
    await broker.until(lambda: broker.pings >= 3)
    assert recorder.losses == []
    await link.close()


async def test_the_brokers_keep_alive_is_obeyed(broker: ScriptedBroker, recorder: Recorder) -> None:
    """Server keep-alive replaces ours."""
    broker.connack["server_keep_alive"] = 1
    link = await dial(broker, recorder, keep_alive=60.0)
    assert link.limits.keep_alive == 1.0
    await broker.until(lambda: broker.pings == 1, 3.0)
    await link.close()


@pytest.mark.parametrize("how", ["mute", "freeze"])
async def test_a_ping_that_is_not_answered_loses_the_link(broker: ScriptedBroker, recorder: Recorder, how: str) -> None:
    """A dead broker is found by keep-alive, though nothing is sent."""
    link = await dial(broker, recorder, keep_alive=0.05, ack_timeout=QUICK)
    if how == "mute":
        broker.mute_pings = True
    else:
        broker.freeze()
    assert await recorder.loss(0.05 + LATE) == "no answer to PINGREQ for 0.2 s"
    await link.close()


@pytest.mark.parametrize("how", ["hold", "freeze", "one"])
async def test_an_acknowledgement_that_is_overdue_loses_the_link(
    broker: ScriptedBroker, recorder: Recorder, how: str
) -> None:
    """The oldest message decides, even when later ones are acknowledged; what is in flight stays known."""
    link = await dial(broker, recorder, ack_timeout=QUICK)
    loop = asyncio.get_running_loop()
    expected = [0, 1]
    if how == "hold":
        broker.hold_acks = True
    elif how == "freeze":
        broker.freeze()
    else:
        expected = [0]
        broker.hold_acks = True
    began = loop.time()
    link.publish(batch(1))
    if how == "one":
        await broker.until(lambda: broker.held == 1)
        broker.hold_acks = False
    link.publish(batch(1, 1))
    assert await recorder.loss(LATE) == "no acknowledgement for 0.2 s"
    assert QUICK <= loop.time() - began <= LATE
    assert link.in_flight == expected
    assert link.room == 0
    await link.close()


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_broker_that_does_not_read_is_left(broker: ScriptedBroker, recorder: Recorder, qos: int) -> None:
    """There is no room while the broker does not read, at QoS 0 too; after `ack_timeout` the link is lost."""
    link = await dial(broker, recorder, ack_timeout=QUICK, window=65_535)
    broker.freeze()
    sent = 0
    while link.room:
        link.publish([(b"t", bytes(20_000), sent)], qos)
        sent += 1
        assert sent < 2_000, "there is always room"
    assert await recorder.loss(LATE) in ("the broker has read nothing for 0.2 s", "no acknowledgement for 0.2 s")
    await link.close()


async def test_room_comes_back_when_the_broker_reads_again(broker: ScriptedBroker, recorder: Recorder) -> None:
    """`writable` tells that a paused transport has room again, and nothing is lost on the way."""
    link = await dial(broker, recorder)
    broker.freeze()
    sent = 0
    while link.room:
        link.publish([(b"t", bytes(20_000), sent)], 0)
        sent += 1
        assert sent < 2_000, "there is always room"
    broker.thaw()
    await recorder.until(lambda: recorder.writables > 0)
    assert link.room == 1000
    await broker.wait_published(sent)
    await link.close()


async def test_a_flood_that_does_not_read_our_answers_is_not_read(broker: ScriptedBroker, recorder: Recorder) -> None:
    """A broker that sends and sends but reads no PUBACK fills no memory here: it is read no more until it reads."""
    broker.receive_buffer = 32_768
    link = await dial(broker, recorder, ack_timeout=30.0, receive_maximum=65_535)
    transport = link._line.transport
    assert isinstance(transport, asyncio.ReadTransport)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
    broker.freeze()
    flood = 200_000
    broker.send(b"".join(encode(Publish("t", b"", 1, packet_id=n % 65_535 + 1), 5) for n in range(flood)))
    async with asyncio.timeout(20):
        while transport.is_reading() or not recorder.messages:
            await asyncio.sleep(0)
    assert transport.get_write_buffer_size() < 512 * 1024
    read = len(recorder.messages)
    assert read < flood, "everything was read"
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(recorder.messages) == read
    broker.thaw()
    await recorder.until(lambda: len(recorder.messages) > read, 20)
    link.abort()


async def test_closing_a_frozen_broker_takes_the_timeout_and_no_more(
    broker: ScriptedBroker, recorder: Recorder
) -> None:
    """A broker that reads nothing cannot hold up the end."""
    link = await dial(broker, recorder)
    broker.freeze()
    while link.room:
        link.publish([(b"t", bytes(20_000), -1)], 0)
    await asyncio.wait_for(link.close(QUICK), LATE)
    assert recorder.losses == []


async def test_one_timer_serves_many_messages(broker: ScriptedBroker, recorder: Recorder) -> None:
    """Sending arms no timer for each message: the one that is armed stays."""
    link = await dial(broker, recorder)
    link.publish(batch(1))
    timer = link._line._timer
    for count in range(1, 50):
        link.publish(batch(1, count))
        await recorder.until(lambda count=count: len(recorder.tokens) == count + 1)
    assert link._line._timer is timer
    await link.close()
