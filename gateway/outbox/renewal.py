"""What the log learns of the card later than at the start: what earlier runs have left, or that it was set up anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.outbox import ends
from gateway.outbox.card.salvage import Salvaged
from gateway.outbox.card.walk import Walked
from gateway.outbox.claims import Claim
from gateway.outbox.follower import Follower
from gateway.outbox.ledger import Loss
from gateway.outbox.log import Log
from gateway.outbox.ranges import Ranges
from gateway.reading import EPOCH_SHIFT


def reveal(log: Log, found: Walked) -> None:
    """Have followers send what was looked through."""
    log.hidden.remove(found.start, found.end)
    log.blocks += found.blocks
    for start, end in found.high:
        log.high_ids.add(start, end)
    for name, waiting in found.waiting.items():
        if (follower := log.followers.get(name)) is not None:
            follower.reveal(found.start, found.end, waiting, found.high)


def adopt(log: Log, found: Salvaged) -> None:
    """Take over what a damaged file knew, also for the next transaction; what it held is known only by `reveal`."""
    for name, claim in found.claims.items():
        aside = sum(row[0] == name for row in found.aside)
        if (follower := log.followers.get(name)) is None:
            # Of an uplink that is not in the config: what has come since was not kept for it.
            gone = [*claim.acked, *log.hidden.gaps(0, log.next_id)]
            claim = Claim(gone, [], {}, claim.devices)
            log.add(Follower(name, log.epoch, claim, 0, aside, log.high_ids, log.hidden))
            continue
        for start, end in claim.acked:
            follower.acked.add(start, end)
        follower.account.lost += aside
        follower.account.quarantined += aside
    for loss in found.losses:
        log.ledger.enter(loss)
    log.salvaged = found
    log.noted = True


def on_card(log: Log) -> dict[str, int]:
    """Return how many readings each uplink lacks, of those that are only on the card, as far as they are known."""
    in_memory = [*log.kept, *log.tail.slice(log.tail.start, log.next_id)]
    return {
        name: follower.account.waiting - sum(map(follower.lacks, in_memory)) for name, follower in log.followers.items()
    }


def recovered(log: Log, present: Sequence[tuple[int, int]], most: Mapping[str, int]) -> int:
    """Note that the card was set up anew and holds these [start, end) of ids: what it has lost is given up.

    That is at most so many, by uplink: of ids that are missing, some may have been thinned. What is still in memory
    is to be written again. Returns how many readings are lost, to whom most are.
    """
    in_memory = [(one.id, one.id + 1) for one in log.kept]  # and all behind `start`
    stored, start, lost = Ranges([*present, *in_memory, *log.hidden]), log.tail.start, [0]
    for name, follower in log.followers.items():
        missing = [span for a, b in follower.acked.gaps(0, start) for span in stored.gaps(a, b)]
        count = 0
        for first, end in missing:
            count += ends.damaged(log, follower, [(first, end - 1, max(0, most.get(name, 0) - count))])
        lost.append(count)
        for _, end in log.hidden:  # how many of these, nobody knows
            epoch = (end - 1) >> EPOCH_SHIFT
            log.ledger.enter(Loss(name, "?", epoch, 0, 0, 0.0, 0.0, 0, "disk-error"))
    log.set_up_anew(present)
    return max(lost)
