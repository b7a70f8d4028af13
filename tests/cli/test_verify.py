"""The verdict of `sensor-gateway verify`, as its user sees it."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from gateway.cli.app import main
from gateway.cli.verify import as_dict, print_report
from gateway.proof import Proof

PLAIN = """\
topic              epoch  seq   received  missing  twice  reordered  explained
sensors/gw/boiler  1      1-9   4         5        1      1          2 full, 1 too-old
sensors/gw/meter   2      1-26  13        13       0      0
sensors/gw/boiler, epoch 1: seq 2 is missing, and nothing explains it
sensors/gw/boiler, epoch 1: seq 6 is missing, and nothing explains it
sensors/gw/meter, epoch 2: seq 2 is missing, and nothing explains it
sensors/gw/meter, epoch 2: seq 4 is missing, and nothing explains it
sensors/gw/meter, epoch 2: seq 6 is missing, and nothing explains it
sensors/gw/meter, epoch 2: seq 8 is missing, and nothing explains it
sensors/gw/meter, epoch 2: seq 10 is missing, and nothing explains it
sensors/gw/meter, epoch 2: seq 12 is missing, and nothing explains it
sensors/gw/meter, epoch 2: seq 14 is missing, and nothing explains it
sensors/gw/meter, epoch 2: seq 16 is missing, and nothing explains it
sensors/gw/meter, epoch 2: seq 18 is missing, and nothing explains it
sensors/gw/meter, epoch 2: seq 20 is missing, and nothing explains it
sensors/gw/meter, epoch 2: and 2 more gaps
15 of the missing readings are not explained.
"""


def proof() -> Proof:
    proof = Proof()
    for seq in (1, 5, 5, 9, 7):
        proof.take("sensors/gw/boiler", orjson.dumps({"seq": seq, "epoch": 1}))
    for seq in range(1, 25, 2):
        proof.take("sensors/gw/meter", orjson.dumps({"seq": seq, "epoch": 2}))
    proof.take("sensors/gw/meter", orjson.dumps({"seq": 26, "epoch": 2}))
    for first, last, reason in ((3, 4, "full"), (8, 8, "too-old")):
        entry: dict[str, Any] = {"topic": "sensors/gw/boiler", "stream_epoch": 1, "reason": reason}
        proof.explain({**entry, "first_seq": first, "last_seq": last, "count": last - first + 1})
    return proof


def test_the_verdict_is_plain_lines_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """The table, what nothing explains, up to ten gaps of a stream, and the verdict in the last line."""
    print_report(proof().report(), 0)
    assert capsys.readouterr().out == PLAIN


def test_the_verdict_is_one_json_object() -> None:
    """Each stream with its figures, and its unexplained gaps from the first to the last seq."""
    told = json.loads(json.dumps(as_dict(proof().report())))
    assert (told["proved"], told["received"], told["unexplained"], told["ledger"]) == (False, 17, 15, 2)
    assert told["streams"][0] == {
        "topic": "sensors/gw/boiler",
        "epoch": 1,
        "first": 1,
        "last": 9,
        "received": 4,
        "missing": 5,
        "duplicates": 1,
        "reordered": 1,
        "explained": {"full": 2, "too-old": 1},
        "unexplained": [[2, 2], [6, 6]],
    }


def test_a_proof_says_so_and_its_own_losses_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing missing, nothing came, and a link that was lost: each has its line."""
    whole = Proof()
    whole.take("sensors/gw/boiler", b'{"seq": 1, "epoch": 1}')
    print_report(whole.report(), 2)
    lost, verdict = capsys.readouterr().out.splitlines()[2:]
    assert lost == "The link of this very command was lost 2 times: what came meanwhile is missing here."
    assert verdict == "1 readings: nothing is missing without an explanation."
    print_report(Proof().report(), 0)
    assert capsys.readouterr().out == "No reading came, so nothing is proved.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["localhost"],
        ["mqtt://user:secret@localhost"],
        ["mqtt://localhost", "--for", "60"],
        ["mqtt://localhost", "--password-env", "NO_SUCH_VARIABLE"],
        ["mqtt://localhost", "--insecure"],
        ["mqtt://localhost", "--protocol", "4"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Wrong options end with 2, before anything is connected to, and no secret is repeated."""
    assert main(["verify", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "secret" not in printed.err
