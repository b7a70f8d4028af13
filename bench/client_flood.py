"""The publisher that a receiver gets its messages from: `python -m bench.client_flood PORT COUNT`.

It writes packets that were made before, in MQTT 3.1.1 at QoS 1 and without a window, and ends when the broker has
acknowledged all of them.
"""

from __future__ import annotations

import socket
import sys
import threading

from bench.client_child import TOPIC, message
from bench.subscriber import packet, text


def packets(count: int) -> bytes:
    """Return the PUBLISH packets, back to back; packet identifiers begin again after 60,000."""
    topic = text(TOPIC)
    made = []
    for n in range(count):
        body = topic + (n % 60_000 + 1).to_bytes(2, "big") + message(n)
        size = len(body)
        made.append(bytes((0x32, size & 0x7F | 0x80, size >> 7)) + body)
    return b"".join(made)


def main() -> None:
    """Connect, and send everything."""
    port, count = map(int, sys.argv[1:])
    data = packets(count)
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text("bench-flood")))
        writer = threading.Thread(target=link.sendall, args=(data,), daemon=True)
        writer.start()
        missing = 4 + 4 * count  # CONNACK and PUBACKs
        while missing:
            missing -= len(link.recv(1 << 16)) or sys.exit("the broker has closed")


if __name__ == "__main__":
    main()
