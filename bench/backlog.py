"""Catching up: a day's readings wait in the outbox, a broker comes back, and live readings go beside them."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.measure import DISK, PAUSE, counted
from bench.rig import Broker, Counter, Tty, free_port, reading
from bench.senders import gateway

ORDERS = ("live-first", "strict")
SECONDS = 8.0
"""For so long there are live readings, from the first second of the drain on: less than it takes."""


class CatchUp(NamedTuple):
    """One drain of a backlog beside live readings."""

    rate: float  # readings of the backlog a second
    p50: float  # milliseconds from the write of a live reading to the counter
    p99: float
    cpu: float  # CPU seconds of the gateway per 100,000 readings


def catch_up(order: str, count: int, rate: float) -> CatchUp:
    """Let the gateway collect `count` readings with no broker, then start one and write `rate` more a second."""
    port = free_port()
    live = round(rate * SECONDS)
    with (
        tempfile.TemporaryDirectory(dir=DISK) as folder,
        Tty() as line,
        gateway(Path(folder), line, port, f'order = "{order}"\n') as child,
    ):
        line.flood(b"".join(reading(n) for n in range(count))).join()
        while child.figures(20)["uplinks"]["local"]["waiting"] < count:
            pass
        child.process.send_signal(signal.SIGSTOP)  # until the counter is subscribed
        with Broker(Path(folder), port), Counter(port, count + live, PAUSE, count) as counter:
            before = child.cpu
            child.process.send_signal(signal.SIGCONT)
            while child.figures(20)["uplinks"]["local"]["broker"] is None:
                pass  # what is taken in before there is a link belongs to the backlog
            line.trickle(live, rate, count)
            result = counted(f"order {order}", counter, count + live)
            cpu = child.cpu - before
    drained = count / (result["last"] - result["first"])
    return CatchUp(drained, result["p50"], result["p99"], cpu / (count + live) * 100_000)
