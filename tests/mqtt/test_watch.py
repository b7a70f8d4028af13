"""The deadlines of a link, by a clock that the test turns."""

from __future__ import annotations

from math import inf

import pytest

from gateway.mqtt import Options
from gateway.mqtt.watch import Watch


def watch(keep_alive: float = 30.0) -> Watch:
    return Watch(Options("me", keep_alive=keep_alive, ack_timeout=5.0), 0.1, 100.0)


def test_silence_is_broken_after_keep_alive() -> None:
    """PINGREQ goes out when nothing was sent for `keep_alive` seconds, and not before."""
    link = watch()
    assert link.look(129.9, None) == (None, False, 130.0)
    link.sent = 110.0
    link.heard = True
    assert link.look(130.0, None) == (None, False, 140.0)
    assert link.look(140.0, None).ping


def test_silence_of_the_broker_is_broken_as_well() -> None:
    """A link that only sends at QoS 0 asks whether anybody is there."""
    link = watch()
    link.sent = 129.0
    assert link.look(130.0, None).ping


def test_without_keep_alive_nothing_is_due() -> None:
    """Keep-alive 0 means none: an idle link costs nothing."""
    assert watch(0).look(10_000.0, None) == (None, False, inf)


def test_an_answer_to_ping_is_owed() -> None:
    """A PINGRESP that is overdue loses the link, and no second PINGREQ goes out meanwhile."""
    link = watch()
    link.pinged = 130.0
    assert link.look(134.9, None) == (None, False, 135.0)
    assert link.look(135.0, None).lost == "no answer to PINGREQ for 5.0 s"


def test_an_acknowledgement_is_owed() -> None:
    """The oldest message loses the link when it is certainly older than `ack_timeout`."""
    link = watch()
    assert link.look(105.0, 100.0) == (None, False, pytest.approx(105.1))
    assert link.look(105.2, 100.0).lost == "no acknowledgement for 5.0 s"


def test_a_broker_that_does_not_read_is_left() -> None:
    """A transport that stays paused for `ack_timeout` is lost, whatever the QoS."""
    link = watch(0)
    link.paused = 101.0
    assert link.look(105.9, None) == (None, False, 106.0)
    assert link.look(106.0, None).lost == "the broker has read nothing for 5.0 s"


def test_the_earliest_deadline_is_the_one_that_counts() -> None:
    """One timer serves all deadlines."""
    link = watch()
    link.paused, link.pinged = 101.0, 99.5
    assert link.look(103.0, 102.0).due == 104.5
    link.pinged = None
    assert link.look(103.0, 102.0).due == 106.0
    link.paused = None
    assert link.look(103.0, 102.0).due == pytest.approx(107.1)
