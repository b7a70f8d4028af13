"""The card is spared: next to nothing is written while a broker answers, and once an interval while none does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.harness import Gateway, Mosquitto, SerialDevice, Subscriber, configuration, until

pytestmark = pytest.mark.system


@pytest.mark.alone
def test_online_fewer_than_16_bytes_per_reading_reach_the_disk(folder: Path, broker: Mosquitto) -> None:
    """Over 2000 readings at 400/s, with a broker that answers, less than 16 bytes of each reach the disk.

    By the kernel's own account of the process. That it sees the outbox at all is shown by taking the broker away.
    """
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=400) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler])) as gateway,
    ):
        gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        boiler.wait_written(200, 10)
        before, first = gateway.disk_bytes(), boiler.written
        boiler.wait_written(first + 2000, 20)
        written = gateway.disk_bytes() - before
        assert written < 16 * 2000
        until(lambda: subscriber.count("boiler") >= first + 2000, 5, "2000 readings at the subscriber")

        broker.stop()
        until(lambda: gateway.disk_bytes() > before + written + 4096, 5, "the outbox on the disk")
        assert gateway.stop().status == 0


@pytest.mark.alone
def test_offline_there_is_one_transaction_per_interval(folder: Path, broker: Mosquitto) -> None:
    """With the broker away, readings reach the card in one transaction for each `commit_interval`."""
    interval = 0.5
    with (
        SerialDevice("boiler", folder, rate=200) as boiler,
        Gateway(
            configuration(folder, brokers=[broker.url], devices=[boiler], outbox={"commit_interval": "500ms"})
        ) as gateway,
    ):
        broker.stop()
        gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        start = gateway.wait_figures(lambda figures: figures["outbox"]["commits"] > 0, 5, "the first transaction")
        began = gateway.told.said["X_FIGURES"][-1]
        end = gateway.wait_figures(lambda figures: figures["taken_in"] >= start["taken_in"] + 1000, 10, "1000 readings")
        intervals = (gateway.told.said["X_FIGURES"][-1] - began) / interval
        commits = end["outbox"]["commits"] - start["outbox"]["commits"]
        assert intervals > 8
        assert abs(commits - intervals) <= 1
        assert gateway.stop().status == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 4 MB."""
    home = tmp_path / "small"
    home.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", home], check=False).returncode
    ):
        pytest.skip("nothing may be mounted here: a stop on a full card is not tried")
    yield home
    subprocess.run(["umount", home], check=True)


def test_a_stop_that_loses_readings_is_not_one_in_order(folder: Path, small: Path, broker: Mosquitto) -> None:
    """SIGTERM, no broker, and a card that takes nothing: exit status 74, and the log says why. Afterwards, 0 again."""
    with (
        SerialDevice("boiler", folder, rate=200) as boiler,
        Gateway(
            configuration(
                folder,
                brokers=[broker.url],
                devices=[boiler],
                outbox={"path": str(small / "o.db"), "commit_interval": "50ms"},
            )
        ) as gateway,
    ):
        broker.stop()
        gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        gateway.wait_figures(lambda figures: figures["outbox"]["commits"] > 0, 20, "the first transaction")
        ballast = small / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(512)):
                pass
        gateway.wait_figures(lambda figures: bool(figures["outbox"]["fault"]), 20, "a card that takes nothing")
        assert gateway.stop().status == 74
        assert "readings that are only in memory are lost" in gateway.log
        ballast.unlink()
        gateway.start()
        assert gateway.stop().status == 0
