"""Commands as text: what is written to a device for each, and which of its lines is the answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from adapters.frames.text import value as text_value
from gateway import Command, Duration, Value

GROUPS = frozenset({"value", "error"})


def word_of(value: Value, words: Mapping[str, str] | None) -> str:
    """Return how a value is written: by `words`, where there are some, and else as it is. Raises ValueError."""
    word = str(value).lower() if isinstance(value, bool) else str(value)
    if words is not None:
        if word not in words:
            raise ValueError(f"none of {', '.join(words)}")
        return words[word]
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("text with control characters, which could be a second command")
    return word


class Template(BaseModel):
    """What is written for a command, and what the device answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    write: str = Field(
        min_length=1, max_length=4096, description='What is written, with its end of line; "{value}" is the value.'
    )
    words: dict[str, str] | None = Field(
        default=None,
        min_length=1,
        description='How values are written, as in { true = "ON", false = "OFF" }; any other is refused.',
    )
    answer: str | None = Field(
        default=None,
        description="Searched in each line after it: the line that says it is done. A group named value is what the "
        "device then has; one named error means no. Default: it is done once it is written.",
    )
    timeout: Duration = Field(default=2.0, gt=0, description="How long the answer may take.")

    @field_validator("answer")
    @classmethod
    def _answer(cls, given: str | None) -> str | None:
        if given is not None:
            try:
                groups = re.compile(given).groupindex
            except re.error as error:
                raise ValueError(f"is not a pattern: {error}") from None
            if not groups.keys() <= GROUPS:
                raise ValueError('has a group that is neither "value" nor "error"')
        return given

    def text(self, value: Value) -> str:
        """Return what is written for a value. Raises ValueError."""
        return self.write.replace("{value}", word_of(value, self.words))


def _template(given: Any) -> Any:
    return {"write": given} if isinstance(given, str) else given


Written: TypeAlias = Annotated[Template, BeforeValidator(_template, json_schema_input_type=str | Template)]
"""A template, or only what it writes."""


class Writing:
    """Carries commands out, one after the other, on a line that was just opened."""

    def __init__(self, templates: Mapping[str, Template], encoding: str) -> None:
        self._templates = templates
        self._encoding = encoding
        self._answer: re.Pattern[str] | None = None  # what is waited for
        self._match: asyncio.Future[re.Match[str]]

    def passing(self, decode: Callable[[bytes], dict[str, Value]]) -> Callable[[bytes], dict[str, Value]]:
        """Return a decoder that keeps what is an answer, and leaves all other lines to `decode`."""

        def heard(line: bytes) -> dict[str, Value]:
            if self._answer is None or (found := self._answer.search(line.decode(self._encoding, "replace"))) is None:
                return decode(line)
            self._answer = None
            if not self._match.done():  # by its timeout, a moment ago
                self._match.set_result(found)
            return {}

        return heard

    async def serve(self, commands: AsyncIterator[Command], write: Callable[[bytes], Awaitable[None]]) -> None:
        """Carry out what comes, until cancelled. Raises what `write` raises."""
        async for command in commands:
            template = self._templates[command.metric]
            try:
                data = template.text(command.value).encode(self._encoding)
            except ValueError as error:
                command.refuse(str(error))
                continue
            if template.answer is None:
                await write(data)
                command.done()
            else:
                await self._ask(command, template, template.answer, data, write)

    async def _ask(
        self, command: Command, template: Template, answer: str, data: bytes, write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self._match = asyncio.get_running_loop().create_future()
        self._answer = re.compile(answer)
        try:
            await write(data)
            found = await self._answered(template.timeout)
        finally:
            self._answer = None
        if found is None:
            command.fail(f"no answer from the device for {template.timeout:g} s")
        elif error := found.get("error"):
            command.refuse(f"the device says: {error}")
        else:
            text = (found.get("value") or "").strip()
            command.done(text_value(text) if text else None)

    async def _answered(self, timeout: float) -> dict[str, str | None] | None:
        try:
            async with asyncio.timeout(timeout):
                return (await self._match).groupdict()
        except TimeoutError:
            return None
