"""Nothing is lost: broker outages, SIGKILLs of the service, orderly stops, all under load."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from tests.system.harness import Arrival, Gate, Gateway, Mosquitto, SerialDevice, Stream, Subscriber, configuration

pytestmark = pytest.mark.system

WINDOW = 200
# Beyond `commit_interval`, for the writer's thread and the disk to get their turn on a busy machine.
FAIR = 0.15


def _settle(gateway: Gateway, subscriber: Subscriber) -> None:
    """Wait until everything that waits has been delivered and seen, and stop in order."""
    gateway.wait_delivered(30)
    subscriber.quiet(0.2, 30)
    assert gateway.stop().status == 0
    assert gateway.figures["uplinks"]["cloud"]["waiting"] == 0
    assert gateway.figures["uplinks"]["cloud"]["lost"] == 0


def _check(streams: dict[int, Stream]) -> set[int]:
    """Check that no stream has a gap or tells one reading in two ways; return the device's own numbers."""
    for epoch, stream in streams.items():
        assert stream.gaps == [], f"epoch {epoch}"
        assert stream.conflicts == [], f"epoch {epoch}"
    return set().union(*(stream.numbers for stream in streams.values()))


def _latest(arrivals: Sequence[Arrival]) -> int:
    """Return the boiler's own number in the newest of its readings among the last few messages, or 0."""
    told = [orjson.loads(each.payload)["n"] for each in arrivals[-10:] if each.topic == "sensors/gw/boiler"]
    return told[-1] if told else 0


def test_every_reading_survives_the_loss_of_both_brokers(folder: Path, broker: Mosquitto, second: Mosquitto) -> None:
    """Of 20 s at 1000 readings/s, with first one broker killed and then both, every reading arrives, gapless.

    Readings come twice only where a link was lost, and there at most one window of them.
    """
    with (
        Subscriber(broker, second) as subscriber,
        SerialDevice("boiler", folder, rate=500) as boiler,
        SerialDevice("meter", folder, rate=500, form="key-value") as meter,
        Gateway(
            configuration(folder, brokers=[broker.url, second.url], devices=[boiler, meter], uplink={"window": WINDOW})
        ) as gateway,
    ):
        gateway.start()
        for device in (boiler, meter):
            device.wait_opened(5)
        for device in (boiler, meter):
            device.resume()
        boiler.wait_written(2500, 30)
        broker.kill()
        boiler.wait_written(5000, 30)
        second.kill()
        gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["waiting"] > 2000, 30, "an outage")
        boiler.wait_written(7500, 30)
        second.start()
        boiler.wait_written(10_000, 30)
        for device in (boiler, meter):
            device.pause()
            device.wait_read(5)
        _settle(gateway, subscriber)
        assert gateway.figures["taken_in"] == boiler.written + meter.written

        duplicates = 0
        for device in (boiler, meter):
            streams = subscriber.account(device.name)
            assert _check(streams) == set(range(1, device.written + 1))
            (stream,) = streams.values()
            assert len(stream.seqs) == device.written
            duplicates += stream.duplicates
        assert duplicates <= 2 * WINDOW
        for each in (broker, second):
            assert sum(arrival.broker == each.name for arrival in subscriber.arrivals) > 4000


def test_sigkill_in_an_outage_costs_at_most_one_interval(folder: Path, broker: Mosquitto) -> None:
    """Over 20 SIGKILLs with the broker away, what was taken in more than `commit_interval` before each arrives.

    What each kill may cost is the end of an epoch, and never a hole in it.
    """
    rng = random.Random(16)
    interval = 0.3
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=200) as boiler,
        SerialDevice("meter", folder, rate=200, form="csv") as meter,
        Gateway(
            configuration(folder, brokers=[broker.url], devices=[boiler, meter], outbox={"commit_interval": "300ms"})
        ) as gateway,
    ):
        broker.stop()
        devices = (boiler, meter)
        sure: dict[str, set[int]] = {device.name: set() for device in devices}
        for _ in range(20):
            gateway.start()
            first = {}
            for device in devices:
                device.wait_opened(10)
                first[device.name] = device.written + 1
            for device in devices:
                device.resume()
            boiler.wait_written(first["boiler"] + rng.randrange(40, 220), 10)
            killed = gateway.kill()
            for device in devices:
                device.pause()
                device.discard()
                last = device.read_by(killed - interval - FAIR)
                sure[device.name].update(range(first[device.name], last + 1))
        broker.start()
        gateway.start()
        _settle(gateway, subscriber)
        for device in devices:
            arrived = _check(subscriber.account(device.name))
            assert sorted(sure[device.name] - arrived) == []
            assert len(sure[device.name]) > 500, "too few to prove anything"


def test_sigkill_with_no_interval_leaves_no_hole(folder: Path, broker: Mosquitto) -> None:
    """With `commit_interval = "0s"`, over 20 SIGKILLs, nothing older than what a subscriber has seen is missing."""
    rng = random.Random(17)
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=300) as boiler,
        SerialDevice("meter", folder, rate=300, form="key-value") as meter,
        Gateway(
            configuration(folder, brokers=[broker.url], devices=[boiler, meter], outbox={"commit_interval": "0s"})
        ) as gateway,
    ):
        devices = (boiler, meter)
        runs = []
        for _ in range(20):
            gateway.start()
            for device in devices:
                device.wait_opened(10)
            first = {device.name: device.written + 1 for device in devices}
            for device in devices:
                device.resume()
            boiler.wait_written(first["boiler"] + rng.randrange(10, 200), 10)
            gateway.kill()
            for device in devices:
                device.pause()
                device.discard()
                runs.append((device, first[device.name], device.written))
        gateway.start()
        _settle(gateway, subscriber)
        for device in devices:
            _check(subscriber.account(device.name))
        proven = 0
        for device, first_of_run, last in runs:
            arrived = {
                n
                for stream in subscriber.account(device.name).values()
                for n in stream.numbers
                if first_of_run <= n <= last
            }
            # Where the kill came first of all, there is nothing.
            assert arrived == set(range(first_of_run, max(arrived, default=first_of_run - 1) + 1)), device.name
            proven += len(arrived)
        assert proven > 500, "too few to prove anything"


def test_with_no_interval_what_was_sent_is_on_the_card(folder: Path, broker: Mosquitto) -> None:
    """With `commit_interval = "0s"`, what was seen, and not acknowledged, is sent again after a SIGKILL."""
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=300) as boiler,
        Gate(broker.port) as gate,
        Gateway(
            configuration(
                folder,
                brokers=[gate.url],
                devices=[boiler],
                outbox={"commit_interval": "0s"},
                uplink={"ack_timeout": "20s"},
            )
        ) as gateway,
    ):
        seen = set()
        for _ in range(5):
            gateway.start()
            gateway.wait_delivered(10)
            boiler.wait_opened(10)
            gate.hold()
            first = boiler.written + 1
            boiler.resume()
            boiler.wait_written(first + 50, 10)
            subscriber.wait(lambda arrivals, first=first: _latest(arrivals) >= first, 10, "a reading of this run")
            gateway.kill()
            boiler.pause()
            boiler.discard()
            gate.release()
            subscriber.quiet(0.2, 10)
            streams = subscriber.account("boiler")
            epoch = max(streams)
            held = {(epoch, seq) for seq, told in streams[epoch].contents.items() if told["n"] >= first}
            assert held
            assert streams[epoch].duplicates == 0
            seen |= held
        gateway.start()
        _settle(gateway, subscriber)
        again = [(epoch, seq) for epoch, stream in subscriber.account("boiler").items() for seq in stream.arrivals]
        assert [each for each in seen if again.count(each) < 2] == []
        _check(subscriber.account("boiler"))


def test_orderly_stop_under_load_loses_nothing(folder: Path, broker: Mosquitto) -> None:
    """Stopped ten times by SIGTERM under load, with the broker away, it ends with 0 and keeps all that it took in."""
    rng = random.Random(18)
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=500) as boiler,
        SerialDevice("meter", folder, rate=500, form="key-value") as meter,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler, meter])) as gateway,
    ):
        broker.stop()
        devices = (boiler, meter)
        sure: dict[str, set[int]] = {device.name: set() for device in devices}
        taken_in = {}
        for _ in range(10):
            gateway.start()
            first = {}
            for device in devices:
                device.wait_opened(10)
                first[device.name] = device.written + 1
            for device in devices:
                device.resume()
            boiler.wait_written(first["boiler"] + rng.randrange(20, 400), 10)
            read = {device.name: device.read_by(float("inf")) for device in devices}
            stopped = gateway.stop()
            assert stopped.status == 0
            assert stopped.seconds < 5
            for device in devices:
                device.pause()
                device.discard()
                sure[device.name].update(range(first[device.name], read[device.name] + 1))
            taken_in[gateway.figures["epoch"]] = gateway.figures["taken_in"]
        broker.start()
        gateway.start()
        _settle(gateway, subscriber)
        arrived = {device.name: subscriber.account(device.name) for device in devices}
        for device in devices:
            assert sorted(sure[device.name] - _check(arrived[device.name])) == []
            assert len(sure[device.name]) > 500, "too few to prove anything"
        for epoch, count in taken_in.items():
            assert sum(len(streams[epoch].seqs) for streams in arrived.values() if epoch in streams) == count
