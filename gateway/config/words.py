"""What validation finds, said in words for the person who wrote the config."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from gateway.config.files import header, inside
from gateway.config.problems import did_you_mean
from gateway.units import duration_text, size_text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from gateway.config.positions import Path

_EXPECTED = {
    "string": "a string",
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "list": "an array",
    "tuple": "an array",
    "set": "an array",
    "frozen_set": "an array",
    "dict": "a table",
    "mapping": "a table",
    "model": "a table",
    "dataclass": "a table",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_NAMED = {"devices": "device", "uplinks": "uplink", "metrics": "metric", "computed": "metric", "headers": "header"}
# What a key of such a name holds is not repeated in a message.
_COULD_BE_SECRET = re.compile(r"pass|secret|token|key|credential|auth|pin$|psk", re.IGNORECASE)


class Finding(NamedTuple):
    """One thing that validation has found: where in the config, of what kind, and in words."""

    path: Path
    kind: str  # "missing", "unknown", "name", "conflict" or "value"
    message: str
    keys: tuple[Path, ...] = ()  # of a conflict: all that the judgement rests on

    @property
    def at_key(self) -> bool:
        """Whether the key is wrong, and not its value."""
        return self.kind in ("unknown", "name")


def findings(
    errors: Iterable[ErrorDetails],
    data: Any,
    model: type[BaseModel],
    *,
    below: Path = (),
    more_keys: Sequence[str] = (),
) -> list[Finding]:
    """Put pydantic's errors about `data`, which stands at `below`, into words. `more_keys` are known as well."""
    found: dict[tuple[Path, str], Finding] = {}
    for error in errors:
        for finding in _put(error, data, model, below, more_keys):
            place = (finding.path, finding.message if finding.kind == "conflict" else finding.kind)
            found[place] = _joined(found[place], finding) if place in found else finding
    return list(found.values())


def _joined(one: Finding, other: Finding) -> Finding:
    """Return what two members of a union say about one value as one: it must be a string or a whole number."""
    head, must, rest = one.message.partition(": must be ")
    also = other.message.partition(": must be ")[2]
    if not must or not also:
        return one
    wanted, comma, instead = rest.partition(", not ")
    return one._replace(message=f"{head}{must}{wanted} or {also.partition(', not ')[0]}{comma}{instead}")


def _put(
    error: ErrorDetails, data: Any, model: type[BaseModel], below: Path, more_keys: Sequence[str]
) -> Iterator[Finding]:
    kind, context = error["type"], error.get("ctx", {})
    path = _walk(error["loc"], data)
    raw = _at(path, data)
    here = (*below, *path)
    if kind == "conflict":
        for conflict in context["conflicts"]:
            keys = tuple((*here, key) for key in conflict.keys)
            yield Finding((*here, *conflict.at), "conflict", conflict.message, keys)
    elif kind == "missing":
        here = (*here, error["loc"][-1])
        yield Finding(here, "missing", _missing(here))
    elif kind == "too_short" and here == ("uplinks",):
        yield Finding(here, "missing", _missing(here))
    elif kind == "extra_forbidden":
        known = [*keys_at(model, path[:-1]), *(more_keys if len(path) == 1 else ())]
        yield Finding(here, "unknown", _unknown(here, raw, known))
    elif error["loc"][-1:] == ("[key]",):
        yield Finding(
            here, "name", f'{_NAMED.get(str(here[-2]), "")} name "{here[-1]}" {_sentence(error, here[-1])}'.lstrip()
        )
    else:
        key = next((part for part in reversed(path) if isinstance(part, str)), None)
        sentence = _sentence(error, None if key is not None and _COULD_BE_SECRET.search(key) else raw)
        if path:
            is_table = sentence.startswith("must be a table") and len(here) == 2
            yield Finding(here, "value", f"{key}: {sentence}{f'; write {header(here)}' if is_table else ''}")
        else:
            yield Finding((*here, *_spoken_of(sentence, raw)), "conflict", f"{header(here)}: {sentence}")


def _spoken_of(sentence: str, table: Any) -> Path:
    """Return the key that a judgement on a whole table begins with, if it stands in the table."""
    first = sentence.split(" ", 1)[0].rstrip(":")
    return (first,) if isinstance(table, Mapping) and first in table else ()


def _missing(path: Path) -> str:
    if path == ("uplinks",):
        return 'no uplink: add [uplinks.NAME] with brokers = ["mqtt://HOST"]'
    return f'missing key "{path[-1]}" {inside(path[:-1])}'


def _unknown(path: Path, raw: Any, known: Sequence[str]) -> str:
    key = str(path[-1])
    if len(path) == 1 and isinstance(raw, dict):
        return f"unknown table [{key}]{did_you_mean(key, known, quote='[{}]')}"
    return f'unknown key "{key}" {inside(path[:-1])}{did_you_mean(key, known)}'


def _sentence(error: ErrorDetails, raw: Any) -> str:
    """Say what is wrong with a value, in words that follow the name of its key."""
    kind, context = error["type"], error.get("ctx", {})
    if "words" in context:
        return str(context["words"])
    if kind in ("value_error", "assertion_error") and "error" in context:
        return str(context["error"]) or "is not right"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {_bound(context[name], raw)}"
    if kind == "literal_error":
        choices = [choice.replace("'", '"') for choice in re.split(r", | or ", str(context["expected"]))]
        wanted = " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
        return f"must be {wanted}{_shown(raw)}{_choice(raw, choices)}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty" if not raw else f"must have at least {context.get('min_length')} entries"
    if kind == "string_too_long":
        return f"must not be longer than {context['max_length']} characters"
    if kind == "too_long":
        return f"must not have more than {context['max_length']} entries"
    expected = next(
        (
            words
            for start, words in _EXPECTED.items()
            if re.fullmatch(rf"{start}_(type|parsing|from_float)|{start}", kind)
        ),
        None,
    )
    if expected:
        return f"must be {expected}, not {_kind_of(raw)}{_hint(expected, raw)}"
    return re.sub(r"^Input should be", "must be", error["msg"]).rstrip(".")


def _choice(raw: Any, choices: Sequence[str]) -> str:
    """Return which of the choices was meant: the same with or without quotes, or one that looks like it."""
    if isinstance(raw, str):
        same = f"; write {raw} without quotes" if raw in choices else ""
        return same or did_you_mean(raw, [choice.strip('"') for choice in choices if choice.startswith('"')])
    return f'; write "{raw}" in quotes' if f'"{raw}"' in choices else ""


def _bound(bound: Any, raw: Any) -> str:
    """Write a bound as its value is written: as a duration, a size or a number."""
    if isinstance(raw, str):
        return size_text(int(bound)) if raw.endswith("B") else duration_text(float(bound))
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def _shown(raw: Any) -> str:
    if isinstance(raw, str):
        return f', not "{raw}"' if len(raw) <= 60 and raw.isprintable() else ""
    return (
        ""
        if raw is None
        else f", not {raw}"
        if isinstance(raw, int | float) and not isinstance(raw, bool)
        else f", not {_kind_of(raw)}"
    )


def _kind_of(raw: Any) -> str:
    match raw:
        case bool():
            return "true or false"
        case int():
            return "a whole number"
        case float():
            return "a fraction"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "a table"
        case None:
            return "that"
    return "a date or a time"


def _hint(expected: str, raw: Any) -> str:
    if isinstance(raw, str):
        if expected == "a whole number" and re.fullmatch(r"-?\d{1,18}|0x[\da-fA-F]{1,16}", raw):
            return f"; write {raw} without quotes"
        if expected == "a number" and re.fullmatch(r"-?\d{1,18}(\.\d{1,18})?", raw):
            return f"; write {raw} without quotes"
        if expected == "true or false" and raw.lower() in ("true", "false"):
            return f"; write {raw.lower()} without quotes"
        if expected == "an array":
            return '; write ["..."]'
    if expected == "a string" and isinstance(raw, bool | int | float):
        return f'; write "{str(raw).lower()}" in quotes'
    return ""


def _walk(loc: Sequence[str | int], data: Any) -> Path:
    """Return the part of an error's location that is a path in the data, without pydantic's own marks between."""
    path: list[str | int] = []
    for part in loc:
        if isinstance(data, Mapping) and part in data:
            known = True
        else:
            known = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if known:
            data = data[part]
            path.append(part)
    return tuple(path)


def _at(path: Path, data: Any) -> Any:
    for part in path:
        data = data[part]
    return data


def keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """Return the keys that a model knows at `path` below it."""
    kinds: list[Any] = [model]
    for part in path:
        kinds = [below for kind in kinds for below in _below(kind, part)]
    return [field.alias or name for kind in kinds if _is_model(kind) for name, field in kind.model_fields.items()]


def _below(kind: Any, part: str | int) -> list[Any]:
    if _is_model(kind):
        field = kind.model_fields.get(part)
        return _members(field.annotation) if field else []
    arguments = get_args(kind)
    return _members(arguments[-1]) if arguments and get_origin(kind) is not None else []


def _members(kind: Any) -> list[Any]:
    """Return what an annotation stands for: the members of a union, without `Annotated` around them."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _members(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return [found for member in get_args(kind) for found in _members(member)]
    return [kind]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def without_secrets(message: str, data: Any) -> str:
    """Take out of a message whatever could be a secret in `data`: adapters write messages of their own."""
    for secret in sorted(_secrets(data), key=len, reverse=True):
        message = message.replace(secret, "***")
    return message


def _secrets(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            if isinstance(value, str) and len(value) > 2 and _COULD_BE_SECRET.search(key):
                yield value
            else:
                yield from _secrets(value)
    elif isinstance(data, list):
        for value in data:
            yield from _secrets(value)
