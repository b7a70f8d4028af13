"""Answers that somebody waits for: to a SUBSCRIBE, to a ping, or for the window to be empty."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

Key: TypeAlias = int | str  # a packet identifier, or a word where there is one question of its kind


class Asking:
    """One future for each question. It is true while anybody waits."""

    def __init__(self) -> None:
        self._answers: dict[Key, asyncio.Future[list[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._answers)

    def __contains__(self, key: Key) -> bool:
        return key in self._answers

    def about(self, key: Key) -> asyncio.Future[list[int]]:
        """Return the future answer, the same for all who ask before it comes; to be shielded."""
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = asyncio.get_running_loop().create_future()
        return answer

    def settle(self, key: Key, answer: list[int]) -> None:
        """Give the answer, if it was asked for."""
        asked = self._answers.pop(key, None)
        if asked is not None:
            asked.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Raise the error where answers are waited for."""
        for asked in self._answers.values():
            asked.set_exception(error)
            asked.exception()  # it is no mistake when nobody waits any more
        self._answers.clear()
