"""The examples that are shipped are configs that pass, and what the how-tos show is what the examples say."""

from __future__ import annotations

import asyncio
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, load
from gateway.uplink.profiles import check_options, judge, profile

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "config" / "examples").glob("*.toml"))
CLOUDS = {
    "aws-iot-core": "cloud-aws-iot",
    "azure-iot-hub": "cloud-azure-iot-hub",
    "azure-event-grid": "cloud-azure-event-grid",
    "hivemq-cloud": "cloud-hivemq",
}


def tables(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every table in a document."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from tables(each)


def laid_out(example: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    """Copy an example into a folder, with a stand-in for each file and secret that it names."""
    path = Path(shutil.copy(example, folder / "gateway.toml"))
    for module in example.parent.glob("*.py"):
        shutil.copyfile(module, folder / module.name)  # nobody else can change the copy
        (folder / module.name).chmod(0o644)
    environ = {"HOME": str(folder), "CREDENTIALS_DIRECTORY": str(folder / "credentials")}
    for table in tables(tomllib.loads(path.read_text())):
        for key, value in table.items():
            if key in ("ca", "certificate", "key", "file") or key == "credential":
                place = folder / ("credentials" if key == "credential" else "") / value
                assert place.is_relative_to(folder), f"{example.name}: {value} is outside of the example's folder"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text("stand-in\n")
            elif key == "env":
                environ[value] = "stand-in"
    return path, environ


def loaded(example: Path, folder: Path) -> Config:
    path, environ = laid_out(example, folder)
    return load(path, environ=environ)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_the_example_passes_check(example: Path, tmp_path: Path) -> None:
    """Whoever copies an example and puts its files in their places has a config without an error."""
    assert loaded(example, tmp_path).uplinks


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_the_example_keeps_to_its_profile(example: Path, tmp_path: Path) -> None:
    """What an example sends, and how it connects, is what the broker that it names would take."""
    config = loaded(example, tmp_path)
    for name, uplink in config.uplinks.items():
        for endpoint in uplink.endpoints:
            known = profile(endpoint.profile)
            assert not check_options(
                known, client_id=endpoint.client_id, protocol=endpoint.protocol, username=endpoint.username
            )
            for device in config.devices:
                topic = uplink.topic.format(
                    base=config.gateway.base, gateway=config.gateway.id, uplink=name, device=device
                )
                assert judge(known, topic.encode(), 200, uplink.qos, False) == (uplink.qos, False, None, None)


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / "docs" / "how-to" / f"{name}.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", CLOUDS)
def test_the_how_to_shows_its_example(name: str) -> None:
    """The config in a how-to is, line for line, a part of the example that passes."""
    example = (ROOT / "config" / "examples" / f"{CLOUDS[name]}.toml").read_text()
    shown = blocks(name, "toml")
    assert shown
    assert all(block in example for block in shown)


@pytest.mark.parametrize("name", CLOUDS)
def test_the_how_to_says_that_it_was_not_tried(name: str) -> None:
    """Nobody takes for tested what was only read."""
    assert "not tried against the real cloud" in (ROOT / "docs" / "how-to" / f"{name}.md").read_text()[:500].lower()


@pytest.mark.parametrize("name", CLOUDS)
def test_the_program_of_the_how_to_names_what_its_broker_takes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program in a how-to has brokers of its profile, within the bounds; its credentials hook gives a password."""
    (program,) = blocks(name, "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE_KEY", "c2VjcmV0IGtleSBvZiBhIGRldmljZQ==")
    made: dict[str, Any] = {"__name__": "how_to"}
    exec(compile(program, f"{name}.md", "exec"), made)
    broker = made["broker"]
    known = profile(broker.profile)
    username = broker.username
    if broker.credentials is not None:
        credentials = broker.credentials()
        username = credentials.username
        assert credentials.password.startswith(b"SharedAccessSignature sr=")
    assert not check_options(known, client_id=broker.client_id, protocol=broker.protocol or "auto", username=username)
    assert judge(known, made["TOPIC"].encode(), 200, 1, False).refused is None
    assert asyncio.iscoroutinefunction(made["main"])
