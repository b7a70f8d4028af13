"""The demo: run as a person runs it, and its account, which must not be fooled."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gateway.cli.demo.account import Arrivals, draw_up
from gateway.cli.demo.story import Plan
from gateway.config import load

PLAY = "import sys; from gateway.cli.demo import main; sys.exit(main(pace=float(sys.argv[1])))"
SCENES = [
    "1 of 6: All is well.",
    "2 of 6: The primary broker is killed.",
    "3 of 6: Both brokers are gone.",
    "4 of 6: The secondary broker returns.",
    "5 of 6: The primary broker returns.",
    "6 of 6: The account.",
]


@contextmanager
def demo(folder: Path, pace: float, *, terminal: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start the demo with `folder` for its temporary files; a lower `pace` leaves less time to look at each scene."""
    environment = {**os.environ, "TMPDIR": str(folder), "FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80"}
    stdout = subprocess.PIPE if terminal is None else terminal
    command = [sys.executable, "-c", PLAY, str(pace)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def left_behind(folder: Path) -> list[str]:
    """Return the processes that have `folder` in their environment, as every child of the demo has."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended while we looked
            continue
    return found


@pytest.mark.system
def test_tells_the_whole_story_in_a_pipe_and_its_account_is_right(short: Path) -> None:
    """In a pipe the demo prints plain lines, goes through every scene, ends with 0, and leaves nothing behind."""
    with demo(short, 0.3) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, f"{out}\n{err}"
    assert "\x1b" not in out, "no colours in a pipe, whatever FORCE_COLOR says"
    places = [out.index(scene) for scene in SCENES]
    assert places == sorted(places)
    assert re.search(r"failover: readings arrive at the secondary, \d", out)
    assert re.search(r"drained: \d+ readings arrived in", out)
    row = re.search(r"^in all +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +\d+$", out, re.MULTILINE)
    assert row, out
    written, *others = map(int, row.groups())
    assert written > 500
    assert others == [written, written, 0, 0]
    assert "Right: every line that the devices wrote has arrived" in out
    assert (list(short.iterdir()), left_behind(short)) == ([], [])


@pytest.mark.system
def test_draws_on_a_terminal_and_leaves_the_account_there(short: Path) -> None:
    """On a terminal the demo draws a live picture, and what stays at the end is the account."""
    near, far = os.openpty()
    termios.tcsetwinsize(far, (24, 80))
    shown: list[bytes] = []
    with demo(short, 0.05, terminal=far) as process:
        os.close(far)
        with suppress(OSError):  # EIO: the last one who had the terminal has closed it
            while chunk := os.read(near, 1 << 16):
                shown.append(chunk)
        _, err = process.communicate(timeout=100)
    os.close(near)
    out = b"".join(shown).decode()
    assert process.returncode == 0, f"{out[-3000:]}\n{err}"
    assert "\x1b[" in out
    assert "the gateway" in out
    assert "\x1b[?25h" in out.rpartition("The account")[0], "the cursor is shown again"
    assert "Right: every line that the devices wrote has arrived" in out


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_takes_everything_down_when_it_is_interrupted(short: Path, number: signal.Signals) -> None:
    """Ctrl-C, a polite kill or a closed terminal in the middle of an outage leaves no process and no file behind."""
    with demo(short, 0.1) as process:
        for line in process.stdout or ():
            if line.startswith(SCENES[1]):
                process.send_signal(number)
                break
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert (list(short.iterdir()), left_behind(short)) == ([], [])


def test_says_what_to_type_without_the_embedded_broker(tmp_path: Path) -> None:
    """Without amqtt the demo says how to get it and returns 1, before it starts anything."""
    code = PLAY.replace("import sys;", "import sys; sys.modules['amqtt'] = None;")
    done = subprocess.run([sys.executable, "-c", code, "1"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "make demo" in done.stderr
    assert "Traceback" not in done.stderr


def test_moves_to_another_port_where_one_is_taken(tmp_path: Path) -> None:
    """A port that something else listens on is replaced, said, and the copy of the config is still valid."""
    wanted = Plan(tmp_path).ports[0]
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # then somebody else has it, which is as good
            taken.bind(("127.0.0.1", wanted))
            taken.listen()
        plan = Plan(tmp_path)
    assert plan.ports[0] != wanted
    assert str(wanted) in plan.moved[0]
    brokers = load(plan.file).uplinks["cloud"].endpoints
    assert [broker.address.port for broker in brokers] == plan.ports


def test_the_config_in_the_repository_is_valid_as_it_stands() -> None:
    """config/demo.toml is a config that `sensor-gateway check` takes, and not a template."""
    config = load(Path(__file__).resolve().parents[2] / "config" / "demo.toml")
    assert set(config.devices) == {"boiler", "scale"}
    assert len(config.uplinks["cloud"].endpoints) == 2


WRITTEN = {"boiler": [{"t": 1.5}, {"t": 2.5}, {"t": 3.5}]}


def arrivals(*readings: tuple[int, int, float]) -> Arrivals:
    """Return what a broker saw: epoch, seq and value of each."""
    seen = Arrivals()
    for epoch, seq, value in readings:
        seen.add("boiler", json.dumps({"ts": 1, "epoch": epoch, "seq": seq, "t": value}))
    return seen


def test_an_account_with_duplicates_is_right_and_names_them() -> None:
    """What arrives twice is counted apart, and does not make up for anything."""
    account = draw_up(WRITTEN, {"boiler": 3}, arrivals((1, 1, 1.5), (1, 2, 2.5), (1, 3, 3.5), (1, 2, 2.5)), 0, 0)
    assert account.problems == ()
    assert account.rows[0].delivered == 3
    assert account.rows[0].duplicates == 1


@pytest.mark.parametrize(
    ("taken_in", "seen", "waiting", "ledger", "complaint"),
    [
        pytest.param(3, [(1, 1, 1.5), (1, 3, 3.5)], 0, 0, "never arrived, the first is seq 2", id="gap"),
        pytest.param(3, [(1, 1, 1.5), (1, 3, 3.5), (1, 3, 3.5)], 0, 0, "never arrived", id="gap filled by a duplicate"),
        pytest.param(3, [(1, 1, 1.5), (1, 3, 3.5)], 0, 1, "never arrived", id="gap that the ledger owns up to"),
        pytest.param(3, [(1, 1, 1.5), (1, 2, 9.9), (1, 3, 3.5)], 0, 0, "other values, the first is seq 2", id="value"),
        pytest.param(2, [(1, 1, 1.5), (1, 2, 2.5)], 0, 0, "wrote 3 lines, the gateway took in 2", id="not taken in"),
        pytest.param(3, [(1, 1, 1.5), (1, 2, 2.5)], 1, 0, "1 readings still wait", id="waiting"),
        pytest.param(3, [(1, 1, 1.5), (1, 2, 2.5), (1, 3, 3.5), (1, 4, 4.5)], 0, 0, "never wrote", id="invented"),
        pytest.param(3, [(1, 1, 1.5), (1, 2, 2.5), (2, 3, 3.5)], 0, 0, "2 epochs", id="two epochs"),
        pytest.param(3, [(1, 1, 1.5), (1, 2, 2.5), (1, 3, 3.5)], 0, 1, "1 in the ledger", id="sum"),
    ],
)
def test_an_account_that_is_wrong_says_so(
    taken_in: int, seen: list[tuple[int, int, float]], waiting: int, ledger: int, complaint: str
) -> None:
    """The demo cannot be fooled: each way in which a reading can go missing, change or come from nowhere is named."""
    account = draw_up(WRITTEN, {"boiler": taken_in}, arrivals(*seen), waiting, ledger)
    assert any(complaint in problem for problem in account.problems), account.problems


def test_an_account_of_nothing_is_not_right() -> None:
    """A demo in which the devices never wrote a line has shown nothing."""
    assert draw_up({"boiler": []}, {"boiler": 0}, Arrivals(), 0, 0).problems
