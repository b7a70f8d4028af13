"""What the tests of the matrix share with the system tests: a folder on a real disk, and real brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.scripted_broker import ScriptedBroker
from tests.system.conftest import broker, folder, second
from tests.system.harness import Mosquitto

__all__ = ["broker", "folder", "mosquitto", "scripted", "second"]


@pytest.fixture
def mosquitto(folder: Path) -> Iterator[Mosquitto]:
    """Give a running mosquitto."""
    with Mosquitto(folder, "mosquitto") as running:
        yield running


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedBroker]:
    """Give a running broker that does what it is told."""
    async with ScriptedBroker() as running:
        yield running
