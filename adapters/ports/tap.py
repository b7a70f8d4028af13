"""Who looks on while bytes come in, such as a person who wants to see them; looking changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Look: TypeAlias = Callable[[bytes], None]

_LOOK: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def tapped(look: Look) -> Iterator[None]:
    """Have `look` called with each chunk that a port gives, for ports opened within, also by tasks that begin there."""
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)


def looker() -> Look | None:
    """Return who looks on; a port asks once, when it opens."""
    return _LOOK.get()
