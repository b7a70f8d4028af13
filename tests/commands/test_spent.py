"""What an earlier run has begun is known by its id, and no command begins before the card knows of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.devices import Spent, place_of_spent
from gateway.devices.spent import WAITING, mark
from tests.commands.obedient import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return place_of_spent(tmp_path / "outbox.db")


def of(path: Path | None, **more: float) -> Spent:
    return Spent(path, structlog.get_logger(), limit=10, **more)


def marks(count: int, start: int = 0) -> list[str]:
    return [mark("t", str(n)) for n in range(start, start + count)]


async def begin(spent: Spent, *these: str) -> None:
    """Begin these, and return when they have begun."""
    begun: list[str] = []
    for one in these:
        spent.begin(one, lambda one=one: begun.append(one))  # type: ignore[misc]
    await until(lambda: len(begun) == len(these))
    assert begun == list(these)


@given(st.text(), st.text(), st.text(), st.text())
def test_a_mark_stands_for_one_topic_and_one_id(topic: str, id: str, other: str, another: str) -> None:  # noqa: A002
    """Commands to two topics may have the same id."""
    topic, other = topic.replace("\0", ""), other.replace("\0", "")  # MQTT has none in a topic
    assert (mark(topic, id) == mark(other, another)) == ((topic, id) == (other, another))


async def test_what_was_begun_is_known_to_the_next_run(path: Path) -> None:
    """Also after a kill: it was on the card before it began."""
    killed = await of(path).__aenter__()
    first, second, third = marks(3)
    seen: list[bool] = []
    killed.begin(first, lambda: seen.append(first.encode() in path.read_bytes()))
    await until(lambda: seen)
    killed.begin(second, lambda: seen.append(second.encode() in path.read_bytes()))
    await until(lambda: len(seen) == 2)
    assert seen == [True, True]
    async with of(path) as again:
        assert (first in again, second in again, third in again) == (True, True, False)


async def test_commands_keep_their_order(path: Path) -> None:
    """One that need not be written waits for those before it that are being written, and otherwise for nobody."""
    async with of(path) as spent:
        begun: list[str] = []
        spent.begin(None, lambda: begun.append("at once"))
        assert begun == ["at once"]
        for name, one in (("a", mark("t", "a")), ("b", None), ("c", mark("t", "c"))):
            spent.begin(one, lambda name=name: begun.append(name))  # type: ignore[misc]
        assert begun == ["at once"]
        await until(lambda: len(begun) == 4)
        assert begun == ["at once", "a", "b", "c"]


async def test_the_file_is_bounded_and_keeps_the_newest(path: Path) -> None:
    """However many commands come, in however many runs."""
    for start in range(0, 100, 20):
        async with of(path) as spent:
            for one in marks(20, start):
                await begin(spent, one)
            assert path.stat().st_size <= 2 * 10 * 17
    async with of(path) as spent:
        assert [one in spent for one in marks(100)] == [False] * 90 + [True] * 10
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("end", [b"0123", b"\xff\n", b"0123456789abcdef", b"\n", b"X" * 16 + b"\n", b"0" * 40 + b"\n"])
async def test_what_a_power_cut_has_left_spoils_nothing(path: Path, end: bytes) -> None:
    """Half a line is none, and what is written behind it is a line of its own."""
    known, fresh = marks(2)
    path.write_bytes(known.encode() + b"\n" + end)
    async with of(path) as spent:
        assert known in spent
        await begin(spent, fresh)
    async with of(path) as spent:
        assert (known in spent, fresh in spent) == (True, True)


@given(st.binary())
def test_a_file_may_hold_anything(data: bytes) -> None:
    """It is never a reason not to start."""

    async def read(path: Path) -> None:
        path.write_bytes(data)
        async with of(path) as spent:
            await begin(spent, *marks(1))
        async with of(path) as spent:
            assert marks(1)[0] in spent

    with TemporaryDirectory() as folder:
        asyncio.run(read(Path(folder, "spent")))


async def test_a_card_that_takes_nothing_keeps_no_command_back(path: Path) -> None:
    """It is said once, and once more when it is over; then the file has all of them."""
    path.mkdir()  # what no file can be put in the place of
    with capture_logs() as log:
        async with of(None) as nowhere:
            await begin(nowhere, *marks(3))
            assert marks(1)[0] in nowhere
        async with of(path) as spent:
            await begin(spent, *marks(2))
            await begin(spent, *marks(1, 2))
            path.rmdir()
            await begin(spent, *marks(1, 3))
    said = [line["event"] for line in log]
    assert [line.split(":")[0] for line in said] == ["commands"] * len(said)
    assert sum("cannot write" in line for line in said) == 1
    assert "can be written again" in said[-1]
    async with of(path) as spent:
        assert all(one in spent for one in marks(4))


async def test_a_card_that_hangs_keeps_commands_back_for_a_moment_only(path: Path) -> None:
    """One write hangs, and no other is begun beside it; the end of the service waits for neither."""
    os.mkfifo(path.with_name(path.name + ".new"))  # to open it waits for a reader
    async with of(path, patience=0.01) as spent:
        await begin(spent, *marks(2))
        await begin(spent, *marks(1, 2))
    reader = os.open(path.with_name(path.name + ".new"), os.O_RDONLY | os.O_NONBLOCK)
    os.close(reader)


async def test_only_so_many_wait_for_the_card(path: Path) -> None:
    """A flood is refused."""
    async with of(path) as spent:
        for n in range(WAITING):
            spent.begin(mark("t", str(n)), lambda: None)
        with pytest.raises(ValueError, match="too many commands"):
            spent.begin(mark("t", "x"), lambda: None)
