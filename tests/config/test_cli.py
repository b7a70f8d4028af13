"""The command line, as its user meets it: what is printed where, and the exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gateway
from gateway import registry

ROOT = Path(gateway.__file__).parents[1]
CASES = Path(__file__).parent / "cases"

GOOD = """
[gateway]
id = "greenhouse-1"

[outbox]
path = "state/outbox.db"

[uplinks.cloud]
brokers = ["mqtt://broker.invalid", "mqtt://192.0.2.1:1884"]

[devices.boiler]
adapter = "serial-text"
port = "/dev/no-such-port"

[devices.test]
adapter = "simulator"
enabled = false
"""

# Ends the command at the first attempt to reach a network or a device.
GUARD = """
import os, sys

def guard(event, arguments):
    if event.startswith("socket.") and event not in ("socket.gethostname", "socket.__new__"):
        os._exit(99)
    if event == "open" and str(arguments[0]).startswith("/dev/") and str(arguments[0]) != "/dev/null":
        os._exit(98)

sys.addaudithook(guard)
from gateway.cli import main
sys.exit(main())
"""


def command(*arguments: str | Path, cwd: Path = ROOT, guarded: bool = False) -> subprocess.CompletedProcess[str]:
    start = ["-c", GUARD] if guarded else ["-m", "gateway"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.replace(", ".join(registry.names()), "...")  # whatever is installed here


def test_check_says_what_a_good_config_means(tmp_path: Path) -> None:
    """A good config is summed up in a few lines, with neither hardware, network nor a file touched."""
    (tmp_path / "gateway.toml").write_text(GOOD)
    done = command("check", "-c", "gateway.toml", cwd=tmp_path, guarded=True)
    assert (done.returncode, done.stderr) == (0, "")
    for word in (
        "gateway.toml is right",
        "sensors/greenhouse-1",
        "mqtt://broker.invalid:1883, then mqtt://192.0.2.1:1884",
        "serial-text /dev/no-such-port",
        "simulator (not enabled)",
        str(tmp_path / "state/outbox.db"),
    ):
        assert word in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.toml"]


def test_check_prints_every_error_and_exits_78() -> None:
    """A wrong config ends with all its errors on stderr, as an editor can jump to them."""
    case = CASES / "gateway-and-uplinks-and-devices"
    done = command("check", "-c", case.with_suffix(".toml").name, cwd=CASES, guarded=True)
    assert (done.returncode, done.stdout, _said(done)) == (78, "", case.with_suffix(".txt").read_text())


@pytest.mark.parametrize("word", ["run", "check"])
def test_a_missing_config_is_said_in_a_line(word: str, tmp_path: Path) -> None:
    """No config is a wrong config, for the service as for the check, and no traceback."""
    done = command(word, "-c", "none.toml", cwd=tmp_path)
    assert done.returncode == 78
    assert done.stderr == "none.toml:1:1: error: cannot be read: no such file or directory\n"


def test_run_prints_what_check_prints() -> None:
    """The service refuses a config in the same words, with the same status."""
    name = "gateway-and-uplinks-and-devices"
    done = command("run", "-c", f"{name}.toml", cwd=CASES)
    assert (done.returncode, _said(done)) == (78, (CASES / f"{name}.txt").read_text())


def test_run_reads_its_config_without_typer_and_rich() -> None:
    """The way from `run` to a loaded config does not pay for the looks of the other commands."""
    code = "import sys; sys.argv = ['x', 'run', '-c', 'none.toml']; from gateway.cli import main; main(); " + (
        "print(sorted({'typer', 'rich', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"


def test_run_explains_itself() -> None:
    """`run --help` says what it takes and what its exit status means."""
    done = command("run", "--help")
    assert done.returncode == 0
    for word in ("--config FILE", "/etc/sensor-gateway/gateway.toml", "--log-level", "--log-format", "78"):
        assert word in done.stdout


@pytest.mark.parametrize("arguments", [["chek"], ["check", "--confg", "x"], ["run", "--log-level", "loud"]])
def test_a_wrong_command_exits_2(arguments: list[str]) -> None:
    """A mistake on the command line is no mistake in the config, and no traceback."""
    done = command(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_help_lists_the_commands() -> None:
    """Whoever types --help finds every command."""
    done = command("--help")
    assert done.returncode == 0
    assert all(f" {word} " in done.stdout for word in ("run", "check", "schema", "adapters", "demo"))


def test_version() -> None:
    """The version is one line, for reports."""
    done = command("--version")
    assert (done.returncode, done.stdout.split(" ")[0], done.stdout.count("\n")) == (0, "sensor-gateway", 1)


def test_schema_prints_json() -> None:
    """What `schema` prints can be written to a file beside the config."""
    done = command("schema")
    assert done.returncode == 0
    assert json.loads(done.stdout) == json.loads((ROOT / "config" / "gateway.schema.json").read_text())


def test_adapters_lists_keys_with_defaults() -> None:
    """A person who writes a device finds its keys without leaving the terminal."""
    done = command("adapters")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert any(line.split()[:4] == ["port", "one", "of", "these"] for line in lines)
    assert any(line.split()[:2] == ["baudrate", "9600"] for line in lines)
    assert any(line.split()[:2] == ["interval", '"1s"'] for line in lines)


def test_a_bug_exits_70_and_asks_for_a_report() -> None:
    """A bug is told apart from a wrong config, with its traceback and what to do with it."""
    code = """
import sys, gateway.cli.run
def main(arguments): raise ZeroDivisionError("division by zero")
gateway.cli.run.main = main
sys.argv = ["sensor-gateway", "run"]
sys.exit(__import__("gateway.cli").cli.main())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert "this is a bug: ZeroDivisionError" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("Please report it")
