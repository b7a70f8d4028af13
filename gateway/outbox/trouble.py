"""Trouble with the card: said once when it begins and once when it is over, and tried again with growing pauses."""

from __future__ import annotations

import errno
import sqlite3
from typing import Any

from gateway.backoff import Backoff

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class Trouble:
    """With one thing that is done with the card; `what` is the participle, `meanwhile` says what happens until then."""

    def __init__(self, what: str, meanwhile: str, logger: Any) -> None:
        self.reason: str | None = None
        """Why it cannot be done now, in the ledger's words; None: it can."""
        self._what = what
        self._meanwhile = meanwhile
        self._logger = logger
        self._backoff = Backoff(0.2, 5.0)

    def met(self, error: Exception) -> float:
        """Note that it has failed, and return the seconds to wait before it is tried again."""
        if self.reason is None:
            self._logger.error(f"the outbox cannot be {self._what}; {self._meanwhile} until it can", error=str(error))
        self.reason = reason_of(error)
        return self._backoff.next()

    def over(self) -> None:
        """Note that it was done."""
        if self.reason is not None:
            self.reason = None
            self._backoff.reset()
            self._logger.info(f"the outbox can be {self._what} again")


def reason_of(error: Exception) -> str:
    """Return the ledger's word for what a failing card takes away."""
    if isinstance(error, sqlite3.Error):
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    else:
        full = isinstance(error, OSError) and error.errno in NO_SPACE
    return "no-space" if full else "disk-error"
