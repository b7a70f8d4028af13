"""A message that names its subscription is read the same way however often it comes."""

from __future__ import annotations

import pytest

from gateway.mqtt.codec import encode
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.framing import Framer
from gateway.mqtt.listener import Message
from gateway.mqtt.options import Options
from gateway.mqtt.packets import Publish
from gateway.mqtt.properties import Properties
from gateway.mqtt.receiving import Receiving


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"subscription_identifiers": [1]},
        {"subscription_identifiers": [268_435_455]},
        {"subscription_identifiers": [1, 2]},
        {"subscription_identifiers": [1], "content_type": "text"},
        {"content_type": "text"},
    ],
)
def test_the_second_is_like_the_first(properties: Properties, qos: int) -> None:
    """What is remembered of a message to read the next one faster changes nothing of what is read."""
    receiving, framer = Receiving(Options("me"), 5, None, False), Framer(1 << 20, 5)
    for number in range(1, 4):
        packet = Publish("a/b", b"payload %d" % number, qos, packet_id=number if qos else 0, properties=properties)
        ((first, body),) = framer.feed(encode(packet, 5))
        message = receiving.take(first, body)
        assert message == Message("a/b", b"payload %d" % number, qos, properties=properties, packet_id=packet.packet_id)
        message.properties.clear()  # a program may do with it what it wants


def test_what_ends_in_the_middle_is_malformed() -> None:
    """Every cut through a message whose like was read before is an error, or a shorter payload."""
    receiving, framer = Receiving(Options("me"), 5, None, False), Framer(1 << 20, 5)
    packet = encode(Publish("a/b", b"x", 1, packet_id=1, properties={"subscription_identifiers": [300]}), 5)
    ((first, body),) = framer.feed(packet)
    assert receiving.take(first, body) is not None
    for stop in range(len(body) - 1):
        with pytest.raises(ProtocolError):
            receiving.take(first, body[:stop])
    assert receiving.take(first, body[:-1]) == Message(
        "a/b", b"", 1, properties={"subscription_identifiers": [300]}, packet_id=1
    )
