"""Devices: what is taken in, what is skipped, and how a device is kept running whatever happens to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from gateway import RESERVED, Adapter, Device, DeviceError, Metric
from gateway.backoff import Backoff
from gateway.devices import HIGHEST, LONGEST_NAME, LONGEST_TEXT, LOWEST, PATIENCE, is_plain, plan, shape
from gateway.devices.metrics import Shaped
from tests.adapters.notebook import Notebook, running


class Scripted(Adapter):
    """Does in its n-th run what the n-th step says, and the last step for ever."""

    steps: tuple[Callable[[Device], Any], ...]

    async def run(self, device: Device) -> None:
        step = self.steps[0]
        if len(self.steps) > 1:
            object.__setattr__(self, "steps", self.steps[1:])
        await step(device)


async def rest(device: Device) -> None:
    """Be there, and say no more."""
    device.online()
    await asyncio.Event().wait()


async def speak(device: Device) -> None:
    await device.emit({"n": 1})
    await asyncio.Event().wait()


def failing(error: BaseException, *, online: bool = False, reading: bool = False) -> Callable[[Device], Any]:
    async def step(device: Device) -> None:
        if online:
            device.online()
        if reading:
            await device.emit({"n": 0})
        raise error

    return step


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(logs: list[Any], level: str) -> list[str]:
    return [line["event"] for line in logs if line["log_level"] == level]


# ---- shape: what is taken in

plain_values = st.one_of(
    st.booleans(),
    st.integers(LOWEST, HIGHEST),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
any_values = st.one_of(plain_values, st.integers(), st.floats(), st.none(), st.text(), st.binary(), st.lists(st.none()))
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@given(st.dictionaries(names.filter(lambda name: name not in RESERVED), plain_values))
def test_whatis_plain_is_taken_in_as_it_is(values: dict[str, Any]) -> None:
    """Values that every format can carry are neither changed nor left out."""
    assert shape(values, plan({}), {}, 0.0) == Shaped(values)


@given(st.dictionaries(st.one_of(st.text(), names, st.sampled_from(sorted(RESERVED))), any_values))
def test_whatever_comes_what_is_taken_in_can_be_carried(values: dict[str, Any]) -> None:
    """Everything taken in is plain and bounded, nothing vanishes without a reason, shaping again changes nothing."""
    shaped = shape(values, plan({}), {}, 0.0)
    assert len(shaped.values) + len(shaped.faults) == len(values)
    assert RESERVED.isdisjoint(shaped.values)
    for name, value in shaped.values.items():
        assert name.isprintable()
        assert 0 < len(name) <= LONGEST_NAME + 8
        assert type(value) in (bool, int, float, str)
        str(value).encode()
        if type(value) is int:
            assert LOWEST <= value <= HIGHEST
        if type(value) is float:
            assert math.isfinite(value)
    assert shape(shaped.values, plan({}), {}, 0.0).values == shaped.values


@given(st.dictionaries(st.one_of(names, st.sampled_from(sorted(RESERVED))), any_values))
def test_the_short_way_is_taken_only_where_the_long_way_changes_nothing(values: dict[str, Any]) -> None:
    """A reading that the quick look lets through is one that `shape` returns unchanged."""
    if is_plain(values, set(values) - RESERVED):
        shaped = shape(values, plan({}), {}, 0.0)
        assert shaped == Shaped(values)
        assert [type(value) for value in shaped.values.values()] == [type(value) for value in values.values()]


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (2**63, float(2**63)),
        (-(2**63) - 1, -float(2**63)),
        (10**400, None),
        (math.nan, None),
        (-math.inf, None),
        ("x" * LONGEST_TEXT, "x" * LONGEST_TEXT),
        ("x" * (LONGEST_TEXT + 1), None),
        ("\ud800", None),
        ("21 °C", "21 °C"),
        (None, None),
        (b"bytes", None),
        (IntEnum("Level", {"HIGH": 3}).HIGH, 3),
        (Enum("Word", {"OPEN": "open"}, type=str).OPEN, "open"),
    ],
)
def test_a_value_that_cannot_be_carried_is_left_out_with_a_reason(value: Any, taken: Any) -> None:
    """Big integers become floats; what is not finite, too long or no value at all is left out, and the rest stays."""
    shaped = shape({"good": 1, "value": value}, plan({}), {}, 0.0)
    assert shaped.values == ({"good": 1} if taken is None else {"good": 1, "value": taken})
    assert len(shaped.faults) == (taken is None)
    if taken is not None:
        assert type(shaped.values["value"]) is type(taken)


@pytest.mark.parametrize("name", ["", "x" * (LONGEST_NAME + 1), "a\nb", "\0", "\ud800", 7])
def test_a_name_that_cannot_be_published_is_left_out_with_a_reason(name: Any) -> None:
    """Noise on the line does not become the name of a metric."""
    shaped = shape({name: 1, "good": 2}, plan({}), {}, 0.0)
    assert shaped.values == {"good": 2}
    assert len(shaped.faults) == 1


def test_a_reserved_name_gets_an_underscore_and_overwrites_nothing() -> None:
    """A device's own `seq` does not collide with the payload's, nor with a metric called `seq_`."""
    assert shape({"seq": 1, "ts": 2}, plan({}), {}, 0.0).values == {"seq_": 1, "ts_": 2}
    assert shape({"seq": 1, "seq_": 5}, plan({}), {}, 0.0).values == {"seq__": 1, "seq_": 5}


def test_scale_multiplies_numbers_only_and_adds_no_noise() -> None:
    """217 tenths are 21.7 and not 21.700000000000003; true and text are not scaled."""
    metrics = {key: Metric(scale=0.1) for key in ("t", "on", "word")} | {
        "big": Metric(scale=1e300),
        "half": Metric(scale=2.5),
    }
    shaped = shape({"t": 217, "on": True, "word": "x", "big": 1e300, "half": 3, "other": 5}, plan(metrics), {}, 0.0)
    assert shaped.values == {"t": 21.7, "on": True, "word": "x", "half": 7.5, "other": 5}
    assert shaped.values["on"] is True
    assert [name for _, name in shaped.faults] == ["big"]


@pytest.mark.parametrize("fields", [{"scale": math.nan}, {"deadband": math.inf}, {"deadband": -1}, {"scal": 1}])
def test_a_metric_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    """A mistake is found when the config is read."""
    with pytest.raises(ValidationError):
        Metric(**fields)


async def test_a_deadband_compares_with_the_value_last_taken_in() -> None:
    """Small steps add up until they are worth a reading; a reading of which nothing is left is not taken in."""
    notes = Notebook()
    device = notes.device("d", Scripted(steps=(rest,)), {"t": Metric(scale=0.1, deadband=0.2)})
    for tenths in (215, 216, 214, 217, 218, 216, 215):
        await device.emit({"t": tenths})
    assert notes.of("d") == [{"t": 21.5}, {"t": 21.7}, {"t": 21.5}]
    assert (device.taken_in, device.unchanged, device.skipped) == (3, 4, {})
    await device.emit({"t": 215, "door": True})
    assert notes.of("d")[-1] == {"door": True}


# ---- emit and skip


async def test_what_was_taken_in_belongs_to_the_gateway() -> None:
    """An adapter may use one mapping for all its readings."""
    notes = Notebook()
    device = notes.device("d", Scripted(steps=(rest,)))
    mine = {"n": 0}
    for n in range(3):
        mine["n"] = n
        await device.emit(mine)
    assert notes.of("d") == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_emit_waits_when_the_gateway_is_behind() -> None:
    """What `put` answers with is waited for, which slows the device down."""
    notes, room = Notebook(), asyncio.Event()

    def put(stream: str, values: dict[str, Any], time: float | None) -> Any:
        notes.put(stream, values, time)
        return room.wait()

    device = notes.device("d", Scripted(steps=(rest,)), put=put)
    emitting = asyncio.create_task(device.emit({"n": 1}))
    await notes.until(lambda: bool(notes.readings))
    await asyncio.sleep(0)
    assert not emitting.done()
    room.set()
    await emitting
    assert device.taken_in == 1


async def test_a_device_time_that_is_no_number_is_left_out() -> None:
    """A reading whose own time is not finite keeps the gateway's."""
    notes = Notebook()
    device = notes.device("d", Scripted(steps=(rest,)))
    for time in (1.5, math.nan, math.inf, None):
        await device.emit({"n": 1}, time)
    assert [time for _, _, time in notes.readings] == [1.5, None, None, None]
    assert device.skipped == {"device time that is not finite": 2}


async def test_empty_readings_and_bad_values_are_counted() -> None:
    """Nothing disappears without being counted, and an empty reading is not taken in."""
    notes = Notebook()
    device = notes.device("d", Scripted(steps=(rest,)))
    await device.emit({})
    await device.emit({"t": math.nan})
    await device.emit({"t": math.nan, "h": 40})
    assert notes.of("d") == [{"h": 40}]
    assert device.taken_in == 1
    assert device.skipped == {"nothing in it": 1, "not a finite number": 2}


async def test_a_reserved_name_is_said_once() -> None:
    """One line for each name, not one for each reading."""
    notes = Notebook()
    device = notes.device("d", Scripted(steps=(rest,)))
    with capture_logs() as logs:
        for n in range(5):
            await device.emit({"seq": n})
    assert notes.of("d") == [{"seq_": n} for n in range(5)]
    assert lines(logs, "warning") == ['d: "seq" is a reserved name; published as "seq_"']


def test_skips_are_counted_each_and_said_seldom() -> None:
    """The first of a reason is a line, the rest of a minute one more, with a bounded and escaped sample."""
    clock = Clock()
    device = Notebook().device("d", Scripted(steps=(rest,)), clock=clock)
    with capture_logs() as logs:
        for _ in range(1000):
            device.skip("not JSON", b"\x1b[31m" + b"\xff" * 500)
        device.skip("not CSV")
        clock.now += 61
        device.skip("not JSON", b"{oops")
    first, other, later = lines(logs, "warning")
    assert first.startswith("d: skipped: not JSON: '\\x1b[31m\\xff")
    assert len(first) < 100
    assert other == "d: skipped: not CSV"
    assert later == "d: skipped 1000 more: not JSON: '{oops'"
    assert device.skipped == {"not JSON": 1001, "not CSV": 1}


def test_endless_different_reasons_take_bounded_memory() -> None:
    """An adapter that puts the content into the reason fills neither memory nor log."""
    device = Notebook().device("d", Scripted(steps=(rest,)))
    with capture_logs() as logs:
        for n in range(10_000):
            device.skip(f"bad line {n}")
    assert sum(device.skipped.values()) == 10_000
    assert len(device.skipped) == len(logs) < 100


# ---- kept running


async def test_a_failure_is_said_once_and_a_recovery_once() -> None:
    """One warning with the reason, silence for the repeats, one line with how long it was away."""
    notes, clock = Notebook(), Clock()

    async def come_back(device: Device) -> None:
        clock.now += 12
        await speak(device)

    gone = failing(DeviceError("unplugged (/dev/ttyUSB0)"))
    device = notes.device("boiler", Scripted(steps=(speak_then_fail, gone, gone, gone, come_back)), clock=clock)
    with capture_logs() as logs:
        async with running(device):
            await notes.until(lambda: len(notes.readings) == 2)
            assert device.state == "online"
            assert device.reason is None
        said = [line for line in logs if line["log_level"] != "debug"]
    assert [line["event"] for line in said] == [
        "boiler: online",
        "boiler: unplugged (/dev/ttyUSB0)",
        "boiler: back after 12 s (4 attempts)",
    ]
    assert [line["log_level"] for line in said] == ["info", "warning", "info"]
    assert notes.states == [("boiler", True), ("boiler", False), ("boiler", True), ("boiler", False)]
    assert (device.failures, device.taken_in, device.state) == (4, 2, "absent")


async def speak_then_fail(device: Device) -> None:
    await device.emit({"n": 0})
    raise DeviceError("unplugged (/dev/ttyUSB0)")


async def test_a_new_reason_is_said_when_it_stays_and_a_missing_port_never() -> None:
    """After an unplug, "permission denied" is news once it has lasted; "not there" is not news."""
    notes, clock = Notebook(), Clock()

    def later(error: OSError) -> Callable[[Device], Any]:
        async def step(device: Device) -> None:
            clock.now += PATIENCE
            raise error

        return step

    missing, forbidden = later(FileNotFoundError("not there")), later(PermissionError("permission denied"))
    steps = (failing(DeviceError("unplugged")), missing, missing, missing, forbidden, forbidden, forbidden, speak)
    device = notes.device("d", Scripted(steps=steps), clock=clock)
    with capture_logs() as logs:
        async with running(device):
            await notes.until(lambda: bool(notes.readings))
    assert lines(logs, "warning") == ["d: unplugged", "d: still away: permission denied"]


@pytest.mark.parametrize(
    "error",
    [ValueError("oops"), ExceptionGroup("both", [DeviceError("gone"), KeyError("bug")]), asyncio.CancelledError()],
)
async def test_a_bug_in_an_adapter_is_said_with_its_traceback_and_tried_again_late(error: BaseException) -> None:
    """Whatever an adapter raises, its device goes on after the longest delay, and the log says where to look, once."""
    notes = Notebook()
    broken = failing(error)
    device = notes.device("d", Scripted(steps=(broken, broken, speak)), bug_delay=0.0, backoff=never())
    with capture_logs() as logs:
        async with running(device):
            await notes.until(lambda: bool(notes.readings))
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["event"].startswith("d: a bug in Scripted: ")
    assert line["exc_info"] is error
    assert device.failures == 2


def never() -> Backoff:
    """A back-off that fails the test when it is asked: bugs wait for the longest delay."""

    def refuse(low: float, high: float) -> float:
        raise AssertionError

    return Backoff(1.0, 1.0, uniform=refuse)


async def test_absences_inside_a_task_group_are_absences() -> None:
    """An adapter that runs several tasks raises a group; if all in it is absence, so is the group."""
    notes = Notebook()
    gone = failing(ExceptionGroup("tasks", [DeviceError("unplugged"), ExceptionGroup("more", [TimeoutError()])]))
    with capture_logs() as logs:
        async with running(notes.device("d", Scripted(steps=(gone, speak)))):
            await notes.until(lambda: bool(notes.readings))
    assert lines(logs, "warning") == ["d: unplugged"]
    assert not lines(logs, "error")


async def test_back_off_grows_until_a_reading_and_not_until_an_open() -> None:
    """A port that opens and breaks is not tried faster for it; a reading starts the back-off again."""
    notes = Notebook()
    ceilings: list[float] = []

    def uniform(low: float, high: float) -> float:
        ceilings.append(high)
        return 0.0

    opens, reads = failing(DeviceError("gone"), online=True), failing(DeviceError("gone"), reading=True)
    device = notes.device(
        "d", Scripted(steps=(opens, opens, opens, reads, opens, speak)), backoff=Backoff(1.0, 60.0, uniform=uniform)
    )
    async with running(device):
        await notes.until(lambda: len(notes.readings) == 2)
    assert ceilings == [1.0, 2.0, 4.0, 1.0, 2.0]


async def test_a_port_that_opens_and_breaks_in_a_circle_is_quiet() -> None:
    """A device that was there for a moment without a reading is believed again only when it reads."""
    notes = Notebook()
    circle = failing(DeviceError("input/output error"), online=True)
    with capture_logs() as logs:
        async with running(notes.device("d", Scripted(steps=(*[circle] * 20, speak)))):
            await notes.until(lambda: bool(notes.readings))
            assert notes.states == [("d", True), ("d", False), ("d", True)]
    assert lines(logs, "warning") == ["d: input/output error"]
    assert len(lines(logs, "info")) == 2


async def test_a_device_that_lasted_is_believed_without_a_reading() -> None:
    """A scale that nobody uses is plugged in and out: each time is said, for it was there for a while."""
    notes, clock = Notebook(), Clock()

    async def unused(device: Device) -> None:
        device.online()
        clock.now += PATIENCE
        raise DeviceError("unplugged")

    device = notes.device("d", Scripted(steps=(unused, unused, speak)), clock=clock)
    async with running(device):
        await notes.until(lambda: bool(notes.readings))
    assert [online for _, online in notes.states] == [True, False] * 3


async def test_a_doubted_device_that_stays_is_believed_after_a_while() -> None:
    """After a moment's contact a device need not read to be believed; it is enough that it lasts."""
    notes = Notebook()
    moment = failing(DeviceError("a loose plug"), online=True)
    device = notes.device("d", Scripted(steps=(moment, moment, rest)), patience=0.01)
    device._clock = Clock()
    async with running(device):
        await notes.until(lambda: len(notes.states) == 3)
        assert device.failures == 2
    assert [online for _, online in notes.states] == [True, False, True, False]


async def test_a_doubted_device_that_fails_is_not_believed_later() -> None:
    """What an attempt might have proven ends with the attempt; saying "online" twice changes nothing."""
    notes = Notebook()
    loop = asyncio.get_running_loop()

    async def absent(device: Device) -> None:
        hoping = [timer for timer in loop._scheduled if not timer.cancelled() and timer._callback == device._arrive]  # type: ignore[attr-defined]
        await device.emit({"hoping": len(hoping)})
        await rest(device)

    async def twice(device: Device) -> None:
        device.online()
        device.online()
        raise DeviceError("a loose plug")

    async with running(notes.device("d", Scripted(steps=(twice, twice, twice, absent)))):
        await notes.until(lambda: bool(notes.readings))
    assert notes.of("d") == [{"hoping": 0}]


async def test_a_device_that_returned_is_finished() -> None:
    """An adapter that has nothing more to say ends its device, which is then offline."""
    notes = Notebook()

    async def once(device: Device) -> None:
        await device.emit({"n": 1})

    device = notes.device("d", Scripted(steps=(once,)))
    with capture_logs() as logs:
        await asyncio.wait_for(device.run(), 10)
    assert device.state == "finished"
    assert notes.states == [("d", True), ("d", False)]
    assert lines(logs, "info")[-1] == "d: finished: it has nothing more to say"


async def test_cancellation_ends_a_device_and_closes_what_it_opened() -> None:
    """A stop reaches the adapter, and the device is offline afterwards."""
    notes, closed = Notebook(), asyncio.Event()

    async def tidy(device: Device) -> None:
        try:
            await speak(device)
        finally:
            closed.set()

    device = notes.device("d", Scripted(steps=(tidy,)))
    async with running(device) as (task,):
        await notes.until(lambda: bool(notes.readings))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert closed.is_set()
    assert notes.states == [("d", True), ("d", False)]


async def test_a_device_that_floods_breaks_or_hangs_does_not_hold_up_another() -> None:
    """Between two readings of a quiet device a flooding one gets at most a few bursts in, whatever the others do."""
    notes, burst = Notebook(), 100

    async def flood(device: Device) -> None:
        while True:
            await device.emit({"n": 1})

    async def quiet(device: Device) -> None:
        while True:
            await device.emit({"n": 1})
            await asyncio.sleep(0)

    def broken(device: Device) -> Any:
        raise RuntimeError("a bug")

    devices = [
        notes.device("flood", Scripted(steps=(flood,)), burst=burst),
        notes.device("broken", Scripted(steps=(broken,)), bug_delay=0.0),
        notes.device("hangs", Scripted(steps=(rest,))),
        notes.device("quiet", Scripted(steps=(quiet,))),
    ]
    async with running(*devices):
        await notes.until(lambda: len(notes.of("quiet")) >= 100)
    order = [stream for stream, _, _ in notes.readings]
    first, last = order.index("quiet"), len(order) - order[::-1].index("quiet")
    gaps = "".join("q" if stream == "quiet" else "f" for stream in order[first:last]).split("q")
    assert max(map(len, gaps)) <= 2 * burst
    assert order.count("flood") >= 100 * burst / 2
    assert devices[1].failures > 10


class Deaf(Adapter):
    """Takes a cancellation for a failure of its device."""

    async def run(self, device: Device) -> None:
        device.online()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise DeviceError("interrupted") from None


async def test_an_adapter_that_swallows_its_cancellation_is_stopped_all_the_same() -> None:
    """A stop does not depend on how well an adapter, or a library in it, behaves."""
    notes = Notebook()
    device = notes.device("deaf", Deaf())
    task = asyncio.create_task(device.run())
    await notes.until(lambda: device.state == "online")
    task.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait([task])
    assert task.cancelled()
