"""The receiver's proof over real processes: a loss that the ledger announces is explained, and no other is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import Gate, Gateway, Mosquitto, SerialDevice, Subscriber, configuration, until

pytestmark = pytest.mark.system


class Verifier:
    """`sensor-gateway verify`, listening until it is asked for its verdict."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def verdict(self) -> tuple[int, dict[str, Any]]:
        """End it, and return its exit status and its report."""
        self._process.send_signal(signal.SIGINT)
        printed, _ = self._process.communicate(timeout=15)
        return self._process.returncode, json.loads(printed)


@contextmanager
def listening(broker: Mosquitto, *arguments: str) -> Iterator[Verifier]:
    """Have `verify` listen at `broker`."""
    command = [sys.executable, "-m", "gateway", "verify", broker.url, "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("listening to ")
            yield Verifier(process)
        finally:
            process.kill()


def test_a_loss_is_explained_by_the_ledger_and_by_nothing_else(folder: Path, broker: Mosquitto) -> None:
    """After an outage that was longer than `max_age`, whoever hears the ledger exits with 0, and else with 1."""
    with (
        listening(broker, "--whole") as hears,
        listening(broker, "--whole", "--topic", "sensors/gw/boiler") as does_not,
        Subscriber(broker) as subscriber,
        Gate(broker.port) as gate,
        SerialDevice("boiler", folder, rate=200) as boiler,
        Gateway(
            configuration(
                folder,
                brokers=[gate.url],
                devices=[boiler],
                outbox={"max_age": "1s"},
                uplink={"ack_timeout": "500ms", "connect_timeout": "500ms"},
            )
        ) as gateway,
    ):
        gateway.start()
        boiler.wait_opened(10)
        boiler.resume()
        boiler.wait_written(100, 10)
        gate.hold()
        gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["lost"] > 300, 20, "a loss")
        gate.release()
        gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["waiting"] < 50, 20, "the rest delivered")
        boiler.pause()
        gateway.wait_delivered(20)
        assert gateway.stop().status == 0
        lost = gateway.figures["uplinks"]["cloud"]["lost"]
        assert gateway.figures["ledger"]["announced"] > 0
        subscriber.quiet(0.3, 10)
        status, report = hears.verdict()
        assert status == 0, report
        (row,) = report["streams"]
        assert row["topic"] == "sensors/gw/boiler"
        # What had arrived before its acknowledgement was thrown away may be in the ledger, and is not missing.
        assert 100 < row["missing"] == row["explained"]["too-old"] <= lost
        assert row["received"] + row["missing"] == row["last"] == boiler.written
        status, deaf = does_not.verdict()
        assert status == 1
        assert deaf["unexplained"] == row["missing"]


def test_a_loss_is_explained_although_the_gateway_was_killed(folder: Path, broker: Mosquitto) -> None:
    """Killed in the middle of a loss, the gateway announces at its next start what it may not have announced before."""
    with (
        listening(broker, "--whole") as verifier,
        Gate(broker.port) as gate,
        SerialDevice("boiler", folder, rate=200) as boiler,
        Subscriber(broker) as subscriber,
        Gateway(
            configuration(
                folder,
                brokers=[gate.url],
                devices=[boiler],
                outbox={"max_age": "1s", "commit_interval": "100ms"},
                uplink={"ack_timeout": "500ms", "connect_timeout": "500ms"},
            )
        ) as gateway,
    ):
        for _ in range(3):
            gateway.start()
            boiler.wait_opened(10)
            boiler.resume()
            gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["delivered"] > 100, 20, "some delivered")
            gate.hold()
            gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["lost"] > 50, 20, "a loss")
            gateway.kill()
            boiler.pause()
            boiler.discard()
            gate.release()
        gateway.start()
        gateway.wait_delivered(20)
        boiler.wait_opened(10)
        assert gateway.stop().status == 0
        subscriber.quiet(0.3, 10)
        status, report = verifier.verdict()
    assert status == 0, report
    assert sum(row["missing"] for row in report["streams"]) > 50


def test_a_whole_stream_proves_itself(folder: Path, broker: Mosquitto) -> None:
    """Without a loss, the verdict is 0 and every reading is counted, over a restart of the gateway."""
    with (
        listening(broker, "--whole") as verifier,
        SerialDevice("boiler", folder, rate=200) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler])) as gateway,
        Subscriber(broker) as subscriber,
    ):
        for _ in range(2):
            gateway.start()
            boiler.wait_opened(10)
            boiler.resume()
            boiler.wait_written(boiler.written + 100, 10)
            boiler.pause()
            boiler.wait_read(5)
            gateway.wait_delivered(10)
            assert gateway.stop().status == 0
        until(lambda: subscriber.count("boiler") == boiler.written, 10, "all has arrived")
        status, report = verifier.verdict()
    assert status == 0
    assert [row["missing"] for row in report["streams"]] == [0, 0]
    assert sum(row["received"] for row in report["streams"]) == boiler.written


def test_a_broker_that_is_not_there_is_said(folder: Path, broker: Mosquitto) -> None:
    """Without a broker there is no verdict: exit status 69, and why."""
    broker.stop()
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "verify", broker.url, "--for", "1s"],
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 69
    assert broker.url in ended.stderr


def test_silence_proves_nothing(broker: Mosquitto) -> None:
    """Where no reading comes, the exit status is 1: a topic that is misspelt must not look like a proof."""
    with listening(broker, "--topic", "nothing/#") as verifier:
        status, report = verifier.verdict()
    assert (status, report["received"], report["streams"]) == (1, 0, [])
