"""The three measurements: full speed, a calm line, and the drain of a stored backlog."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.rig import Broker, Child, Counter, Tty, find, free_port, reading
from bench.senders import SENDERS, TOPIC, gateway

PAUSE = 0.001  # seconds that the counter lets pass after each read, where it is not latency that is measured
DISK = "/var/tmp"  # where the outbox lies; /tmp may be in memory


class Full(NamedTuple):
    """One run at full speed: from the first byte written to the last reading at the counter."""

    rate: float  # readings a second
    cpu: float  # CPU seconds of the sender per 100,000 readings


class Calm(NamedTuple):
    """One run at a calm rate."""

    cpu: float  # CPU seconds of the sender per 100,000 readings
    p50: float  # milliseconds from the write to the counter
    p99: float


class Drain(NamedTuple):
    """One drain of a backlog: from the first reading at the counter to the last."""

    rate: float  # readings a second
    cpu: float  # CPU seconds of the sender per 100,000 readings


class Lost(RuntimeError):
    """A sender lost readings, so that its figures mean nothing."""


def counted(name: str, counter: Counter, count: int) -> dict[str, float]:
    """Wait for the counter's result. Raises Lost if a reading is missing."""
    result = counter.result()
    if result["unique"] != count:
        raise Lost(f"{name}: {count} readings sent, {result['unique']} arrived")
    return result


@contextmanager
def bench(name: str, count: int, pause: float) -> Iterator[tuple[Tty, Child, Counter]]:
    """Set up a broker, a line, the sender of that name, and a counter that expects `count` readings."""
    with (
        tempfile.TemporaryDirectory(dir=DISK) as folder,
        Broker(Path(folder), free_port()) as broker,
        Tty() as line,
        SENDERS[name](Path(folder), line, broker.port) as sender,
        Counter(broker.port, count, pause) as counter,
    ):
        yield line, sender, counter


def full_speed(name: str, count: int) -> Full:
    """Write `count` readings as fast as the line takes them."""
    lines = b"".join(reading(n) for n in range(count))
    with bench(name, count, PAUSE) as (line, sender, counter):
        before = sender.cpu
        start = time.monotonic()
        writer = line.flood(lines)
        result = counted(name, counter, count)
        cpu = sender.cpu - before
        writer.join()
    return Full(count / (result["last"] - start), cpu / count * 100_000)


def calm(name: str, count: int, rate: float) -> Calm:
    """Write `count` readings, `rate` a second."""
    with bench(name, count, 0.0) as (line, sender, counter):
        before = sender.cpu
        line.trickle(count, rate)
        result = counted(name, counter, count)
        cpu = sender.cpu - before
    return Calm(cpu / count * 100_000, result["p50"], result["p99"])


def drain_gateway(count: int) -> Drain:
    """Let the gateway collect `count` readings with no broker, and then start one."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory(dir=DISK) as folder,
        Tty() as line,
        gateway(Path(folder), line, port) as child,
    ):
        line.flood(b"".join(reading(n) for n in range(count))).join()
        while child.figures(20)["uplinks"]["local"]["waiting"] < count:
            pass
        child.process.send_signal(signal.SIGSTOP)  # until the counter is subscribed
        with Broker(Path(folder), port), Counter(port, count, PAUSE) as counter:
            before = child.cpu
            child.process.send_signal(signal.SIGCONT)
            result = counted("sensor-gateway", counter, count)
            cpu = child.cpu - before
    return Drain(count / (result["last"] - result["first"]), cpu / count * 100_000)


def drain_mosquitto_pub(count: int) -> Drain:
    """Let mosquitto_pub -l send `count` lines that are all there, as from a file.

    They come through a pipe that stays open until all have arrived: at the end of a file of more than 65,535 lines,
    mosquitto_pub 2.0.11 takes the first packet id that equals the last one's for the last, and leaves with status 0.
    """
    lines = b"".join(reading(n) for n in range(count))
    command = (find("mosquitto_pub"), "-l", "-q", "1", "-h", "127.0.0.1", "-t", TOPIC, "-p")
    with (
        tempfile.TemporaryDirectory(dir=DISK) as folder,
        Broker(Path(folder), free_port()) as broker,
        Counter(broker.port, count, PAUSE) as counter,
        Child(*command, str(broker.port), stdin=subprocess.PIPE) as sender,
    ):
        pipe = sender.process.stdin
        writer = threading.Thread(target=pipe.write, args=(lines,), daemon=True)
        writer.start()
        result = counted("mosquitto_pub -l", counter, count)
        cpu = sender.cpu
        writer.join()
    return Drain(count / (result["last"] - result["first"]), cpu / count * 100_000)
