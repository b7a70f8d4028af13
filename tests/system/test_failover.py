"""The uplink finds a broker that works, leaves one that does not, and goes back to a better one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.system.harness import (
    Arrival,
    Certificates,
    Gateway,
    Mosquitto,
    SerialDevice,
    Subscriber,
    configuration,
    free_port,
)

pytestmark = pytest.mark.system

STATUS = "sensors/gw/status"
# Longer than a name can be, so that no resolver is asked about it.
NO_SUCH_NAME = ".".join(["broker" * 10] * 5) + ".invalid"


def _reading_at(arrivals: list[Arrival], broker: Mosquitto, since: float) -> bool:
    """Return whether the newest message is a reading that came over `broker` after the clock `since`."""
    newest = arrivals[-1] if arrivals else None
    return (
        newest is not None and newest[0] == "sensors/gw/boiler" and newest.broker == broker.name and newest.at > since
    )


def _finish(gateway: Gateway, device: SerialDevice, subscriber: Subscriber) -> int:
    """Stop writing, wait for everything, check that all of it arrived, and return the number of duplicates."""
    device.pause()
    device.wait_read(5)
    gateway.wait_delivered(20)
    subscriber.quiet(0.2, 20)
    (stream,) = subscriber.account(device.name).values()
    assert stream.gaps == []
    assert stream.numbers == set(range(1, device.written + 1))
    assert gateway.stop().status == 0
    return stream.duplicates


@pytest.mark.alone
def test_frozen_broker_is_left_within_the_acknowledgement_timeout(
    folder: Path, broker: Mosquitto, second: Mosquitto
) -> None:
    """A broker that keeps the connection and answers nothing is left within `ack_timeout` and a second."""
    with (
        Subscriber(second) as subscriber,
        SerialDevice("boiler", folder, rate=200) as boiler,
        Gateway(
            configuration(
                folder,
                brokers=[broker.url, second.url],
                devices=[boiler],
                uplink={"ack_timeout": "1s", "failback": "never"},
            )
        ) as gateway,
    ):
        gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["delivered"] > 100, 10, "readings go out")
        broker.freeze()
        began = time.monotonic()
        subscriber.wait(lambda arrivals: _reading_at(arrivals, second, began), 10, "readings over the second broker")
        assert time.monotonic() - began < 2.0
        gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["broker"] == second.url, 5, "says so")
        assert gateway.stop().status == 0


@pytest.mark.alone
def test_failback_leaves_no_hole(folder: Path, broker: Mosquitto, second: Mosquitto) -> None:
    """A better broker is used when it has been good for `failback`; until then the other goes on without pause."""
    window = 100
    with (
        Subscriber(broker, second) as subscriber,
        SerialDevice("boiler", folder, rate=200) as boiler,
        Gateway(
            configuration(
                folder,
                brokers=[broker.url, second.url],
                devices=[boiler],
                uplink={"failback": "1s", "window": window},
            )
        ) as gateway,
    ):
        gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        subscriber.wait(lambda arrivals: _reading_at(arrivals, broker, 0), 5, "readings over the first broker")
        broker.kill()
        killed = time.monotonic()
        subscriber.wait(lambda arrivals: _reading_at(arrivals, second, killed), 5, "readings over the second broker")
        returned = time.monotonic()
        broker.start()
        subscriber.wait(lambda arrivals: _reading_at(arrivals, broker, returned), 10, "readings over the first again")
        back = time.monotonic()
        assert back - returned > 1.0
        subscriber.wait_for_topic(STATUS, b"offline", 5, broker=second.name)

        during = [arrival.at for arrival in subscriber.arrivals if returned <= arrival.at <= back]
        assert max(later - earlier for earlier, later in pairwise(during)) < 0.5
        assert _finish(gateway, boiler, subscriber) <= window  # for the one link that was lost
    with Subscriber(broker, second, name="later") as later:
        for each in (broker, second):
            assert later.wait_for_topic(STATUS, b"offline", 5, broker=each.name).retained


def test_starts_and_collects_without_any_broker(folder: Path, broker: Mosquitto) -> None:
    """With no broker at all it is ready, takes readings in and keeps them; all arrive when the broker is there."""
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=500) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler])) as gateway,
    ):
        broker.stop()
        gateway.start(ready=5)
        boiler.wait_opened(5)
        boiler.resume()
        figures = gateway.wait_figures(
            lambda figures: figures["uplinks"]["cloud"]["waiting"] > 300 and figures["outbox"]["commits"], 10, "stored"
        )
        assert figures["uplinks"]["cloud"]["broker"] is None
        broker.start()
        assert _finish(gateway, boiler, subscriber) == 0


def test_status_is_retained_and_the_last_will_tells_of_a_sigkill(folder: Path, broker: Mosquitto) -> None:
    """Whoever comes later is told `online`, after a SIGKILL `offline`, and after an orderly stop too."""
    device_status = "sensors/gw/boiler/status"
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=100) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler])) as gateway,
    ):
        gateway.start()
        boiler.wait_opened(5)
        subscriber.wait_for_topic(device_status, b"online", 5)
        with Subscriber(broker, name="second") as second:
            assert second.wait_for_topic(STATUS, b"online", 5).retained
            assert second.wait_for_topic(device_status, b"online", 5).retained
        gateway.kill()
        subscriber.wait_for_topic(STATUS, b"offline", 5)
        with Subscriber(broker, name="third") as third:
            assert third.wait_for_topic(STATUS, b"offline", 5).retained
        gateway.start()
        boiler.wait_opened(5)
        with Subscriber(broker, name="fourth") as fourth:
            fourth.wait_for_topic(STATUS, b"online", 5)
            fourth.wait_for_topic(device_status, b"online", 5)
            assert gateway.stop().status == 0
            fourth.wait_for_topic(STATUS, b"offline", 5)
            fourth.wait_for_topic(device_status, b"offline", 5)


@contextmanager
def _first_choice(folder: Path, what: str) -> Iterator[str]:
    """Give the URL of a broker that cannot be used, for the reason named."""
    if what == "name":
        yield f"mqtt://{NO_SUCH_NAME}:1883"
    elif what == "unreachable":
        yield f"mqtt://127.0.0.1:{free_port()}"
    elif what == "untrusted":
        with Mosquitto(folder, "untrusted", certificates=Certificates.make(folder)) as broker:
            yield broker.url
    elif what == "refused":
        with Mosquitto(folder, "refused", users={"somebody": "else"}) as broker:
            yield broker.url
    else:
        with Mosquitto(folder, "mute") as broker:
            broker.freeze()
            yield broker.url


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("name", "name"),
        ("unreachable", "refused"),
        ("untrusted", "certificate"),
        ("refused", "auth"),
        ("mute", "does not answer"),
    ],
)
def test_a_broker_that_cannot_be_used_is_passed_over(folder: Path, second: Mosquitto, what: str, said: str) -> None:
    """Whatever keeps the first broker from being used, readings go over the next, and the log says why, once."""
    with (
        _first_choice(folder, what) as url,
        Subscriber(second) as subscriber,
        SerialDevice("boiler", folder, rate=200) as boiler,
        Gateway(
            configuration(
                folder,
                brokers=[url, second.url],
                devices=[boiler],
                uplink={
                    "connect_timeout": "500ms",
                    "username": "gw",
                    "password": {"env": "PASSWORD"},
                    "failback": "1s",
                },
            ),
            environ={"PASSWORD": "not-for-your-eyes"},
        ) as gateway,
    ):
        gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        boiler.wait_written(300, 10)
        assert _finish(gateway, boiler, subscriber) == 0
        why = [line for line in gateway.log_lines if url in line and "cannot use" in line]
        assert len(why) == 1, gateway.log
        assert said in why[0]
        assert "not-for-your-eyes" not in gateway.log + gateway.told.status


def test_tls_and_a_password_lead_to_a_broker_that_wants_them(folder: Path) -> None:
    """With the right authority and the right password, readings arrive over TLS."""
    certificates = Certificates.make(folder)
    with (
        Mosquitto(folder, "strict", users={"gw": "sesame"}, certificates=certificates) as broker,
        SerialDevice("boiler", folder, rate=200) as boiler,
        Gateway(
            configuration(
                folder,
                brokers=[broker.url],
                devices=[boiler],
                uplink={
                    "username": "gw",
                    "password": {"env": "PASSWORD"},
                    "tls": {"ca": str(certificates.certificate)},
                },
            ),
            environ={"PASSWORD": "sesame"},
        ) as gateway,
    ):
        gateway.start()
        boiler.wait_opened(5)
        boiler.resume()
        boiler.wait_written(100, 10)
        gateway.wait_figures(lambda figures: figures["uplinks"]["cloud"]["delivered"] >= 100, 10, "delivered over TLS")
        assert gateway.stop().status == 0
