"""A file of the user's own: what may stand in it, what is said of its faults, and who may have written it."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from adapters.python_module import OwnCodeError, PythonModule
from gateway import DeviceError
from gateway.config import ConfigError, load_devices
from tests.adapters.notebook import Notebook, running


class Mine:
    """A file of the user's own, and the device that runs it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mine.py"

    def write(self, text: str) -> None:
        self.path.write_text(dedent(text).lstrip("\n"))
        self.path.chmod(0o644)

    def adapter(self, text: str, **keys: Any) -> PythonModule:
        self.write(text)
        return PythonModule(path=self.path, **{"interval": 0.01, **keys})


@pytest.fixture
def mine(tmp_path: Path) -> Mine:
    return Mine(tmp_path)


async def fault_of(adapter: PythonModule) -> OSError | OwnCodeError:
    """Run the adapter until it fails: a DeviceError is an absence, an OwnCodeError a bug."""
    with pytest.raises((DeviceError, OwnCodeError)) as failed:
        await adapter.run(Notebook().device("d", adapter))
    return failed.value


async def readings(adapter: PythonModule, count: int = 2) -> list[dict[str, Any]]:
    notes = Notebook()
    async with running(notes.device("d", adapter)):
        await notes.until(lambda: len(notes.readings) >= count)
    return notes.of("d")[:count]


async def test_a_function_is_called_at_each_interval(mine: Mine) -> None:
    """The simplest thing that can be: a function without arguments that returns a dict."""
    adapter = mine.adapter(
        """
        count = 0
        def read():
            global count
            count += 1
            return None if count == 2 else {"count": count}
        """
    )
    assert await readings(adapter) == [{"count": 1}, {"count": 3}]


async def test_options_are_the_arguments_of_the_function(mine: Mine) -> None:
    """One file serves several devices."""
    text = "def read(factor, unit='C'):\n    return {unit: factor * 2}\n"
    assert await readings(mine.adapter(text, options={"factor": 3}), 1) == [{"C": 6}]
    assert await readings(mine.adapter(text, options={"factor": 3, "unit": "F"}), 1) == [{"F": 6}]


async def test_a_coroutine_is_run_like_an_adapter(mine: Mine) -> None:
    """It gets the device, and its options."""
    adapter = mine.adapter(
        """
        import asyncio
        async def run(device, start):
            for number in range(start, start + 2):
                await device.emit({"n": number})
            await asyncio.sleep(3600)
        """,
        options={"start": 7},
    )
    assert await readings(adapter) == [{"n": 7}, {"n": 8}]


CLASS = """
from __future__ import annotations
from pydantic import Field
from gateway import Adapter, Device

class Boiler(Adapter):
    '''Reads a boiler.'''
    speed: int = Field(description="How fast.")

    def can_set(self, metric: str) -> bool:
        return metric == "valve"

    async def run(self, device: Device) -> None:
        await device.emit({"speed": self.speed})
"""


async def test_a_class_is_an_adapter_like_any_other(mine: Mine) -> None:
    """Its options are its keys, and it says which metrics can be set."""
    adapter = mine.adapter(CLASS, options={"speed": 3})
    assert await readings(adapter, 1) == [{"speed": 3}]
    assert [adapter.can_set("valve"), adapter.can_set("speed")] == [True, False]
    assert not mine.adapter("def read(): ...").can_set("valve")


FAULTS = {
    "a bug": ("    return {'x': 1 / 0}", OwnCodeError, "{path}:3: ZeroDivisionError: division by zero"),
    "no dict": ("    return [1]", OwnCodeError, "{path}:2: read() returned list, not a dict of its values"),
    "it wants to end": ("    sys.exit(1)", OwnCodeError, "{path}:3: SystemExit: 1"),
    "no number": (
        "    return {'x': float('warm')}",
        DeviceError,
        "{path}:3: could not convert string to float: 'warm'",
    ),
    "no file": ("    return {'x': open('/no/such').read()}", DeviceError, "{path}:3: [Errno 2] No such file"),
    "own words": ("    raise DeviceError('the sensor is asleep')", DeviceError, "the sensor is asleep"),
    "no words": ("    raise TimeoutError", DeviceError, "{path}:3: TimeoutError"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_said_with_its_line(fault: str, mine: Mine) -> None:
    """What is absent is tried again, what is a bug is called one; and either is found in the file at once."""
    line, kind, words = FAULTS[fault]
    error = await fault_of(mine.adapter(f"import sys; from gateway import DeviceError\ndef read():\n{line}\n"))
    assert type(error) is kind
    assert words.format(path=mine.path) in str(error)


@pytest.mark.parametrize(
    ("line", "kind"), [("1 / 0", OwnCodeError), ("open('/no/such')", DeviceError), ("raise SystemExit", OwnCodeError)]
)
async def test_a_fault_of_a_coroutine_is_said_with_its_line(line: str, kind: type[Exception], mine: Mine) -> None:
    """A coroutine that fails, or that wants the gateway to end, fails alone."""
    error = await fault_of(mine.adapter(f"async def run(device):\n    {line}\n"))
    assert type(error) is kind
    assert str(error).startswith(f"{mine.path}:2: ")


async def test_a_function_that_hangs_is_called_once(mine: Mine, tmp_path: Path) -> None:
    """It has its deadline; until it returns it is not called again, however often its device is tried."""
    pipe, calls = tmp_path / "pipe", tmp_path / "calls"
    os.mkfifo(pipe)
    adapter = mine.adapter(
        """
        def read(pipe, calls):
            with open(calls, "a") as file:
                file.write("called\\n")
            with open(pipe) as file:
                return {"x": int(file.read())}
        """,
        timeout=0.05,
        options={"pipe": str(pipe), "calls": str(calls)},
    )
    while not calls.exists():  # as soon as there is a CPU for its thread
        assert str(await fault_of(adapter)) == "does not answer within 0.05 s"
    reasons = {str(await fault_of(adapter)) for _ in range(20)}
    assert f"{mine.path}:1: read() has not returned since it was called before" in reasons
    assert calls.read_text() == "called\n"
    writer = os.open(pipe, os.O_WRONLY)
    pipe.unlink()
    pipe.write_text("2")
    os.close(writer)
    assert await readings(adapter, 1) == [{"x": 2}]


def config_of(folder: Path, text: str, keys: str = "") -> str:
    """Return what is said of a config with a file of one's own."""
    (folder / "mine.py").write_text(text)
    (folder / "mine.py").chmod(0o644)
    (folder / "gateway.toml").write_text(f'[devices.d]\nadapter = "python"\npath = "mine.py"\n{keys}')
    try:
        load_devices(folder / "gateway.toml")
    except ConfigError as error:
        return str(error).replace(f"{folder}/", "")
    return ""


SAID = {
    "right": ("def read(): ...", "", ""),
    "syntax": ("\n\ndef read(:", "", "gateway.toml:3:8: error: path: mine.py:3: SyntaxError: "),
    "import": ("import os\nimport no_such_thing", "", "3:8: error: path: mine.py:2: ModuleNotFoundError: No module"),
    "exit": ("\nraise SystemExit(1)", "", "3:8: error: path: mine.py:2: SystemExit: 1"),
    "nothing in it": (
        "x = 1",
        "",
        "3:8: error: [devices.d]: path: mine.py has none of these: def read(), async def run(device)",
    ),
    "several": (
        CLASS + "def read(): ...",
        "",
        'error: [devices.d]: path: mine.py has Boiler and read; say which with use = "Boiler"',
    ),
    "one of several": (CLASS + "def read(): ...", 'use = "read"', ""),
    "not there": ("def read(): ...", 'use = "raed"', "4:7: error: [devices.d]: use: mine.py has no function or class"),
    "no function": ("read = 1", 'use = "read"', "4:7: error: [devices.d]: use: mine.py has no function or class"),
    "argument missing": (
        "def read(x): ...",
        "",
        "error: [devices.d]: options: mine.py:1: read(): missing a required argument: 'x'",
    ),
    "argument unknown": (
        "def read(x=1): ...",
        "options = { y = 1 }",
        "4:11: error: [devices.d]: options: mine.py:1: read(): got an unexpected keyword argument 'y'",
    ),
    "key missing": (CLASS, "", 'error: missing key "speed"'),
    "key unknown": (
        CLASS,
        "[devices.d.options]\nspeed = 1\nsped = 2",
        '6:1: error: unknown key "sped" in [devices.d.options]',
    ),
    "key wrong": (CLASS, '[devices.d.options]\nspeed = "x"', "5:9: error: speed: must be a whole number, not a string"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_wrong_is_said_before_anything_runs(case: str, tmp_path: Path) -> None:
    """`check` finds it, with the place in the config and the line of the file."""
    text, keys, words = SAID[case]
    said = config_of(tmp_path, text, keys)
    assert words in said
    assert bool(said) == bool(words)


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match="type: ") as error:
        PythonModule(path=path)
    return str(error.value)


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_file_that_others_can_change_is_not_run(mode: int, mine: Mine) -> None:
    """It would run as the gateway; what to type is said."""
    mine.write("raise AssertionError('it was run')")
    mine.path.chmod(mode)
    said = refused(mine.path)
    assert "can be changed by others" in said
    assert f"type: sudo chmod go-w {mine.path}" in said


def test_a_file_that_others_can_replace_is_not_run(mine: Mine, tmp_path: Path) -> None:
    """Who may write to a folder may put another file there; but not where only owners may, as in /tmp."""
    mine.write("def read(): ...")
    tmp_path.chmod(0o777)
    assert f"type: sudo chmod go-w {tmp_path}" in refused(mine.path)
    link = tmp_path.parent / f"{tmp_path.name}.py"
    link.symlink_to(mine.path)
    assert f"type: sudo chmod go-w {tmp_path}" in refused(link)
    tmp_path.chmod(0o1777)
    PythonModule(path=mine.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_somebody_else_is_not_run(mine: Mine) -> None:
    """Its owner can change it."""
    mine.write("raise AssertionError('it was run')")
    os.chown(mine.path, 65534, 0)
    assert f"type: sudo chown root {mine.path}" in refused(mine.path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """What is no file is refused, and not opened."""
    os.mkfifo(tmp_path / "mine.py")
    with pytest.raises(ValueError, match="not a regular file"):
        PythonModule(path=tmp_path / "mine.py")
    with pytest.raises(ValueError, match=r"no-such\.py cannot be read: No such file"):
        PythonModule(path=tmp_path / "no-such.py")


def test_the_same_file_is_the_same_device(mine: Mine) -> None:
    """Whoever loads a config again sees whether the file has changed."""
    first = mine.adapter("def read(x=1): ...")
    assert mine.adapter("def read(x=1): ...") == first
    assert mine.adapter("def read(x=1): ...", options={"x": 2}) != first
    assert mine.adapter("def read(x=2): ...") != first
