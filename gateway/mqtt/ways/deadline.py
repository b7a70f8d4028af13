"""A bound for each thing that is waited for while a link is made, with words for when it does not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.mqtt.errors import ConnectError, Kind


@asynccontextmanager
async def within(until: float, kind: Kind, words: str) -> AsyncIterator[None]:
    """Give the body until the loop time `until`, then raise a ConnectError of this kind with these words."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout_at(until):
            yield
    except TimeoutError:
        raise ConnectError(f"{words} within {max(0.0, until - began):.1f} s", kind=kind) from None
