"""What is wrong in a config, and where."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from gateway.refusals import Conflict, refuse, refuse_together

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Problem(NamedTuple):
    """One thing that is wrong. Line and column count from 1, the column in characters."""

    path: Path
    line: int
    col: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.col}: error: {self.message}"


class ConfigError(ValueError):
    """The config is wrong: `problems` says where and how, one after the other as they stand in the files."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def did_you_mean(word: str, choices: Iterable[str], *, quote: str = '"{}"', likeness: float = 0.6) -> str:
    """Return `; did you mean "..."?` if one of the choices looks like the word, else nothing."""
    close = get_close_matches(word.lower(), list(choices), n=1, cutoff=likeness)
    return f"; did you mean {quote.format(close[0])}?" if close else ""


__all__ = ["ConfigError", "Conflict", "Problem", "did_you_mean", "refuse", "refuse_together"]
