"""Metrics that are set by running a command."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.lines.exec import Exec, Setting
from gateway.devices import RunningDevice
from gateway.devices.orders import Order, Outcome
from tests.adapters.notebook import Notebook, running


class Bench:
    """A device that is only there to be set, and what its commands came to."""

    def __init__(self, **settings: Any) -> None:
        self.notes = Notebook()
        self.outcomes: list[Outcome] = []
        self.device: RunningDevice = self.notes.device("d", Exec(commands=settings))

    async def ask(self, metric: str, value: Any) -> Outcome:
        """Ask for one thing, and return what it came to."""
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.device.order(Order(metric, value, None, answered.set_result), 10)
        async with asyncio.timeout(20):
            return await answered

    async def online(self) -> None:
        """Wait for the device."""
        await self.notes.until(lambda: self.device.state == "online")


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]


async def test_what_is_set_is_an_argument_of_the_command(tmp_path: Path) -> None:
    """The value stands where its place is, as one argument, whatever is in it: no shell looks at it."""
    out = tmp_path / "out"
    program = "import sys; open(sys.argv[1], 'a').write(repr(sys.argv[2:]))"
    bench = Bench(valve=python(program, str(out), "17={value}", "{value}"))
    async with running(bench.device):
        await bench.online()
        for value in (True, 21.5, "$(reboot); `x` *"):
            assert await bench.ask("valve", value) == Outcome("done")
    assert out.read_text() == "['17=1', '1']['17=21.5', '21.5']['17=$(reboot); `x` *', '$(reboot); `x` *']"


async def test_the_last_line_is_what_there_is_then() -> None:
    """With read_back, the command's own word for the value is in the answer."""
    said = python("print('switching'); print('21.5'); print()")
    bench = Bench(level={"command": said, "read_back": True}, other={"command": ["true"], "read_back": True}, none=said)
    async with running(bench.device):
        await bench.online()
        assert await bench.ask("level", 21) == Outcome("done", read_back=21.5)
        assert await bench.ask("other", 21) == Outcome("done")
        assert await bench.ask("none", 21) == Outcome("done")


@pytest.mark.parametrize(
    ("setting", "result", "reason"),
    [
        (["/no/such/command"], "refused", "cannot start /no/such/command: No such file or directory"),
        (["sh", "-c", "echo no such line >&2; exit 3"], "failed", "sh ends with 3: no such line; nobody"),
        ({"command": ["sleep", "1000"], "timeout": 0.1}, "failed", "sleep does not end within 0.1 s; nobody"),
        ({"command": ["true"], "words": {"true": "open"}}, "refused", "none of true"),
    ],
)
async def test_why_it_was_not_set_is_answered(setting: Any, result: str, reason: str) -> None:
    """A command that cannot start has done nothing; of one that fails or hangs nobody knows what it has done."""
    bench = Bench(valve=setting)
    async with running(bench.device):
        await bench.online()
        outcome = await bench.ask("valve", 7)
        assert (outcome.result, (outcome.reason or "")[: len(reason)]) == (result, reason)
        assert bench.device.state == "online"


async def test_one_after_the_other(tmp_path: Path) -> None:
    """Two commands to one device never run at the same time, and come in their order."""
    out = tmp_path / "out"
    step = f"echo begin {{value}} >> {out}; echo end {{value}} >> {out}"
    bench = Bench(step=["sh", "-c", step])
    async with running(bench.device):
        await bench.online()
        outcomes = await asyncio.gather(*(bench.ask("step", number) for number in range(5)))
    assert outcomes == [Outcome("done")] * 5
    assert out.read_text().split("\n")[:-1] == [f"{word} {n}" for n in range(5) for word in ("begin", "end")]


async def test_a_device_reads_and_is_set() -> None:
    """While its own command goes on, another one sets."""
    notes = Notebook()
    adapter = Exec(command=["sh", "-c", "echo '{\"n\": 1}'; sleep 1000"], commands={"n": ["true"]})
    device = notes.device("d", adapter)
    async with running(device):
        await notes.until(lambda: bool(notes.readings))
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        device.order(Order("n", 1, None, answered.set_result), 10)
        async with asyncio.timeout(20):
            assert await answered == Outcome("done")
    assert adapter.can_set("n")
    assert not adapter.can_set("m")


async def test_a_stop_ends_what_is_under_way() -> None:
    """A command that hangs when the gateway stops is ended, and its answer says that nobody knows."""
    bench = Bench(valve={"command": ["sleep", "1000"], "timeout": 1000.0})
    outcomes: list[Outcome] = []
    async with running(bench.device):
        await bench.online()
        order = Order("valve", 1, None, outcomes.append)
        bench.device.order(order, 10)
        async with asyncio.timeout(20):
            while not bench.device._orders._taken:
                await asyncio.sleep(0)
    assert [outcome.result for outcome in outcomes] == ["failed"]


@given(st.one_of(st.text(), st.text().map("-{}".format)))
def test_no_value_is_an_option(value: str) -> None:
    """Text that begins an argument with "-" is refused, and control characters are; a negative number is a number."""
    setting = Setting(command=["tool", "{value}", "--level={value}"])
    try:
        made = setting.made(value)
    except ValueError:
        assert value.startswith("-") or not value.isprintable()
    else:
        assert made == ["tool", value, f"--level={value}"]
        assert not made[1].startswith("-")
    assert setting.made(-5) == ["tool", "-5", "--level=-5"]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"command": []},
        {"command": ["a\0b"]},
        {"commands": {"valve": []}},
        {"commands": {"valve": "true"}},
        {"commands": {"valve": {"command": ["true"], "timeout": "0s"}}},
        {"commands": {"valve": {"words": {"a": "b"}}}},
    ],
)
def test_what_cannot_be_run_is_refused(keys: dict[str, Any]) -> None:
    """A mistake is found when the config is read."""
    with pytest.raises(ValidationError):
        Exec(**keys)
