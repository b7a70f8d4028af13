"""What a device remembers across restarts: whole or not at all, and never in the way."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gateway import Adapter, Device
from gateway.devices import Memory, place_of_memory
from gateway.devices import memory as room
from tests.adapters.notebook import Notebook, running


def of(path: Path | None, **more: Any) -> Memory:
    return Memory(path, "meter", structlog.get_logger(), **more)


async def remembered(path: Path) -> dict[str, Any]:
    async with of(path) as memory:
        return memory.load()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return place_of_memory(tmp_path / "outbox.db", "meter")


async def test_what_is_saved_at_the_end_is_there_again(path: Path) -> None:
    """An orderly stop writes what is not yet written, and nothing else is left in the folder."""
    async with of(path) as memory:
        assert memory.load() == {}
        memory.save({"total": 41})
        memory.save({"total": 42, "ä": [1.5, None, "x"]})
    assert await remembered(path) == {"total": 42, "ä": [1.5, None, "x"]}
    assert os.listdir(path.parent) == ["meter.json"]


async def test_what_was_flushed_survives_a_kill(path: Path) -> None:
    """After `flush` the file holds what was saved, whatever happens to the process then."""
    memory = of(path)
    await memory.__aenter__()
    for total in range(5):
        memory.save({"total": total})
        await memory.flush()
        assert await remembered(path) == {"total": total}


async def test_it_is_written_by_itself_after_a_while(path: Path) -> None:
    """Nobody has to flush; a mapping that goes on changing is written as it is then, and once."""
    async with of(path, interval=0.01) as memory:
        contents = {"total": 0}
        for contents["total"] in range(1000):
            memory.save(contents)
        async with asyncio.timeout(20):
            while not path.exists():
                await asyncio.sleep(0)
        assert await remembered(path) == {"total": 999}


async def test_without_a_place_it_lasts_as_long_as_the_process() -> None:
    """A device without a file remembers over its own retries."""
    async with of(None) as memory:
        memory.save({"total": 1})
        await memory.flush()
        assert memory.load() == {"total": 1}


@pytest.mark.parametrize("cut", [0, 1, 5, -1])
async def test_a_damaged_file_is_put_aside_and_said(path: Path, cut: int) -> None:
    """A file that is cut off or changed is not believed, and kept for a look."""
    async with of(path) as memory:
        memory.save({"total": 42})
    whole = path.read_bytes()
    path.write_bytes(whole[:cut].replace(b"42", b"43") if cut != -1 else whole.replace(b"42", b"43"))
    with capture_logs() as logs:
        assert await remembered(path) == {}
    assert ["is damaged" in entry["event"] for entry in logs] == [True]
    assert path.with_name("meter.json.damaged").exists()
    assert not path.exists()


async def test_a_crash_between_two_steps_of_a_write_leaves_the_old_one(path: Path) -> None:
    """What a write that was cut off has left beside the file does no harm."""
    async with of(path) as memory:
        memory.save({"total": 42})
    path.with_name("meter.json.new").write_bytes(b'{"tot')
    assert await remembered(path) == {"total": 42}
    async with of(path) as memory:
        memory.save({"total": 43})
    assert await remembered(path) == {"total": 43}


async def test_a_card_that_takes_nothing_is_said_once_and_tried_again(tmp_path: Path) -> None:
    """Trouble with the card raises nothing; it is said once, and so is its end."""
    path = tmp_path / "in the way" / "meter.json"
    path.parent.write_text("a file where the folder should be")
    with capture_logs() as logs:
        async with of(path, interval=0.001) as memory:
            for total in range(3):
                memory.save({"total": total})
                await memory.flush()
            assert memory.load() == {"total": 2}
            path.parent.unlink()
            async with asyncio.timeout(20):
                while not path.exists():
                    await asyncio.sleep(0)
            await memory.flush()
    said = [entry["event"] for entry in logs]
    assert ["cannot read" in said[0], "cannot write" in said[1], "can be written again" in said[2]] == [True] * 3
    assert len(said) == 3
    assert await remembered(path) == {"total": 2}


async def test_it_is_bounded(path: Path) -> None:
    """A device that would remember too much keeps what it had, and is told."""
    with capture_logs() as logs:
        async with of(path) as memory:
            memory.save({"total": 1})
            await memory.flush()
            memory.save({"text": "x" * room.LARGEST})
            await memory.flush()
    assert "are more than" in logs[0]["event"]
    assert await remembered(path) == {"total": 1}


async def test_what_has_not_changed_is_not_written_again(path: Path) -> None:
    """A counter that stands still does not wear the card."""
    async with of(path) as memory:
        memory.save({"total": 1})
        await memory.flush()
        before = path.stat()
        memory.save({"total": 1})
        await memory.flush()
    assert path.stat().st_ino == before.st_ino


async def test_a_flush_waits_for_what_was_saved_last(path: Path) -> None:
    """A write that is already on its way with something older is not taken for the one that was asked for."""
    async with of(path) as memory:
        memory.save({"total": 1})
        first = asyncio.create_task(memory.flush())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        memory.save({"total": 2})
        await memory.flush()
        assert await remembered(path) == {"total": 2}
        await first


async def test_a_card_that_hangs_holds_up_neither_loop_nor_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that never returns costs a device two seconds at its end, and the loop nothing."""
    path.parent.mkdir()
    os.mkfifo(f"{path}.new")  # opening it for writing waits for somebody who reads
    monkeypatch.setattr(room, "_PATIENCE", 0.01)
    async with of(path) as memory:
        memory.save({"total": 1})
    assert not path.exists()
    reader = os.open(f"{path}.new", os.O_RDONLY | os.O_NONBLOCK)  # lets the thread go
    async with asyncio.timeout(20):
        while any(thread.name == "mqtt aside" for thread in threading.enumerate()):
            await asyncio.sleep(0)
    os.close(reader)


class Counter(Adapter):
    """Counts its own runs."""

    async def run(self, device: Device) -> None:
        total = device.memory.load().get("total", 0) + 1
        device.memory.save({"total": total})
        await device.memory.flush()
        await device.emit({"total": total})
        await asyncio.Event().wait()


async def test_an_adapter_finds_what_it_saved_in_an_earlier_run(path: Path) -> None:
    """`device.memory` is read before the adapter runs and written when the device is stopped."""

    async def once() -> list[dict[str, Any]]:
        notes = Notebook()
        async with running(notes.device("meter", Counter(), memory=path)):
            await notes.until(lambda: bool(notes.readings))
        return notes.of("meter")

    for expected in (1, 2, 3):
        assert await once() == [{"total": expected}]
