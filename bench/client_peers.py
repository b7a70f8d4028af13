"""One run of one client beside a broker: our Client and BlockingClient, mosquitto_pub -l, paho-mqtt."""

from __future__ import annotations

import getpass
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.client_child import TOPIC, WINDOW, Task, message
from bench.measure import DISK, PAUSE, counted
from bench.rig import Broker, Child, Counter, find, free_port

TLS = """
user {user}
listener {port} 127.0.0.1
certfile {certificate}
keyfile {key}
"""
WEBSOCKET = """
listener {port} 127.0.0.1
protocol websockets
"""


class Run(NamedTuple):
    """One run: from the word to begin until the broker has acknowledged, or the receiver has got, the last message."""

    rate: float  # messages a second
    cpu: float  # CPU seconds of the client per 100,000 messages


class Way(NamedTuple):
    """A listener of the broker."""

    url: str
    ca: Path | None = None

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.url.rpartition(":")[2].partition("/")[0])


@contextmanager
def broker(folder: Path, scheme: str) -> Iterator[tuple[Broker, Way]]:
    """Run a broker with a listener for "mqtt", "mqtts" or "ws", and one without TLS for the counter."""
    plain, port = free_port(), free_port()
    if scheme == "mqtt":
        more, way = "", Way(f"mqtt://127.0.0.1:{plain}")
    elif scheme == "ws":
        more, way = WEBSOCKET.format(port=port), Way(f"ws://127.0.0.1:{port}/mqtt")
    else:
        certificate, key = certify(folder)
        more = TLS.format(user=getpass.getuser(), port=port, certificate=certificate, key=key)
        way = Way(f"mqtts://127.0.0.1:{port}", certificate)
    with Broker(folder, plain, more) as running:
        yield running, way


def certify(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that its own key has signed, and return the files of both."""
    certificate, key = folder / "broker.crt", folder / "broker.key"
    how = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    whom = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    where = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run((find("openssl"), *how, *whom, *where), check=True, capture_output=True)
    return certificate, key


class Worker(Child):
    """A `bench.client_child`, or anything else that speaks as it does."""

    def __init__(self, *command: str) -> None:
        """Name the module and its arguments."""
        super().__init__(
            sys.executable, "-m", *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def tell(self) -> None:
        """Give the word."""
        self.process.stdin.write("\n")

    def told(self) -> dict[str, float]:
        """Wait for its result."""
        return dict(json.loads(self.line()))


def send(role: str, count: int, qos: int = 1, scheme: str = "mqtt", *, durable: bool = False) -> Run:
    """Let a client send `count` messages: "client", "blocking" or "paho_sends"."""
    with tempfile.TemporaryDirectory(dir=DISK) as name, broker(Path(name), scheme) as (running, way):
        store = f"{name}/store.db" if durable else None
        task = Task(way.url, count, qos, str(way.ca) if way.ca else None, store)
        with (
            Counter(running.port, count, PAUSE) as counter,
            Worker("bench.client_child", role, json.dumps(task._asdict())) as sender,
        ):
            sender.line()
            began = time.monotonic()
            sender.tell()
            result = counted(role, counter, count)
            told = sender.told()
    return Run(count / (max(result["last"], told["last"]) - began), told["cpu"] / count * 100_000)


def send_mosquitto_pub(count: int, qos: int = 1, scheme: str = "mqtt") -> Run:
    """Let mosquitto_pub -l send `count` lines from a pipe, with the same window as everybody else."""
    lines = b"".join(message(n) + b"\n" for n in range(count))
    with tempfile.TemporaryDirectory(dir=DISK) as name, broker(Path(name), scheme) as (running, way):
        tls = ("--cafile", str(way.ca)) if way.ca else ()
        where = ("-h", "127.0.0.1", "-p", str(way.port), "-t", TOPIC, *tls)
        command = (find("mosquitto_pub"), "-l", "-q", str(qos), "-M", str(WINDOW), *where)
        with Counter(running.port, count, PAUSE) as counter, Child(*command, stdin=subprocess.PIPE) as sender:
            time.sleep(0.5)  # it does not say when it is connected, and reads nothing before
            pipe = sender.process.stdin
            writer = threading.Thread(target=pipe.write, args=(lines,), daemon=True)
            before, began = sender.cpu, time.monotonic()
            writer.start()
            result = counted("mosquitto_pub -l", counter, count)
            cpu = sender.cpu - before
            writer.join()
    return Run(count / (result["last"] - began), cpu / count * 100_000)


def receive(role: str, count: int) -> Run:
    """Let a client receive `count` messages at QoS 1: "client_receives", "client_calls_back" or "paho_receives".

    They all wait at the broker before it goes on, so that what is measured is not how fast they are published.
    """
    with (
        tempfile.TemporaryDirectory(dir=DISK) as name,
        broker(Path(name), "mqtt") as (running, way),
        Worker("bench.client_child", role, json.dumps(Task(way.url, count)._asdict())) as receiver,
    ):
        receiver.line()
        receiver.process.send_signal(signal.SIGSTOP)
        subprocess.run((sys.executable, "-m", "bench.client_flood", str(running.port), str(count)), check=True)
        receiver.process.send_signal(signal.SIGCONT)
        told = receiver.told()
    return Run(count / (told["last"] - told["first"]), told["cpu"] / count * 100_000)
