"""Starting and stopping: what the supervisor is told, signals, a second process, a broken configuration."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.system.harness import Gateway, Mosquitto, SerialDevice, Subscriber, configuration

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("number", "frozen"), [(signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGINT, False)]
)
def test_stops_in_order_under_load(folder: Path, broker: Mosquitto, number: signal.Signals, frozen: bool) -> None:
    """SIGTERM and SIGINT end it with 0 within 10 s, though the broker answers nothing, and nothing is lost."""
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=300) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler])) as gateway,
    ):
        gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["delivered"] > 100, 10, "readings go out")
        if frozen:
            broker.freeze()
        boiler.wait_written(boiler.written + 300, 10)
        sure = boiler.read_by(float("inf"))
        stopped = gateway.stop(number)
        boiler.pause()
        assert stopped.status == 0
        assert stopped.seconds < 10
        epoch, taken_in = gateway.figures["epoch"], gateway.figures["taken_in"]
        boiler.discard()
        if frozen:
            assert gateway.figures["uplinks"]["cloud"]["waiting"] > 0
            broker.thaw()
        gateway.start()
        gateway.wait_delivered(10)
        subscriber.quiet(0.2, 10)
        assert gateway.stop().status == 0
        stream = subscriber.account("boiler")[epoch]
        assert stream.seqs == set(range(1, taken_in + 1))
        assert stream.numbers >= set(range(1, sure + 1))


@pytest.mark.alone
def test_second_signal_ends_it_at_once(folder: Path, broker: Mosquitto) -> None:
    """While an orderly stop waits for a frozen broker, a second signal ends the process at once."""
    with (
        SerialDevice("boiler", folder, rate=300) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler])) as gateway,
    ):
        gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["delivered"] > 100, 10, "readings go out")
        broker.freeze()
        boiler.wait_written(boiler.written + 100, 10)
        gateway.send(signal.SIGTERM)
        gateway.wait(lambda: "STOPPING" in gateway.told.said, 5, "says that it stops")
        stopped = gateway.stop()
        assert stopped.status == -signal.SIGTERM
        assert stopped.seconds < 0.5


@pytest.mark.alone
def test_tells_the_supervisor(folder: Path, broker: Mosquitto) -> None:
    """READY, STATUS in words, signs of life well within the watchdog's time, STOPPING, and the account at the end."""
    with (
        SerialDevice("boiler", folder, rate=100) as boiler,
        Gateway(
            configuration(folder, brokers=[broker.url], devices=[boiler]), environ={"WATCHDOG_USEC": "2000000"}
        ) as gateway,
    ):
        gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        gateway.wait(lambda: len(gateway.told.said.get("WATCHDOG", ())) >= 4, 5, "signs of life")
        told = gateway.told.said
        alive = [told["READY"][0], *told["WATCHDOG"]]  # a supervisor watches from then on
        assert max(later - earlier for earlier, later in pairwise(alive)) < 2.0
        gateway.wait(lambda: broker.url in gateway.told.status, 5, "names the broker in its status")
        assert gateway.stop().status == 0
        assert list(gateway.told.said).index("READY") < list(gateway.told.said).index("STOPPING")
        cloud = gateway.figures["uplinks"]["cloud"]
        assert gateway.figures["taken_in"] == cloud["delivered"] + cloud["waiting"] + cloud["lost"] > 0


def test_watchdog_is_not_fed_by_a_process_that_hangs(folder: Path, broker: Mosquitto) -> None:
    """A process that makes no progress gives no sign of life."""
    with Gateway(configuration(folder, brokers=[broker.url]), environ={"WATCHDOG_USEC": "600000"}) as gateway:
        gateway.start()
        gateway.wait(lambda: "WATCHDOG" in gateway.told.said, 5, "a sign of life")
        gateway.send(signal.SIGSTOP)
        stopped = time.monotonic()
        with pytest.raises(TimeoutError):
            gateway.wait(lambda: gateway.told.said["WATCHDOG"][-1] > stopped + 0.1, 0.6, "another")
        gateway.send(signal.SIGCONT)
        gateway.wait(lambda: gateway.told.said["WATCHDOG"][-1] > stopped + 0.1, 5, "another")


def test_second_process_on_the_same_outbox_is_refused(folder: Path, broker: Mosquitto) -> None:
    """A second process with the same outbox ends at once with a message that names it, and the first goes on."""
    with Gateway(configuration(folder, brokers=[broker.url])) as gateway:
        gateway.start()
        command = [sys.executable, "-m", "gateway", "run", "-c", str(gateway.file)]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode not in (0, 70, 78)
        assert "outbox.db" in refused.stderr
        assert str(folder) in refused.stderr
        assert str(gateway.pid) in refused.stderr
        assert "Traceback" not in refused.stderr
        assert gateway.running
        assert gateway.stop().status == 0


def test_broken_configuration_ends_with_78(folder: Path) -> None:
    """A broken configuration ends it with 78, and with every error as `file:line:col: error: message`."""
    file = folder / "gateway.toml"
    file.write_text('[outbox]\npath = "outbox.db"\ncommit_intervall = "1s"\n\n[uplinks.cloud]\nbrokers = [7]\n')
    command = [sys.executable, "-m", "gateway", "run", "-c", str(file)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 78
    lines = refused.stderr.splitlines()
    assert any(line.startswith(f"{file}:3:1: error: ") and "commit_interval" in line for line in lines), lines
    assert any(line.startswith(f"{file}:6:12: error: ") for line in lines), lines
    assert not (folder / "outbox.db").exists()
