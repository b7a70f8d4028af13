"""A live link with a scripted broker: sending, subscribing, loss and the orderly end."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gateway.mqtt import ConnectionLost, ProtocolError, Will
from gateway.mqtt.codec import encode
from gateway.mqtt.packets import Pingreq, Publish
from tests.mqtt.recorder import Recorder, batch, dial
from tests.scripted_broker import ScriptedBroker

PROTOCOLS = pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
QUICK = 0.2  # seconds until something that never comes is overdue


@PROTOCOLS
async def test_messages_arrive_in_order_and_are_acknowledged(
    broker: ScriptedBroker, recorder: Recorder, protocol: str
) -> None:
    """What is published arrives as it was, in order, and each token comes back once, in few reports."""
    link = await dial(broker, recorder, protocol=protocol)
    link.publish(batch(1000))
    assert link.room == 0
    await recorder.until(lambda: len(recorder.tokens) == 1000)
    assert recorder.tokens == list(range(1000))
    assert recorder.calls < 50
    assert broker.published == [(f"t/{n % 7}", b"%d" % n, 1, False) for n in range(1000)]
    assert (link.room, link.in_flight) == (1000, [])
    await link.close()
    assert broker.errors == []


@PROTOCOLS
async def test_qos_0_is_acknowledged_when_written(broker: ScriptedBroker, recorder: Recorder, protocol: str) -> None:
    """At QoS 0 the tokens come back right after the call, and nothing is in flight."""
    link = await dial(broker, recorder, protocol=protocol)
    link.publish(batch(3), qos=0, retain=True)
    link.publish([(b"t", b"nobody asks", -1)], qos=0)
    assert recorder.tokens == []  # not within the call
    await asyncio.sleep(0)
    assert (recorder.tokens, recorder.calls, link.in_flight, link.room) == ([0, 1, 2], 1, [], 1000)
    await broker.wait_published(4)
    assert broker.published[:3] == [(f"t/{n}", b"%d" % n, 0, True) for n in range(3)]
    await link.close()


async def test_room_is_the_smaller_of_window_and_receive_maximum(broker: ScriptedBroker, recorder: Recorder) -> None:
    """The broker's receive maximum is never exceeded, and room comes back with each acknowledgement."""
    broker.receive_maximum = 20
    broker.hold_acks = True
    link = await dial(broker, recorder, window=50)
    assert (link.room, link.limits.receive_maximum) == (20, 20)
    link.publish(batch(15))
    link.publish([(b"t", b"", -1)])
    assert (link.room, link.in_flight) == (4, list(range(15)))
    await broker.until(lambda: broker.held == 16)
    broker.release()
    await recorder.until(lambda: link.room == 20)
    assert recorder.tokens == list(range(15))
    await link.close()
    assert link.room == 0


async def test_a_refused_message_is_told_with_its_reason(broker: ScriptedBroker, recorder: Recorder) -> None:
    """A PUBACK of 0x80 or above is a refusal and no acknowledgement; "no subscribers" is success."""
    broker.puback_reason = lambda packet: 0x97 if packet.payload == b"2" else 0x10
    link = await dial(broker, recorder)
    link.publish(batch(5))
    await recorder.until(lambda: len(recorder.tokens) == 4)
    assert recorder.tokens == [0, 1, 3, 4]
    assert recorder.refusals == [(2, 0x97)]
    assert link.room == 1000
    await link.close()


async def test_fits_knows_the_brokers_maximum(broker: ScriptedBroker, recorder: Recorder) -> None:
    """What the broker would not take is known before it is sent."""
    broker.maximum_packet_size = 64
    link = await dial(broker, recorder)
    assert link.limits.maximum_packet_size == 64
    assert link.fits(b"t", bytes(50))
    assert not link.fits(b"t", bytes(64))
    await link.close()


@PROTOCOLS
async def test_subscriptions_are_granted_or_not(broker: ScriptedBroker, recorder: Recorder, protocol: str) -> None:
    """Each filter gets its answer, and messages for it are told and acknowledged."""
    broker.granted = lambda name, qos: 0x80 if name == "secret" else qos
    link = await dial(broker, recorder, protocol=protocol)
    assert await link.subscribe([("a/#", 1), ("secret", 0), ("b", 0)]) == [1, 0x80, 0]
    broker.send(Publish("a/b", b"x", 1, True, packet_id=5))
    broker.send(Publish("b", b"y"))
    await recorder.until(lambda: len(recorder.messages) == 2)
    told = [(one.topic, one.payload, one.qos, one.retain) for one in recorder.messages]
    assert told == [("a/b", b"x", 1, True), ("b", b"y", 0, False)]
    await link.close()
    assert broker.errors == []


async def test_whoever_waits_for_an_answer_learns_that_the_link_is_gone(
    broker: ScriptedBroker, recorder: Recorder
) -> None:
    """Nobody waits for ever on a link that is gone, and nobody gets one to work with."""
    broker.mute_subscribes = broker.mute_pings = broker.hold_acks = True
    link = await dial(broker, recorder)
    link.publish(batch(1))
    waiting = [
        asyncio.ensure_future(one) for one in (link.subscribe([("a", 0)]), link.ping(), link.ping(), link.drained(30))
    ]
    await broker.until(lambda: bool(broker.held and broker.pings and broker.subscribes))
    broker.drop()
    *errors, drained = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert [type(error) for error in errors] == [ConnectionLost] * 3
    assert drained is False
    assert len(recorder.losses) == 1
    assert link.room == 0
    for attempt in (link.ping(), link.subscribe([("a", 0)])):
        with pytest.raises(ConnectionLost, match="closed"):
            await attempt
    with pytest.raises(ConnectionLost, match="closed"):
        link.publish(batch(1))
    await link.close()


async def test_ping_is_answered(broker: ScriptedBroker, recorder: Recorder) -> None:
    """`ping` proves that the broker is there; two at once ask once."""
    link = await dial(broker, recorder)
    await asyncio.gather(link.ping(), link.ping())
    assert broker.pings == 1
    given_up, kept = asyncio.ensure_future(link.ping()), asyncio.ensure_future(link.ping())
    await asyncio.sleep(0)
    given_up.cancel()
    await kept
    assert broker.pings == 2
    await link.close()


async def test_a_ping_that_nobody_waits_for_any_more_is_no_mistake(broker: ScriptedBroker, recorder: Recorder) -> None:
    """Who gives up waiting leaves nothing behind that would be reported when the link goes."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    broker.mute_pings = broker.mute_subscribes = True
    link = await dial(broker, recorder)
    waiting = [asyncio.ensure_future(link.ping()), asyncio.ensure_future(link.subscribe([("a", 0)]))]
    await broker.until(lambda: bool(broker.pings and broker.subscribes))
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
    broker.drop()
    await recorder.loss()
    await link.close()
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize(
    ("sent", "words", "code"),
    [
        (b"\x00", "no packet begins with 0x00", 0x81),
        (encode(Pingreq(), 5), "PINGREQ where it cannot be", 0x82),
        (b"\x30\xff\xff\x7f", "a packet of 2097155 bytes, more than the 1000 allowed", 0x95),
        (
            encode(Publish("", b"", properties={"topic_alias": 1}), 5),
            "topic alias 1, more than the 0 offered",
            0x94,
        ),
    ],
)
async def test_a_broker_that_breaks_the_protocol_is_told_and_left(
    broker: ScriptedBroker, recorder: Recorder, sent: bytes, words: str, code: int
) -> None:
    """In MQTT 5 a breach is answered with DISCONNECT and its code; the link is lost, with the reason."""
    link = await dial(broker, recorder, maximum_packet_size=1000)
    broker.send(sent)
    assert await recorder.loss() == f"the broker broke the protocol: {words}"
    assert isinstance(recorder.losses[0].__cause__, ProtocolError)
    await broker.until(lambda: bool(broker.disconnects))
    assert broker.disconnects[0].reason == code
    await link.close()


async def test_before_mqtt_5_a_breach_is_left_without_a_word(broker: ScriptedBroker, recorder: Recorder) -> None:
    """MQTT 3.1.1 has no DISCONNECT with a reason, and an orderly one would take back the will."""
    link = await dial(broker, recorder, protocol="3.1.1", will=Will("gone", b""))
    broker.send(b"\x00")
    await recorder.loss()
    await broker.until(lambda: broker.clients == 0)
    assert broker.disconnects == []
    assert len(broker.wills) == 1
    await link.close()


async def test_the_brokers_goodbye_is_told_in_words(broker: ScriptedBroker, recorder: Recorder) -> None:
    """A DISCONNECT from the broker says why the link is lost."""
    link = await dial(broker, recorder)
    broker.disconnect(0x8E, {"reason_string": "bye"})
    words = "the broker ended the session: session taken over by another client with the same client id (0x8E): bye"
    assert await recorder.loss() == words
    assert recorder.losses[0].reason == 0x8E
    await link.close()


@pytest.mark.parametrize("how", ["drop", "close"])
async def test_a_link_that_goes_is_lost_once(broker: ScriptedBroker, recorder: Recorder, how: str) -> None:
    """However the connection ends, it is told once, and what is in flight stays known in order."""
    broker.hold_acks = True
    link = await dial(broker, recorder)
    link.publish(batch(5))
    await broker.until(lambda: broker.held == 5)
    broker.drop() if how == "drop" else broker.disconnect(0x8B)
    await recorder.loss()
    await link.close()
    link.abort()
    assert len(recorder.losses) == 1
    assert link.in_flight == [0, 1, 2, 3, 4]
    assert recorder.tokens == []


async def test_a_clean_end_keeps_the_will_unsaid(broker: ScriptedBroker, recorder: Recorder) -> None:
    """`close` says DISCONNECT, is no loss, and may be called again."""
    link = await dial(broker, recorder, will=Will("gone", b"offline"))
    await link.close()
    await link.close()
    await broker.until(lambda: broker.clients == 0)
    assert [packet.reason for packet in broker.disconnects] == [0]
    assert broker.wills == []
    assert recorder.losses == []


async def test_an_abort_lets_the_will_speak(broker: ScriptedBroker, recorder: Recorder) -> None:
    """`abort` is no goodbye, and no loss either."""
    link = await dial(broker, recorder, will=Will("gone", b"offline"))
    link.abort()
    await broker.until(lambda: broker.clients == 0)
    assert broker.wills == [Will("gone", b"offline")]
    assert broker.disconnects == []
    assert recorder.losses == []
    await link.close()


async def test_what_is_acknowledged_while_closing_is_told(broker: ScriptedBroker, recorder: Recorder) -> None:
    """Acknowledgements on their way are not thrown away by the goodbye: each one told is one message not sent twice."""
    link = await dial(broker, recorder)
    link.publish(batch(50))
    await link.close()
    assert recorder.tokens == list(range(50))
    assert link.in_flight == []


async def test_drained_waits_for_the_last_acknowledgement(broker: ScriptedBroker, recorder: Recorder) -> None:
    """`drained` returns when nothing is in flight, or says after its timeout that something is."""
    link = await dial(broker, recorder)
    assert await link.drained(0)
    broker.hold_acks = True
    link.publish(batch(3))
    assert not await link.drained(QUICK)
    both = asyncio.gather(link.drained(5), link.drained(5))
    broker.release()
    assert await both == [True, True]
    await link.close()


async def test_a_few_acknowledgements_are_read_together(broker: ScriptedBroker, recorder: Recorder) -> None:
    """With `ack_lag`, single messages do not cost a wake-up each for their acknowledgement; whoever waits ends that."""
    link = await dial(broker, recorder, ack_lag=60.0)
    for number in range(5):
        link.publish(batch(1))
        await broker.wait_published(number + 1)
    assert recorder.tokens == []
    assert await link.drained(5.0)
    assert len(recorder.tokens) == 5
    assert recorder.calls == 1
    await link.close()


async def test_many_acknowledgements_are_read_at_once(broker: ScriptedBroker, recorder: Recorder) -> None:
    """`ack_lag` is for a calm link: with more than a few in flight, acknowledgements make room at once."""
    link = await dial(broker, recorder, ack_lag=60.0)
    link.publish(batch(1))
    link.publish(batch(200))
    await recorder.until(lambda: len(recorder.tokens) == 201)
    assert link.room == 1000
    await link.close()


async def test_a_window_of_one_never_waits_for_the_lag(broker: ScriptedBroker, recorder: Recorder) -> None:
    """Where every acknowledgement makes the only room, each is read at once."""
    link = await dial(broker, recorder, ack_lag=60.0, window=1)
    for number in range(3):
        link.publish(batch(1))
        await recorder.until(lambda n=number: len(recorder.tokens) == n + 1)
    await link.close()


async def test_answers_that_somebody_waits_for_do_not_wait_for_the_lag(
    broker: ScriptedBroker, recorder: Recorder
) -> None:
    """PINGRESP, SUBACK and the orderly end are as quick as without `ack_lag`."""
    link = await dial(broker, recorder, ack_lag=60.0)
    link.publish(batch(1))
    await asyncio.wait_for(link.ping(), 5.0)
    link.publish(batch(1))
    assert await asyncio.wait_for(link.subscribe([("a", 1)]), 5.0) == [1]
    link.publish(batch(1))
    await asyncio.wait_for(link.close(5.0), 5.0)
    assert broker.disconnects


async def test_the_lag_ends_by_itself(broker: ScriptedBroker, recorder: Recorder) -> None:
    """A single message with nothing after it is reported after `ack_lag` at the latest, and a loss is found as well."""
    link = await dial(broker, recorder, ack_lag=0.02)
    link.publish(batch(1))
    await recorder.until(lambda: len(recorder.tokens) == 1)
    link.publish(batch(1))
    broker.drop()
    await recorder.until(lambda: len(recorder.losses) == 1)
