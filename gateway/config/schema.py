"""The JSON Schema of the config, for editors: generated from the models and from the adapters that are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from gateway import registry
from gateway.config.models import Config, DeviceKeys
from gateway.units import DURATION_PATTERN, SIZE_PATTERN, duration_text, size_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a whole config file. Raises AdapterError if one has none."""
    whole = _of(Config, "")
    definitions: Schema = whole.pop("$defs")
    for name in ("Device", "Adapter"):
        definitions.pop(name, None)
    devices = []
    for kind in registry.names():
        one, more = _device(kind)
        definitions[kind] = one
        definitions.update(more)
        devices.append({"$ref": f"#/$defs/{kind}"})
    properties = whole["properties"]
    properties["devices"]["additionalProperties"] = {"oneOf": devices}
    return {
        "$schema": DIALECT,
        "title": "sensor-gateway",
        "description": "What the gateway reads, keeps and sends, and where to.",
        **{key: value for key, value in whole.items() if key not in ("title", "description")},
        "$defs": dict(sorted(definitions.items())),
    }


def device(kind: str) -> Schema:
    """Return the schema of a device with the adapter called `kind`, with its `$defs`. Raises AdapterError."""
    one, more = _device(kind)
    return {**one, "$defs": more}


def _device(kind: str) -> tuple[Schema, Schema]:
    """Return the schema of one kind of device, and the definitions that it refers to."""
    model = registry.adapter(kind)
    try:
        own = _of(model, f"{kind}.")
    except Exception as error:
        raise registry.fault(kind, "has keys that no schema can describe", error) from error
    common = _of(DeviceKeys, "")
    definitions = {**own.pop("$defs", {}), **common["$defs"]}
    properties = {
        "adapter": {"const": kind, **{key: common["properties"]["adapter"][key] for key in ("title", "description")}},
        **{key: value for key, value in common["properties"].items() if key != "adapter"},
        **own.get("properties", {}),
    }
    one = {**own, "title": kind, "properties": properties, "required": ["adapter", *own.get("required", [])]}
    return one, definitions


def _of(model: type[BaseModel], prefix: str) -> Schema:
    """Return a model's schema as TOML is written: there is no null, and a duration is text."""
    raw = model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
    definitions = raw.pop("$defs", {})
    found = {f"{prefix}{name}": _tidy(one, definitions, prefix) for name, one in definitions.items()}
    tidy: Schema = _tidy(raw, definitions, prefix)
    return {**tidy, "$defs": found} if found else tidy


def _tidy(node: Any, definitions: Schema, prefix: str) -> Any:
    if isinstance(node, list):
        return [_tidy(part, definitions, prefix) for part in node]
    if not isinstance(node, dict):
        return node
    node = {key: _tidy(value, definitions, prefix) if key != "default" else value for key, value in node.items()}
    if "patternProperties" in node:
        # pydantic lets every other name pass.
        ((pattern, below),) = node.pop("patternProperties").items()
        node |= {"propertyNames": {"pattern": pattern}, "additionalProperties": below}
    if "anyOf" in node:
        branches = [branch for branch in node["anyOf"] if branch != {"type": "null"}]
        node = {**node, "anyOf": branches} if len(branches) > 1 else {**branches[0], **_without(node, "anyOf")}
    if node.get("pattern") in (DURATION_PATTERN, SIZE_PATTERN):
        node = {
            key: value for key, value in node.items() if key in ("type", "pattern", "title", "description", "default")
        }
    if "default" in node:
        node["default"] = written(node["default"], node, lambda ref: definitions[ref.removeprefix(f"#/$defs/{prefix}")])
        if node["default"] is None:
            del node["default"]
    return node


def _without(node: Schema, key: str) -> Schema:
    return {name: value for name, value in node.items() if name != key}


def written(value: Any, schema: Schema, definition: Callable[[str], Schema]) -> Any:
    """Return a default as one would write it in the config: a duration as "5s", a size as "1GB", no null."""
    if "$ref" in schema:
        schema = definition(schema["$ref"])
    patterns = {schema.get("pattern"), *(branch.get("pattern") for branch in schema.get("anyOf", ()))}
    if DURATION_PATTERN in patterns and isinstance(value, int | float):
        return duration_text(value)
    if SIZE_PATTERN in patterns and isinstance(value, int):
        return size_text(value)
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        below = {key: properties.get(key, others if isinstance(others, dict) else {}) for key in value}
        return {key: written(part, below[key], definition) for key, part in value.items() if part is not None}
    return value
