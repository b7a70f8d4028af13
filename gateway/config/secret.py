"""Secrets: where a config file says they are, and how they are read without ever being shown."""

from __future__ import annotations

import grp
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import SecretStr, ValidationInfo, WithJsonSchema, WrapValidator

from gateway.config.problems import refuse

_KINDS = ("credential", "file", "env")
THREE_WAYS = '{ credential = "NAME" }, { file = "/path" } or { env = "NAME" }'
_LARGEST = 64 * 1024  # bytes; a longer one is some other file, named by mistake


class Surroundings(NamedTuple):
    """What a config refers to beside itself."""

    folder: Path  # of the config file: relative paths start here
    environ: Mapping[str, str]


def surroundings(info: ValidationInfo) -> Surroundings:
    """Return what the loader has passed to validation; without it, the working directory and the environment."""
    return info.context if isinstance(info.context, Surroundings) else Surroundings(Path(), os.environ)


def located(text: str, folder: Path) -> Path:
    """Return the path that a config in `folder` means by `text`; `~` is the user's home."""
    try:
        return folder / Path(text).expanduser()
    except RuntimeError:  # ~nobody-of-this-name: then it is a file that happens to be called so
        return folder / text


def _read(value: Any, info: ValidationInfo) -> SecretStr:
    """Read a secret from where the config says it is. No message says a word of it, nor of what stands in its place."""
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, dict):
        raise refuse("secret", f"a secret does not stand in the config itself; write {THREE_WAYS}")
    for key in value:
        if key not in _KINDS:
            raise refuse("secret", f'unknown key "{key}"; write {THREE_WAYS}')
    if len(value) != 1:
        raise refuse("secret", f"write exactly one of {THREE_WAYS}")
    ((kind, name),) = value.items()
    if not isinstance(name, str) or not name or "\0" in name:
        raise refuse("secret", f"{kind} must be a name in quotes; write {THREE_WAYS}")
    where = surroundings(info)
    if kind == "credential":
        return _from_credential(name, where.environ)
    if kind == "file":
        return _from_file(located(name, where.folder), f"file {located(name, where.folder)}")
    return _from_environment(name, where.environ)


def _from_credential(name: str, environ: Mapping[str, str]) -> SecretStr:
    if "/" in name:
        raise refuse("secret", f'credential "{name}" is a path; for one write {{ file = "{name}" }}')
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise refuse(
            "secret",
            f'credential "{name}": there is no $CREDENTIALS_DIRECTORY, so this is not running under systemd with '
            f"LoadCredential={name}:/path/to/file in the unit; outside of systemd use {{ file = }} or {{ env = }}",
        )
    missing = f"was not passed by systemd; add LoadCredential={name}:/path/to/file to the unit"
    return _from_file(Path(directory, name), f'credential "{name}"', missing)


def _from_file(path: Path, what: str, missing: str = "does not exist") -> SecretStr:
    try:
        # A pipe or a device would be read for ever, or take something away from who waits for it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise refuse("secret", f"{what} is not a regular file")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise refuse("secret", f"{what} {missing}") from None
    except PermissionError:
        raise refuse(
            "secret",
            f"{what} cannot be read: permission denied. Fix: sudo chgrp {_group()} {path} && sudo chmod 640 {path}",
        ) from None
    except OSError as error:
        raise refuse("secret", f"{what} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > _LARGEST:
        raise refuse("secret", f"{what} is larger than 64KiB, and so no secret")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise refuse("secret", f"{what} is not UTF-8 text") from None
    return _checked(text.rstrip("\r\n"), what)


def _from_environment(name: str, environ: Mapping[str, str]) -> SecretStr:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        # What does not look like a name could be the secret itself, written into the wrong place.
        raise refuse("secret", "env must be the name of an environment variable: letters, digits and underscores")
    if name not in environ:
        raise refuse("secret", f"environment variable {name} is not set")
    return _checked(environ[name], f"environment variable {name}")


def _checked(text: str, what: str) -> SecretStr:
    if not text:
        raise refuse("secret", f"{what} is empty")
    return SecretStr(text)


def _group() -> str:
    """Return the group of this process, by name where it has one."""
    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        return str(os.getegid())


def _one_of(kind: str, description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {kind: {"type": "string", "minLength": 1, "description": description}},
        "required": [kind],
        "additionalProperties": False,
    }


SecretSchema: dict[str, Any] = {
    "oneOf": [
        _one_of("credential", "Name of a systemd credential: LoadCredential=NAME:/path in the unit."),
        _one_of("file", "File that holds nothing else. A relative path starts at the config file."),
        _one_of("env", "Name of an environment variable."),
    ]
}
# Instead of pydantic's own look, which finds no text in what `_read` returns where a table is read as JSON.
Secret: TypeAlias = Annotated[
    SecretStr, WrapValidator(lambda value, _, info: _read(value, info)), WithJsonSchema(SecretSchema)
]
