"""The states of a device, with their reasons: absent, opening, online, silent, and what the log says of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from gateway import Adapter, Device, DeviceError, Silent
from gateway.watch import Watch
from tests.adapters.notebook import Notebook, running


class Scripted(Adapter):
    """Waits at each step of an attempt until the test lets it go on."""

    async def run(self, device: Device) -> None:
        """Do as the script says."""
        await SCRIPT.play(device)


class Script:
    """What happens to the scripted adapter, step by step; `at` is the step that it waits in."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Any] = asyncio.Queue()
        self.waiting = asyncio.Event()

    async def play(self, device: Device) -> None:
        while True:
            self.waiting.set()
            step = await self.steps.get()
            if isinstance(step, Exception):
                raise step
            if step == "online":
                device.online()
            else:
                await device.emit({"n": 1})

    async def do(self, step: Any) -> None:
        await self.waiting.wait()
        self.waiting.clear()
        self.steps.put_nowait(step)
        await self.waiting.wait()  # the next step, or the next attempt


SCRIPT: Script


@asynccontextmanager
async def scripted(notes: Notebook) -> AsyncIterator[tuple[Any, Script]]:
    global SCRIPT
    SCRIPT = Script()
    device = notes.device("d", Scripted())
    async with running(device):
        await SCRIPT.waiting.wait()
        yield device, SCRIPT


async def test_a_device_goes_from_absent_over_opening_to_online_and_falls_silent() -> None:
    """Each state is told with its reason; what is silent or has failed stays so until it is online again."""
    notes = Notebook()
    async with scripted(notes) as (device, script):
        assert (device.state, device.reason) == ("opening", None)
        await script.do("online")
        assert (device.state, device.reason) == ("online", None)
        await script.do("emit")
        await script.do(Silent("nothing for 60 s"))
        assert (device.state, device.reason) == ("silent", "nothing for 60 s")
        await script.do(Silent("nothing for 60 s"))
        assert device.state == "silent"
        await script.do("emit")
        assert (device.state, device.reason) == ("online", None)
        await script.do(DeviceError("unplugged"))
        assert (device.state, device.reason) == ("opening", "unplugged")
    assert device.state == "absent"
    assert notes.states == [("d", True), ("d", False), ("d", True), ("d", False)]


async def test_silence_in_a_group_is_silence_and_with_an_absence_an_absence() -> None:
    """An adapter that runs several tasks fails with all that failed; only pure silence is called so."""
    notes = Notebook()
    async with scripted(notes) as (device, script):
        await script.do(ExceptionGroup("both", [Silent("a"), Silent("b")]))
        assert device.state == "silent"
    async with scripted(notes) as (device, script):
        await script.do(ExceptionGroup("both", [Silent("a"), DeviceError("b")]))
        assert (device.state, device.reason) == ("opening", "a")


async def test_a_silence_is_said_once_and_its_end_once() -> None:
    """A device that stays silent for hours is one line, and one more when it speaks again."""
    notes = Notebook()
    with capture_logs() as logs:
        async with scripted(notes) as (_, script):
            await script.do("emit")
            for _ in range(5):
                await script.do(Silent("nothing for 60 s"))
            await script.do("emit")
    said = [line["event"] for line in logs if line["log_level"] != "debug"]
    assert said[:2] == ["d: online", "d: nothing for 60 s"]
    assert len(said) == 3
    assert said[2].startswith("d: back after ")
    assert said[2].endswith("(5 attempts)")


def test_the_line_of_status_names_what_is_not_online() -> None:
    """`systemctl status` says which devices are away and why, as far as it fits into a line."""
    states = [("ok", "online", None), ("done", "finished", None), ("a", "opening", None), ("b", "silent", "nothing")]
    states += [("c", "absent", "unplugged"), ("e", "failed", "bug"), ("f", "absent", None)]
    devices: Any = [SimpleNamespace(name=name, state=state, reason=reason) for name, state, reason in states]
    outbox: Any = SimpleNamespace(clock=("set", None), fault=None, hidden=0, taken_in=7)
    nothing: Any = None
    line = Watch(nothing, outbox, nothing, [], devices, {}).status()
    assert line == (
        "7 readings taken in; a: opening; b: silent (nothing); c: absent (unplugged); 2 more devices are not online"
    )
