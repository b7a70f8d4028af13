"""`sensor-gateway detect`: each kind of device that speaks by itself is found at its speed, in noise."""

from __future__ import annotations

import asyncio
import json
import random
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from adapters.detection import Pace, Setting, detect, guesses, is_sure, line_of, settings, views
from adapters.serial.device import FramedDevice
from gateway import registry
from gateway.cli.app import app
from gateway.cli.detect import block, report
from gateway.testing import Case
from gateway.tools import Guess, Heard
from tests.adapters.cable import Cable
from tests.adapters.frames import encoders
from tests.adapters.speaker import Speaker
from tests.adapters.test_cases import CASES

QUICK = Pace(silence=0.1, strange=0.15, promising=5.0, plain=0.2, look=0.05)
WAIT = 30.0

KINDS: dict[str, type[FramedDevice]] = {
    name: kind
    for name in registry.names()
    if issubclass(kind := registry.adapter(name), FramedDevice) and kind.detectable
}


def of_case(name: str) -> bytes:
    return Case(CASES / name).wire


# What devices say: the adapter, the line, the frames, and the keys that are to be found beside the port.
SPEAKERS: dict[str, tuple[str, str, list[bytes], dict[str, Any]]] = {
    "json": (
        "serial-text",
        "115200 8N1",
        [b'{"temperature": %d.5, "humidity": 40}\r\n' % number for number in range(20, 30)],
        {"baudrate": 115200, "format": "json"},
    ),
    "key-value": (
        "serial-text",
        "19200 8N1",
        [b"t=%d.5 h=40 ok=true\r\n" % number for number in range(20, 30)],
        {"baudrate": 19200, "format": "key-value"},
    ),
    "csv": (
        "serial-text",
        "9600 8N1",
        [b"%d.5;40;1013.2\r\n" % number for number in range(20, 30)],
        {"format": "csv", "columns": ["column1", "column2", "column3"], "separator": ";"},
    ),
    "one number": (
        "serial-text",
        "2400 8N1",
        [b"%d.25\r\n" % number for number in range(1000, 1010)],
        {"baudrate": 2400, "format": "regex", "pattern": r"^\s*(?P<value>[-+]?[0-9.]+)\s*$"},
    ),
}

# Those with a wire format of their own. What is longer than a frame of a few bytes is what a golden case has.
SPEAKERS |= {
    "plantower-pms": ("plantower-pms", "9600 8N1", [encoders.pms(range(at, at + 13)) for at in range(10)], {}),
    "plantower-pms 3003": ("plantower-pms", "9600 8N1", [encoders.pms(range(at, at + 9)) for at in range(10)], {}),
    "nova-sds011": ("nova-sds011", "9600 8N1", [encoders.sds011(at, at + 7) for at in range(10)], {}),
    "a02yyuw": ("a02yyuw", "9600 8N1", [encoders.distance(500 + 31 * at) for at in range(10)], {}),
    # A real line would not let its 8E1 pass for 8N1, as a pseudo-terminal does.
    "cse7766": ("cse7766", "4800 8N1", [encoders.EXAMPLES["cse7766"]], {"parity": "N"}),
    "rdm6300": ("rdm6300", "9600 8N1", [encoders.tag(0x0123456789)], {}),
    "dsmr 5": ("dsmr", "115200 8N1", [of_case("dsmr/v5-gas-by-the-hour")], {}),
    "dsmr 2.2": ("dsmr", "9600 7E1", [of_case("dsmr/v2-2")], {"baudrate": 9600, "bytesize": 7, "parity": "E"}),
    "iec62056-21": ("iec62056-21", "2400 7E1", [of_case("iec62056-21/mode-d")], {"baudrate": 2400, "mode": "D"}),
    "nmea": ("nmea", "4800 8N1", [of_case("nmea/position")], {"baudrate": 4800}),
    "scale": ("scale", "9600 8N1", [b"ST,GS,+  12.%03dkg\r\n" % number for number in range(20)], {}),
    "sml": ("sml", "9600 8N1", [of_case("sml/one-meter")], {}),
    "teleinfo": ("teleinfo", "1200 7E1", [of_case("teleinfo/historical")], {}),
    "vedirect": ("vedirect", "19200 8N1", [of_case("vedirect/battery-monitor")], {}),
}


def judged(stream: bytes, kinds: dict[str, type[FramedDevice]]) -> list[Guess]:
    async def judge() -> list[Guess]:
        return guesses(stream, Setting(9600), kinds, "/dev/null")

    return asyncio.run(judge())


@pytest.mark.parametrize("name", SPEAKERS)
async def test_it_is_found_at_its_speed_in_noise(name: str, cable: Cable) -> None:
    """The adapter, the line and the keys are the right ones, although there is noise between the frames."""
    adapter, line, frames, keys = SPEAKERS[name]
    lines: list[str] = []
    async with Speaker(cable, line, frames):
        heard = await detect(cable.path, KINDS, WAIT, lines.append, QUICK)
    best = heard.guesses[0]
    assert (best.adapter, best.line, dict(best.keys)) == (adapter, line, keys)
    assert is_sure(best)
    assert best.values
    made = tomllib.loads(block(best, cable.path))["devices"][adapter]
    assert made.pop("adapter") == adapter
    assert registry.adapter(adapter)(**made).model_dump(include=keys.keys()) == keys


@pytest.mark.parametrize("case", ["dsmr/v2-2", "dsmr/published-v5-a-gas-meter-that-is-gone", "iec62056-21/mode-d"])
def test_a_meter_is_no_text_though_its_speed_says_nothing(case: str) -> None:
    """What came through a network serial server, or was replayed, looks like 9600 8N1: the frames say what it is."""
    best = judged(of_case(case) * 4, KINDS)[0]
    assert best.adapter == case.split("/")[0]
    assert not best.usual


async def test_noise_is_nothing(cable: Cable) -> None:
    """Random bytes at every speed lead to no sure guess, and the search ends when it is told to."""
    chance = random.Random(7)
    began = time.monotonic()
    async with Speaker(cable, "9600 8N1", [chance.randbytes(40) for _ in range(50)]):
        heard = await detect(cable.path, KINDS, 2.0, lambda line: None, QUICK)
    assert time.monotonic() - began < WAIT
    assert not any(map(is_sure, heard.guesses))
    assert heard.size > 0


async def test_silence_is_said(cable: Cable) -> None:
    """Where nothing comes, every line is listened to in turn, and the report asks what a person can look at."""
    heard = await detect(cable.path, KINDS, 1.0, lambda line: None, QUICK._replace(silence=0.02))
    assert heard.tried == [str(setting) for setting in settings(KINDS.values())]
    assert "Nothing came" in report(heard, cable.path)


@given(st.binary(max_size=2000))
def test_no_bytes_make_it_fail(stream: bytes) -> None:
    """Whatever comes, each kind has an answer, and none of them is sure about noise."""
    assert not any(map(is_sure, judged(stream, KINDS)))


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_looks_at_a_flood_in_linear_time(name: str) -> None:
    """What may be collected at one line is judged at once, whatever it is."""
    kind = {name: KINDS[name]}
    for stream in (random.Random(1).randbytes(65_536), b"\x1b" * 65_536, b"/" * 65_536, b"1,2\n" * 16_384):
        began = time.process_time()
        judged(stream, kind)
        assert time.process_time() - began < 5.0


def test_seven_bits_with_parity_are_found_in_eight() -> None:
    """A line of 7E1 or 7O1 need not be listened to on its own; where the parity is by chance, it is not believed."""
    text = b"/KFM5KAIFA-METER\r\n1-0:1.8.1(000671.578*kWh)\r\n!"
    even = bytes(byte | 0x80 if byte.bit_count() % 2 else byte for byte in text)
    odd = bytes(byte if byte.bit_count() % 2 else byte | 0x80 for byte in text)
    assert dict(views(even, Setting(9600))) == {"9600 8N1": even, "9600 7E1": text}
    assert dict(views(odd, Setting(2400))) == {"2400 8N1": odd, "2400 7O1": text}
    assert dict(views(text, Setting(9600))) == {"9600 8N1": text}
    assert dict(views(even, Setting(9600, "E"))) == {"9600 8E1": even}


def test_every_line_at_which_a_kind_speaks_is_listened_to() -> None:
    """Eight bits with parity are set, seven bits are found in eight, and the likeliest speed comes first."""
    listened = settings(KINDS.values())
    assert listened[0] == Setting(9600)
    for kind in KINDS.values():
        for line in (line_of(kind), *kind.speaks_at):
            speed, form = line.split()
            assert Setting(int(speed), form[1] if form[0] == "8" else "N") in listened  # type: ignore[arg-type]


def test_what_is_printed_can_be_pasted() -> None:
    """The block is TOML, whatever the values are."""
    keys = {"format": "regex", "pattern": r'^"(?P<t>\d+)', "columns": ["a", 'b"'], "separator": "\t", "dtr": False}
    guess = Guess("serial-text", keys, "9600 8N1", 9, 0.9, 4, 99.0, {"t": 21})
    assert tomllib.loads(block(guess, "/dev/tty'0")) == {
        "devices": {"serial-text": {"adapter": "serial-text", "port": "/dev/tty'0", **keys}}
    }
    words = report(Heard([guess], 100), "/dev/ttyUSB0")
    assert words.startswith("# serial-text at 9600 8N1: 9 frames, 90% of what came; the last: t 21\n")
    assert tomllib.loads(words)["devices"]["serial-text"]["port"] == "/dev/ttyUSB0"


def test_the_command_says_so_when_the_port_is_not_there(tmp_path: Path) -> None:
    """A wrong port is not an unknown device."""
    done = CliRunner().invoke(app, ["detect", str(tmp_path / "tty"), "--for", "1s"])
    assert done.exit_code == 69
    assert "not there" in done.stderr


def test_the_command_ends_in_time_and_with_status_1_when_nothing_speaks(cable: Cable) -> None:
    """`--for` bounds it, and a script can tell."""
    done = CliRunner().invoke(app, ["detect", cable.path, "--for", "50ms", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["guesses"] == []


def test_the_command_prints_what_it_has_heard(cable: Cable) -> None:
    """What a device has said before is heard as well; the lines for the config come on standard output."""
    cable.write(b"t=21.5 h=40\r\n" * 20)
    done = CliRunner().invoke(app, ["detect", cable.path, "--for", "2s"])
    assert done.exit_code == 0
    assert tomllib.loads(done.stdout)["devices"]["serial-text"]["format"] == "key-value"
