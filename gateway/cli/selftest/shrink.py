"""From a list that fails to the shortest that still does: delta debugging, within a number of tries and a time.

A. Zeller, R. Hildebrandt: Simplifying and Isolating Failure-Inducing Input, IEEE TSE 28 (2002), section 3.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def shrink(items: Sequence[T], fails: Callable[[list[T]], Awaitable[bool]], more: Callable[[], bool]) -> list[T]:
    """Return a part of `items`, which fail, that fails as well and is as short as could be found.

    `more` is asked before each try whether there may be one.
    """
    left, parts = list(items), 2
    while len(left) > 1 and more():
        size = -(-len(left) // parts)
        pieces = [left[at : at + size] for at in range(0, len(left), size)]
        others = [left[:at] + left[at + size :] for at in range(0, len(left), size)]
        if (smaller := await _first(pieces, fails, more)) is not None:
            left, parts = smaller, 2
        elif len(pieces) > 2 and (smaller := await _first(others, fails, more)) is not None:
            left, parts = smaller, max(2, parts - 1)
        elif size == 1:
            return left
        else:
            parts = min(len(left), parts * 2)
    return left


async def _first(
    lists: Sequence[list[T]], fails: Callable[[list[T]], Awaitable[bool]], more: Callable[[], bool]
) -> list[T] | None:
    """Return the first that fails."""
    for one in lists:
        if not more():
            return None
        if await fails(one):
            return one
    return None
