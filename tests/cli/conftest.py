"""What commands that read a device are tried with: a cable to plug, and a log that is set up for each anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.adapters.cable import Cable


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """Undo what the command has set up for its process."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    with Cable(tmp_path / "tty") as cable:
        yield cable
