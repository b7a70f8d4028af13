"""The harness itself: what it counts as lost must be the gateway's fault."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import termios
import threading
import time
import tty
from pathlib import Path

import orjson
import pytest

from tests.system.harness import Gate, Mosquitto, SerialDevice, Stream, Subscriber, until

pytestmark = pytest.mark.system


class Publisher:
    """Sends numbered QoS 1 messages over a plain socket and notes which the broker has acknowledged."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self.acknowledged: set[int] = set()
        self._port = port

    def connect(self) -> None:
        """Open a connection, as MQTT 3.1.1 client `publisher`."""
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=5)
        self._socket.sendall(b"\x10\x15\x00\x04MQTT\x04\x02\x00\x00\x00\x09publisher")
        assert self._socket.recv(4) == b"\x20\x02\x00\x00"
        self._in_flight: dict[int, int] = {}

    def wait(self, acknowledged: int) -> None:
        """Wait until so many messages have been acknowledged."""
        until(lambda: len(self.acknowledged) >= acknowledged, 10, f"{acknowledged} acknowledged")

    def publish(self, count: int) -> None:
        """Send `count` messages in one write."""
        packets = []
        for _ in range(count):
            self.sent += 1
            packet_id = self.sent % 65535 + 1
            self._in_flight[packet_id] = self.sent
            content = orjson.dumps({"epoch": 1, "seq": self.sent, "n": self.sent})
            body = b"\x00\x0csensors/gw/d" + struct.pack("!H", packet_id) + content
            packets.append(b"\x32" + bytes([len(body)]) + body)
        self._socket.sendall(b"".join(packets))

    def take(self) -> bool:
        """Read some acknowledgements; return False at the end of the connection."""
        try:
            data = self._socket.recv(1 << 16)
            while data and len(data) % 4:
                data += self._socket.recv(4 - len(data) % 4)
        except ConnectionError:
            return False
        for at in range(0, len(data), 4):
            self.acknowledged.add(self._in_flight.pop(int.from_bytes(data[at + 2 : at + 4], "big")))
        return bool(data)

    def close(self) -> None:
        """Read what is still to come, and close."""
        with contextlib.suppress(TimeoutError):
            while self._in_flight and self.take():
                pass
        self._socket.close()


def test_killed_broker_has_passed_on_what_it_acknowledged(broker: Mosquitto) -> None:
    """What mosquitto has acknowledged reaches the subscriber, over SIGKILLs, and from its first moment after each."""
    rng = random.Random(1)
    publisher = Publisher(broker.port)
    with Subscriber(broker) as subscriber:
        for _ in range(5):
            publisher.connect()
            publisher.publish(500)  # before the subscriber is back
            at, end = len(publisher.acknowledged) + rng.randrange(1, 2000), publisher.sent + 2000
            killer = threading.Thread(target=lambda at=at: (publisher.wait(at), broker.kill()))
            killer.start()
            with contextlib.suppress(ConnectionError):
                while publisher.take():
                    publisher.publish(min(10, end - publisher.sent) if publisher.sent < end else 1)
                    time.sleep(0.0005)  # a pace that paho keeps up with
            killer.join()
            publisher.close()
            broker.start()
        until(lambda: publisher.acknowledged <= subscriber.account("d")[1].seqs, 10, "all that was acknowledged")
        assert len(publisher.acknowledged) > 2000
        assert subscriber.account("d")[1].duplicates == 0


def test_stopped_broker_keeps_what_the_subscriber_has_not_seen(broker: Mosquitto) -> None:
    """A session that was made before an orderly stop sees what is published right after the start."""
    publisher = Publisher(broker.port)
    with Subscriber(broker) as subscriber:
        broker.stop()
        broker.start()
        publisher.connect()
        publisher.publish(10)
        publisher.close()
        until(lambda: subscriber.count("d") == 10, 5, "ten messages")


def test_frozen_broker_answers_nobody(broker: Mosquitto) -> None:
    """A frozen broker neither acknowledges nor passes on, until it is thawed."""
    publisher = Publisher(broker.port)
    publisher.connect()
    with Subscriber(broker) as subscriber:
        broker.freeze()
        publisher.publish(3)
        subscriber.quiet(0.2, 5)
        assert subscriber.count("d") == 0
        broker.thaw()
        until(lambda: subscriber.count("d") == 3, 5, "three messages")
    publisher.close()


def test_gate_keeps_answers_back(broker: Mosquitto) -> None:
    """Behind a gate that is held, messages arrive and are not acknowledged; released, it is open again."""
    with Gate(broker.port) as gate, Subscriber(broker) as subscriber:
        publisher = Publisher(gate.port)
        publisher.connect()
        gate.hold()
        publisher.publish(3)
        until(lambda: subscriber.count("d") == 3, 5, "three messages")
        gate.release()
        assert not publisher.take()
        assert not publisher.acknowledged
        publisher.close()
        publisher.connect()
        publisher.publish(2)
        publisher.close()
        assert publisher.acknowledged == {4, 5}


def test_missing_mosquitto_fails_loudly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mosquitto a system test fails, and is not skipped, and says what to type."""
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(pytest.fail.Exception, match="Type: sudo apt-get install mosquitto"), Mosquitto(folder):
        pass


def test_account_tells_gaps_duplicates_order_and_conflicts() -> None:
    """The account of a stream names what is missing, what came twice, what came late."""
    stream = Stream([1, 2, 2, 5, 4], {1: {"n": 7}, 2: {"n": 8}, 5: {"n": 11}, 4: {"n": 10}})
    assert stream.gaps == [3]
    assert stream.duplicates == 1
    assert stream.late == 1
    assert stream.numbers == {7, 8, 10, 11}


def test_terminal_carries_every_line(folder: Path) -> None:
    """A terminal whose reader is slow gets every line whole, in order, and what is unread is known."""
    with SerialDevice("d", folder, rate=1e9) as device:
        slave = os.open(device.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(slave)
        device.resume()
        device.wait_written(400, 5)  # the kernel has room for about as many
        data = b""

        def read() -> int:
            nonlocal data
            with contextlib.suppress(BlockingIOError):
                data += os.read(slave, 1000)
            return data.count(b"\n")

        until(lambda: read() >= 5000, 10, "lines read")
        device.wait_written(read() + 2, 5)  # so that there is something unread
        device.pause()
        with pytest.raises(TimeoutError):
            device.wait_read(0.05)
        until(lambda: read() == device.written, 10, "the rest read")
        device.wait_read(1)
        assert device.read_at(device.written) < float("inf")
        assert [orjson.loads(line)["n"] for line in data.splitlines()] == list(range(1, device.written + 1))
        os.close(slave)


def test_terminal_tells_when_it_is_opened(folder: Path) -> None:
    """What was written before a port is opened may be thrown away by opening it; the device knows when that is."""
    with SerialDevice("d", folder, rate=1000) as device:
        device.resume()
        device.wait_written(50, 5)
        device.pause()
        with pytest.raises(TimeoutError):
            device.wait_opened(0.05)
        slave = os.open(device.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        opener = threading.Timer(0.05, termios.tcflush, (slave, termios.TCIFLUSH))
        opener.start()
        device.wait_opened(5)
        opener.join()
        following = device.written + 1
        device.resume()
        device.wait_written(following, 5)
        os.set_blocking(slave, True)  # the kernel carries it over in its own time
        first = os.read(slave, 100)
        os.close(slave)
        assert b'{"n": %d,' % following in first


def test_unplugged_terminal_hangs_up(folder: Path) -> None:
    """A reader sees the end when the device is unplugged, and finds a new terminal behind the same link."""
    with SerialDevice("d", folder, rate=1000) as device:
        slave = os.open(device.path, os.O_RDWR | os.O_NOCTTY)
        device.unplug()
        with contextlib.suppress(OSError):
            assert os.read(slave, 10) == b""
        assert not device.path.exists()
        device.plug()
        device.resume()
        again = os.open(device.path, os.O_RDWR | os.O_NOCTTY)
        assert b'"n": 1,' in os.read(again, 100)
        for each in (slave, again):
            os.close(each)
