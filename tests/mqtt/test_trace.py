"""The packet trace of a link."""

from __future__ import annotations

from gateway.mqtt import Will
from gateway.mqtt.codec import encode
from gateway.mqtt.packets import Publish
from tests.mqtt.recorder import Recorder, Secret, dial
from tests.scripted_broker import ScriptedBroker


async def test_every_packet_is_in_the_trace_and_no_secret(broker: ScriptedBroker, recorder: Recorder) -> None:
    """A line for each packet in both directions, with what it says, short and without secrets."""
    lines: list[str] = []
    broker.challenges = [b"who?"]
    link = await dial(
        broker,
        recorder,
        username="user",
        password=b"hunter2",
        authentication=Secret(),
        will=Will("gone", b"\xff" * 100, properties={"will_delay_interval": 3}),
        trace=lambda way, line: lines.append(f"{way} {line}"),
    )
    await link.subscribe([("a/#", 1)])
    link.publish([(b"t", b"x" * 1000, 1)], 1, True, {"user_properties": [("n", "v" * 1000)]})
    link.publish([(b"t", b"", 2)], 0)
    await recorder.until(lambda: 1 in recorder.tokens)
    await link.close()
    assert [line.split(" ", 2)[:2] for line in lines] == [
        ["out", "CONNECT"],
        ["in", "AUTH"],
        ["out", "AUTH"],
        ["in", "CONNACK"],
        ["out", "SUBSCRIBE"],
        ["in", "SUBACK"],
        ["out", "PUBLISH"],
        ["out", "PUBLISH"],
        ["in", "PUBACK"],
        ["out", "DISCONNECT"],
    ]
    assert "username='user' password=***" in lines[0]
    assert "will_delay_interval=3" in lines[0]
    assert "authentication_data=***" in lines[1]
    assert "filter='a/#'" in lines[4]
    assert "(1000)" in lines[6]
    assert "qos=1 retain" in lines[6]
    assert "qos=0" in lines[7]
    assert not any("hunter2" in line or "who?" in line for line in lines)
    assert max(map(len, lines)) < 600


async def test_a_trace_of_nonsense_ends_with_a_word(broker: ScriptedBroker, recorder: Recorder) -> None:
    """What cannot be MQTT is said once, and does no harm."""
    lines: list[str] = []
    link = await dial(broker, recorder, trace=lambda way, line: lines.append(f"{way} {line}"))
    broker.send(encode(Publish("a", b""), 5) + b"\x00\x00")
    await recorder.loss()
    assert lines[-3:] == [
        "in PUBLISH topic='a' payload=b''(0) qos=0",
        "in not MQTT: no packet begins with 0x00",
        "out DISCONNECT reason=129",
    ]
    await link.close()
