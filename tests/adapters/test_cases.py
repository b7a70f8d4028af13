"""Golden cases: folders of bytes in and readings out; a new case is a new folder in `cases/<adapter>/`, without Python.

`device.toml` holds the device's keys without its port; `wire.bin`, or `wire.hex` with comments after `#`, what comes
over the line; `readings.jsonl` one line for each reading: `{"values": {...}}`, with `"time"` where the device gives its
own; `skipped.json` how often input was thrown away, for each reason (optional: never).
"""

from __future__ import annotations

import json
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway import registry
from tests.adapters.notebook import Notebook

CASES = Path(__file__).parent / "cases"
FOLDERS = sorted(path for path in CASES.glob("*/*") if path.is_dir())


def stream_of(case: Path) -> bytes:
    if (case / "wire.bin").exists():
        return (case / "wire.bin").read_bytes()
    return bytes.fromhex(" ".join(line.partition("#")[0] for line in (case / "wire.hex").read_text().splitlines()))


def fields_of(case: Path) -> dict[str, Any]:
    return tomllib.loads((case / "device.toml").read_text())


def cuts(stream: bytes) -> dict[str, list[bytes]]:
    """Return the stream whole, byte by byte, and in pieces at twenty random sets of places, always the same ones."""
    chance = random.Random(1)
    ways = {"whole": [stream], "byte by byte": [stream[at : at + 1] for at in range(len(stream))]}
    for number in range(20):
        edges = sorted(chance.choices(range(len(stream) + 1), k=chance.randint(1, 12)))
        pairs = zip([0, *edges], [*edges, len(stream)], strict=True)
        ways[f"pieces {number}"] = [stream[start:end] for start, end in pairs if end > start]
    return ways


@pytest.mark.parametrize("case", FOLDERS, ids=lambda path: f"{path.parent.name}/{path.name}")
async def test_the_readings_of_a_case_are_as_expected_however_its_bytes_are_cut(case: Path) -> None:
    """Bytes in, readings out: whole, byte by byte and in pieces."""
    adapter: Any = registry.adapter(case.parent.name)(port="/dev/null", **fields_of(case))
    expected = [json.loads(line) for line in (case / "readings.jsonl").read_text().splitlines()]
    skipped_path = case / "skipped.json"
    skipped = json.loads(skipped_path.read_text()) if skipped_path.exists() else {}
    for way, chunks in cuts(stream_of(case)).items():
        notes = Notebook()
        device = notes.device("d", adapter)
        take = adapter.taker(device)
        for chunk in chunks:
            assert take(chunk) is None
        found = [{"values": values} | ({} if time is None else {"time": time}) for _, values, time in notes.readings]
        # As text, so that 1, 1.0 and true are three things.
        assert [json.dumps(one, sort_keys=True) for one in found] == [
            json.dumps(one, sort_keys=True) for one in expected
        ], way
        assert device.skipped == skipped, way


def test_there_are_cases() -> None:
    """An empty folder of cases would prove nothing."""
    assert len(FOLDERS) >= 12
