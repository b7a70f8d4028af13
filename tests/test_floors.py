"""Imports go down only, and whoever breaks that is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

UPWARD = {
    "gateway/reading.py": ("from gateway.outbox import Outbox", "imports go down only"),
    "gateway/outbox/log.py": ("import gateway.uplink", "imports go down only"),
    "gateway/devices/running.py": ("import gateway.outbox", "imports go down only"),
    "gateway/mqtt/session.py": ("import gateway.reading", "imports go down only"),
    "gateway/uplink/link.py": ("import gateway.client", "imports go down only"),
    "gateway/client/client.py": ("import gateway.config", "only cli and service know the config"),
    "gateway/registry.py": ("import adapters.simulator", "the gateway never imports an adapter"),
    "gateway/uplink/hunt.py": ("import gateway.config", "only cli and service know the config"),
    "gateway/devices/metrics/shape.py": ("import sqlite3", "only the outbox knows SQL"),
    "adapters/simulator.py": ("import serial", "only adapters.ports knows pyserial, pymodbus, smbus2 and h11"),
    "adapters/serial/text.py": ("import gateway.outbox", "adapters use the face, and nothing behind it"),
}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for name in ("gateway", "adapters"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_house_as_it_is_keeps_its_floors(house: Path) -> None:
    """What is checked below would otherwise prove nothing."""
    told = lint_imports(house)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize("room", UPWARD)
def test_a_deliberate_wrong_import_is_found(house: Path, room: str) -> None:
    """`make test` runs the contracts over the code; each of them notices the import that it forbids."""
    line, contract = UPWARD[room]
    path = house / room
    path.write_text(
        path.read_text().replace(
            "from __future__ import annotations", f"from __future__ import annotations\n\n{line}", 1
        )
    )
    told = lint_imports(house)
    assert told.returncode != 0
    assert f"{contract} BROKEN" in told.stdout
