"""A bound for each thing that is waited for while a link is made, with words for when it does not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.mqtt.errors import ConnectError, Kind


@asynccontextmanager
async def within(until: float, kind: Kind, words: str) -> AsyncIterator[None]:
    """Give the body until the loop time `until`, then raise a ConnectError of this kind with these words.

    How long that was is not said: it is a little different each time, and who logs a reason only once compares words.
    """
    try:
        async with asyncio.timeout_at(until):
            yield
    except TimeoutError:
        raise ConnectError(f"{words} in time (connect_timeout)", kind=kind) from None
