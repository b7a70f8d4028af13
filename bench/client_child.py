"""One client at work, in a process of its own: `python -m bench.client_child WHO JSON`; the JSON is a `Task`.

A sender says "ready" when it is connected, a receiver when it is subscribed. A sender waits for a line on stdin and
sends everything; it is done when the broker has acknowledged the last message. A receiver is done when it has got the
last. Both then tell, as one line of JSON, the monotonic times and the CPU seconds of this process, all threads, from
the line on stdin (or the first message) to the end: what starting and connecting cost is not in them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

TOPIC = "bench/client"
WINDOW = 1000
PATIENCE = 60.0  # seconds


class Task(NamedTuple):
    """What is to be done, and where."""

    url: str
    count: int
    qos: int = 1
    ca: str | None = None  # for mqtts
    store: str | None = None  # for a durable client


def message(n: int) -> bytes:
    """Return message `n`, of 120 bytes; the counter knows it by its number."""
    return f'{{"n":{n:d},"t":0,"text":"'.encode().ljust(118, b"x") + b'"}'


class Clock:
    """Time and CPU time from `start` to `stop`, told to the parent."""

    def start(self) -> None:
        """Begin."""
        self._began, self._cpu = time.monotonic(), time.process_time()

    def stop(self) -> None:
        """End, and tell."""
        cpu = time.process_time() - self._cpu
        print(json.dumps({"first": self._began, "last": time.monotonic(), "cpu": cpu}), flush=True)


def ready() -> None:
    """Say that the work can begin."""
    print("ready", flush=True)


def started() -> Clock:
    """Say that the work can begin, wait for the word, and start the clock."""
    ready()
    sys.stdin.readline()
    clock = Clock()
    clock.start()
    return clock


# ---- ours


def options(task: Task) -> dict[str, object]:
    """Return how both faces of our client are made."""
    from gateway import Tls

    return {"store": task.store, "window": WINDOW, "tls": Tls(ca=task.ca) if task.ca else None}


def client(task: Task) -> None:
    """Send with the Client: publish each message, then flush."""
    from gateway import Client

    async def send() -> None:
        messages = [message(n) for n in range(task.count)]
        async with Client(task.url, **options(task)) as link:
            await link.connected(PATIENCE)
            clock = started()  # the loop has nothing else to do
            for payload in messages:
                await link.publish(TOPIC, payload, qos=task.qos)
            if not await link.flush(PATIENCE):
                sys.exit("not acknowledged")
            clock.stop()

    asyncio.run(send())


def blocking(task: Task) -> None:
    """Send with the BlockingClient: publish each message, then flush."""
    from gateway import BlockingClient

    messages = [message(n) for n in range(task.count)]
    with BlockingClient(task.url, **options(task)) as link:
        link.connected(PATIENCE)
        clock = started()
        for payload in messages:
            link.publish(TOPIC, payload, qos=task.qos)
        if not link.flush(PATIENCE):
            sys.exit("not acknowledged")
        clock.stop()


def client_receives(task: Task) -> None:
    """Receive with the Client: iterate over the messages."""
    from gateway import Client

    async def receive() -> None:
        clock, left = Clock(), task.count
        async with Client(task.url, **options(task)) as link, link.messages(TOPIC, qos=task.qos) as messages:
            ready()
            async for _ in messages:
                if left == task.count:
                    clock.start()
                left -= 1
                if not left:
                    break
            clock.stop()

    asyncio.run(receive())


def client_calls_back(task: Task) -> None:
    """Receive with the Client: a callback for each message."""
    from gateway import Client

    async def receive() -> None:
        clock, left, done = Clock(), task.count, asyncio.Event()

        def received(_message: object) -> None:
            nonlocal left
            if left == task.count:
                clock.start()
            left -= 1
            if not left:
                done.set()

        async with Client(task.url, **options(task)) as link:
            await link.subscribe(TOPIC, received, qos=task.qos)
            ready()
            await done.wait()
            clock.stop()

    asyncio.run(receive())


# ---- paho-mqtt, as its documentation shows it, with the window set


def paho(task: Task, prepare: Callable[[object, threading.Event], None] | None = None):
    """Return a connected paho-mqtt client with its loop running."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    url, linked = urlsplit(task.url), threading.Event()
    link = Client(CallbackAPIVersion.VERSION2, transport="websockets" if url.scheme == "ws" else "tcp")
    link.max_inflight_messages_set(WINDOW)
    if task.ca:
        link.tls_set(task.ca)
    link.on_connect = lambda *_: linked.set()
    if prepare is not None:
        prepare(link, linked)
    link.connect("127.0.0.1", url.port)
    link.loop_start()
    if not linked.wait(PATIENCE):
        sys.exit("paho-mqtt did not connect")
    return link


def paho_sends(task: Task) -> None:
    """Send with paho-mqtt: publish each message, then wait for the last."""
    messages = [message(n) for n in range(task.count)]
    link = paho(task)
    clock = started()
    for payload in messages:
        info = link.publish(TOPIC, payload, task.qos)
    info.wait_for_publish(PATIENCE)
    if not info.is_published():
        sys.exit("not acknowledged")
    clock.stop()
    sys.stdin.read()  # at QoS 0 there may be more to write: its loop goes on until the parent ends this process


def paho_receives(task: Task) -> None:
    """Receive with paho-mqtt: a callback for each message."""
    clock, left, done = Clock(), task.count, threading.Event()

    def received(*_: object) -> None:
        nonlocal left
        if left == task.count:
            clock.start()
        left -= 1
        if not left:
            done.set()

    def prepare(link, linked: threading.Event) -> None:
        link.on_connect = lambda *_: link.subscribe(TOPIC, task.qos)
        link.on_subscribe = lambda *_: linked.set()
        link.on_message = received

    link = paho(task, prepare)
    ready()
    done.wait()
    clock.stop()
    link.loop_stop()


ROLES = {
    role.__name__: role for role in (client, blocking, client_receives, client_calls_back, paho_sends, paho_receives)
}


if __name__ == "__main__":
    ROLES[sys.argv[1]](Task(**json.loads(sys.argv[2])))
