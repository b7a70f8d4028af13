"""What a new config changes while the gateway runs, and what only a restart can. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from gateway.config import Config
from gateway.config.models import Device
from gateway.config.section import Section
from gateway.config.uplinks import UplinkSection
from gateway.devices import plan as plan_of_metrics

_IN_PLACE = ("priority", "metrics", "computed")
_FOR_GOOD = ("devices",)  # of an uplink: what waits for it is counted by this


class Changes(NamedTuple):
    """What becomes of devices, or of uplinks, by name, in the order of the config."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    adjusted: tuple[str, ...] = ()  # without being closed


class Plan(NamedTuple):
    """The way from the config that runs to a new one."""

    devices: Changes = Changes()
    uplinks: Changes = Changes()
    commands: tuple[str, ...] = ()  # keys of [commands]
    restart: tuple[str, ...] = ()  # what only a restart of the service applies, as `outbox.path`
    held: tuple[str, ...] = ()  # the uplinks among that: until then they go on as they are

    def told(self) -> dict[str, Any]:
        """Return it as the answer to who has asked for it; what is empty is left out."""
        parts = {
            "devices": {kind: list(names) for kind, names in self.devices._asdict().items() if names},
            "uplinks": {kind: list(names) for kind, names in self.uplinks._asdict().items() if names},
            "commands": [f"commands.{key}" for key in self.commands],
            "restart_to_apply": list(self.restart),
        }
        return {name: part for name, part in parts.items() if part}

    def __str__(self) -> str:
        parts = [
            f"{what} {kind}: {', '.join(names)}"
            for what, changes in (("devices", self.devices), ("uplinks", self.uplinks))
            for kind, names in changes._asdict().items()
            if names
        ]
        parts += [f"changed: {', '.join(f'commands.{key}' for key in self.commands)}"] if self.commands else []
        parts += [f"restart to apply: {', '.join(self.restart)}"] if self.restart else []
        return "; ".join(parts) or "nothing differs"


def plan(old: Config, new: Config) -> Plan:
    """Return what differs between the config that runs and a new one, and how that is applied.

    A device of which only metrics or priority differ goes on without being closed, unless it is about windows. One that
    is the same is not touched.
    """
    uplinks, waiting, held = _uplinks(old, new)
    return Plan(
        _devices(_enabled(old), _enabled(new)),
        uplinks,
        tuple(_differing(old.commands, new.commands)),
        (*_fixed(old, new), *waiting),
        tuple(held),
    )


def without(plan: Plan, refused: Collection[str]) -> Plan:
    """Return the plan without these new uplinks, which need a restart after all."""
    if not refused:
        return plan
    added = tuple(name for name in plan.uplinks.added if name not in refused)
    return plan._replace(
        uplinks=plan.uplinks._replace(added=added),
        restart=(*plan.restart, *(f"uplinks.{name}" for name in refused)),
        held=(*plan.held, *refused),
    )


def applied(old: Config, new: Config, plan: Plan) -> Config:
    """Return the config that runs once this plan is applied: the new one, but for what has to wait for a restart."""
    uplinks = {name: section for name, section in new.uplinks.items() if name not in plan.held}
    uplinks |= {name: old.uplinks[name] for name in plan.held if name in old.uplinks}
    fields = set(type(new).model_fields) - {"devices", "uplinks", "commands"}
    return new.model_copy(update={"uplinks": uplinks, **{name: getattr(old, name) for name in fields}})


def _enabled(config: Config) -> dict[str, Device]:
    return {name: device for name, device in config.devices.items() if device.enabled}


def _devices(old: Mapping[str, Device], new: Mapping[str, Device]) -> Changes:
    restarted, adjusted = [], []
    for name in new:
        if name in old:
            before, after = old[name], new[name]
            if _needs_restart(before, after):
                restarted.append(name)
            elif any(getattr(before, key) != getattr(after, key) for key in _IN_PLACE):
                adjusted.append(name)
    return Changes(_only(new, old), _only(old, new), tuple(restarted), tuple(adjusted))


def _needs_restart(before: Device, after: Device) -> bool:
    # By their fields: an adapter that runs may remember more.
    if before.kind != after.kind or dict(before.adapter) != dict(after.adapter):
        return True
    spans = [plan_of_metrics(device.metrics, device.computed).spans for device in (before, after)]
    return spans[0] != spans[1]


def _uplinks(old: Config, new: Config) -> tuple[Changes, list[str], list[str]]:
    """Return what is done with uplinks, what has to wait, and of whom: one is changed as a whole or not at all."""
    durable = old.outbox.commit_interval == 0 or any(uplink.qos == 2 for uplink in old.uplinks.values())
    added, restarted, waiting, held = [], [], [], []
    for name, after in new.uplinks.items():
        before = old.uplinks.get(name)
        if before is None:
            if after.qos == 2 and not durable:  # it would need every reading on the card before it is sent
                waiting.append(f"uplinks.{name}")
                held.append(name)
            else:
                added.append(name)
        elif differing := list(_differing(before, after)):
            if _is_for_good(before, after, differing):
                waiting += [f"uplinks.{name}.{key}" for key in differing]
                held.append(name)
            else:
                restarted.append(name)
    return Changes(tuple(added), _only(old.uplinks, new.uplinks), tuple(restarted)), waiting, held


def _is_for_good(before: UplinkSection, after: UplinkSection, differing: list[str]) -> bool:
    twice = "qos" in differing and 2 in (before.qos, after.qos)
    return twice or any(key in differing for key in _FOR_GOOD)


def _fixed(old: Config, new: Config) -> Iterator[str]:
    for name in type(new).model_fields:
        if name not in ("devices", "uplinks", "commands"):
            yield from (f"{name}.{key}" for key in _differing(getattr(old, name), getattr(new, name)))


def _differing(old: Section, new: Section) -> Iterator[str]:
    return (key for key in type(new).model_fields if getattr(old, key) != getattr(new, key))


def _only(these: Mapping[str, Any], those: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in these if name not in those)
