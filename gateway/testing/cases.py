"""Golden cases: folders of bytes in and readings out; a new case is a new folder `<adapter>/<case>/`, without Python.

`device.toml` holds the keys of the device without its port; `wire.bin`, or `wire.hex` with comments after `#`, what
comes over the line; `readings.jsonl` one line for each reading: `{"values": {...}}`, with `"time"` where the device
gives its own; `skipped.json` how often input was thrown away, for each reason (optional: never).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from gateway import registry
from gateway.config.secret import Surroundings
from gateway.devices import Put, RunningDevice
from gateway.reading import Value
from gateway.testing.stand_in import SerialStandIn

PIECES = 20
"""Times that the bytes of a case are cut into pieces at random places, always the same ones."""
SHOWN = 3
"""Lines of the readings that are shown when they are not as expected."""


class CaseFailed(AssertionError):
    """A golden case is not what its folder says, or has no adapter or file to be judged by."""


@dataclass(frozen=True)
class Case:
    """One golden case: the folder that it is."""

    folder: Path

    @property
    def adapter(self) -> str:
        """The adapter, as the config calls it: the name of the folder around."""
        return self.folder.parent.name

    @property
    def keys(self) -> dict[str, Any]:
        """The keys of the device, without its port. Raises CaseFailed."""
        try:
            return tomllib.loads(self._read("device.toml").decode())
        except ValueError as error:
            raise CaseFailed(f"{self.folder / 'device.toml'}: {error}") from None

    @property
    def wire(self) -> bytes:
        """What comes over the line. Raises CaseFailed."""
        if not (self.folder / "wire.hex").exists():
            return self._read("wire.bin")
        lines = self._read("wire.hex").decode().splitlines()
        try:
            return bytes.fromhex(" ".join(line.partition("#")[0] for line in lines))
        except ValueError as error:
            raise CaseFailed(f"{self.folder / 'wire.hex'}: {error}") from None

    @property
    def readings(self) -> list[str]:
        """The readings that are to come of it, each as JSON with sorted keys. Raises CaseFailed."""
        lines = self._read("readings.jsonl").decode().splitlines()
        try:
            return [_as_text(json.loads(line)) for line in lines]
        except ValueError as error:
            raise CaseFailed(f"{self.folder / 'readings.jsonl'}: {error}") from None

    @property
    def skipped(self) -> dict[str, int]:
        """How often something is thrown away of it, for each reason."""
        path = self.folder / "skipped.json"
        found: dict[str, int] = json.loads(path.read_bytes()) if path.exists() else {}
        return found

    def check(self) -> None:
        """Have the adapter read the bytes whole, one by one and in pieces. Raises CaseFailed with what is not right."""
        try:
            kind = registry.adapter(self.adapter)
        except registry.AdapterError as error:
            raise CaseFailed(f"{self.folder}: {error}; a case is a folder <adapter>/<case>") from error
        port = {"port": "/dev/null"} if "port" in kind.model_fields else {}
        # As a config does: files that it names are beside it.
        keys = {**port, **self.keys}
        adapter: Any = kind.model_validate(keys, context=Surroundings(self.folder, os.environ))
        if not hasattr(adapter, "taker"):
            raise CaseFailed(f"{self.folder}: {kind.__name__} has no `taker`: it takes no bytes that just come")
        asyncio.run(self._check(adapter, cuts(self.wire), self.readings, self.skipped))

    async def _check(
        self, adapter: Any, ways: Mapping[str, list[bytes]], readings: list[str], skipped: dict[str, int]
    ) -> None:
        for way, chunks in ways.items():
            found: list[str] = []
            device = RunningDevice(
                "case", adapter, {}, _into(found), on_state=lambda *_: None, log=structlog.get_logger()
            )
            take: Callable[[bytes], Awaitable[None] | None] = adapter.taker(device)
            for chunk in chunks:
                take(chunk)
            if found != readings:
                raise CaseFailed(f"{self.folder / 'readings.jsonl'}, {way}: {_difference(readings, found)}")
            if device.skipped != skipped:
                raise CaseFailed(f"{self.folder / 'skipped.json'}, {way}: expected {skipped}, found {device.skipped}")

    def stand_in(self, folder: Path) -> SerialStandIn:
        """Return a device at a serial port in `folder` that says what this case says, over and over."""
        return SerialStandIn(folder, self.wire, **self.keys)

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise CaseFailed(f"{self.folder} has no {name}") from None


def cases_of(adapter: str, folder: Path) -> list[Case]:
    """Return the golden cases of one adapter in a folder of cases, by name."""
    return [Case(path) for path in sorted(folder.glob(f"{adapter}/*")) if path.is_dir()]


def cuts(stream: bytes) -> dict[str, list[bytes]]:
    """Return the stream in chunks, by how it is cut: whole, byte by byte and in pieces."""
    chance = random.Random(1)  # noqa: S311 - the same each time
    ways = {"whole": [stream], "byte by byte": [stream[at : at + 1] for at in range(len(stream))]}
    for number in range(PIECES):
        edges = sorted(chance.choices(range(len(stream) + 1), k=chance.randint(1, 12)))
        pairs = zip([0, *edges], [*edges, len(stream)], strict=True)
        ways[f"in pieces, try {number}"] = [stream[start:end] for start, end in pairs if end > start]
    return ways


def _into(found: list[str]) -> Put:
    def put(_: str, values: dict[str, Value], time: float | None, __: float = 0.0) -> None:
        found.append(_as_text({"values": values} | ({} if time is None else {"time": time})))

    return put


def _as_text(reading: Any) -> str:
    # As text, 1, 1.0 and true are three things.
    return json.dumps(reading, sort_keys=True, ensure_ascii=False)


def _difference(expected: list[str], found: list[str]) -> str:
    """Say where two lists of readings part."""
    at = next((n for n, (one, other) in enumerate(zip(expected, found, strict=False)) if one != other), None)
    at = min(len(expected), len(found)) if at is None else at
    shown = [f"expected {len(expected)} readings, found {len(found)}; they part in line {at + 1}:"]
    for mark, lines in (("expected", expected), ("found   ", found)):
        shown += [f"  {mark} {line}" for line in lines[at : at + SHOWN] or ["nothing"]]
    return "\n".join(shown)
