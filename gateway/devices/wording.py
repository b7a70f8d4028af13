"""What the log says of errors, of input that was thrown away, and of time."""

from __future__ import annotations

_SAMPLE = 60  # characters of thrown-away input in a line of the log


def words(error: BaseException) -> str:
    """Say what an error says, of several the first one, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split()) or type(error).__name__


def excerpt(sample: bytes) -> str:
    """Show the beginning of input that was thrown away, after a colon; nothing of nothing."""
    if not sample:
        return ""
    text = repr(bytes(sample[:_SAMPLE]))[1:]
    return f": {text[:_SAMPLE]}…" if len(text) > _SAMPLE or len(sample) > _SAMPLE else f": {text}"


def span(seconds: float) -> str:
    """Say how long something was."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
