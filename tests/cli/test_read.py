"""`sensor-gateway read`: one device, its readings and its bytes, without a broker and without the outbox."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.adapter import Metric
from gateway.cli.app import app
from gateway.cli.read import Session, as_hex, as_json, as_text
from gateway.config import load_devices
from tests.adapters.cable import Cable

CONFIG = """
[uplinks.cloud]
brokers = ["mqtts://broker.invalid"]
username = "greenhouse"
password = {{ credential = "only.for.the.service" }}

[devices.scale]
adapter = "serial-text"
port = "{port}"
format = "key-value"

[devices.scale.metrics.weight]
unit = "kg"
scale = 0.001

[devices.made-up]
adapter = "simulator"
count = 3
interval = "0s"
"""


@pytest.fixture
def config(tmp_path: Path, cable: Cable) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.format(port=cable.path))
    return path


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in ("read", *arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_one_reading_is_shown_with_its_unit_and_its_bytes(config: Path, cable: Cable) -> None:
    """Decoded, scaled and with the unit of the config; the bytes that it came in stand before it."""
    cable.write(b"weight=12345 ok=true\r\n")
    status, out, _ = invoke("scale", "-c", config, "--once", "--raw")
    assert status == 0
    first, *_, last = out.splitlines()
    assert first.startswith("< 77 65 69 67 68 74 3d")
    assert last.split("  ", 1)[1] == "weight 12.345 kg  ok True"


def test_it_neither_needs_the_secrets_of_an_uplink_nor_makes_an_outbox(config: Path) -> None:
    """A person at a shell has not what systemd gives the service, and the outbox belongs to that."""
    status, out, _ = invoke("made-up", "-c", config, "--json")
    assert status == 0
    readings = [json.loads(line) for line in out.splitlines()]
    assert [set(reading) for reading in readings] == [{"ts", "temperature", "humidity"}] * 3
    assert not list(config.parent.glob("**/*.db*"))


def test_a_device_that_says_nothing_ends_with_status_1(config: Path) -> None:
    """`--for` bounds the wait, and a script can tell that nothing came."""
    status, out, _ = invoke("scale", "-c", config, "--for", "50ms")
    assert (status, out) == (1, "")


def test_a_name_that_is_not_in_the_config_is_answered_with_those_that_are(config: Path) -> None:
    """A typo costs no search."""
    status, _, error = invoke("scales", "-c", config)
    assert status == 78
    assert 'there is no device "scales"; did you mean "scale"?' in error
    assert "(devices: scale, made-up)" in error


def test_what_is_wrong_in_a_device_is_said_with_its_place(config: Path) -> None:
    """As `check` does, with file, line and column."""
    config.write_text(config.read_text().replace('"key-value"', '"morse"'))
    status, _, error = invoke("scale", "-c", config)
    assert status == 78
    assert f"{config}:10:10: error:" in error


def test_what_is_wrong_in_another_device_is_no_reason_not_to_look(config: Path) -> None:
    """Only the table of the device that is read has to be right."""
    config.write_text(config.read_text() + '[devices.unfinished]\nadapter = "serial-text"\nbaud = 9600\n')
    status, out, error = invoke("made-up", "-c", config, "--once")
    assert (status, bool(out)) == (0, True), error
    status, _, error = invoke("unfinished", "-c", config)
    assert status == 78
    assert 'did you mean "baudrate"?' in error


async def test_readings_come_as_they_are_said_and_a_stop_leaves_nothing(config: Path, cable: Cable) -> None:
    """It shows each reading at once, in order, until it is told to stop."""
    session = Session(load_devices(config)["scale"])
    cable.write(b"weight=1\nweight=2\n")
    task = asyncio.create_task(session.run())
    async with asyncio.timeout(20):
        while session.shown < 2:
            await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGINT)
    assert await task == 2


def speak(cable: Cable, heard: threading.Event) -> None:
    """Say it again and again: what is said before the port is open may be thrown away by the kernel."""
    while not heard.wait(0.1):
        cable.write(b"weight=1\n")


@pytest.mark.system
def test_ctrl_c_and_a_closed_pipe_end_it_in_order(config: Path, cable: Cable) -> None:
    """Neither leaves a traceback; both end the process by themselves."""
    command = [sys.executable, "-m", "gateway", "read", "scale", "-c", str(config)]
    for way in ("signal", "pipe"):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            heard = threading.Event()
            speaking = threading.Thread(target=speak, args=(cable, heard))
            speaking.start()
            line = process.stdout.readline()
            heard.set()
            speaking.join()
            assert "weight 0.001 kg" in line
            if way == "signal":
                process.send_signal(signal.SIGINT)
            else:
                process.stdout.close()
                cable.write(b"weight=2\n")
            assert process.wait(30) == 0
            assert "Traceback" not in process.stderr.read()


def test_a_line_for_a_person_and_one_for_a_program() -> None:
    """Times, units and types as each of the two needs them."""
    values = {"t": 21.5, "ok": True}
    assert as_text(values, 0.25, {"t": Metric(unit="°C")}).endswith(":00.250  t 21.5 °C  ok True")
    assert as_json(values, 1.0005) == '{"ts": 1000, "t": 21.5, "ok": true}'
    assert as_hex(b"\x02AB\xff") == "< 02 41 42 ff" + " " * 60 + "  .AB."
    assert len(as_hex(bytes(50)).splitlines()) == 3
