"""What one link's broker takes: messages beyond it are set aside before they are sent, or sent with less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from gateway.mqtt import Connection, Properties
from gateway.outbox import Feed
from gateway.reading import Publication
from gateway.uplink.pace import Pace
from gateway.uplink.profiles import Profile, effective, judge
from gateway.uplink.route import Batch


class Fitting:
    """Judges batches by the broker's profile and what its CONNACK said."""

    def __init__(
        self,
        profile: Profile,
        connection: Connection,
        feed: Feed,
        *,
        say: Callable[[str], None],
        on_downgraded: Callable[[], None],
    ) -> None:
        """`say` is told what is not sent, or with less than was asked; `on_downgraded` is called for the latter."""
        self._profile = effective(profile, connection.limits)
        self._connection = connection
        self._feed = feed
        self._say = say
        self._on_downgraded = on_downgraded
        rated = profile.messages_per_second is not None or profile.bytes_per_second is not None
        self.pace = Pace(profile.messages_per_second, profile.bytes_per_second) if rated else None

    def announcement(self, publication: Publication) -> Batch | None:
        """Return what can be sent of a message that no outbox holds, such as a status; None, said once, if it never."""
        topic, payload, qos, retain, properties = publication
        verdict = judge(self._profile, topic.encode(), len(payload), qos, retain)
        if verdict.refused is not None:
            self._say(f"{topic} is not published: {verdict.refused}")
            return None
        return Batch([], verdict.qos, verdict.retain, cast("Properties | None", properties))

    def fit(self, batch: Batch) -> Sequence[Batch]:
        """Return what can be sent of a batch, in order; what never can is in quarantine."""
        if self._profile.unlimited:
            return (batch,)
        fitted: list[Batch] = []
        for message in batch.messages:
            topic, payload, token = message
            verdict = judge(self._profile, topic, len(payload), batch.qos, batch.retain)
            if verdict.refused is not None:
                self._say(f"a message is set aside: {verdict.refused}")
                word = "too-big" if verdict.refused.startswith(("payload", "packet")) else "rejected"
                self._feed.quarantine([token], f"{word}: {verdict.refused}")
                continue
            if verdict.downgraded is not None:
                self._on_downgraded()
                self._say(verdict.downgraded)
            if not fitted or (fitted[-1].qos, fitted[-1].retain) != (verdict.qos, verdict.retain):
                fitted.append(Batch([], verdict.qos, verdict.retain, batch.properties))
            fitted[-1].messages.append(message)
        return fitted
