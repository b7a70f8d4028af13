"""The files of a config: read, parsed and merged, with the place of everything in them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from gateway.config import positions
from gateway.config.positions import Mark, Place
from gateway.config.problems import Problem

_LARGEST = 16 * 1024 * 1024  # bytes; a larger file was named by mistake, or has no end
_MOST_PROBLEMS = 20  # of the syntax of one file

# What tomllib says, and what helps the person who wrote it.
_SYNTAX = {
    "Invalid value": 'not a value; text needs quotes around it: "..."',
    "Invalid statement": "neither key = value, nor a [table], nor a # comment",
    "Invalid initial character for a key part": 'not a key; a key is of letters, digits, - and _, or in quotes: "..."',
    "Expected '=' after a key": "expected = after the key; a key with spaces needs quotes around it",
    "Expected newline or end of document": "expected the end of the line after the value; text needs quotes around it",
    "Expected ']' at the end of a table": "a table header ends with ]",
    "Expected ']]' at the end of an array": "the header of an array of tables ends with ]]",
    "Unterminated string": "a string is opened and never closed",
    "Illegal character '\\n'": "a string ends on the line on which it begins; its closing quote is missing",
    "Illegal character '\\x00'": "a NUL character, which no text contains",
    "Unclosed array": "an array is not closed; a comma or ] is missing",
    "Unclosed inline table": "an inline table is not closed; a comma or } is missing",
    "Unescaped '\\' in a string": "a backslash in \"...\" must be written twice; in '...' it stands as it is",
    "Cannot overwrite a value": "a key is used twice, or both as a value and as a table",
    "Cannot declare": "a table is opened twice",
    "Cannot mutate immutable": "an inline table { } cannot be added to",
    "Duplicate inline table key": "a key is used twice in an inline table",
}


class Source(NamedTuple):
    """One file: what it says as far as it can be understood, where, and what is wrong with it as a file."""

    path: Path
    data: dict[str, Any]
    marks: dict[positions.Path, Mark]
    problems: list[Problem]


class Document(NamedTuple):
    """All files as one: `marks` tells file and place of each path, `problems` what is wrong with them as files."""

    main: Path
    data: dict[str, Any]
    marks: dict[positions.Path, tuple[Path, Mark]]
    problems: list[Problem]
    order: dict[Path, int]

    def problem(self, path: positions.Path, message: str, *, at_key: bool = False) -> Problem:
        """Return the problem at the value (or key) of `path`, or as near to it as something is written."""
        while path and path not in self.marks:
            path, at_key = path[:-1], False
        if not path:
            return Problem(self.main, 1, 1, message)
        file, mark = self.marks[path]
        place = mark.key if at_key else mark.value
        return Problem(file, place.line, place.col, message)


def gather(main: Path) -> Document:
    """Read a config file and the `conf.d/*.toml` beside it, in lexical order, and merge their tables."""
    problems: list[Problem] = []
    sources = [read(main), *(read(path) for path in _beside(main, problems))]
    data: dict[str, Any] = {}
    marks: dict[positions.Path, tuple[Path, Mark]] = {}
    for source in sources:
        problems += source.problems
        problems += _merge(data, source.data, (), source, marks)
        for path, mark in source.marks.items():
            marks.setdefault(path, (source.path, mark))
    order = {source.path: number for number, source in enumerate(sources)}
    return Document(main, data, marks, problems, order)


def _beside(main: Path, problems: list[Problem]) -> list[Path]:
    folder = main.parent / "conf.d"
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(Problem(folder, 1, 1, unreadable(error)))
        return []
    return [folder / name for name in names if name.endswith(".toml") and not name.startswith(".")]


def _merge(
    into: dict[str, Any],
    table: dict[str, Any],
    path: positions.Path,
    source: Source,
    marks: dict[positions.Path, tuple[Path, Mark]],
) -> list[Problem]:
    """Add a table of one file to what the files before it say; a key that both have is wrong in this one."""
    problems = []
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(into.setdefault(key, {}), dict):
            problems += _merge(into[key], value, here, source, marks)
        elif key not in into:
            into[key] = value
        else:
            file, first = marks[here]
            place = source.marks[here].key
            words = f"{described(here)} is defined twice; first at {file}:{first.key.line}:{first.key.col}"
            problems.append(Problem(source.path, place.line, place.col, words))
    return problems


def read(path: Path) -> Source:
    """Read and parse one file. What is wrong with it is in the result, never raised."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        return Source(path, {}, {}, [Problem(path, 1, 1, unreadable(error))])
    if len(content) > _LARGEST:
        return Source(path, {}, {}, [Problem(path, 1, 1, "larger than 16MiB, and so no config")])
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Source(path, {}, {}, [Problem(path, 1, 1, "this is UTF-16; save it as UTF-8")])
    problems = []
    if content.startswith(b"\xef\xbb\xbf"):
        problems.append(Problem(path, 1, 1, "begins with a byte order mark; save it as UTF-8 without BOM"))
        content = content[3:]
    undecodable = _undecodable(content)
    problems += [Problem(path, *place, words) for place, words in undecodable]
    text = content.decode(errors="replace").replace("\r\n", "\n")
    data, marks, faults = parse(text)
    # A line that is not UTF-8 has its problem already.
    known = {place.line for place, _ in undecodable}
    problems += [Problem(path, *place, words) for place, words in faults if place.line not in known]
    return Source(path, data, marks, problems)


def unreadable(error: OSError) -> str:
    """Return in words why a file cannot be read."""
    reason = (error.strerror or str(error)).lower()
    fix = "; run this as the user sensor-gateway, or with sudo" if isinstance(error, PermissionError) else ""
    return f"cannot be read: {reason}{fix}"


def _undecodable(content: bytes) -> list[tuple[Place, str]]:
    """Return the first byte of each line that is not UTF-8."""
    found = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            place = Place(number, len(line[: error.start].decode()) + 1)
            found.append((place, f"byte 0x{line[error.start]:02x} is not UTF-8; save the file as UTF-8"))
    return found


def parse(text: str) -> tuple[dict[str, Any], dict[positions.Path, Mark], list[tuple[Place, str]]]:
    """Parse TOML with "\\n" line ends: the data, its places, and what is wrong with the syntax.

    After a faulty line that stands alone the rest is parsed without it, so that one look shows every error. After any
    other fault, only what stands before it counts.
    """
    faults: list[tuple[Place, str]] = []
    while True:
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line, col = _where(error, text)
            faults.append(_fault(error, text, line, col))
            remedied = _without(text, line) if len(faults) < _MOST_PROBLEMS else None
            if remedied is None:
                return {}, {}, faults
            text = remedied
        except (RecursionError, ValueError):  # brackets without end; a number of thousands of digits
            return {}, {}, [*faults, (Place(1, 1), "nested too deeply, or a number too long")]
        else:
            return data, dict(positions.scan(text)), faults


def _where(error: tomllib.TOMLDecodeError, text: str) -> Place:
    found = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
    if found:
        return Place(int(found[1]), int(found[2]))
    lines = text.rstrip("\n").split("\n")
    return Place(len(lines), len(lines[-1]) + 1)


def _fault(error: tomllib.TOMLDecodeError, text: str, line: int, col: int) -> tuple[Place, str]:
    said = re.sub(r" \(at [^()]*\)$", "", str(error))
    twice = _twice(text, line, is_table=said.startswith("Cannot declare")) if said.startswith("Cannot ") else None
    if twice:
        return twice
    words = next((words for start, words in _SYNTAX.items() if said.startswith(start)), said[:1].lower() + said[1:])
    return Place(line, col), words


def _twice(text: str, line: int, *, is_table: bool) -> tuple[Place, str] | None:
    """Return what is defined twice if the text up to this line shows it, with the place of the first."""
    try:
        found = positions.scan("\n".join(text.split("\n")[:line]) + "\n")
    except (ValueError, IndexError):  # the rest of the line, which tomllib has not come to, is wrong as well
        return None
    path, mark = found[-1]
    first = next(mark for known, mark in found if known == path)
    if first == mark:
        return None
    return mark.key, f"{header(path) if is_table else described(path)} is defined twice; first at line {first.key.line}"


def _without(text: str, line: int) -> str | None:
    """Return the text with a faulty line made blank, or cut off before it; None if the fault began before the line."""
    lines = text.split("\n")
    before, faulty, after = lines[: line - 1], lines[line - 1], lines[line:]
    try:
        tomllib.loads("\n".join(before))
    except ValueError:
        return None
    if faulty.lstrip().startswith("["):
        # The keys below belong to this table, and would be misunderstood without it.
        skipped = next((n for n, later in enumerate(after) if later.startswith("[")), len(after))
        return "\n".join([*before, *[""] * (1 + skipped), *after[skipped:]])
    if re.search(r"[\[{]|\"\"\"|'''", faulty):
        return "\n".join(before)  # it may have opened what goes on below
    return "\n".join([*before, "", *after])


def described(path: positions.Path) -> str:
    """Return how a person would call the key at `path`: `"port" in [devices.boiler]`."""
    return f'"{path[-1]}" {inside(path[:-1])}'


def inside(table: positions.Path) -> str:
    """Return where a key stands: `in [uplinks.cloud]`, `in brokers of [uplinks.cloud]`, `at the top level`."""
    if not table:
        return "at the top level"
    first = next((n for n, part in enumerate(table) if isinstance(part, int)), None)
    if first is None:
        return f"in {header(table)}"
    of = f" of {header(table[: first - 1])}" if first > 1 else ""
    return f"in {table[first - 1]}{of}"


def header(table: positions.Path) -> str:
    """Return the header of a table as it is written in TOML."""
    return (
        "[" + ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in map(str, table)) + "]"
    )
