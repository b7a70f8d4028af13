"""`sensor-gateway outbox`, as its user meets it: what is printed where, and the exit status."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.app import main
from gateway.outbox import Outbox
from tests.cli.outbox_of import NOON, command, make, published

SHOWN = """\
measured              stream  epoch  seq  values
2025-11-20 12:00:05Z  meter   1      1    n=5 on=false text="nr. 5"
2025-11-20 12:00:06Z  meter   1      2    n=6 on=true text="nr. 6"
"""
LEDGER = """\
uplink  stream  epoch  seq  count  from                  to                    reason
cloud   boiler  1      2-2  1      2025-11-20 12:00:02Z  2025-11-20 12:00:02Z  rejected
cloud   boiler  1      3-3  1      2025-11-20 12:00:03Z  2025-11-20 12:00:03Z  poison
cloud   boiler  1      4-4  1      2025-11-20 12:00:04Z  2025-11-20 12:00:04Z  packet too large
"""
AUDIT = """\
uplink  stream  epoch  taken in  delivered  waiting  lost
cloud   boiler  1      4         1          0        3
cloud   meter   1      2         0          2        0
near    boiler  1      4         0          4        0
near    meter   1      2         0          2        0
1 blocks with 6 readings were checked: it adds up.
"""
QUARANTINE = """\
id   uplink  stream  epoch  seq  set aside             reason                  values
1:3  cloud   boiler  1      3    2025-11-20 12:00:06Z  poison                  n=3 on=false text="nr. 3"
1:4  cloud   boiler  1      4    2025-11-20 12:00:06Z  packet too large: 0x95  n=4 on=true text="nr. 4"
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outbox that is only looked at."""
    return make(tmp_path_factory.mktemp("outbox") / "outbox.db")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """An outbox that may be changed."""
    return make(tmp_path / "outbox.db")


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return what a command prints that succeeds."""
    status = main(["outbox", *map(str, arguments)])
    printed = capsys.readouterr()
    assert (status, printed.err) == (0, "")
    return printed.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "--uplink", "cloud"], SHOWN),
        (["ledger"], LEDGER),
        (["audit"], AUDIT),
        (["quarantine", "list"], QUARANTINE),
        (["ledger", "--uplink", "near"], "Nothing was lost.\n"),
        (["quarantine", "list", "--uplink", "near"], "Nothing is set aside.\n"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_tables_are_plain_lines_in_a_pipe(
    filled: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    """Each table is aligned by blanks, and has neither colours nor frames."""
    assert said(capsys, *arguments, "--path", filled) == expected


def test_show_begins_with_what_goes_next(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """-n bounds what is shown; without --uplink, it is what any uplink waits for."""
    lines = said(capsys, "show", "-n", "2", "--json", "--path", filled).splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2]
    assert json.loads(lines[0]) == {
        "stream": "boiler",
        "ts": round((NOON + 1) * 1000),
        "seq": 1,
        "epoch": 1,
        "values": {"n": 1, "on": False, "text": "nr. 1"},
    }


def test_export_writes_everything_that_waits(filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON lines hold a reading each, CSV a value each; a file or standard output get the same."""
    lines = said(capsys, "export", "--path", filled)
    assert [json.loads(line)["values"]["n"] for line in lines.splitlines()] == [1, 2, 3, 4, 5, 6]
    assert said(capsys, "export", "--path", filled, "-o", tmp_path / "all.jsonl") == ""
    assert (tmp_path / "all.jsonl").read_text() == lines
    text = said(capsys, "export", "--format", "csv", "--uplink", "cloud", "--path", filled)
    head, *rows = csv.reader(io.StringIO(text))
    assert head == ["stream", "epoch", "seq", "ts", "metric", "value"]
    assert [row[4:] for row in rows[:3]] == [["n", "5"], ["on", "false"], ["text", "nr. 5"]]
    assert len(rows) == 6


def test_export_of_a_programs_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Messages of the Python client come with topic and payload, in base64 where that is no text."""
    asyncio.run(published(tmp_path / "store.db"))
    text, raw = map(json.loads, said(capsys, "export", "--path", tmp_path / "store.db").splitlines())
    assert (text["topic"], text["payload"], text["qos"], text["retain"]) == ("site/door", "öffen", 1, False)
    assert (raw["topic"], raw["payload_base64"], raw["qos"], raw["retain"]) == ("site/raw", "/wA=", 2, True)
    assert "site/door: öffen" in said(capsys, "show", "--path", tmp_path / "store.db")


def test_status_says_how_long_it_lasts(filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the bounds of the config, and the rate at which the readings on the card came."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'[outbox]\npath = "{filled}"\nmax_size = "1MB"\nkeep_free = "0B"\n[uplinks.x]\nbrokers = ["mqtt://a.example"]'
    )
    told: dict[str, Any] = json.loads(said(capsys, "status", "--json", "-c", config))
    assert told["uplinks"]["cloud"] == {
        "waiting": 2,
        "oldest": round((NOON + 5) * 1000),
        "quarantined": 2,
        "lost": 3,
    }
    assert (told["running"], told["rate"], told["limit"]) == (False, 1.0, 10**6)
    assert told["holds"] == pytest.approx(10**6 / 15)
    assert 0 < told["lasts"] < told["holds"]
    shown = said(capsys, "status", "-c", config)
    assert "At this rate (1 readings a second) the outbox holds 18 h 31 min, and " in shown
    assert "cloud   2        2025-11-20 12:00:05Z, " in shown
    assert "of 1 MB used" in shown
    assert "holds" not in said(capsys, "status", "--path", filled)


async def test_a_running_outbox_can_be_looked_at(tmp_path: Path) -> None:
    """While a process has the outbox open, what is on the card is seen, and that it is in use."""
    path = tmp_path / "outbox.db"
    async with Outbox(path, ["cloud"]) as outbox:
        outbox.put("boiler", {"n": 1})
        await outbox.flush()
        done = await asyncio.to_thread(command, "status", "--json", "--path", path)
        told = json.loads(done.stdout)
        assert (told["running"], told["uplinks"]["cloud"]["waiting"]) == (True, 1)
        # It listens to nobody, as a program that uses the client: then nothing is changed behind its back.
        done = await asyncio.to_thread(command, "trim", "--all", "--yes", "--path", path)
        assert (done.returncode, done.stdout) == (75, "")
        assert "does not listen" in done.stderr


def test_what_was_set_aside_is_sent_again_or_dropped(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a service the outbox is opened for it: retried ones are the newest, dropped ones stay in the ledger."""
    done = command("quarantine", "retry", "1:3", "--path", mine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 are to be sent again.\n", "")
    readings = [json.loads(line) for line in said(capsys, "export", "--uplink", "cloud", "--path", mine).splitlines()]
    assert [(one["epoch"], one["seq"], one["values"]["n"]) for one in readings] == [(1, 1, 5), (1, 2, 6), (2, 1, 3)]
    assert readings[-1]["ts"] == round((NOON + 3) * 1000)
    done = command("quarantine", "drop", "--all", "--path", mine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 were dropped; the ledger has them.\n", "")
    assert said(capsys, "quarantine", "list", "--path", mine) == "Nothing is set aside.\n"
    assert said(capsys, "ledger", "--path", mine) == LEDGER
    assert "it adds up" in said(capsys, "audit", "--path", mine)


def test_trim_gives_up_what_is_old(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits goes into the ledger, and entries about it wait instead, so that the receiver will know."""
    assert command("trim", "--older-than", "1000000d", "--yes", "--path", mine).stdout.startswith("0 were given up")
    done = command("trim", "--older-than", "1d", "--yes", "--uplink", "cloud", "--path", mine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 were given up; the ledger has them.\n", "")
    losses = json.loads(said(capsys, "ledger", "--json", "--path", mine))
    assert [(loss["uplink"], loss["stream"], loss["count"]) for loss in losses if loss["reason"] == "shed"] == [
        ("cloud", "meter", 2)
    ]
    waiting = [json.loads(line) for line in said(capsys, "export", "--uplink", "cloud", "--path", mine).splitlines()]
    assert [(one["stream"], one["values"]["stream"], one["values"]["reason"]) for one in waiting] == [
        ("ledger", "meter", "shed")
    ]
    assert len(said(capsys, "export", "--uplink", "near", "--path", mine).splitlines()) == 7
    assert "it adds up" in said(capsys, "audit", "--path", mine)


def test_trim_asks_first(mine: Path) -> None:
    """Nothing is given up unasked: where there is nobody to ask, --yes has to be said."""
    done = command("trim", "--all", "--path", mine, stdin="y\n")
    assert done.returncode == 2
    assert "--yes" in done.stderr


def test_forget_lets_go_of_an_uplink(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What waited for it is in the ledger, its quarantine is empty, and the others have what they had."""
    done = command("forget", "cloud", "--yes", "--path", mine)
    words = "2 were given up; the ledger has them. The uplink is forgotten.\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, words, "")
    losses = json.loads(said(capsys, "ledger", "--json", "--path", mine))
    assert [(loss["stream"], loss["count"], loss["reason"]) for loss in losses][3:] == [("meter", 2, "shed")]
    assert said(capsys, "quarantine", "list", "--path", mine) == "Nothing is set aside.\n"
    told = json.loads(said(capsys, "status", "--json", "--path", mine))
    assert {name: one["waiting"] for name, one in told["uplinks"].items()} == {"near": 7}  # with the ledger's entry
    assert "it adds up" in said(capsys, "audit", "--path", mine)
    assert main(["outbox", "forget", "cloud", "--yes", "--path", str(mine)]) == 74
    assert 'knows no uplink "cloud"' in capsys.readouterr().err


def test_forget_asks_first_and_leaves_the_config_alone(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is nobody to ask, --yes has to be said; an uplink of the config is never forgotten."""
    assert command("forget", "cloud", "--path", mine, stdin="y\n").returncode == 2
    config = tmp_path / "gateway.toml"
    config.write_text(f'[outbox]\npath = "{mine}"\n[uplinks.cloud]\nbrokers = ["mqtt://a.example"]')
    assert main(["outbox", "forget", "cloud", "--yes", "-c", str(config)]) == 69
    assert "is in the config" in capsys.readouterr().err
    assert main(["run", "-c", str(config), "--forget", "cloud"]) == 78
    assert "--forget cloud: that uplink is in the config" in capsys.readouterr().err
    assert set(json.loads(said(capsys, "status", "--json", "-c", config))["uplinks"]) == {"cloud", "near"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["trim"],
        ["trim", "--all", "--older-than", "1d"],
        ["trim", "--older-than", "soon"],
        ["quarantine", "retry"],
        ["quarantine", "drop", "1:3", "--all"],
        ["quarantine", "drop", "three"],
        ["show", "-n", "0"],
        ["export", "--format", "xml"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(
    filled: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Options that say nothing, or two things at once, end with 2 before anything is done."""
    assert main(["outbox", *arguments, "--path", str(filled)]) == 2
    assert capsys.readouterr().out == ""


def test_what_cannot_be_read_is_said(tmp_path: Path, filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file, another file, another database, an unknown uplink: 74, one line, and no traceback."""
    (tmp_path / "text").write_text("no database " * 100)
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    for path, words in (
        (tmp_path / "none.db", "there is no outbox"),
        (tmp_path / "text", "cannot read the outbox"),
        (tmp_path / "other.db", "is not an outbox"),
    ):
        for what in ("status", "audit"):
            assert main(["outbox", what, "--path", str(path)]) == 74
            printed = capsys.readouterr()
            assert printed.out == ""
            assert words in printed.err
            assert printed.err.count("\n") == 1
    assert main(["outbox", "show", "--uplink", "clout", "--path", str(filled)]) == 74
    assert 'knows no uplink "clout"; there is: cloud, near' in capsys.readouterr().err
    done = command("trim", "--all", "--yes", "--uplink", "clout", "--path", filled)
    assert (done.returncode, done.stdout) == (69, "")
    assert 'no uplink "clout"' in done.stderr


def test_a_wrong_config_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a config that can be read, 78, and how to do without."""
    (tmp_path / "gateway.toml").write_text("[outbox]\npth = 1\n")
    assert main(["outbox", "status", "-c", str(tmp_path / "gateway.toml")]) == 78
    assert "--path" in capsys.readouterr().err


def test_help_reads_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command says in one line what it is for."""
    assert main(["outbox", "--help"]) == 0
    told = capsys.readouterr().out
    for name in ("status", "show", "export", "ledger", "audit", "trim", "forget", "quarantine"):
        assert name in told
