"""A live link with a scripted broker, beyond plain messages: QoS 2, holding, authentication, endings."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gateway.mqtt import Address, Connection, ConnectionLost, ConnectRefused, Options, Subscription, Will, connect
from gateway.mqtt.packets import Auth, Packet, Pubcomp, Publish, Pubrec, Pubrel
from tests.mqtt.recorder import Recorder, Secret, batch, dial
from tests.scripted_broker import ScriptedBroker

PROTOCOLS = pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
QUICK = 0.2  # seconds until something that never comes is overdue
LATE = QUICK + 0.5  # the latest at which that must have been found


class Releasing(Recorder):
    """Lets every QoS 2 message go on at once."""

    link: Connection

    def recorded(self, tokens: list[int]) -> None:
        super().recorded(tokens)
        self.link.release(tokens)


async def releasing(broker: ScriptedBroker, **options: object) -> Releasing:
    recorder = Releasing()
    recorder.link = await dial(broker, recorder, **options)
    return recorder


# -- QoS 2


@PROTOCOLS
async def test_qos_2_both_ways(broker: ScriptedBroker, protocol: str) -> None:
    """A thousand messages go to the broker and come back, each once, and nothing of them is left on either side."""
    broker.deliver = True
    one = await releasing(broker, protocol=protocol)
    assert await one.link.subscribe([("t/#", 2)]) == [2]
    one.link.publish(batch(1000), 2)
    await one.until(lambda: len(one.tokens) == 1000 and len(one.messages) == 1000)
    assert (one.tokens, one.records) == (list(range(1000)), list(range(1000)))
    assert [int(message.payload) for message in one.messages] == list(range(1000))
    await one.link.ping()
    (session,) = broker.sessions.values()
    assert (session.recorded, session.outgoing, one.link.received_ids) == (set(), {}, set())
    assert (one.link.in_flight, one.link.released, one.link.room) == ([], [], 1000)
    await one.link.close()
    assert broker.errors == []


@pytest.mark.parametrize("step", [Pubrec, Pubcomp])
async def test_each_phase_has_its_deadline(broker: ScriptedBroker, step: type[Packet]) -> None:
    """A broker that stops in the middle of QoS 2 is left in time, and what is known of each message is right."""
    broker.withhold = {step}
    one = await releasing(broker, ack_timeout=QUICK)
    one.link.publish(batch(2), 2)
    assert await one.loss(LATE) == "no acknowledgement for 0.2 s"
    assert sorted(one.link.in_flight) == [0, 1]
    assert one.link.released == ([] if step is Pubrec else [0, 1])
    await one.link.close()


async def test_while_its_owner_has_a_message_the_broker_owes_nothing(
    broker: ScriptedBroker, recorder: Recorder
) -> None:
    """A slow disk on our side is no reason to leave a broker; afterwards the message goes on."""
    link = await dial(broker, recorder, ack_timeout=0.05)
    link.publish(batch(1), 2)
    await recorder.until(lambda: recorder.records == [0])
    assert link._line._watch.look(link._loop.time() + 100, link._in_flight.oldest()).lost is None
    assert (link.in_flight, link.released) == ([0], [])
    link.release([0])
    await recorder.until(lambda: recorder.tokens == [0])
    await link.close()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("step", [Pubrec, Pubcomp])
async def test_a_session_goes_on(broker: ScriptedBroker, protocol: str, step: type[Packet]) -> None:
    """Messages that were cut off in either phase are finished on the next connection, and taken once."""
    broker.keep_sessions = True
    broker.withhold = {step}
    options = {"protocol": protocol, "numbered": True, "clean": False, "session_expiry": 60}
    one = await releasing(broker, **options)
    assert not one.link.session_present
    one.link.publish(batch(5, 70_000), 2)
    await broker.until(lambda: broker.held == 5)
    broker.drop()
    await one.loss()
    released, left = one.link.released, [token for token in one.link.in_flight if token not in one.link.released]
    assert (len(released), len(left)) == ((0, 5) if step is Pubrec else (5, 0))
    broker.withhold.clear()
    again = await releasing(broker, **options)
    assert again.link.session_present
    again.link.resume(released)
    again.link.publish([one for one in batch(5, 70_000) if one[2] in left], 2, dup=True)
    await again.until(lambda: len(again.tokens) == 5)
    assert len(broker.published) == 5
    assert {packet.packet_id for packet in broker.publishes} == {70_001 - 65_000 + n for n in range(5)}
    await asyncio.gather(again.link.close(), one.link.close())
    assert broker.errors == []


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_message_that_was_told_is_not_told_again(broker: ScriptedBroker, protocol: str) -> None:
    """The identifiers that came over from the last connection keep a message of QoS 2 from coming twice."""
    broker.keep_sessions = True
    broker.withhold = {Pubrel}
    received: set[int] = set()
    options = Options("me", protocol=protocol, clean=False, session_expiry=60, hold_received=True)
    first, second = Recorder(), Recorder()
    link = await connect(Address.parse(broker.url), options, first, received=received)
    await link.subscribe([Subscription("a", 2)])
    broker.publish(Publish("a", b"told and confirmed", 2))
    broker.publish(Publish("a", b"told", 2))
    await first.until(lambda: len(first.messages) == 2)
    link.confirm([first.messages[0].packet_id])
    await broker.until(lambda: broker.held == 1)
    assert len(received) == 2
    broker.drop()
    await first.loss()
    received.remove(first.messages[1].packet_id)  # it was told, but its owner does not vouch for it
    broker.withhold.clear()
    again = await connect(Address.parse(broker.url), options, second, received=received)
    await second.until(lambda: len(second.messages) == 1)
    assert (second.messages[0].payload, second.messages[0].dup) == (b"told", True)
    again.confirm([second.messages[0].packet_id])
    await broker.until(lambda: not broker.sessions["me"].outgoing)
    await again.ping()
    assert received == set()
    await asyncio.gather(link.close(), again.close())


async def test_a_release_on_a_link_that_is_gone_is_only_noted(broker: ScriptedBroker, recorder: Recorder) -> None:
    """What was made durable a moment too late is known as released, and nothing is sent or raised."""
    link = await dial(broker, recorder)
    link.publish(batch(2), 2)
    await recorder.until(lambda: recorder.records == [0, 1])
    broker.drop()
    await recorder.loss()
    link.release([0])
    link.confirm([1])
    assert (link.released, sorted(link.in_flight)) == ([0], [0, 1])
    assert broker.releases == []
    await link.close()


async def test_a_downgrade_is_noticed(broker: ScriptedBroker, recorder: Recorder) -> None:
    """A broker that answers QoS 2 with PUBACK has acknowledged, and the owner can tell."""
    broker.puback_for_qos2 = True
    link = await dial(broker, recorder)
    link.publish(batch(3), 2)
    await recorder.until(lambda: recorder.tokens == [0, 1, 2])
    assert link.downgraded
    await link.close()


async def test_a_numbered_link_says_what_fits(broker: ScriptedBroker, recorder: Recorder) -> None:
    """The owner can ask before it sends; whoever does not, gets an error and sends nothing."""
    broker.hold_acks = True
    link = await dial(broker, recorder, numbered=True)
    link.publish(batch(3))
    assert (link.accepts(65_000), link.accepts(65_003), link.fitting([65_003, 65_001, 65_004])) == (False, True, 1)
    with pytest.raises(ValueError, match="in flight"):
        link.publish(batch(1, 65_000))
    broker.release()
    await recorder.until(lambda: len(recorder.tokens) == 3)
    assert len(broker.published) == 3
    assert link.accepts(65_000)
    await link.close()


# -- holding


async def test_a_link_that_is_held_reads_nothing(broker: ScriptedBroker, recorder: Recorder) -> None:
    """While its owner cannot take more, messages stay with the broker, and every deadline waits."""
    broker.deliver = True
    link = await dial(broker, recorder, ack_timeout=QUICK, keep_alive=0.05)
    await link.subscribe([("a", 1)])
    for _ in range(3):
        link.hold(True)
    link.publish(batch(3))
    broker.publish(Publish("a", b"x", 1))
    asking = asyncio.ensure_future(link.unsubscribe(["b"]))
    pinged = broker.pings
    await broker.until(lambda: broker.pings >= pinged + 8)  # twice the deadline, and the broker sees us alive
    assert (recorder.losses, recorder.messages, recorder.tokens) == ([], [], [])
    link.hold(False)
    await recorder.until(lambda: bool(recorder.messages) and recorder.tokens == [0, 1, 2])
    assert await asking == [0x11]
    await link.close()


async def test_deadlines_run_again_after_holding(broker: ScriptedBroker, recorder: Recorder) -> None:
    """A broker that answers nothing after we read again is left, `ack_timeout` later and not at once."""
    broker.stop_acks = True
    link = await dial(broker, recorder, ack_timeout=QUICK)
    link.publish(batch(1))
    link.hold(True)
    await broker.wait_published(1)
    link.hold(False)
    began = asyncio.get_running_loop().time()
    assert await recorder.loss(LATE) == "no acknowledgement for 0.2 s"
    assert asyncio.get_running_loop().time() - began >= QUICK
    link.hold(True)  # on a link that is gone it means nothing
    await link.close()


async def test_holding_does_not_hold_up_the_end(broker: ScriptedBroker, recorder: Recorder) -> None:
    """A link that is held is closed as fast as any other, and tells no message any more."""
    link = await dial(broker, recorder)
    link.hold(True)
    broker.send(Publish("a", b"x", 2, packet_id=1))
    await asyncio.wait_for(link.close(5.0), 1.0)
    assert (recorder.messages, link.received_ids, len(broker.disconnects)) == ([], set(), 1)


async def test_reading_again_for_one_reason_does_not_overrule_another(
    broker: ScriptedBroker, recorder: Recorder
) -> None:
    """Dozing ends while the owner still holds: nothing is read."""
    link = await dial(broker, recorder, ack_lag=60.0)
    link.publish(batch(1))
    link.hold(True)
    asking = asyncio.ensure_future(link.ping())  # ends the doze
    await broker.until(lambda: broker.pings == 1)
    transport = link.transport
    assert isinstance(transport, asyncio.ReadTransport)
    assert not transport.is_reading()
    link.hold(False)
    await asking
    await link.close()


# -- authentication


async def test_a_link_with_authentication(broker: ScriptedBroker, recorder: Recorder) -> None:
    """CONNECT, AUTH to and fro, CONNACK; and once more on an open link. "auto" does not fall back past it."""
    broker.challenges, broker.last_word = [b"who?", b"who?"], b"welcome"
    link = await dial(broker, recorder, authentication=Secret())
    said = {"authentication_method": "WORDS", "authentication_data": b"me"}
    assert broker.auths == [Auth(0x18, said)] * 2
    await link.reauthenticate()
    assert broker.auths[2:] == [Auth(0x19, {"authentication_method": "WORDS"}), *[Auth(0x18, said)] * 2]
    await link.close()
    broker.levels = [4]
    with pytest.raises(ConnectRefused, match="unsupported protocol"):
        await dial(broker, recorder, authentication=Secret())
    plain = await dial(broker, recorder, protocol="3.1.1")
    with pytest.raises(ValueError, match="no authentication"):
        await plain.reauthenticate()
    await plain.close()


@pytest.mark.parametrize(("challenges", "last"), [([b"what?"], None), ([], b"go away")])
async def test_a_broker_that_fails_the_authentication_is_refused(
    broker: ScriptedBroker, recorder: Recorder, challenges: list[bytes], last: bytes | None
) -> None:
    """Both sides have to prove something; what is wrong with the broker's side is said in words."""
    broker.challenges, broker.last_word = challenges, last
    with pytest.raises(ConnectRefused, match=r"authentication is refused: b'.*' is not what it should say"):
        await dial(broker, recorder, authentication=Secret())
    await broker.until(lambda: broker.clients == 0)


async def test_an_authentication_that_fails_later_loses_the_link(broker: ScriptedBroker, recorder: Recorder) -> None:
    """Whoever waits for it learns why."""
    link = await dial(broker, recorder, authentication=Secret())
    broker.challenges = [b"what?"]
    broker.conversations[0].challenges = [b"what?"]
    with pytest.raises(ConnectionLost, match="is not what it should say"):
        await link.reauthenticate()
    assert "is not what it should say" in await recorder.loss()
    await link.close()


# -- endings


@pytest.mark.parametrize(("protocol", "said"), [("5", [4]), ("3.1.1", []), ("3.1", [])])
async def test_a_goodbye_with_the_will(
    broker: ScriptedBroker, recorder: Recorder, protocol: str, said: list[int]
) -> None:
    """Reason 4 has the will published: in MQTT 5 by the word for it, before by leaving without one."""
    link = await dial(broker, recorder, protocol=protocol, will=Will("gone", b""))
    link.publish(batch(20), 0)
    await link.close(reason=4)
    await broker.until(lambda: broker.clients == 0)
    assert [packet.reason for packet in broker.disconnects] == said
    assert (len(broker.wills), len(broker.published), recorder.losses) == (1, 20, [])


async def test_a_session_can_be_given_up_at_the_end(broker: ScriptedBroker, recorder: Recorder) -> None:
    """The goodbye may say that the broker need not keep the session."""
    broker.keep_sessions = True
    link = await dial(broker, recorder, clean=False, session_expiry=60)
    await link.close(session_expiry=0)
    await broker.until(lambda: broker.clients == 0)
    assert broker.sessions == {}


async def test_another_server_is_named(broker: ScriptedBroker, recorder: Recorder) -> None:
    """Where the broker would rather have us is told with the refusal, and with the loss."""
    link = await dial(broker, recorder)
    broker.disconnect(0x9C, {"server_reference": "b.example:1883", "reason_string": "full"})
    assert await recorder.loss() == (
        "the broker ended the session: use another server (0x9C): full (server: b.example:1883)"
    )
    assert (recorder.losses[0].server_reference, recorder.losses[0].reason) == ("b.example:1883", 0x9C)
    await link.close()
    broker.refuse, broker.refusal = 0x9D, {"server_reference": "c.example"}
    with pytest.raises(ConnectRefused, match=r"server moved \(0x9D\) \(server: c\.example\)") as caught:
        await dial(broker, recorder)
    assert caught.value.server_reference == "c.example"


async def test_an_answer_that_nobody_waits_for_any_more_is_no_mistake(
    broker: ScriptedBroker, recorder: Recorder
) -> None:
    """A subscription whose caller has gone is answered into the void, and its deadline holds all the same."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    link = await dial(broker, recorder, ack_timeout=QUICK)
    asking = asyncio.ensure_future(link.subscribe([("a", 0)]))
    await asyncio.sleep(0)
    asking.cancel()
    await broker.until(lambda: bool(broker.subscribes))
    await link.ping()
    assert not link._asking
    broker.mute_subscribes = True
    asking = asyncio.ensure_future(link.subscribe([("a", 0)]))
    await asyncio.sleep(0)
    asking.cancel()
    assert await recorder.loss(LATE) == "no answer to SUBSCRIBE for 0.2 s"
    await link.close()
    gc.collect()
    assert complaints == []
