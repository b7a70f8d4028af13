"""The brokers, each started once for all tests here; they are gone before the tests of other folders begin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.brokers import Amqtt, EveryListener, RabbitMq


@pytest.fixture(scope="package")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EveryListener]:
    """Give a mosquitto with every listener."""
    with EveryListener(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


@pytest.fixture(scope="package")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    """Give a RabbitMQ."""
    with RabbitMq(tmp_path_factory.mktemp("interop") / "rabbitmq") as broker:
        yield broker


@pytest.fixture(scope="package")
def amqtt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Amqtt]:
    """Give an amqtt."""
    with Amqtt(tmp_path_factory.mktemp("interop") / "amqtt") as broker:
        yield broker
