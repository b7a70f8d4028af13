"""GPIO outputs on simulated lines: commands, reading back, and the safe state however the gateway ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.frames.levels import as_level
from adapters.gpio.output import GpioOutput
from adapters.ports.gpio_line import Wanted
from adapters.ports.guard import guarded
from adapters.ports.simulated_gpio import SimulatedOutput
from gateway import Value
from gateway.devices import RunningDevice
from gateway.devices.orders import Order, Outcome
from tests.adapters.notebook import WAIT, Notebook, running

ROOT = Path(__file__).resolve().parents[2]


def output(wire: Path, **fields: Any) -> GpioOutput:
    return GpioOutput(line="GPIO22", backend="simulated", simulated={"wire": str(wire)}, **fields)


async def ordered(device: RunningDevice, value: Value, metric: str = "state") -> Outcome:
    """Return what became of a command."""
    answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    device.order(Order(metric, value, None, answer.set_result), 10)
    async with asyncio.timeout(WAIT):
        return await answer


@pytest.mark.parametrize("active_low", [False, True])
async def test_an_output_does_as_commanded_and_reads_back(tmp_path: Path, active_low: bool) -> None:
    """A command drives the line, is answered with what the line says, and makes a reading; at the end it is off."""
    wire = tmp_path / "relay"
    on, off = ("0\n", "1\n") if active_low else ("1\n", "0\n")
    notes = Notebook()
    device = notes.device("relay", output(wire, active_low=active_low))
    async with running(device):
        await notes.until(lambda: len(notes.readings) == 1)
        assert wire.read_text() == off
        assert await ordered(device, True) == Outcome("done", read_back=True)
        assert wire.read_text() == on
        assert await ordered(device, "OFF") == Outcome("done", read_back=False)
        assert wire.read_text() == off
        refused = await ordered(device, "open")
        assert (refused.result, refused.read_back) == ("refused", None)
        assert await ordered(device, 1) == Outcome("done", read_back=True)
        await notes.until(lambda: len(notes.readings) == 4)
    assert wire.read_text() == off
    assert notes.of("relay") == [{"state": False}, {"state": True}, {"state": False}, {"state": True}]


async def test_the_safe_state_may_be_on(tmp_path: Path) -> None:
    """A pump that has to run is on from the start, and at the end."""
    wire, notes = tmp_path / "pump", Notebook()
    device = notes.device("pump", output(wire, safe="on"))
    async with running(device):
        await notes.until(lambda: len(notes.readings) == 1)
        assert wire.read_text() == "1\n"
        await ordered(device, False)
        assert wire.read_text() == "0\n"
    assert wire.read_text() == "1\n"


async def test_a_state_may_be_kept(tmp_path: Path) -> None:
    """With `safe = "keep"` the line is left alone at the end, and taken up again as it was set last."""
    wire, memory = tmp_path / "lamp", tmp_path / "memory" / "lamp.json"
    for before, value in ((False, True), (True, False), (False, False)):
        notes = Notebook()
        device = notes.device("lamp", output(wire, safe="keep"), memory=memory)
        async with running(device):
            await device_online(notes)
            assert notes.of("lamp") == [{"state": before}]
            await ordered(device, value)
        assert wire.read_text() == ("1\n" if value else "0\n")


async def device_online(notes: Notebook) -> None:
    await notes.until(lambda: len(notes.readings) == 1)


async def test_an_output_goes_back_by_itself(tmp_path: Path) -> None:
    """A valve closes when whoever has opened it is not heard of any more, and a reading says so."""
    wire, notes = tmp_path / "valve", Notebook()
    device = notes.device("valve", output(wire, revert_after="50ms"))
    async with running(device):
        await device_online(notes)
        await ordered(device, True)
        await notes.until(lambda: len(notes.readings) == 3)
        assert wire.read_text() == "0\n"
    assert [values["state"] for values in notes.of("valve")] == [False, True, False]


def test_keeping_and_going_back_exclude_each_other(tmp_path: Path) -> None:
    """Nothing can go back to a state that is not named."""
    with pytest.raises(ValidationError, match="needs a safe state"):
        output(tmp_path / "x", safe="keep", revert_after="1s")


def test_only_the_state_is_settable(tmp_path: Path) -> None:
    """A command for anything else is refused by the gateway."""
    adapter = output(tmp_path / "x", metric="open")
    assert [adapter.can_set(name) for name in ("open", "state")] == [True, False]


@pytest.mark.parametrize(
    ("value", "level"),
    [
        *((value, True) for value in (True, 1, "on", " True ")),
        *((value, False) for value in (False, 0, "OFF")),
        *((value, None) for value in (2, -1, "", "yes", 0.5)),
    ],
)
def test_levels(value: Value, level: bool | None) -> None:
    """What is not clearly on or off is neither."""
    assert as_level(value) is level


def test_a_guard_is_there_for_as_long_as_the_line_and_no_longer(tmp_path: Path) -> None:
    """Releasing waits for the guard, and leaves the line safe; a line that cannot be opened leaves no process."""
    wire = tmp_path / "relay"
    request = guarded(lambda: SimulatedOutput(Wanted("L", output=False), str(wire)), True, "file", True)
    request.set(False)
    assert wire.read_text() == "0\n"
    request.release()
    assert wire.read_text() == "1\n"

    def refuse() -> Any:
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        guarded(refuse, True, "file", True)


CHILD = """
import asyncio, sys
from adapters.gpio.output import GpioOutput
from gateway.devices.orders import Order
from tests.adapters.notebook import Notebook, running

async def main():
    notes = Notebook()
    adapter = GpioOutput(line="L", backend="simulated", safe=sys.argv[2], simulated={"wire": sys.argv[1]})
    device = notes.device("relay", adapter)
    async with running(device):
        await notes.until(lambda: len(notes.readings) == 1)
        device.order(Order("state", sys.argv[2] != "on", None, lambda outcome: print(outcome.result, flush=True)), 10)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def became(path: Path, text: str, seconds: float = WAIT) -> bool:
    """Wait until a file holds `text`; inotify would be more code than this."""
    import time

    end = time.monotonic() + seconds
    while path.read_text() != text:
        if time.monotonic() > end:
            return False
        os.sched_yield()
    return True


@pytest.mark.system
@pytest.mark.parametrize("safe", ["off", "on", "keep"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_an_output_is_safe_after_a_kill(tmp_path: Path, safe: str, end: signal.Signals) -> None:
    """However the gateway's process ends, the line is in its safe state a moment later; kept where that is wanted."""
    wire = tmp_path / "relay"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(wire), safe], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as child:
        commanded, wanted = ("0\n", "1\n") if safe == "on" else ("1\n", "0\n")
        try:
            assert child.stdout is not None
            assert "done\n" in iter(child.stdout.readline, "")  # after lines of the log
            assert wire.read_text() == commanded
        finally:
            child.send_signal(end)
            child.wait(WAIT)
    assert became(wire, commanded if safe == "keep" else wanted)
