"""Giving up by hand: what is older than somebody wants to keep goes into the ledger."""

from __future__ import annotations

from gateway.outbox.follower import Follower
from gateway.outbox.keeper import Keeper
from gateway.outbox.log import Log
from gateway.outbox.times import Times
from gateway.reading import LEDGER, Reading

AT_ONCE = 1000
"""Readings that are looked at, at once."""
REASON = "shed"


async def trim(log: Log, keeper: Keeper, times: Times, follower: Follower, before: float) -> int:
    """Give up what `follower` has not sent and what was measured before `before`, in UTC seconds; return how many.

    What is with a broker is left alone, because it may arrive, and so are the ledger's own entries. Raises OSError if
    the card cannot be read.
    """
    count, at = 0, follower.floor
    while at < log.next_id:
        readings: list[Reading]
        if at >= log.tail.start:
            end = min(at + AT_ONCE, log.next_id)
            readings = log.tail.slice(at, end)
        else:
            page, damaged = await keeper.read(at, log.tail.start, AT_ONCE)
            if page.end <= at:
                raise OSError("the card cannot be read")
            log.damaged(follower, damaged)
            readings, end = page.readings, page.end
        times.refresh()
        old = [one for one in readings if one.stream != LEDGER and one.id in follower.todo and times.wall(one) < before]
        count += log.lose(follower, old, REASON, times.wall)
        at = end
    follower.tell()
    return count
