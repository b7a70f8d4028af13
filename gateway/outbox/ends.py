"""The ends that a reading can meet but one, which is that it arrives: lost, set aside, or damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.outbox.follower import Follower
from gateway.outbox.ledger import Loss, entries
from gateway.outbox.log import Log
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.shelf import Bad
from gateway.reading import EPOCH_SHIFT, Publication, Reading

SET_ASIDE = 1000
"""Readings that the quarantine holds without a card; older ones go into the ledger."""


def lose(
    log: Log,
    follower: Follower,
    readings: Sequence[Reading],
    reason: str,
    wall: Callable[[Reading], float],
    level: int = 1,
) -> int:
    """Give up what `follower` still has of these readings, put it into the ledger, and return how many that is.

    `level`: see `entries`.
    """
    mine = _wanted_by(follower, readings)
    lost = [reading for reading in mine if follower.give_up(reading.id, reading.id + 1, reason)]
    _enter(log, follower.name, lost, reason, wall, level)
    _done_with(log, lost)
    return len(lost)


def set_aside(
    log: Log,
    follower: Follower,
    readings: Sequence[Reading],
    reason: str,
    now: float,
    wall: Callable[[Reading], float],
) -> int:
    """Put what `follower` still has of these readings into the quarantine, and their seq into the ledger.

    Returns how many that is. `reason` begins with the ledger's word, and may go on after a colon; `now` is UTC.
    """
    aside = [reading for reading in readings if follower.give_up(reading.id, reading.id + 1, reason)]
    log.quarantine.entries += [Quarantined(follower.name, reading, reason, now) for reading in aside]
    follower.account.quarantined += len(aside)
    _enter(log, follower.name, aside, reason.partition(":")[0], wall)
    _done_with(log, aside)
    if not log.has_card and len(log.quarantine.entries) > SET_ASIDE:
        discard(log, log.quarantine.entries[:-SET_ASIDE])
    return len(aside)


def discard(log: Log, entries: Sequence[Quarantined]) -> None:
    """Out of the quarantine; that they are lost is in the ledger already."""
    _let_go(log, entries)
    for entry in entries:
        log.followers[entry.uplink].account.quarantined -= 1


def retry(log: Log, entries: Sequence[Quarantined], boot: float, wall: Callable[[Reading], float]) -> None:
    """Out of the quarantine, and in again as the newest, with the time at which it was measured.

    The ledger goes on to explain the seq that was never delivered; the new one is a reading like any other.
    """
    _let_go(log, entries)
    for uplink, reading, _, _ in entries:
        time = None if isinstance(reading.values, Publication) else wall(reading)
        one = log.put(reading.stream, reading.values, boot, time)
        log.taken_in -= 1  # it was counted when it was taken in first
        for follower in log.followers.values():
            if follower.name == uplink:
                follower.account.quarantined -= 1
                follower.account.lost -= 1
            else:
                follower.account.waiting -= follower.wants(reading.stream)
                follower.pass_over(one)


def damaged(log: Log, follower: Follower, blocks: Sequence[Bad]) -> int:
    """Put what could not be read back for `follower` into the ledger: how many, not which."""
    total = 0
    for first, last, most in blocks:
        last = min(last, log.flushed - 1)  # what is damaged may say more than can be
        if count := follower.give_up(first, last + 1, "disk-error", most):
            total += count
            loss = Loss(follower.name, "?", first >> EPOCH_SHIFT, 0, 0, 0.0, 0.0, count, "disk-error")
            log.ledger.enter(loss)
    log.settle()
    return total


# ----


def _wanted_by(follower: Follower, readings: Sequence[Reading]) -> Sequence[Reading]:
    """Return those that are for this uplink; the others need not be in its way any more."""
    if follower.devices is None:
        return readings
    for reading in readings:
        if not follower.wants(reading.stream):
            follower.pass_over(reading.id)
    return [reading for reading in readings if follower.wants(reading.stream)]


def _done_with(log: Log, readings: Sequence[Reading]) -> None:
    if not readings:
        return
    if not log.has_card:
        for reading in readings:
            if all(reading.id in follower.acked for follower in log.followers.values()):
                log.take_off(log.tail.punch(reading.id, reading.id + 1))
    log.settle()


def _let_go(log: Log, entries: Sequence[Quarantined]) -> None:
    log.quarantine.remove(entries)
    if not log.has_card:
        log.quarantine.gone.clear()


def _enter(
    log: Log,
    uplink: str,
    readings: Sequence[Reading],
    reason: str,
    wall: Callable[[Reading], float],
    level: int = 1,
) -> None:
    for loss in entries(uplink, readings, reason, wall, level):
        log.ledger.enter(loss)
