"""`sensor-gateway capture` and `replay`: what came in is written down, and plays again as it came."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from adapters.ports.listening import line_of
from adapters.ports.port import Line
from gateway.capture import Chunk, header, line, parse
from gateway.cli.app import app
from gateway.testing import Case
from tests.adapters.cable import Cable

CONFIG = """
[devices.scale]
adapter = "serial-text"
port = "{port}"
format = "key-value"

[devices.scale.metrics.weight]
unit = "kg"
scale = 0.001

[devices.made-up]
adapter = "simulator"
"""


@pytest.fixture
def config(tmp_path: Path, cable: Cable) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.format(port=cable.path))
    return path


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


@given(st.lists(st.tuples(st.floats(0, 1e6), st.binary(min_size=1, max_size=40)), max_size=10))
def test_what_is_written_is_what_is_read(parts: list[tuple[float, bytes]]) -> None:
    """Chunks come back whole, in order and at their times, to the microsecond."""
    chunks = [Chunk(round(at, 6), data) for at, data in sorted(parts, key=lambda part: part[0])]
    text = header({"device": "böiler"}) + "".join(map(line, chunks))
    assert parse(text.splitlines(keepends=True)) == ({"device": "böiler"}, chunks)
    cut = text[:-1] if chunks else text
    assert parse(cut.splitlines(keepends=True)).chunks == chunks[:-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: not a capture"),
        ("# sensor-gateway capture 1\nx\n", "line 2"),
        (header({}) + "1.0 00\n0.5 00\n", "line 4: earlier"),
        (header({}) + "soon 00\n", "line 3: not seconds"),
        (header({}) + "nan 00\n", "line 3: earlier"),
        (header({}) + "1.0 0g\n", "line 3: not seconds"),
    ],
)
def test_what_is_no_capture_is_said_with_its_line(text: str, words: str) -> None:
    """A file that was edited by hand fails at the line that is wrong."""
    with pytest.raises(ValueError, match=words):
        parse(text.splitlines(keepends=True))


def test_a_port_is_captured_without_any_config(tmp_path: Path, cable: Cable) -> None:
    """The bytes are in the file as they came, whatever they mean."""
    cable.write(b"\xff\x00noise\n")
    status, _, error = invoke("capture", cable.path, "-o", tmp_path / "x.cap", "--for", "1s", "--line", "4800 8N1")
    assert status == 0
    about, chunks = parse((tmp_path / "x.cap").read_text().splitlines(keepends=True))
    assert about == {"port": cable.path, "line": "4800 8N1"}
    assert b"".join(chunk.data for chunk in chunks) == b"\xff\x00noise\n"
    assert "8 bytes in" in error


def test_a_capture_of_a_device_is_a_golden_case_and_plays_again(tmp_path: Path, config: Path, cable: Cable) -> None:
    """What came from a device, with what it was taken for, is a test without Python; and it can be read again."""
    cable.write(b"weight=12345\r\nnoise\r\nweight=7 ok=true\r\n")
    case, file = tmp_path / "serial-text" / "mine", tmp_path / "x.cap"
    status, out, _ = invoke("capture", "scale", "-c", config, "-o", file, "--for", "1s", "--as-case", case)
    assert status == 0
    assert "weight 12345" in out
    assert (case / "device.toml").read_text() == 'format = "key-value"\n'
    assert len((case / "readings.jsonl").read_text().splitlines()) == 2
    structlog.reset_defaults()
    Case(case).check()
    status, out, error = invoke("replay", file, "--into", "scale", "-c", config, "--fast")
    assert (status, len(out.splitlines())) == (0, 2), error
    assert "weight 12.345 kg" in out


def test_a_case_has_keys_as_a_config_has_them_and_no_secret(tmp_path: Path, cable: Cable) -> None:
    """Durations and sizes can be read again; a secret is a file beside it, which whoever wants the case writes."""
    config, case = tmp_path / "gateway.toml", tmp_path / "dsmr" / "mine"
    (tmp_path / "smarty.key").write_text("00112233445566778899AABBCCDDEEFF")
    config.write_text(
        f'[devices.meter]\nadapter = "dsmr"\nport = "{cable.path}"\nkey = {{ file = "smarty.key" }}\n'
        'settle = "250ms"\nsilent_after = "1m"\n'
    )
    case.mkdir(parents=True)
    (case / "skipped.json").write_text('{"of a case that was there before": 1}')
    invoke("capture", "meter", "-c", config, "-o", tmp_path / "x.cap", "--for", "500ms", "--as-case", case)
    keys = {"settle": "250ms", "silent_after": "1m", "key": {"file": "key"}}
    assert tomllib.loads((case / "device.toml").read_text()) == keys
    assert not (case / "skipped.json").exists()
    structlog.reset_defaults()
    (case / "key").write_text("00112233445566778899AABBCCDDEEFF")
    Case(case).check()


@pytest.mark.system
def test_a_replay_is_a_device_at_a_terminal(tmp_path: Path) -> None:
    """Any program can read what is played; the terminal's name is printed first, and the command ends by itself."""
    file = tmp_path / "x.cap"
    file.write_text(header({}) + line(Chunk(0.0, b"one ")) + line(Chunk(0.2, b"two")))
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "replay", str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        with open(process.stdout.readline().strip(), "rb", buffering=0) as terminal:
            heard = b""
            while len(heard) < 7:
                heard += terminal.read(7)
        assert process.wait(20) == 0
    assert heard == b"one two"


def test_wrong_words_end_with_their_status(tmp_path: Path, config: Path) -> None:
    """What cannot be done is said before anything is opened, or with the port's own words."""
    file = tmp_path / "x.cap"
    assert invoke("capture", str(tmp_path / "no-port"), "-o", file)[0] == 69
    assert invoke("capture", "/dev/null", "-o", file, "--line", "fast")[0] == 2
    assert invoke("capture", "/dev/null", "-o", file, "--as-case", tmp_path / "case")[0] == 2
    assert invoke("capture", "/dev/null", "-o", tmp_path / "no-folder" / "x.cap")[0] == 2
    assert invoke("replay", tmp_path / "none.cap")[::2] == (
        78,
        f"{tmp_path / 'none.cap'}: error: cannot be read: No such file or directory\n",
    )
    file.write_text(header({}))
    assert invoke("replay", file, "--into", "made-up", "-c", config)[0] == 2
    assert os.path.exists(file)


def test_a_line_is_spelled_as_everywhere() -> None:
    """Speed, then bits, parity and stop bits, which may be left out."""
    assert line_of("9600") == Line(baudrate=9600)
    assert line_of("300 7E1") == Line(baudrate=300, bytesize=7, parity="E")
    assert line_of("4800 8N1.5") == Line(baudrate=4800, stopbits=1.5)
    for words in ("", "fast", "9600 9N1", "0 8N1", "9600 8X1"):
        with pytest.raises(ValueError, match="is no line"):
            line_of(words)
