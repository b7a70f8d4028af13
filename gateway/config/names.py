"""Names of devices, metrics, gateways and uplinks, and the topics that are made of them."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field, WithJsonSchema

from gateway.config.problems import did_you_mean, refuse
from gateway.reading import LEDGER, RESERVED

# Each has a topic of its own: {base}/{gateway}/status, {base}/{gateway}/ledger and {base}/{gateway}/command.
RESERVED_DEVICES = frozenset({"status", LEDGER, "command"})
PLACEHOLDERS = ("base", "gateway", "device", "uplink")
_LONGEST_NAME = 64
_LONGEST_TOPIC = 1024

# \s covers the line ends and tabs; the ranges are the control characters, NUL among them.
_FORBIDDEN = re.compile(r"[/+#{}\s\x00-\x1f\x7f-\x9f]")
NAME_PATTERN = r"^[^/+#{}\s\x00-\x1f\x7f-\x9f]{1,64}$"
BASE_PATTERN = r"^(?!\$)[^/+#{}\s\x00-\x1f\x7f-\x9f]+(/[^/+#{}\s\x00-\x1f\x7f-\x9f]+)*$"


def _fault(name: str) -> str | None:
    """Return what is wrong with one level of a topic, in words that follow the name, or None."""
    if not name:
        return "must not be empty"
    found = _FORBIDDEN.search(name)
    if found:
        what = "spaces" if found[0] == " " else f'"{found[0]}"' if found[0].isprintable() else "control characters"
        return f"must not contain {what}: it becomes a level of MQTT topics"
    if len(name.encode()) > _LONGEST_NAME:
        return f"must not be longer than {_LONGEST_NAME} bytes"
    return None


def _name(name: str) -> str:
    if fault := _fault(name):
        raise refuse("name", fault)
    return name


def _device_name(name: str) -> str:
    if name in RESERVED_DEVICES:
        raise refuse("name", "is reserved: the gateway publishes under it itself")
    return _name(name)


def _metric_name(name: str) -> str:
    if name in RESERVED:
        raise refuse(
            "name",
            f"is reserved for the payload itself, as are all of {', '.join(sorted(RESERVED))}; "
            f"a device's own {name} is published as {name}_",
        )
    return _name(name)


def _base(base: str) -> str:
    if base.startswith("$"):
        raise refuse("topic", "must not begin with $: such topics belong to the broker")
    for level in base.split("/"):
        fault = _fault(level)
        if fault and not level:
            raise refuse(
                "topic",
                "has an empty level: write a/b, without a slash at either end or two in a row" if base else fault,
            )
        if fault:
            raise refuse("topic", fault)
    return base


def _topic(template: str) -> str:
    """Check a topic template: what it names, and what MQTT allows in a topic that is published to."""
    names = re.findall(r"\{([^{}]*)\}", template)
    for name in names:
        if name == "metric":
            raise refuse(
                "topic", "{metric} is not supported yet: a reading goes out as one payload with all its metrics"
            )
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            hint = did_you_mean(name, PLACEHOLDERS, quote="{{{}}}") or f"; the names are {known}"
            raise refuse("topic", f"unknown name {{{name}}}{hint}")
    plain = re.sub(r"\{[^{}]*\}", "x", template)
    if "{" in plain or "}" in plain:
        raise refuse("topic", "has a brace without its partner")
    if template.startswith("$"):
        raise refuse("topic", "must not begin with $: such topics belong to the broker")
    for sign in "+#":
        if sign in plain:
            raise refuse("topic", f'must not contain "{sign}": it is a wildcard, for subscribing only')
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in plain):
        raise refuse("topic", "must not contain control characters")
    if not all(plain.split("/")):
        raise refuse("topic", "has an empty level: write a/b, without a slash at either end or two in a row")
    if "device" not in names:
        raise refuse("topic", "must contain {device}, or the readings of all devices mix in one topic")
    if len(template.encode()) > _LONGEST_TOPIC:
        raise refuse("topic", f"must not be longer than {_LONGEST_TOPIC} bytes")
    return template


Name: TypeAlias = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
DeviceName: TypeAlias = Annotated[str, AfterValidator(_device_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
MetricName: TypeAlias = Annotated[str, AfterValidator(_metric_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
TopicBase: TypeAlias = Annotated[
    str, AfterValidator(_base), WithJsonSchema({"type": "string", "pattern": BASE_PATTERN})
]
TopicTemplate: TypeAlias = Annotated[
    str, AfterValidator(_topic), WithJsonSchema({"type": "string", "pattern": r"\{device\}"})
]
