"""Windows: what the values of a span of time come to, each value counted once, whatever happens in between."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway import Metric, Value
from gateway.devices import plan
from gateway.devices.aggregating import Aggregating
from gateway.devices.metrics import Windows
from tests.adapters.notebook import Notebook
from tests.test_metrics import Clock, Nothing

ALL: Any = ["mean", "min", "max", "last", "count", "rate"]


def windows(**metrics: Metric) -> Windows:
    return Windows(plan(metrics).spans)


def fed(found: Windows, name: str, *values: tuple[float, float]) -> list[tuple[float, dict[str, Value]]]:
    """Add values at their times; return what was over before each."""
    ended = []
    for now, value in values:
        ended += found.close(now)
        found.add(name, value, now)
    return ended


def test_a_window_is_aligned_to_the_time_since_boot() -> None:
    """Windows of all devices begin and end together; one without a value is not published."""
    found = windows(p=Metric(window=10, aggregate=ALL))
    assert fed(found, "p", (1007.0, 5), (1008.0, 9), (1009.5, 7)) == []
    assert found.end == 1010.0
    assert found.close(1009.999) == []
    ((end, values),) = found.close(1010.0)
    assert end == 1010.0
    assert values == {"p_mean": 7.0, "p_min": 5, "p_max": 9, "p_last": 7, "p_count": 3, "p_rate": 0.8}
    assert (found.close(2000.0), found.end) == ([], math.inf)


def test_a_rate_counts_from_the_last_value_before_its_window() -> None:
    """What a counter does between two windows belongs to the second; one value alone has no rate."""
    found = windows(n=Metric(window=10, aggregate=["rate"]))
    ended = fed(found, "n", (1001.0, 100), (1011.0, 150), (1019.0, 280), (1021.0, 280))
    assert ended == [(1010.0, {}), (1020.0, {"n_rate": 10.0})]


def test_a_total_that_was_reset_has_no_rate() -> None:
    """A total_increasing that goes down was reset: a negative rate would be a lie. A total may go down."""
    for kind, rate in [("total_increasing", {}), ("total", {"n_rate": -8.0}), (None, {"n_rate": -8.0})]:
        found = windows(n=Metric(kind=kind, window=10, aggregate=["rate"]))
        fed(found, "n", (1001.0, 50), (1006.0, 10))
        assert found.close(1010.0) == [(1010.0, rate)]


def test_windows_of_one_length_are_one_reading_and_of_several_lengths_several() -> None:
    """What belongs together is sent together."""
    found = windows(
        a=Metric(window=10), b=Metric(window=10, precision=1, aggregate=["max", "mean"]), c=Metric(window=60)
    )
    for name in "abc":
        fed(found, name, (1001.0, 1.25), (1002.0, 1.5))
    assert found.close(1010.0) == [(1010.0, {"a_mean": 1.375, "b_max": 1.5, "b_mean": 1.4})]
    assert found.end == 1020.0
    assert found.close(1020.0) == [(1020.0, {"c_mean": 1.375})]


@given(st.lists(st.tuples(st.floats(0, 7), st.floats(-1e6, 1e6) | st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_each_value_is_counted_once_and_a_mean_lies_between(steps: list[tuple[float, float]]) -> None:
    """However values come: counts add up to what came, least <= mean <= most, the last is the last."""
    found = windows(p=Metric(window=10, aggregate=ALL))
    now, ended, times = 0.0, [], []
    for step, value in steps:
        now += step
        ended += found.close(now)
        found.add("p", value, now)
        times.append(now)
    ended += found.close(math.inf)
    assert sum(values["p_count"] for _, values in ended) == len(steps)  # type: ignore[misc]
    assert [end for end, _ in ended] == sorted({(at // 10 + 1) * 10 for at in times})
    assert ended[-1][1]["p_last"] == steps[-1][1]
    for _, values in ended:
        assert values["p_min"] <= values["p_mean"] <= values["p_max"]  # type: ignore[operator]


@example([(1.0, 1.5e308), (1.0, 1.5e308), (1.0, 0)], 2)
@given(
    st.lists(
        st.tuples(st.floats(0, 7), st.integers(-(2**63), 2**63 - 1) | st.floats(-1.5e308, 1.5e308)),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_a_restart_changes_nothing(steps: list[tuple[float, float]], at: int) -> None:
    """Windows that go through JSON at any moment come to what they would have come to without."""
    outcomes = []
    for restart in (None, min(at, len(steps))):
        found, now, ended = windows(p=Metric(window=10, aggregate=ALL)), 0.0, []
        for index, (step, value) in enumerate([*steps, (1000.0, 0)]):
            if index == restart:
                contents = orjson.loads(orjson.dumps(found.contents()))
                found = windows(p=Metric(window=10, aggregate=ALL))
                assert found.restore(contents) == 0
            now += step
            ended += found.close(now)
            found.add("p", value, now)
        outcomes.append(ended)
    assert outcomes[0] == outcomes[1]


# ---- with a clock and a card


class Sent:
    """What windows came to, with the time that it was sent with; can be waited for."""

    def __init__(self) -> None:
        self.readings: list[tuple[dict[str, Value], float | None]] = []
        self.came = asyncio.Event()

    def __call__(self, values: dict[str, Value], time: float | None) -> None:
        self.readings.append((values, time))
        self.came.set()


def aggregating(
    sent: Sent, path: Path | None, boot: Callable[[], float], *, boot_id: str = "b", **metrics: Metric
) -> Aggregating:
    metrics = metrics or {"p": Metric(window=10, aggregate=["mean", "count"])}
    log = structlog.get_logger()
    spans = plan(metrics).spans
    return Aggregating("d", spans, sent, path, log, boot=boot, wall=lambda: 5000.0 + boot(), boot_id=boot_id)


async def test_a_window_is_sent_when_it_is_over_and_not_when_the_next_value_comes() -> None:
    """A device that falls silent does not hold back what it has said."""
    sent, boot = Sent(), Clock(1009.99)
    async with aggregating(sent, None, boot) as found:
        found.add({"p": 4}, boot())
        boot.now = 1010.0
        async with asyncio.timeout(10):
            await sent.came.wait()
    assert sent.readings == [({"p_mean": 4.0, "p_count": 1}, None)]


async def test_an_open_window_survives_a_restart(tmp_path: Path) -> None:
    """What was in the window before the restart is in it afterwards, and it is sent once."""
    sent, boot, path = Sent(), Clock(1001.0), tmp_path / "d.json"
    async with aggregating(sent, path, boot) as found:
        found.add({"p": 4}, boot())
    boot.now = 1008.0
    async with aggregating(sent, path, boot) as found:
        found.add({"p": 8}, boot())
        assert sent.readings == []
        boot.now = 1012.0
        found.add({"p": 1}, boot())
    assert sent.readings == [({"p_mean": 6.0, "p_count": 2}, 5000.0 + 1010.0)]  # late, so with the time of its end


async def test_a_window_that_ended_while_the_gateway_was_away_has_the_time_of_its_end(tmp_path: Path) -> None:
    """It is sent at the start, and nobody takes it for one of now."""
    sent, boot, path = Sent(), Clock(1001.0), tmp_path / "d.json"
    async with aggregating(sent, path, boot) as found:
        found.add({"p": 4}, boot())
    boot.now = 1100.0
    async with aggregating(sent, path, boot):
        assert sent.readings == [({"p_mean": 4.0, "p_count": 1}, 5000.0 + 1010.0)]
    async with aggregating(sent, path, boot):
        assert len(sent.readings) == 1


async def test_a_window_of_another_boot_is_closed_at_the_start(tmp_path: Path) -> None:
    """Time since boot began anew: the window goes out with the time at which it was last known, its rate is over."""
    sent, boot, path = Sent(), Clock(1001.0), tmp_path / "d.json"
    metric = Metric(window=10, aggregate=["last", "rate"])
    async with aggregating(sent, path, boot, p=metric) as found:
        found.add({"p": 4}, boot())
    boot.now = 1500.0
    async with aggregating(sent, path, boot, boot_id="another", p=metric) as found:
        assert sent.readings == [({"p_last": 4}, 5000.0 + 1001.0)]
        found.add({"p": 5}, boot())
        found.finish()
    assert sent.readings[1] == ({"p_last": 5}, None)


async def test_a_window_that_is_declared_otherwise_now_is_given_up_with_a_word(tmp_path: Path) -> None:
    """A config with another length cannot go on with the old one, and says so."""
    sent, boot, path = Sent(), Clock(1001.0), tmp_path / "d.json"
    async with aggregating(sent, path, boot) as found:
        found.add({"p": 4}, boot())
    with capture_logs() as logs:
        async with aggregating(sent, path, boot, p=Metric(window=60)):
            pass
    assert [line["event"] for line in logs] == ["d: 1 open windows given up: they are no longer declared like that"]
    assert sent.readings == []


async def test_a_device_with_windows_sends_them_and_what_has_none_at_once() -> None:
    """One metric's window does not hold back another metric; text in a window is counted as a fault."""
    notes, boot = Notebook(), Clock(1001.0)
    metrics = {
        "p": Metric(window=10, min=0, outside="flag"),
        "on": Metric(window=10, kind="binary", aggregate=["mean", "last"]),
    }
    device = notes.device("d", Nothing(), metrics, boot=boot)
    await device.emit({"p": 4, "t": 20, "on": True})
    await device.emit({"p": -1, "on": "off"})
    await device.emit({"p": "x"})
    boot.now = 1011.0
    await device.emit({"p": 7})
    assert notes.of("d") == [{"t": 20}, {"p_mean": 1.5, "on_mean": 0.5, "on_last": 0}]
    assert type(notes.of("d")[1]["on_last"]) is int
    assert (device.taken_in, device.flagged) == (2, 1)
    assert device.skipped == {"text, of which a window can make nothing": 1}


async def test_a_device_that_has_nothing_more_to_say_closes_its_windows() -> None:
    """The last window of a device that ends is not kept back for ever."""
    notes = Notebook()

    class Once(Nothing):
        async def run(self, device: Any) -> None:
            await device.emit({"p": 4})

    device = notes.device("d", Once(), {"p": Metric(window=3600)})
    async with asyncio.timeout(10):
        await device.run()
    assert notes.of("d") == [{"p_mean": 4.0}]


@pytest.mark.parametrize("value", [1e308, 2**63 - 1])
def test_numbers_too_large_to_add_have_no_mean_or_the_right_one(value: float) -> None:
    """Nothing that is not finite passes."""
    found = windows(p=Metric(window=10, aggregate=["mean", "max"]))
    fed(found, "p", (1001.0, value), (1002.0, value))
    ((_, values),) = found.close(1010.0)
    assert values == ({"p_max": value} if isinstance(value, float) else {"p_mean": value, "p_max": value})
