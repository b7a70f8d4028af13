"""What one device remembers across restarts, such as the total of a counter: a small file, replaced as a whole."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from structlog.typing import FilteringBoundLogger

from gateway.durable import replace
from gateway.mqtt.aside import aside

INTERVAL = 5.0
"""Seconds between two writes that nobody waits for."""
LARGEST = 262_144
"""Bytes that one device may remember."""
_PATIENCE = 2.0  # seconds that a card has at the end


def place_of_memory(outbox: Path, name: str) -> Path:
    """Return the file in which `name` remembers, for a gateway with this outbox."""
    return outbox.with_name(outbox.name + ".memory") / f"{name}.json"


class Memory:
    """`async with Memory(path, name, log) as memory:` reads the file, and writes what is not yet written at the end.

    `path` None: remembered only as long as the process lives. A file that cannot be read is put aside, as
    `<name>.json.damaged`, and said; a file that cannot be written is said once, and tried again every `interval`
    seconds. Nothing here raises because of the card, and nothing blocks the loop.
    """

    def __init__(self, path: Path | None, name: str, log: FilteringBoundLogger, *, interval: float = INTERVAL) -> None:
        self._path = path
        self._name = name
        self._log = log
        self._interval = interval
        self._contents: Mapping[str, Any] = {}
        self._unsaved = False
        self._written = b""
        self._failing = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        path = self._path
        if path is None:
            return self
        try:
            self._written = await aside(object(), lambda: _read(path))
            self._contents = orjson.loads(self._written) if self._written else {}
        except ValueError as error:
            self._log.warning(f"{self._name}: {path} is damaged ({error}); it begins anew, and the file is put aside")
            with suppress(OSError):
                await aside(object(), lambda: path.replace(f"{path}.damaged"))
        except OSError as error:
            self._log.warning(f"{self._name}: cannot read {path}: {error.strerror}; it begins anew")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:  # a card that hangs: the thread is left alone
            self._writing.cancel()
            await asyncio.wait([self._writing])

    def load(self) -> dict[str, Any]:
        """Return what was saved last, also by a run that was killed; empty, if nothing was."""
        return dict(self._contents)

    def save(self, contents: Mapping[str, Any]) -> None:
        """Remember `contents`, which JSON can hold, instead of what was remembered before.

        They are read when they are written: a mapping that goes on changing may be saved once per change at hardly any
        cost. Written within `interval` seconds, at once by `flush`, and at the end.
        """
        self._contents = contents
        if not self._unsaved:
            self._unsaved = True
            self._arm()

    async def flush(self) -> None:
        """Return when what is saved is on the card, or could not be written there."""
        if self._writing is not None:
            await asyncio.wait([self._writing])  # it may hold less than what was saved since
        if self._unsaved:
            self._write()
        if self._writing is not None:
            await asyncio.wait([self._writing])

    def _arm(self) -> None:
        if self._timer is None and self._path is not None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._write)

    def _write(self) -> None:
        """Begin to write what is saved, if nobody does so already."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._path is None:
            self._unsaved = False
        elif self._writing is not None:
            self._arm()
        else:
            self._unsaved = False
            self._writing = asyncio.get_running_loop().create_task(self._replace(self._path))

    async def _replace(self, path: Path) -> None:
        try:
            data = orjson.dumps(dict(self._contents))
            if len(data) > LARGEST:
                raise OSError(None, f"{len(data)} bytes are more than {LARGEST}")
            if data != self._written:
                await aside(object(), lambda: _keep(path, data))
                self._written = data
        except OSError as error:
            if not self._failing:
                self._log.warning(f"{self._name}: cannot write {path}: {error.strerror}; it is tried again")
            self._failing = self._unsaved = True
            self._arm()
        else:
            if self._failing:
                self._failing = False
                self._log.info(f"{self._name}: {path} can be written again")
        finally:
            self._writing = None


def _read(path: Path) -> bytes:
    """Return the contents; empty, if there is no file. Raises ValueError when it is damaged, and OSError."""
    try:
        data, _, crc = path.read_bytes().rstrip(b"\n").rpartition(b"\n")
    except FileNotFoundError:
        return b""
    if not crc.isdigit() or int(crc) != zlib.crc32(data):
        raise ValueError("wrong checksum")
    if not isinstance(orjson.loads(data), dict):
        raise ValueError("no table")
    return data


def _keep(path: Path, data: bytes) -> None:
    """Make the file hold `data` and its checksum. Raises OSError."""
    path.parent.mkdir(mode=0o750, exist_ok=True)
    replace(path, b"%b\n%d\n" % (data, zlib.crc32(data)))
