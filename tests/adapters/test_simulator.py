"""The simulator: the same readings each time, at a rhythm that does not drift."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.simulator import Signal, Simulator, following
from gateway.devices.orders import Order, Outcome
from tests.adapters.notebook import Notebook, running


async def readings(**fields: object) -> list[object]:
    notes = Notebook()
    device = notes.device("d", Simulator(interval="0s", **fields))
    await asyncio.wait_for(device.run(), 20)
    assert device.state == "finished"
    assert device.skipped == {}
    return list(notes.of("d"))


async def test_a_seed_makes_the_readings_repeatable() -> None:
    """The same seed gives the same readings, another one others, and `count` ends them."""
    first = await readings(count=50, seed=7)
    assert len(first) == 50
    assert first == await readings(count=50, seed=7)
    assert first != await readings(count=50, seed=8)


async def test_without_a_word_of_config_it_is_a_thermometer() -> None:
    """A device with nothing but `adapter = "simulator"` gives plausible readings."""
    for reading in await readings(count=5):
        assert 18.0 <= reading["temperature"] <= 24.0  # type: ignore[index]
        assert 35.0 <= reading["humidity"] <= 45.0  # type: ignore[index]


@given(
    st.builds(
        dict,
        kind=st.sampled_from(["sine", "ramp", "random", "counter", "constant", "setpoint"]),
        low=st.integers(-100, 100),
        high=st.integers(100, 500),
    ),
    st.integers(0, 10**9),
    st.floats(0, 1e9),
)
def test_every_signal_stays_within_its_limits(fields: dict[str, object], index: int, elapsed: float) -> None:
    """No kind of signal leaves the range from low to high, ever."""
    value = Signal(**fields, period="10s").at(index, elapsed, random.Random(1))  # type: ignore[arg-type]
    assert isinstance(value, int | float)
    assert fields["low"] <= value <= fields["high"]  # type: ignore[operator]


def test_signals_go_as_they_are_called() -> None:
    """A sine passes its middle, top, middle and bottom; a ramp rises; a counter counts and starts again."""

    def values(kind: str) -> list[object]:
        signal = Signal(kind=kind, low=10, high=12, period="4s")  # type: ignore[arg-type]
        return [signal.at(index, float(index), random.Random(1)) for index in range(5)]

    assert values("sine") == [11.0, 12.0, 11.0, 10.0, 11.0]
    assert values("ramp") == [10.0, 10.5, 11.0, 11.5, 10.0]
    assert values("counter") == [10, 11, 12, 10, 11]
    assert values("constant") == [10.0] * 5


@given(st.floats(0, 1e6), st.floats(0.001, 100), st.lists(st.floats(0, 0.9), max_size=50))
def test_the_rhythm_does_not_drift(start: float, interval: float, lateness: list[float]) -> None:
    """However late each reading is, by less than an interval, the n-th stays due n intervals after the first."""
    deadline = start
    for part in lateness:
        deadline = following(deadline, interval, deadline + part * interval)
    assert deadline == pytest.approx(start + len(lateness) * interval)


def test_what_was_missed_is_not_made_up_for() -> None:
    """After a standstill the rhythm goes on from now, without a burst."""
    assert following(10.0, 1.0, 60.0) == 60.0
    assert following(60.0, 1.0, 60.0) == 61.0


@pytest.mark.parametrize(
    "fields",
    [
        {"signals": {}},
        {"signals": {"t": {"low": 2, "high": 1}}},
        {"signals": {"t": {"kind": "square"}}},
        {"signals": {"t": {"high": float("nan")}}},
        {"signals": {"t": {"period": "0s"}}},
        {"count": 0},
        {"interval": "1 sec"},
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    """A mistake is found when the config is read."""
    with pytest.raises(ValidationError):
        Simulator(**fields)


async def test_a_setpoint_is_what_it_was_set_to() -> None:
    """It begins low, is read back at once, stays, and takes nothing that is out of its range."""
    outcomes: list[Outcome] = []
    notes = Notebook()
    signals = {"level": Signal(kind="setpoint", low=2, high=8), "other": Signal(kind="constant", low=1)}
    adapter = Simulator(interval="1ms", signals=signals)
    assert [adapter.can_set(name) for name in ("level", "other", "none")] == [True, False, False]
    device = notes.device("d", adapter)
    async with running(device):
        await notes.until(lambda: len(notes.readings) > 2)
        assert notes.of("d")[0] == {"level": 2, "other": 1}
        for value in (5.5, 9, "full"):
            device.order(Order("level", value, None, outcomes.append), 10)
        await notes.until(lambda: len(outcomes) == 3)
        count = len(notes.readings)
        await notes.until(lambda: len(notes.readings) > count + 3)
    assert [outcome.result for outcome in outcomes] == ["done", "refused", "refused"]
    assert outcomes[0].read_back == 5.5
    levels = [reading["level"] for reading in notes.of("d")]
    assert set(levels) == {2, 5.5}
    assert levels == sorted(levels)
    assert {"level": 5.5} in notes.of("d")
