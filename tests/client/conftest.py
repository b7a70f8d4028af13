"""What the tests of the client share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway import Client
from tests.scripted_broker import ScriptedBroker

NOWHERE = "mqtt://127.0.0.1:1"
"""Nobody listens there."""

Make = Callable[..., Client]


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    """A broker that does what it is told, and delivers."""
    async with ScriptedBroker() as made:
        made.deliver = True
        yield made


@pytest.fixture
def make(broker: ScriptedBroker) -> Make:
    """Make a client of that broker, or of others, that is quick to try again."""

    def made(*brokers: Any, **options: Any) -> Client:
        quick = {"connect_timeout": 5.0, "ack_timeout": 5.0, "reconnect_min": 0.01, "reconnect_max": 0.05}
        return Client(list(brokers) or broker.url, **{**quick, **options})

    return made
