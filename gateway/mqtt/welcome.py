"""The broker's answer to CONNECT, for the one who waits for it: yes, no, or why there is none."""

from __future__ import annotations

import asyncio
import ssl

from gateway.mqtt.endings import lost_in_words, refused
from gateway.mqtt.errors import ConnectError, ConnectRefused, Kind, ProtocolError
from gateway.mqtt.packets import Connack
from gateway.mqtt.reasons import NOT_AUTHORISED


class Welcome:
    """One answer: the first of what is told here. What comes later changes nothing."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def answered(self) -> bool:
        """Whether it is settled, one way or the other."""
        return self._answer.done()

    async def wait(self) -> None:
        """Wait for it. Raises ConnectError."""
        await self._answer

    def give(self) -> None:
        """Tell that the link is open."""
        self._answer.set_result(None)

    def refuse(self, connack: Connack) -> None:
        """Tell that the broker said no."""
        self._fail(refused(connack, self._level))

    def distrust(self, words: str) -> None:
        """Tell that this side refuses the broker."""
        self._fail(ConnectRefused(words, reason=NOT_AUTHORISED, level=self._level))

    def broken(self, error: ProtocolError) -> None:
        """Tell that what came is not MQTT."""
        self._fail(ConnectError(f"the answer to CONNECT is not MQTT: {error}", kind="protocol"))

    def lost(self, exc: Exception | None) -> None:
        """Tell that the transport is gone."""
        kind: Kind = "tls" if isinstance(exc, ssl.SSLError) else "closed"
        self._fail(ConnectError(f"{lost_in_words(exc)}, without an answer to CONNECT", kind=kind))

    def cancel(self) -> None:
        """Give it up."""
        self._answer.cancel()

    def _fail(self, error: ConnectError) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)
