"""What the broker owes, and by when: pure decisions of a given time, for one timer that is armed rarely."""

from __future__ import annotations

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
        self._grain = grain  # by which the oldest message may seem too old
        self._heard_by = now  # no later than this, something was heard

    def look(self, now: float, oldest: float | None) -> Verdict:
        """Judge the link at `now`; `oldest` is when the oldest unacknowledged message was sent."""
        if self.heard:
            self.heard, self._heard_by = False, now
        due = inf
        if oldest is not None:
            due = oldest + self.ack_timeout + self._grain
            if now >= due:
                return Verdict(f"no acknowledgement for {self.ack_timeout:.1f} s", False, inf)
        if self.paused is not None:
            end = self.paused + self.ack_timeout
            if now >= end:
                return Verdict(f"the broker has read nothing for {self.ack_timeout:.1f} s", False, inf)
            due = min(due, end)
        if self.pinged is not None:
            end = self.pinged + self.ack_timeout
            if now >= end:
                return Verdict(f"no answer to PINGREQ for {self.ack_timeout:.1f} s", False, inf)
            return Verdict(None, False, min(due, end))
        if not self.keep_alive:
            return Verdict(None, False, due)
        # Silence from the other side counts as well: at QoS 0, sending succeeds long after the other side has gone.
        end = min(self.sent, self._heard_by) + self.keep_alive
        if now >= end:
            return Verdict(None, True, min(due, now + self.ack_timeout))
        return Verdict(None, False, min(due, end))
