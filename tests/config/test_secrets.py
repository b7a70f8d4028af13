"""Secrets: read from where the config says they are, and shown nowhere."""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from gateway.config import Config, ConfigError, load

SECRET = "tr0ub4dor-and-3"
NOBODY = 65534

WAYS = ['{ credential = "mqtt" }', '{ file = "password" }', '{ env = "MQTT_PASSWORD" }']


def write(folder: Path, password: str, more: str = "") -> tuple[Path, dict[str, str]]:
    """Write a config and the secret in all three ways; return the file and the environment."""
    (folder / "credentials").mkdir(exist_ok=True)
    (folder / "credentials" / "mqtt").write_text(f"{SECRET}\n")
    (folder / "password").write_text(f"{SECRET}\n")
    (folder / "own.pem").touch()
    file = folder / "gateway.toml"
    file.write_text(
        f"""
        [uplinks.cloud]
        brokers = ["mqtts://a.example", {{ url = "mqtts://b.example", username = "b", password = {password} }}]
        username = "me"
        password = {password}
        tls = {{ certificate = "own.pem", key_password = {password} }}
        {more}
        """
    )
    return file, {"CREDENTIALS_DIRECTORY": str(folder / "credentials"), "MQTT_PASSWORD": SECRET, "HOME": "/"}


@pytest.mark.parametrize("way", WAYS)
def test_is_read_at_load(tmp_path: Path, way: str) -> None:
    """A secret is what is in its place, without the newline that an editor leaves at the end."""
    file, environ = write(tmp_path, way)
    first, second = load(file, environ=environ).uplinks["cloud"].endpoints
    for password in (first.password, second.password, first.tls and first.tls.key_password):
        assert password
        assert password.get_secret_value() == SECRET


def shown(config: Config) -> Iterator[str]:
    """Return everything that code could print of a config by mistake."""
    yield repr(config)
    yield str(config)
    yield str(config.model_dump())
    yield config.model_dump_json()
    yield json.dumps(config.model_dump(mode="json"))
    for endpoint in config.uplinks["cloud"].endpoints:
        yield repr(endpoint)
        yield f"{endpoint.password}"
    yield f"{vars(config.uplinks['cloud'])}"


@pytest.mark.parametrize("way", WAYS)
def test_is_never_shown(tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """No repr, dump or log of a config contains a secret."""
    file, environ = write(tmp_path, way)
    config = load(file, environ=environ)
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as logs:
        logging.getLogger("test").warning("%s %r", config, config.uplinks["cloud"].password)
        structlog.get_logger().info("config", config=config)
    for text in (*shown(config), caplog.text, str(logs)):
        assert text
        assert SECRET not in text


@pytest.mark.parametrize("way", WAYS)
def test_is_not_in_errors_about_what_stands_beside_it(tmp_path: Path, way: str) -> None:
    """An error in the same table, which knows the secret already, does not repeat it."""
    file, environ = write(tmp_path, way, more="qos = 3\nunknown = 1\ntopic = 5")
    with pytest.raises(ConfigError) as raised:
        load(file, environ=environ)
    assert len(raised.value.problems) == 3
    everything = "".join(traceback.format_exception(raised.value)) + repr(raised.value.problems) + repr(raised.value)
    assert SECRET not in everything


@pytest.mark.parametrize(
    "text",
    [
        'password = "{}"',
        'password = ["{}"]',
        "password = {{ value = '{}' }}",
        "password = {{ env = '{} ' }}",
        'passwd = "{}"',
        'brokers = ["mqtts://me:{}@a.example"]',
        'brokers = ["mqtts://a.example?password={}"]',
        "tls = {{ key_password = '{}' }}",
        "tls = {{ key_pasword = '{}' }}",
    ],
)
def test_is_not_repeated_when_it_stands_in_the_wrong_place(tmp_path: Path, text: str) -> None:
    """Whoever writes a secret into the config is told so, without the secret in the terminal or the journal."""
    file = tmp_path / "gateway.toml"
    brokers = "" if text.startswith("brokers") else 'brokers = ["mqtts://a.example"]\n'
    file.write_text(f"[uplinks.cloud]\n{brokers}{text.format(SECRET)}\n")
    with pytest.raises(ConfigError) as raised:
        load(file, environ={"HOME": "/"})
    assert len(raised.value.problems) == 1
    everything = "".join(traceback.format_exception(raised.value)) + repr(raised.value.problems)
    assert SECRET not in everything


@pytest.mark.parametrize("text", ['password = "{}', "password = {}", 'password = "{}" x', 'password = """{}'])
def test_is_not_repeated_by_syntax_errors(tmp_path: Path, text: str) -> None:
    """A line that cannot be parsed is named by its place, and not shown."""
    file = tmp_path / "gateway.toml"
    file.write_text(f'[uplinks.cloud]\nbrokers = ["mqtts://a.example"]\n{text.format(SECRET)}\n')
    with pytest.raises(ConfigError) as raised:
        load(file, environ={"HOME": "/"})
    assert SECRET not in "".join(traceback.format_exception(raised.value)) + repr(raised.value.problems)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Read files as a user who owns none of them; root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("key", ["password", "config", "tls"])
def test_says_how_a_file_becomes_readable(tmp_path: Path, key: str) -> None:
    """A file that may not be read is an error with its remedy, whichever file it is, and never a traceback."""
    file, environ = write(tmp_path, WAYS[1])
    tmp_path.chmod(0o755)
    path = {"password": tmp_path / "password", "config": file, "tls": tmp_path / "own.pem"}[key]
    path.chmod(0o000)
    folders = [folder for folder in tmp_path.parents if folder.stat().st_mode & 0o005 != 0o005]
    modes = [folder.stat().st_mode for folder in folders]
    for folder in folders:
        folder.chmod(0o755)
    try:
        with as_nobody(), pytest.raises(ConfigError, match=r"permission denied.*sudo"):
            load(file, environ=environ)
    finally:
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)
        path.chmod(0o600)


def test_a_folder_that_may_not_be_searched_is_no_traceback(tmp_path: Path) -> None:
    """Whoever checks a config as somebody else is told about credentials that are not for them."""
    file, environ = write(tmp_path, WAYS[0])
    environ["CREDENTIALS_DIRECTORY"] = str(tmp_path / ("x" * 300))
    with pytest.raises(ConfigError, match='credential "mqtt" cannot be read: file name too long'):
        load(file, environ=environ)


def test_a_secret_is_no_other_file_by_mistake(tmp_path: Path) -> None:
    """A file without end is not read into memory."""
    file, environ = write(tmp_path, WAYS[1])
    (tmp_path / "password").write_bytes(b"x" * 65537)
    with pytest.raises(ConfigError, match="larger than 64KiB"):
        load(file, environ=environ)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A secret or certificate that is a pipe would stop the gateway from starting for ever."""
    file, environ = write(tmp_path, WAYS[1])
    for name in ("password", "own.pem"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError) as raised:
        load(file, environ=environ)
    assert all("is not a regular file" in problem.message for problem in raised.value.problems)
    assert len(raised.value.problems) == 4
