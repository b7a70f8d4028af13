"""What the tests of the MQTT engine share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.mqtt.certificates import Authority
from tests.mqtt.recorder import Recorder
from tests.scripted_broker import ScriptedBroker


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    """A broker that does what it is told."""
    async with ScriptedBroker() as made:
        yield made


@pytest.fixture
def recorder() -> Recorder:
    """Who is told about the link."""
    return Recorder()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that the client trusts."""
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("tls") / "stranger")


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> tuple[Path, Path]:
    """The broker's certificate and key, for 127.0.0.1 and localhost."""
    return authority.sign("broker", "IP:127.0.0.1,DNS:localhost")
