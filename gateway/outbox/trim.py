"""Giving up by hand: what somebody does not want to keep goes into the ledger."""

from __future__ import annotations

from collections.abc import Callable

from gateway.outbox import ends
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

    def is_old(one: Reading) -> bool:
        return one.stream != LEDGER and times.wall(one) < before

    count = await _give_up(log, keeper, times, follower, is_old)
    follower.tell()
    return count


async def forget(log: Log, keeper: Keeper, times: Times, follower: Follower) -> int:
    """Give up all that waits for `follower`, which has no link, and have no such follower; return how many that is.

    Raises OSError if the card cannot be read.
    """
    ends.discard(log, [entry for entry in await keeper.quarantined() if entry.uplink == follower.name])
    follower.left(follower.unrelease(), sent=True)
    count = await _give_up(log, keeper, times, follower, lambda _: True)
    log.remove(follower.name)  # in the same turn of the loop, so that nothing was put in meanwhile
    return count


async def _give_up(
    log: Log, keeper: Keeper, times: Times, follower: Follower, is_meant: Callable[[Reading], bool]
) -> int:
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
            ends.damaged(log, follower, damaged)
            readings, end = page.readings, page.end
        times.refresh()
        count += ends.lose(
            log, follower, [one for one in readings if one.id in follower.todo and is_meant(one)], REASON, times.wall
        )
        at = end
    return count
