"""Lines from commands, datagrams and files."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.lines.exec import Exec
from adapters.lines.file import FileTail
from adapters.lines.udp import Udp
from tests.adapters.notebook import WAIT, Notebook, running
from tests.ports import free_port


async def test_a_command_that_goes_on() -> None:
    """Each line is a reading as it is written; at a stop the command and what it has started are ended."""
    notes = Notebook()
    script = "echo '{\"n\": 1}'; echo '{\"n\": 2}'; sleep 1000 & wait"
    device = notes.device("d", Exec(command=["sh", "-c", script]))
    async with running(device):
        await notes.until(lambda: len(notes.readings) == 2)
        assert device.state == "online"
    assert notes.of("d") == [{"n": 1}, {"n": 2}]


async def test_nothing_outlives_a_command_that_is_ended() -> None:
    """What it has started is ended with it, also where it has ended by itself before, and would be waited for."""
    for script in ('sleep 1000 & echo "{\\"pid\\": $!}"; wait', 'sleep 1000 & echo "{\\"pid\\": $!}"'):
        notes = Notebook()
        async with running(notes.device("d", Exec(command=["sh", "-c", script]))):
            await notes.until(lambda notes=notes: bool(notes.readings))
        state = Path(f"/proc/{notes.of('d')[0]['pid']}/stat")
        async with asyncio.timeout(20):
            while state.exists() and state.read_text().split()[2] != "Z":
                await asyncio.sleep(0)


async def test_frames_from_a_command() -> None:
    """What is no text can be described."""
    notes = Notebook()
    frame = {"header": "aa", "length": 2, "fields": [{"name": "n", "type": "u8"}]}
    device = notes.device("d", Exec(command=["printf", "\\252\\007"], interval=0.1, frame=frame))
    async with running(device):
        await notes.until(lambda: bool(notes.readings))
    assert notes.of("d")[0] == {"n": 7}


async def test_a_command_that_is_started_again() -> None:
    """At each interval; a last line without an end counts as one."""
    notes = Notebook()
    device = notes.device("d", Exec(command=["printf", "temp=48.3"], format="key-value", interval=0.1))
    async with running(device):
        await notes.until(lambda: len(notes.readings) >= 3)
    assert notes.of("d")[0] == {"temp": 48.3}


async def test_a_command_is_ended_however_often_that_is_asked_for(tmp_path: Path) -> None:
    """Cancelled again while the command still ends, the device waits for that: no process is left behind."""
    notes, told = Notebook(), tmp_path / "told"
    script = f"trap 'touch {told}; sleep 0.2; exit' TERM; echo '{{\"n\": '$$'}}'; sleep 1000 & wait"
    device = notes.device("d", Exec(command=["sh", "-c", script]))
    task = asyncio.create_task(device.run())
    await notes.until(lambda: bool(notes.readings))
    task.cancel()
    async with asyncio.timeout(WAIT):
        while not told.exists():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(notes.of("d")[0]["n"]), 0)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/no/such/command"], "cannot start /no/such/command: No such file"),
        (["sh", "-c", "echo broken pipe >&2; exit 3"], "sh ends with 3: broken pipe"),
        (["sleep", "1000"], "sleep does not end within 0.3 s"),
    ],
)
async def test_why_a_command_gives_nothing_is_said(command: list[str], words: str) -> None:
    """It cannot be started, it fails, it hangs."""
    notes = Notebook()
    device = notes.device("d", Exec(command=command, interval=60.0, timeout=0.3))
    async with running(device), asyncio.timeout(20):
        while device.reason is None or words not in device.reason:
            await asyncio.sleep(0)


async def test_a_command_that_ends_is_started_again() -> None:
    """One that should go on and ends has failed, whatever its status."""
    notes = Notebook()
    device = notes.device("d", Exec(command=[sys.executable, "-c", "print('{\"n\": 1}')"]))
    async with running(device):
        await notes.until(lambda: len(notes.readings) >= 2)
        assert device.failures >= 1


async def test_datagrams() -> None:
    """Each may hold several lines, and the last one needs no end."""
    port = free_port()
    notes = Notebook()
    device = notes.device("d", Udp(listen=f"127.0.0.1:{port}"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        async with running(device):
            await notes.until(lambda: device.state == "online")
            for data in (b'{"n": 1}\n{"n": 2}', b"\xff\xfe", b'{"n": 3}\n'):
                sender.sendto(data, ("127.0.0.1", port))
            await notes.until(lambda: len(notes.readings) == 3)
    assert [values["n"] for values in notes.of("d")] == [1, 2, 3]
    assert sum(device.skipped.values()) == 1


async def test_a_port_that_is_taken_is_said() -> None:
    """Two listeners on one port are told so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        notes = Notebook()
        device = notes.device("d", Udp(listen=f"127.0.0.1:{other.getsockname()[1]}"))
        async with running(device), asyncio.timeout(20):
            while device.reason is None:
                await asyncio.sleep(0)
    assert "cannot listen at 127.0.0.1" in device.reason


def test_listening_is_local_unless_somebody_says_otherwise() -> None:
    """The default hears this machine only; a name is no address."""
    assert Udp().listen.startswith("127.0.0.1:")
    with pytest.raises(ValidationError):
        Udp(listen="localhost:5005")


async def test_a_file_that_grows_is_rotated_and_emptied(tmp_path: Path) -> None:
    """What is in it at the start is old; a new file is read from its beginning, and one that was emptied as well."""
    path = tmp_path / "log"
    path.write_text('{"n": 0}\n')
    notes = Notebook()
    device = notes.device("d", FileTail(path=str(path), interval=0.01))
    async with running(device):
        await notes.until(lambda: device.state == "online")
        await asyncio.sleep(0)
        with path.open("a") as file:
            file.write('{"n": 1}\n{"n"')
            file.flush()
            await notes.until(lambda: len(notes.readings) == 1)
            file.write(": 2}\n")
        await notes.until(lambda: len(notes.readings) == 2)
        path.rename(tmp_path / "log.1")
        (tmp_path / "new").write_text('{"n": 3}\n')
        (tmp_path / "new").rename(path)
        await notes.until(lambda: len(notes.readings) == 3)
        os.truncate(path, 0)
        with path.open("a") as file:
            file.write('{"n":4}\n')
        await notes.until(lambda: len(notes.readings) == 4)
        path.unlink()
        await notes.until(lambda: device.state != "online")
    assert [values["n"] for values in notes.of("d")] == [1, 2, 3, 4]


@pytest.mark.parametrize("there", [True, False])
async def test_a_file_that_was_not_there_is_new(tmp_path: Path, there: bool) -> None:
    """Nothing of a file that appears while the device waits for it is old, also after it was taken away."""
    path = tmp_path / "log"
    if there:
        path.write_text('{"n": 0}\n')
    notes = Notebook()
    device = notes.device("d", FileTail(path=str(path), interval=0.01))
    async with running(device):
        if there:
            await notes.until(lambda: device.state == "online")
            with path.open("a") as file:
                file.write('{"n": 1}\n')
            path.unlink()  # what was appended before is read all the same
        async with asyncio.timeout(WAIT):
            while device.reason is None:  # until it was not found
                await asyncio.sleep(0)
        (tmp_path / "new").write_text('{"n": 2}\n')
        (tmp_path / "new").rename(path)
        await notes.until(lambda: {"n": 2} in notes.of("d"))
    assert [values["n"] for values in notes.of("d")] == ([1, 2] if there else [2])
