"""Load a config: every error of all its files at once, or the models."""

from __future__ import annotations

import copy
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gateway.config import files
from gateway.config.devices import duplicates, make
from gateway.config.models import Config, Device, OutboxSection
from gateway.config.positions import Path
from gateway.config.problems import ConfigError
from gateway.config.secret import Surroundings
from gateway.config.words import Finding, findings


def load(path: pathlib.Path, *, environ: Mapping[str, str] = os.environ) -> Config:
    """Load a config file and the `conf.d/*.toml` beside it. Raises ConfigError with everything that is wrong in them.

    Reads the files, the secrets and certificates that they name, and nothing else: no hardware and no network.
    """
    document = files.gather(path)
    surroundings = Surroundings(path.parent.absolute(), environ)
    data = {"gateway": {}, "outbox": {}, **document.data}
    devices, found = make(data.pop("devices", {}), surroundings)
    config, found_elsewhere = _validated({**data, "devices": devices}, surroundings)
    found += found_elsewhere
    problems = set(document.problems)
    for finding in [*found, *duplicates(devices, document)]:
        if not document.problems or _is_sure(finding, document.data):
            problems.add(document.problem(finding.path, finding.message, at_key=finding.at_key))
    if problems or config is None:
        last = len(document.order)
        raise ConfigError(sorted(problems, key=lambda problem: (document.order.get(problem.path, last), problem)))
    return config


def load_devices(
    path: pathlib.Path, *, only: str | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, Device]:
    """Load the devices of a config, and nothing else of it. Raises ConfigError with what is wrong in their tables.

    An uplink whose password is not here, as it is only for the service, is no reason not to look at a device. With
    `only` a mistake in the table of another device is none either; the others are there as far as they are right.
    """
    document = files.gather(path)
    devices, found = make(document.data.get("devices", {}), Surroundings(path.parent.absolute(), environ))
    found = [one for one in found if only is None or one.path[:2] in (("devices",), ("devices", only))]
    problems = {*document.problems, *(document.problem(f.path, f.message, at_key=f.at_key) for f in found)}
    if problems:
        raise ConfigError(sorted(problems))
    return devices


def load_outbox(path: pathlib.Path, *, environ: Mapping[str, str] = os.environ) -> OutboxSection:
    """Load what a config says of the outbox, and nothing else of it. Raises ConfigError with what is wrong in that."""
    document = files.gather(path)
    data = {"outbox": {}, **document.data}["outbox"]
    surroundings = Surroundings(path.parent.absolute(), environ)
    try:
        return OutboxSection.model_validate(data, context=surroundings)
    except ValidationError as error:
        found = findings(error.errors(include_url=False), data, OutboxSection, below=("outbox",))
        problems = {*document.problems, *(document.problem(f.path, f.message, at_key=f.at_key) for f in found)}
        raise ConfigError(sorted(problems)) from None


def _validated(data: dict[str, Any], surroundings: Surroundings) -> tuple[Config | None, list[Finding]]:
    """Validate all but the devices; where single keys are wrong, look again without them for what they have hidden."""
    found: list[Finding] = []
    pruned: set[Path] = set()
    unknown: set[Path] = set()  # tables in which unknown keys were taken out
    while True:
        try:
            config = Config.model_validate(data, context=surroundings)
        except ValidationError as error:
            new = findings(error.errors(include_url=False), data, Config)
        else:
            return (None if found else config), found
        # From the second look on, only what was hidden is news.
        fresh = [f for f in new if not pruned or (f.kind == "conflict" and _stands(f, data, pruned, unknown))]
        found += [f for f in fresh if f not in found]
        unknown |= {f.path[:-1] for f in new if f.kind == "unknown"}
        wrong = {f.path[:3] if f.path[0] == "uplinks" else f.path[:2] for f in new if f.kind != "missing"} - pruned
        wrong = {path for path in wrong if _is_in(data, path)}
        if not wrong:
            return None, found
        data = copy.deepcopy(data)
        for path in wrong:
            if _is_in(data, path):  # and not gone with what it was in
                _remove(data, path)
        pruned |= wrong


def _stands(conflict: Finding, data: Any, pruned: set[Path], unknown: set[Path]) -> bool:
    """Return whether a conflict is one even though keys were taken out, and defaults stand in their places."""
    if any(key in pruned for key in conflict.keys):
        return False
    misspelt = any(key[:-1] in unknown for key in conflict.keys)
    return not misspelt or all(_is_in(data, key) for key in conflict.keys)


def _is_sure(finding: Finding, data: Any) -> bool:
    """Return whether a finding holds whatever may be in the lines that could not be read."""
    if finding.kind == "conflict":
        return bool(finding.keys) and all(_is_in(data, key) for key in finding.keys)
    return finding.kind != "missing"


def _is_in(data: Any, path: Path) -> bool:
    for part in path:
        if not isinstance(data, dict) or part not in data:
            return False
        data = data[part]
    return True


def _remove(data: Any, path: Path) -> None:
    for part in path[:-1]:
        data = data[part]
    del data[path[-1]]
