"""What the README shows is what the program takes and gives."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway import registry
from gateway.config import load
from gateway.formats import FORMATS
from gateway.reading import EPOCH_SHIFT, Reading
from tests.system.harness import Mosquitto, free_port

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text]
    return str(found)


def test_the_config_is_right(tmp_path: Path) -> None:
    """The config of the README passes `check` once its password file is there."""
    path = tmp_path / "greenhouse.toml"
    path.write_text(block("toml", "[devices.boiler]"))
    (tmp_path / "mqtt.password").write_text("secret\n")
    config = load(path)
    assert config.gateway.id == "greenhouse-1"
    assert list(config.devices) == ["boiler"]


def test_the_payload_is_what_is_published() -> None:
    """The payload of the README is byte for byte what the format renders, but for white space."""
    shown = block("json", '"seq"')
    told = orjson.loads(shown)
    reading = Reading(
        told["epoch"] << EPOCH_SHIFT, "boiler", told["seq"], 0.0, None, {"temperature": told["temperature"]}
    )
    assert FORMATS["json"](reading, told["ts"], False, None) == shown.replace(" ", "").strip().encode()


async def test_the_adapter_of_thirty_lines_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example is an adapter: its fields are keys with a check, and it emits readings."""
    source = block("python", "class Thermal")
    assert len(source.splitlines()) <= 30
    (tmp_path / "readme_example.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    adapter = importlib.import_module("readme_example").Thermal(zone=3, interval="2s")
    assert adapter.interval == 2.0
    monkeypatch.setattr(Path, "read_text", lambda path: {"/sys/class/thermal/thermal_zone3/temp": "48300\n"}[str(path)])
    came: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    class Fake:
        async def emit(self, values: Any, time: float | None = None) -> None:
            came.set_result(values)

    task = asyncio.create_task(adapter.run(Fake()))
    assert await asyncio.wait_for(came, 5.0) == {"temperature": 48.3}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    point = tomllib.loads(block("toml", "entry-points"))["project"]["entry-points"]
    assert list(point) == [registry.GROUP]


@pytest.mark.system
def test_the_client_of_ten_lines_delivers(tmp_path: Path) -> None:
    """The example publishes durably, at a real broker, in ten lines, and prints what its comment says."""
    source = block("python", "import Client")
    assert len([line for line in source.splitlines() if line]) <= 10
    with Mosquitto(tmp_path) as broker:
        here = source.replace(":1883", f":{broker.port}").replace(":1884", f":{free_port()}")
        run = subprocess.run(
            [sys.executable, "-c", here], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
        )
    assert f"# {run.stdout.strip()}" in source
    assert (tmp_path / "messages.db").exists()


def test_no_link_of_the_readme_leads_nowhere() -> None:
    """Every relative link is a file or folder of the repository."""
    path = ROOT / "README.md"
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target
