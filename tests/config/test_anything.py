"""Whatever stands in a config file: it loads, or is refused in words."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Config, ConfigError, load

GOOD = """\
[gateway]
id = "a"
[outbox]
max_age = "1d"
[uplinks.c]
brokers = ["mqtts://a", { url = "mqtts://b", tls = {} }]
tls = { insecure = true }
failback = "never"
[devices.b]
adapter = "serial-text"
port = "/dev/x"
metrics.t = { unit = "x" }
metrics.u = { rename = "v", min = 1, max = 2, outside = "flag", deadband = "2%", max_silence = "1m" }
metrics.w = { kind = "total", window = "10s", aggregate = ["mean", "rate"], precision = 1 }
computed.p = "v * t"
[devices.t]
adapter = "simulator"
signals.x = { kind = "sine" }
"""

VALUES = (
    "1",
    '"x"',
    "true",
    "[]",
    "{}",
    '""',
    "-1",
    "1e400",
    "nan",
    '"1s"',
    '"1GB"',
    "2020-01-01",
    "07:00:00",
    "[[]]",
    "[{}]",
    "{a={}}",
    '"\\u0000"',
    '"{device}"',
    '[1, "a", {}]',
    "9" * 30,
)
LINES = (
    "x",
    "[a]",
    "[devices]",
    "[uplinks.c.tls]",
    "[[devices.b]]",
    "[devices.b.metrics]",
    "[outbox]",
    "[[uplinks.c.brokers]]",
    "devices = 1",
    "uplinks = []",
    "'' = 1",
    "a.b.c = 1",
    "gateway.id = 2",
    "[[devices{b]]",
    "x = [",
    "y = {",
    "z = '''",
)


@st.composite
def mistakes(draw: Any) -> str:
    """Make one to four mistakes in a good config, of the kinds that people make."""
    lines = GOOD.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "value", "copy", "slip", "line"])):
            case "drop" if len(lines) > 1:
                del lines[at]
            case "value":
                lines[at] = lines[at].partition("=")[0] + "= " + draw(st.sampled_from(VALUES))
            case "copy":
                lines.insert(at, draw(st.sampled_from(lines)))
            case "slip":
                where = draw(st.integers(0, len(lines[at])))
                sign = draw(st.sampled_from("\"'[]{}=.,#\\ \t\0é\ufeff\r"))
                lines[at] = lines[at][:where] + sign + lines[at][where + draw(st.integers(0, 2)) :]
            case _:
                lines.insert(at, draw(st.sampled_from(LINES)))
    return "\n".join(lines)


def attempt(content: bytes) -> Config | ConfigError:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "gateway.toml")
        file.write_bytes(content)
        try:
            return load(file, environ={"HOME": "/"})
        except ConfigError as error:
            return error


@settings(max_examples=400)
@given(mistakes())
def test_mistakes_are_said_in_words_at_a_place_that_exists(text: str) -> None:
    """A broken config is never a traceback; each problem is in a person's words, at a line and column of the file."""
    outcome = attempt(text.encode())
    if isinstance(outcome, ConfigError):
        lines = text.split("\n")
        assert outcome.problems
        for problem in outcome.problems:
            assert 1 <= problem.line <= len(lines) + 1
            length = len(lines[problem.line - 1]) if problem.line <= len(lines) else 0
            assert 1 <= problem.col <= length + 1
            assert not re.search(r"Input should|pydantic|validation error|_type|\bdict\b|None", problem.message)


@given(st.binary(max_size=60))
def test_noise_is_refused(content: bytes) -> None:
    """A file that is no config at all, such as a picture, is refused like any other mistake."""
    assert isinstance(attempt(content), ConfigError)


def test_the_good_one_is_good() -> None:
    """The mistakes are made in something that loads."""
    assert isinstance(attempt(GOOD.encode()), Config)
