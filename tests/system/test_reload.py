"""The config changes while readings flow: only what differs is touched, and not one reading is lost for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.system.harness import Gateway, Mosquitto, SerialDevice, Subscriber, configuration

pytestmark = pytest.mark.system

WAIT = 20.0
TURNS = 20
SECRET = "correct horse battery staple"


class Made(NamedTuple):
    """A device of the configuration."""

    name: str
    keys: Mapping[str, object]


def with_keys(device: SerialDevice, **more: object) -> Made:
    return Made(device.name, {**device.keys, **more})


def simulated(name: str, **more: object) -> Made:
    return Made(name, {"adapter": "simulator", "interval": "50ms", "signals": {"level": {}}, **more})


class Site:
    """A gateway, its broker, and a config that is written anew."""

    def __init__(self, folder: Path, broker: Mosquitto, **uplink: object) -> None:
        self.folder = folder
        self.broker = broker
        self.uplink = uplink
        self.outbox: dict[str, object] = {}
        self.file = self.write()
        self.gateway = Gateway(self.file)

    def write(self, *devices: Made | SerialDevice, more: str = "", **uplink: object) -> Path:
        """Write the config."""
        brokers = [self.broker.url]
        file = configuration(
            self.folder,
            brokers=brokers,
            devices=devices,  # type: ignore[arg-type]
            outbox=self.outbox,
            uplink={**self.uplink, **uplink},
        )
        with file.open("a") as end:
            end.write(more)
        return file

    def hang_up(self) -> None:
        """Send SIGHUP, and return when the gateway has done with it."""
        told = self.gateway.told.said
        count = len(told["READY"])
        self.gateway.send(signal.SIGHUP)
        self.gateway.wait(lambda: len(told["READY"]) > count, WAIT, "it has reloaded")
        assert len(told["RELOADING"]) == len(told["MONOTONIC_USEC"]) == count

    def reload(self, *devices: Made | SerialDevice, more: str = "", **uplink: object) -> None:
        """Write the config, and have it reloaded."""
        self.write(*devices, more=more, **uplink)
        self.hang_up()

    def command(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `sensor-gateway reload`."""
        words = [sys.executable, "-m", "gateway", "reload", "-c", str(self.file), *options]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    def states(self) -> dict[str, str]:
        """Return the devices that there are now, and how they are."""
        figures = self.gateway.wait_figures(bool, WAIT, "newer figures")
        return {name: device["state"] for name, device in figures["devices"].items()}

    def wait_online(self) -> None:
        """Return when every device that there is now is online."""

        def online(figures: Mapping[str, Any]) -> bool:
            return {device["state"] for device in figures["devices"].values()} == {"online"}

        self.gateway.wait_figures(online, WAIT, "every device is online")


@pytest.fixture
def site(folder: Path, broker: Mosquitto) -> Iterator[Site]:
    """Give a gateway that is not started yet."""
    made = Site(folder, broker)
    with made.gateway:
        yield made


def test_twenty_reloads_cost_no_reading(site: Site, folder: Path, broker: Mosquitto) -> None:
    """A device that stays the same is read on as if nothing had happened; others come, go and change beside it.

    What was taken in of any of them arrives, in order, whatever becomes of the device; and nothing is left behind.
    """
    with ExitStack() as stack:
        seen = stack.enter_context(Subscriber(broker))
        devices = [stack.enter_context(SerialDevice(name, folder, rate=200)) for name in ("steady", "moving", "guest")]
        steady, moving, guest = devices
        site.write(*devices)
        site.gateway.start()
        for device in devices:
            device.wait_opened(5)
            device.resume()
        descriptors: list[list[str]] = []
        for turn in range(TURNS):
            steady.wait_written(steady.written + 20, 10)
            site.reload(
                steady,
                with_keys(moving, baudrate=(9600, 115200)[turn % 2]),
                *([guest] if turn % 2 else []),
                *([simulated(f"visitor-{turn}")] if turn % 3 else []),
            )
            if turn in (1, 2):
                site.write(steady, more='[devices.steady.metrics.n]\nunit = 5\nprecison = "x"\n')
                site.hang_up()
                assert site.states().keys() >= {"steady", "moving"}, "nothing has changed"
            if turn in (5, TURNS - 1):  # alike
                site.wait_online()
                descriptors.append(site.gateway.descriptors())
        assert len(descriptors[1]) <= len(descriptors[0]), descriptors
        for device in devices:
            device.pause()
        steady.wait_read(10)
        moving.wait_read(10)
        figures = site.gateway.wait_delivered(WAIT)
        assert site.gateway.stop().status == 0
        seen.quiet(0.3, 10)
        (stream,) = seen.account("steady").values()
        assert stream.numbers == set(range(1, steady.written + 1))
        total = 0
        for name in ("steady", "moving", "guest", *(f"visitor-{turn}" for turn in range(TURNS) if turn % 3)):
            (stream,) = seen.account(name).values()
            assert (stream.gaps, stream.duplicates, stream.late, stream.conflicts) == ([], 0, 0, [])
            total += len(stream.seqs)
        assert total == site.gateway.figures["taken_in"] >= figures["taken_in"]
        log = site.gateway.log
        assert log.count("steady: online") == 1
        assert log.count("not reloaded: nothing has changed") == 2
        assert f"{site.file}:" in log
        assert "must be" in log


def test_a_metric_changes_without_the_device_being_closed(site: Site, folder: Path, broker: Mosquitto) -> None:
    """From one reading to the next it has its new scale, and none is lost between them."""
    with Subscriber(broker) as seen, SerialDevice("boiler", folder, rate=200) as boiler:
        site.write(boiler)
        site.gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        for factor in (10, 100):
            boiler.wait_written(boiler.written + 50, 10)
            site.reload(with_keys(boiler, metrics={"temperature": {"scale": factor}}))
        boiler.wait_written(boiler.written + 50, 10)
        boiler.pause()
        boiler.wait_read(10)
        assert site.gateway.stop().status == 0
        seen.quiet(0.3, 10)
        (stream,) = seen.account("boiler").values()
        assert stream.numbers == set(range(1, boiler.written + 1))
        scales = [round(c["temperature"] / (20 + c["n"] % 100 / 10)) for _, c in sorted(stream.contents.items())]
        assert scales == sorted(scales)
        assert set(scales) == {1, 10, 100}
        assert site.gateway.log.count("boiler: online") == 1
        assert "devices adjusted: boiler" in site.gateway.log


def test_an_uplink_changes_and_what_waits_for_it_stays(site: Site, folder: Path, broker: Mosquitto) -> None:
    """Its link ends in order and a new one goes on; the device notices nothing."""
    with Subscriber(broker) as seen, SerialDevice("boiler", folder, rate=200) as boiler:
        site.write(boiler)
        site.gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        for window in (7, 1000, 50):
            boiler.wait_written(boiler.written + 100, 10)
            site.reload(boiler, window=window)
        boiler.wait_written(boiler.written + 100, 10)
        boiler.pause()
        boiler.wait_read(10)
        site.gateway.wait_delivered(WAIT)
        assert site.gateway.stop().status == 0
        seen.quiet(0.3, 10)
        (stream,) = seen.account("boiler").values()
        assert (stream.numbers, stream.gaps) == (set(range(1, boiler.written + 1)), [])
        assert site.gateway.log.count("uplinks restarted: cloud") == 3
        assert site.gateway.log.count("boiler: online") == 1
        states = [one.payload for one in seen.arrivals if one.topic == "sensors/gw/boiler/status"]
        assert states[-1] == b"offline"
        assert states.count(b"online") == 4


def test_uplinks_come_and_go(site: Site, folder: Path, broker: Mosquitto, second: Mosquitto) -> None:
    """A new one gets what is measured from then on; of one that is gone the outbox keeps what it has not delivered."""
    more = f'\n[uplinks.other]\nbrokers = ["{second.url}"]\nreconnect_min = "100ms"\nreconnect_max = "1s"\n'
    with Subscriber(broker) as seen, SerialDevice("boiler", folder, rate=100) as boiler:
        site.write(boiler)
        site.gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        boiler.wait_written(100, 10)
        with Subscriber(second) as elsewhere:
            site.reload(boiler, more=more)
            boiler.wait_written(boiler.written + 100, 10)
            boiler.pause()
            boiler.wait_read(10)
            site.gateway.wait_figures(lambda one: one["uplinks"]["other"]["waiting"] == 0, WAIT, "all of it is there")
            (stream,) = elsewhere.account("boiler").values()
            numbers = stream.numbers
            assert len(numbers) >= 100
            assert numbers == set(range(min(numbers), boiler.written + 1)), "all since then, and none from before"
            site.reload(boiler)
            site.gateway.wait_log("outbox forget other", WAIT)
            boiler.resume()
            boiler.wait_written(boiler.written + 50, 10)
            boiler.pause()
            boiler.wait_read(10)
            site.gateway.wait_delivered(WAIT)
            assert set(site.gateway.figures["uplinks"]) == {"cloud"}
            site.reload(boiler, more=more)
            site.gateway.wait_figures(lambda one: one["uplinks"]["other"]["waiting"] == 0, WAIT, "it has caught up")
            assert site.gateway.stop().status == 0
            elsewhere.quiet(0.3, 10)
            (stream,) = elsewhere.account("boiler").values()
            assert stream.numbers == set(range(min(numbers), boiler.written + 1))
        (stream,) = seen.account("boiler").values()
        assert stream.numbers == set(range(1, boiler.written + 1))


def test_a_wrong_config_changes_nothing_and_the_status_says_so(site: Site) -> None:
    """Until it is right: each error has file, line and column, and what to type."""
    site.write(simulated("tank"))
    site.gateway.start()
    site.wait_online()
    site.write(simulated("tank"), simulated("cellar"), more="[devices.attic]\nadapter = 'simulater'\n")
    site.hang_up()
    lines = len(site.file.read_text().splitlines())
    site.gateway.wait_log(f"{site.file}:{lines}:11: error: ", WAIT)
    site.gateway.wait_log(f"sensor-gateway check -c {site.file}", WAIT)
    assert site.states() == {"tank": "online"}
    assert "the config is wrong, the one before goes on" in site.gateway.told.status
    site.reload(simulated("tank"), simulated("cellar"))
    assert site.states().keys() == {"tank", "cellar"}
    assert "wrong" not in site.gateway.told.status
    assert site.gateway.stop().status == 0
    assert site.gateway.log.count("tank: online") == 1


def test_what_only_a_restart_applies_is_named(site: Site) -> None:
    """Everything else is applied; it is named again each time, and in the status, until the service was restarted."""
    site.write(simulated("tank"))
    site.gateway.start()
    text = site.write(simulated("cellar")).read_text()
    site.file.write_text(text.replace('id = "gw"', 'id = "other"').replace('keep_free = "1MB"', 'keep_free = "2MB"'))
    for _ in range(2):
        site.hang_up()
    assert site.states().keys() == {"cellar"}
    assert "restart to apply gateway.id, outbox.keep_free" in site.gateway.told.status
    assert site.gateway.stop().status == 0
    assert site.gateway.log.count("restart to apply: gateway.id, outbox.keep_free") == 2


def test_the_command_line_reloads_and_tells_what_it_would(site: Site) -> None:
    """`--dry-run` changes nothing; a wrong config, and a service that does not run, have exit statuses of their own."""
    done = site.command()
    assert (done.returncode, "does it run?" in done.stderr) == (69, True)
    site.write(simulated("tank"))
    site.gateway.start()
    site.write(simulated("tank", interval="60ms"), simulated("cellar"), keep_alive="20s")
    told = "devices added: cellar\ndevices restarted: tank\nuplinks restarted: cloud\n"
    for options in (("--dry-run",), ("--dry-run",), ()):
        done = site.command(*options)
        assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
    assert site.command("--dry-run").stdout == "nothing differs\n"
    assert site.states().keys() == {"tank", "cellar"}
    site.write(simulated("tank"), more="[devices.tank]\n")
    for options in (("--dry-run",), ()):
        done = site.command(*options)
        assert done.returncode == 78
        assert f"{site.file}:" in done.stderr
        assert "nothing has changed" in done.stderr
    other = site.file.with_name("other.toml")
    other.write_text(site.file.read_text())
    site.file.write_text("")
    words = [sys.executable, "-m", "gateway", "reload", "-c", str(other), "--path", str(site.folder / "outbox.db")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, str(site.file) in done.stderr) == (69, True)


class Asking:
    """Somebody who sends commands to the gateway."""

    def __init__(self, broker: Mosquitto) -> None:
        self._broker = broker

    def __call__(self, payload: str) -> dict[str, Any]:
        """Send one, and return the result."""
        command = ["mosquitto_rr", "-p", str(self._broker.port), "-V", "5", "-W", str(int(WAIT))]
        where = ["-t", "sensors/gw/command", "-e", "answers/me", "-m", payload, "-q", "1"]
        done = subprocess.run([*command, *where], check=True, capture_output=True, text=True, timeout=60)
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def test_a_command_reloads_and_is_answered_before_its_own_uplink_changes(folder: Path, broker: Mosquitto) -> None:
    """The answer says what changes, or why nothing does; no secret is in it, or in the log."""
    site = Site(folder, broker, commands=True)
    ask = Asking(broker)
    with site.gateway as gateway:
        site.write(simulated("tank"))
        gateway.start()
        gateway.wait_log("linked to", WAIT)
        assert {"command": "reload", "result": "done"}.items() <= ask("reload").items()
        (folder / "password").write_text(SECRET)
        password = {"file": str(folder / "password")}
        site.write(simulated("cellar"), keep_alive="20s", username="me", password=password)
        answer = ask('{"command": "reload", "id": "a"}')
        assert answer["devices"] == {"added": ["cellar"], "removed": ["tank"]}
        assert answer["uplinks"] == {"restarted": ["cloud"]}
        gateway.wait(lambda: gateway.log.count("linked to") == 2, WAIT, "linked again")
        again = ask('{"command": "reload", "id": "a"}')
        assert again == {**answer, "again": True, "ts": again["ts"]}
        site.write(
            simulated("cellar"),
            more=f'[uplinks.x]\nbrokers = ["mqtt://x"]\npassword = "{SECRET}"\n',
            username="me",
            password=password,
        )
        answer = ask("reload")
        assert answer["result"] == "refused"
        assert f"{site.file}:" in answer["reason"]
        assert gateway.stop().status == 0
        assert SECRET not in gateway.log + json.dumps([answer, again])


def test_an_uplink_that_was_new_is_known_after_a_kill(site: Site, folder: Path, broker: Mosquitto) -> None:
    """With the first transaction after it has come: what it has not got by then is there after the kill."""
    with Mosquitto(folder, "late") as late, SerialDevice("boiler", folder, rate=100) as boiler:
        more = f'\n[uplinks.other]\nbrokers = ["{late.url}"]\nreconnect_min = "100ms"\nreconnect_max = "1s"\n'
        late.stop()
        site.outbox = {"commit_interval": "0s"}
        site.write(boiler)
        site.gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        boiler.wait_written(50, 10)
        site.reload(boiler, more=more)
        boiler.wait_written(boiler.written + 50, 10)
        boiler.pause()
        boiler.wait_read(10)
        waits = site.gateway.wait_figures(lambda one: one["uplinks"]["cloud"]["waiting"] == 0, WAIT, "near has all")
        count = waits["uplinks"]["other"]["waiting"]
        assert count >= 50
        site.gateway.kill()
        late.start()
        with Subscriber(late) as seen:
            site.gateway.start()
            site.gateway.wait_figures(lambda one: one["uplinks"]["other"]["waiting"] == 0, WAIT, "all is there")
            assert site.gateway.stop().status == 0
            seen.quiet(0.3, 10)
            (stream,) = seen.account("boiler").values()
            assert stream.numbers == set(range(boiler.written - count + 1, boiler.written + 1))


def test_a_burst_of_signals_and_the_last_one_stops(site: Site, folder: Path, broker: Mosquitto) -> None:
    """Reloads wait for each other, and the end for the one that is under way: in order, and nothing is lost."""
    with Subscriber(broker) as seen, SerialDevice("boiler", folder, rate=200) as boiler:
        site.write(boiler, simulated("tank"))
        site.gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        boiler.wait_written(50, 10)
        for turn in range(30):
            site.write(boiler, simulated(f"tank-{turn}"), window=turn + 1)
            site.gateway.send(signal.SIGHUP)
            boiler.wait_written(boiler.written + 2, 10)
        assert site.gateway.stop().status == 0
        seen.quiet(0.3, 10)
        for name in {one.topic.split("/")[2] for one in seen.arrivals if one.topic.count("/") == 2} - {"status"}:
            (stream,) = seen.account(name).values()
            assert (stream.gaps, stream.conflicts) == ([], [])
        cloud = site.gateway.figures["uplinks"]["cloud"]
        assert site.gateway.figures["taken_in"] == cloud["delivered"] + cloud["waiting"] + cloud["lost"]
        assert cloud["lost"] == 0
        assert site.gateway.log.count("boiler: online") == 1


def test_systemd_sends_the_signal_and_is_told_what_comes_of_it() -> None:
    """`systemctl reload` is SIGHUP to the service itself, and of a type that systemd 252 knows."""
    lines = (Path(__file__).parents[2] / "deploy" / "systemd" / "sensor-gateway.service").read_text().splitlines()
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines
    assert "Type=notify" in lines
    assert "NotifyAccess=main" in lines
