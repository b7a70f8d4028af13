"""The JSON Schema and the annotated example: generated or checked, so that neither tells anything but the truth."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.config import load, uplinks
from gateway.config.schema import schema
from gateway.uplink.profiles import PROFILES

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLE = CONFIG / "gateway.toml"
DEVICES = sorted(path for path in (CONFIG / "examples").glob("*.toml") if not path.name.startswith("cloud-"))

# A line of the example that is a key, or a table, behind a "#".
COMMENTED = re.compile(r"^#(?=[a-z_0-9]+ = |\[)", re.MULTILINE)

# The contract with users, as the design has it.
CONTRACT = """
[gateway]
id = "greenhouse-1"
base = "sensors"

[outbox]
path = "/var/lib/sensor-gateway/outbox.db"
commit_interval = "1s"
max_size = "1GB"
keep_free = "500MB"
max_age = "30d"
when_full = "drop-oldest"

[uplinks.cloud]
brokers = ["mqtts://a.example:8883", "wss://b.example/mqtt"]
protocol = "auto"
username = "greenhouse"
password = { credential = "mqtt.password" }
qos = 1
topic = "{base}/{gateway}/{device}"
format = "json"
window = 1000
keep_alive = "30s"
ack_timeout = "5s"
failback = "30s"

[devices.boiler]
adapter = "serial-text"
port = "/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0"
baudrate = 9600
format = "json"

[devices.boiler.metrics.temperature]
unit = "°C"
scale = 0.1
deadband = 0.2
"""

CASES = Path(__file__).parent / "cases"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def test_the_committed_schema_is_the_generated_one() -> None:
    """Editors complete what the models know. If this fails, type: make schema"""
    assert json.loads((CONFIG / "gateway.schema.json").read_text()) == schema()


def test_is_a_json_schema() -> None:
    """The schema is one of draft 2020-12."""
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("file", sorted(CONFIG.glob("*.toml")), ids=lambda file: file.name)
def test_the_examples_are_valid(validator: Draft202012Validator, file: Path) -> None:
    """What the project ships as an example is right, in the eyes of an editor and of the gateway."""
    validator.validate(tomllib.loads(file.read_text()))
    load(file, environ={"HOME": "/"})


def test_the_contract_is_valid(validator: Draft202012Validator, tmp_path: Path) -> None:
    """The config that users were promised loads."""
    validator.validate(tomllib.loads(CONTRACT))
    (tmp_path / "mqtt.password").write_text("x")
    (tmp_path / "gateway.toml").write_text(CONTRACT)
    load(tmp_path / "gateway.toml", environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize(
    "name",
    [
        "broker-scheme",
        "broker-table-unknown-key",
        "broker-websocket",
        "device-adapter-unknown",
        "device-nested-table",
        "device-unknown-key",
        "device-without-port",
        "gateway-base",
        "gateway-id",
        "headers-no-table",
        "metric-keys",
        "metric-name",
        "outbox-choice",
        "outbox-duration",
        "outbox-size",
        "proxy-url",
        "secret-in-the-file",
        "secret-two-ways",
        "tls-versions-and-protocols",
        "top-no-uplink",
        "top-unknown-table",
        "topic-without-device",
        "uplink-brokers-empty",
        "uplink-name",
        "uplink-profile-typo",
        "uplink-unknown-key",
    ],
)
def test_an_editor_sees_what_the_gateway_refuses(validator: Draft202012Validator, name: str) -> None:
    """The schema is not laxer than the gateway where a schema can say it."""
    assert not validator.is_valid(tomllib.loads((CASES / f"{name}.toml").read_text()))


DEVICE = ("adapter", "computed", "enabled", "metrics")  # the keys that every device has


def models(whole: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Return every model of the schema with a place where it is written and its keys; `*` is any name."""

    def below(name: str, path: str, node: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        if "$ref" in node:
            name = node["$ref"].removeprefix("#/$defs/")
            node = whole["$defs"][name]
        for branch in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            yield from below("secret" if "oneOf" in branch else name, path, branch)
        if isinstance(node.get("items"), dict):
            yield from below(name, f"{path}[]", node["items"])
        if isinstance(node.get("additionalProperties"), dict):
            yield from below(name, f"{path}.*", node["additionalProperties"])
        if "properties" in node:
            properties = node["properties"]
            if kind := properties.get("adapter", {}).get("const"):
                yield "device", path, {key: properties[key] for key in DEVICE}
                path = f"{path}={kind}"
                properties = {key: one for key, one in properties.items() if key not in DEVICE}
                yield from below("metric", f"{path}.metrics", node["properties"]["metrics"])
            yield name, path, properties
            for key, one in properties.items():
                yield from below("secret" if "oneOf" in one else key, f"{path}.{key}", one)

    return below("config", "", whole)


def tables(path: str, data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the tables of a config at a place that `models` names."""
    if not path:
        yield data
        return
    match = re.match(r"\.(\*|[a-z0-9_]+)(\[\])?(?:=([a-z0-9-]+))?(.*)", path)
    assert match, path
    name, array, kind, rest = match.groups()
    for value in data.values() if name == "*" else [data[name]] if name in data else []:
        for table in value if array else [value]:
            if isinstance(table, dict) and (kind is None or table["adapter"] == kind):
                yield from tables(rest, table)


def test_the_examples_have_every_key_with_its_default() -> None:
    """Each key that the gateway knows is in config/gateway.toml, and a default that stands there is the real one.

    The keys of a device may be in config/examples/ instead; what several kinds of device share is shown once.
    """
    whole = schema()
    documents = [tomllib.loads(COMMENTED.sub("", path.read_text())) for path in (EXAMPLE, *DEVICES)]
    known: dict[tuple[str, ...], Any] = {}  # the default of each key of each model
    found: dict[tuple[str, ...], list[Any]] = {}  # what the examples say, wherever that model is written
    for name, path, properties in models(whole):
        of_devices = path.startswith(".devices.*=")
        for key, one in properties.items():
            which = (key, one["description"], str(one.get("default"))) if of_devices else (name, key)
            known[which] = one.get("default")
            for document in documents if of_devices else documents[:1]:
                found.setdefault(which, []).extend(t[key] for t in tables(path, document) if key in t)
    assert len(known) > 50
    assert [which for which, values in found.items() if not values] == []
    shown = {which: one for which, one in known.items() if one is not None and not isinstance(one, dict | list)}
    assert {which: found[which] for which, default in shown.items() if default not in found[which]} == {}


def test_the_example_has_no_trailing_comments() -> None:
    """A comment stands on its own line, above its key."""
    lines = EXAMPLE.read_text().splitlines()
    assert not [line for line in lines if not line.startswith("#") and "#" in line]


def test_the_config_knows_the_same_profiles_as_the_uplink() -> None:
    """The config stands below the uplink and cannot ask it; the two lists are one."""
    assert tuple(PROFILES) == uplinks.PROFILES
