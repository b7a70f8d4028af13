"""Golden cases are tests by themselves, for us and for whoever has the plug-in; a wrong one fails with its reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import registry
from gateway.testing import Case, CaseFailed, cases_of

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(__file__).parent / "cases"
ALL = [case for name in registry.names() for case in cases_of(name, CASES)]

GOOD = {
    "device.toml": 'format = "key-value"\n',
    "wire.hex": "74 3d 31 0a  # t=1\n6e 6f 0a\n",
    "readings.jsonl": '{"values": {"t": 1}}\n',
    "skipped.json": '{"line is not key-value": 1}\n',
}
# What is wrong, the files that are otherwise or not there, and what is said about it.
WRONG: dict[str, tuple[dict[str, str | None], str]] = {
    "another value": (
        {"readings.jsonl": '{"values": {"t": 2}}\n'},
        "readings.jsonl, whole: expected 1 readings, found 1; they part in line 1:\n"
        '  expected {"values": {"t": 2}}\n  found    {"values": {"t": 1}}',
    ),
    "another type": ({"readings.jsonl": '{"values": {"t": 1.0}}\n'}, "they part in line 1"),
    "one too many": (
        {"readings.jsonl": GOOD["readings.jsonl"] * 2},
        "expected 2 readings, found 1; they part in line 2",
    ),
    "one too few": ({"readings.jsonl": ""}, "expected 0 readings, found 1; they part in line 1"),
    "not a word of what is thrown away": ({"skipped.json": None}, "skipped.json, whole: expected {}, found {"),
    "no keys": ({"device.toml": None}, "has no device.toml"),
    "no bytes": ({"wire.hex": None}, "has no wire.bin"),
    "no readings": ({"readings.jsonl": None}, "has no readings.jsonl"),
    "no TOML": ({"device.toml": "format"}, "device.toml: Expected '='"),
    "no hexadecimal digits": ({"wire.hex": "0g"}, "wire.hex: non-hexadecimal"),
    "no JSON": ({"readings.jsonl": "{\n"}, "readings.jsonl: Expecting"),
}


def laid_out(folder: Path, changes: dict[str, str | None]) -> Case:
    folder.mkdir(parents=True)
    for name, text in (GOOD | changes).items():
        if text is not None:
            (folder / name).write_text(text)
    return Case(folder)


def test_a_case_that_is_right_passes(tmp_path: Path) -> None:
    """Without this, the failures below would prove nothing."""
    skipped = {"skipped.json": json.dumps(skipped_by(tmp_path / "serial-text" / "wrong"))}
    laid_out(tmp_path / "serial-text" / "right", {**skipped}).check()


def skipped_by(folder: Path) -> dict[str, int]:
    """Return what is thrown away of the case, in the words of its adapter."""
    with pytest.raises(CaseFailed) as failed:
        laid_out(folder, {"skipped.json": None}).check()
    found: dict[str, int] = json.loads(str(failed.value).partition("found ")[2].replace("'", '"'))
    return found


@pytest.mark.parametrize("wrong", WRONG)
def test_a_case_that_is_wrong_fails_with_its_file_and_the_difference(wrong: str, tmp_path: Path) -> None:
    """Whoever has changed a decoder sees which file of which case says otherwise, and in which line."""
    changes, words = WRONG[wrong]
    with pytest.raises(CaseFailed) as failed:
        laid_out(tmp_path / "serial-text" / "a", changes).check()
    assert words in str(failed.value)
    assert str(tmp_path / "serial-text" / "a") in str(failed.value)


@pytest.mark.parametrize(
    ("adapter", "words"), [("serial-txt", 'unknown adapter "serial-txt"'), ("simulator", "Simulator has no `taker`")]
)
def test_a_case_of_no_adapter_that_takes_bytes_fails(adapter: str, words: str, tmp_path: Path) -> None:
    """A folder with a wrong name would be a case that is never looked at."""
    with pytest.raises(CaseFailed, match=words):
        laid_out(tmp_path / adapter / "a", {"device.toml": ""}).check()


def pytest_of(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run pytest in a folder as somebody else would, with the plug-ins that are installed."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", *arguments]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.system
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_plug_in_makes_a_test_of_each_folder(workers: tuple[str, ...], tmp_path: Path) -> None:
    """A key of the ini file is all that a package needs; a case that fails says in a few lines what is not right."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nsensor_gateway_cases = cases\n")
    laid_out(tmp_path / "cases/serial-text/right", {"wire.hex": "74 3d 31 0a\n", "skipped.json": None})
    laid_out(tmp_path / "cases/serial-text/wrong", {"readings.jsonl": ""})
    (tmp_path / "cases/serial-text/forgotten").mkdir()
    status, said = pytest_of(tmp_path, *workers)
    assert status == 1
    assert "2 failed, 1 passed" in said
    assert "cases/serial-text/forgotten has no" in said
    assert "they part in line 1" in said
    assert "Traceback" not in said
    if not workers:
        assert pytest_of(tmp_path, "cases/serial-text/right")[0] == 0


@pytest.mark.system
def test_the_plug_in_does_nothing_unless_it_is_asked_to(tmp_path: Path) -> None:
    """Everybody who has the gateway beside pytest has the plug-in: it takes no folder, and no time to import things."""
    laid_out(tmp_path / "cases/serial-text/wrong", {"readings.jsonl": ""})
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.has_plugin('sensor_gateway')\n"
        "    assert not {'pydantic', 'structlog', 'gateway.testing'} & set(sys.modules)\n"
    )
    status, said = pytest_of(tmp_path)
    assert (status, "1 passed" in said) == (0, True), said


def test_our_own_cases_are_collected() -> None:
    """An empty folder of cases, or one that nobody looks at, would prove nothing."""
    status, said = pytest_of(ROOT, "--collect-only", "-p", "asyncio", str(CASES))
    assert status == 0, said
    collected = [line for line in said.splitlines() if line.endswith("::readings")]
    assert len(collected) == len(ALL) == len([path for path in CASES.glob("*/*") if path.is_dir()]) >= 50
