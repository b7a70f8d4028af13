"""The command line beside a running service: it is told what only that knows, and has done what it asks for."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.outbox_of import command
from tests.system.harness import Gateway, Mosquitto, SerialDevice, Subscriber, configuration, until
from tests.system.test_verify import listening

pytestmark = pytest.mark.system


def told(done: subprocess.CompletedProcess[str]) -> Any:
    """Return what a command has said as JSON."""
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def test_trim_by_the_service_is_explained_to_the_receiver(folder: Path, broker: Mosquitto, second: Mosquitto) -> None:
    """What is given up by hand while the service runs is in the ledger, and its receiver is told."""
    config = folder / "gateway.toml"
    with (
        listening(second, "--whole") as verifier,
        Subscriber(second) as subscriber,
        SerialDevice("boiler", folder, rate=100) as boiler,
        Gateway(configuration(folder, brokers=[second.url], devices=[boiler])) as gateway,
    ):
        broker.stop()
        # The receiver stays where it is; the gateway looks for its broker where there is none.
        configuration(folder, brokers=[broker.url], devices=[boiler])
        gateway.start()
        assert stat.S_IMODE((folder / "outbox.db.socket").stat().st_mode) == 0o600
        boiler.wait_opened(10)
        boiler.resume()
        boiler.wait_written(300, 10)
        boiler.pause()
        boiler.wait_read(5)
        waiting = gateway.wait_figures(lambda figures: figures["taken_in"] == boiler.written, 5, "all taken in")
        status = told(command("status", "--json", "-c", config))
        assert status["running"]
        assert status["uplinks"]["cloud"]["waiting"] == waiting["uplinks"]["cloud"]["waiting"] == boiler.written
        assert status["uplinks"]["cloud"]["broker"] is None
        assert status["limit"] == 10**9
        assert status["wear"]["bytes"]["commit"] > status["wear"]["readings"] > 0

        done = command("trim", "--all", "--yes", "-c", config)
        assert (done.returncode, done.stdout) == (0, f"{boiler.written} were given up; the ledger has them.\n")
        (loss,) = told(command("ledger", "--json", "-c", config))
        assert (loss["count"], loss["reason"]) == (boiler.written, "shed")
        lost = boiler.written
        boiler.resume()
        boiler.wait_written(lost + 100, 10)
        boiler.pause()
        boiler.wait_read(5)
        assert command("audit", "-c", config).returncode == 0
        assert gateway.stop().status == 0

        configuration(folder, brokers=[second.url], devices=[boiler])
        gateway.start()
        gateway.wait_delivered(10)
        until(lambda: subscriber.count("boiler") == boiler.written - lost, 10, "what was kept arrives")
        until(lambda: any(arrival.topic == "sensors/gw/ledger" for arrival in subscriber.arrivals), 10, "the ledger")
        verdict, report = verifier.verdict()
        assert (verdict, report["unexplained"]) == (0, 0)
        (row,) = report["streams"]
        assert row["explained"] == {"shed": lost}
        # Whoever asks while the service is there is answered; afterwards nobody listens, and the card is enough.
        assert told(command("status", "--json", "-c", config))["uplinks"]["cloud"]["broker"] == second.url
        assert gateway.stop().status == 0
        assert not (folder / "outbox.db.socket").exists()
        assert not told(command("status", "--json", "-c", config))["running"]


def test_status_of_a_service_that_has_delivered_everything(folder: Path, broker: Mosquitto) -> None:
    """An uplink of which the card has never heard is shown as well, as the service knows it."""
    with Gateway(configuration(folder, brokers=[broker.url])) as gateway:
        gateway.start()
        gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["broker"], 10, "a link")
        shown = command("status", "-c", folder / "gateway.toml").stdout.splitlines()
    assert shown[0] == f"{folder / 'outbox.db'}, in use by the service"
    assert shown[1].split() == ["uplink", "waiting", "oldest", "set", "aside", "lost", "broker"]
    assert shown[2].split() == ["cloud", "0", "0", "0", broker.url]


def test_a_killed_service_is_no_obstacle(folder: Path, broker: Mosquitto) -> None:
    """After a SIGKILL the socket is still there; the outbox is looked at and changed without the service."""
    with (
        SerialDevice("boiler", folder, rate=100) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler])) as gateway,
    ):
        broker.stop()
        gateway.start()
        boiler.wait_opened(10)
        boiler.resume()
        gateway.wait_figures(lambda figures: figures["outbox"]["commits"] > 1, 10, "readings on the card")
        gateway.kill()
        config = folder / "gateway.toml"
        assert (folder / "outbox.db.socket").exists()
        status = told(command("status", "--json", "-c", config))
        assert not status["running"]
        assert status["uplinks"]["cloud"]["waiting"] > 50
        assert command("audit", "-c", config).returncode == 0
        done = command("trim", "--all", "--yes", "-c", config)
        assert done.stdout == f"{status['uplinks']['cloud']['waiting']} were given up; the ledger has them.\n"
        assert command("audit", "-c", config).returncode == 0
        gateway.start()
        assert gateway.stop().status == 0
