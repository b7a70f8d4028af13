"""What one link's broker takes: messages beyond it are set aside before they are sent, or sent with less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from gateway.mqtt import Connection, Properties
from gateway.reading import Publication
from gateway.uplink.profiles import Profile, Verdict, effective, judge
from gateway.uplink.route import Batch

_SIZES = ("payload", "packet")  # how the reason begins that something is too large for


class Fitting:
    """Judges batches by the broker's profile and what its CONNACK said."""

    def __init__(
        self,
        profile: Profile,
        connection: Connection,
        set_aside: Callable[[int, str], None],
        *,
        say: Callable[[str], None],
        on_downgraded: Callable[[], None],
    ) -> None:
        """`set_aside` gets the token of what can never be sent, and why, beginning with the ledger's word.

        `say` is told what is not sent, or with less than was asked; `on_downgraded` is called for the latter.
        """
        self._profile = effective(profile, connection.limits)
        self._connection = connection
        self._set_aside = set_aside
        self._say = say
        self._on_downgraded = on_downgraded

    def announcement(self, publication: Publication) -> Batch | None:
        """Return what can be sent of a message that no outbox holds, such as a status; None, said once, if it never."""
        topic, payload, qos, retain, properties = publication
        verdict = judge(self._profile, topic.encode(), len(payload), qos, retain)
        if verdict.refused is not None:
            self._say(f"{topic} is not published: {verdict.refused}")
            return None
        if properties and not self._connection.fits(topic.encode(), payload, cast("Properties", properties)):
            self._say(f"{topic} is not published: with its properties it is larger than what this broker takes")
            return None
        return Batch([], verdict.qos, verdict.retain, cast("Properties | None", properties))

    def too_big(self, batch: Batch) -> bool:
        """Say whether this batch of one message is larger than what the broker takes."""
        ((topic, payload, _),) = batch.messages
        refused = self._refusal(
            batch, topic, payload, judge(self._profile, topic, len(payload), batch.qos, batch.retain)
        )
        return refused is not None and refused.startswith(_SIZES)

    def fit(self, batch: Batch) -> Sequence[Batch]:
        """Return what can be sent of a batch, in order; what never can is in quarantine."""
        if self._profile.unlimited:
            return (batch,)
        fitted: list[Batch] = []
        for message in batch.messages:
            topic, payload, token = message
            verdict = judge(self._profile, topic, len(payload), batch.qos, batch.retain)
            if (refused := self._refusal(batch, topic, payload, verdict)) is not None:
                self._say(f"a message is set aside: {refused}")
                word = "too-big" if refused.startswith(_SIZES) else "rejected"
                self._set_aside(token, f"{word}: {refused}")
                continue
            if verdict.downgraded is not None:
                self._on_downgraded()
                self._say(verdict.downgraded)
            if not fitted or (fitted[-1].qos, fitted[-1].retain) != (verdict.qos, verdict.retain):
                fitted.append(Batch([], verdict.qos, verdict.retain, batch.properties))
            fitted[-1].messages.append(message)
        return fitted

    def _refusal(self, batch: Batch, topic: bytes, payload: bytes, verdict: Verdict) -> str | None:
        """Return why the broker will never take a message, of which `verdict` judges all but the properties."""
        if verdict.refused is not None or not batch.properties:
            return verdict.refused
        try:
            fits = self._connection.fits(topic, payload, batch.properties)
        except ValueError:
            fits = True  # what is wrong with them is said when they are to be sent
        return None if fits else "packet is, with its properties, larger than what this broker takes"
