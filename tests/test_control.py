"""The command line asks a running service, and nobody else can."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.control import Control, Refused, ask, place


class Notebook:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def exception(self, event: str, **_: object) -> None:
        self.said.append(event)


async def add(*, a: int, b: int) -> int:
    if a < 0:
        raise ValueError("a must not be negative")
    return a + b


async def fail() -> None:
    raise RuntimeError("a bug")


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return place(tmp_path / "outbox.db")


@pytest.fixture
async def notebook(path: Path) -> AsyncIterator[Notebook]:
    """Give the log of a service that listens at `path`."""
    notebook = Notebook()
    async with Control(path, {"add": add, "fail": fail, "forever": forever}, notebook):
        yield notebook


async def asked(path: Path, command: str, **arguments: Any) -> Any:
    return await asyncio.to_thread(ask, path, command, timeout=10.0, **arguments)


async def test_a_request_is_answered(path: Path, notebook: Notebook) -> None:
    """Arguments go by name, and what the command returns comes back; several may ask at once."""
    assert await asyncio.gather(*(asked(path, "add", a=n, b=1) for n in range(10))) == list(range(1, 11))


async def test_only_the_owner_may_ask(path: Path, notebook: Notebook) -> None:
    """The socket is of mode 0600 from its first moment on, whatever the umask is."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_is_wrong_is_told(path: Path, notebook: Notebook) -> None:
    """A refusal says why; an unknown command, wrong arguments and nonsense are refusals; a bug is logged as well."""
    with pytest.raises(Refused, match="must not be negative"):
        await asked(path, "add", a=-1, b=1)
    with pytest.raises(Refused, match="another version"):
        await asked(path, "multiply", a=1)
    assert notebook.said == []
    for command, arguments in (("fail", {}), ("add", {"c": 1})):
        with pytest.raises(Refused, match="log says more"):
            await asked(path, command, **arguments)
    assert len(notebook.said) == 2
    assert await asked(path, "add", a=1, b=1) == 2


async def test_whoever_hangs_up_harms_nothing(path: Path, notebook: Notebook) -> None:
    """A connection that ends before or after its request is forgotten."""
    for request in (b"", b"{", b'{"command": "forever"}\n', b"[]\n"):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(path))
            rude.sendall(request)
    assert await asked(path, "add", a=1, b=1) == 2


async def test_the_end_of_the_service_is_told(path: Path) -> None:
    """Who waits for an answer hears that the service has ended; who asks later finds nobody."""
    async with Control(path, {"forever": forever}, Notebook()):
        asking = asyncio.create_task(asked(path, "forever"))
        async with asyncio.timeout(10):
            while not any(task.get_name() == "request" for task in asyncio.all_tasks()):
                await asyncio.sleep(0)
    with pytest.raises(Refused, match="ended"):
        await asking
    with pytest.raises(FileNotFoundError):
        await asked(path, "forever")


async def test_a_socket_that_a_killed_run_has_left_is_replaced(path: Path) -> None:
    """The next run listens where the last one did, and meanwhile nobody answers."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(ConnectionRefusedError):
        await asked(path, "add", a=1, b=1)
    async with Control(path, {"add": add}, Notebook()):
        assert await asked(path, "add", a=1, b=1) == 2
    assert not path.exists()


async def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    """A path may be longer than the 107 bytes that the address of a socket can hold."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    before = os.listdir("/proc/self/fd")
    async with Control(folder / "outbox.db.socket", {"add": add}, Notebook()):
        assert await asked(folder / "outbox.db.socket", "add", a=1, b=1) == 2
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1
