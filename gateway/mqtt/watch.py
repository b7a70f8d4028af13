"""What the broker owes, and by when: pure decisions of a given time, for one timer that is armed rarely."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from gateway.mqtt.options import Options


class Verdict(NamedTuple):
    """What a look at the link gives: why it is lost, whether to send PINGREQ, and when to look again."""

    lost: str | None
    ping: bool
    due: float


class Watch:
    """The times of one link, in seconds of one monotonic clock.

    The owner writes them down as things happen, and looks when something is due.
    """

    def __init__(self, options: Options, grain: float, now: float) -> None:
        self.keep_alive = options.keep_alive  # 0: none
        self.ack_timeout = options.ack_timeout
        self.sent = now  # when something was last sent
        self.heard = False  # whether anything came since the last look
        self.pinged: float | None = None  # since when an answer to PINGREQ is owed
        self.paused: float | None = None  # since when the broker reads more slowly than we write
        self.asked: dict[int, tuple[str, float]] = {}  # which other answers are owed since when, the oldest first
        self._grain = grain  # by which the oldest message may seem too old
        self._heard_by = now  # no later than this, something was heard
        self._listening = -inf  # since when we read; before, the broker may have answered. inf: we do not read

    def deaf(self) -> None:
        """Take note that we do not read, so that nothing is overdue."""
        self._listening = inf

    def listen(self, now: float) -> None:
        """Take note that we read again."""
        self._listening = self._heard_by = now

    def look(self, now: float, oldest: float | None) -> Verdict:
        """Judge the link at `now`; `oldest` is when the oldest unacknowledged message was sent."""
        if self.heard:
            self.heard, self._heard_by = False, now
        due = inf
        for end, words in self._owed(oldest):
            if now >= end:
                return Verdict(f"{words} for {self.ack_timeout:.1f} s", False, inf)
            due = min(due, end)
        deaf = self._listening == inf
        if not self.keep_alive or (self.pinged is not None and not deaf):
            return Verdict(None, False, due)
        # Silence from the other side counts as well: at QoS 0, sending succeeds long after the other side has gone.
        end = (self.sent if deaf else min(self.sent, self._heard_by)) + self.keep_alive
        if now >= end:
            return Verdict(None, True, min(due, now + self.ack_timeout))
        return Verdict(None, False, min(due, end))

    def _owed(self, oldest: float | None) -> Iterator[tuple[float, str]]:
        """Give by when, and what is missing then."""
        if oldest is not None:
            yield max(oldest, self._listening) + self.ack_timeout + self._grain, "no acknowledgement"
        if self.paused is not None:
            yield max(self.paused, self._listening) + self.ack_timeout, "the broker has read nothing"
        for what, since in self.asked.values():
            yield max(since, self._listening) + self.ack_timeout, f"no answer to {what}"
            break
        if self.pinged is not None:
            yield max(self.pinged, self._listening) + self.ack_timeout, "no answer to PINGREQ"
