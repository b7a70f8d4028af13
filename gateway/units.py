"""Durations and sizes as people write them in a config file: "250ms", "30d", "500MB", "64KiB"."""

from __future__ import annotations

import re
from typing import Annotated, Any, LiteralString, TypeAlias

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

DURATION_PATTERN = r"^([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)$"
SIZE_PATTERN = r"^([0-9]{1,15}(?:\.[0-9]{1,9})?)(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$"

_DURATION_HINT = 'write "250ms", "1s", "5m", "2h" or "30d"'
_SIZE_HINT = 'write "64KiB", "500MB" or "1GB"'
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def parse_duration(text: str) -> float:
    """Return the seconds that `text` stands for, such as 0.25 for "250ms". Raises ValueError if it is none."""
    match = re.fullmatch(DURATION_PATTERN, text)
    if match is None:
        raise ValueError(f'"{text}" is not a duration; {_DURATION_HINT}')
    number, unit = match.groups()
    # Dividing by 1000 is exact where multiplying by 0.001 is not.
    return float(number) / 1000 if unit == "ms" else float(number) * _SECONDS[unit]


def parse_size(text: str) -> int:
    """Return the bytes that `text` stands for, such as 500000000 for "500MB". Raises ValueError if it is none."""
    match = re.fullmatch(SIZE_PATTERN, text)
    if match is None:
        raise ValueError(f'"{text}" is not a size; {_SIZE_HINT}')
    number, unit = match.groups()
    return int(number) * _BYTES[unit] if number.isdigit() else round(float(number) * _BYTES[unit])


def duration_text(seconds: float) -> str:
    """Return how a duration in seconds is written, in the largest unit in which it is a whole number."""
    if seconds == 0:
        return "0s"
    for unit, factor in _SECONDS.items():
        count = seconds / factor
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def size_text(size: int) -> str:
    """Return how a size in bytes is written, in the largest unit in which it is a whole number."""
    fitting = [
        (factor, unit) for unit, factor in _BYTES.items() if unit != "KB" and size >= factor and size % factor == 0
    ]
    factor, unit = max(fitting, default=(1, "B"))
    return f"{size // factor}{unit}"


def _is_code(info: ValidationInfo) -> bool:
    """Return whether the value comes from Python code: what is read from a config file is validated with a context."""
    return info.context is None


def _duration(value: Any, info: ValidationInfo) -> float:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise _refusal("duration", str(error)) from None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        if _is_code(info):
            return float(value)
        raise _refusal("duration", f'{value} is not a duration; write "{duration_text(value)}"')
    raise _refusal("duration", f"not a duration; {_DURATION_HINT}")


def _size(value: Any, info: ValidationInfo) -> int:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except ValueError as error:
            raise _refusal("size", str(error)) from None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15:
        if _is_code(info):
            return value
        raise _refusal("size", f'{value} is not a size; write "{size_text(value)}"')
    raise _refusal("size", f"not a size; {_SIZE_HINT}")


def _refusal(kind: LiteralString, message: str) -> PydanticCustomError:
    # pydantic wants the message as a template known in advance; "{words}" is that template.
    return PydanticCustomError(kind, "{words}", {"words": message})


# A field of this type is written "250ms" in a config file, and in JSON mode dumped as that. In Python it is, and may be
# given as, a float of seconds.
Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(duration_text, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]

# A field of this type is written "500MB" in a config file, and in JSON mode dumped as that. In Python it is, and may be
# given as, an int of bytes.
Size: TypeAlias = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(size_text, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN}),
]
