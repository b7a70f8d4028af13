"""Answers that somebody waits for: to a SUBSCRIBE, to a ping, or for the window to be empty."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from gateway.mqtt.line import Line

Key: TypeAlias = int | str  # a packet identifier, or a word where there is one question of its kind

# Questions without a packet identifier.
AUTH, _PONG, _EMPTY = 0, "pong", "empty"


class Asking:
    """One future for each question that goes over this line. It is true while anybody waits."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._answers: dict[Key, asyncio.Future[list[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._answers)

    def __contains__(self, key: Key) -> bool:
        return key in self._answers

    async def ask(self, what: str, question: int, data: bytes) -> list[int]:
        """Send a question with this number and return its answer; the link is lost without one in time."""
        self._line.doze.end()
        answer = self._about(question)
        self._line.send(data)
        self._line.asked(question, what)
        return await asyncio.shield(answer)

    async def ping(self) -> None:
        """Send PINGREQ, unless an answer is owed already, and wait for the answer."""
        self._line.doze.end()
        pong = self._about(_PONG)
        self._line.ping()
        await asyncio.shield(pong)

    async def until_empty(self, timeout: float) -> None:
        """Wait until nothing is in flight, at most `timeout` seconds."""
        self._line.doze.end()
        await asyncio.wait([self._about(_EMPTY)], timeout=timeout)

    def answered(self, question: int, answer: list[int]) -> None:
        """Give the answer to the question with this number, if it was asked."""
        self._line.answered(question)
        self._settle(question, answer)

    def ponged(self) -> None:
        """Take note of a PINGRESP."""
        self._line.ponged()
        self._settle(_PONG, [])

    def emptied(self) -> None:
        """Take note that nothing is in flight."""
        self._settle(_EMPTY, [])

    def fail(self, error: Exception) -> None:
        """Raise the error where answers are waited for."""
        for asked in self._answers.values():
            asked.set_exception(error)
            asked.exception()  # it is no mistake when nobody waits any more
        self._answers.clear()

    def _about(self, key: Key) -> asyncio.Future[list[int]]:
        """Return the future answer, the same for all who ask before it comes; to be shielded."""
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = asyncio.get_running_loop().create_future()
        return answer

    def _settle(self, key: Key, answer: list[int]) -> None:
        asked = self._answers.pop(key, None)
        if asked is not None:
            asked.set_result(answer)
