"""How a run ended, and whether the file is the one that it left: what the next start finds out and enters."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.outbox import Loss, Outbox, OutboxError
from gateway.outbox.card.mark import SLOT, Mark, read, write
from tests.outbox.following import crashed, ids_of, take_all


def put(outbox: Outbox, count: int, stream: str = "boiler") -> None:
    for _ in range(count):
        outbox.put(stream, {"n": outbox.taken_in})


def brief(losses: list[Loss]) -> list[tuple[str, str, int, int, int, str]]:
    return [(loss.uplink, loss.stream, loss.epoch, loss.first_seq, loss.count, loss.reason) for loss in losses]


async def test_after_an_unclean_end_the_ledger_says_which_readings_are_not_known(tmp_path: Path) -> None:
    """For each uplink and stream: the epoch, and the first seq of which the card knew nothing; said once."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["near", "far"]) as outbox:
        put(outbox, 3)
        put(outbox, 5, "weather")
        await outbox.flush()
        put(outbox, 2)
        copy = crashed(path, "copy.db")
    with capture_logs() as logs:
        async with Outbox(copy, ["near", "far"]) as outbox:
            losses = await outbox.ledger()
            assert brief(losses) == [
                (name, stream, 1, seq, 0, "crash-window")
                for name in ("near", "far")
                for stream, seq in (("boiler", 4), ("weather", 6))
            ]
            assert all(loss.last_seq == loss.first_seq for loss in losses)
            assert outbox.follow("near").account.waiting == 8
        async with Outbox(copy, ["near", "far"]) as outbox:
            assert len(await outbox.ledger()) == 4, "an orderly stop leaves nothing to say"
    said = [entry["event"] for entry in logs]
    assert len(said) == 1
    assert "epoch 1 was not stopped in order" in said[0]
    assert "1 s of readings at most" in said[0]


async def test_a_stream_that_is_known_to_come_is_named_before_the_card_has_heard_of_it(tmp_path: Path) -> None:
    """A device that wrote nothing in the last run, or that is new, loses nothing unnamed when the next one crashes."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], streams=["boiler", "new"]) as outbox:
        put(outbox, 2, "weather")
    async with Outbox(path, ["cloud"], streams=["boiler", "new"]) as outbox:
        put(outbox, 1, "weather")
        await outbox.flush()
        copy = crashed(path, "copy.db")
        put(outbox, 3)
    async with Outbox(copy, ["cloud"], streams=["boiler", "new"]) as outbox:
        assert sorted(brief(await outbox.ledger())) == [
            ("cloud", "boiler", 2, 1, 0, "crash-window"),
            ("cloud", "new", 2, 1, 0, "crash-window"),
            ("cloud", "weather", 2, 2, 0, "crash-window"),
        ]


async def test_a_stream_of_which_the_crashed_run_wrote_nothing_is_named_as_well(tmp_path: Path) -> None:
    """With a broker that answers nothing is written: what earlier runs knew of names helps, and else it is "?"."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"]) as outbox:
        copy = crashed(path, "copy.db")
        put(outbox, 3)
    async with Outbox(copy, ["cloud"]) as outbox:
        assert brief(await outbox.ledger()) == [("cloud", "?", 1, 0, 0, "crash-window")]
    async with Outbox(path, ["cloud"]) as outbox:
        copy = crashed(path, "copy.db")
    async with Outbox(copy, ["cloud"]) as outbox:
        assert brief(await outbox.ledger()) == [("cloud", "boiler", 2, 1, 0, "crash-window")]


async def test_where_nothing_accepted_can_be_lost_an_unclean_end_is_not_worth_a_word(tmp_path: Path) -> None:
    """commit_interval = "0s": what was not on the card was not taken over by anybody."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], commit_interval=0) as outbox:
        put(outbox, 3)
        await outbox.flush()
        copy = crashed(path, "copy.db")
    with capture_logs() as logs:
        async with Outbox(copy, ["cloud"]) as outbox:
            assert await outbox.ledger() == []
            assert outbox.follow("cloud").account.waiting == 3
    assert logs == []


async def test_a_restored_image_is_recognised_and_no_number_is_used_twice(tmp_path: Path) -> None:
    """An older copy of the file in its place: the gap is in the ledger, epochs go on, and what it holds is sent."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"]) as outbox:
        put(outbox, 3)
    shutil.copy(path, tmp_path / "image")
    for _ in range(3):
        async with Outbox(path, ["cloud"]) as outbox:
            put(outbox, 3)
            outbox.follow("cloud").acknowledged(ids_of(await take_all(outbox.follow("cloud"), 3)))
    shutil.copy(tmp_path / "image", path)
    with capture_logs() as logs:
        async with Outbox(path, ["cloud"]) as outbox:
            assert outbox.epoch == 5
            assert brief(await outbox.ledger()) == [("cloud", "?", epoch, 0, 0, "went-back") for epoch in (1, 2, 3, 4)]
            assert [one.epoch for one in await take_all(outbox.follow("cloud"), 3)] == [1, 1, 1]
    assert [entry["event"].startswith("the outbox went back in time") for entry in logs] == [True]


async def test_what_was_lost_within_an_epoch_is_recognised(tmp_path: Path) -> None:
    """A card that lied about what it had taken by the orderly stop."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], commit_interval=0) as outbox:
        put(outbox, 3)
        await outbox.flush()
        copy = crashed(path, "copy.db")
        put(outbox, 1)
    shutil.copy(f"{path}.mark", f"{copy}.mark")
    async with Outbox(copy, ["cloud"]) as outbox:
        assert brief(await outbox.ledger()) == [("cloud", "?", 1, 0, 0, "went-back")]


async def test_a_deleted_file_is_no_new_one(tmp_path: Path) -> None:
    """Whoever deletes the outbox loses what was in it, and is told so; receivers still see every (epoch, seq) once."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"]) as outbox:
        put(outbox, 3)
    path.unlink()
    async with Outbox(path, ["cloud"]) as outbox:
        assert outbox.epoch == 2
        assert brief(await outbox.ledger()) == [("cloud", "?", 1, 0, 0, "went-back")]


async def test_without_a_mark_a_file_goes_on(tmp_path: Path) -> None:
    """A file of an earlier version, or one that was copied alone, is no reason for a word."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"]) as outbox:
        put(outbox, 3)
    Path(f"{path}.mark").unlink()
    with capture_logs() as logs:
        async with Outbox(path, ["cloud"]) as outbox:
            assert outbox.epoch == 2
            assert await outbox.ledger() == []
    assert logs == []


def test_one_copy_of_the_mark_is_whole_at_any_time(tmp_path: Path) -> None:
    """It is written in place, which needs no room; a write that is torn anywhere leaves the one before."""
    path = tmp_path / "mark"
    assert read(path) is None
    before: Mark | None = None
    for epoch in range(1, 12):
        mark = Mark(epoch, epoch, epoch << 40)
        if path.exists():
            old = path.read_bytes()
            write(path, mark)
            new = path.read_bytes()
            changed = [at for at in range(len(new)) if new[at] != old[at]]
            torn = tmp_path / "torn"
            torn.write_bytes(new[: changed[len(changed) // 2]] + b"\xff" + new[changed[len(changed) // 2] + 1 :])
            assert read(torn) == before
        else:
            write(path, mark)
        assert read(path) == mark
        before = mark
        assert path.stat().st_size == 2 * SLOT
    path.write_bytes(b"something else")
    assert read(path) is None
    write(path, Mark(20, 20, 0))
    assert read(path) == Mark(20, 20, 0)


async def test_a_path_that_cannot_be_a_file_is_an_error_in_words(tmp_path: Path) -> None:
    """A mistake in the config is told to whoever made it, and nothing is moved for it."""
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder", tmp_path / "file" / "o.db"):
        with pytest.raises(OutboxError, match=str(path)):
            async with Outbox(path, ["cloud"]):
                pass
    assert (tmp_path / "folder" / "inside").is_dir()
