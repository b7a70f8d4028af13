"""Commands written as text: what a device is told, and which of its lines is the answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.serial.text import SerialText
from adapters.written import Template
from gateway.devices import RunningDevice
from gateway.devices.orders import Order, Outcome
from tests.adapters.cable import Cable
from tests.adapters.notebook import Notebook, running

ANSWER = r"^(?:OK (?P<value>.*)|ERR (?P<error>.*))$"


@pytest.mark.parametrize(
    ("value", "written"),
    [(5, "SET 5;"), (21.5, "SET 21.5;"), (True, "SET 1;"), (False, "SET 0;"), ("auto", "SET auto;")],
)
def test_a_value_is_written_as_it_is(value: Any, written: str) -> None:
    """Numbers as they are, true as 1: what nearly every device reads."""
    assert Template(write="SET {value};").text(value) == written


def test_words_are_all_that_can_be_written() -> None:
    """A device that wants words gets words, and never a value that has none."""
    template = Template(write="{value}!", words={"true": "ON", "false": "OFF", "2": "HALF"})
    assert [template.text(value) for value in (True, False, 2, "true")] == ["ON!", "OFF!", "HALF!", "ON!"]
    with pytest.raises(ValueError, match="none of true, false, 2"):
        template.text(3)


@given(st.text())
def test_no_value_is_a_second_command(value: str) -> None:
    """Text with a line end in it, or any other control character, is refused."""
    template = Template(write='{"set": {value}}\n')
    try:
        written = template.text(value)
    except ValueError:
        assert not value.isprintable()
    else:
        assert written == '{"set": ' + value + "}\n"
        assert written.splitlines() == [written[:-1]]


@pytest.mark.parametrize(
    "fields",
    [{"write": ""}, {"answer": "("}, {"answer": "(?P<level>x)"}, {"timeout": "0s"}, {"words": {}}, {"reply": "OK"}],
)
def test_what_is_no_template_is_refused(fields: dict[str, Any]) -> None:
    """A mistake is found when the config is read."""
    with pytest.raises(ValidationError):
        SerialText(port="/dev/ttyUSB0", commands={"valve": {"write": "x", **fields}})


class Bench:
    """A device on a cable, what it is told, and what the commands came to."""

    def __init__(self, cable: Cable, notes: Notebook, device: RunningDevice) -> None:
        self.cable = cable
        self.notes = notes
        self.device = device
        self.outcomes: list[Outcome] = []

    def order(self, metric: str, value: Any) -> None:
        self.device.order(Order(metric, value, None, self.outcomes.append), 10)

    async def told(self, expected: bytes) -> None:
        """Wait until the device has been told exactly this."""
        heard = b""
        async with asyncio.timeout(10):
            while heard != expected:
                assert expected.startswith(heard)
                try:
                    heard += os.read(self.cable.master, 100)
                except BlockingIOError:
                    await asyncio.sleep(0)

    async def outcome(self) -> Outcome:
        async with asyncio.timeout(10):
            while not self.outcomes:
                await asyncio.sleep(0)
        return self.outcomes.pop()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    with Cable(tmp_path / "tty") as cable:
        notes = Notebook()
        commands: Any = {
            "valve": {"write": "VALVE {value}\n", "answer": ANSWER},
            "lamp": "L{value}\n",
            "quick": {"write": "Q\n", "answer": "never", "timeout": "1ms"},
        }
        adapter = SerialText(port=cable.path, format="key-value", commands=commands)
        device = notes.device("d", adapter)
        async with running(device):
            await notes.until(lambda: device.state == "online")
            yield Bench(cable, notes, device)


async def test_it_is_done_when_the_device_says_so(bench: Bench) -> None:
    """The line that answers is no reading; lines before and after it are, and what it says is the read-back."""
    bench.order("valve", 5)
    await bench.told(b"VALVE 5\n")
    bench.cable.write(b"level=1\nOK 4.5\nlevel=2\nOK 7\n")
    assert await bench.outcome() == Outcome("done", read_back=4.5)
    await bench.notes.until(lambda: len(bench.notes.readings) == 2)
    assert bench.notes.of("d") == [{"level": 1}, {"level": 2}]
    assert sum(bench.device.skipped.values()) == 1  # the second OK, which answers nothing


async def test_a_device_may_say_no(bench: Bench) -> None:
    """What it says then is the reason."""
    bench.order("valve", 5)
    await bench.told(b"VALVE 5\n")
    bench.cable.write(b"ERR stuck\n")
    assert await bench.outcome() == Outcome("refused", "the device says: stuck")


async def test_without_an_answer_it_is_done_when_it_is_written(bench: Bench) -> None:
    """A device that answers nothing can be told something all the same."""
    bench.order("lamp", True)
    await bench.told(b"L1\n")
    assert await bench.outcome() == Outcome("done")


async def test_an_answer_that_does_not_come_holds_up_no_other(bench: Bench) -> None:
    """After its time nobody knows, and the next command is written."""
    bench.order("quick", 1)
    assert (await bench.outcome())[:2] == (
        "failed",
        "no answer from the device for 0.001 s; nobody knows whether it was carried out",
    )
    bench.order("lamp", 3)
    await bench.told(b"Q\nL3\n")
    assert await bench.outcome() == Outcome("done")


async def test_what_cannot_be_written_is_refused(bench: Bench) -> None:
    """Nothing reaches the device."""
    bench.order("lamp", "1\nL2")
    assert (await bench.outcome()).result == "refused"
    bench.order("lamp", 3)
    await bench.told(b"L3\n")


async def test_a_device_that_is_unplugged_in_the_middle_comes_back(bench: Bench) -> None:
    """Of what had begun nobody knows; the next one is carried out after it was plugged in again."""
    bench.cable.write(b"level=1\n")
    await bench.notes.until(lambda: bool(bench.notes.readings))
    bench.order("valve", 5)
    await bench.told(b"VALVE 5\n")
    bench.cable.unplug()
    assert (await bench.outcome()).result == "failed"
    bench.cable.plug()
    await bench.notes.until(lambda: bench.device.state == "online")
    bench.outcomes.clear()
    bench.order("lamp", 3)
    await bench.told(b"L3\n")
