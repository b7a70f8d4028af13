"""What the log shows of a bug."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import structlog

from gateway import logs


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """Undo what a test has set up for its process."""
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_traceback_says_where_and_no_values(style: str) -> None:
    """What is in the variables may be a password, and is nobody's business who reads a log."""
    stream = io.StringIO()
    logs.configure(style, stream=stream)

    def fail(password: str) -> None:
        raise RuntimeError("a bug")

    try:
        fail("sesame" * 2)
    except RuntimeError:
        structlog.get_logger().exception("boiler: a bug")
    shown = stream.getvalue()
    assert "RuntimeError: a bug" in shown
    assert "in fail" in shown
    assert "sesamesesame" not in shown
