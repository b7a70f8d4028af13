"""What a device that floods costs the others: how late the readings of quiet devices are taken in beside it."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.devices import newest
from bench.report import Goal, table
from bench.rig import Broker, Notified, Tty, free_port
from bench.subscriber import packet, text

QUIET, RATE = 4, 25
"""Quiet devices, and lines a second of each."""
SIZE = 1 << 20
"""Bytes of a flood, which is written again and again."""
SAID = re.compile(rb'"ts":(\d+)[^{}]*?"t":(\d+)')
FRAME = bytes.fromhex("424d001c00000008000800000008000800d20046002d001e00000000970002c5")

CONFIG = """\
[gateway]
id = "bench"

[outbox]
path = "{folder}/outbox.db"
max_size = "64MB"
when_full = "drop-oldest"

[uplinks.local]
brokers = ["mqtt://127.0.0.1:{port}"]
"""
DEVICE = """
[devices.{name}]
adapter = "{adapter}"
port = "{port}"
"""


class Flood(NamedTuple):
    """What floods: the adapter that reads it, and what is written again and again. Nothing: no flood."""

    adapter: str
    data: bytes
    network: bool = False


class Late(NamedTuple):
    """Milliseconds from the writing of a line to the time of its reading, and how much of the flood was taken."""

    p50: float
    p99: float
    longest: float
    mb: float  # a second
    readings: float  # of the flood, a second


def floods() -> dict[str, Flood]:
    """Return what is measured, by name."""
    noise = random.Random(1).randbytes(SIZE)
    line = b'{"n":1234567,"temperature":21.5,"humidity":40,"state":"ok","pressure":1013.25}\n'
    return {
        "nothing": Flood("serial-text", b""),
        "valid lines": Flood("serial-text", line * (SIZE // len(line))),
        "valid lines over TCP": Flood("serial-text", line * (SIZE // len(line)), network=True),
        "lines that are none": Flood("serial-text", b"garbage\n" * (SIZE // 8)),
        "line ends": Flood("serial-text", b"\n" * SIZE),
        "a line without an end": Flood("serial-text", b"x" * SIZE),
        "random bytes for lines": Flood("serial-text", noise),
        "random bytes for lines, TCP": Flood("serial-text", noise, network=True),
        "valid frames": Flood("plantower-pms", FRAME * (SIZE // 32)),
        "random bytes for frames": Flood("plantower-pms", noise),
        "heads of frames": Flood("plantower-pms", FRAME[:4] * (SIZE // 4)),
        "random bytes for SML": Flood("sml", noise),
    }


@contextmanager
def flooding(flood: Flood) -> Iterator[tuple[str, list[int]]]:
    """Give the port on which the flood comes, and the bytes that were written so far, as the one item of a list."""
    data, written, ended = memoryview(flood.data), [0], threading.Event()

    def write(fd: int) -> None:
        while not ended.is_set():
            try:
                written[0] += os.write(fd, data[written[0] % len(data) :])
            except BlockingIOError:
                time.sleep(0.0005)
            except OSError:
                return

    with ExitStack() as stack:
        if flood.network:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = f"socket://127.0.0.1:{server.getsockname()[1]}"

            def serve() -> None:
                connection, _ = server.accept()
                with connection:
                    write(connection.fileno())

            thread = threading.Thread(target=serve, daemon=True)
        else:
            tty = stack.enter_context(Tty())
            os.set_blocking(tty.near, False)
            port, thread = tty.path, threading.Thread(target=write, args=(tty.near,), daemon=True)
        thread.start()
        try:
            yield port, written
        finally:
            ended.set()


def listen(port: int) -> subprocess.Popen[bytes]:
    """Return a process that prints what the quiet devices' readings say, ready when it has said so."""
    command = [sys.executable, "-m", "bench.flood", str(port)]
    listener = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert listener.stdout is not None  # asked for above
    listener.stdout.readline()
    return listener


def lateness(flood: Flood, seconds: float) -> Late:
    """Measure how late readings are beside a flood."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        port, lines = free_port(), [stack.enter_context(Tty()) for _ in range(QUIET)]
        broker = stack.enter_context(Broker(folder, port))
        path, written = stack.enter_context(flooding(flood)) if flood.data else (None, [0])
        config = CONFIG.format(folder=folder, port=broker.port)
        for number, line in enumerate(lines):
            config += DEVICE.format(name=f"quiet{number}", adapter="serial-text", port=line.path)
        if path is not None:
            config += DEVICE.format(name="flood", adapter=flood.adapter, port=path)
        (folder / "gateway.toml").write_text(config)
        command = (sys.executable, "-m", "gateway", "run", "-c", str(folder / "gateway.toml"))
        gateway = stack.enter_context(Notified(folder, *command))
        while not all(gateway.figures(20)["devices"][f"quiet{n}"]["state"] == "online" for n in range(QUIET)):
            pass
        listener = listen(port)
        taken, before, began = newest(gateway), written[0], time.monotonic()
        speak(lines, seconds)
        passed = time.monotonic() - began
        mb = (written[0] - before) / passed / 1e6
        readings = (newest(gateway) - taken) / passed - QUIET * RATE
        late = sorted(json.loads(listener.communicate(timeout=60)[0]))
    if len(late) < QUIET * RATE * seconds * 0.9:
        sys.exit(f"only {len(late)} readings of the quiet devices arrived")
    return Late(late[len(late) // 2], late[len(late) * 99 // 100], late[-1], mb, readings)


def speak(lines: list[Tty], seconds: float) -> None:
    """Have the quiet devices write their lines, each with the time at which it is written, and then one last."""
    start, step = time.monotonic(), 1 / RATE / len(lines)
    for number in range(int(seconds / step)):
        time.sleep(max(0.0, start + number * step - time.monotonic()))
        os.write(lines[number % len(lines)].near, b'{"t":%d}\n' % time.time_ns())
    for line in lines:
        os.write(line.near, b'{"last":1}\n')


def hear(port: int) -> None:
    """Print how many milliseconds each reading of the quiet devices was late, when their last ones have come."""
    link = socket.create_connection(("127.0.0.1", port))
    link.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text("bench-flood")))
    for number in range(QUIET):
        link.sendall(packet(0x82, bytes((0, number + 1)) + text(f"sensors/bench/quiet{number}") + b"\x00"))
    print("ready", flush=True)
    link.settimeout(30)
    heard = b""
    try:
        while heard.count(b'"last":1') < QUIET:
            heard += link.recv(1 << 16)
    except TimeoutError:
        print("the quiet devices are not heard to the end", file=sys.stderr)
    print(json.dumps([int(ts) - int(at) / 1e6 for ts, at in SAID.findall(heard)]))


def measure_flood(rounds: int, seconds: float) -> list[Goal]:
    """Measure quiet devices alone, and beside each kind of flood; whatever else the machine does can only add to it."""
    tried = [{name: lateness(flood, seconds) for name, flood in floods().items()} for _ in range(rounds)]
    found = {name: min((one[name] for one in tried), key=lambda late: late.p99) for name in tried[0]}
    calm = found["nothing"]
    rows = [
        [name, f"{late.mb:.2f}", f"{late.readings:,.0f}", *(f"{each:.1f}" for each in late[:3])]
        for name, late in found.items()
    ]
    heads = ["beside", "MB/s", "readings/s of it", "late p50 ms", "p99 ms", "longest ms"]
    title = f"{QUIET} quiet devices, {RATE} lines a second each, for {seconds:g} s beside a flood, the best of {rounds}"
    table(title, heads, rows)
    worst = max(late.p99 - calm.p99 for late in found.values())
    return [Goal("what a flood adds to the p99 of how late others are, in ms: at most 10", worst, worst <= 10)]


if __name__ == "__main__":
    hear(int(sys.argv[1]))
