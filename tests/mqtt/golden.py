"""Packets and their bytes, written down by hand from the specifications: level, packet, bytes."""

from __future__ import annotations

from gateway.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)

GOLDEN: list[tuple[int, Packet, str]] = [
    (4, Connect(4, "A", True, 60), "10 0d 0004 4d515454 04 02 003c 0001 41"),
    (3, Connect(3, "A", False, 10), "10 0f 0006 4d5149736470 03 00 000a 0001 41"),
    (5, Connect(5, "", True, 0, "u", b"p"), "10 13 0004 4d515454 05 c2 0000 00 0000 0001 75 0001 70"),
    (
        4,
        Connect(4, "A", True, 60, will=Will("w", b"gone", 1, True)),
        "10 16 0004 4d515454 04 2e 003c 0001 41 0001 77 0004 676f6e65",
    ),
    (4, Connack(True, 0), "20 02 01 00"),
    (5, Connack(False, 0, {"receive_maximum": 10, "maximum_qos": 1}), "20 08 00 00 05 21 000a 24 01"),
    (5, Connack(False, 1), "20 02 00 01"),  # the answer of a broker that knows 3.1.1 only, without properties
    (4, Publish("a/b", b"hi", 1, False, False, 10), "32 09 0003 612f62 000a 6869"),
    (5, Publish("a/b", b"hi", 0, True), "31 08 0003 612f62 00 6869"),
    (5, Publish("a/b", b"", 2, False, True, 1), "3c 08 0003 612f62 0001 00"),
    (4, Puback(0x1234), "40 02 1234"),
    (5, Puback(1, 0x10), "40 03 0001 10"),
    (5, Puback(1, 0x97, {"reason_string": "x"}), "40 08 0001 97 04 1f 0001 78"),
    (4, Pubrec(1), "50 02 0001"),
    (4, Pubrel(1), "62 02 0001"),
    (5, Pubcomp(1, 0x92), "70 03 0001 92"),
    (4, Subscribe(10, (Subscription("a/b", 1), Subscription("c/d", 2))), "82 0e 000a 0003 612f62 01 0003 632f64 02"),
    (5, Subscribe(1, (Subscription("#", 1, True, True, 2),)), "82 07 0001 00 0001 23 2d"),
    (4, Suback(1, (0, 2, 0x80)), "90 05 0001 00 02 80"),
    (4, Unsubscribe(1, ("a",)), "a2 05 0001 0001 61"),
    (4, Unsuback(1), "b0 02 0001"),
    (5, Unsuback(1, (0x11,)), "b0 04 0001 00 11"),
    (4, Pingreq(), "c0 00"),
    (4, Pingresp(), "d0 00"),
    (4, Disconnect(), "e0 00"),
    (5, Disconnect(0x8B), "e0 01 8b"),
    (5, Auth(0x18, {"authentication_method": "m"}), "f0 06 18 04 15 0001 6d"),
]
