"""Whether a transport reads: it does while nobody has a reason to stop it."""

from __future__ import annotations

import asyncio


class Gate:
    """Counts reasons, each under its name, so that one who reads again does not overrule another who cannot yet."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reasons: set[str] = set()

    def attach(self, transport: asyncio.Transport) -> None:
        """Take charge of a transport that reads."""
        self._transport = transport

    def is_shut(self, reason: str) -> bool:
        """Return whether this is one of the reasons not to read."""
        return reason in self._reasons

    def shut(self, reason: str) -> None:
        """Stop reading for this reason."""
        if not self._reasons and self._transport is not None:
            self._transport.pause_reading()
        self._reasons.add(reason)

    def open(self, reason: str) -> None:
        """Take this reason back, and read if it was the last."""
        if reason in self._reasons:
            self._reasons.remove(reason)
            if not self._reasons and self._transport is not None:
                self._transport.resume_reading()

    def open_wide(self) -> None:
        """Take every reason back: what still comes must be read for the end to be seen."""
        for reason in tuple(self._reasons):
            self.open(reason)
