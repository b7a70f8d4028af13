"""How a validator says in a person's words what is wrong, whoever it is that reads them: the config, or a program."""

from __future__ import annotations

from typing import LiteralString, NamedTuple

from pydantic_core import PydanticCustomError


class Conflict(NamedTuple):
    """Keys of one table that do not go together."""

    at: tuple[str | int, ...]  # the key to point at, below the table
    keys: tuple[str, ...]  # all that the judgement rests on: no judgement while one of them is wrong by itself
    message: str


def refuse(kind: LiteralString, words: str) -> PydanticCustomError:
    """Return the error that a validator raises about its value; `words` continue after the name of the key."""
    # pydantic wants the message as a template known in advance; "{words}" is that template.
    return PydanticCustomError(kind, "{words}", {"words": words})


def refuse_together(conflicts: list[Conflict]) -> PydanticCustomError:
    """Return the error that the validator of a whole table raises."""
    return PydanticCustomError(
        "conflict", "{words}", {"words": "; ".join(c.message for c in conflicts), "conflicts": conflicts}
    )
