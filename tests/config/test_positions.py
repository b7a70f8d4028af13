"""Where keys and values stand in TOML documents, over documents made in every way in which TOML can be written."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.positions import Path, Place, scan

BARE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
# Signs that mean something elsewhere in TOML, and some that need more than one byte.
TEXT = st.lists(st.sampled_from([*" #[]{}=.,'\"\\abZ09-_äß€😀", '""', '"""', "''"]), max_size=6).map("".join)
KEYS = st.one_of(st.text(st.sampled_from(BARE), min_size=1, max_size=4), TEXT)
DATES = ["1979-05-27T07:32:00Z", "1979-05-27 07:32:00.5+01:00", "1979-05-27", "07:32:00", "1979-05-27 07:32:00"]


class Writer:
    """Writes a document and remembers where it has put what, to compare with what the scanner finds."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.numbers = count(1_000_000)  # each number of a document is another one, so that it can be found
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}

    def put(self, text: str) -> None:
        self.text += text

    def here(self) -> Place:
        before, _, line = self.text.rpartition("\n")
        return Place(before.count("\n") + 2 if _ else 1, len(line) + 1)

    def one_of(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def space(self) -> None:
        self.put(self.one_of("", "", " ", "\t "))

    def blank(self) -> None:
        self.put(self.one_of("", "", " ", "\n", " # ä ] } \" '''\n\n", "\r\n"))

    def end_of_line(self) -> None:
        self.put(self.one_of("\n", "\r\n", " # = [x]\n", "\n\n  \n"))

    def key(self, key: str) -> None:
        if key and all(char in BARE for char in key) and self.draw(st.booleans()):
            self.put(key)
        elif "'" not in key and self.draw(st.booleans()):
            self.put(f"'{key}'")
        else:
            self.put(json.dumps(key, ensure_ascii=self.draw(st.booleans()) and key.isascii()))

    def string(self) -> None:
        text = self.draw(TEXT)
        match self.one_of("basic", "literal", "long", "long literal"):
            case "literal" if "'" not in text:
                self.put(f"'{text}'")
            case "long":
                inside = text.rstrip('"').replace("\\", "\\\\").replace('"""', '""\\"')
                # Up to two quotes may stand right before the closing three.
                self.put('"""' + self.one_of("", "\n") + inside + self.one_of("", "a", '"', '""') + '"""')
            case "long literal" if "'''" not in text:
                inside = text.rstrip("'")
                self.put("'''\n" + inside + self.one_of("", "\n", "'", "''") + "'''")
            case _:
                self.put(json.dumps(text, ensure_ascii=False))

    def value(self, path: Path, depth: int) -> None:
        self.values[path] = self.here()
        kinds = ["number", "string", "bare"] + (["array", "table"] if depth else [])
        match self.draw(st.sampled_from(kinds)):
            case "number":
                self.put(str(next(self.numbers)))
            case "string":
                self.string()
            case "bare":
                self.put(self.one_of("true", "-inf", "nan", "0x1F", "1_000", "-1.5e+3", *DATES))
            case "array":
                self.array(path, depth)
            case "table":
                self.inline_table(path, depth)

    def array(self, path: Path, depth: int) -> None:
        self.put("[")
        length = self.draw(st.integers(0, 3))
        for index in range(length):
            self.blank()
            self.keys[(*path, index)] = self.here()
            self.value((*path, index), depth - 1)
            self.blank()
            self.put("," if index < length - 1 else self.one_of("", ","))
        self.blank()
        self.put("]")

    def inline_table(self, path: Path, depth: int) -> None:
        self.put("{")
        names = self.draw(st.lists(KEYS, max_size=3, unique=True))
        for index, name in enumerate(names):
            self.space()
            self.pair(path, name, depth - 1)
            self.space()
            self.put("," if index < len(names) - 1 else "")
        self.put("}")

    def pair(self, table: Path, name: str, depth: int, between: str = ",") -> None:
        """Write `name = value`, or `name.one = value` and perhaps `name.other = value`."""
        below = self.draw(st.lists(KEYS, max_size=2, unique=True))
        for index, one in enumerate(below):
            if index:
                self.put(between)
                self.space()
            path = (*table, name)
            place = self.here()
            self.keys.setdefault(path, place)
            self.values.setdefault(path, place)
            self.key(name)
            self.space()
            self.put(".")
            self.space()
            self.last_pair((*path, one), one, depth)
        if not below:
            self.last_pair((*table, name), name, depth)

    def last_pair(self, path: Path, name: str, depth: int) -> None:
        self.keys[path] = self.here()
        self.key(name)
        self.space()
        self.put("=")
        self.space()
        self.value(path, depth)

    def header(self, table: Path, name: str, mark: str) -> Path:
        """Write `[a.b]`; what is above it has its place already."""
        start = self.here()
        self.put("[" * len(mark))
        for part in table:
            if isinstance(part, str):
                self.key(part)
                self.space()
                self.put(".")
        self.space()
        path = (*table, name)
        key = self.here()
        self.key(name)
        self.space()
        self.put("]" * len(mark))
        self.keys.setdefault(path, key)
        self.values.setdefault(path, start)
        if mark == "[[":
            index = sum(1 for known in self.keys if known[:-1] == path and isinstance(known[-1], int))
            path = (*path, index)
            self.keys[path], self.values[path] = key, start
        return path

    def table(self, path: Path, depth: int) -> None:
        names = self.draw(st.lists(KEYS, max_size=4, unique=True))
        tables = [name for name in names if depth and self.draw(st.booleans())]
        for name in names:
            if name not in tables:
                self.space()
                self.pair(path, name, depth, between="\n")
                self.end_of_line()
        for name in tables:
            mark = self.one_of("[", "[[")
            for _ in range(self.draw(st.integers(1, 3)) if mark == "[[" else 1):
                below = self.header(path, name, mark)
                self.end_of_line()
                self.table(below, depth - 1)


@st.composite
def documents(draw: Any) -> Writer:
    writer = Writer(draw)
    writer.blank()
    writer.table((), 3)
    return writer


def paths(data: Any, path: Path = ()) -> Iterator[Path]:
    """Return the path of everything that tomllib has found."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*path, key))


@given(documents())
def test_finds_what_tomllib_finds_where_it_was_written(writer: Writer) -> None:
    """Each key and value that tomllib has parsed has its place, and nothing else has one."""
    text = writer.text.replace("\r\n", "\n")
    data = tomllib.loads(writer.text)
    found = dict(scan(text))
    assert set(found) == set(paths(data))
    assert {path: mark.key for path, mark in found.items()} == writer.keys
    assert {path: mark.value for path, mark in found.items()} == writer.values


def test_counts_columns_in_characters() -> None:
    """An editor that shows column 5 means the fifth character, whatever its bytes."""
    ((_, mark),) = scan('"äö😀" = 1\n')
    assert mark.value == (1, 9)


def test_prefers_the_own_header_of_a_table() -> None:
    """A table that was mentioned on the way to another one stands where it is opened itself."""
    found = dict(scan("[a.b]\n[a]\nx = 1\n"))
    assert found["a",].value == (2, 1)


def test_tells_a_key_that_is_written_twice() -> None:
    """Both places of a key that tomllib refuses can be named."""
    assert [mark.key.line for path, mark in scan("[a]\nx = 1\nx = 2\n") if path == ("a", "x")] == [2, 3]
