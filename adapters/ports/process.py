"""Commands of this machine: started without a shell, read in chunks, and ended with all that they have started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from adapters.ports.port import Portion
from gateway import DeviceError

_CHUNK = 16384
_ENDING = 2.0  # seconds that a command has to end by itself
_ERRORS = 400  # bytes of what a command says of its failure that are shown


class CannotStart(DeviceError):
    """There is no such command, or it may not be run."""


def check_command(given: list[str]) -> list[str]:
    """Return a command and its arguments. Raises ValueError for what no system can start."""
    if not given or not given[0] or any("\0" in word for word in given):
        raise ValueError("must be a command and its arguments, each a text of its own")
    return given


async def run_command(
    words: Sequence[str],
    take: Callable[[bytes], Awaitable[None] | None],
    timeout: float | None = None,
    *,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Run a command, and give each chunk of its output to `take`, an empty one at its end; wait for what that returns.

    A command that is given up, by cancellation as well, is over then, with all that it has started. Raises CannotStart,
    and DeviceError when it does not end within `timeout` seconds, or with a status that is not 0: with what it said.
    """
    running = asyncio.create_task(_run(words, take, timeout, started))
    try:
        await asyncio.wait([running])
    except asyncio.CancelledError:
        running.cancel()  # once: it ends in its own time, however often this is cancelled meanwhile
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # or it would be logged as one that nobody has asked for
        raise
    running.result()


async def _run(
    words: Sequence[str],
    take: Callable[[bytes], Awaitable[None] | None],
    timeout: float | None,
    started: Callable[[], None],
) -> None:
    async with _started(words) as process:
        started()
        assert process.stdout is not None and process.stderr is not None  # noqa: PT018, S101 - asked for
        errors = asyncio.create_task(_last(process.stderr))
        try:
            async with asyncio.timeout(timeout):
                portion = Portion()
                while chunk := await process.stdout.read(portion.size):
                    if (waiting := portion.give(chunk, take)) is not None:
                        await waiting
                    await asyncio.sleep(0)  # the next one may be there already
                take(b"")
                status = await process.wait()
                said = await errors
        except TimeoutError:
            raise DeviceError(f"{words[0]} does not end within {timeout:g} s") from None
        finally:
            errors.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await errors
    if status:
        raise DeviceError(f"{words[0]} ends with {status}" + (f": {said}" if said else ""))


@asynccontextmanager
async def _started(words: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # what it starts ends with it
        )
    except OSError as error:
        raise CannotStart(f"cannot start {words[0]}: {error.strerror or error}") from error
    try:
        yield process
    except BaseException:
        await _ended(process)
        raise
    finally:
        transport = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()  # its pipes, which what it has started may hold open


async def _last(stream: asyncio.StreamReader) -> str:
    """Return the end of what is written there."""
    kept = b""
    while chunk := await stream.read(_CHUNK):
        kept = (kept + chunk)[-_ERRORS:]
    return " ".join(kept.decode("utf-8", "replace").split())


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Have a command end, and what it has started, also where that has outlived it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING):
                await process.wait()
