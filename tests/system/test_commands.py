"""Commands through a real broker: what is set, what is refused, and what is never carried out."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.system.harness import Gateway, Mosquitto, SerialDevice, Subscriber, configuration

pytestmark = pytest.mark.system

WAIT = 10.0


class Made(NamedTuple):
    """A device of the configuration."""

    name: str
    keys: dict[str, object]


TANK = Made(
    "tank",
    {
        "adapter": "simulator",
        "interval": "100ms",
        "signals": {"level": {"kind": "setpoint", "low": 100, "high": 900}, "other": {"kind": "setpoint"}, "flow": {}},
        "metrics": {"level": {"settable": True, "scale": 0.1, "min": 5, "max": 80}},
    },
)
ABSENT = Made(
    "absent",
    {
        "adapter": "serial-text",
        "port": "/dev/no-such-port",
        "commands": {"valve": "SET {value}\n"},
        "metrics": {"valve": {"settable": True}},
    },
)


class Site:
    """A gateway, its broker, and a person with mosquitto_pub."""

    def __init__(self, broker: Mosquitto, seen: Subscriber, gateway: Gateway) -> None:
        self.broker = broker
        self.seen = seen
        self.gateway = gateway

    def publish(self, topic: str, payload: str, *options: str) -> None:
        """Publish with mosquitto_pub."""
        command = ["mosquitto_pub", "-p", str(self.broker.port), "-t", f"sensors/gw/{topic}", "-m", payload]
        subprocess.run([*command, *options], check=True, timeout=WAIT)

    def results(self, topic: str) -> list[dict[str, Any]]:
        """Return what was published as results so far."""
        wanted = f"sensors/gw/{topic}/result"
        return [json.loads(one.payload) for one in self.seen.arrivals if one.topic == wanted]

    def result(self, topic: str, count: int = 1) -> dict[str, Any]:
        """Wait for the result of this number, and return it."""
        self.seen.wait(lambda _: len(self.results(topic)) >= count, WAIT, f"result {count} of {topic}")
        return self.results(topic)[count - 1]

    def ask(self, topic: str, payload: str, *options: str) -> dict[str, Any]:
        """Publish, and return the result."""
        place = topic.removesuffix("/set")
        count = len(self.results(place))
        self.publish(topic, payload, *options)
        return self.result(place, count + 1)

    def levels(self, epoch: int | None = None) -> set[float]:
        """Return what the tank's level was in any reading, or in any of one run."""
        readings = [json.loads(one.payload) for one in self.seen.arrivals if one.topic == "sensors/gw/tank"]
        return {one["level"] for one in readings if "level" in one and epoch in (None, one["epoch"])}


@pytest.fixture
def site(folder: Path, broker: Mosquitto) -> Iterator[Site]:
    """Give a gateway that takes commands, and listens to them already."""
    file = configuration(folder, brokers=[broker.url], devices=[TANK, ABSENT], uplink={"commands": True})
    with Subscriber(broker) as seen, Gateway(file) as gateway:
        gateway.start()
        made = Site(broker, seen, gateway)
        ready(made)
        yield made


def ready(site: Site) -> None:
    """Return when the gateway hears commands: it says that it is ready before it has subscribed."""
    count = len(site.results("command"))
    ends = time.monotonic() + WAIT
    while time.monotonic() < ends:
        site.publish("command", "ping")
        with suppress(TimeoutError):
            site.seen.wait(lambda _: len(site.results("command")) > count, 0.2, "an answer to a ping")
            return
    raise TimeoutError("no answer to any ping")


def now(ahead: float = 0.0) -> int:
    """Return UTC in milliseconds."""
    return round((time.time() + ahead) * 1000)


def test_a_device_is_set_and_read_back(site: Site) -> None:
    """The result says what the device then has, in the published unit, and a reading follows."""
    result = site.ask("tank/level/set", "42.5")
    assert {key: result[key] for key in ("device", "metric", "value", "result", "read_back")} == {
        "device": "tank",
        "metric": "level",
        "value": 42.5,
        "result": "done",
        "read_back": 42.5,
    }
    assert abs(result["ts"] - now()) < 60_000
    site.seen.wait(lambda _: 42.5 in site.levels(), WAIT, "the reading")
    site.gateway.wait_log("tank: level = 42.5: done", WAIT)


def test_the_answer_goes_where_the_sender_wants_it(site: Site) -> None:
    """MQTT 5: to the response topic, with the correlation data; mosquitto_rr waits for it."""
    command = ["mosquitto_rr", "-p", str(site.broker.port), "-V", "5", "-W", str(int(WAIT))]
    where = ["-t", "sensors/gw/tank/level/set", "-e", "answers/me", "-m", "17", "-F", "%D %p"]
    options = ["-D", "publish", "correlation-data", "abc"]
    said = subprocess.run([*command, *where, *options], check=True, capture_output=True, text=True, timeout=20).stdout
    correlation, _, payload = said.partition(" ")
    assert correlation == "abc"
    assert json.loads(payload)["result"] == "done"
    assert site.results("tank/level") == []


REFUSED = [
    ("tank/level/set", "81", "above 80"),
    ("tank/level/set", "4", "below 5"),
    ("tank/level/set", "high", "not a number"),
    ("tank/level/set", "{}", 'no "value"'),
    ("tank/flow/set", "1", "no such metric that can be set"),
    ("tank/nothing/set", "1", "no such metric that can be set"),
    ("tank/other/set", "1", "the config does not allow it"),
    ("nobody/level/set", "1", "no such device"),
    ("absent/valve/set", "1", "the device is absent: "),
    ("tank/level/set", '{"value": 77, "ts": OLD}', "s old, and may be 30 s old"),
    ("tank/level/set", '{"value": 77, "expires": OLD}', "expired"),
    ("tank/level/set", '{"value": 77, "ts": NEW}', "in the future"),
    ("command", "explode", "no such command"),
    ("command", '{"command": "restart-device", "device": "nobody"}', "there is no such device"),
]


def test_what_cannot_be_is_refused_at_once(site: Site) -> None:
    """Unknown, not settable, out of range, expired, or for a device that is not there: the sender is told why."""
    for topic, payload, reason in REFUSED:
        result = site.ask(topic, payload.replace("OLD", str(now(-3600))).replace("NEW", str(now(3600))))
        assert result["result"] == "refused", (topic, payload)
        assert reason in result["reason"]
    site.ask("tank/level/set", "20")
    site.seen.wait(lambda _: 20 in site.levels(), WAIT, "the reading")
    assert site.levels() == {10, 20}


def test_a_command_is_carried_out_once(site: Site) -> None:
    """The same id again is answered with what became of it the first time, whatever it says now."""
    first = site.ask("tank/level/set", '{"value": 30, "id": "a"}')
    again = site.ask("tank/level/set", '{"value": 31, "id": "a"}')
    assert (first["result"], first.get("again")) == ("done", None)
    assert (again["result"], again["value"], again["again"]) == ("done", 30, True)
    assert site.ask("tank/level/set", '{"value": 32, "id": "b"}', "-q", "2")["result"] == "done"
    site.seen.wait(lambda _: 32 in site.levels(), WAIT, "the reading")
    assert site.levels() == {10, 30, 32}


def test_an_id_is_spent_over_restarts(site: Site) -> None:
    """Also over a SIGKILL, and without a time: nobody may have a valve turned twice by asking what became of it."""
    ends = (site.gateway.kill, site.gateway.stop)
    for end, value, name in zip(ends, (30, 31), "ab", strict=True):
        payload = json.dumps({"value": value, "id": name})
        assert site.ask("tank/level/set", payload)["result"] == "done"
        end()
        site.gateway.start()
        ready(site)
        again = site.ask("tank/level/set", payload)
        assert (again["result"], again["again"]) == ("failed", True)
        assert "nobody knows whether it was carried out" in again["reason"]
        count = len(site.seen.arrivals)
        site.seen.wait(lambda arrivals, count=count: len(arrivals) > count + 5, WAIT, "more readings")  # type: ignore[misc]
        assert site.levels(site.gateway.figures["epoch"]) == {10}, "as a simulator begins"


def test_a_retained_command_is_never_carried_out(site: Site) -> None:
    """It would come again with every connection; with MQTT 5 it is known even when it is new."""
    for _ in range(2):
        result = site.ask("tank/level/set", "44", "-r")
        assert (result["result"], result["reason"][:14]) == ("refused", "it is retained")
    site.gateway.stop()
    count = len(site.results("tank/level"))
    site.gateway.start()
    assert "it is retained" in site.result("tank/level", count + 1)["reason"]
    assert 44 not in site.levels()


def test_what_the_gateway_itself_can_do(site: Site) -> None:
    """It answers a ping, tells its status, and restarts a device; its readings go on."""
    assert site.ask("command", '{"command": "ping", "id": 7}')["id"] == "7"
    status = site.ask("command", "status")["status"]
    assert status["devices"]["tank"]["state"] == "online"
    result = site.ask("command", '{"command": "restart-device", "device": "tank"}')
    assert (result["result"], result["device"]) == ("done", "tank")
    assert site.ask("tank/level/set", "50")["result"] == "done"
    assert site.gateway.stop().status == 0
    assert "tank: restarted" in site.gateway.log


def test_nobody_is_obeyed_who_was_not_allowed(folder: Path, broker: Mosquitto) -> None:
    """By default an uplink does not even subscribe."""
    with Subscriber(broker) as seen, Gateway(configuration(folder, brokers=[broker.url], devices=[TANK])) as gateway:
        gateway.start()
        site = Site(broker, seen, gateway)
        site.publish("tank/level/set", "42")
        count = len(seen.arrivals)
        seen.wait(lambda arrivals: len(arrivals) > count + 5, WAIT, "more readings")
        assert site.levels() == {10}
        assert site.results("tank/level") == []


def test_what_a_broker_has_kept_is_not_carried_out_late(folder: Path, broker: Mosquitto) -> None:
    """On a session that outlives the gateway, what may be old is refused; what says that it is still wanted is not."""
    uplink = {"commands": True, "qos": 2}
    file = configuration(folder, brokers=[broker.url], devices=[TANK], uplink=uplink)
    with Subscriber(broker) as seen, Gateway(file) as gateway:
        gateway.start()
        site = Site(broker, seen, gateway)
        ready(site)
        assert site.ask("tank/level/set", "15")["result"] == "done"
        gateway.stop()
        site.publish("tank/level/set", "11", "-q", "1")
        site.publish("tank/level/set", json.dumps({"value": 12, "ts": now()}), "-q", "1")
        site.publish("tank/level/set", json.dumps({"value": 13, "expires": now(60)}), "-q", "1")
        gateway.start()
        site.result("tank/level", 4)
        by_value = {one["value"]: one for one in site.results("tank/level")}
        assert "needs ts or expires" in by_value[11]["reason"]
        assert "before the gateway started" in by_value[12]["reason"]
        # Its age is no reason; that the device is not open yet, in the first moments, may be one.
        assert by_value[13]["result"] == "done" or by_value[13]["reason"].startswith("the device is ")
        seen.wait(lambda _: 13 in site.levels(), WAIT, "the reading")
        assert not site.levels() & {11, 12}


def test_a_flood_of_commands_costs_no_reading(folder: Path, broker: Mosquitto) -> None:
    """Thousands of commands are refused, and the readings of another device all arrive meanwhile, in order."""
    with Subscriber(broker) as seen, SerialDevice("boiler", folder, rate=300) as boiler:
        file = configuration(folder, brokers=[broker.url], devices=[TANK, boiler], uplink={"commands": True})
        with Gateway(file) as gateway:
            gateway.start()
            site = Site(broker, seen, gateway)
            ready(site)
            boiler.wait_opened(5)
            boiler.resume()
            flood = "".join(f'{{"value": 900, "id": {number}}}\n' for number in range(5000))
            command = ["mosquitto_pub", "-p", str(broker.port), "-t", "sensors/gw/tank/level/set", "-l", "-q", "1"]
            subprocess.run(command, input=flood, text=True, check=True, timeout=60)
            boiler.wait_written(boiler.written + 100, 20)
            boiler.pause()
            boiler.wait_read(5)
            ready(site)
            assert gateway.stop().status == 0
            seen.quiet(0.2, 10)
            (stream,) = seen.account("boiler").values()
            assert stream.numbers == set(range(1, boiler.written + 1))
            assert (stream.gaps, stream.duplicates, stream.late) == ([], 0, 0)
            assert len([line for line in gateway.log_lines if "tank: level" in line]) < 500
