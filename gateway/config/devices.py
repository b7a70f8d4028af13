"""The `[devices.<name>]` tables: each validated by the adapter that it names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from gateway import registry
from gateway.config.files import header
from gateway.config.models import Config, Device, DeviceKeys
from gateway.config.names import DeviceName
from gateway.config.problems import did_you_mean
from gateway.config.words import Finding, findings, without_secrets

if TYPE_CHECKING:
    from gateway.adapter import Adapter
    from gateway.config.files import Document
    from gateway.config.secret import Surroundings

_TABLES = TypeAdapter(dict[DeviceName, dict[str, Any]])
_COMMON = tuple(DeviceKeys.model_fields)


def make(tables: Any, surroundings: Surroundings) -> tuple[dict[str, Device], list[Finding]]:
    """Make the devices out of their tables, as far as they are right, and say what is not."""
    try:
        _TABLES.validate_python(tables, strict=True)
        found = []
    except ValidationError as error:
        found = findings(_below_devices(error), {"devices": tables}, Config)
    devices = {}
    if isinstance(tables, dict):
        wrong = {finding.path for finding in found}
        for name, table in tables.items():
            if isinstance(table, dict):
                device, more = _device(name, table, surroundings)
                found += more
                if device is not None and ("devices", name) not in wrong:
                    devices[name] = device
    return devices, found


def _below_devices(error: ValidationError) -> Any:
    return [{**details, "loc": ("devices", *details["loc"])} for details in error.errors(include_url=False)]


def _device(name: str, table: dict[str, Any], surroundings: Surroundings) -> tuple[Device | None, list[Finding]]:
    """Validate the keys that every device has, then the others by the adapter's own model."""
    here = ("devices", name)
    found: list[Finding] = []
    keys: DeviceKeys | None = None
    common = {key: value for key, value in table.items() if key in _COMMON}
    own = {key: value for key, value in table.items() if key not in _COMMON}
    try:
        keys = DeviceKeys.model_validate(common, strict=True, context=surroundings)
    except ValidationError as error:
        found += findings(error.errors(include_url=False), common, DeviceKeys, below=here)
    if "adapter" not in table:
        # Without the adapter nothing is known of the other keys, except that one may be meant for a common one.
        for key in own:
            if hint := did_you_mean(key, _COMMON, likeness=0.7):
                found.append(Finding((*here, key), "unknown", f'unknown key "{key}" in {header(here)}{hint}'))
    adapter, more = _adapter(common.get("adapter"), own, (*here, "adapter"), surroundings)
    found += more
    if found or keys is None or adapter is None:
        return None, found
    for metric, declared in keys.metrics.items():
        if declared.settable and not adapter.can_set(metric):
            words = f'settable: the adapter "{keys.adapter}" cannot set "{metric}" of this device'
            found.append(Finding((*here, "metrics", metric, "settable"), "value", words))
    if found:
        return None, found
    common = {key: getattr(keys, key) for key in ("enabled", "priority", "metrics", "computed")}
    return Device(name=name, kind=keys.adapter, adapter=adapter, **common), []


def _adapter(
    kind: Any, own: dict[str, Any], here: tuple[str, ...], surroundings: Surroundings
) -> tuple[Adapter | None, list[Finding]]:
    if not isinstance(kind, str):
        return None, []  # missing, or of the wrong type: said already
    try:
        cls = registry.adapter(kind)
    except registry.AdapterError as error:
        names = registry.names()
        words = str(error)
        if kind not in names:
            words += f"{did_you_mean(kind, names)} (installed: {', '.join(names) or 'none'})"
        return None, [Finding(here, "value", words)]
    try:
        # As JSON, in which a list can become a tuple and a string a path, although nothing else is converted.
        return cls.model_validate_json(json.dumps(own, default=str), strict=True, context=surroundings), []
    except ValidationError as error:
        found = findings(error.errors(include_url=False), own, cls, below=here[:-1], more_keys=_COMMON)
    except Exception as error:  # noqa: BLE001 - the boundary: a bug in an adapter's own checks is said of that adapter
        found = [Finding(here, "value", str(registry.fault(kind, "has a bug in the checks of its keys", error)))]
    return None, [finding._replace(message=without_secrets(finding.message, own)) for finding in found]


def duplicates(devices: dict[str, Device], document: Document) -> list[Finding]:
    """Find what two devices cannot share, such as a serial port, in the order in which the files say it."""
    found = []
    first: dict[tuple[str, Any], tuple[Adapter, tuple[str, ...]]] = {}
    places = [
        (document.problem(("devices", name, key), ""), key, device.adapter, ("devices", name, key))
        for name, device in devices.items()
        if device.enabled
        for key in device.adapter.exclusive
    ]
    for _, key, adapter, path in sorted(places, key=lambda place: (document.order[place[0].path], place[0])):
        value, claimed = getattr(adapter, key), adapter.claim(key)
        if claimed is None:
            continue
        before, other_path = first.setdefault((key, claimed), (adapter, path))
        if before is adapter:
            continue
        other = document.problem(other_path, "")
        shown = f'"{value}"' if isinstance(value, str) else str(value)
        whose = f"{header(other_path[:2])} already, at {other.path}:{other.line}:{other.col}"
        if key not in adapter.shared or key not in before.shared:
            found.append(Finding(path, "value", f"duplicate {key}: {shown} is the {key} of {whose}"))
        elif differ := _differences(adapter, before):
            words = f"{key}: {shown} is shared with {whose}, and both need the same {differ}"
            found.append(Finding(path, "value", words))
    return found


def _differences(adapter: Adapter, other: Adapter) -> str:
    """Return the keys in which two devices that share something have to be alike and are not."""
    keys = dict.fromkeys((*adapter.alike, *other.alike))
    return ", ".join(
        f"{key} ({_written(getattr(adapter, key, None))} here, {_written(getattr(other, key, None))} there)"
        for key in keys
        if getattr(adapter, key, None) != getattr(other, key, None)
    )


def _written(value: Any) -> str:
    return "none" if value is None else json.dumps(value, default=str)
