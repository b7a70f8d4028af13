"""GPIO inputs and counters on simulated lines: from the descriptor of the request on as with the kernel's."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adapters.gpio.counter import GpioCounter
from adapters.gpio.input import GpioInput
from adapters.ports.gpio_line import GpioLine, Wanted
from adapters.ports.simulated_gpio import SimulatedInput, Waves, open_simulated
from gateway import Adapter, DeviceError, Value
from tests.adapters.notebook import WAIT, Notebook, running


def simulated(kind: type[Adapter], **fields: Any) -> Any:
    return kind(line="GPIO17", backend="simulated", **fields)


class Wire:
    """The other end of a simulated input."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)

    def put(self, levels: str) -> None:
        descriptor = os.open(self.path, os.O_WRONLY)
        os.write(descriptor, levels.encode())
        os.close(descriptor)


@pytest.fixture
def wire(tmp_path: Path) -> Wire:
    return Wire(tmp_path / "line")


async def test_an_input_emits_its_state_and_each_change(wire: Wire) -> None:
    """The state at the start, then one reading for each edge, in order; what does not change makes none."""
    notes = Notebook()
    async with running(notes.device("door", simulated(GpioInput, simulated={"wire": wire.path}))):
        await notes.until(lambda: len(notes.readings) == 1)
        wire.put("1100\n1")
        await notes.until(lambda: len(notes.readings) == 4)
    assert [values["state"] for values in notes.of("door")] == [False, True, False, True]
    assert notes.states == [("door", True), ("door", False)]


async def test_a_change_has_the_time_at_which_the_kernel_saw_it(wire: Wire) -> None:
    """A loop that was busy with something else takes nothing from the time of an edge."""
    notes = Notebook()
    async with running(notes.device("door", simulated(GpioInput, simulated={"wire": wire.path}))):
        await notes.until(lambda: len(notes.readings) == 1)
        wire.put("1")
        time.sleep(0.2)  # the loop is held up
        await notes.until(lambda: len(notes.readings) == 2)
    assert notes.ages[0] == 0.0
    assert 0.1 < notes.ages[1] < WAIT


async def test_an_input_may_be_active_low_with_a_pull_up(wire: Wire) -> None:
    """A switch to ground with a pull-up is inactive while it is open."""
    notes = Notebook()
    keys = {"active_low": True, "bias": "pull-up", "metric": "closed", "edges": "rising", "duration": "for"}
    async with running(notes.device("door", simulated(GpioInput, simulated={"wire": wire.path}, **keys))):
        await notes.until(lambda: len(notes.readings) == 1)
        wire.put("0101")
        await notes.until(lambda: len(notes.readings) == 3)
    first, *rest = notes.of("door")
    assert first == {"closed": False}
    assert [values["closed"] for values in rest] == [True, True]
    assert "for" not in rest[0]
    assert 0 <= float(rest[1]["for"]) < WAIT


async def test_an_input_without_bounces(wire: Wire) -> None:
    """What bounces within the debounce time is one change."""
    notes = Notebook()
    async with running(notes.device("door", simulated(GpioInput, debounce="50ms", simulated={"wire": wire.path}))):
        await notes.until(lambda: len(notes.readings) == 1)
        wire.put("1010101")
        await notes.until(lambda: len(notes.readings) == 2)
        wire.put("010101010")
        await notes.until(lambda: len(notes.readings) == 3)
    assert [values["state"] for values in notes.of("door")] == [False, True, False]


async def test_an_input_repeats_its_state_at_an_interval() -> None:
    """A receiver that came later learns the state as well."""
    notes = Notebook()
    async with running(notes.device("door", simulated(GpioInput, interval="100ms"))):
        await notes.until(lambda: len(notes.readings) == 3)
    assert notes.of("door") == [{"state": False}] * 3


async def test_a_gateway_that_is_behind_stops_reading_and_loses_no_edge(wire: Wire) -> None:
    """While the outbox asks for patience, edges wait in the kernel; then all of them come, in order."""
    notes, gate = Notebook(), asyncio.Event()

    def put(stream: str, values: Any, time: Any, *rest: Any) -> Any:
        notes.put(stream, values, time)
        return None if gate.is_set() else gate.wait()

    gate.set()
    async with running(notes.device("door", simulated(GpioInput, simulated={"wire": wire.path}), put=put)):
        await notes.until(lambda: len(notes.readings) == 1)
        gate.clear()
        wire.put("1")
        await notes.until(lambda: len(notes.readings) == 2)
        wire.put("01" * 20)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(notes.readings) == 2
        gate.set()
        await notes.until(lambda: len(notes.readings) == 42)
    assert [values["state"] for values in notes.of("door")] == [n % 2 == 1 for n in range(42)]


async def test_a_counter_loses_no_pulse_at_a_thousand_a_second() -> None:
    """At 1 kHz, read by a loop that is stalled again and again, the count is what was sent, to the pulse."""
    notes = Notebook()
    adapter = simulated(GpioCounter, interval="100ms", report=["total", "frequency"], simulated={"frequency": 1000})
    start = time.monotonic()
    async with running(notes.device("meter", adapter)):
        while not notes.readings or int(notes.of("meter")[-1]["total"]) < 2000:
            time.sleep(0.02)
            await asyncio.sleep(0)
            assert time.monotonic() < start + WAIT
    last = notes.of("meter")[-1]
    assert 990 < float(last["frequency"]) < 1010
    totals = [int(values["total"]) for values in notes.of("meter")]
    assert totals == sorted(totals)
    assert totals[-1] <= (time.monotonic() - start) * 1000 + 1


@pytest.mark.parametrize("glitch", ["0s", pytest.param("0.3ms", marks=pytest.mark.alone)])
async def test_a_counter_counts_exactly_what_came_over_the_wire(wire: Wire, glitch: str) -> None:
    """A known number of pulses, in a burst that is more than the kernel keeps at once, is counted to the pulse."""
    notes = Notebook()
    adapter = simulated(GpioCounter, interval="100ms", glitch=glitch, simulated={"wire": wire.path})
    async with running(notes.device("meter", adapter)):
        await notes.until(lambda: notes.states == [("meter", True)])
        for _ in range(20):
            if glitch == "0s":
                wire.put("10" * 100)
            else:
                for level in "10" * 2:
                    wire.put(level)
                    await asyncio.sleep(0.01)  # each level has to last, which is what is measured here
        total = 2000 if glitch == "0s" else 40
        await notes.until(lambda: bool(notes.readings) and notes.of("meter")[-1]["total"] == total)


async def test_bounces_are_filtered_out_of_a_count() -> None:
    """A contact that bounces five times at each edge gives one pulse, with the filter, and eleven without."""
    waves = {"frequency": 20, "bounces": 5}
    filtered = await last_of(simulated(GpioCounter, interval="500ms", glitch="5ms", simulated=waves), 2)
    raw = await last_of(simulated(GpioCounter, interval="500ms", simulated=waves), 2)
    assert 19 < float(filtered["rate"]) < 21
    assert 150 < float(raw["rate"]) < 300


async def last_of(adapter: Adapter, readings: int) -> dict[str, Value]:
    notes = Notebook()
    async with running(notes.device("meter", adapter)):
        await notes.until(lambda: len(notes.readings) >= readings)
    return notes.of("meter")[-1]


async def test_a_total_goes_on_after_a_restart(tmp_path: Path, wire: Wire) -> None:
    """What was counted before a stop is the beginning of what is counted after it, also what was not reported yet."""
    memory = tmp_path / "memory" / "meter.json"
    adapter = simulated(GpioCounter, interval="1h", initial=1000, pulses_per_unit=10, simulated={"wire": wire.path})
    fast = adapter.model_copy(update={"interval": 0.1})

    async def one(kind: Any, pulses: int, readings: int) -> Notebook:
        notes = Notebook()
        device = notes.device("meter", kind, memory=memory)
        async with running(device):
            await notes.until(lambda: notes.states == [("meter", True)])
            wire.put("10" * pulses)
            await notes.until(lambda: len(notes.readings) >= readings)
            await asyncio.sleep(0.05)  # for the simulated kernel to see the wire
        return notes

    assert (await one(adapter, 7, 0)).readings == []
    await one(adapter, 5, 0)
    assert (await one(fast, 0, 1)).of("meter")[0]["total"] == 1001.2


async def test_what_was_reported_is_on_the_card_before(tmp_path: Path) -> None:
    """When a reading is taken in, its total is in the file: a kill at that moment does not take it back."""
    memory = tmp_path / "memory" / "meter.json"
    notes, written = Notebook(), []

    def put(stream: str, values: Any, time: Any, *rest: Any) -> None:
        written.append((values["total"], memory.read_text().split("\n")[0]))
        notes.put(stream, values, time)

    adapter = simulated(GpioCounter, interval="100ms", simulated={"frequency": 100})
    async with running(notes.device("meter", adapter, memory=memory, put=put)):
        await notes.until(lambda: len(written) == 5)
    assert all(f'{{"pulses":{total}}}' == text for total, text in written)


async def test_a_line_that_breaks_is_requested_again(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the chip of the line is unplugged, the device is absent, and the total goes on once it is back."""
    opened: list[Any] = []
    adapter = simulated(GpioCounter, interval="100ms", simulated={"wire": wire.path})
    request = GpioCounter.request

    def remembering(self: Any, wanted: Wanted) -> Any:
        inner = request(self, wanted)

        def call() -> Any:
            opened.append(inner())
            return opened[-1]

        return call

    monkeypatch.setattr(GpioCounter, "request", remembering)
    notes = Notebook()
    device = notes.device("meter", adapter)
    async with running(device):
        await notes.until(lambda: len(notes.states) == 1)
        wire.put("10" * 5)
        await notes.until(lambda: bool(notes.readings) and notes.of("meter")[-1]["total"] == 5)
        opened[0].unplug()
        await notes.until(lambda: len(notes.states) == 3)
        wire.put("10" * 5)
        await notes.until(lambda: notes.of("meter")[-1]["total"] == 10)
    assert [online for _, online in notes.states] == [True, False, True, False]
    assert device.failures == 1


async def test_a_wire_that_is_no_pipe_is_an_absent_device(tmp_path: Path) -> None:
    """A mistake in the simulation is said as one in the world would be."""
    (tmp_path / "line").write_text("")
    adapter = simulated(GpioInput, simulated={"wire": str(tmp_path / "line")})
    with pytest.raises(DeviceError, match="no named pipe"):
        await adapter.run(Notebook().device("door", adapter))


async def test_what_a_reader_raises_comes_out_where_it_is_awaited() -> None:
    """A bug in what is done with edges is not lost in a callback of the loop, whatever its kind."""

    def take(edges: Any) -> None:
        raise TimeoutError("not the end of the time")

    def request() -> Any:
        return open_simulated(Wanted("L"), frequency=100, duty=0.5, bounces=0, wire=None)

    with pytest.raises(TimeoutError, match="not the end"):
        async with GpioLine(request, take) as line:
            await line.lasts(asyncio.get_running_loop().time() + WAIT)


def test_waves_go_as_they_should() -> None:
    """Two pulses a second, a quarter of the time high, with one bounce at each edge."""
    waves, found = Waves(2.0, 0.25, 1), []
    for _ in range(12):
        found.append((waves.due(), waves.take()))
    at = [0, 100_000, 200_000, 125_000_000, 125_100_000, 125_200_000]
    levels = [True, False, True, False, True, False]
    once = list(zip(at, levels, strict=True))
    assert found == [*once, *((start + 500_000_000, level) for start, level in once)]
    assert Waves(0.0, 0.5, 0).due() is None


def test_a_simulated_input_refuses_to_be_driven() -> None:
    """An input is not an output."""
    request = SimulatedInput(Wanted("L"), Waves(0, 0.5, 0), None)
    with pytest.raises(PermissionError):
        request.set(True)
    request.release()


CHILD = """
import asyncio, sys
from pathlib import Path
from adapters.gpio.counter import GpioCounter
from tests.adapters.notebook import Notebook, running

async def main():
    notes = Notebook()

    def put(stream, values, *rest):
        print("total", values["total"], flush=True)

    adapter = GpioCounter(line="L", backend="simulated", interval="10ms", simulated={"frequency": 1000})
    async with running(notes.device("meter", adapter, memory=Path(sys.argv[1]), put=put)):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.system
def test_a_killed_counter_never_goes_back_behind_what_it_reported(tmp_path: Path) -> None:
    """SIGKILL at 1 kHz, again and again: the next run begins at what was reported, or a reading later."""
    reported = 0
    for kill in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "memory" / "meter.json")],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
            text=True,
        ) as child:
            assert child.stdout is not None
            lines = (int(line.split()[1]) for line in child.stdout if line.startswith("total"))
            try:
                totals = [next(lines) for _ in range(10 + kill)]
            finally:
                child.kill()
                child.wait(WAIT)
            totals += list(lines)
        assert totals == sorted(totals)
        assert totals[0] >= reported
        assert totals[-1] > reported
        reported = totals[-1]
