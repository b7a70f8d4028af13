"""`sensor-gateway reload` where there is no service: it says so, and what is wrong in the config it sees itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.app import main
from gateway.cli.reload import lines
from gateway.config import ConfigError, load_outbox


def test_without_a_service_it_says_where_it_has_looked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A config whose secrets only the service has is no reason not to find it."""
    file = tmp_path / "gateway.toml"
    file.write_text('[outbox]\npath = "o.db"\n[uplinks.x]\nbrokers = ["mqtt://x"]\npassword = { credential = "x" }\n')
    assert main(["reload", "-c", str(file)]) == 69
    assert f"no service listens beside {tmp_path / 'o.db'}: does it run?" in capsys.readouterr().err
    assert main(["reload", "-c", str(file), "--path", str(tmp_path / "p.db"), "--dry-run"]) == 69
    assert str(tmp_path / "p.db") in capsys.readouterr().err
    assert main(["reload", "-c", str(tmp_path / "gatway.toml")]) == 69
    assert f"there is no {tmp_path / 'gatway.toml'}, and no service" in capsys.readouterr().err


def test_what_is_wrong_about_the_outbox_is_said_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By then nobody knows where the service is."""
    file = tmp_path / "gateway.toml"
    file.write_text('[outbox]\npath = 7\nmax_sice = "1GB"\n')
    assert main(["reload", "-c", str(file)]) == 78
    told = capsys.readouterr().err
    assert f"{file}:2:8: error: " in told
    assert f"{file}:3:1: error: " in told
    assert "nothing has changed" in told


def test_the_outbox_of_a_config_is_found_by_itself(tmp_path: Path) -> None:
    """Where the config does not say it, the surroundings do; other tables may be wrong."""
    file = tmp_path / "gateway.toml"
    file.write_text('[devices.x]\nadapter = "nonsense"\n')
    assert load_outbox(file, environ={"STATE_DIRECTORY": "/var/lib/x"}).path == Path("/var/lib/x/outbox.db")
    file.write_text("[outbox]\nmax_size = 7\n")
    with pytest.raises(ConfigError, match="max_size"):
        load_outbox(file)


def test_an_answer_in_lines() -> None:
    """One for each kind of change."""
    assert lines({}) == ["nothing differs"]
    told = {"devices": {"added": ["a", "b"]}, "commands": ["commands.max_age"], "restart_to_apply": ["outbox.path"]}
    assert lines(told) == [
        "devices added: a, b",
        "changed: commands.max_age",
        "restart the service to apply: outbox.path",
    ]
