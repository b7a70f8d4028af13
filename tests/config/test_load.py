"""What a config means: defaults, files that are merged, paths, brokers and devices."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.serial.text import SerialText
from gateway.config import Config, ConfigError, load
from gateway.config.files import unreadable

UPLINK = '[uplinks.cloud]\nbrokers = ["mqtt://a.example"]\n'


def loaded(folder: Path, text: str, *, environ: Mapping[str, str] | None = None) -> Config:
    file = folder / "gateway.toml"
    file.write_text(text)
    return load(file, environ={"HOME": "/home/someone"} if environ is None else environ)


def test_one_uplink_is_enough(tmp_path: Path) -> None:
    """Every key has a default, except where readings go."""
    config = loaded(tmp_path, UPLINK)
    assert config.gateway.id == socket.gethostname()
    assert config.gateway.base == "sensors"
    assert config.outbox.model_dump(exclude={"path"}) == {
        "commit_interval": 1.0,
        "max_size": 10**9,
        "keep_free": 500 * 10**6,
        "memory_limit": 64 * 10**6,
        "max_age": None,
        "hold_unsynced": 30.0,
        "when_full": "drop-oldest",
    }
    uplink = config.uplinks["cloud"]
    assert (uplink.qos, uplink.topic, uplink.format, uplink.window) == (1, "{base}/{gateway}/{device}", "json", 1000)
    assert (uplink.keep_alive, uplink.ack_timeout, uplink.connect_timeout) == (30, 5, 5)
    assert (uplink.reconnect_min, uplink.reconnect_max, uplink.failback) == (0.5, 10, 30)
    assert config.devices == {}


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"STATE_DIRECTORY": "/var/lib/sensor-gateway", "HOME": "/h"}, "/var/lib/sensor-gateway/outbox.db"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "HOME": "/h"}, "/var/lib/a/outbox.db"),
        ({"XDG_STATE_HOME": "/state", "HOME": "/h"}, "/state/sensor-gateway/outbox.db"),
        ({"HOME": "/h"}, "/h/.local/state/sensor-gateway/outbox.db"),
    ],
)
def test_the_outbox_is_where_the_system_keeps_state(tmp_path: Path, environ: dict[str, str], path: str) -> None:
    """Under systemd the outbox is in the unit's state directory, else in the user's."""
    assert loaded(tmp_path, UPLINK, environ=environ).outbox.path == Path(path)


def test_a_relative_path_starts_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a config means does not depend on where the command is typed."""
    (tmp_path / "gateway.toml").write_text('[outbox]\npath = "state/outbox.db"\n' + UPLINK)
    monkeypatch.chdir(tmp_path.parent)
    config = load(Path(tmp_path.name, "gateway.toml"))
    assert config.outbox.path == tmp_path / "state/outbox.db"


def test_loading_makes_nothing(tmp_path: Path) -> None:
    """To check a config creates no outbox, nor a folder for it."""
    loaded(tmp_path, f'[outbox]\npath = "state/outbox.db"\n{UPLINK}')
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.toml"]


def test_what_a_broker_does_not_say_its_uplink_says(tmp_path: Path) -> None:
    """A broker may have keys of its own; its user name and password are never mixed with the uplink's."""
    (tmp_path / "ca.pem").touch()
    text = """
        [uplinks.cloud]
        brokers = [
            "mqtts://a.example",
            { url = "mqtt://b.example:1884", protocol = "5", client_id = "b" },
            { url = "mqtts://c.example", username = "c", tls = { insecure = true } },
            "unix:///run/mosquitto.sock",
        ]
        protocol = "3.1.1"
        username = "all"
        password = { env = "PASSWORD" }
        client_id = "all"
        tls = { ca = "ca.pem" }
    """
    a, b, c, d = loaded(tmp_path, text, environ={"PASSWORD": "hunter2", "HOME": "/"}).uplinks["cloud"].endpoints
    assert (str(a.address), a.protocol, a.username, a.client_id) == ("mqtts://a.example:8883", "3.1.1", "all", "all")
    assert a.password is not None
    assert a.password.get_secret_value() == "hunter2"
    assert a.tls is not None
    assert a.tls.ca == tmp_path / "ca.pem"
    assert (str(b.address), b.protocol, b.username, b.client_id, b.tls) == (
        "mqtt://b.example:1884",
        "5",
        "all",
        "b",
        None,
    )
    assert (c.username, c.password) == ("c", None)
    assert c.tls is not None
    assert (c.tls.insecure, c.tls.ca) == (True, None)
    assert (d.address.path, d.tls) == ("/run/mosquitto.sock", None)


def test_failback_can_be_never(tmp_path: Path) -> None:
    """ "never" is no duration at all, and not a very long one."""
    assert loaded(tmp_path, UPLINK + 'failback = "never"').uplinks["cloud"].failback is None


def test_a_device_is_its_adapter_ready_to_run(tmp_path: Path) -> None:
    """The keys of a device are those of its adapter, beside the ones that every device has."""
    text = """
        [devices.boiler]
        adapter = "serial-text"
        port = "/dev/ttyUSB0"
        settle = "2s"
        max_line = "1KiB"
        enabled = false
        metrics.temperature = { unit = "°C", scale = 0.1 }
    """
    device = loaded(tmp_path, UPLINK + text).devices["boiler"]
    assert device.adapter == SerialText(port="/dev/ttyUSB0", settle=2.0, max_line=1024)
    assert (device.name, device.kind, device.enabled) == ("boiler", "serial-text", False)
    assert device.metrics["temperature"].unit == "°C"


def test_files_beside_it_are_merged_table_by_table(tmp_path: Path) -> None:
    """Each file of conf.d adds to what is there; only *.toml counts, and nothing hidden."""
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "20-meter.toml").write_text('[devices.meter]\nadapter = "simulator"\n')
    (folder / "10-cloud.toml").write_text('[uplinks.cloud]\nqos = 0\n[gateway]\nid = "a"\n')
    (folder / "30-off.toml.disabled").write_text("not = even = toml")
    (folder / ".31-hidden.toml").write_text("not = even = toml")
    config = loaded(tmp_path, f'[gateway]\nbase = "b"\n{UPLINK}[devices.boiler]\nadapter = "simulator"\n')
    assert (config.gateway.id, config.gateway.base, config.uplinks["cloud"].qos) == ("a", "b", 0)
    assert list(config.devices) == ["boiler", "meter"]


def test_files_are_read_in_lexical_order(tmp_path: Path) -> None:
    """Which of two definitions is the first does not depend on the file system."""
    (tmp_path / "conf.d").mkdir()
    for name in ("b", "c", "a"):
        (tmp_path / "conf.d" / f"{name}.toml").write_text("[gateway]\nid = 'x'\n")
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, UPLINK)
    assert [problem.path.name for problem in raised.value.problems] == ["b.toml", "c.toml"]
    assert all("conf.d/a.toml:2:1" in problem.message for problem in raised.value.problems)


def test_problems_are_sorted_as_they_stand(tmp_path: Path) -> None:
    """A person reads the errors from the first line of the first file to the last line of the last one."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text("[outbox]\nx = 1\ny = 2\n")
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, "[gateway]\nz = 1\na = 2\n" + UPLINK)
    assert [(problem.path.name, problem.line) for problem in raised.value.problems] == [
        ("gateway.toml", 2),
        ("gateway.toml", 3),
        ("a.toml", 2),
        ("a.toml", 3),
    ]


@pytest.mark.parametrize(
    "text", ["qos = true", "window = 100.0", 'username = ["x"]', "client_id = {}", "brokers = true", "failback = false"]
)
def test_nothing_is_converted_silently(tmp_path: Path, text: str) -> None:
    """A value of the wrong type is an error even where Python would take it."""
    key = text.split(" ", 1)[0]
    with pytest.raises(ConfigError, match=rf":2:\d+: error: {key}: "):
        loaded(tmp_path, f"[uplinks.cloud]\n{text}\n" + ('brokers = ["mqtt://a"]\n' if key != "brokers" else ""))


def test_a_config_is_frozen(tmp_path: Path) -> None:
    """What was loaded stays what it is."""
    config = loaded(tmp_path, UPLINK)
    with pytest.raises(ValidationError):
        config.gateway.id = "other"  # type: ignore[misc]


def test_says_what_to_do_about_permissions() -> None:
    """A file that may not be read has a remedy, and one that is not there has another."""
    assert "sudo" in unreadable(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    assert "sudo" not in unreadable(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
