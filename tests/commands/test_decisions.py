"""Whether a command may be carried out, and what a metric can be set to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Metric
from gateway.devices.commands import LARGEST, Answered, Arrival, Asked, fit, parse, patience, published

NOW, STARTED, AGE = 1_800_000_000.0, 1_799_990_000.0, 30.0
HERE = Arrival()


def said(**content: Any) -> bytes:
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"21.5", 21.5),
        (b" 7\n", 7),
        (b"true", True),
        (b'"on"', "on"),
        (b"on", "on"),
        ("größer".encode(), "größer"),
        (b'{"value": 3}', 3),
        (b"1e999", "1e999"),
    ],
)
def test_a_payload_is_a_plain_value_or_an_object(payload: bytes, value: Any) -> None:
    """What a person types into mosquitto_pub is enough."""
    asked = parse(payload)
    assert asked == Asked(asked.content)
    assert asked.content["value"] == value
    assert type(asked.content["value"]) is type(value)


def test_an_object_says_who_when_and_until_when() -> None:
    """Times are in UTC milliseconds, as in readings; a number is an id as well."""
    assert parse(said(value=1, id=17, ts=NOW * 1000, expires=NOW * 1000 + 500)) == Asked(
        {"value": 1, "id": 17, "ts": NOW * 1000, "expires": NOW * 1000 + 500}, "17", NOW, NOW + 0.5
    )


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "nothing in it"),
        (b"  ", "nothing in it"),
        (b"{", "not valid JSON"),
        (b"\xff", "not UTF-8"),
        (b"{}", 'no "value"'),
        (b"x" * (LARGEST + 1), "longer than"),
        (said(value=1, id=True), "neither text nor"),
        (said(value=1, id=""), "1 to 256"),
        (said(value=1, id="x" * 257), "1 to 256"),
        (said(value=1, ts="now"), "ts is no number"),
        (said(value=1, expires=[]), "expires is no number"),
    ],
)
def test_what_is_no_command_is_refused_with_the_reason(payload: bytes, reason: str) -> None:
    """Whoever sent it is told what is wrong with it."""
    with pytest.raises(ValueError, match=reason):
        parse(payload)


@given(st.binary(max_size=200))
def test_any_payload_is_read_or_refused(payload: bytes) -> None:
    """Anybody can publish anything."""
    try:
        asked = parse(payload)
    except ValueError:
        return
    assert "value" in asked.content


def asked(**more: Any) -> Asked:
    return Asked({"value": 1}, **more)


@pytest.mark.parametrize(
    ("command", "arrival", "seconds"),
    [
        (asked(), HERE, AGE),
        (asked(), Arrival(left=4), 4.0),
        (asked(), Arrival(left=4, kept=True), 4.0),
        (asked(time=NOW - 10), HERE, AGE - 10),
        (asked(time=NOW - 10, expires=NOW + 7), Arrival(kept=True), 7.0),
        (asked(time=NOW - 10, id="1"), Arrival(again=True), AGE - 10),
        (asked(time=NOW + 4), HERE, AGE),
        (asked(expires=NOW + 3600), HERE, AGE),
    ],
)
def test_how_long_a_command_may_wait(command: Asked, arrival: Arrival, seconds: float) -> None:
    """The least counts of what is left by ts and max_age, by expires and by the broker's own count."""
    assert patience(command, arrival, NOW, STARTED, AGE) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("command", "arrival", "now", "reason"),
    [
        (asked(), Arrival(retained=True), NOW, "retained"),
        (asked(), Arrival(kept=True), NOW, "needs ts or expires"),
        (asked(id="1"), Arrival(kept=True), NOW, "needs ts or expires"),
        (asked(), Arrival(again=True), NOW, "delivered again"),
        (asked(id="1"), Arrival(again=True), NOW, "delivered again"),
        (asked(time=NOW), Arrival(again=True), NOW, "delivered again"),
        (asked(), Arrival(left=0), NOW, "expired"),
        (asked(expires=NOW), HERE, NOW, "expired"),
        (asked(expires=NOW - 5, time=NOW - 10), HERE, NOW, "expired"),
        (asked(time=NOW - AGE), HERE, NOW, "30 s old, and may be 30 s old"),
        (asked(time=NOW - 3600, expires=NOW + 3600), HERE, NOW, "3600 s old"),
        (asked(time=NOW + 6), HERE, NOW, "in the future"),
        (asked(time=STARTED - 1), HERE, STARTED + 2, "before the gateway started"),
        (asked(time=NOW), HERE, None, "clock is not set"),
        (asked(expires=NOW + 1), HERE, None, "clock is not set"),
    ],
)
def test_what_is_never_carried_out(command: Asked, arrival: Arrival, now: float | None, reason: str) -> None:
    """What is old, or may be, or may have been carried out before, is refused; and so is what nobody can know."""
    with pytest.raises(ValueError, match=reason):
        patience(command, arrival, now, STARTED, AGE)


@given(
    age=st.floats(-100, 100),
    expires=st.floats(-100, 100) | st.none(),
    left=st.floats(0, 100) | st.none(),
    kept=st.booleans(),
)
def test_nothing_waits_longer_than_max_age(
    age: float, expires: float | None, left: float | None, *, kept: bool
) -> None:
    """Whatever a command says of itself, it is begun within max_age of when it was sent, by the gateway's clock."""
    command = asked(time=NOW - age, expires=None if expires is None else NOW + expires)
    try:
        seconds = patience(command, Arrival(left=left, kept=kept), NOW, STARTED, AGE)
    except ValueError:
        return
    assert 0 < seconds <= AGE
    assert seconds <= AGE - age + 1e-6
    assert expires is None or seconds <= expires + 1e-6
    assert left is None or seconds <= left


def test_only_the_newest_are_remembered() -> None:
    """The memory of ids is bounded."""
    answered = Answered[int](limit=3)
    for number in range(5):
        answered.put(str(number), number)
    assert [answered.get(str(number)) for number in range(5)] == [None, None, 2, 3, 4]
    assert len(answered) == 3


@pytest.mark.parametrize(
    ("metric", "value", "device_has"),
    [
        (Metric(), 3, 3),
        (Metric(), "any", "any"),
        (Metric(), True, True),
        (Metric(scale=0.1), 21.7, 217),
        (Metric(scale=0.1, offset=-40), 21.7, 617),
        (Metric(scale=3), 1, 0.333333333333),
        (Metric(min=5, max=5), 5, 5),
        (Metric(kind="binary"), 1, True),
        (Metric(kind="binary"), "OFF", False),
        (Metric(kind="binary"), True, True),
        (Metric(kind="enum", options=["on", "off"]), "on", "on"),
        (Metric(kind="text"), 17, "17"),
    ],
)
def test_a_value_is_what_the_device_has(metric: Metric, value: Any, device_has: Any) -> None:
    """The sender speaks of the published value, the device of its own, and back again it is the same."""
    fitting = fit(value, metric)
    assert fitting == device_has
    assert type(fitting) is type(device_has)
    if metric.scale != 3 and metric.kind is None:
        assert published(fitting, metric) == value


@pytest.mark.parametrize(
    ("metric", "value", "reason"),
    [
        (Metric(), None, "neither number nor text"),
        (Metric(), [1], "neither number nor text"),
        (Metric(), "x" * 1025, "longer than 1024"),
        (Metric(), float("nan"), "can be carried"),
        (Metric(), 2**63, "can be carried"),
        (Metric(max=5), 5.1, "above 5"),
        (Metric(min=5), -1, "below 5"),
        (Metric(max=5), True, "not a number"),
        (Metric(max=5), "3", "not a number"),
        (Metric(kind="measurement"), "3", "not a number"),
        (Metric(scale=0), 3, "multiplies it by 0"),
        (Metric(kind="binary"), 2, "neither true nor false"),
        (Metric(kind="binary"), "x", "neither true nor false"),
        (Metric(kind="enum", options=["on", "off"]), "auto", "none of on, off"),
        (Metric(kind="enum", options=["on", "off"]), True, "none of on, off"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(metric: Metric, value: Any, reason: str) -> None:
    """What the metric cannot be never reaches the device."""
    with pytest.raises(ValueError, match=reason):
        fit(value, metric)


@given(st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9).map(lambda x: round(x, 3)), st.sampled_from([0.1, 0.5, 10]))
def test_scale_is_undone(value: float, scale: float) -> None:
    """What is set is what is read back, to as many digits as any sensor has."""
    metric = Metric(scale=scale, offset=3)
    assert published(fit(value, metric), metric) == pytest.approx(value, rel=1e-9, abs=1e-9)
