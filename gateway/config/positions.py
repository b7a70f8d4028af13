"""Where each key and each value of a TOML document stands, which tomllib does not tell."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import NamedTuple, TypeAlias

# The way to a value: names of keys, and numbers in arrays.
Path: TypeAlias = tuple[str | int, ...]


class Place(NamedTuple):
    """A line and a column, both from 1; the column counts characters."""

    line: int
    col: int


class Mark(NamedTuple):
    """Where a key is written, and where its value is. The value of a `[table]` is its header."""

    key: Place
    value: Place


_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'  # up to two quotes may stand before the closing three
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
# A date and its time may have one space between them; no other bare value contains one.
_BARE_VALUE = re.compile(r"\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]+|[^\s,\]}#]+")


def scan(text: str) -> list[tuple[Path, Mark]]:
    """Return the place of every key and value of a TOML document, in order of writing, by its path.

    `text` has "\\n" for line ends and is lexically valid: tomllib has parsed it, or found nothing worse than a key that
    is written twice, which is then returned twice.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.found


class _Scanner:
    """One pass over one document, from `at` to the end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: list[tuple[Path, Mark]] = []
        self._known: set[Path] = set()
        self._lengths: dict[Path, int] = {}  # of arrays of tables
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self.at == len(self.text):
                return
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        """Read `[a.b]` or `[[a.b]]` and return the path of the table that it opens."""
        start = self._place()
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        keys = self._keys()
        self.at += 2 if is_array else 1
        path: Path = ()
        for name, place in keys[:-1]:
            path = (*path, name)
            self._mention(path, Mark(place, start))
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        name, place = keys[-1]
        path = (*path, name)
        if not is_array:
            self._mark(path, Mark(place, start))
            return path
        self._mention(path, Mark(place, start))
        index = self._lengths.get(path, 0)
        self._lengths[path] = index + 1
        path = (*path, index)
        self._mark(path, Mark(place, start))
        return path

    def _pair(self, table: Path) -> None:
        """Read `key = value`, of which the key may be dotted."""
        path = table
        keys = self._keys()
        for name, place in keys[:-1]:
            path = (*path, name)
            self._mention(path, Mark(place, place))
        name, place = keys[-1]
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        path = (*path, name)
        self._mark(path, Mark(place, self._place()))
        self._value(path)

    def _keys(self) -> list[tuple[str, Place]]:
        """Read a key, with its dots, up to what follows it."""
        keys = []
        while True:
            self._skip(_SPACE)
            place = self._place()
            if self.text[self.at] in "\"'":
                raw = self._take(_STRING)
                keys.append((tomllib.loads(f"key = {raw}")["key"], place))
            else:
                keys.append((self._take(_BARE_KEY), place))
            self._skip(_SPACE)
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def _value(self, path: Path) -> None:
        first = self.text[self.at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._take(_STRING if first in "\"'" else _BARE_VALUE)

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self.text[self.at] == "]":
                break
            place = self._place()
            self._mark((*path, index), Mark(place, place))
            self._value((*path, index))
            index += 1
            self._skip(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        while True:
            self._skip(_BLANK)
            if self.text[self.at] == "}":
                break
            self._pair(path)
            self._skip(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _mark(self, path: Path, mark: Mark) -> None:
        self._known.add(path)
        self.found.append((path, mark))

    def _mention(self, path: Path, mark: Mark) -> None:
        """Mark a table that is written on the way to another one, unless it has its place already."""
        if path not in self._known:
            self._mark(path, mark)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"not TOML at character {self.at}")
        self.at = match.end()
        return match[0]

    def _place(self) -> Place:
        line = bisect_right(self._line_starts, self.at)
        return Place(line, self.at - self._line_starts[line - 1] + 1)
