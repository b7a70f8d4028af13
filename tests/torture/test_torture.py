"""The campaign over real processes: a slice of it, bugs that it has to find, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.selftest.campaign import Campaign
from gateway.cli.selftest.destination import RigError, find_kind
from gateway.cli.selftest.schedule import Act, draw
from tests.system.harness import until

pytestmark = pytest.mark.system

SEED = int(os.environ.get("TORTURE_SEED", "12"))


def campaign(folder: Path, subject: str | None = None, broker: str = "mosquitto") -> Campaign:
    """Return a campaign with mosquitto, or a loud failure."""
    kind = find_kind(broker)
    assert kind is not None, "mosquitto is missing. Type: sudo apt-get install mosquitto"
    made = Campaign(kind, folder)
    if subject is not None:
        made.subject = f"tests.torture.planted:{subject}"
    return made


async def test_a_slice_of_the_campaign(short: Path) -> None:
    """Over 60 SIGKILLs and 40 other faults, every line of every device is delivered or in the ledger."""
    outcome = await campaign(short).run(draw(SEED, 60, 40))
    assert outcome.verdict.problems == [], f"sensor-gateway selftest --seed {SEED} --kills 60 --faults 40"
    assert outcome.done["kill"] == 60
    assert outcome.done.total() == 100
    for row in outcome.verdict.rows.values():
        assert row.written == row.delivered + row.lost.total()
        assert row.delivered > 200
    assert list(short.iterdir()) == []


async def test_with_the_broker_of_the_extra_demo(short: Path) -> None:
    """It runs where there is no mosquitto, too."""
    acts = [
        Act(1, "kill", way="was ready", amount=0.5),
        Act(2, "broker killed", target="first", lasts=0.2),
        Act(3, "kill", way="was ready", amount=0.5),
    ]
    outcome = await campaign(short, broker="amqtt").run([acts])
    assert outcome.verdict.problems == []


NOISE = [Act(1, "clock", 0.1, amount=60.0, lasts=0.2), Act(2, "unplugged", 0.2, "meter", lasts=0.3)]
TRIGGERS = {
    "drops": Act(3, "kill", way="was ready", amount=1.5),
    "hurries": Act(3, "half-open", 0.5, "first", "up", lasts=1.5),
    "forgets": Act(3, "kill", way="was ready", amount=0.1),
    "dates": Act(3, "kill", way="was ready", amount=0.5),
}
BROKEN = [Act(4, "refused", 0.0, "first", lasts=2.5), Act(5, "refused", 0.0, "second", lasts=2.5)]
WORDS = {"drops": "has another seq", "hurries": "is missing", "forgets": "is missing", "dates": "has a wrong time"}


@pytest.mark.parametrize("bug", sorted(TRIGGERS))
async def test_a_planted_bug_is_found(short: Path, bug: str) -> None:
    """A gateway that loses, hurries, forgets or misdates readings fails the account, whichever of them it is."""
    acts = [*NOISE, TRIGGERS[bug]]
    if bug == "forgets":  # only what no broker takes has to be on the card
        acts = [*BROKEN, *NOISE, Act(3, "kill", 1.0, way="was ready", amount=1.0)]
    outcome = await campaign(short, bug).run([acts])
    assert [problem for problem in outcome.verdict.problems if WORDS[bug] in problem], outcome.verdict.problems
    assert outcome.failed == acts


async def test_the_shortest_trace_is_what_it_takes(short: Path) -> None:
    """Of a round that fails, what has nothing to do with it is left out."""
    acts = [*NOISE, TRIGGERS["hurries"]]
    assert await campaign(short, "hurries").shorten(acts, 60.0) == [TRIGGERS["hurries"]]


KILLS = [Act(number, "kill", way="was ready", amount=0.1) for number in range(1, 101)]


async def test_a_gateway_that_cannot_start_is_not_waited_for(short: Path) -> None:
    """It is started once, or once more by a kill, and what it said is why the self-test cannot go on."""
    played: list[Act] = []
    asked = campaign(short, "stillborn")
    asked.tell = lambda words, act, outcome: played.append(act) if act else None
    with pytest.raises(RigError, match=r"(?s)ended by itself, exit status 78.*no adapter is called that"):
        await asked.run([KILLS])
    assert len(played) <= 2


async def test_a_gateway_that_starts_no_more_is_a_problem(short: Path) -> None:
    """The round is over as soon as that is known, and what the gateway said is in the account."""
    outcome = await campaign(short, "weary").run([KILLS])
    told = [words for words in outcome.verdict.problems if "ended by itself, exit status 78" in words]
    assert told
    assert "no adapter is called that" in told[0]
    assert outcome.done["kill"] <= 3


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gateway", "selftest", "--seed", "3", "--folder", str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def below(pid: int) -> set[int]:
    """Return all processes that descend from one."""
    try:
        children = {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except FileNotFoundError:
        return set()
    return children.union(*map(below, children))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_leaves_no_process_behind(short: Path, number: signal.Signals) -> None:
    """Interrupted, ended or killed: brokers, gateways and who starts them are gone, and so are its files."""
    with started(short, "--faults", "0", "--kills", "1000") as process:
        assert process.stdout is not None
        while "#3 " not in process.stdout.readline():
            assert process.poll() is None
        until(lambda: len(below(process.pid)) >= 4, 10, "two brokers, a gateway and who starts them")
        children = below(process.pid)
        process.send_signal(number)
        process.communicate(timeout=30)
    until(lambda: not any(map(alive, children)), 10, "all have ended")
    if number is not signal.SIGKILL:
        assert process.returncode == 130
        assert list(short.iterdir()) == []


def test_the_command_says_what_was_done(short: Path) -> None:
    """A short run: the seed, a line for each act, the account, and exit status 0."""
    with started(short, "--kills", "2", "--faults", "1") as process:
        out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "seed 3; two brokers, each mosquitto; again: sensor-gateway selftest --seed 3 --kills 2 --faults 1"
    )
    assert [line[:3] for line in lines[1:4]] == ["#1 ", "#2 ", "#3 "]
    assert lines[-1] == "Every reading was delivered, or the ledger explains it."
    columns = next(line for line in lines if line.startswith("device"))
    assert columns.split("  ")[0] == "device"


def test_what_to_type_when_there_is_no_broker() -> None:
    """Without a broker nothing is proved: exit status 69, and what to install."""
    hidden = "import sys; sys.modules['amqtt'] = None; from gateway.cli.app import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-c", hidden, "selftest", "--broker", "amqtt"], capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 69
    assert "pip install 'sensor-gateway[demo]'" in ended.stderr
