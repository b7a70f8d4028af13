"""The counter at the far end: `python -m bench.subscriber PORT COUNT PAUSE LIVE`.

It says "ready" when it is subscribed, and in the end what arrived and when. It must never be the bottleneck: it keeps
the bytes as they come from a raw socket, with the time of each read, and takes them apart only when everything is
there. At full speed it pauses after each read, so that it is not woken for each message and takes no core away from
those that are measured. It subscribes at QoS 0, so that it has nothing to answer; that the messages are published at
QoS 1 is a matter between their sender and the broker.

Readings numbered from LIVE on are live ones: latency is theirs, and first and last are of the others, if there are any.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time

MARK = b'"n":'  # once in each reading, whatever a sender adds to it
READING = re.compile(rb'"n":(\d+)[^{}]*?"t":(\d+)')
PATIENCE = 20.0  # seconds without any byte after which what is missing is taken to be lost


def text(value: str) -> bytes:
    """Encode an MQTT string."""
    return len(value).to_bytes(2, "big") + value.encode()


def packet(kind: int, body: bytes) -> bytes:
    """Encode a short MQTT packet, whose length fits into one byte."""
    return bytes((kind, len(body))) + body


def subscribe(port: int) -> socket.socket:
    """Connect with MQTT 3.1.1, subscribe to everything at QoS 0, and return the socket once that is granted."""
    link = socket.create_connection(("127.0.0.1", port))
    link.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text("bench-counter")))
    link.sendall(packet(0x82, b"\x00\x01" + text("#") + b"\x00"))
    answer = b""
    while len(answer) < 4 + 5:
        answer += link.recv(4 + 5 - len(answer))
    if answer != b"\x20\x02\x00\x00" + b"\x90\x03\x00\x01\x00":
        raise SystemExit(f"the broker refused the counter: {answer.hex(' ')}")
    return link


def collect(link: socket.socket, count: int, pause: float) -> list[tuple[int, bytes]]:
    """Keep what comes, with its monotonic nanoseconds, until `count` readings are there or nothing comes any more."""
    chunks: list[tuple[int, bytes]] = []
    arrived, rest = 0, b""
    link.settimeout(None)
    while arrived < count:
        try:
            chunk = link.recv(1 << 20)
        except TimeoutError:
            break
        if not chunk:
            break
        chunks.append((time.monotonic_ns(), chunk))
        link.settimeout(PATIENCE)
        arrived += (rest + chunk).count(MARK)
        rest = chunk[-len(MARK) + 1 :]
        if pause:
            time.sleep(pause)
    return chunks


def take_apart(chunks: list[tuple[int, bytes]], live: int) -> dict[str, object]:
    """Say how many readings arrived, how many different ones, when the first and the last came, and the latency."""
    stream = b"".join(chunk for _, chunk in chunks)
    ends, end = [], 0
    for at, chunk in chunks:
        end += len(chunk)
        ends.append((end, at))
    times, latencies, seen, place, arrived = [], [], set(), 0, 0
    for match in READING.finditer(stream):
        while ends[place][0] < match.end():
            place += 1
        number = int(match[1])
        if number < live or not live:
            times.append(ends[place][1])
        if number >= live:
            latencies.append(ends[place][1] - int(match[2]))
        arrived += 1
        seen.add(number)
    latencies.sort()
    return {
        "arrived": arrived,
        "unique": len(seen),
        "first": times[0] / 1e9 if times else 0.0,
        "last": times[-1] / 1e9 if times else 0.0,
        "p50": latencies[len(latencies) // 2] / 1e6 if latencies else 0.0,
        "p99": latencies[len(latencies) * 99 // 100] / 1e6 if latencies else 0.0,
    }


def main() -> None:
    """Count until everything has arrived, and print the result as one line of JSON."""
    port, count, pause, live = sys.argv[1:]
    link = subscribe(int(port))
    print("ready", flush=True)
    print(json.dumps(take_apart(collect(link, int(count), float(pause)), int(live))), flush=True)


if __name__ == "__main__":
    main()
