"""The package to start an adapter from: it is what the how-to shows, it is found, and its own tests pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "examples" / "adapter"


def test_the_how_to_shows_the_files_as_they_are() -> None:
    """What a person copies from the page is what is tested here."""
    page = (ROOT / "docs/how-to/write-an-adapter.md").read_text()
    shown = [block.strip() for block in re.findall(r"```\w+\n(.*?)```", page, re.DOTALL)]
    for path in PACKAGE.glob("*.*"):
        assert path.read_text().strip() in shown, path.name


def test_an_adapter_takes_about_thirty_lines() -> None:
    """The promise of the first page."""
    assert len((PACKAGE / "thermometer.py").read_text().splitlines()) <= 35


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Lay the package out as an installer does: its module, and its metadata beside it."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    metadata = tmp_path / "sensor_gateway_thermometer-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items()) for group, points in groups
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for path in PACKAGE.glob("*.py"):
        shutil.copy(path, tmp_path)
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=120
    )


@pytest.mark.system
def test_it_is_found_and_its_keys_are_checked(installed: Path) -> None:
    """Beside the gateway, an adapter of somebody else is listed, and a typo in its keys is found with its place."""
    listed = python(installed, "gateway", "adapters").stdout
    assert "thermometer  Reads the temperature from a thermometer" in listed
    (installed / "gateway.toml").write_text(
        '[uplinks.a]\nbrokers = ["mqtt://broker.invalid"]\n\n'
        '[devices.cellar]\nadapter = "thermometer"\nport = "/dev/null"\nfarenheit = true\n'
    )
    checked = python(installed, "gateway", "check", "-c", "gateway.toml")
    assert checked.returncode == 78
    assert 'gateway.toml:7:1: error: unknown key "farenheit" in [devices.cellar]; did you mean "fahrenheit"?' in (
        checked.stderr
    )


@pytest.mark.system
def test_its_own_tests_pass(installed: Path) -> None:
    """The suite runs outside of this repository, with nothing but pytest and what the package brings."""
    done = python(installed, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "test_thermometer.py")
    assert done.returncode == 0, done.stdout
    assert "11 passed" in done.stdout
