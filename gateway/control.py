"""Requests of the command line to a running service: a unix socket beside the outbox, for its owner and root only."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0
"""Seconds within which whoever connects must have asked, and have read the answer."""
LONGEST = 1 << 20
"""Bytes of a request."""
_ADDRESS = 100  # bytes of a path that fit into the address of a socket, a few less than the kernel takes

Command: TypeAlias = Callable[..., Awaitable[Any]]
"""Takes the arguments of a request by name, and returns what JSON can hold. ValueError and OSError are told."""


class Refused(Exception):
    """The service has not done what it was asked for; the message says why."""


def place(outbox: Path) -> Path:
    """Return where the service listens that has this outbox open."""
    return outbox.with_name(outbox.name + ".socket")


class Control:
    """Answers requests, each a line of JSON on a connection of its own: {"command": ..., <argument>: ...}.

    The answer is a line as well, {"result": ...} or {"error": ...}. Use as `async with`, while nobody else can have the
    outbox; entering raises OSError where there can be no socket.
    """

    def __init__(self, path: Path, commands: Mapping[str, Command], logger: Any) -> None:
        self._path = path
        self._commands = commands
        self._logger = logger
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)  # of a run that was killed: nobody else has the outbox now
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            os.fchmod(listener.fileno(), 0o600)  # before anybody can connect
            with _address(self._path) as address:
                listener.bind(address)
            listener.listen()
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        self._accepting = asyncio.get_running_loop().create_task(self._accept(), name="control")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = {self._accepting, *self._tasks}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            task = loop.create_task(self._serve(connection), name="request")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            # Not in the task, which may be cancelled before it has begun.
            task.add_done_callback(lambda _, connection=connection: connection.close())  # type: ignore[misc]

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError, TimeoutError):
            request = b""
            async with asyncio.timeout(PATIENCE):
                while not request.endswith(b"\n") and len(request) < LONGEST:
                    if not (data := await loop.sock_recv(connection, 1 << 16)):
                        return
                    request += data
            answer = orjson.dumps(await self._answer(request)) + b"\n"
            async with asyncio.timeout(PATIENCE):
                await loop.sock_sendall(connection, answer)

    async def _answer(self, request: bytes) -> dict[str, Any]:
        try:
            asked = orjson.loads(request)
            name = asked.pop("command")
            command = self._commands[name]
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            return {"error": "the service does not know this request; is it of another version?"}
        try:
            return {"result": await command(**asked)}
        except (ValueError, OSError) as error:
            return {"error": str(error)}
        except Exception as error:  # a boundary: no request may harm the service
            self._logger.exception("a request has failed", command=name)
            return {"error": f"{type(error).__name__}: {error}; the service's log says more"}


def ask(path: Path, command: str, *, timeout: float = 600.0, **arguments: Any) -> Any:
    """Ask the service that listens at `path`, and return its answer.

    Raises Refused, FileNotFoundError or ConnectionRefusedError if no service listens, TimeoutError after `timeout`
    seconds, and PermissionError if it is another user's.
    """
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        with _address(path) as address:
            connection.connect(address)
        with suppress(ConnectionResetError, BrokenPipeError):  # as if it had ended without a word
            connection.sendall(orjson.dumps({"command": command, **arguments}) + b"\n")
            while data := connection.recv(1 << 16):
                answer += data
    try:
        told = orjson.loads(answer)
    except orjson.JSONDecodeError:
        raise Refused("the service has ended before it has answered") from None
    if "error" in told:
        raise Refused(told["error"])
    return told["result"]


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give an address for a path, also for one that is longer than the address of a socket may be."""
    if len(os.fsencode(path)) <= _ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
