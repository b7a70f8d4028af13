"""A card that fails: the process stays up, the account is right, and the card is used again by itself."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.cli.selftest.card import FULL, READ, READ_ONLY, SYNC, WRITE, Card, during
from tests.faults.scenario import STEPS, Fault, Life, fresh, live

SHM = Path("/dev/shm")
POINTS = 100  # of each kind of life
FAULTS = {"write": (FULL, WRITE, READ_ONLY), "sync": (SYNC,), "read": (READ,), "truncate": (WRITE,)}


@pytest.fixture
def memory() -> Iterator[Path]:
    """Give a folder in memory, where a sync costs nothing."""
    with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as folder:
        yield Path(folder)


async def one(folder: Path, fault: Fault | None, *, torn: bool = False, **how: bool) -> tuple[Life, Card]:
    """Live one life with a fault."""
    life = Life(fresh(folder), how.pop("durable", False))
    with capture_logs(), Card() as card:
        card.torn = torn
        await live(life, card, fault, **how)
    return life, card


@pytest.mark.parametrize("durable", [False, True], ids=["interval", "durable"])
@pytest.mark.parametrize("opening", [False, True], ids=["running", "opening"])
async def test_a_fault_at_each_point(memory: Path, opening: bool, durable: bool) -> None:
    """The n-th write, sync, read or truncate fails: once, for a while, or until the end; torn or not."""
    life, card = await one(memory, None, opening=opening, durable=durable)
    assert life.taken_in == life.delivered | life.aside | life.rejected
    assert len(life.taken_in) == 30 * STEPS
    points = [(at, name) for at, name in enumerate(card.operations[: life.points], 1)]
    if len(points) > POINTS:
        points = random.Random(1).sample(points, POINTS)
    hit = 0
    for index, (at, name) in enumerate(points):
        fault = during({name}, FAULTS[name][index % len(FAULTS[name])], at, at + (1, 7, 1 << 40)[index % 3])
        try:
            life, card = await one(
                memory, fault, opening=opening, durable=durable, heals=index % 4 != 3, torn=index % 2 == 1
            )
        except BaseException:
            print(f"{name} {at}, {index}")
            raise
        hit += bool(card.failed)
        assert opening or not life.refused
    assert hit > len(points) * 0.9


@given(data=st.data(), durable=st.booleans(), heals=st.booleans(), torn=st.booleans())
@settings(max_examples=int(os.environ.get("FAULTS", "60")))
def test_faults_at_any_points(data: st.DataObject, durable: bool, heals: bool, torn: bool) -> None:
    """Any faults after another, of any kind and length."""
    windows = []
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(sorted(FAULTS)))
        start = data.draw(st.integers(1, 120))
        windows.append(
            during({name}, data.draw(st.sampled_from(FAULTS[name])), start, start + data.draw(st.integers(1, 60)))
        )

    def fault(operation: str, number: int) -> int:
        return next((code for window in windows if (code := window(operation, number))), 0)

    with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as folder:
        asyncio.run(one(Path(folder), fault, durable=durable, heals=heals, torn=torn))  # type: ignore[arg-type]
