"""What a line of text says, in five spellings: JSON, key=value, CSV, one value, and a pattern of the user's own.

Each decoder takes a frame (bytes, without the line's end) and returns its values, or raises ValueError with the
reason in words that do not depend on the content, so that reasons can be counted. Numbers become int or float, and
`true` and `false` bool; `nan` and `inf` stay numbers, for the gateway to leave out and count.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import orjson

from gateway import Value

Decoder: TypeAlias = Callable[[bytes], dict[str, Value]]

DEEPEST = 8  # levels of nested JSON objects

_PLAIN = frozenset({bool, int, float, str})
_NUMBER = re.compile(
    r"([+-]?[0-9]{1,18})|[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?|nan|inf(?:inity)?)", re.IGNORECASE
)
ONE_NUMBER = r"^\s*(?P<value>[-+]?[0-9.]+)\s*$"
"""The pattern for lines that are one number each."""
_SIGN_APART = re.compile(r"([+-])\s+(?=[0-9.])")


def value(text: str) -> Value:
    """Return the number, the truth or else the text that `text` spells. A sign may stand apart: `+  12.5`."""
    number = _NUMBER.fullmatch(text)
    if number is not None:
        return int(text) if number.lastindex else float(text)
    apart = _SIGN_APART.match(text)
    if apart is not None:
        number = _NUMBER.fullmatch(apart[1] + text[apart.end() :])
        return text if number is None else value(number[0])
    lower = text.lower()
    return lower == "true" if lower in ("true", "false") else text


def text_of(encoding: str) -> Callable[[bytes], str]:
    """Return the function that turns a frame in `encoding` into text, or raises ValueError."""

    def text(frame: bytes) -> str:
        try:
            return frame.decode(encoding)
        except ValueError:
            raise ValueError(f"not {encoding}") from None

    return text


def json_decoder(encoding: str = "utf-8") -> Decoder:
    """Return a decoder for one JSON object a line. Nested objects are joined with dots; null and lists are left out."""
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        return _decode_json
    text = text_of(encoding)
    return lambda frame: _decode_json(text(frame))


def _decode_json(frame: bytes | str) -> dict[str, Value]:
    try:
        document: Any = orjson.loads(frame)
    except ValueError:
        raise ValueError("not JSON") from None
    if type(document) is not dict:
        raise ValueError("not a JSON object")
    values: dict[str, Value] = document
    for item in document.values():
        if type(item) not in _PLAIN:
            values = {}
            _flatten(document, "", values, DEEPEST)
            break
    if not values:
        raise ValueError("no values in it")
    return values


def _flatten(document: dict[str, Any], prefix: str, flat: dict[str, Value], levels: int) -> None:
    if levels == 0:
        raise ValueError(f"JSON objects nested more than {DEEPEST} deep")
    for key, item in document.items():
        if type(item) in _PLAIN:
            flat[prefix + key] = item
        elif type(item) is dict:
            _flatten(item, f"{prefix}{key}.", flat, levels - 1)


def key_value_decoder(encoding: str = "utf-8") -> Decoder:
    """Return a decoder for lines such as `t=21.5 h:40,ok=true`; white space, commas and semicolons separate."""
    text = text_of(encoding)

    def decode(frame: bytes) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for token in text(frame).replace(",", " ").replace(";", " ").split():
            name, sign, word = token.partition("=")
            if not sign or ":" in name:
                name, sign, word = token.partition(":")
            if not sign or not name:
                raise ValueError("not key=value")
            if word:
                values[name] = value(word)
        if not values:
            raise ValueError("no values in it")
        return values

    return decode


def csv_decoder(columns: Sequence[str], separator: str = ",", encoding: str = "utf-8") -> Decoder:
    """Return a decoder for lines of exactly these columns, by RFC 4180 within one line.

    A column called "-" and an empty cell are left out; a separator of one space stands for any run of white space.
    """
    text = text_of(encoding)

    def decode(frame: bytes) -> dict[str, Value]:
        cells = _cells(text(frame), separator)
        if len(cells) != len(columns):
            raise ValueError("wrong number of columns")
        values = {
            column: value(cell)
            for column, raw in zip(columns, cells, strict=True)
            if column != "-" and (cell := raw.strip())
        }
        if not values:
            raise ValueError("no values in it")
        return values

    return decode


def columns_of(heard: bytes, separator: str) -> list[str]:
    """Return names for the columns that most lines in what was heard have; none, if they look like no table."""
    lines = [line.split(separator) for line in heard.decode("ascii", "replace").split("\n")[1:-1]]
    counts = Counter(len(cells) for cells in lines if len(cells) > 1)
    for count, often in counts.most_common(1):
        cells = [value(cell.strip()) for line in lines if len(line) == count for cell in line]
        if 2 * often >= len(lines) and 2 * sum(not isinstance(cell, str) for cell in cells) >= len(cells):
            return [f"column{number}" for number in range(1, count + 1)]
    return []


def _cells(line: str, separator: str) -> list[str]:
    if '"' not in line:
        return line.split() if separator == " " else line.split(separator)
    try:
        rows = list(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        raise ValueError("not CSV") from None
    return rows[0] if len(rows) == 1 else []


def value_decoder(encoding: str = "utf-8") -> Decoder:
    """Return a decoder for text that is one value, called "value"; white space around it is left out."""
    text = text_of(encoding)

    def decode(frame: bytes) -> dict[str, Value]:
        word = text(frame).strip()
        if not word:
            raise ValueError("no values in it")
        return {"value": value(word)}

    return decode


def regex_decoder(pattern: str, encoding: str = "utf-8") -> Decoder:
    """Return a decoder for lines in which `pattern` is found; its named groups are the values.

    With `^` and `$` the pattern describes the whole line, so that half a line is never taken for a whole one. Groups
    that took no part, or nothing, are left out. Raises ValueError if `pattern` is not one, or names no group.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if not compiled.groupindex:
        raise ValueError("has no named group; write (?P<temperature>[-0-9.]+) around what is to be a value")
    text = text_of(encoding)

    def decode(frame: bytes) -> dict[str, Value]:
        match = compiled.search(text(frame))
        if match is None:
            raise ValueError("does not match the pattern")
        values = {name: value(group) for name, raw in match.groupdict().items() if raw and (group := raw.strip())}
        if not values:
            raise ValueError("no values in it")
        return values

    return decode
