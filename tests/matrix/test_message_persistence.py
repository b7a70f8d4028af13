"""Message persistence: what was accepted survives SIGKILL, and QoS 2 stays exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import paho.mqtt.client as paho
import pytest

from gateway import Client
from tests.system.harness import Mosquitto

pytestmark = pytest.mark.system
KILLS = 100  # for each protocol


class Nursery:
    """A process that forks publishers quickly; see `publisher`."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.matrix.publisher"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, store: Path, url: str, protocol: str, first: int) -> int:
        """Start a publisher; return its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{store} {url} {protocol} {first}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def subscriber(broker: Mosquitto) -> Iterator[Counter[int]]:
    """Count, with paho-mqtt at QoS 2, how often each number arrives."""
    seen: Counter[int] = Counter()
    ready = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "counter", clean_session=False)
    client.on_message = lambda _client, _data, message: seen.update((int(message.payload),))
    client.on_connect = lambda *_: client.subscribe("numbers", 2)
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert ready.wait(10)
    try:
        yield seen
    finally:
        client.disconnect()
        client.loop_stop()


def numbers(log: Path, letter: str) -> list[int]:
    """Return the numbers that publishers have written down with this letter; a torn last line counts for nothing."""
    if not log.exists():
        return []
    lines = log.read_text().rpartition("\n")[0].splitlines()
    return [int(line[2:]) for line in lines if line.startswith(letter)]


def wait_for(condition: object, seconds: float) -> None:
    """Wait until another process has done something."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.002)  # it tells nobody


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_qos_2_is_exactly_once_over_a_hundred_sigkills(folder: Path, protocol: str) -> None:
    """Nothing that was stored is missing and nothing arrives twice, wherever between two packets the client dies."""
    seed = int(os.environ.get("SEED", "") or random.randrange(1 << 32))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    store = folder / "client.db"
    log = Path(f"{store}.log")
    with Mosquitto(folder, "broker") as broker, subscriber(broker) as seen, Nursery() as nursery:
        for _ in range(KILLS):
            told = len(numbers(log, "s"))
            first = max(numbers(log, "i"), default=0) + 1
            child = nursery.start(store, broker.url, protocol, first)
            if chance.random() < 0.8:  # at times it is killed before it has got anywhere
                wait_for(lambda told=told: len(numbers(log, "s")) > told, 30)
            time.sleep(chance.uniform(0.0, 0.03))
            os.kill(child, signal.SIGKILL)
            wait_for(lambda child=child: not Path(f"/proc/{child}").exists(), 10)
        intended, stored = numbers(log, "i"), numbers(log, "s")
        async with Client(
            broker.url, store=store, client_id="killed", protocol=protocol, session_expiry=3600
        ) as client:
            assert await client.flush(60), client.status
            waiting = client.status.waiting
        wait_for(lambda: set(stored) <= seen.keys(), 30)
    twice = {number: count for number, count in seen.items() if count > 1}
    assert (set(stored) - seen.keys(), twice, waiting) == (set(), {}, 0)
    assert seen.keys() <= set(intended)
    assert len(stored) > KILLS
